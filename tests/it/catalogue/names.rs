//! Spellings of names and ports.

use super::Lab;
use crate::support::{request, tunnel};

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
        lab.stopped(&format!("CONNECT {host}:{{port}} HTTP/1.1\r\n\r\n"));
        lab.stopped(&format!("GET / HTTP/1.1\r\nhost: {host}:{{port}}\r\n\r\n"));
    }
    for host in [
        "[secret.wild.test]",
        "[allowed.test]",
        "evil%00.wild.test",
        "a,b.wild.test",
        "evil@x.wild.test",
        "evil.test\x01.wild.test",
        "evil.test\x7f.wild.test",
    ] {
        lab.stopped(&format!("CONNECT {host}:{{port}} HTTP/1.1\r\n\r\n"));
    }
    // One dot at the end is the same name; two are none.
    for host in ["secret.wild.test..", "allowed.test..", "evil.test.."] {
        lab.stopped(&format!("CONNECT {host}:{{port}} HTTP/1.1\r\n\r\n"));
        lab.stopped(&format!("GET http://{host}:{{port}}/ HTTP/1.1\r\nhost: x\r\n\r\n"));
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
        lab.stopped(&format!("CONNECT allowed.test:{port} HTTP/1.1\r\n\r\n"));
    }
    lab.unreached();
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
