//! Golden directories: allowlist files in; route table and diagnostics out.
//!
//! `UPDATE=1 cargo test golden` writes the expected files anew and deletes those of cases that are gone.

use exeat::{
    allowlist::{Diagnostic, FileText, Snippet, read},
    envoy::{self, Profile, Resource, ResourceKind, compile},
    policy::Timestamp,
};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn json(resource: &Resource) -> serde_json::Value {
    envoy::json(&resource.body.type_url, &resource.body.value).unwrap()
}

/// When the cases are read.
fn now() -> Timestamp {
    Timestamp::parse("2026-06-01T12:00:00Z").unwrap()
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap())
}

/// Compares with the file, or writes it.
fn expect(path: &Path, actual: Option<&str>) {
    if std::env::var_os("UPDATE").is_some() {
        match actual {
            Some(text) => fs::write(path, text).unwrap(),
            None => drop(fs::remove_file(path)),
        }
        return;
    }
    let expected = fs::read_to_string(path).ok();
    assert!(
        expected.as_deref() == actual,
        "{} differs (UPDATE=1 writes it anew):\n--- expected\n{}\n--- actual\n{}",
        path.display(),
        expected.unwrap_or_default(),
        actual.unwrap_or_default()
    );
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{}\n\n", Snippet { diagnostic, colour: false })).collect()
}

#[test]
fn allowlists() {
    let mut directories: Vec<_> = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.retain(|path| path.is_dir());
    directories.sort();
    assert!(directories.len() >= 20, "the cases are there");
    for directory in directories {
        let mut inputs: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
        inputs.sort();
        let files: Vec<FileText> = inputs
            .iter()
            .map(|input| {
                let name = input.file_name().unwrap().to_str().unwrap();
                FileText { path: name.into(), label: name.into(), bytes: fs::read(input).unwrap().into() }
            })
            .collect();
        let loaded = read(&files, now());
        // Agents' tables beside the common one; clusters only where a policy has its own.
        let policies = loaded.policies.map(|policies| policies.at(now()));
        let mut outputs = vec!["routes.json".to_owned()];
        for (agent, policy) in policies.iter().flat_map(|policies| policies.policies()) {
            let suffix = agent.map_or_else(String::new, |agent| format!(".{agent}"));
            let resources = compile(policy, &Profile::default());
            let of =
                |kind| resources.iter().filter(move |one| one.kind == kind).map(json).collect::<Vec<_>>();
            let routes = of(ResourceKind::RouteConfiguration);
            let name = format!("routes{suffix}.json");
            expect(&directory.join(&name), Some(&pretty(&routes[0])));
            outputs.push(name);
            let mut clusters = of(ResourceKind::Cluster);
            clusters.retain(|cluster| cluster["name"].as_str().unwrap().contains('/'));
            if !clusters.is_empty() {
                let name = format!("clusters{suffix}.json");
                expect(&directory.join(&name), Some(&pretty(&clusters.into())));
                outputs.push(name);
            }
            let name = format!("chains{suffix}.txt");
            expect(&directory.join(&name), Some(&chains(&of(ResourceKind::Listener))));
            outputs.push(name);
        }
        if policies.is_none() {
            expect(&directory.join("routes.json"), None);
        }
        let diagnostics: Vec<Diagnostic> =
            loaded.files.into_iter().flat_map(|file| file.diagnostics).collect();
        let text = rendered(&diagnostics);
        expect(&directory.join("diagnostics.txt"), Some(text.as_str()).filter(|text| !text.is_empty()));
        outputs.push("diagnostics.txt".to_owned());
        stale(&directory, &outputs);
    }
}

/// The chains of internal listeners: what each is called, what leads to it, and where it leads.
fn chains(listeners: &[serde_json::Value]) -> String {
    let mut text = String::new();
    for listener in listeners {
        let matchers = &listener["filter_chain_matcher"];
        let domains = &matchers["matcher_tree"]["custom_match"]["typed_config"]["domain_matchers"];
        let action = |on_match: &serde_json::Value| {
            on_match["action"]["typed_config"]["value"].as_str().map(str::to_owned)
        };
        for chain in listener["filter_chains"].as_array().unwrap().iter().filter(|_| !matchers.is_null()) {
            let name = chain["name"].as_str().unwrap();
            let keys = domains.as_array().into_iter().flatten();
            let keys = keys.filter(|one| action(&one["on_match"]).as_deref() == Some(name));
            let keys: Vec<&str> = keys
                .flat_map(|one| one["domains"].as_array().unwrap())
                .map(|key| key.as_str().unwrap())
                .collect();
            let filters = chain["filters"].as_array().unwrap();
            let cluster = filters.last().unwrap()["typed_config"]["cluster"].as_str().unwrap();
            let has = |name: &str| filters.iter().any(|one| one["name"].as_str().unwrap().ends_with(name));
            let resolves = if has("sni_dynamic_forward_proxy") { " (resolves)" } else { "" };
            let limited = if has("connection_limit") { " (limited)" } else { "" };
            let listener = listener["name"].as_str().unwrap();
            if cluster != name {
                writeln!(text, "{listener}: {name}: [{}] -> {cluster}{resolves}{limited}", keys.join(", "))
                    .unwrap();
            }
        }
    }
    text
}

/// Outputs of former times are deleted, or noticed.
fn stale(directory: &Path, outputs: &[String]) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".yaml") && !outputs.contains(&name) {
            assert!(std::env::var_os("UPDATE").is_some(), "{} is no output any more", path.display());
            fs::remove_file(path).unwrap();
        }
    }
}

/// What no edit touches.
#[test]
fn listeners_and_clusters() {
    let resources = compile(&exeat::policy::Policy::default(), &Profile::default());
    for (kind, file) in [(ResourceKind::Listener, "listeners.json"), (ResourceKind::Cluster, "clusters.json")]
    {
        let all: Vec<_> = resources.iter().filter(|one| one.kind == kind).map(json).collect();
        expect(&cases().join(file), Some(&pretty(&all.into())));
    }
}
