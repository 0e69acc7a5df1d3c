//! What an edit takes away ends at once, and nothing else does.

use crate::support::{
    Connection, Sidecar, Stack, deny_reason, get, secure_tunnel, tunnel, tunnel_by_http2, wait_until,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

const ENDS: Duration = Duration::from_secs(20);

/// A plain request whose answer never ends.
fn streaming(stack: &Stack, host: &str) -> Connection {
    let at = stack.at(host);
    let mut connection = Connection::open(stack.proxy());
    connection.send(format!("GET http://{at}/stream HTTP/1.1\r\nhost: {at}\r\n\r\n"));
    let mut head = String::new();
    while !head.ends_with("hello\r\n") {
        head.push_str(&connection.read(1));
    }
    connection
}

fn websocket(stack: &Stack, host: &str) -> Connection {
    let at = stack.at(host);
    let mut connection = Connection::open(stack.proxy());
    connection.send(format!(
        "GET http://{at}/ HTTP/1.1\r\nhost: {at}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    ));
    let mut head = String::new();
    while !head.ends_with("hello") {
        head.push_str(&connection.read(1));
    }
    connection
}

fn opaque(stack: &Stack, host: &str) -> Connection {
    let (inside, reply) = tunnel(stack.proxy(), &stack.at(host));
    assert_eq!(reply.code, 200, "{host}");
    inside
}

#[test]
fn an_entry_takes_its_connections_along_and_no_others() {
    let list = |hosts: &[&str]| {
        let entries: String = hosts.iter().map(|host| format!("  - \"{host}:{{port}}\"\n")).collect();
        let raw = hosts.contains(&"gone.test");
        let raw = if raw { "  - {host: raw.test, ports: [{port}], protocol: tcp}\n" } else { "" };
        format!("allow:\n{entries}{raw}  - {{host: raw2.test, ports: [{{port}}], protocol: tcp}}\n")
    };
    let stack = Stack::start(&list(&["kept.test", "gone.test", "*.w.test", "gone.w.test"]));
    let at = |host: &str| stack.at(host);
    let by_http2 =
        |host: &str| tunnel_by_http2(stack.proxy(), &at(host), None).0.unwrap().tls(Some(host)).unwrap();
    let mut cut = [
        secure_tunnel(stack.proxy(), &at("gone.test")),
        secure_tunnel(stack.proxy(), &at("gone.w.test")),
        opaque(&stack, "raw.test"),
        websocket(&stack, "gone.test"),
        streaming(&stack, "gone.test"),
        by_http2("gone.test"),
    ];
    let mut kept = [
        by_http2("kept.test"),
        secure_tunnel(stack.proxy(), &at("kept.test")),
        secure_tunnel(stack.proxy(), &at("x.w.test")),
        opaque(&stack, "raw2.test"),
    ];
    let mut kept_open = [websocket(&stack, "kept.test"), streaming(&stack, "kept.test")];
    let mut keep_alive = Connection::open(stack.proxy());
    assert_eq!(keep_alive.get(&at("gone.test"), "/").code, 200);
    // What an edit adds touches nobody.
    stack.edit(&list(&["kept.test", "gone.test", "*.w.test", "gone.w.test", "new.test", "new.w.test"]));
    assert!(kept.iter_mut().all(Connection::answers) && cut.iter_mut().take(3).all(Connection::answers));
    stack.edit(&list(&["kept.test", "*.w.test"]));
    for (number, connection) in cut.iter_mut().enumerate() {
        assert!(connection.ends_within(ENDS), "{number}");
    }
    assert!(kept.iter_mut().all(Connection::answers));
    for (number, connection) in kept_open.iter_mut().enumerate() {
        assert!(!connection.ends_within(Duration::from_millis(200)), "{number}");
    }
    let reply = keep_alive.get(&at("gone.test"), "/");
    assert_eq!((reply.code, deny_reason(&reply)), (403, Some("not-listed")), "on the same connection");
    let line = stack.sidecar.log("the end of the tunnel", |line| {
        line["host"] == at("gone.test").as_str() && line["method"] == "CONNECT"
    });
    assert_eq!(line["details"], "filter_chain_is_being_removed", "{line}");
    let line = stack.control_plane.process().wait_for("the edit", |line| {
        line.contains("-gone.test") && line.contains("what it closes is cut after")
    });
    assert!(line.contains("live on 1 of 1 sidecars"), "{line}");
}

#[test]
fn a_denial_and_an_end_cut_too() {
    let stack = Stack::start("allow: [\"a.test:{port}\", \".w.test:{port}\", \"b.test:{port}\"]\n");
    let open = |host: &str| secure_tunnel(stack.proxy(), &stack.at(host));
    let (mut a, mut b, mut apex, mut below) =
        (open("a.test"), open("b.test"), open("w.test"), open("x.w.test"));
    // A deny entry below a wildcard: its tunnels end, the apex is another form.
    stack.edit(
        "allow: [\"a.test:{port}\", \".w.test:{port}\", \"b.test:{port}\"]\ndeny: [a.test, x.w.test]\n",
    );
    assert!(a.ends_within(ENDS) && below.ends_within(ENDS));
    assert!(b.answers() && apex.answers());
    let mut other = open("y.w.test");
    // What is denied elsewhere changes nothing here.
    stack.edit(
        "allow: [\"a.test:{port}\", \".w.test:{port}\", \"b.test:{port}\"]\ndeny: [a.test, x.w.test, c.test, {host: z.w.test, ports: [1]}]\n",
    );
    assert!(b.answers() && apex.answers() && other.answers());
    // The end of an entry, without an edit.
    let end = prost_types::Timestamp::from(std::time::SystemTime::now() + Duration::from_secs(10));
    let end = prost_types::Timestamp { nanos: 0, ..end };
    stack.edit(&format!(
        "allow: [{{host: b.test, ports: [{{port}}], until: \"{end}\"}}, \"*.w.test:{{port}}\"]\ndeny: [x.w.test]\n"
    ));
    assert!(apex.ends_within(ENDS) && b.answers() && other.answers());
    assert!(b.ends_within(ENDS), "its time is over");
    assert!(other.answers());
    // The file that allows it goes, and another policy comes.
    stack.edit("agents: {one: {match: {node_id: \"sidecar-*\"}, inherit: false, allow: [c.test]}}\nallow: [\"*.w.test:{port}\"]\n");
    assert!(other.ends_within(ENDS));
}

/// An Envoy with other work, whose connections have time to end.
#[test]
fn a_sidecar_that_ends_late_says_so_and_ends() {
    const DRAIN: (&str, Duration) = ("3", Duration::from_secs(3));
    let mut stack = Stack::start("allow: [\"kept.test:{port}\", \"gone.test:{port}\"]\n");
    stack.sidecar.process().signal("-TERM");
    wait_until("the first Envoy is gone", || TcpStream::connect(stack.proxy()).is_err());
    stack.sidecar =
        Sidecar::with_flags(&stack.control_plane, "late", &["--drain-time", DRAIN.0], |text| text);
    wait_until("the second is open", || TcpStream::connect(stack.proxy()).is_ok());
    stack.control_plane.wait_in_sync(1);
    assert_eq!(stack.control_plane.status()["sidecars"][0]["late_revocation"], true);
    let mut gone = secure_tunnel(stack.proxy(), &stack.at("gone.test"));
    let mut kept = secure_tunnel(stack.proxy(), &stack.at("kept.test"));
    let before = Instant::now();
    stack.edit("allow: [\"kept.test:{port}\"]\n");
    assert_eq!(tunnel(stack.proxy(), &stack.at("gone.test")).1.code, 403, "new ones are refused at once");
    assert!(gone.ends_within(ENDS));
    assert!(before.elapsed() >= DRAIN.1, "the test shows nothing: it ended at once");
    assert!(kept.answers());
    let process = stack.control_plane.process();
    process.wait_for("the sidecar", |line| line.contains("goes on there until its drain time is over"));
    process.wait_for("the edit", |line| line.contains("what it closes is cut when the drain time is over"));
    assert_eq!(stack.control_plane.metric("exeat_revocation_seconds_count"), 0.0);
}

/// A tunnel that was opened before an edit, and whose first bytes come after it.
#[test]
fn what_was_let_through_before_an_edit_hangs_on_nothing_after_it() {
    let stack = Stack::start("allow: [\"*.w.test:{port}\", \"a.test:{port}\", \"kept.test:{port}\"]\n");
    let held = |host: &str| {
        let (inside, reply) = tunnel(stack.proxy(), &stack.at(host));
        assert_eq!(reply.code, 200, "{host}");
        (inside, host.to_owned())
    };
    let (denied, limited, kept) = (held("new.w.test"), held("a.test"), held("kept.test"));
    stack.edit(
        "allow: [\"*.w.test:{port}\", {host: a.test, ports: [{port}], max_tunnel: 1h}, \"kept.test:{port}\"]\ndeny: [new.w.test]\n",
    );
    for (inside, host) in [denied, limited] {
        assert!(inside.tls(Some(&host)).is_err(), "{host}");
        stack
            .sidecar
            .log("the refusal", |line| line["host"] == stack.at(&host).as_str() && line["action"] == "deny");
    }
    let (inside, host) = kept;
    assert!(inside.tls(Some(&host)).unwrap().answers());
    let mut again = secure_tunnel(stack.proxy(), &stack.at("a.test"));
    assert!(again.answers() && secure_tunnel(stack.proxy(), &stack.at("x.w.test")).answers());
}

/// What is still allowed stays while an entry is made wider, and something else is taken out in the same edit.
#[test]
fn an_entry_that_is_made_wider_keeps_its_tunnels() {
    let stack = Stack::start("allow: [\"a.test:{port}\", \"gone.test:{port}\"]\n");
    let mut kept = secure_tunnel(stack.proxy(), &stack.at("a.test"));
    let mut gone = secure_tunnel(stack.proxy(), &stack.at("gone.test"));
    stack.edit("allow: [\".a.test:{port}\", \"new.test:{port}\"]\n");
    assert!(gone.ends_within(ENDS) && kept.answers());
    stack.edit("allow: [{host: .a.test, ports: [1, {port}]}, \"other.test:{port}\"]\n");
    assert!(kept.answers());
}

#[test]
fn report_mode_ends_what_only_it_let_through() {
    let stack = Stack::start("mode: report\nallow: [\"a.test:{port}\"]\n");
    let mut listed = secure_tunnel(stack.proxy(), &stack.at("a.test"));
    let mut unlisted = opaque(&stack, "b.test");
    assert!(unlisted.answers());
    stack.edit("mode: report\nallow: [\"a.test:{port}\", c.test]\n");
    assert!(listed.answers() && unlisted.answers());
    stack.edit("allow: [\"a.test:{port}\"]\n");
    assert!(unlisted.ends_within(ENDS) && listed.answers());
}

/// One thousand tunnels, and more than Envoy's default lets a cluster have, over one hundred entries, of which ten go.
#[test]
#[expect(clippy::print_stdout, reason = "how long it took is a result")]
fn of_a_thousand_tunnels_those_of_ten_entries_end() {
    let list = |hosts: std::ops::Range<usize>| -> String {
        hosts.map(|n| format!("- {{host: h{n}.test, ports: [{{port}}], protocol: tcp}}\n")).collect()
    };
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let stack = Stack::start(&list(0..100));
    let mut tunnels: Vec<(usize, Connection)> = (0..1100)
        .map(|n| {
            let mut inside = opaque(&stack, &format!("h{}.test", n % 100));
            // The first answer shows that it is open to the other end.
            assert!((100..1080).contains(&n) || inside.answers());
            (n % 100, inside)
        })
        .collect();
    let begun = Instant::now();
    let text = list(10..100).replace("{port}", &stack.upstream.port().to_string());
    stack.control_plane.write_by_rename(&text);
    let mut took = Vec::new();
    for (host, connection) in tunnels.iter_mut().filter(|(host, _)| *host < 10) {
        assert!(connection.ends_within(ENDS), "h{host}.test");
        took.push(begun.elapsed());
    }
    assert_eq!(took.len(), 110);
    println!("save -> cut of {} tunnels: median {:?}, last {:?}", took.len(), took[55], took[109]);
    for (host, connection) in tunnels.iter_mut().filter(|(host, _)| *host >= 10) {
        assert!(connection.answers(), "h{host}.test");
    }
}

/// Ends the traffic.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Steady traffic, and a thousand edits of other hosts.
#[test]
fn a_thousand_edits_drop_nothing() {
    let edits: u32 = std::env::var("EDITS").map_or(1000, |text| text.parse().unwrap());
    let stack = Stack::start("- keep.test:{port}\n- \"*.keep.test:{port}\"\n");
    let (at, over) = (stack.at("keep.test"), AtomicBool::new(false));
    let asked = AtomicUsize::new(0);
    let mut tunnels: Vec<Connection> =
        ["keep.test", "x.keep.test"].map(|host| secure_tunnel(stack.proxy(), &stack.at(host))).into();
    let mut streams = [streaming(&stack, "keep.test"), websocket(&stack, "x.keep.test")];
    thread::scope(|scope| {
        let steady = || {
            let mut keep_alive = Connection::open(stack.proxy());
            while !over.load(Ordering::Relaxed) {
                assert_eq!(keep_alive.get(&at, "/").code, 200);
                assert_eq!(get(stack.proxy(), &format!("http://{at}/")).code, 200);
                assert_eq!(secure_tunnel(stack.proxy(), &at).get_inside("keep.test").code, 200);
                // No moment of an edit is open to others.
                let never = get(stack.proxy(), &format!("http://{}/", stack.at("never.test")));
                assert_eq!((never.code, deny_reason(&never)), (403, Some("not-listed")));
                asked.fetch_add(3, Ordering::Relaxed);
            }
        };
        let traffic = scope.spawn(steady);
        // Also where an assertion fails.
        let end = Ended(&over);
        for edit in 0..edits {
            let other = edit % 7;
            let deny = if edit % 3 == 1 { "deny: [other.test]\n" } else { "" };
            stack.edit(&format!(
                "{deny}allow:\n  - o{other}.test\n  - \"*.o{edit}.test\"\n  - keep.test:{{port}}\n  - \"*.keep.test:{{port}}\"\n"
            ));
            if edit % 10 == 0 {
                assert!(tunnels.iter_mut().all(Connection::answers), "edit {edit}");
            }
        }
        drop(end);
        traffic.join().unwrap();
    });
    assert!(tunnels.iter_mut().all(Connection::answers));
    assert!(streams.iter_mut().all(|stream| !stream.ends_within(Duration::from_millis(200))));
    assert!(asked.load(Ordering::Relaxed) > 100);
    assert!(!stack.dns.asked().contains(&"never.test".to_owned()));
}
