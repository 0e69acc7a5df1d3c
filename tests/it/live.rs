//! Edits while connections are open.

use crate::support::{Connection, Stack, get, secure_tunnel};
use std::fs;

#[test]
fn edits_touch_only_what_they_name() {
    let stack = Stack::start("- keep.test:{port}\n");
    let kept = stack.at("keep.test");
    let mut inside = secure_tunnel(stack.proxy(), &kept);
    let mut alive = Connection::open(stack.proxy());
    let mut changing = Connection::open(stack.proxy());
    assert_eq!(inside.get_inside("keep.test").code, 200);
    assert_eq!(alive.get(&kept, "/").code, 200);
    assert_eq!(changing.get(&stack.at("new.test"), "/").code, 403);

    stack.edit("- keep.test:{port}\n- new.test:{port}\n");
    assert_eq!(changing.get(&stack.at("new.test"), "/").code, 200, "on the same connection");
    assert_eq!(inside.get_inside("keep.test").code, 200);
    assert_eq!(alive.get(&kept, "/").code, 200);

    stack.edit("- keep.test:{port}\n");
    assert_eq!(changing.get(&stack.at("new.test"), "/").code, 403, "on the same connection");
    assert_eq!(inside.get_inside("keep.test").code, 200);
    assert_eq!(alive.get(&kept, "/").code, 200);

    // The clusters were written once.
    assert_eq!(stack.control_plane.metric("exeat_xds_responses_total{type=\"cds\"}"), 1.0);
}

#[test]
fn an_edit_is_one_log_line() {
    let stack = Stack::start("- old.test\n- kept.test\n");
    stack.edit("- kept.test\n- .new.test:8443\n");
    let line = stack.control_plane.process().wait_for("the edit", |line| line.contains("allowlist edit"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let text = line["message"].as_str().unwrap();
    assert!(
        text.starts_with("allowlist edit: +.new.test:8443 -old.test; live on 1 of 1 sidecars after "),
        "{text}"
    );
    assert_eq!((&line["added"], &line["removed"], &line["entries"]), (&1.into(), &1.into(), &2.into()));
    let lines = stack.control_plane.process().lines();
    let widening =
        |line: &&String| line.contains("look twice at what the edit opens: .new.test:8443 (a wildcard)");
    assert_eq!(lines.iter().filter(widening).count(), 1);
    assert_eq!(lines.iter().filter(|line| line.contains("allowlist edit")).count(), 1);
    assert_eq!(stack.control_plane.metric("exeat_allowlist_edits_total{outcome=\"applied\"}"), 2.0);
    assert_eq!(stack.control_plane.metric("exeat_edit_live_seconds_count"), 1.0);
}

#[test]
fn a_broken_edit_changes_nothing_and_says_where() {
    let stack = Stack::start("- a.test:{port}\n- b.test:{port}\n");
    let version = stack.control_plane.version();
    let broken = format!("- a.test:{}\n- *.b.test\n", stack.upstream.port());
    fs::write(stack.allowlist(), broken).unwrap();
    let line =
        stack.control_plane.process().wait_for("the error", |line| line.contains("yaml-unquoted-star"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["line"], &line["column"]), (&2.into(), &3.into()));
    assert!(line["help"].as_str().unwrap().contains("\"*.b.test\""), "{line}");
    let status = stack.control_plane.status();
    assert_eq!(status["version"], version.as_str());
    assert_eq!(status["files"][0]["in_force"], false);
    let place = status["files"][0]["diagnostics"][0].as_str().unwrap().to_owned();
    assert!(place.starts_with("allowlist.yaml:2:3: "), "{place}");
    assert_eq!(stack.control_plane.ask("/readyz").0, 200);
    assert_eq!(stack.control_plane.metric("exeat_allowlist_files_rejected"), 1.0);
    for host in ["a.test", "b.test"] {
        assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at(host))).code, 200);
    }
    stack.edit("- a.test:{port}\n");
    assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at("b.test"))).code, 403);
    assert_eq!(stack.control_plane.status()["files"][0]["in_force"], true);
}

/// Beyond the number of rules that have a virtual host of their own, the meaning stays and the line is left out.
#[test]
fn long_lists_are_enforced_too() {
    let many: String =
        (0..=exeat::envoy::RULES_WITH_LINE).map(|n| format!("- h{n}.test:{{port}}\n")).collect();
    let stack = Stack::start(&format!("{many}- \"*.wild.test:{{port}}\"\n"));
    for host in ["h0.test", "h200.test", "x.wild.test"] {
        assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at(host))).code, 200, "{host}");
    }
    assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at("h999.test"))).code, 403);
    let reply = get(stack.proxy(), "http://h7.test:1/");
    assert_eq!(reply.json()["reason"], "port-not-listed");
    assert_eq!(reply.json()["rule"], "allowlist.yaml");
}
