//! Ways around an allowlist that are known from other proxies, as raw bytes against the real Envoy. Of each: what the client
//! is answered, that nothing reached anybody and no name was asked for, and the reason in the log.
//!
//! Each group of tricks is a test; what is in other files is named there: TLS in tunnels in `tunnels.rs`, revocation in
//! `revocation.rs`, edits and broken files in `edits.rs` and `rejections.rs`.

use crate::support::{Connection, Stack, deny_reason, get, request, tunnel};
use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

/// A stack with names that are listed, and a listener that nobody may reach.
struct Lab {
    stack: Stack,
    evil: TcpListener,
}

const LIST: &str = "
allow:
  - allowed.test:{port}
  - allowed.test
  - \"*.wild.test:{port}\"
  - {host: paths.test, ports: [{port}], protocol: http, methods: [GET], paths: [/v1/*]}
deny:
  - secret.wild.test
";

impl Lab {
    fn start() -> Self {
        Self::with(LIST)
    }

    fn with(list: &str) -> Self {
        let stack = Stack::start(list);
        // Where every name that is not allowed would lead, and private addresses, too.
        let evil = TcpListener::bind((stack.block.host(5), stack.upstream.port())).unwrap();
        evil.set_nonblocking(true).unwrap();
        let address = stack.block.host(5).to_string();
        for name in
            ["evil.test", "secret.wild.test", "rebind.wild.test", "allowed.test.evil.test", "notwild.test"]
        {
            stack.dns.set(name, &[&address]);
        }
        Self { stack, evil }
    }

    fn port(&self) -> u16 {
        self.stack.upstream.port()
    }

    /// Sends bytes, in which `{port}` is the upstream's port, and reads the answer if there is one.
    fn send(&self, bytes: &str) -> Option<(u16, Option<String>)> {
        let mut connection = Connection::open(self.stack.proxy());
        connection.send(bytes.replace("{port}", &self.port().to_string()));
        let reply = connection.try_reply()?;
        Some((reply.code, deny_reason(&reply).map(str::to_owned)))
    }

    /// Refused with this code and reason; nobody was asked or reached; the log says so.
    fn refused(&self, bytes: &str, code: u16, reason: &str) {
        let (before, logged) = (self.stack.upstream.connections(), self.stack.sidecar.logged().len());
        assert_eq!(self.send(bytes), Some((code, Some(reason.to_owned()))), "{bytes:?}");
        assert_eq!(self.stack.upstream.connections(), before, "{bytes:?}");
        self.unreached();
        crate::support::wait_until(&format!("the log has {reason} of {bytes:?}"), || {
            let lines = self.stack.sidecar.logged();
            lines.iter().skip(logged).any(|line| line["action"] == "deny" && line["reason"] == reason)
        });
    }

    /// Nobody got to where nobody may go, and no name was asked for but those that are allowed.
    fn unreached(&self) {
        let came = self.evil.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(came, Err(std::io::ErrorKind::WouldBlock));
        let allowed =
            |name: &str| name == "allowed.test" || name == "paths.test" || name.ends_with(".wild.test");
        let asked = self.stack.dns.asked();
        assert!(asked.iter().all(|name| allowed(name) && name != "secret.wild.test"), "{asked:?}");
    }
}

/// B-5, B-6, B-7: the target counts, and the Host header follows it or is refused. (CVE-2016-4553 of Squid.)
#[test]
fn b05_b07_the_target_counts_and_not_the_host_header() {
    let lab = Lab::start();
    for (bytes, code, reason) in [
        ("GET http://evil.test:{port}/ HTTP/1.1\r\nhost: allowed.test:{port}\r\n\r\n", 403, "not-listed"),
        ("CONNECT evil.test:{port} HTTP/1.1\r\nhost: allowed.test:{port}\r\n\r\n", 403, "not-listed"),
        ("GET / HTTP/1.1\r\nhost: allowed.test:{port}\r\nhost: evil.test\r\n\r\n", 403, "bad-host"),
        ("GET / HTTP/1.1\r\nhost: evil.test\r\nhost: allowed.test:{port}\r\n\r\n", 403, "not-listed"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nhost:\r\n\r\n", 403, "not-listed"),
    ] {
        lab.refused(bytes, code, reason);
    }
    let at = lab.stack.at("allowed.test");
    let reply = request(lab.stack.proxy(), format!("GET http://{at}/ HTTP/1.1\r\nhost: evil.test\r\n\r\n"));
    assert!(reply.code == 200 && reply.body.contains(&format!("host: {at}")), "{reply:?}");
    lab.unreached();
}

/// B-8 to B-13: spellings of names. (CVE-2022-24825 and CVE-2022-29188 of smokescreen, NUL in the SOCKS proxy of a sandbox.)
#[test]
fn b08_b13_spellings_of_names_lead_nowhere_else() {
    let lab = Lab::start();
    // What is denied is denied in each spelling, as a tunnel and in clear.
    for host in ["secret.wild.test", "SECRET.Wild.test", "secret.wild.test."] {
        lab.refused(&format!("CONNECT {host}:{{port}} HTTP/1.1\r\n\r\n"), 403, "denied-by-rule");
        lab.refused(
            &format!("GET http://{host}:{{port}}/ HTTP/1.1\r\nhost: x\r\n\r\n"),
            403,
            "denied-by-rule",
        );
    }
    for host in
        ["notwild.test", "wild.test", "wild.test.evil.test", "allowed.test.evil.test", "xallowed.test"]
    {
        lab.refused(&format!("CONNECT {host}:{{port}} HTTP/1.1\r\n\r\n"), 403, "not-listed");
    }
    for (host, reason) in [
        ("evil@x.wild.test", "bad-host"),
        ("evil%2f.wild.test", "bad-host"),
        ("evil%00.wild.test", "bad-host"),
        ("10.0.0.5:80.wild.test", "bad-host"),
        (".wild.test", "not-listed"),
        ("a,b.wild.test", "bad-host"),
        ("-.wild.test", "bad-host"),
        ("x..wild.test", "bad-host"),
        ("[allowed.test]", "not-listed"),
        ("[secret.wild.test]", "not-listed"),
    ] {
        lab.refused(&format!("GET / HTTP/1.1\r\nhost: {host}:{{port}}\r\n\r\n"), 403, reason);
    }
    for host in [
        "evil.test\0.wild.test",
        "evil.test#.wild.test",
        "evil.test?.wild.test",
        "evil.test/.wild.test",
        "evil.test\\.wild.test",
        "evil.test .wild.test",
        "evil.test\t.wild.test",
        "api\u{3002}allowed.test",
        "\u{ff41}llowed.test",
        "a@evil.test",
        "[::1].wild.test",
        "under_score.wild.test",
    ] {
        let answered = lab.send(&format!("CONNECT {host}:{{port}} HTTP/1.1\r\n\r\n"));
        assert!(answered.as_ref().is_none_or(|(code, _)| *code == 400), "{host:?}: {answered:?}");
    }
    // Userinfo is no host.
    lab.refused("GET http://allowed.test@evil.test:{port}/ HTTP/1.1\r\nhost: x\r\n\r\n", 403, "not-listed");
    lab.unreached();
}

/// B-14, B-15: a port is part of the rule, in one spelling.
#[test]
fn b14_b15_other_ports_and_other_spellings_of_ports() {
    let lab = Lab::start();
    for port in ["22", "8080", "65535"] {
        lab.refused(&format!("CONNECT allowed.test:{port} HTTP/1.1\r\n\r\n"), 403, "port-not-listed");
        lab.refused(
            &format!("GET http://allowed.test:{port}/ HTTP/1.1\r\nhost: x\r\n\r\n"),
            403,
            "port-not-listed",
        );
    }
    lab.refused("CONNECT allowed.test:0{port} HTTP/1.1\r\n\r\n", 403, "bad-host");
    for port in ["", "65616", "+443", "443:443", " 443", "-1", "0x1bb"] {
        let answered = lab.send(&format!("CONNECT allowed.test:{port} HTTP/1.1\r\n\r\n"));
        assert!(
            answered.as_ref().is_none_or(|(code, _)| [400, 403].contains(code)),
            "{port:?}: {answered:?}"
        );
    }
    lab.unreached();
}

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
    for gone in ["original", "override", "forwarded", "proxy-", "x-envoy", "x-request-id", "rewrite"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    for header in headers {
        lab.refused(
            &format!("GET http://evil.test:{{port}}/ HTTP/1.1\r\nhost: evil.test\r\n{header}\r\n\r\n"),
            403,
            "not-listed",
        );
    }
    let answered = lab.send(":authority: evil.test\r\nGET / HTTP/1.1\r\n\r\n");
    assert!(answered.is_none_or(|(code, _)| code == 400));
    lab.unreached();
}

/// B-20, B-21, B-24 to B-27: addresses in any spelling, cloud metadata, the sidecar itself.
#[test]
fn b20_b27_addresses_are_names_of_their_own() {
    let lab = Lab::start();
    let own = lab.stack.proxy().to_string();
    for target in [
        "10.0.0.5:{port}",
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "127.0.0.1:9901",
        "[::1]:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "[64:ff9b::7f00:1]:{port}",
        "2130706433:{port}",
        "0x7f000001:{port}",
        "127.1:{port}",
        "0177.0.0.1:{port}",
        "0177.0115.0.4:{port}",
        "0.0.0.0:{port}",
        "localhost:{port}",
        "metadata.google.internal:80",
        &own,
    ] {
        lab.refused(&format!("CONNECT {target} HTTP/1.1\r\n\r\n"), 403, "not-listed");
        lab.refused(&format!("GET http://{target}/ HTTP/1.1\r\nhost: x\r\n\r\n"), 403, "not-listed");
    }
}

/// An entry cannot open exeat's own ports or the proxy's either.
#[test]
fn b25_own_ports_stay_closed_whatever_is_listed() {
    let stack = Stack::start("- allowed.test:{port}\n");
    let (proxy, admin) = (stack.proxy(), stack.control_plane.admin);
    let xds = format!("{}:18000", admin.ip());
    let entry = |host: String, port: u16| {
        format!("- {{host: {host}, ports: [{port}], protocol: tcp, private: true}}\n")
    };
    let own = [(proxy.ip(), proxy.port()), (admin.ip(), admin.port()), (admin.ip(), 18000)];
    let other = TcpListener::bind((admin.ip(), 0)).unwrap().local_addr().unwrap();
    let list: String = own.into_iter().map(|(ip, port)| entry(ip.to_string(), port)).collect();
    stack.edit(&format!("{list}{}", entry(other.ip().to_string(), other.port())));
    for target in [proxy.to_string(), admin.to_string(), xds] {
        let (_, reply) = tunnel(stack.proxy(), &target);
        assert_eq!((reply.code, deny_reason(&reply)), (403, Some("denied-by-rule")), "{target}");
    }
    let (_, reply) = tunnel(stack.proxy(), &other.to_string());
    assert_ne!(reply.code, 403, "what is beside them is no business of exeat's");
    stack.control_plane.process().wait_for("the warning", |line| line.contains("its ports stay closed"));
}

/// The same in report mode, which lets pass what is not listed: private addresses stay closed, in whatever spelling.
#[test]
fn b24_b27_report_mode_opens_no_private_address() {
    let lab = Lab::with("mode: report\nallow: [\"allowed.test:{port}\"]\n");
    let (own, control) = (lab.stack.proxy(), lab.stack.control_plane.admin);
    let evil = lab.evil.local_addr().unwrap();
    for target in [
        evil.to_string(),
        own.to_string(),
        control.to_string(),
        format!("{}:18000", control.ip()),
        "127.0.0.1:9901".to_owned(),
        format!("localhost:{}", evil.port()),
        "169.254.169.254:80".to_owned(),
        format!("0.0.0.0:{}", evil.port()),
        format!("2130706433:{}", evil.port()),
        format!("0x7f000001:{}", evil.port()),
        format!("127.1:{}", evil.port()),
        format!("0177.0115.0.4:{}", evil.port()),
        format!("[::ffff:{}]:{}", evil.ip(), evil.port()),
        format!("[::1]:{}", evil.port()),
    ] {
        for bytes in [
            format!("CONNECT {target} HTTP/1.1\r\n\r\n"),
            format!("GET http://{target}/ HTTP/1.1\r\nhost: {target}\r\n\r\n"),
        ] {
            let answered = lab.send(&bytes);
            assert!(answered.as_ref().is_none_or(|(code, _)| *code != 200), "{bytes:?}: {answered:?}");
        }
    }
    let came = lab.evil.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(came, Err(std::io::ErrorKind::WouldBlock));
}

/// B-22, B-23: a name that leads to a private address, also beside others. More in `enforcement.rs`.
#[test]
fn b22_rebinding_is_refused_with_a_reason() {
    let lab = Lab::start();
    for bytes in [
        "CONNECT rebind.wild.test:{port} HTTP/1.1\r\n\r\n",
        "GET http://rebind.wild.test:{port}/ HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        lab.refused(bytes, 403, "private-address");
    }
}

/// B-29: what is refused causes no DNS query, whatever the name says.
#[test]
fn b29_denied_names_are_not_resolved() {
    let lab = Lab::start();
    for n in 0..20 {
        lab.refused(&format!("CONNECT data{n}.evil.test:443 HTTP/1.1\r\n\r\n"), 403, "not-listed");
    }
    let (_, reply) = tunnel(lab.stack.proxy(), &lab.stack.at("allowed.test"));
    assert_eq!(reply.code, 200);
    lab.unreached();
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
        let before = lab.stack.upstream.requests();
        let answered = lab.send(&format!("{head}0\r\n\r\n{hidden}"));
        assert!(answered.as_ref().is_none_or(|(code, _)| *code >= 400), "{head:?}: {answered:?}");
        assert_eq!(lab.stack.upstream.requests(), before, "{head:?}");
    }
    // What is pipelined behind a refused CONNECT is not looked at.
    let mut connection = Connection::open(lab.stack.proxy());
    connection.send(
        format!("CONNECT evil.test:443 HTTP/1.1\r\n\r\n{}", hidden.replace("evil", "allowed"))
            .replace("{port}", &lab.port().to_string()),
    );
    assert_eq!(connection.reply().code, 403);
    assert!(connection.ends_within(Duration::from_secs(20)));
    assert_eq!(lab.stack.upstream.requests(), 0);
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
        let output = crate::support::command("curl", &all);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask(&[], "http://allowed.test:{port}/"), "200");
    assert_eq!(ask(&["-H", "host: evil.test"], "http://allowed.test:{port}/"), "403 not-listed");
    assert_eq!(ask(&[], "http://evil.test:{port}/"), "403 not-listed");
    assert_eq!(ask(&[], "http://secret.wild.test:{port}/"), "403 denied-by-rule");
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
    ] {
        let bytes = format!("GET http://paths.test:{{port}}{path} HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.refused(&bytes, code, reason);
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

/// CVE-2025-66479 and its like: an empty list allows nothing, and so does one that was emptied.
#[test]
fn an_empty_list_is_not_an_open_door() {
    let lab = Lab::with("allow: []\n");
    lab.refused("CONNECT allowed.test:{port} HTTP/1.1\r\n\r\n", 403, "not-listed");
    lab.stack.edit("- allowed.test:{port}\n");
    assert_eq!(get(lab.stack.proxy(), &format!("http://{}/", lab.stack.at("allowed.test"))).code, 200);
    lab.stack.edit("allow: []\n");
    lab.refused("GET http://allowed.test:{port}/ HTTP/1.1\r\nhost: x\r\n\r\n", 403, "not-listed");
}

/// Report mode ends with the file's words and no others: an edit that cannot be read does not open anything (Claude Code
/// #81572).
#[test]
fn an_edit_that_cannot_be_read_opens_nothing() {
    let lab = Lab::start();
    let before = lab.stack.control_plane.version();
    std::fs::write(lab.stack.allowlist(), "allow:\n  - evil.test:1\n  - *.evil.test\n").unwrap();
    lab.stack.control_plane.process().wait_for("the error", |line| line.contains("yaml-unquoted-star"));
    assert_eq!(lab.stack.control_plane.version(), before);
    lab.refused("CONNECT evil.test:1 HTTP/1.1\r\n\r\n", 403, "not-listed");
}
