//! How much of what is allowed, and TLS that Envoy speaks for its clients.

use crate::support::{
    Authority, Block, Connection, Stack, Upstream, deny_reason, frames, get, request, server_config, tunnel,
    wait_until,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const ENDS: Duration = Duration::from_secs(20);

#[test]
fn connections_of_an_entry_are_counted() {
    let stack = Stack::start(
        "allow:\n  - {host: few.test, ports: [{port}], protocol: tcp, limits: {connections: 2}}\n  - {host: many.test, ports: [{port}], protocol: tcp}\n",
    );
    let open = |host: &str| tunnel(stack.proxy(), &stack.at(host)).0;
    let (mut one, mut two) = (open("few.test"), open("few.test"));
    assert!(one.answers() && two.answers());
    let (_, reply) = tunnel(stack.proxy(), &stack.at("few.test"));
    assert_eq!((reply.code, deny_reason(&reply)), (429, Some("too-many-connections")));
    let line = stack.sidecar.log("the refusal", |line| line["reason"] == "too-many-connections");
    assert_eq!((&line["action"], &line["host"]), (&"deny".into(), &stack.at("few.test").into()), "{line}");
    assert!(one.answers() && open("many.test").answers());
    drop(two);
    wait_until("there is room again", || open("few.test").answers());
}

/// Envoy connects for a client that has left; what nobody can use any more must not count for long.
#[test]
fn clients_that_leave_at_once_take_no_room() {
    let stack = Stack::start(
        "allow:\n  - {host: few.test, ports: [{port}], protocol: tcp, limits: {connections: 2}}\n",
    );
    let at = stack.at("few.test");
    assert!(tunnel(stack.proxy(), &at).0.answers());
    let known = stack.upstream.connections();
    for _ in 0..5 {
        Connection::open(stack.proxy()).send(format!("CONNECT {at} HTTP/1.1\r\n\r\n"));
    }
    wait_until("some of them got there", || stack.upstream.connections() > known);
    wait_until("there is room for both", || {
        let open = || tunnel(stack.proxy(), &at);
        let (one, two) = (open(), open());
        one.1.code == 200 && two.1.code == 200
    });
}

#[test]
fn requests_are_counted_by_the_minute() {
    let stack = Stack::start(
        "allow:\n  - {host: few.test, ports: [{port}], limits: {requests_per_minute: 2}}\n  - many.test:{port}\n",
    );
    let ask = |host: &str| get(stack.proxy(), &format!("http://{}/", stack.at(host)));
    assert_eq!((ask("few.test").code, ask("few.test").code), (200, 200));
    let reply = ask("few.test");
    assert_eq!((reply.code, deny_reason(&reply)), (429, Some("rate-limited")));
    assert_eq!(reply.header("retry-after"), Some("30"));
    assert_eq!((reply.json()["rule"].as_str(), ask("many.test").code), (Some("allowlist.yaml:2"), 200));
    let tunnels: Vec<u16> = (0..3).map(|_| tunnel(stack.proxy(), &stack.at("few.test")).1.code).collect();
    assert_eq!(tunnels, [200, 200, 429]);
    let line = stack.sidecar.log("the refusal", |line| line["reason"] == "rate-limited");
    assert_eq!((&line["action"], &line["code"]), (&"deny".into(), &429.into()));
}

#[test]
fn what_is_sent_is_counted() {
    let stack = Stack::start(
        "allow:\n  - {host: a.test, ports: [{port}], limits: {upload: 1KiB}}\n  - {host: raw.test, ports: [{port}], protocol: tcp, limits: {upload: 1KiB}}\n",
    );
    let post = |length: usize| {
        let at = stack.at("a.test");
        let body = "x".repeat(length);
        request(
            stack.proxy(),
            format!("POST http://{at}/ HTTP/1.1\r\nhost: {at}\r\ncontent-length: {length}\r\n\r\n{body}"),
        )
    };
    assert_eq!(post(1000).code, 200);
    let reply = post(2000);
    assert_eq!((reply.code, deny_reason(&reply)), (413, Some("upload-limit")));
    let (mut inside, reply) = tunnel(stack.proxy(), &stack.at("raw.test"));
    assert_eq!((reply.code, inside.get_inside("raw.test").code), (200, 200));
    while inside.try_send([b'x'; 100]).is_ok() && !inside.ends_within(Duration::from_millis(20)) {}
    let line = stack.sidecar.log("the end", |line| {
        line["host"] == stack.at("raw.test").as_str() && line["reason"] == "upload-limit"
    });
    assert_eq!(line["action"], "deny", "{line}");
}

#[test]
fn silence_is_limited() {
    let stack = Stack::start(
        "allow:\n  - {host: short.test, ports: [{port}], protocol: tcp, limits: {idle: 2s}}\n  - {host: long.test, ports: [{port}], protocol: tcp}\n",
    );
    let (mut long, _) = tunnel(stack.proxy(), &stack.at("long.test"));
    assert_eq!(long.get_inside("long.test").code, 200);
    let begun = Instant::now();
    let (mut short, _) = tunnel(stack.proxy(), &stack.at("short.test"));
    assert_eq!(short.get_inside("short.test").code, 200);
    assert!(short.ends_within(ENDS) && begun.elapsed() > Duration::from_millis(1900));
    assert_eq!(long.get_inside("long.test").code, 200);
}

/// B-44: Envoy lets 1,024 requests wait for names; more than that must not hold up the names that are known.
#[test]
fn a_name_that_nobody_answers_for_holds_up_no_other() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let stack = Stack::start("- silent.test:{port}\n- a.test:{port}\n");
    let ask = |host: &str| format!("GET http://{0}/ HTTP/1.1\r\nhost: {0}\r\n\r\n", stack.at(host));
    assert_eq!(request(stack.proxy(), ask("a.test")).code, 200);
    let mut waiting: Vec<Connection> = Vec::new();
    for _ in 0..1100 {
        let mut connection = Connection::open(stack.proxy());
        connection.send(ask("silent.test"));
        waiting.push(connection);
    }
    assert_eq!(request(stack.proxy(), ask("a.test")).code, 200);
    // All of them had to wait, and not only until now.
    for connection in &mut waiting {
        assert_eq!(connection.reply().code, 503);
    }
    let lines = stack.sidecar.logged();
    assert!(lines.iter().all(|line| !line["details"].to_string().contains("overflow")), "{:?}", lines.last());
}

/// What the bootstrap says, whatever the policy.
#[test]
fn connections_of_a_sidecar_are_counted() {
    let stack = Stack::with("- a.test:{port}\n", &[], |text| {
        assert!(text.contains("_connections: 50000"));
        text.replace("_connections: 50000", "_connections: 4")
    });
    let at = stack.at("a.test");
    let ask = |connection: &mut Connection| {
        let sent = connection.try_send(format!("GET http://{at}/ HTTP/1.1\r\nhost: {at}\r\n\r\n"));
        sent.ok().and_then(|()| connection.try_reply()).map(|reply| reply.code)
    };
    let mut open: Vec<Connection> = Vec::new();
    wait_until("there is no room", || {
        let mut connection = Connection::open(stack.proxy());
        let answer = ask(&mut connection);
        open.extend(answer.map(|_| connection));
        answer.is_none()
    });
    assert!((1..=4).contains(&open.len()), "{}", open.len());
    assert!(open.iter_mut().all(|connection| ask(connection) == Some(200)), "those that are open go on");
    open.clear();
    wait_until("there is room again", || ask(&mut Connection::open(stack.proxy())) == Some(200));
}

/// A host that sends without end, and on how many connections it cannot go on.
fn flood() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stuck = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stuck);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
            thread::spawn(move || {
                stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(&[b'x'; 64 << 10]).is_ok() {}
                count.fetch_add(1, Ordering::Relaxed);
                // Open until the other end closes it.
                let _ = stream.read(&mut [0]);
            });
        }
    });
    (port, stuck)
}

/// B-44: 100 answers that nobody reads, on one connection whose client promises to read all.
#[test]
fn a_client_that_reads_nothing_costs_little() {
    const STREAMS: u32 = 100;
    let (port, stuck) = flood();
    let at = format!("127.0.0.1:{port}");
    let stack = Stack::start(&format!(
        "allow: [{{host: 127.0.0.1, ports: [{port}], private: true}}, a.test:{{port}}]\n"
    ));
    assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at("a.test"))).code, 200);
    let before = stack.sidecar.process().memory();
    let mut client = TcpStream::connect(stack.proxy()).unwrap();
    client.write_all(&frames::begin(frames::ENDLESS)).unwrap();
    for n in 0..STREAMS {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", &*at), (":path", "/")];
        client.write_all(&frames::request(2 * n + 1, &fields)).unwrap();
    }
    wait_until("nobody can send any more", || stuck.load(Ordering::Relaxed) == STREAMS as usize);
    let more = stack.sidecar.process().memory() - before;
    assert!(more < 64 << 10, "{more} KiB");
    assert_eq!(get(stack.proxy(), &format!("http://{}/", stack.at("a.test"))).code, 200);
}

#[test]
fn connections_of_an_agent_are_counted() {
    let stack = Stack::start(
        "agents:\n  one: {match: {node_id: \"sidecar-*\"}, max_connections: 2, allow: [\"a.test:{port}\"]}\n",
    );
    let at = stack.at("a.test");
    let ask = |connection: &mut Connection| {
        let sent = connection.try_send(format!("GET http://{at}/ HTTP/1.1\r\nhost: {at}\r\n\r\n"));
        sent.ok().and_then(|()| connection.try_reply()).map(|reply| reply.code)
    };
    // Those that looked whether the port is open may still be counted.
    let mut open = Vec::new();
    wait_until("two are open", || {
        let mut connection = Connection::open(stack.proxy());
        if ask(&mut connection) == Some(200) {
            open.push(connection);
        }
        open.len() == 2
    });
    assert_eq!(ask(&mut Connection::open(stack.proxy())), None);
    assert!(open.iter_mut().all(|connection| ask(connection) == Some(200)));
}

#[test]
fn envoy_speaks_tls_for_clients_that_ask_in_clear() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path(), "upstreams");
    let block = Block::claim();
    let config = server_config(&authority.issue("api", "DNS:api.test,DNS:*.w.test"));
    let upstream = Upstream::with_certificate((block.host(2), 0).into(), Some(config));
    let port = upstream.port();
    let list = format!(
        "allow:\n  - {{host: api.test, tls: originate, ports: [{port}], methods: [GET], paths: [/v1/*]}}\n  - {{host: \"*.w.test\", tls: originate, ports: [{port}]}}\n  - {{host: other.test, tls: originate, ports: [{port}]}}\n"
    );
    let stack =
        Stack::on(block, &list, &["--upstream-ca", authority.certificate.to_str().unwrap()], |text| text);
    let ask = |method: &str, host: &str, path: &str| {
        let at = format!("{host}:{port}");
        request(
            stack.proxy(),
            format!("{method} http://{at}{path} HTTP/1.1\r\nhost: {at}\r\ncontent-length: 0\r\n\r\n"),
        )
    };
    let reply = ask("GET", "api.test", "/v1/models");
    assert_eq!(reply.code, 200, "{reply:?}");
    assert!(reply.body.starts_with("GET /v1/models HTTP/1.1"), "{}", reply.body);
    assert_eq!(ask("GET", "X.w.test", "/").code, 200);
    assert_eq!(upstream.names(), [Some("api.test".to_owned()), Some("x.w.test".to_owned())]);
    let refused = |reply: crate::support::Reply| (reply.code, deny_reason(&reply).map(str::to_owned));
    assert_eq!(refused(ask("POST", "api.test", "/v1/x")), (403, Some("method-not-allowed".to_owned())));
    assert_eq!(refused(ask("GET", "api.test", "/v2")), (403, Some("path-not-allowed".to_owned())));
    assert_eq!(
        refused(tunnel(stack.proxy(), &format!("api.test:{port}")).1),
        (403, Some("method-not-allowed".to_owned()))
    );
    // The certificate is for another name.
    assert_eq!(ask("GET", "other.test", "/").code, 503);
    assert_eq!(upstream.requests(), 2);
    // An edit ends what streams.
    let mut streaming = Connection::open(stack.proxy());
    streaming.send(format!("GET http://x.w.test:{port}/stream HTTP/1.1\r\nhost: x.w.test:{port}\r\n\r\n"));
    assert_eq!(streaming.read(12), "HTTP/1.1 200");
    stack.edit("allow: [c.test]\n");
    assert!(streaming.ends_within(ENDS));
}

/// Without authorities of its own it believes those of the machine, which do not know this one.
#[test]
fn an_unknown_authority_is_not_believed() {
    let stack = Stack::start("allow: [{host: api.test, tls: originate, ports: [{port}]}]\n");
    let reply = get(stack.proxy(), &format!("http://{}/", stack.at("api.test")));
    assert_eq!((reply.code, deny_reason(&reply)), (503, None));
    assert_eq!(stack.upstream.requests(), 0);
    let line = stack.sidecar.log("the failure", |line| line["code"] == 503);
    assert!(line["details"].as_str().unwrap().contains("CERTIFICATE_VERIFY_FAILED"), "{line}");
}
