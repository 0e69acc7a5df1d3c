//! What the language says, on a real Envoy: agents, deny, report mode, time, private targets, methods and paths.

use crate::support::{Stack, Upstream, deny_reason, get, request, secure_tunnel, tunnel, wait_until};
use std::time::{Duration, SystemTime};

fn code(stack: &Stack, host: &str) -> u16 {
    get(stack.proxy(), &format!("http://{}/", stack.at(host))).code
}

fn group(stack: &Stack) -> String {
    let status = stack.control_plane.status();
    status["sidecars"][0]["group"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_sidecar_becomes_an_agent_and_stops_being_one() {
    let stack = Stack::start("allow: [\"a.test:{port}\"]\ndeny: [never.test]\n");
    assert_eq!(
        (code(&stack, "a.test"), code(&stack, "b.test"), group(&stack).as_str()),
        (200, 403, "common")
    );
    let with_agent = |allow: &str| {
        format!(
            "allow: [\"a.test:{{port}}\"]\ndeny: [never.test]\nagents:\n  one:\n    match: {{node_id: \"sidecar-*\"}}\n    \
             inherit: false\n    allow: [{allow}, \"never.test:{{port}}\"]\n"
        )
    };
    stack.edit(&with_agent("\"b.test:{port}\""));
    wait_until("the sidecar is the agent", || group(&stack) == "one");
    stack.control_plane.wait_in_sync(1);
    assert_eq!((code(&stack, "a.test"), code(&stack, "b.test")), (403, 200));
    let denied = get(stack.proxy(), &format!("http://{}/", stack.at("never.test")));
    assert_eq!((denied.code, deny_reason(&denied)), (403, Some("denied-by-rule")), "deny wins over agents");
    assert_eq!(denied.json()["rule"], "allowlist.yaml:2");
    stack.edit(&with_agent("\"c.test:{port}\""));
    assert_eq!((code(&stack, "b.test"), code(&stack, "c.test"), group(&stack).as_str()), (403, 200, "one"));
    stack.edit("allow: [\"a.test:{port}\"]\n");
    wait_until("the sidecar is no agent", || group(&stack) == "common");
    stack.control_plane.wait_in_sync(1);
    assert_eq!((code(&stack, "a.test"), code(&stack, "c.test")), (200, 403));
}

#[test]
fn deny_wins_over_every_entry_and_on_every_port() {
    let stack = Stack::start("allow: [\".a.test:{port}\"]\ndeny: [\".bad.a.test\"]\n");
    assert_eq!(code(&stack, "x.a.test"), 200);
    for authority in [stack.at("bad.a.test"), stack.at("x.BAD.a.test"), "x.bad.a.test:5".to_owned()] {
        for reply in
            [get(stack.proxy(), &format!("http://{authority}/")), tunnel(stack.proxy(), &authority).1]
        {
            assert_eq!((reply.code, deny_reason(&reply)), (403, Some("denied-by-rule")), "{authority}");
            assert_eq!(reply.json()["rule"], "allowlist.yaml:2", "{authority}");
        }
    }
    let asked = stack.dns.asked();
    assert!(!asked.iter().any(|name| name.contains("bad")), "nothing was resolved: {asked:?}");
}

#[test]
fn report_mode_passes_and_flags() {
    let stack = Stack::start(
        "allow: [{host: entry.test, ports: [{port}], mode: report}]\nagents:\n  trial:\n    match: {node_cluster: agents}\n    \
         mode: report\n    deny: [soft.test]\n    allow: [\"good.test:{port}\", \"soft.test:{port}\"]\ndeny: [hard.test, {host: odd.test, ports: [{port}]}, 10.9.8.7]\n",
    );
    for (host, action, reason) in [
        ("good.test", "allow", None),
        ("entry.test", "would-deny", Some("not-listed")),
        ("other.test", "would-deny", Some("not-listed")),
        ("soft.test", "would-deny", Some("denied-by-rule")),
    ] {
        assert_eq!(code(&stack, host), 200, "{host}");
        let at = stack.at(host);
        let line = stack.sidecar.log(host, |line| line["host"] == at.as_str());
        assert_eq!((line["action"].as_str(), line["reason"].as_str()), (Some(action), reason), "{line}");
    }
    let (mut inside, reply) = tunnel(stack.proxy(), &stack.at("tunnel.test"));
    assert_eq!((reply.code, inside.get_inside("tunnel.test").code), (200, 200));
    drop(inside);
    let line = stack.sidecar.log("the tunnel", |line| line["host"] == stack.at("tunnel.test").as_str());
    assert_eq!(line["action"], "would-deny");
    // What stays enforced.
    let hard = get(stack.proxy(), &format!("http://{}/", stack.at("hard.test")));
    assert_eq!((hard.code, deny_reason(&hard)), (403, Some("denied-by-rule")));
    for authority in ["127.0.0.1:1", "169.254.169.254", "10.0.0.1:80"] {
        let guarded = get(stack.proxy(), &format!("http://{authority}/"));
        assert_eq!((guarded.code, deny_reason(&guarded)), (403, Some("private-address")), "{authority}");
    }
    for authority in [
        format!("odd.test:0{}", stack.upstream.port()),
        "10.9.8.07:80".into(),
        "010.9.8.7".into(),
        "hard.test:x".into(),
    ] {
        let (_, connect) = tunnel(stack.proxy(), &authority);
        let plain = request(stack.proxy(), format!("GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n"));
        assert!(
            [400, 403].contains(&connect.code) && [400, 403].contains(&plain.code),
            "{authority}: {plain:?}"
        );
    }
    let brackets = get(stack.proxy(), "http://[::1]:80/");
    assert_eq!((brackets.code, deny_reason(&brackets)), (403, Some("not-listed")));
    // From report to earnest.
    stack.edit("allow: [\"good.test:{port}\"]\n");
    wait_until("the agent is gone", || group(&stack) == "common");
    stack.control_plane.wait_in_sync(1);
    assert_eq!((code(&stack, "good.test"), code(&stack, "other.test")), (200, 403));
}

#[test]
fn an_entry_goes_when_its_time_is_over() {
    let stack = Stack::start("allow: [\"a.test:{port}\"]\n");
    let end = prost_types::Timestamp::from(SystemTime::now() + Duration::from_secs(10));
    let end = prost_types::Timestamp { nanos: 0, ..end };
    stack.edit(&format!(
        "allow: [\"a.test:{{port}}\", {{host: b.test, ports: [{{port}}], until: \"{end}\"}}]\ndeny: [{{host: a.test, ports: [1]}}]\n"
    ));
    assert_eq!(code(&stack, "b.test"), 200);
    let seen = stack.control_plane.status();
    assert_eq!(seen["entries"], 3);
    wait_until("the entry is gone", || code(&stack, "b.test") == 403);
    let reply = get(stack.proxy(), &format!("http://{}/", stack.at("b.test")));
    assert_eq!((deny_reason(&reply), &reply.json()["rule"]), (Some("expired"), &"allowlist.yaml:1".into()));
    let (_, reply) = tunnel(stack.proxy(), &stack.at("b.test"));
    assert_eq!(deny_reason(&reply), Some("expired"));
    let (_, reply) = tunnel(stack.proxy(), "b.test:1");
    assert_eq!(deny_reason(&reply), Some("not-listed"), "it was never about this port");
    assert!(SystemTime::now() >= SystemTime::try_from(end).unwrap(), "not before its time");
    assert_eq!(code(&stack, "a.test"), 200);
    wait_until("the status says so", || {
        let file = &stack.control_plane.status()["files"][0];
        file["diagnostics"].to_string().contains("expired at")
    });
    assert_eq!(stack.control_plane.status()["entries"], 2);
}

#[test]
fn a_private_target_lifts_the_guard_for_itself_alone() {
    let stack = Stack::start("allow: [\"a.test:{port}\"]\n");
    let inner = Upstream::start(stack.block.host(4));
    let address = stack.block.host(4).to_string();
    for name in ["db.test", "db.in.test", "other.test", "limited.test"] {
        stack.dns.set(name, &[&address]);
    }
    let port = inner.port();
    let ask = |host: &str| get(stack.proxy(), &format!("http://{host}:{port}/"));
    let private = |reply: &crate::support::Reply| (reply.code, deny_reason(reply).map(str::to_owned));
    stack.edit(&format!("allow: [\"db.test:{port}\", \"other.test:{port}\"]\n"));
    assert_eq!(private(&ask("db.test")), (403, Some("private-address".into())), "guarded without the key");
    stack.edit(&format!(
        "allow:\n  - {{host: db.test, ports: [{port}], private: true}}\n  - other.test:{port}\n  - {{host: limited.test, ports: \
         [{port}], private: true, addresses: [10.0.0.0/8]}}\n  - {{host: {address}, ports: [{port}], private: true}}\n"
    ));
    wait_until("the private cluster has resolved", || ask("db.test").code == 200);
    assert_eq!(secure_tunnel(stack.proxy(), &format!("db.test:{port}")).get_inside("db.test").code, 200);
    assert_eq!(ask(&address).code, 200, "a literal");
    assert_eq!(private(&ask("other.test")), (403, Some("private-address".into())), "guarded as before");
    wait_until("the limited cluster has resolved", || ask("limited.test").code != 503);
    assert_eq!(
        private(&ask("limited.test")),
        (403, Some("private-address".into())),
        "not one of its addresses"
    );
    let (_, reply) = tunnel(stack.proxy(), &format!("limited.test:{port}"));
    assert_eq!(private(&reply), (403, Some("private-address".into())));
    let (_, reply) = tunnel(stack.proxy(), &format!("db.test:{}", port.wrapping_sub(1)));
    assert_eq!(private(&reply), (403, Some("port-not-listed".into())));
    // What only a wildcard allows is guarded, whatever a private entry says of the same host.
    stack.edit(&format!(
        "allow:\n  - .in.test:{port}\n  - {{host: db.in.test, ports: [{port}], protocol: http, methods: [GET], private: true}}\n"
    ));
    wait_until("the cluster has resolved", || ask("db.in.test").code == 200);
    let post = format!(
        "POST http://db.in.test:{port}/ HTTP/1.1\r\nhost: db.in.test:{port}\r\ncontent-length: 0\r\n\r\n"
    );
    assert_eq!(private(&request(stack.proxy(), post)), (403, Some("private-address".into())));
    let (_, reply) = tunnel(stack.proxy(), &format!("db.in.test:{port}"));
    assert_eq!(private(&reply), (403, Some("private-address".into())));
    // One goes and another comes in the same edit: what goes does not wait.
    stack.edit(&format!(
        "allow:\n  - {{host: other.test, ports: [{port}], private: true}}\n  - \"a.test:{{port}}\"\n"
    ));
    assert_eq!(private(&ask("db.test")), (403, Some("not-listed".into())));
    wait_until("the new one has resolved", || ask("other.test").code == 200);
    assert_eq!(code(&stack, "a.test"), 200);
}

/// What a private name leads to is the target, and never a way to cloud metadata.
#[test]
fn a_private_name_does_not_lead_to_metadata() {
    let stack = Stack::start("allow: [a.test]\n");
    stack.dns.set("meta.test", &["169.254.169.254"]);
    stack.edit("allow: [{host: meta.test, ports: [80], private: true}]\n");
    wait_until("the cluster has resolved", || get(stack.proxy(), "http://meta.test/").code != 503);
    let reply = get(stack.proxy(), "http://meta.test/");
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("private-address")));
}

#[test]
fn methods_and_paths_count_where_they_can_be_seen() {
    let stack = Stack::start(
        "allow:\n  - {host: b.test, ports: [{port}], protocol: http, methods: [GET, HEAD], paths: [/v1/*, /health]}\n",
    );
    let at = stack.at("b.test");
    let ask = |method: &str, path: &str| {
        let bytes = format!("{method} http://{at}{path} HTTP/1.1\r\nhost: {at}\r\ncontent-length: 0\r\n\r\n");
        let reply = request(stack.proxy(), bytes);
        (reply.code, deny_reason(&reply).map(str::to_owned))
    };
    let denied = |reason: &str| (403, Some(reason.to_owned()));
    for path in ["/v1/x", "/v1/x?y=/v2", "/health", "/v2/../v1/x"] {
        assert_eq!(ask("GET", path), (200, None), "{path}");
    }
    for path in ["/", "/v1", "/v2", "/v1/../v2", "/V1/x", "/healthy", "/v1/%2e%2e/v2", "//v1/../v2"] {
        assert_eq!(ask("GET", path), denied("path-not-allowed"), "{path}");
    }
    assert_eq!(ask("POST", "/v1/x"), denied("method-not-allowed"));
    assert_eq!(ask("POST", "/v2"), denied("path-not-allowed"));
    assert_eq!(ask("GET", "/v1/..%2fv2"), (400, Some("bad-path".to_owned())));
    for path in
        ["/v1/%252e", "/v1/%c0%ae", "/v1/%e0%80%ae", "/v1/%f0%80%80%ae", "/v1/..%3b/x", "/v1/%0a", "/v1/%zz"]
    {
        assert_ne!(ask("GET", path).0, 200, "{path}");
    }
    for path in ["/v1/a%20b", "/v1/%C3%A9", "/v1/%E2%82%AC", "/v1/%f0%9f%98%80", "/v1/a;b", "/v1/x?y=%25"] {
        assert_eq!(ask("GET", path), (200, None), "{path}");
    }
    let other = format!(
        "GET /v1/x HTTP/1.1\r\nhost: {at}\r\nx-original-url: /v2\r\nx_http_method_override: PUT\r\nx-kept: 1\r\n\r\n"
    );
    let reply = request(stack.proxy(), other);
    let head = &reply.body;
    assert!(reply.code == 200 && head.contains("x-kept"), "{reply:?}");
    assert!(!head.contains("original") && !head.contains("override"), "{head}");
    let (_, reply) = tunnel(stack.proxy(), &at);
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("method-not-allowed")));
}

#[test]
fn tunnels_only_and_tunnels_for_a_while() {
    let stack = Stack::start(
        "allow:\n  - {host: t.test, ports: [{port}], protocol: tls}\n  - {host: short.test, ports: [{port}], protocol: tcp, \
         max_tunnel: 3s}\n",
    );
    let reply = get(stack.proxy(), &format!("http://{}/", stack.at("t.test")));
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("not-tls")));
    let mut stays = secure_tunnel(stack.proxy(), &stack.at("t.test"));
    let (mut short, reply) = tunnel(stack.proxy(), &stack.at("short.test"));
    assert_eq!((reply.code, short.get_inside("short.test").code), (200, 200));
    stack.sidecar.log("the end of the short one", |line| {
        line["host"] == stack.at("short.test").as_str() && line["details"] == "max_duration_timeout"
    });
    assert_eq!(stays.get_inside("t.test").code, 200);
}
