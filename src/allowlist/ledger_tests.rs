//! Edits in a row, good and bad.

use super::*;

fn root(files: &[(&str, Result<&'static str, &str>)]) -> Found {
    let files = files.iter().map(|(path, content)| FoundFile {
        path: (*path).into(),
        label: (*path).into(),
        content: content.map(Into::into).map_err(str::to_owned),
    });
    Found { path: "d".into(), files: Ok(files.collect()) }
}

fn now() -> Timestamp {
    Timestamp::parse("2026-11-25").unwrap()
}

fn rules(loaded: &Loaded) -> Vec<String> {
    let policies = loaded.policies.as_ref().unwrap();
    let rules = policies.common().rules();
    rules.iter().map(|rule| format!("{}={}", rule.origin, rule.spelling())).collect()
}

fn codes(state: &FileState) -> Vec<&str> {
    state.diagnostics.iter().map(|found| found.code).collect()
}

#[test]
fn a_bad_file_keeps_its_own_last_good_while_others_go_on() {
    let mut ledger = Ledger::default();
    let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok("- b.com"))])], now());
    assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=b.com"]);
    let loaded = ledger.apply(&[root(&[("a", Ok("- *.a.com")), ("b", Ok("- c.com"))])], now());
    assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=c.com"]);
    assert!(!loaded.files[0].in_force && loaded.files[1].in_force);
    let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Err("busy"))])], now());
    assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=c.com"]);
    assert!(loaded.files[0].in_force && !loaded.files[1].in_force);
    let again = ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Err("busy"))])], now());
    assert_eq!(loaded.files, again.files, "nothing changed");
}

#[test]
fn nothing_is_served_before_every_file_was_good_once() {
    let mut ledger = Ledger::default();
    assert!(ledger.apply(&[], now()).policies.is_none());
    assert!(ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok(""))])], now()).policies.is_none());
    let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok("allow: []"))])], now());
    assert_eq!(rules(&loaded), ["a:1=a.com"]);
}

#[test]
fn a_new_file_that_was_never_good_holds_nobody_back() {
    let mut ledger = Ledger::default();
    ledger.apply(&[root(&[("a", Ok("- a.com\n- b.com"))])], now());
    let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("new", Ok("- *"))])], now());
    assert_eq!(rules(&loaded), ["a:1=a.com"], "a removal is enforced at once");
    assert!(!loaded.files[1].in_force);
}

#[test]
fn a_removed_file_is_an_edit_and_a_lost_directory_is_not() {
    let mut ledger = Ledger::default();
    ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok("- b.com"))])], now());
    let loaded = ledger.apply(&[Found { path: "d".into(), files: Err("gone".into()) }], now());
    assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=b.com"]);
    assert!(loaded.files.iter().all(|file| !file.in_force));
    let loaded = ledger.apply(&[root(&[("b", Ok("- b.com"))])], now());
    assert_eq!(rules(&loaded), ["b:1=b.com"]);
    assert!(loaded.files[0].in_force);
}

#[test]
fn a_group_of_another_file_is_looked_up_and_its_loss_loses_nothing() {
    let mut ledger = Ledger::default();
    let user = ("a", Ok("- \"@g\""));
    let loaded = ledger.apply(&[root(&[user, ("b", Ok("groups: {g: [x.com]}"))])], now());
    assert_eq!(rules(&loaded), ["b:1=x.com"]);
    let loaded = ledger.apply(&[root(&[user, ("b", Ok("groups: {g: [y.com]}"))])], now());
    assert_eq!(rules(&loaded), ["b:1=y.com"]);
    let loaded = ledger.apply(&[root(&[user])], now());
    assert_eq!((rules(&loaded), codes(&loaded.files[0])), (vec!["b:1=y.com".into()], vec!["group-unknown"]));
    let loaded = ledger.apply(&[root(&[user, ("b", Ok("groups: {g: [z.com]}"))])], now());
    assert_eq!((rules(&loaded), loaded.files[0].in_force), (vec!["b:1=z.com".into()], true));
}

#[test]
fn a_failing_test_rejects_the_whole_edit() {
    let mut ledger = Ledger::default();
    let test = ("t", Ok("allow: []\ntests: {deny: [\"https://b.com\"]}"));
    ledger.apply(&[root(&[("a", Ok("- a.com")), test])], now());
    let loaded = ledger.apply(&[root(&[("a", Ok("- .b.com")), test])], now());
    assert_eq!(rules(&loaded), ["a:1=a.com"]);
    assert_eq!((codes(&loaded.files[0]), codes(&loaded.files[1])), (vec!["held-back"], vec!["test-failed"]));
    assert!(loaded.files[1].diagnostics[0].message.contains("a:1 (.b.com)"), "{:?}", loaded.files[1]);
    let loaded = ledger.apply(&[root(&[("a", Ok("- c.com")), test])], now());
    assert_eq!((rules(&loaded), loaded.files[1].in_force), (vec!["a:1=c.com".into()], true));
    // A removal can fail a test, too.
    let test = ("t", Ok("allow: []\ntests: {allow: [\"https://c.com\"]}"));
    assert!(ledger.apply(&[root(&[("a", Ok("- c.com")), test])], now()).files[1].in_force);
    assert_eq!(rules(&ledger.apply(&[root(&[test])], now())), ["a:1=c.com"]);
}

#[test]
fn the_file_that_changed_is_to_blame_for_a_conflict() {
    let mut ledger = Ledger::default();
    let agent = "agents: {x: {match: {node_id: node1}, allow: [x.com]}}";
    ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok(agent))])], now());
    let loaded = ledger.apply(&[root(&[("a", Ok(agent)), ("b", Ok(agent))])], now());
    assert_eq!(
        (rules(&loaded), codes(&loaded.files[0])),
        (vec!["a:1=a.com".into()], vec!["agent-duplicate"])
    );
    assert!(loaded.files[1].in_force);
}

#[test]
fn a_restart_serves_what_was_good_before_and_nothing_else() {
    let saved = || {
        let saved = [("a", "- a.com"), ("gone", "- gone.com"), ("b", "- old.com")];
        saved.into_iter().map(|(path, text)| (Arc::from(path), Bytes::from(text))).collect()
    };
    let mut ledger = Ledger::restoring(saved());
    let loaded = ledger.apply(&[root(&[("a", Ok("- *.a.com")), ("b", Ok("- b.com"))])], now());
    assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=b.com"]);
    assert!(loaded.files[0].restored && !loaded.files[0].in_force && !loaded.files[1].restored);
    let good: Vec<&str> = ledger.last_good().map(|(path, _)| &**path).collect();
    assert_eq!(good, ["a", "b"]);
    let loaded = ledger.apply(&[root(&[("a", Ok("- c.com")), ("b", Ok("- b.com"))])], now());
    assert!(!loaded.files[0].restored && loaded.files[0].in_force);
    // What cannot be looked up falls back as well.
    let loaded = Ledger::restoring(saved()).apply(&[root(&[("a", Ok("- \"@none\""))])], now());
    assert_eq!((rules(&loaded), loaded.files[0].restored), (vec!["a:1=a.com".into()], true));
    // So does an edit that fails a test.
    let saved = [("a", "- a.com"), ("t", "tests: {deny: [\"https://b.com\"]}\nallow: []")];
    let saved = saved.into_iter().map(|(path, text)| (Arc::from(path), Bytes::from(text))).collect();
    let test = ("t", Ok("allow: []\ntests: {deny: [\"https://b.com\"]}"));
    let loaded = Ledger::restoring(saved).apply(&[root(&[("a", Ok("- b.com")), test])], now());
    assert_eq!((rules(&loaded), loaded.files[0].restored), (vec!["a:1=a.com".into()], true));
    assert_eq!(codes(&loaded.files[0]), ["held-back"]);
}

#[test]
fn the_end_of_an_entry_keeps_no_edit_out() {
    let mut ledger = Ledger::default();
    let test = ("t", Ok("allow: [{host: t.com, until: 2026-11-26}]\ntests: {allow: [\"https://t.com\"]}"));
    assert!(ledger.apply(&[root(&[test])], now()).files[0].in_force);
    let later = Timestamp::parse("2026-12-01").unwrap();
    let loaded = ledger.apply(&[root(&[test, ("u", Ok("- u.com"))])], later);
    assert!(loaded.files.iter().all(|file| file.in_force));
    assert_eq!(codes(&loaded.files[0]), ["entry-expired", "test-expired"]);
    assert_eq!(rules(&loaded).len(), 2);
}
