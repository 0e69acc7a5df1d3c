//! The arrows between modules, the size of files, and what each module says of itself.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Which modules each module may use. `metrics` and `telemetry` may be used by all.
const ALLOWED: [(&str, &[&str]); 15] = [
    ("policy", &[]),
    ("source", &[]),
    ("fleet", &[]),
    ("metrics", &[]),
    ("telemetry", &[]),
    ("allowlist", &["policy"]),
    ("envoy", &["policy"]),
    ("snapshot", &["envoy"]),
    ("ads", &["snapshot", "fleet"]),
    ("sidecar", &["envoy"]),
    ("admin", &["fleet", "snapshot", "allowlist", "policy"]),
    ("server", &["admin", "ads", "allowlist", "envoy", "fleet", "policy", "snapshot", "source"]),
    ("cli", &["envoy", "policy", "server"]),
    ("cmd", &["admin", "allowlist", "cli", "envoy", "fleet", "policy", "server", "sidecar"]),
    ("main", &[]),
];
const FOR_ALL: [&str; 2] = ["metrics", "telemetry"];
/// The part of a file before its tests.
const MAX_LINES: usize = 400;
/// Modules that hold no I/O, no clock and no async.
const PURE: [&str; 3] = ["policy", "allowlist", "envoy"];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The top-level module of a file.
fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(root()).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// A file without its tests, which are the last thing in it.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let tests = ["\n#[cfg(test)]\nmod tests", "\n#[cfg(test)]\n#[path"];
    let Some(at) = tests.into_iter().filter_map(|tests| text.find(tests)).min() else { return text };
    let ends = text[at..].lines().filter(|line| *line == "}" || *line == "mod tests;").count();
    assert!(ends == 1 && text.trim_end().ends_with(['}', ';']), "{} goes on after its tests", path.display());
    text[..at].to_owned()
}

/// The modules that `crate::…` paths name, in groups too.
fn uses(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(first_word(rest));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push(first_word(&std::mem::take(&mut item))),
                other if depth == 0 => item.push(other),
                _ => {}
            }
        }
        found.push(first_word(&item));
    }
    found.retain(|name| !name.is_empty());
    found
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn modules_use_only_what_they_may() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    for path in sources(&root()) {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        let may =
            allowed.get(module.as_str()).unwrap_or_else(|| panic!("{module} is not in the list of modules"));
        for used in uses(&code(&path)) {
            let fine = used == module || may.contains(&used.as_str()) || FOR_ALL.contains(&used.as_str());
            assert!(fine, "{} uses {used}", path.display());
        }
    }
}

#[test]
fn the_reader_of_paths_sees_groups() {
    let code =
        "use crate::{\n    admin::{self, X},\n    ads::Y,\n};\nuse crate::policy::Z; crate::fleet::f();";
    assert_eq!(uses(code), ["admin", "ads", "policy", "fleet"]);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for path in sources(&root()) {
        let code = code(&path);
        assert!(code.lines().count() <= MAX_LINES, "{} is long", path.display());
        assert!(code.starts_with("//! "), "{} does not say what it is", path.display());
    }
    for (module, _) in ALLOWED {
        let directory = root().join(module);
        if directory.is_dir() {
            let text = fs::read_to_string(directory.join("mod.rs")).unwrap();
            let says = [
                "Knows nothing of",
                "Must not",
                "the one place that sees all",
                "One module for each subcommand",
            ];
            assert!(
                says.iter().any(|says| text.contains(says)),
                "{module} does not say what it must not know"
            );
        }
    }
}

/// All that can hold a test.
fn tests() -> String {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = fs::read_to_string(repository.join("tests/peers/conformance.py")).unwrap();
    for path in sources(&root()).into_iter().chain(sources(&repository.join("tests"))) {
        code.push_str(&fs::read_to_string(path).unwrap());
    }
    code
}

/// The catalogue names tests, too.
#[test]
fn every_trick_of_the_catalogue_that_is_tried_has_a_test() {
    let (code, directory) = (tests(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/catalogue"));
    let table = fs::read_to_string(directory.join("catalogue.md")).unwrap();
    let cells = table.lines().filter_map(|line| line.trim_end_matches(" |").rsplit(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names: Vec<&str> = names.filter(|name| name.contains('_')).collect();
    assert!(names.len() > 50);
    for name in names {
        let test = name.rsplit("::").next().unwrap();
        assert!(code.contains(&format!("fn {test}(")), "there is no test {name}");
    }
}

/// The table of requirements names tests; a test that is renamed or gone must not stay in it.
#[test]
fn every_requirement_has_a_test() {
    let code = tests();
    let table = fs::read_to_string(root().join("ads/requirements.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 50);
    for row in rows {
        let tests: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|word| word.contains('_')).collect();
        let is_there =
            |test: &&str| code.contains(&format!("fn {test}(")) || code.contains(&format!("def {test}("));
        let tests: Vec<&str> =
            tests.into_iter().filter(|test| is_there(test) || !KNOWN_WORDS.contains(test)).collect();
        assert!(!tests.is_empty(), "no test in {row}");
        for test in tests {
            assert!(is_there(&test), "there is no test {test}");
        }
    }
}

/// Words of the table that are no tests.
const KNOWN_WORDS: [&str; 4] =
    ["error_detail", "system_version_info", "initial_resource_versions", "control_plane"];

#[test]
fn pure_modules_are_pure() {
    let impure =
        ["tokio::", "async fn", "std::fs", "Instant::now", "SystemTime::now", "std::env", "tracing::"];
    let mut files: Vec<_> =
        sources(&root()).into_iter().filter(|path| PURE.contains(&module_of(path).as_str())).collect();
    for machine in [
        "by_kind.rs",
        "delta.rs",
        "machine.rs",
        "outstanding.rs",
        "sotw.rs",
        "subscription.rs",
        "throttle.rs",
        "tracker.rs",
    ] {
        files.push(root().join("ads").join(machine));
    }
    for path in files {
        for word in impure {
            assert!(!code(&path).contains(word), "{} has {word}", path.display());
        }
    }
}
