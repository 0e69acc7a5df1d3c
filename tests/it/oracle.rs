//! `Policy::decide` against the real Envoy: random allowlists, random requests, one meaning.

use crate::support::{Reply, Stack, deny_reason, request};
use exeat::{
    allowlist::{FileText, combine, parse},
    policy::{Policy, Port, Request, Verdict, Via},
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// Few names and ports, so that entries and requests meet.
const BASES: [&str; 4] = ["nxa.test", "b.nxa.test", "c.b.nxa.test", "nxd.test"];
const PORTS: [&str; 4] = ["80", "443", "8443", "9000"];
const ROUNDS: usize = 25;
const REQUESTS: usize = 60;

fn entry() -> impl Strategy<Value = String> {
    let port = prop::option::of(prop::sample::select(PORTS.to_vec()));
    (prop::sample::select(vec!["", ".", "*."]), prop::sample::select(BASES.to_vec()), port).prop_map(
        |(form, base, port)| match port {
            Some(port) => format!("{form}{base}:{port}"),
            None => format!("{form}{base}"),
        },
    )
}

fn allowlist() -> impl Strategy<Value = String> {
    prop::collection::btree_set(entry(), 0..6).prop_map(|entries| {
        if entries.is_empty() {
            return "allow: []\n".to_owned();
        }
        entries.iter().map(|entry| format!("- \"{entry}\"\n")).collect()
    })
}

/// Host, port if one is written, and how it is asked for.
fn asked() -> impl Strategy<Value = (String, Option<&'static str>, Via)> {
    let host = (
        prop::sample::select(vec!["", "x.", "X.y.", "b.", "not"]),
        prop::sample::select(BASES.to_vec()),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(prefix, base, dot)| format!("{prefix}{base}{}", if dot { "." } else { "" }));
    let port = prop::option::weighted(0.8, prop::sample::select(PORTS.to_vec()));
    (host, port, prop::bool::ANY).prop_map(|(host, port, tunnel)| match (tunnel, port) {
        (true, port) => (host, Some(port.unwrap_or("443")), Via::Tunnel),
        (false, port) => (host, port, Via::PlainHttp),
    })
}

fn policy(text: &str) -> Policy {
    let file = FileText {
        path: "allowlist.yaml".into(),
        label: "allowlist.yaml".into(),
        bytes: text.to_owned().into_bytes().into(),
    };
    let parsed = parse(&file);
    combine([&parsed.entries.unwrap_or_else(|| panic!("{text}: {:?}", parsed.diagnostics))])
}

/// What Envoy answered, in the words of a verdict: reason and rule, or nothing where it let the request through.
/// No such name exists, so letting through shows as a failed resolution.
fn answer(reply: &Reply) -> Option<(String, Option<String>)> {
    match deny_reason(reply) {
        Some(reason) => {
            assert_eq!(reply.code, 403);
            let rule = reply.json()["rule"].as_str().map(str::to_owned);
            Some((reason.to_owned(), rule))
        }
        None => {
            assert_eq!(reply.code, 503, "{reply:?}");
            None
        }
    }
}

#[test]
fn envoy_decides_as_the_reference_does() {
    let stack = Stack::start("allow: []\n");
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    let mut allowed = 0;
    let mut previous = String::new();
    for _ in 0..ROUNDS {
        let text = allowlist().new_tree(&mut runner).unwrap().current();
        if text == previous {
            continue;
        }
        stack.edit(&text);
        previous.clone_from(&text);
        let policy = policy(&text);
        for _ in 0..REQUESTS {
            let (host, port, via) = asked().new_tree(&mut runner).unwrap().current();
            let authority = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
            let bytes = match via {
                Via::Tunnel => format!("CONNECT {authority} HTTP/1.1\r\n\r\n"),
                Via::PlainHttp => format!("GET http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\n\r\n"),
            };
            let seen = answer(&request(stack.proxy(), bytes));
            let asked = Request { host, port: Port::parse(port.unwrap_or("80")).unwrap(), via };
            let expected = match policy.decide(&asked) {
                Verdict::Allow(_) => None,
                Verdict::Deny { reason, rule } => {
                    Some((reason.as_str().to_owned(), rule.map(|rule| rule.origin.to_string())))
                }
            };
            allowed += usize::from(expected.is_none());
            assert_eq!(seen, expected, "{authority} {via:?} with\n{text}");
        }
    }
    assert!(allowed > 50, "the requests must meet the entries: {allowed}");
}
