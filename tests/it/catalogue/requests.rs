//! Shapes of requests: schemes, versions, headers, framing, paths.

use super::{LIST, Lab};
use crate::support::{
    Connection, allowlists::policy, command, deny_reason, frames, get, request, request_by_http2, tunnel,
    wait_until,
};
use exeat::policy::Question;
use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

/// B-16: a `https://` URL is not sent on in clear.
#[test]
fn b16_https_is_never_spoken_in_clear() {
    let lab = Lab::start();
    lab.refused(
        "GET https://allowed.test:{port}/ HTTP/1.1\r\nhost: allowed.test\r\n\r\n",
        403,
        "https-needs-connect",
    );
    lab.refused(
        "GET https://allowed.test/ HTTP/1.1\r\nhost: allowed.test\r\n\r\n",
        403,
        "https-needs-connect",
    );
    lab.refused("GET http://allowed.test:443/ HTTP/1.1\r\nhost: x\r\n\r\n", 403, "not-tls");
    // No header says what the scheme is.
    lab.refused(
        "GET https://allowed.test/ HTTP/1.1\r\nhost: allowed.test\r\nx-forwarded-proto: http\r\n\r\n",
        403,
        "https-needs-connect",
    );
    let at = lab.stack.at("allowed.test");
    let reply = request(
        lab.stack.proxy(),
        format!("GET http://{at}/ HTTP/1.1\r\nhost: {at}\r\nx-forwarded-proto: https\r\n\r\n"),
    );
    assert!(reply.code == 200 && !reply.body.contains("x-forwarded-proto"), "{reply:?}");
}

/// B-19, B-36, B-38: no header leads elsewhere, hides the method, or reaches the origin that is for the proxy.
#[test]
fn b19_b36_b38_headers_change_nothing_and_tell_nothing() {
    let lab = Lab::start();
    let at = lab.stack.at("paths.test");
    let headers = [
        "x-forwarded-host: evil.test",
        "x-host: evil.test",
        "forwarded: host=evil.test",
        "x-original-url: /v2",
        "x-rewrite-url: /v2",
        "x-http-method-override: DELETE",
        "x-method-override: DELETE",
        "x-http-method: DELETE",
        "x_http_method_override: DELETE",
        "x-envoy-original-path: /v2",
        "x-envoy-original-dst-host: 10.0.0.5:80",
        "x-envoy-upstream-alt-stat-name: x",
        "x-envoy-max-retries: 9",
        "x-envoy-decorator-operation: x",
        "proxy-authorization: Basic eDp5",
        "proxy-connection: keep-alive",
        "x-forwarded-for: 10.1.1.1",
        "x-request-id: 1",
        "x-exeat-resolved: yes",
        "exeat.resolved: yes",
        "exeat.chain: evil.test",
    ];
    let reply = request(
        lab.stack.proxy(),
        format!("GET http://{at}/v1/x HTTP/1.1\r\nhost: {at}\r\n{}\r\n\r\n", headers.join("\r\n")),
    );
    assert_eq!(reply.code, 200, "{reply:?}");
    let seen = reply.body.to_ascii_lowercase();
    for gone in
        ["original", "override", "x-http-method", "forwarded", "proxy-", "x-envoy", "x-request-id", "rewrite"]
    {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    for header in headers {
        lab.refused(
            &format!("GET http://evil.test:{{port}}/ HTTP/1.1\r\nhost: evil.test\r\n{header}\r\n\r\n"),
            403,
            "not-listed",
        );
    }
    lab.stopped(":authority: evil.test\r\nGET / HTTP/1.1\r\n\r\n");
    lab.stopped("GET http://allowed.test:{port}/ HTTP/1.1\r\nhost: x\r\n:authority: evil.test\r\n\r\n");
}

/// CVE-2025-62168 of Squid: what a client shows to prove who it is does not come back in what the proxy says.
#[test]
fn secrets_of_requests_are_in_no_answer_and_no_line() {
    let lab = Lab::start();
    let secrets = "proxy-authorization: Basic c2VjcmV0\r\nauthorization: Bearer s3cret\r\ncookie: s3cret";
    for target in ["http://evil.test:{port}/?s3cret", "http://paths.test:{port}/v2?s3cret", "/s3cret s3cret"]
    {
        let bytes = format!("GET {target} HTTP/1.1\r\nhost: evil.test\r\n{secrets}\r\n\r\n");
        lab.stopped(&bytes);
        let mut connection = Connection::open(lab.stack.proxy());
        connection.send(bytes.replace("{port}", &lab.port().to_string()));
        if let Some(reply) = connection.try_reply() {
            let all = format!("{}{}", reply.head, reply.body);
            assert!(!all.contains("s3cret") && !all.contains("c2VjcmV0"), "{all}");
        }
    }
    for line in lab.stack.sidecar.logged() {
        let line = line.to_string();
        assert!(!line.contains("s3cret") && !line.contains("c2VjcmV0"), "{line}");
    }
}

/// B-32: framing that two parsers may read differently. (CVE-2023-46846 of Squid.)
#[test]
fn b32_ambiguous_framing_is_refused() {
    let lab = Lab::start();
    let hidden = "GET http://evil.test:{port}/ HTTP/1.1\r\nhost: evil.test\r\n\r\n";
    for head in [
        "POST http://allowed.test:{port}/ HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST http://allowed.test:{port}/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n",
        "POST http://allowed.test:{port}/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n",
        "POST http://allowed.test:{port}/ HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST http://allowed.test:{port}/ HTTP/1.1\r\nhost : x\r\n\r\n",
        "CONNECT allowed.test:{port} HTTP/1.1\r\ncontent-length: 4\r\n\r\n",
        "CONNECT allowed.test:{port} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "CONNECT http://allowed.test:{port}/ HTTP/1.1\r\n\r\n",
        "CONNECT allowed.test:{port}/x HTTP/1.1\r\n\r\n",
    ] {
        let (before, logged) = (lab.stack.upstream.requests(), lab.stack.sidecar.logged().len());
        let answered = lab.send(&format!("{head}0\r\n\r\n{hidden}"));
        assert!(answered.as_ref().is_none_or(|(code, _)| *code >= 400), "{head:?}: {answered:?}");
        assert_eq!(lab.stack.upstream.requests(), before, "{head:?}");
        wait_until(&format!("the log flags {head:?}"), || {
            let lines = lab.stack.sidecar.logged();
            lines.iter().skip(logged).any(|line| line["action"] == "deny" && line["reason"] == "bad-request")
        });
    }
    // A folded header is one header (RFC 9112 §5.2).
    let at = lab.stack.at("allowed.test");
    let folded =
        format!("GET http://{at}/ HTTP/1.1\r\nhost: {at}\r\nx-a: b\r\n transfer-encoding: chunked\r\n\r\n");
    let reply = request(lab.stack.proxy(), folded);
    assert!(reply.code == 200 && !reply.body.contains("\ntransfer-encoding"), "{reply:?}");
    // Lines that end without CR.
    lab.stopped("GET http://evil.test:{port}/ HTTP/1.1\nhost: evil.test\n\n");
    let length = hidden.replace("{port}", &lab.port().to_string()).len();
    let before = lab.stack.upstream.requests();
    let inside =
        format!("POST http://allowed.test:{{port}}/ HTTP/1.1\nhost: x\ncontent-length: {length}\n\n{hidden}");
    let answered = lab.send(&inside);
    let let_through = u64::from(answered.is_some_and(|(code, _)| code == 200));
    assert!(
        lab.stack.upstream.requests() - before <= let_through.try_into().unwrap(),
        "the body is no request"
    );
    let before = lab.stack.upstream.requests();
    // What is pipelined behind a refused CONNECT is not looked at.
    let mut connection = Connection::open(lab.stack.proxy());
    connection.send(
        format!("CONNECT evil.test:443 HTTP/1.1\r\n\r\n{}", hidden.replace("evil", "allowed"))
            .replace("{port}", &lab.port().to_string()),
    );
    assert_eq!(connection.reply().code, 403);
    assert!(connection.ends_within(Duration::from_secs(20)));
    assert_eq!(lab.stack.upstream.requests(), before);
    lab.unreached();
}

/// What breaks behind its headers has passed as far as it went, and the log does not say otherwise.
#[test]
fn b32_a_body_that_breaks_makes_no_denial_of_what_passed() {
    let lab = Lab::start();
    for (host, code, action) in [("allowed.test", 400, "allow"), ("evil.test", 403, "deny")] {
        let at = lab.stack.at(host);
        let before = lab.stack.upstream.requests();
        let mut connection = Connection::open(lab.stack.proxy());
        connection.send(format!(
            "GET http://{at}/slow HTTP/1.1\r\nhost: {at}\r\ntransfer-encoding: chunked\r\n\r\n6\r\nSECRET\r\n"
        ));
        if action == "allow" {
            wait_until("it arrives", || lab.stack.upstream.requests() == before + 1);
        }
        // Who is denied may be gone by now.
        let _ = connection.try_send("ZZZ\r\n");
        assert_eq!(connection.reply().code, code);
        let line = lab.stack.sidecar.log(host, |line| line["host"] == at.as_str());
        assert_eq!(line["action"], action, "{line}");
    }
    lab.unreached();
}

/// B-33, B-34: HTTP/1.0, and upgrades other than WebSocket.
#[test]
fn b33_b34_old_versions_and_upgrades_follow_the_rules() {
    let lab = Lab::start();
    lab.refused("CONNECT evil.test:443 HTTP/1.0\r\n\r\n", 403, "not-listed");
    lab.refused("GET http://evil.test:{port}/ HTTP/1.0\r\nhost: evil.test\r\n\r\n", 403, "not-listed");
    for upgrade in ["websocket", "h2c", "tls/1.2", "CONNECT"] {
        let bytes = format!(
            "GET http://evil.test:{{port}}/ HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n"
        );
        let answered = lab.send(&bytes).unwrap();
        assert_eq!(answered.0, 403, "{upgrade}");
    }
    // CONNECT-UDP names its target in the path (RFC 9298).
    for target in ["evil.test", "allowed.test", "secret.wild.test"] {
        let answered = lab.send(&format!(
            "GET /.well-known/masque/udp/{target}/{{port}}/ HTTP/1.1\r\nhost: allowed.test:{{port}}\r\nconnection: upgrade\r\nupgrade: connect-udp\r\ncapsule-protocol: ?1\r\n\r\n"
        ));
        assert_eq!(answered.unwrap().0, 403, "{target}");
    }
    let at = lab.stack.at("allowed.test");
    let h2c = format!(
        "GET http://{at}/ HTTP/1.1\r\nhost: {at}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n"
    );
    let reply = request(lab.stack.proxy(), h2c);
    assert!(reply.code == 200 && !reply.body.contains("h2c"), "{reply:?}");
    for upgrade in ["tls/1.2", "CONNECT"] {
        lab.refused(
            &format!("GET http://allowed.test:{{port}}/ HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n"),
            403,
            "upgrade-not-allowed",
        );
    }
    lab.unreached();
}

/// B-17: HTTP/2 without TLS to the proxy: `:authority` counts there, and the scheme opens nothing.
#[test]
fn b17_http_2_follows_the_same_rules() {
    let lab = Lab::start();
    let ask = |arguments: &[&str], url: &str| {
        let url = url.replace("{port}", &lab.port().to_string());
        let proxy = format!("http://{}", lab.stack.proxy());
        let mut all = vec!["-sS", "-o", "/dev/null", "-w", "%{http_code} %header{x-exeat-deny-reason}"];
        all.extend(["--http2-prior-knowledge", "--max-time", "20", "--connect-to"]);
        let to = format!("::{}", proxy.trim_start_matches("http://"));
        all.push(&to);
        all.extend(arguments);
        all.push(&url);
        let output = command("curl", &all);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask(&[], "http://allowed.test:{port}/"), "200");
    assert_eq!(ask(&["-H", "host: evil.test"], "http://allowed.test:{port}/"), "403 not-listed");
    assert_eq!(ask(&[], "http://evil.test:{port}/"), "403 not-listed");
    assert_eq!(ask(&[], "http://secret.wild.test:{port}/"), "403 denied-by-rule");
    lab.unreached();
}

/// B-17: what stands beside `:authority` counts for nobody.
#[test]
fn b17_the_authority_counts_and_not_the_host_header_of_http_2() {
    let lab = Lab::start();
    let ask = |host: &str, claimed: &str| {
        let url = format!("http://{}/", lab.stack.at(host));
        request_by_http2(lab.stack.proxy(), "GET", &url, &[("host", claimed)])
    };
    let at = lab.stack.at("allowed.test");
    let reply = ask("allowed.test", "evil.test");
    assert!(reply.code == 200 && reply.body.contains(&format!("host: {at}\r\n")), "{reply:?}");
    assert!(!reply.body.contains("evil"), "{reply:?}");
    assert_eq!(deny_reason(&ask("evil.test", &at)), Some("not-listed"));
    lab.unreached();
}

/// B-17: what is no request is closed, and the log says so.
#[test]
fn b17_broken_http_2_is_closed_and_logged() {
    let lab = Lab::start();
    // Who leaves before the end of the headers has asked for nothing.
    Connection::open(lab.stack.proxy()).send("GET http://evil.test/ HTTP/1.1\r\nhost: x\r\n");
    let at = lab.stack.at("allowed.test");
    let userinfo = format!("evil.test@{at}");
    type Fields<'a> = Vec<(&'a str, &'a str)>;
    let request: Fields<'_> =
        vec![(":method", "GET"), (":scheme", "http"), (":authority", &at), (":path", "/")];
    let with = |field| [request.clone(), vec![field]].concat();
    let instead = |name, value| {
        request
            .iter()
            .map(|field| if field.0 == name { (name, value) } else { *field })
            .collect::<Fields<'_>>()
    };
    let without = |name| request.iter().copied().filter(|field| field.0 != name).collect::<Fields<'_>>();
    for fields in [
        with((":authority", "evil.test")),
        [vec![(":authority", "evil.test")], request.clone()].concat(),
        [without(":authority"), vec![("host", &at), ("host", "evil.test")]].concat(),
        [request.clone(), vec![("host", "evil.test"), ("host", &at)]].concat(),
        without(":authority"),
        without(":method"),
        with((":method", "CONNECT")),
        with((":path", "/v1")),
        with((":other", "x")),
        instead(":authority", &userinfo),
        instead(":authority", ""),
        instead(":path", "http://evil.test/"),
        instead(":path", "/a b"),
        instead(":path", "*"),
        with(("te", "chunked")),
        with(("transfer-encoding", "chunked")),
        with(("connection", "close")),
        with(("x", "a\r\nhost: evil.test")),
        with(("x", "a\0b")),
        with(("X-Upper", "a")),
        with(("content-length", "5")),
        vec![(":method", "CONNECT"), (":authority", &userinfo)],
        vec![(":method", "CONNECT"), (":authority", &at), (":authority", "evil.test:443")],
        vec![(":method", "CONNECT"), (":scheme", "http"), (":authority", &at), (":path", "/")],
    ] {
        let logged = lab.stack.sidecar.logged().len();
        let mut connection = Connection::open(lab.stack.proxy());
        connection.send([frames::begin(frames::ENDLESS), frames::request(1, &fields)].concat());
        assert!(connection.ends_within(Duration::from_secs(20)), "{fields:?}");
        wait_until(&format!("the log flags {fields:?}"), || {
            let lines = lab.stack.sidecar.logged();
            lines.iter().skip(logged).any(|line| line["action"] == "deny" && line["reason"] == "bad-request")
        });
    }
    assert!(lab.stack.sidecar.logged().iter().all(|line| line["action"] == "deny"));
    assert_eq!(lab.stack.upstream.connections(), 0);
    lab.unreached();
}

/// B-35: paths that mean another one to somebody. (CVE-2019-9901 of Envoy, CVE-2026-26205 of a plugin.)
#[test]
fn b35_paths_are_compared_as_they_are_resolved() {
    let lab = Lab::start();
    for (path, code, reason) in [
        ("/v1/../admin", 403, "path-not-allowed"),
        ("/v1/%2e%2e/admin", 403, "path-not-allowed"),
        ("/v1/%2E./admin", 403, "path-not-allowed"),
        ("//admin", 403, "path-not-allowed"),
        ("/v1/..%2fadmin", 400, "bad-path"),
        ("/v1/..%5cadmin", 400, "bad-path"),
        ("/v1/%252e%252e/admin", 403, "path-not-allowed"),
        ("/v1x", 403, "path-not-allowed"),
        ("/V1/x", 403, "path-not-allowed"),
        ("/v1\\..\\admin", 403, "path-not-allowed"),
        ("/v1/..;/admin", 403, "path-not-allowed"),
        ("/v1/%2e%2e;/admin", 403, "path-not-allowed"),
        ("/v1/.%2e;/admin", 403, "path-not-allowed"),
        ("/v1/%2e.;x=1/admin", 403, "path-not-allowed"),
        ("/v1/x/%2e%2e;/%2e%2e;/admin", 403, "path-not-allowed"),
        ("/v1/%2e;/admin", 403, "path-not-allowed"),
    ] {
        let bytes = format!("GET http://paths.test:{{port}}{path} HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.refused(&bytes, code, reason);
    }
    // Methods are compared as they are written.
    for method in ["get", "gEt", "POST"] {
        lab.stopped(&format!("{method} http://paths.test:{{port}}/v1/x HTTP/1.1\r\nhost: x\r\n\r\n"));
    }
}

/// What a person is told of a path is what Envoy does with it.
#[test]
fn b35_paths_are_explained_as_they_are_resolved() {
    let lab = Lab::start();
    let list = LIST.replace("{port}", &lab.port().to_string());
    let policy = policy(&list);
    for path in [
        "/v1/",
        "/v1",
        "/v1/x",
        "/v1//x",
        "//v1//x",
        "/v1/./x",
        "/v1/../v1/x",
        "/v1//../",
        "/v1//..//x",
        "/v1/..//v1/x",
        "/v1/x/..",
        "/v1/x/../",
        "/v1/x/../..",
        "/v1/x/.",
        "/v1/...",
        "/v1/.x",
        "/x/../v1/y",
        "/../v1/y",
        "/v1/x;y",
        "/v1/!'()",
    ] {
        let at = lab.stack.at("paths.test");
        let url = format!("http://{at}{path}");
        let told = policy.decide(&url.parse::<Question>().unwrap().request).passes();
        let reply = request(lab.stack.proxy(), format!("GET {url} HTTP/1.1\r\nhost: {at}\r\n\r\n"));
        assert_eq!((told, reply.code), if told { (true, 200) } else { (false, 403) }, "{path}");
    }
}

/// B-37: a redirect is the client's to follow.
#[test]
fn b37_redirects_are_not_followed() {
    let lab = Lab::start();
    let redirecting = TcpListener::bind((lab.stack.block.host(2), 0)).unwrap();
    let port = redirecting.local_addr().unwrap().port();
    let to = format!("http://evil.test:{}/", lab.port());
    let location = to.clone();
    std::thread::spawn(move || {
        for client in redirecting.incoming().flatten() {
            let mut bytes = [0; 1024];
            drop((&client).read(&mut bytes));
            let reply = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            drop((&client).write_all(reply.as_bytes()));
        }
    });
    lab.stack.edit(&format!("allow: [\"allowed.test:{port}\"]\n"));
    let reply = get(lab.stack.proxy(), &format!("http://allowed.test:{port}/"));
    assert_eq!((reply.code, reply.header("location")), (302, Some(to.as_str())));
    lab.refused(&format!("GET {to} HTTP/1.1\r\nhost: x\r\n\r\n"), 403, "not-listed");
}

/// B-52: an allowed proxy would relay anything; through it only TLS for itself goes.
#[test]
fn b52_a_tunnel_is_no_way_to_another_proxy() {
    let lab = Lab::start();
    let (mut inside, reply) = tunnel(lab.stack.proxy(), &lab.stack.at("allowed.test"));
    assert_eq!(reply.code, 200);
    inside.send("CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test\r\n\r\n");
    assert!(inside.ends_within(Duration::from_secs(20)));
    assert_eq!(lab.stack.upstream.requests(), 0);
    lab.unreached();
}
