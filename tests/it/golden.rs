//! Golden directories: allowlist files in; route table and diagnostics out.
//!
//! `UPDATE=1 cargo test golden` writes the expected files anew and deletes those of cases that are gone.

use exeat::{
    allowlist::{Diagnostic, FileText, Snippet, combine, parse},
    envoy::{Profile, Resource, ResourceKind, compile},
};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Envoy's message descriptors, which the crate envoy-types ships and does not export.
fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let rustc = Command::new("rustc").arg("-vV").output().unwrap();
        let rustc = String::from_utf8(rustc.stdout).unwrap();
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let types = packages.iter().find(|package| package["name"] == "envoy-types").unwrap();
        let manifest = Path::new(types["manifest_path"].as_str().unwrap());
        let bytes = fs::read(manifest.with_file_name("src/generated/types.bin")).unwrap();
        DescriptorPool::decode(bytes.as_slice()).unwrap()
    })
}

fn json(resource: &Resource) -> serde_json::Value {
    let name = resource.body.type_url.rsplit('/').next().unwrap();
    let descriptor = pool().get_message_by_name(name).unwrap();
    let message = DynamicMessage::decode(descriptor, resource.body.value.as_slice()).unwrap();
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
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
        let mut entries = Vec::new();
        let mut diagnostics = Vec::new();
        let mut all_good = true;
        for input in inputs {
            let name = input.file_name().unwrap().to_str().unwrap();
            let bytes = fs::read(&input).unwrap().into();
            let parsed = parse(&FileText { path: name.into(), label: name.into(), bytes });
            diagnostics.extend(parsed.diagnostics);
            match parsed.entries {
                Some(file) => entries.push(file),
                None => all_good = false,
            }
        }
        let routes = all_good.then(|| {
            let resources = compile(&combine(&entries), &Profile::default());
            let routes = resources.iter().find(|one| one.kind == ResourceKind::RouteConfiguration).unwrap();
            pretty(&json(routes))
        });
        expect(&directory.join("routes.json"), routes.as_deref());
        let text = rendered(&diagnostics);
        expect(&directory.join("diagnostics.txt"), Some(text.as_str()).filter(|text| !text.is_empty()));
    }
}

/// What no edit touches.
#[test]
fn listener_and_cluster() {
    let resources = compile(&exeat::policy::Policy::default(), &Profile::default());
    for (kind, file) in [(ResourceKind::Listener, "listener.json"), (ResourceKind::Cluster, "cluster.json")] {
        let resource = resources.iter().find(|one| one.kind == kind).unwrap();
        expect(&cases().join(file), Some(&pretty(&json(resource))));
    }
}
