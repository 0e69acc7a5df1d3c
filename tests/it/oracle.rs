//! `Policy::decide` against the real Envoy: random allowlists, random requests, one meaning.
//!
//! `ORACLE_ROUNDS=1000` compares for longer, `ORACLE_SEED=8` other cases; a failure prints the allowlist.

use crate::support::{
    Connection, Reply, Stack, Upstream,
    allowlists::{allowlist_of_agents, asked, names, policy_of_node},
    deny_reason, exeat, finish, request, request_by_http2, texts, tunnel, tunnel_by_http2, wait_until,
};
use exeat::{
    envoy::{Profile, Resource, compile},
    policy::{AnyRule, DenyReason, Opening, Request, Traffic, Verdict, Via, literal},
};
use proptest::{
    prelude::Just,
    prop_oneof,
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::collections::BTreeMap;

const ROUNDS: usize = 60;
const REQUESTS: usize = 50;
/// The ports of `allowlists` on which somebody answers.
const SERVED: [u16; 2] = [8443, 9000];

/// What Envoy answered, in the words of a verdict: reason and rule, or nothing where it let the request through.
fn answer(reply: &Reply) -> Option<(String, Option<String>)> {
    match deny_reason(reply) {
        Some(reason) => {
            assert_eq!(reply.code, 403);
            let rule = reply.json()["rule"].as_str().map(str::to_owned);
            Some((reason.to_owned(), rule))
        }
        None => {
            // Nobody answers on ports 80 and 443, and at the addresses.
            assert!([200, 503].contains(&reply.code), "{reply:?}");
            None
        }
    }
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// What a tunnel begins with: mostly TLS for its host, else something near it.
fn opening(host: &str) -> impl Strategy<Value = Opening> {
    let host = host.to_ascii_lowercase().trim_end_matches('.').to_owned();
    let below = format!("x.{host}");
    let above = host.split_once('.').map_or_else(|| host.clone(), |(_, above)| above.to_owned());
    prop_oneof![
        5 => Just(Opening::Tls(Some(host.clone()))),
        1 => Just(Opening::Tls(Some(host.to_ascii_uppercase()))),
        1 => Just(Opening::Tls(Some(below))),
        1 => Just(Opening::Tls(Some(above))),
        1 => Just(Opening::Tls(Some("evil.test".to_owned()))),
        1 => Just(Opening::Tls(None)),
        2 => Just(Opening::Other),
    ]
}

/// Of HTTP.
#[derive(Clone, Copy, Debug)]
enum Version {
    One,
    Two,
}

/// The reply, and what is inside if it opened a tunnel.
fn ask(stack: &Stack, version: Version, authority: &str, asked: &Request) -> (Option<Connection>, Reply) {
    let Request { method, path, .. } = asked;
    match (asked.via, version) {
        (Via::Tunnel, Version::One) => {
            let (connection, reply) = tunnel(stack.proxy(), authority);
            (Some(connection), reply)
        }
        (Via::Tunnel, Version::Two) => tunnel_by_http2(stack.proxy(), authority, None),
        (Via::PlainHttp, Version::One) => {
            let head = format!("{method} http://{authority}{path} HTTP/1.1\r\nhost: {authority}\r\n");
            (None, request(stack.proxy(), format!("{head}content-length: 0\r\n\r\n")))
        }
        (Via::PlainHttp, Version::Two) => {
            (None, request_by_http2(stack.proxy(), method, &format!("http://{authority}{path}"), &[]))
        }
    }
}

/// Whether what comes through an open tunnel gets to the other end.
fn gets_through(inside: Option<Connection>, opening: &Opening) -> bool {
    let inside = inside.expect("an open tunnel");
    let mut inside = match opening {
        Opening::Tls(name) => match inside.tls(name.as_deref()) {
            Ok(inside) => inside,
            Err(_) => return false,
        },
        Opening::Other => inside,
    };
    inside.answers()
}

/// Every name leads to somebody who answers on the ports that need no privileges.
fn stack() -> (Stack, Vec<Upstream>) {
    let stack = Stack::start("allow: []\n");
    let address = stack.block.host(2);
    let upstreams = SERVED.map(|port| Upstream::start_at((address, port).into()));
    for name in names() {
        stack.dns.set(&name, &[&address.to_string()]);
    }
    (stack, upstreams.into())
}

#[test]
#[expect(clippy::print_stdout, reason = "how much was compared is a result")]
fn envoy_decides_as_the_reference_does() {
    let (stack, _upstreams) = stack();
    let seed = number("ORACLE_SEED", 7);
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &[u8::try_from(seed).unwrap(); 32]),
    );
    let (mut passed, mut reported, mut denied, mut inside) = (0, 0, 0, BTreeMap::new());
    let mut previous: Option<Vec<Resource>> =
        Some(compile(&policy_of_node("allow: []\n"), &Profile::default()));
    for round in 0..number("ORACLE_ROUNDS", ROUNDS) {
        let text = allowlist_of_agents().new_tree(&mut runner).unwrap().current();
        let policy = policy_of_node(&text);
        // Other words for the same table cannot be told from an edit that is on its way.
        let table = compile(&policy, &Profile::default());
        if previous.as_ref() != Some(&table) {
            stack.control_plane.write_by_rename(&text);
            let admin = stack.control_plane.admin.to_string();
            let live = ["wait", "--live", "--sidecars", "1", "--timeout", "20", "--admin", &admin];
            let (exit, _, error) = texts(finish(exeat().args(live)));
            assert_eq!(exit, Some(0), "{error}");
        }
        for _ in 0..REQUESTS {
            let (authority, mut asked) = asked().new_tree(&mut runner).unwrap().current();
            let served = SERVED.contains(&asked.port.number()) && literal(&asked.host).is_none();
            if asked.via == Via::Tunnel && served {
                asked.opening = opening(&asked.host).new_tree(&mut runner).unwrap().current();
            }
            let version = prop_oneof![3 => Just(Version::One), 1 => Just(Version::Two)];
            let version = version.new_tree(&mut runner).unwrap().current();
            let (connection, reply) = ask(&stack, version, &authority, &asked);
            let seen = answer(&reply);
            let case =
                || format!("seed {seed}, round {round}: {version:?} {authority} {asked:?} with\n{text}");
            let verdict = policy.decide(&asked);
            // Nobody answers with TLS for it; and of what is only denied on trial it cannot be told which entry lets it through.
            let may_originate = match verdict {
                Verdict::Allow(rule) | Verdict::WouldDeny { rule: Some(AnyRule::Allow(rule)), .. } => {
                    matches!(rule.grant.traffic, Traffic::Originate(_))
                }
                Verdict::WouldDeny { rule, .. } => rule.is_some(),
                Verdict::Deny { .. } => false,
            };
            let (expected, rule) = match verdict {
                Verdict::Allow(_) => {
                    passed += 1;
                    (None, None)
                }
                Verdict::WouldDeny { .. } => {
                    reported += 1;
                    (None, None)
                }
                Verdict::Deny { reason, rule } => {
                    denied += 1;
                    (Some(reason), rule.map(|rule: AnyRule<'_>| rule.origin().to_string()))
                }
            };
            // What a tunnel carries is looked at when it is open.
            let late = |reason: DenyReason| {
                asked.via == Via::Tunnel && matches!(reason, DenyReason::SniMismatch | DenyReason::NotTls)
            };
            if let Some(reason) = expected.filter(|reason| late(*reason)) {
                assert_eq!(seen, None, "{}", case());
                assert!(!gets_through(connection, &asked.opening), "{}", case());
                *inside.entry(reason.as_str()).or_insert(0) += 1;
                continue;
            }
            if expected.is_none() && served {
                match asked.via {
                    Via::Tunnel => assert!(gets_through(connection, &asked.opening), "{}", case()),
                    Via::PlainHttp if may_originate => {}
                    Via::PlainHttp => assert_eq!(reply.code, 200, "{}", case()),
                }
            }
            // Envoy names all rules that make up its answer, the closest first.
            let seen = seen.map(|(reason, rule)| {
                (reason, rule.map(|rule| rule.split(", ").next().unwrap_or_default().to_owned()))
            });
            assert_eq!(seen, expected.map(|reason| (reason.as_str().to_owned(), rule)), "{}", case());
        }
        previous = Some(table);
    }
    println!(
        "compared {} requests: {passed} passed, {reported} reported, {denied} denied, of them inside tunnels: {inside:?}",
        passed + reported + denied
    );
    assert!(passed > 100 && reported > 50, "the requests must meet the entries: {passed}, {reported}");
    for (reason, count) in inside {
        wait_until(&format!("the log has {count} times {reason}"), || {
            let lines = stack.sidecar.logged();
            let of_tunnels =
                lines.iter().filter(|line| line["reason"] == reason && line["method"] == "CONNECT");
            of_tunnels.count() >= count
        });
    }
}
