//! How long an allowlist takes from text to published bytes, and how much memory.
//!
//! `cargo bench --bench load`. Each size runs in a process of its own, so that peaks are its own. The reference is the YAML
//! parser alone: the same text as a list of strings.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use exeat::{
    allowlist::{Found, FoundFile, Ledger},
    envoy::{self, Profile},
    policy::Timestamp,
    snapshot::{Snapshot, Store, Urgency},
};
use std::{
    fmt::Write,
    process::Command,
    time::{Duration, Instant},
};

const SIZES: [usize; 3] = [100, 10_000, 100_000];
const EDITS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--size") {
        return measure(arguments[at + 1].parse().unwrap());
    }
    println!(
        "| entries | YAML alone | load, compile, publish | of that reading | ratio | peak memory | one-entry edit |"
    );
    println!("|---|---|---|---|---|---|---|");
    for size in SIZES {
        let output = Command::new(&arguments[0]).args(["--size", &size.to_string()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        print!("{}", String::from_utf8(output.stdout).unwrap());
    }
}

fn text(entries: usize, edit: usize) -> String {
    (0..entries).fold(String::new(), |mut text, n| {
        let mark = if n == entries / 2 { edit } else { 0 };
        writeln!(text, "- h{n}-{mark}.example.test").unwrap();
        text
    })
}

fn found(text: &str) -> [Found; 1] {
    let content = Ok(text.as_bytes().to_vec().into());
    let file =
        FoundFile { path: "allowlist.yaml".into(), label: "allowlist.yaml".into(), content, exposed: None };
    [Found { path: "allowlist.yaml".into(), included: false, files: Ok(vec![file]) }]
}

/// Resident memory now and at its peak, in KiB.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

fn measure(size: usize) {
    let now = Timestamp::parse("2026-01-01").unwrap();
    let first = text(size, 0);
    let (before, _) = memory();
    let mut ledger = Ledger::default();
    let store = Store::new();
    let mut publish = |text: &str| -> (Duration, Duration) {
        let found = found(text);
        let start = Instant::now();
        let policies = ledger.apply(&found, now).policies.unwrap().at(now);
        let read = start.elapsed();
        let resources = envoy::compile(policies.common(), &Profile::default());
        let current = store.current();
        let current = current.as_ref().map(|published| &*published.snapshot);
        let snapshot = Snapshot::new(resources, &envoy::fallbacks(), current);
        store.publish(snapshot, Urgency::Additions).unwrap();
        (start.elapsed(), read)
    };
    let (all, read) = publish(&first);
    let (_, peak) = memory();
    let mut edits: Vec<Duration> = (1..=EDITS).map(|edit| publish(&text(size, edit)).0).collect();
    edits.sort_unstable();
    let start = Instant::now();
    let hosts: Vec<String> = exeat::allowlist::from_yaml(&first).unwrap();
    let alone = start.elapsed();
    assert_eq!(hosts.len(), size);
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    println!(
        "| {size} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} | {} MiB | {:.1} ms |",
        ms(alone),
        ms(all),
        ms(read),
        ms(all) / ms(alone),
        peak.saturating_sub(before) / 1024,
        ms(edits[EDITS / 2]),
    );
}
