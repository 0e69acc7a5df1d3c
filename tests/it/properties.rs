//! What holds for every allowlist.

use crate::support::{
    allowlists::{allowlist, asked, denial, entry, policy},
    evaluate::Table,
};
use exeat::{
    allowlist::print,
    policy::{AnyRule, Change, DenyReason, HostName, Policy, PolicyDiff, Port, Request, Verdict},
};
use proptest::prelude::*;

/// A verdict without the places of its rules.
fn meaning(verdict: Verdict<'_>) -> (bool, Option<DenyReason>) {
    match verdict {
        Verdict::Allow(_) => (true, None),
        Verdict::WouldDeny { reason, .. } => (true, Some(reason)),
        Verdict::Deny { reason, .. } => (false, Some(reason)),
    }
}

fn spellings(policy: &Policy) -> Vec<String> {
    let allowed = policy.rules().iter().map(|rule| rule.spelling());
    let mut all: Vec<String> = allowed.chain(policy.denied().iter().map(|rule| rule.spelling())).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    prop::collection::vec(asked().prop_map(|(_, request)| request), 20)
}

fn with_line(text: &str, list: &str, line: &str) -> String {
    let empty = format!("{list}: []\n");
    let begun = format!("{list}:\n");
    let added = format!("{list}:\n  - {line}\n");
    if text.contains(&empty) { text.replace(&empty, &added) } else { text.replace(&begun, &added) }
}

const PORTS: [&str; 3] = ["80", "443", "8443"];
const ADDRESSES: [&str; 5] = ["8.8.8.8", "8.8.8.9", "8.8.9.1", "9.9.9.9", "8.8.8.08"];

fn address() -> impl Strategy<Value = String> {
    let target = prop::sample::select(vec!["8.8.8.8", "8.8.8.9", "8.8.8.0/24", "8.8.8.8/30", "8.8.0.0/16"]);
    let ports = prop::option::of(prop::sample::select(PORTS.to_vec()));
    (target, ports).prop_map(|(target, port)| {
        let ports = port.map(|port| format!(", ports: [{port}]")).unwrap_or_default();
        format!("{{host: {target}{ports}}}")
    })
}

fn address_entry() -> impl Strategy<Value = String> {
    let way = prop::sample::select(vec![
        "",
        ", mode: report",
        ", protocol: tcp",
        ", protocol: http, methods: [GET]",
    ]);
    (address(), way).prop_map(|(entry, way)| {
        let entry = match way {
            ", protocol: tcp" if !entry.contains("ports") => entry.replace('}', ", ports: [22]}"),
            ", protocol: http, methods: [GET]" => entry.replace("[443]", "[80]"),
            _ => entry,
        };
        entry.replace('}', &format!("{way}}}"))
    })
}

fn asked_by_address() -> impl Strategy<Value = (String, Request)> {
    let address = prop::sample::select(ADDRESSES.to_vec());
    (address, prop::option::of(prop::sample::select(PORTS.to_vec())), any::<bool>()).prop_map(
        |(host, port, tunnel)| {
            let read = |text: &str| Port::parse(text).unwrap();
            match (tunnel, port) {
                (true, port) => {
                    let port = port.unwrap_or("443");
                    (format!("{host}:{port}"), Request::tunnel(host, read(port)))
                }
                (false, Some(port)) => (format!("{host}:{port}"), Request::plain(host, read(port))),
                (false, None) => (host.to_owned(), Request::plain(host, Port::HTTP)),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_the_same(text in allowlist()) {
        let first = policy(&text);
        let printed = print(&first);
        let second = policy(&printed);
        prop_assert_eq!(spellings(&first), spellings(&second), "{}", printed);
        prop_assert_eq!(first.mode(), second.mode());
        prop_assert_eq!(print(&second), printed);
    }

    #[test]
    fn normal_names_stay_as_they_are(name in "[a-zA-ZäöüßéÀ0-9-]{1,10}(\\.[a-zA-Zéß0-9-]{1,8}){1,3}\\.?") {
        if let Ok(once) = HostName::parse(&name) {
            prop_assert_eq!(HostName::parse(once.as_str()), Ok(once));
        }
    }

    #[test]
    fn deny_always_wins(text in allowlist(), denial in denial(), requests in requests()) {
        let policy = policy(&with_line(&text.replace("mode: report\n", ""), "deny", &denial));
        for request in requests {
            let host = request.host.to_ascii_lowercase();
            let host = host.strip_suffix('.').unwrap_or(&host);
            if policy.denied().iter().any(|rule| rule.covers(host, request.port)) {
                let Verdict::Deny { reason, rule: Some(AnyRule::Deny(_)) } = policy.decide(&request) else {
                    panic!("{request:?} passes")
                };
                prop_assert_eq!(reason, DenyReason::DeniedByRule);
            }
        }
    }

    #[test]
    fn order_never_matters(text in allowlist(), requests in requests()) {
        let mut lines: Vec<&str> = text.lines().collect();
        let mut at = 0;
        while at < lines.len() {
            let end = at + lines[at..].iter().take_while(|line| line.starts_with("  - ")).count();
            lines[at..end].reverse();
            at = end + 1;
        }
        let (one, other) = (policy(&text), policy(&(lines.join("\n") + "\n")));
        for request in requests {
            prop_assert_eq!(meaning(one.decide(&request)), meaning(other.decide(&request)), "{:?}", request);
        }
    }

    #[test]
    fn adding_an_entry_never_denies(text in allowlist(), entry in entry(), requests in requests()) {
        let (before, after) = (policy(&text), policy(&with_line(&text, "allow", &entry)));
        for request in requests {
            if before.decide(&request).passes() {
                prop_assert!(after.decide(&request).passes(), "{:?} with {}", request, entry);
            }
        }
    }

    /// What decides about a host is found by its name.
    #[test]
    fn a_part_decides_as_the_whole(
        text in allowlist(), requests in requests(), more in prop::collection::vec(address_entry(), 0..4),
        addresses in prop::collection::vec(asked_by_address(), 10),
    ) {
        let text = more.iter().fold(text, |text, entry| with_line(&text, "allow", entry));
        let policy = policy(&text);
        let index = policy.index();
        for request in requests.iter().chain(addresses.iter().map(|(_, request)| request)) {
            let part = index.part_about(&request.host);
            prop_assert_eq!(part.decide(request), policy.decide(request), "{:?}\n{}", request, text);
        }
    }

    #[test]
    fn diff_agrees_with_decide(old in allowlist(), new in allowlist(), requests in requests()) {
        let (old, new) = (policy(&old), policy(&new));
        let (changes, diff) = (old.changes(&new), PolicyDiff::between(&old, &new));
        let opens = changes.iter().any(|change| matches!(change, Change::Opens { .. }));
        let closes = changes.iter().any(|change| matches!(change, Change::Closes { .. }));
        for request in requests {
            match (old.decide(&request).passes(), new.decide(&request).passes()) {
                (false, true) => prop_assert!(opens && diff.opens, "{:?} {:?}", request, changes),
                (true, false) => prop_assert!(closes && diff.closes, "{:?} {:?}", request, changes),
                _ => {}
            }
        }
        prop_assert!(old.changes(&old).is_empty() && PolicyDiff::between(&new, &new).is_empty());
    }

    /// What is compiled is what is decided, also for addresses that no test may connect to.
    #[test]
    fn compiled_routes_decide_alike(
        text in allowlist(),
        more in prop::collection::btree_set(address_entry(), 0..4),
        less in prop::collection::btree_set(address(), 0..3),
        requests in prop::collection::vec(prop_oneof![asked(), asked_by_address()], 40),
    ) {
        let add = |text: String, line: &String| with_line(&text, "allow", line);
        let text = more.iter().fold(text, add);
        let text = less.iter().fold(text, |text, line| with_line(&text, "deny", line));
        let policy = policy(&text);
        let table = Table::of(&policy);
        for (authority, request) in requests {
            let expected = match policy.decide(&request) {
                Verdict::Allow(_) => "allow/".to_owned(),
                Verdict::WouldDeny { reason, .. } => format!("would-deny/{}", reason.as_str()),
                // A literal would be let through to the guard of addresses, which denies it.
                Verdict::Deny { reason: DenyReason::PrivateAddress, .. } => "would-deny/".to_owned(),
                Verdict::Deny { reason, .. } => format!("deny/{}", reason.as_str()),
            };
            let route = table.route(&authority, &request);
            prop_assert!(route.starts_with(&expected), "{} takes {}, not {}, with\n{}", authority, route, expected, text);
        }
    }

    /// The step between two policies lets through only what both do.
    #[test]
    fn a_narrowed_policy_opens_nothing(old in allowlist(), new in allowlist(), requests in requests()) {
        let (old, new) = (policy(&old), policy(&new));
        let between = new.narrowed_to(&old);
        for request in requests {
            if between.decide(&request).passes() {
                prop_assert!(old.decide(&request).passes() && new.decide(&request).passes(), "{:?}", request);
            }
        }
    }
}
