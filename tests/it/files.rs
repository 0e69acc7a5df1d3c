//! Files that belong together: includes, self-tests, and what a restart remembers.

use crate::support::{Block, ControlPlane, wait_until};
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn included_files_are_followed() {
    let mut server = ControlPlane::prepared(&Block::claim(), &[]);
    let directory = server.directory().to_owned();
    fs::create_dir_all(directory.join("teams/more")).unwrap();
    fs::write(directory.join("teams/a.yaml"), "groups: {g: [a.test]}\n").unwrap();
    fs::write(server.allowlist(), "include: [teams/*.yaml]\nallow: [\"@g\"]\n").unwrap();
    server.launch();
    server.wait_for_entries(1);
    fs::write(directory.join("teams/b.yaml"), "- b.test\n- c.test\n").unwrap();
    server.wait_for_entries(3);
    fs::write(directory.join("teams/b.yaml"), "include: [more/x.yaml]\nallow: [b.test]\n").unwrap();
    wait_until("a missing include is an error", || server.status().to_string().contains("more/x.yaml"));
    fs::write(directory.join("teams/more/x.yaml"), "- x.test\n- y.test\n").unwrap();
    server.wait_for_entries(4);
    fs::write(directory.join("teams/more/x.yaml"), "include: [x.yaml]\nallow: [z.test]\n").unwrap();
    wait_until("a circle is an error", || server.status().to_string().contains("leads back to this file"));
    assert_eq!(server.status()["entries"], 4, "and what it held stays in force");
    fs::remove_file(directory.join("teams/b.yaml")).unwrap();
    server.wait_for_entries(1);
}

#[test]
fn a_failing_test_keeps_the_whole_edit_out() {
    let server = ControlPlane::start(
        &Block::claim(),
        "allow: [.a.test]\ndeny: [secret.a.test]\ntests: {deny: [\"https://secret.a.test\"]}\n",
        &[],
    );
    let version = server.version();
    server.write_by_rename("allow: [.a.test, b.test]\ntests: {deny: [\"https://secret.a.test\"]}\n");
    wait_until("the edit is rejected", || server.status()["files"][0]["in_force"] == false);
    let status = server.status();
    let words = status["files"][0]["diagnostics"].to_string();
    assert!(words.contains("it passes by allowlist.yaml:1 (.a.test)"), "{words}");
    assert_eq!((server.version(), &status["entries"]), (version, &2.into()));
    server.write_by_rename("allow: [.a.test, b.test]\ndeny: [secret.a.test]\n");
    server.wait_for_entries(3);
}

#[test]
fn a_restart_with_a_broken_file_serves_what_was_enforced_before() {
    let mut server = ControlPlane::prepared(&Block::claim(), &["--state-dir", "state"]);
    fs::write(server.allowlist(), "- a.test\n- b.test\n").unwrap();
    server.launch();
    let version = server.version();
    server.stop();
    fs::write(server.allowlist(), "- a.test\n- *.test\n").unwrap();
    server.launch();
    let status = server.status();
    assert_eq!((status["version"].as_str(), &status["entries"]), (Some(version.as_str()), &2.into()));
    assert_eq!(
        (&status["files"][0]["in_force"], &status["files"][0]["restored"]),
        (&false.into(), &true.into())
    );
    assert!(status["files"][0]["diagnostics"][0].as_str().unwrap().contains("quotes"));
    assert_eq!(server.ask("/readyz").0, 200);
    fs::write(server.allowlist(), "- c.test\n").unwrap();
    server.wait_for_entries(1);
    assert_eq!(server.status()["files"][0]["restored"], false);
    server.stop();
    // A file that is gone is not brought back.
    fs::remove_file(server.allowlist()).unwrap();
    server.launch();
    assert_eq!(server.ask("/readyz").0, 503);
}

#[test]
fn a_file_that_everybody_may_write_is_pointed_out() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let mode = |mode| fs::set_permissions(server.allowlist(), fs::Permissions::from_mode(mode)).unwrap();
    let says = || server.status()["files"][0]["diagnostics"].to_string().contains("everybody on the machine");
    assert!(!says());
    mode(0o666);
    wait_until("the file is pointed out", says);
    assert_eq!(server.status()["files"][0]["in_force"], true);
    mode(0o644);
    wait_until("the file is no longer pointed out", || !says());
}
