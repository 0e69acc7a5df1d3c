//! What a tunnel carries: TLS for the host that CONNECT asked for, or, where an entry says so, anything.

use crate::support::{
    Connection, Stack, client_hello, deny_reason, secure_tunnel, tunnel, tunnel_by_http2, wait_until,
};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

const LIST: &str = "
allow:
  - a.test:{port}
  - b.test:{port}
  - \"*.w.test:{port}\"
  - {hosts: [raw.test, \"*.raw.test\"], ports: [{port}], protocol: tcp}
  - {host: \"{address}\", ports: [{port}], private: true}
";

fn stack() -> Stack {
    Stack::start_where(|block| LIST.replace("{address}", &block.host(2).to_string()))
}

/// The log's line of a refused tunnel.
fn refused(stack: &Stack, at: &str, reason: &str) -> Value {
    stack.sidecar.log(&format!("{reason} of {at}"), |line| {
        line["host"] == at.to_ascii_lowercase().as_str()
            && line["action"] == "deny"
            && line["reason"] == reason
    })
}

#[test]
fn tls_for_the_host_goes_on_however_it_is_spelled() {
    let stack = stack();
    for (host, name) in [
        ("a.test", "a.test"),
        ("A.Test", "a.test"),
        ("a.test", "A.TEST"),
        ("a.test.", "a.test"),
        ("x.w.test", "x.w.test"),
        ("x.Y.w.test", "X.y.w.test"),
    ] {
        let (inside, reply) = tunnel(stack.proxy(), &stack.at(host));
        assert_eq!(reply.code, 200, "{host}");
        let mut inside = inside.tls(Some(name)).unwrap_or_else(|error| panic!("{host} {name}: {error}"));
        assert_eq!(inside.get_inside(host).code, 200, "{host} {name}");
    }
    // One name, however it is spelled: else a client could fill the cache with a listed name.
    let asked = stack.dns.asked();
    assert_eq!(asked.iter().filter(|name| *name == "a.test").count(), 1, "{asked:?}");
    // Nobody asks for an address by SNI.
    let at = stack.at(&stack.block.host(2).to_string());
    let (inside, reply) = tunnel(stack.proxy(), &at);
    assert_eq!(reply.code, 200);
    assert_eq!(inside.tls(None).unwrap().get_inside("address").code, 200);
}

/// B-1, B-2, B-4: what the log has, and that nobody was asked or dialled for it.
#[test]
fn tls_for_another_host_is_closed_before_anything_happens() {
    let stack = stack();
    let address = stack.block.host(2).to_string();
    // A second name's tunnel is open all the while: none inherits from another.
    let mut other = secure_tunnel(stack.proxy(), &stack.at("b.test"));
    let before = stack.upstream.connections();
    for (host, name) in [
        ("a.test", Some("evil.test")),
        ("a.test", Some("b.test")),
        ("a.test", Some("test")),
        ("a.test", Some("xa.test")),
        ("a.test", Some("a.test.evil.test")),
        ("a.test", None),
        ("x.w.test", Some("y.w.test")),
        ("x.w.test", Some("w.test")),
        ("x.w.test", Some("y.x.w.test")),
        (address.as_str(), Some("a.test")),
    ] {
        let at = stack.at(host);
        let (inside, reply) = tunnel(stack.proxy(), &at);
        assert_eq!(reply.code, 200, "{host}");
        assert!(inside.tls(name).is_err(), "{host} {name:?}");
        let line = stack.sidecar.log("the refusal", |line| {
            line["host"] == at.as_str() && line["sni"].as_str() == name && line["action"] == "deny"
        });
        assert_eq!((&line["reason"], &line["method"]), (&"sni-mismatch".into(), &"CONNECT".into()), "{line}");
        assert!(line["rule"].as_str().unwrap().starts_with("allowlist.yaml:"), "{line}");
        assert!(line["request_id"].is_string() && line["client"].is_string(), "{line}");
    }
    assert_eq!(stack.upstream.connections(), before);
    assert_eq!(other.get_inside("b.test").code, 200);
    for name in stack.dns.asked() {
        assert!(["a.test", "b.test", "x.w.test"].contains(&name.as_str()), "{name} was asked for");
    }
    // One line for each.
    let lines = stack.sidecar.logged();
    let of_a = lines.iter().filter(|line| line["host"] == stack.at("a.test").as_str()).count();
    assert_eq!(of_a, 6);
}

/// B-17: a tunnel is one however it is asked for.
#[test]
fn tunnels_by_http_2_are_checked_too() {
    let stack = stack();
    for protocol in [None, Some("bytestream")] {
        let open = |host: &str| tunnel_by_http2(stack.proxy(), &stack.at(host), protocol);
        let (inside, reply) = open("a.test");
        assert_eq!(reply.code, 200, "{protocol:?}");
        assert_eq!(
            inside.unwrap().tls(Some("a.test")).unwrap().get_inside("a.test").code,
            200,
            "{protocol:?}"
        );
        let before = stack.upstream.connections();
        assert!(open("a.test").0.unwrap().tls(Some("evil.test")).is_err(), "{protocol:?}");
        let mut raw = open("a.test").0.unwrap();
        raw.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
        assert!(raw.ends_within(Duration::from_secs(30)), "{protocol:?}");
        assert_eq!(open("evil.test").1.code, 403, "{protocol:?}");
        assert_eq!(stack.upstream.connections(), before, "{protocol:?}");
    }
    for protocol in ["websocket", "connect-udp", "connect-ip", "h2c"] {
        let before = stack.upstream.connections();
        let (_, reply) = tunnel_by_http2(stack.proxy(), &stack.at("a.test"), Some(protocol));
        assert!(reply.code >= 400, "{protocol}: {reply:?}");
        assert_eq!(stack.upstream.connections(), before, "{protocol}");
    }
}

#[test]
fn what_is_no_tls_is_closed() {
    let stack = stack();
    let before = stack.upstream.connections();
    for bytes in [
        b"SSH-2.0-OpenSSH_9.6\r\n".as_slice(),
        b"GET / HTTP/1.1\r\nhost: evil.test\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x00\x00",
        b"\x80\x2e\x01\x00\x02",
        b"\x00",
    ] {
        let (mut inside, reply) = tunnel(stack.proxy(), &stack.at("a.test"));
        assert_eq!(reply.code, 200);
        inside.send(bytes);
        assert!(inside.ends_within(Duration::from_secs(20)), "{bytes:?}");
    }
    let line = refused(&stack, &stack.at("a.test"), "not-tls");
    assert_eq!(line["sni"], Value::Null);
    assert_eq!(stack.upstream.connections(), before);
}

/// A client that waits for the server is let go after a while, and holds up nobody else until then.
#[test]
fn a_silent_client_is_let_go() {
    let stack = stack();
    let (mut silent, reply) = tunnel(stack.proxy(), &stack.at("a.test"));
    assert_eq!(reply.code, 200);
    for _ in 0..3 {
        assert_eq!(secure_tunnel(stack.proxy(), &stack.at("a.test")).get_inside("a.test").code, 200);
    }
    assert!(silent.ends_within(Duration::from_secs(20)));
    refused(&stack, &stack.at("a.test"), "not-tls");
}

/// What has no room is one, where the check lets it on.
#[test]
fn tls_beyond_the_connections_of_its_entry_is_denied() {
    let stack = Stack::start("- {host: a.test, ports: [{port}], limits: {connections: 1}}\n");
    let mut first = secure_tunnel(stack.proxy(), &stack.at("a.test"));
    let (inside, _) = tunnel(stack.proxy(), &stack.at("a.test"));
    assert!(inside.tls(Some("a.test")).is_err());
    refused(&stack, &stack.at("a.test"), "too-many-connections");
    assert!(first.answers());
}

/// A listed host that is down is no denial, and each attempt to reach it has one line.
#[test]
fn a_host_that_is_down_is_not_denied() {
    // Nobody listens there.
    let (dead, attempts) = ("dead.test:445", 4);
    let stack =
        Stack::start("- {host: dead.test, ports: [445], limits: {connections: 5}}\n- a.test:{port}\n");
    let (inside, _) = tunnel(stack.proxy(), dead);
    assert!(inside.tls(Some("dead.test")).is_err());
    assert_eq!(secure_tunnel(stack.proxy(), &stack.at("a.test")).get_inside("a.test").code, 200);
    let at = stack.at("a.test");
    stack.sidecar.log("what came after", |line| line["host"] == at.as_str());
    let lines = stack.sidecar.logged();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["host"] == dead).collect();
    assert_eq!(lines.len(), attempts, "{lines:?}");
    for line in lines {
        assert_eq!((&line["action"], &line["reason"]), (&"allow".into(), &Value::Null), "{line}");
        assert!(line["details"].to_string().contains("tcp_init"), "{line}");
    }
}

/// RFC 8446 §5.1: a handshake message in records of so many bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()], part].concat();
    hello.chunks(size).flat_map(record).collect()
}

/// RFC 8446 §4.1.2: the same ClientHello with one extension more.
fn with_extension(hello: &[u8], kind: u16, body: &[u8]) -> Vec<u8> {
    let number = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    // Header, version and random; session, cipher suites and compression.
    let session = 4 + 2 + 32;
    let suites = session + 1 + usize::from(hello[session]);
    let compression = suites + 2 + number(suites);
    let extensions = compression + 1 + usize::from(hello[compression]);
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let more = [&kind.to_be_bytes()[..], &length(body), body].concat();
    let all = [&hello[extensions + 2..], &more].concat();
    let message = [&hello[4..extensions], &length(&all), &all].concat();
    [&[1, 0][..], &length(&message), &message].concat()
}

/// The ClientHello for a name with a dot behind it, which no client sends (RFC 6066 §3).
fn with_dot(name: &str) -> Vec<u8> {
    let (longer, dotted) = (format!("{name}x"), format!("{name}."));
    let mut hello = client_hello(&longer);
    let at = hello.windows(longer.len()).position(|part| part == longer.as_bytes()).unwrap();
    hello[at..at + longer.len()].copy_from_slice(dotted.as_bytes());
    hello
}

/// B-8: no name of TLS ends in a dot, so none is what CONNECT asked for.
#[test]
fn a_dot_in_the_sni_is_another_name() {
    let stack = stack();
    for (host, name) in [("a.test", "a.test"), ("b.test.", "b.test"), ("x.w.test", "evil.test")] {
        let (mut inside, _) = tunnel(stack.proxy(), &stack.at(host));
        inside.send(in_records(&with_dot(name), 255));
        assert!(inside.ends_within(Duration::from_secs(20)), "{host}");
        refused(&stack, &stack.at(host.trim_end_matches('.')), "sni-mismatch");
    }
    assert_eq!(stack.upstream.connections(), 0);
}

/// B-4, B-18: a ClientHello in small records, and one with an encrypted inner one (RFC 9849), of which the outer name counts.
#[test]
fn unusual_client_hellos_are_read() {
    let stack = stack();
    let outer = [&[0, 0, 1, 0, 1, 7, 0, 32][..], &[9; 32], &[0, 128], &[5; 128]].concat();
    let encrypted = |name: &str| with_extension(&client_hello(name), 0xfe0d, &outer);
    for (what, of) in [
        (
            "records of 100 bytes",
            &(|name: &str| in_records(&client_hello(name), 100)) as &dyn Fn(&str) -> Vec<u8>,
        ),
        ("records of 10 bytes", &|name: &str| in_records(&client_hello(name), 10)),
        ("records of one byte", &|name: &str| in_records(&client_hello(name), 1)),
        ("encrypted inner", &|name: &str| in_records(&encrypted(name), 255)),
    ] {
        let (mut inside, _) = tunnel(stack.proxy(), &stack.at("a.test"));
        inside.send(of("a.test"));
        let (handshake, first) = ("\u{16}\u{3}\u{3}", inside.read(7));
        assert!(first.starts_with(handshake), "{what}: {first:?}");
        let before = stack.upstream.connections();
        let at = stack.at("b.test");
        let seen = || {
            let is_it = |line: &&Value| line["host"] == at.as_str() && line["reason"] == "sni-mismatch";
            stack.sidecar.logged().iter().filter(is_it).count()
        };
        let already = seen();
        let (mut inside, _) = tunnel(stack.proxy(), &at);
        inside.send(of("evil.test"));
        assert!(inside.ends_within(Duration::from_secs(20)), "{what}");
        wait_until(what, || seen() == already + 1);
        assert_eq!(stack.upstream.connections(), before, "{what}");
    }
}

/// Its name was resolved: below a wildcard names carry data.
#[test]
fn a_client_that_leaves_before_its_hello_is_logged() {
    let stack = stack();
    for (host, first) in [("data1.w.test", &[][..]), ("data2.w.test", &[0x16, 3, 1])] {
        let at = stack.at(host);
        let (mut connection, reply) = tunnel(stack.proxy(), &at);
        assert_eq!(reply.code, 200);
        connection.send(first);
        drop(connection);
        let line = stack.sidecar.log(host, |line| line["host"] == at.as_str());
        assert_eq!((&line["action"], &line["upstream"]), (&"allow".into(), &Value::Null), "{line}");
        assert!(line["rule"].as_str().unwrap().starts_with("allowlist.yaml:"), "{line}");
    }
    // Also who does not wait for the answer, or for the name.
    for host in ["data3.w.test", "silent.w.test", "silent.raw.test"] {
        let at = stack.at(host);
        let mut connection = Connection::open(stack.proxy());
        connection.send(format!("CONNECT {at} HTTP/1.1\r\n\r\n"));
        wait_until("the name is asked for", || stack.dns.asked().contains(&host.to_owned()));
        drop(connection);
        let line = stack.sidecar.log(host, |line| line["host"] == at.as_str());
        assert_eq!((&line["action"], &line["upstream"]), (&"allow".into(), &Value::Null), "{line}");
    }
    assert_eq!(secure_tunnel(stack.proxy(), &stack.at("a.test")).get_inside("a.test").code, 200);
    let at = stack.at("a.test");
    stack.sidecar.log("the tunnel that was used", |line| line["host"] == at.as_str());
    let lines = stack.sidecar.logged();
    let of = |host: &str| lines.iter().filter(|line| line["host"] == stack.at(host).as_str()).count();
    assert_eq!(["a.test", "data1.w.test", "data2.w.test"].map(of), [1, 1, 1], "one line for each");
}

/// B-18: a ClientHello in as many pieces as it has bytes.
#[test]
fn a_client_hello_in_pieces_is_read_whole() {
    let stack = stack();
    for (name, passes) in [("a.test", true), ("evil.test", false)] {
        let (inside, reply) = tunnel(stack.proxy(), &stack.at("a.test"));
        assert_eq!(reply.code, 200);
        let socket = inside.socket().try_clone().unwrap();
        socket.set_nodelay(true).unwrap();
        // A relay that hands on one byte at a time.
        let relay = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = relay.local_addr().unwrap();
        let relayed = thread::spawn(move || {
            let (mut client, _) = relay.accept().unwrap();
            let mut up = socket.try_clone().unwrap();
            let (mut down, mut back) = (socket, client.try_clone().unwrap());
            thread::spawn(move || {
                std::io::copy(&mut down, &mut back).map(|_| back.shutdown(std::net::Shutdown::Both))
            });
            let mut byte = [0];
            while client.read_exact(&mut byte).is_ok() && up.write_all(&byte).is_ok() {}
        });
        let inside = Connection::open(address).tls(Some(name));
        match inside {
            Ok(mut inside) if passes => assert_eq!(inside.get_inside("a.test").code, 200),
            inside => assert!(inside.is_err() && !passes, "{name}"),
        }
        drop(relayed);
    }
}

#[test]
fn an_opaque_tunnel_carries_anything_and_lets_the_server_speak_first() {
    let stack = stack();
    let (mut inside, reply) = tunnel(stack.proxy(), &stack.at("raw.test"));
    assert_eq!(reply.code, 200);
    assert_eq!(inside.get_inside("raw.test").code, 200);
    drop(inside);
    let line = stack.sidecar.log("the tunnel", |line| line["host"] == stack.at("raw.test").as_str());
    assert_eq!((&line["action"], &line["reason"]), (&"allow".into(), &Value::Null), "{line}");
    assert_eq!(line["upstream"], format!("{}:{}", stack.block.host(2), stack.upstream.port()));

    let greeter = TcpListener::bind((stack.block.host(2), 0)).unwrap();
    let port = greeter.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in greeter.incoming().flatten() {
            drop((&client).write_all(b"SSH-2.0-server\r\n"));
            let mut first = [0];
            drop((&client).read(&mut first));
        }
    });
    stack.edit(&format!("allow: [{{host: raw.test, ports: [{port}], protocol: tcp}}]\n"));
    let (mut inside, reply) = tunnel(stack.proxy(), &format!("raw.test:{port}"));
    assert_eq!((reply.code, inside.read(16)), (200, "SSH-2.0-server\r\n".to_owned()));
    // To exactly that host and port.
    let (_, reply) = tunnel(stack.proxy(), &format!("raw.test:{}", stack.upstream.port()));
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("port-not-listed")));
    let (_, reply) = tunnel(stack.proxy(), &format!("x.raw.test:{port}"));
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("not-listed")));
}
