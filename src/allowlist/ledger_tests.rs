//! Edits in a row, good and bad.

use super::*;

fn root(files: &[(&str, Result<&'static str, &str>)]) -> Found {
    let files = files.iter().map(|(path, content)| FoundFile {
        path: (*path).into(),
        label: (*path).into(),
        content: content.map(Into::into).map_err(str::to_owned),
        exposed: None,
    });
    Found { path: "d".into(), included: false, files: Ok(files.collect()) }
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
    let loaded =
        ledger.apply(&[Found { path: "d".into(), included: false, files: Err("gone".into()) }], now());
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
    // Whoever has an error of another kind has both.
    let unknown = ("t", Ok("- \"@none\""));
    let loaded = ledger.apply(&[root(&[("a", Ok("- .b.com")), unknown])], now());
    assert_eq!(codes(&loaded.files[0]), ["held-back"]);
    assert_eq!(codes(&loaded.files[1]), ["group-unknown", "test-failed"]);
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

/// A file that others include.
fn included(path: &str, content: &'static str) -> Found {
    let (path, content): (Arc<str>, _) = (path.into(), Ok(content.into()));
    let file = FoundFile { path: Arc::clone(&path), label: Arc::clone(&path), content, exposed: None };
    Found { path, included: true, files: Ok(vec![file]) }
}

#[test]
fn a_rejected_edit_neither_drops_nor_adds_an_include() {
    let deny = || included("deny.yaml", "deny: [bad.a.com]");
    let more = || included("more.yaml", "- more.com");
    let mut ledger = Ledger::default();
    let start = "include: [deny.yaml]\nallow: [.a.com]";
    let loaded = ledger.apply(&[root(&[("m", Ok(start))]), deny()], now());
    assert_eq!(loaded.policies.unwrap().common().denied().len(), 1);
    // Both are still looked at, since it is not known yet which content counts.
    ledger.read(&[root(&[("m", Ok("include: [more.yaml]\nallow: [.a.com, \"@typo\"]"))]), deny()]);
    let wanted: Vec<String> = ledger.includes().iter().map(Include::path).collect();
    assert_eq!(wanted, ["deny.yaml", "more.yaml"]);
    let bad = "include: [more.yaml]\nallow: [.a.com, \"@typo\"]";
    let loaded = ledger.apply(&[root(&[("m", Ok(bad))]), deny(), more()], now());
    assert_eq!(codes(&loaded.files[1]), ["group-unknown"]);
    assert_eq!(loaded.policies.as_ref().unwrap().common().denied().len(), 1);
    assert_eq!(rules(&loaded), ["m:2=.a.com"]);
    // Accepted, it takes the one and gives the other.
    let good = "include: [more.yaml]\nallow: [.a.com]";
    let loaded = ledger.apply(&[root(&[("m", Ok(good))]), deny(), more()], now());
    assert!(loaded.policies.as_ref().unwrap().common().denied().is_empty());
    assert_eq!(rules(&loaded), ["m:2=.a.com", "more.yaml:1=more.com"]);
}

#[test]
fn a_circle_keeps_what_was_in_force_and_blames_who_closed_it() {
    let mut ledger = Ledger::default();
    let main = ("m.yaml", Ok("include: [g.yaml]\nallow: [a.com]"));
    ledger.apply(&[root(&[main]), included("g.yaml", "- g.com")], now());
    let circle = || included("g.yaml", "include: [m.yaml]\nallow: [other.com]");
    let mut back = included("m.yaml", "include: [g.yaml]\nallow: [a.com]");
    back.path = "m.yaml".into();
    let loaded = ledger.apply(&[root(&[main]), circle(), back], now());
    assert_eq!(rules(&loaded), ["g.yaml:1=g.com", "m.yaml:2=a.com"]);
    assert!(loaded.files.iter().any(|file| codes(file).contains(&"include-cycle")));
    let edit = root(&[("m.yaml", Ok("include: [g.yaml]\nallow: [b.com]"))]);
    let loaded = ledger.apply(&[edit, circle()], now());
    assert!(rules(&loaded).contains(&"m.yaml:2=b.com".to_owned()), "others go on: {:?}", rules(&loaded));
}

#[test]
fn what_was_good_before_the_start_comes_back_only_at_the_start() {
    let saved = || [(Arc::from("a"), Bytes::from("- old.com"))].into();
    let mut ledger = Ledger::restoring(saved());
    assert_eq!(rules(&ledger.apply(&[root(&[("a", Ok("- new.com"))])], now())), ["a:1=new.com"]);
    assert!(rules(&ledger.apply(&[root(&[])], now())).is_empty());
    let loaded = ledger.apply(&[root(&[("a", Ok("- *.old.com"))])], now());
    assert_eq!((rules(&loaded), loaded.files[0].restored), (vec![], false));
}

#[test]
fn an_edit_that_breaks_a_group_in_use_is_rejected() {
    let mut ledger = Ledger::default();
    let user = ("u", Ok("- \"@g\""));
    ledger.apply(&[root(&[("g", Ok("groups: {g: [x.com]}")), user])], now());
    let loaded = ledger.apply(&[root(&[("g", Ok("groups: {h: [x.com]}")), user])], now());
    assert_eq!((codes(&loaded.files[0]), loaded.files[1].in_force), (vec!["group-in-use"], true));
    assert_eq!(rules(&loaded), ["g:1=x.com"]);
    // A group whose file is gone is missing until it comes back, whatever else is edited.
    ledger.apply(&[root(&[user])], now());
    let loaded = ledger.apply(&[root(&[user, ("v", Ok("- v.com"))])], now());
    assert_eq!((codes(&loaded.files[0]), loaded.files[0].in_force), (vec!["group-unknown"], false));
    assert_eq!(rules(&loaded), ["g:1=x.com", "v:1=v.com"]);
}

#[test]
fn groups_in_groups_are_bounded() {
    let mut text = String::from("allow: [a.com]\ngroups:\n  g7: []\n");
    for level in 0..7 {
        let inner = format!("\"@g{}\"", level + 1);
        text.push_str(&format!("  g{level}: [{}]\n", vec![inner; 60].join(", ")));
    }
    let content = Ok(Bytes::from(text));
    let file = FoundFile { path: "a".into(), label: "a".into(), content, exposed: None };
    let found = Found { path: "d".into(), included: false, files: Ok(vec![file]) };
    let loaded = Ledger::default().apply(&[found], now());
    assert_eq!(codes(&loaded.files[0]), ["too-many-entries"]);
}

/// What a file may hold: good alone, good with others, bad, and what fails or passes a test.
const CONTENTS: [&str; 12] = [
    "- a.com",
    "- b.com\n- c.com",
    "allow: [.a.com]\ndeny: [x.a.com]",
    "groups: {g: [g.com]}",
    "groups: {g: [h.com], k: [k.com]}",
    "- \"@g\"",
    "allow: [d.com, \"@k\"]",
    "allow: []\ntests: {deny: [\"https://b.com\"]}",
    "allow: []\ntests: {allow: [\"https://a.com\"]}",
    "agents: {one: {match: {node_id: one}, allow: [o.com]}}",
    "- *.bad.com",
    "",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]

    /// After any edits, what is in force is what the last good contents say together, and looking again changes nothing.
    #[test]
    fn any_row_of_edits_leaves_what_the_last_good_contents_say(
        edits in proptest::collection::vec((0..3_usize, proptest::option::weighted(0.8, 0..CONTENTS.len())), 1..12),
    ) {
        let paths = ["p", "q", "r"];
        let disk = |held: &BTreeMap<&'static str, &'static str>| {
            root(&held.iter().map(|(path, content)| (*path, Ok(*content))).collect::<Vec<_>>())
        };
        let (mut ledger, mut held, mut good) = (Ledger::default(), BTreeMap::new(), BTreeMap::new());
        let mut before: Option<PolicySet> = None;
        for (path, content) in edits {
            match content.and_then(|content| CONTENTS.get(content)) {
                Some(content) => drop(held.insert(paths[path], *content)),
                None => drop(held.remove(paths[path])),
            }
            let loaded = ledger.apply(&[disk(&held)], now());
            let again = ledger.apply(&[disk(&held)], now());
            proptest::prop_assert_eq!(&loaded.files, &again.files);
            proptest::prop_assert_eq!(&loaded.policies, &again.policies);
            if !loaded.settled {
                proptest::prop_assert_eq!(&loaded.policies, &before, "an edit that is kept out changes nothing");
                continue;
            }
            good.retain(|path, _| held.contains_key(path));
            for file in loaded.files.iter().filter(|file| file.in_force) {
                let (path, content) = held.get_key_value(&*file.path).unwrap();
                good.insert(*path, *content);
            }
            let fresh = Ledger::default().apply(&[disk(&good)], now());
            // A group whose file is gone lives on where it is used, of which a fresh look knows nothing.
            let orphaned = loaded.files.iter().any(|file| codes(file).contains(&"group-unknown"));
            if !orphaned && !good.is_empty() {
                proptest::prop_assert_eq!(&loaded.policies, &fresh.policies, "{:?}", good);
            }
            before = loaded.policies;
        }
    }
}

#[test]
fn a_file_that_stays_bad_is_read_once() {
    let mut ledger = Ledger::default();
    let mut text = |a, b| {
        let loaded = ledger.apply(&[root(&[("a", Ok(a)), ("b", Ok(b))])], now());
        let bad = loaded.files[1].diagnostics.first().map(|found| Arc::clone(&found.source.text));
        assert_eq!(bad.is_none(), loaded.files[1].in_force);
        (rules(&loaded), bad)
    };
    text("- a.com", "- b.com");
    let (_, first) = text("- a.com", "- b.com\n- *");
    let (after, again) = text("- c.com", "- b.com\n- *");
    assert_eq!(after, ["a:1=c.com", "b:1=b.com"], "others go on");
    assert!(Arc::ptr_eq(&first.unwrap(), &again.unwrap()), "no second reading of the same text");
    let (after, mended) = text("- c.com", "- b.com\n- d.com");
    assert_eq!((after.len(), mended), (3, None));
    let (after, bad) = text("- c.com", "- b.com\n- *");
    assert_eq!((after.len(), bad.is_some()), (3, true), "what is bad again is said again");
}

#[test]
fn what_one_file_costs_is_bounded() {
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let refused = |text: String| {
        let loaded = Ledger::default().apply(&[root(&[("a", Ok(Box::leak(text.into_boxed_str())))])], now());
        let found = &loaded.files[0].diagnostics;
        found
            .iter()
            .filter(|found| found.severity == crate::allowlist::Severity::Error)
            .map(|found| (found.code, found.span.as_ref().map_or(0, |span| span.line)))
            .next()
    };
    let ports = |count| many(count, &|n| format!("- a.test:{}\n", n + 1));
    assert_eq!(refused(ports(1000)), None);
    assert_eq!(refused(ports(1001)), Some(("too-many-entries", 1001)), "at the first that is too much");
    let paths = many(6, &|n| {
        let paths: Vec<String> = (0..100).map(|path| format!("/{n}/{path}")).collect();
        format!("  - {{host: a.test, protocol: http, ports: [8080, 8081], paths: [{}]}}\n", paths.join(", "))
    });
    assert_eq!(refused(format!("allow:\n{paths}")), Some(("too-many-entries", 7)));
    let tests =
        |count| format!("allow: [a.test]\ntests:\n  deny:\n{}", many(count, &|n| format!("  - b{n}.test\n")));
    assert_eq!((refused(tests(1000)), refused(tests(1001))), (None, Some(("too-many-entries", 3))));
    let used = format!("use: [{}]\nallow: [a.test]\n", many(101, &|_| "doh, ".to_owned()));
    assert_eq!(refused(used), Some(("list-too-long", 1)));
    // 1,001 for everybody, for 999 agents that inherit: in one file too many agents, in two too much of all.
    let agents = |from: usize| {
        let agents =
            many(500, &|n| format!("  a{0}: {{match: {{node_id: n{0}}}, allow: [a.test]}}\n", from + n));
        &*Box::leak(format!("agents:\n{agents}").into_boxed_str())
    };
    let common = &*Box::leak(many(1001, &|n| format!("- h{n}.test\n")).into_boxed_str());
    let mut ledger = Ledger::default();
    let loaded = ledger.apply(&[root(&[("a", Ok(common)), ("b", Ok(agents(0)))])], now());
    assert!(loaded.policies.is_some() && loaded.files.iter().all(|file| file.in_force));
    let loaded =
        ledger.apply(&[root(&[("a", Ok(common)), ("b", Ok(agents(0))), ("c", Ok(agents(500)))])], now());
    let in_force: Vec<bool> = loaded.files.iter().map(|file| file.in_force).collect();
    assert_eq!(in_force, [true, true, false], "{:?}", loaded.files[2]);
    assert_eq!(codes(&loaded.files[2]), ["too-many-entries"]);
    // 250 agents that inherit nothing are denied all the same what everybody is; and paths count in each table.
    let agents = |inherit: bool| {
        many(250, &|n| format!("  a{n}: {{match: {{node_id: n{n}}}, inherit: {inherit}, allow: [a.test]}}\n"))
    };
    let denied = many(4000, &|n| format!("  - b{n}.test\n"));
    assert_eq!(refused(format!("deny:\n{denied}agents:\n{}", agents(false))), Some(("too-many-entries", 0)));
    assert_eq!(refused(format!("allow:\n{denied}agents:\n{}", agents(false))), None);
    let paths = many(200, &|n| format!("  - {{host: b{n}.test, protocol: http, paths: [/v1/*]}}\n"));
    assert_eq!(refused(format!("allow:\n{paths}agents:\n{}", agents(true))), Some(("too-many-entries", 0)));
    assert_eq!(refused(format!("allow:\n{paths}agents:\n{}", agents(false))), None);
}
