//! `Policy::decide` against the real Envoy: random allowlists, random requests, one meaning.
//!
//! `ORACLE_ROUNDS=1000` compares for longer, `ORACLE_SEED=8` other cases; a failure prints the allowlist.

use crate::support::{
    Reply, Stack,
    allowlists::{allowlist, asked, policy},
    deny_reason, request,
};
use exeat::{
    envoy::{Profile, Resource, compile},
    policy::{AnyRule, Request, Verdict, Via},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

const ROUNDS: usize = 60;
const REQUESTS: usize = 50;

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
            // A tunnel to an address that is listed is open before it leads anywhere.
            assert!([200, 503].contains(&reply.code), "{reply:?}");
            None
        }
    }
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[expect(clippy::print_stdout, reason = "how much was compared is a result")]
fn envoy_decides_as_the_reference_does() {
    let stack = Stack::start("allow: []\n");
    let seed = [u8::try_from(number("ORACLE_SEED", 7)).unwrap(); 32];
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let (mut passed, mut reported, mut denied) = (0, 0, 0);
    let mut previous: Option<Vec<Resource>> = Some(compile(&policy("allow: []\n"), &Profile::default()));
    for _ in 0..number("ORACLE_ROUNDS", ROUNDS) {
        let text = allowlist().new_tree(&mut runner).unwrap().current();
        let policy = policy(&text);
        // Other words for the same table cannot be told from an edit that is on its way.
        let table = compile(&policy, &Profile::default());
        if previous.as_ref() != Some(&table) {
            stack.edit(&text);
        }
        for _ in 0..REQUESTS {
            let (authority, asked) = asked().new_tree(&mut runner).unwrap().current();
            let bytes = match asked.via {
                Via::Tunnel => format!("CONNECT {authority} HTTP/1.1\r\n\r\n"),
                Via::PlainHttp => {
                    let Request { method, path, .. } = &asked;
                    format!("{method} http://{authority}{path} HTTP/1.1\r\nhost: {authority}\r\n\r\n")
                }
            };
            let seen = answer(&request(stack.proxy(), bytes));
            let expected = match policy.decide(&asked) {
                Verdict::Allow(_) => {
                    passed += 1;
                    None
                }
                Verdict::WouldDeny { .. } => {
                    reported += 1;
                    None
                }
                Verdict::Deny { reason, rule } => {
                    denied += 1;
                    Some((
                        reason.as_str().to_owned(),
                        rule.map(|rule: AnyRule<'_>| rule.origin().to_string()),
                    ))
                }
            };
            // Envoy names all rules that make up its answer, the closest first.
            let seen = seen.map(|(reason, rule)| {
                (reason, rule.map(|rule| rule.split(", ").next().unwrap_or_default().to_owned()))
            });
            assert_eq!(seen, expected, "{authority} {asked:?} with\n{text}");
        }
        previous = Some(table);
    }
    println!(
        "compared {} requests: {passed} passed, {reported} reported, {denied} denied",
        passed + reported + denied
    );
    assert!(passed > 100 && reported > 50, "the requests must meet the entries: {passed}, {reported}");
}
