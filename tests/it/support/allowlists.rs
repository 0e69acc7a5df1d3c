//! Random allowlists and requests that meet.

use exeat::{
    allowlist::{FileText, read},
    policy::{Policy, PolicySet, Port, Request, Timestamp, Who},
};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Few names and ports, so that entries and requests meet.
const BASES: [&str; 4] = ["nxa.test", "b.nxa.test", "c.b.nxa.test", "nxd.test"];
const ADDRESSES: [&str; 2] = ["127.0.0.9", "[::1]"];
const PORTS: [&str; 4] = ["80", "443", "8443", "9000"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const PATHS: [&str; 5] = ["/", "/v1", "/v1/x", "/v1/x/y", "/v2"];
fn pick(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(from.to_vec())
}

fn host() -> impl Strategy<Value = String> {
    (pick(&["", ".", "*."]), pick(&BASES)).prop_map(|(form, base)| format!("{form}{base}"))
}

/// An entry that allows: plain, or with keys.
pub fn entry() -> impl Strategy<Value = String> {
    let plain = (host(), prop::option::weighted(0.7, pick(&["80", "443", "8443", "8443", "9000", "9000"])))
        .prop_map(|(host, port)| match port {
            Some(port) => format!("\"{host}:{port}\""),
            None => format!("\"{host}\""),
        });
    let http = (
        host(),
        pick(&["80", "8443"]),
        prop::option::of(pick(&METHODS)),
        prop::option::of(pick(&["/v1/*", "/v1", "/*"])),
    )
        .prop_map(|(host, port, method, path)| {
            let methods = method.map(|method| format!(", methods: [{method}]")).unwrap_or_default();
            let paths = path.map(|path| format!(", paths: [{path}]")).unwrap_or_default();
            format!("{{host: \"{host}\", ports: [{port}], protocol: http{methods}{paths}}}")
        });
    let tunnel = (host(), pick(&["tls", "tcp"]), pick(&PORTS)).prop_map(|(host, protocol, port)| {
        format!("{{host: \"{host}\", ports: [{port}], protocol: {protocol}}}")
    });
    let report = (host(), pick(&PORTS)).prop_map(|(host, port)| {
        format!("{{host: \"{host}\", ports: [{port}], mode: report, max_tunnel: 1h}}")
    });
    let originate = (host(), prop::option::of(pick(&METHODS))).prop_map(|(host, method)| {
        let methods = method.map(|method| format!(", methods: [{method}]")).unwrap_or_default();
        format!("{{host: \"{host}\", tls: originate{methods}}}")
    });
    let private = (pick(&ADDRESSES), pick(&PORTS))
        .prop_map(|(host, port)| format!("{{host: \"{host}\", ports: [{port}], private: true}}"));
    // Far above what is asked for, so that only their order counts.
    let limited = (host(), pick(&["443", "8443", "9000"]), pick(&["connections", "upload"])).prop_map(
        |(host, port, key)| {
            let most = if key == "upload" { "1GiB" } else { "1000" };
            format!("{{host: \"{host}\", ports: [{port}], limits: {{{key}: {most}}}}}")
        },
    );
    // The test's clock is before the first and after the second.
    let until = (host(), pick(&PORTS), pick(&["2099-01-01", "2020-01-01"]))
        .prop_map(|(host, port, until)| format!("{{host: \"{host}\", ports: [{port}], until: {until}}}"));
    let listed = (pick(&BASES), pick(&["8443", "9000"]), pick(&["127.0.0.0/8", "10.0.0.0/8, 127.0.0.0/8"]))
        .prop_map(|(host, port, addresses)| {
            format!("{{host: {host}, ports: [{port}], private: true, addresses: [{addresses}]}}")
        });
    prop_oneof![2 => until, 2 => limited, 1 => listed, 8 => plain, 4 => http, 3 => tunnel, 2 => report, 2 => private, 1 => originate]
}

pub fn denial() -> impl Strategy<Value = String> {
    let named = (host(), prop::option::of(pick(&PORTS))).prop_map(|(host, port)| match port {
        Some(port) => format!("\"{host}:{port}\""),
        None => format!("\"{host}\""),
    });
    let addresses = pick(&["127.0.0.0/8", "127.0.0.9", "\"[::1]\"", "{host: 127.0.0.8/31, ports: [443]}"])
        .prop_map(str::to_owned);
    prop_oneof![4 => named, 1 => addresses]
}

pub fn allowlist() -> impl Strategy<Value = String> {
    let allow = prop::collection::btree_set(entry(), 0..9);
    let deny = prop::collection::btree_set(denial(), 0..3);
    let report = prop::bool::weighted(0.15);
    (allow, deny, report).prop_map(|(allow, deny, report)| {
        let list = |name: &str, entries: BTreeSet<String>| {
            if entries.is_empty() {
                return format!("{name}: []\n");
            }
            let lines: String = entries.iter().map(|entry| format!("  - {entry}\n")).collect();
            format!("{name}:\n{lines}")
        };
        let mode = if report { "mode: report\n" } else { "" };
        // Numbers of lines have one digit or two.
        let space = "\n".repeat(5);
        format!("{space}{mode}{}{}", list("allow", allow), list("deny", deny))
    })
}

/// The sidecar that is an agent of some lists.
pub const NODE: &str = "sidecar-1";

/// The same, some with groups, defaults, and an agent.
pub fn allowlist_of_agents() -> impl Strategy<Value = String> {
    let used = pick(&["\"@g\"", "{host: \"@g\", until: 2099-01-01}", "{host: \"@g\", max_tunnel: 2h}"]);
    let group = prop::option::weighted(0.3, (prop::collection::btree_set(entry(), 1..4), used));
    let defaults =
        prop::option::weighted(0.2, pick(&["ports: [8443]", "ports: [80, 9000]", "max_tunnel: 1h"]));
    let own = (prop::collection::btree_set(entry(), 0..5), prop::collection::btree_set(denial(), 0..2));
    let mode = prop::option::weighted(0.3, pick(&["report", "enforce"]));
    let agent = prop::option::weighted(0.4, (prop::bool::ANY, mode, own));
    (allowlist(), group, defaults, agent).prop_map(|(mut text, group, defaults, agent)| {
        let block = |indent: usize, entries: BTreeSet<String>| -> String {
            entries.iter().map(|entry| format!("{:indent$}- {entry}\n", "")).collect()
        };
        if let Some((entries, used)) = group {
            text =
                text.replace("allow: []\n", "allow:\n").replace("allow:\n", &format!("allow:\n  - {used}\n"));
            text.push_str(&format!("groups:\n  g:\n{}", block(4, entries)));
        }
        if let Some(defaults) = defaults {
            text.push_str(&format!("defaults: {{{defaults}}}\n"));
        }
        if let Some((inherit, mode, (allow, deny))) = agent {
            text.push_str(&format!(
                "agents:\n  one:\n    match: {{node_id: {NODE}}}\n    inherit: {inherit}\n"
            ));
            text.extend(mode.map(|mode| format!("    mode: {mode}\n")));
            for (name, entries) in [("allow", allow), ("deny", deny)] {
                if !entries.is_empty() {
                    text.push_str(&format!("    {name}:\n{}", block(6, entries)));
                }
            }
        }
        text
    })
}

const PREFIXES: [&str; 5] = ["", "x.", "X.y.", "b.", "not"];

/// Every name that can be asked for, in lower case.
pub fn names() -> impl Iterator<Item = String> {
    let all = PREFIXES.iter().flat_map(|prefix| BASES.iter().map(move |base| format!("{prefix}{base}")));
    all.map(|name| name.to_ascii_lowercase())
}

/// A request, with the authority as it is written.
pub fn asked() -> impl Strategy<Value = (String, Request)> {
    let prefix = prop_oneof![3 => Just(""), 2 => pick(&PREFIXES)];
    let name = (prefix, pick(&BASES), prop::bool::weighted(0.2))
        .prop_map(|(prefix, base, dot)| format!("{prefix}{base}{}", if dot { "." } else { "" }));
    let host = prop_oneof![5 => name, 1 => pick(&ADDRESSES).prop_map(str::to_owned)];
    let port = prop::option::weighted(0.9, pick(&["80", "443", "8443", "8443", "9000", "9000"]));
    (host, port, prop::bool::ANY, pick(&METHODS), pick(&PATHS)).prop_map(
        |(host, port, tunnel, method, path)| {
            let read = |port: &str| Port::parse(port).unwrap();
            if tunnel {
                let port = port.unwrap_or("443");
                return (format!("{host}:{port}"), Request::tunnel(host, read(port)));
            }
            let authority = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
            let (method, path) = (method.to_owned(), path.to_owned());
            (authority, Request { method, path, ..Request::plain(host, read(port.unwrap_or("80"))) })
        },
    )
}

/// The policy of sidecars that are no agent.
pub fn policy(text: &str) -> Policy {
    policies(text).common().clone()
}

/// The policy of the sidecar that may be an agent.
pub fn policy_of_node(text: &str) -> Policy {
    let policies = policies(text);
    let who = Who { node_id: NODE, ..Who::default() };
    policies.select(&who).unwrap().map_or_else(|| policies.common(), |agent| &agent.policy).clone()
}

fn policies(text: &str) -> PolicySet {
    let file = FileText {
        path: "allowlist.yaml".into(),
        label: "allowlist.yaml".into(),
        bytes: text.to_owned().into_bytes().into(),
    };
    let now = Timestamp::parse("2026-01-01").unwrap();
    let loaded = read(&[file], now);
    loaded.policies.unwrap_or_else(|| panic!("{text}: {:?}", loaded.files)).at(now)
}
