//! What a real Envoy lets through, and how it refuses the rest.

use crate::support::{Connection, Stack, deny_reason, get, request, secure_tunnel, tunnel, wait_until};

const LIST: &str = "
- a.test:{port}
- .tree.test:{port}
- \"*.wild.test:{port}\"
- default.test
- nx.test
";

fn stack() -> Stack {
    Stack::start(LIST)
}

#[test]
fn plain_http_and_connect_reach_what_is_listed_and_nothing_else() {
    let stack = stack();
    for host in ["a.test", "A.TEST", "a.test.", "tree.test", "x.tree.test", "x.y.tree.test", "x.wild.test"] {
        let at = stack.at(host);
        assert_eq!(get(stack.proxy(), &format!("http://{at}/")).code, 200, "{host}");
        assert_eq!(secure_tunnel(stack.proxy(), &at).get_inside(host).code, 200, "{host}");
    }
    let before = stack.upstream.requests();
    for host in [
        "evil.test",
        "b.a.test",
        "nota.test",
        "wild.test",
        "notwild.test",
        "a.test.evil.test",
        "nottree.test",
    ] {
        let at = stack.at(host);
        for reply in [get(stack.proxy(), &format!("http://{at}/")), tunnel(stack.proxy(), &at).1] {
            assert_eq!((reply.code, deny_reason(&reply)), (403, Some("not-listed")), "{host}");
            assert_eq!(reply.json()["error"], "egress_denied");
            assert_eq!(reply.json()["host"], at.as_str());
        }
    }
    assert_eq!(stack.upstream.requests(), before);
}

#[test]
fn ports_are_part_of_the_rule() {
    let stack = stack();
    for authority in ["a.test:22", "a.test:443", "a.test", "tree.test:1", "default.test:8080"] {
        let reply = get(stack.proxy(), &format!("http://{authority}/"));
        assert_eq!((reply.code, deny_reason(&reply)), (403, Some("port-not-listed")), "{authority}");
    }
    let (_, reply) = tunnel(stack.proxy(), "a.test:22");
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("port-not-listed")));
    assert_eq!(reply.json()["rule"], "allowlist.yaml:2");
    // Nobody serves ports 80 and 443 here: passing the policy shows as a failed connection.
    for reply in [get(stack.proxy(), "http://default.test/"), get(stack.proxy(), "http://default.test:80/")] {
        assert_eq!((reply.code, deny_reason(&reply)), (503, None), "{reply:?}");
    }
    let (inside, reply) = tunnel(stack.proxy(), "default.test:443");
    assert_eq!(reply.code, 200);
    assert!(inside.tls(Some("default.test")).is_err());
    let (_, reply) = tunnel(stack.proxy(), "default.test:80");
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("method-not-allowed")));
    let reply = get(stack.proxy(), "http://default.test:443/");
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("not-tls")));
}

#[test]
fn a_denial_is_one_flagged_log_line() {
    let stack = stack();
    let authority = "evil.test:443";
    let (_, reply) = tunnel(stack.proxy(), authority);
    let line = stack.sidecar.log("the denial", |line| line["host"] == authority);
    assert_eq!(line["action"], "deny");
    assert_eq!(line["reason"], "not-listed");
    assert_eq!(line["method"], "CONNECT");
    assert_eq!(line["node"], "sidecar-1");
    assert_eq!(line["code"], 403);
    assert_eq!(line["request_id"], reply.json()["request_id"]);

    get(stack.proxy(), "http://a.test:1/secret?token=1");
    let line = stack.sidecar.log("the rule", |line| line["host"] == "a.test:1");
    assert_eq!((&line["reason"], &line["rule"]), (&"port-not-listed".into(), &"allowlist.yaml:2".into()));
    assert_eq!(line["path"], "/secret", "query strings carry secrets");

    get(stack.proxy(), &format!("http://{}/", stack.at("x.wild.test")));
    let line =
        stack.sidecar.log("the allowed request", |line| line["host"] == stack.at("x.wild.test").as_str());
    assert_eq!((&line["action"], &line["rule"]), (&"allow".into(), &"allowlist.yaml:4".into()));
    let at = stack.at("y.wild.test");
    secure_tunnel(stack.proxy(), &at).get_inside("y.wild.test");
    let line = stack.sidecar.log("the tunnel", |line| line["host"] == at.as_str());
    assert_eq!(
        (&line["action"], &line["rule"], &line["method"]),
        (&"allow".into(), &"allowlist.yaml:4".into(), &"CONNECT".into())
    );
    assert_eq!(line["upstream"], format!("{}:{}", stack.block.host(2), stack.upstream.port()));
    let all = stack.sidecar.logged();
    assert_eq!(all.iter().filter(|line| line["host"] == authority).count(), 1);
}

#[test]
fn a_denied_name_causes_no_dns_query() {
    let stack = stack();
    get(stack.proxy(), "http://secret.evil.test/");
    tunnel(stack.proxy(), "secret2.evil.test:443");
    get(stack.proxy(), "http://a.test:81/");
    // A query that does happen shows that the others would have been seen.
    get(stack.proxy(), &format!("http://{}/", stack.at("seen.wild.test")));
    wait_until("the allowed name is resolved", || stack.dns.asked().contains(&"seen.wild.test".to_owned()));
    let asked = stack.dns.asked();
    assert!(asked.iter().all(|name| name == "seen.wild.test"), "{asked:?}");
}

#[test]
fn private_addresses_are_refused_even_beside_public_ones() {
    let stack = stack();
    let private = stack.block.host(4).to_string();
    let listener = std::net::TcpListener::bind((private.as_str(), stack.upstream.port())).unwrap();
    listener.set_nonblocking(true).unwrap();
    stack.dns.set("private.wild.test", &[&private]);
    stack.dns.set("metadata.wild.test", &["169.254.169.254"]);
    // A guard that looks at one address only would now and then dial the second.
    stack.dns.set("mixed.wild.test", &[&stack.block.host(2).to_string(), &private]);
    for host in ["private.wild.test", "metadata.wild.test"] {
        let at = stack.at(host);
        for reply in [get(stack.proxy(), &format!("http://{at}/")), tunnel(stack.proxy(), &at).1] {
            assert_eq!((reply.code, deny_reason(&reply)), (403, Some("private-address")), "{host}");
            assert_eq!(reply.json()["rule"], "allowlist.yaml:4");
        }
        let line = stack.sidecar.log("the refusal", |line| line["host"] == at.as_str());
        assert_eq!((&line["action"], &line["reason"]), (&"deny".into(), &"private-address".into()));
    }
    for _ in 0..20 {
        let reply = get(stack.proxy(), &format!("http://{}/", stack.at("mixed.wild.test")));
        assert_eq!(reply.code, 200);
    }
    let nothing = listener.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(nothing, Err(std::io::ErrorKind::WouldBlock));
}

/// As above with a public address that is dead: TEST-NET-1 is lifted so that it counts as public, and leads nowhere.
#[test]
fn a_dead_public_address_does_not_open_the_private_one() {
    let stack = Stack::with(LIST, &["--allow-range", "192.0.2.0/24"], |text| text);
    let private = stack.block.host(4).to_string();
    let listener = std::net::TcpListener::bind((private.as_str(), stack.upstream.port())).unwrap();
    listener.set_nonblocking(true).unwrap();
    stack.dns.set("mixed.wild.test", &["192.0.2.1", &private]);
    let (inside, reply) = tunnel(stack.proxy(), &stack.at("mixed.wild.test"));
    assert!(reply.code != 200 || inside.tls(Some("mixed.wild.test")).is_err());
    let nothing = listener.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(nothing, Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn a_name_that_does_not_exist_is_an_error_and_no_denial() {
    let stack = stack();
    let reply = get(stack.proxy(), "http://nx.test/");
    assert_eq!((reply.code, deny_reason(&reply)), (503, None));
}

#[test]
fn tricks_with_the_authority_lead_nowhere() {
    let stack = stack();
    let (proxy, port) = (stack.proxy(), stack.upstream.port());
    let evil_at_wild = format!("GET / HTTP/1.1\r\nhost: evil@x.wild.test:{port}\r\n\r\n");
    let percent = format!("GET / HTTP/1.1\r\nhost: evil%2f.wild.test:{port}\r\n\r\n");
    let port_inside = format!("GET / HTTP/1.1\r\nhost: evil:80.wild.test:{port}\r\n\r\n");
    for (bytes, code, reason) in [
        (evil_at_wild, 403, "bad-host"),
        (percent, 403, "bad-host"),
        (port_inside, 403, "bad-host"),
        (format!("GET / HTTP/1.1\r\nhost: a.test:{port}\r\nhost: evil.test\r\n\r\n"), 403, "bad-host"),
        (format!("GET http://evil.test/ HTTP/1.1\r\nhost: a.test:{port}\r\n\r\n"), 403, "not-listed"),
        (format!("CONNECT evil.test:{port} HTTP/1.1\r\nhost: a.test:{port}\r\n\r\n"), 403, "not-listed"),
        (format!("CONNECT a.test:0{port} HTTP/1.1\r\n\r\n"), 403, "bad-host"),
        (
            "GET https://default.test/ HTTP/1.1\r\nhost: default.test\r\n\r\n".to_owned(),
            403,
            "https-needs-connect",
        ),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(), 400, "bad-request"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad-request"),
        ("CONNECT a.test HTTP/1.1\r\n\r\n".to_owned(), 400, "bad-request"),
        (format!("GET http://a.test:{port}/x%2fy HTTP/1.1\r\nhost: a.test:{port}\r\n\r\n"), 400, "bad-path"),
        (
            format!(
                "GET http://a.test:{port}/ HTTP/1.1\r\nhost: a.test:{port}\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n"
            ),
            403,
            "upgrade-not-allowed",
        ),
    ] {
        let reply = request(proxy, &bytes);
        assert_eq!((reply.code, deny_reason(&reply)), (code, Some(reason)), "{bytes:?}: {reply:?}");
    }
    assert_eq!(stack.upstream.requests(), 0);
    let line = stack.sidecar.log("the https url", |line| line["reason"] == "https-needs-connect");
    assert_eq!(line["action"], "deny");
    // The URL decides, and the Host header follows it.
    let reply = request(proxy, format!("GET http://a.test:{port}/ HTTP/1.1\r\nhost: evil.test\r\n\r\n"));
    assert_eq!(reply.code, 200);
    assert!(reply.body.contains(&format!("host: a.test:{port}")), "{}", reply.body);
}

#[test]
fn http_1_0_clients_work() {
    let stack = stack();
    let at = stack.at("a.test");
    let mut inside = Connection::open(stack.proxy());
    inside.send(format!("CONNECT {at} HTTP/1.0\r\n\r\n"));
    assert_eq!(inside.reply().code, 200);
    assert_eq!(inside.tls(Some("a.test")).unwrap().get_inside("a.test").code, 200);
    let reply = request(stack.proxy(), "CONNECT evil.test:443 HTTP/1.0\r\n\r\n");
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("not-listed")));
    let reply = request(stack.proxy(), format!("GET http://{at}/ HTTP/1.0\r\nhost: {at}\r\n\r\n"));
    assert_eq!(reply.code, 200);
}

#[test]
fn websockets_pass_to_listed_hosts_only() {
    let stack = stack();
    let at = stack.at("a.test");
    let upgrade = |authority: &str| {
        format!(
            "GET http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        )
    };
    let mut connection = Connection::open(stack.proxy());
    connection.send(upgrade(&at));
    let head = connection.read("HTTP/1.1 101".len());
    assert_eq!(head, "HTTP/1.1 101");
    let reply = request(stack.proxy(), upgrade("evil.test"));
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("not-listed")));
}

#[test]
fn nothing_about_the_agent_reaches_the_upstream() {
    let stack = stack();
    let at = stack.at("a.test");
    let reply = request(
        stack.proxy(),
        format!(
            "GET http://{at}/ HTTP/1.1\r\nhost: {at}\r\nproxy-authorization: Basic eDp5\r\nproxy-connection: keep-alive\r\n\
             x-forwarded-for: 10.1.1.1\r\nx-forwarded-host: evil.test\r\nx-envoy-original-dst-host: 10.0.0.1:1\r\n\
             x-envoy-upstream-rq-timeout-ms: 1\r\nforwarded: for=10.1.1.1\r\nx-kept: yes\r\n\r\n"
        ),
    );
    assert_eq!(reply.code, 200);
    let seen: Vec<_> = reply.body.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    assert_eq!(
        seen.iter().filter(|name| !name.trim().is_empty()).copied().collect::<Vec<_>>(),
        ["host", "x-kept"]
    );
    assert_eq!(reply.header("alt-svc"), None, "clients must not be lured to HTTP/3");
}

#[test]
fn streams_outlive_the_usual_fifteen_seconds() {
    let stack = stack();
    assert_eq!(get(stack.proxy(), &format!("http://{}/slow", stack.at("a.test"))).code, 200);
}

#[test]
fn an_empty_list_denies_everything() {
    let stack = Stack::start("allow: []\n");
    for authority in ["a.test", "default.test", "127.0.0.1"] {
        let reply = get(stack.proxy(), &format!("http://{authority}/"));
        assert_eq!((reply.code, deny_reason(&reply)), (403, Some("not-listed")), "{authority}");
    }
}

#[test]
fn a_state_of_the_world_sidecar_enforces_the_same() {
    let stack = Stack::with(LIST, &[], |text| text.replace("DELTA_GRPC", "GRPC"));
    assert_eq!(stack.control_plane.status()["sidecars"][0]["protocol"], "sotw");
    assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at("a.test"))).code, 200);
    stack.edit("- b.test:{port}\n");
    assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at("a.test"))).code, 403);
    assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at("b.test"))).code, 200);
}
