//! The descriptors of Envoy's messages that `dump` prints with.

use exeat::envoy::REQUIRED_EXTENSIONS;
use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// What exeat makes beside the configuration of extensions that every Envoy must have.
const OTHERS: [&str; 7] = [
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "envoy.type.matcher.v3.AddressMatcher",
    "google.protobuf.Struct",
];

/// The descriptors that the crate envoy-types ships and does not export.
fn shipped() -> FileDescriptorSet {
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
    FileDescriptorSet::decode(bytes.as_slice()).unwrap()
}

/// What the crate lacks: `src/envoy/server_names.rs` has the messages.
fn server_names() -> FileDescriptorProto {
    let field = |name: &str, number, label: Label, message: Option<&str>| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(if message.is_some() { Type::Message } else { Type::String }.into()),
        type_name: message.map(str::to_owned),
        ..Default::default()
    };
    let matcher = DescriptorProto {
        name: Some("DomainMatcher".to_owned()),
        field: vec![
            field("domains", 1, Label::Repeated, None),
            field("on_match", 2, Label::Optional, Some(".xds.type.matcher.v3.Matcher.OnMatch")),
        ],
        ..Default::default()
    };
    let all = ".xds.type.matcher.v3.ServerNameMatcher.DomainMatcher";
    FileDescriptorProto {
        name: Some("xds/type/matcher/v3/domain.proto".to_owned()),
        package: Some("xds.type.matcher.v3".to_owned()),
        dependency: vec!["xds/type/matcher/v3/matcher.proto".to_owned()],
        message_type: vec![DescriptorProto {
            name: Some("ServerNameMatcher".to_owned()),
            field: vec![field("domain_matchers", 1, Label::Repeated, Some(all))],
            nested_type: vec![matcher],
            ..Default::default()
        }],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

/// Those that are needed, without comments.
fn needed(mut all: FileDescriptorSet) -> FileDescriptorSet {
    all.file.push(server_names());
    let files: BTreeMap<String, _> = all.file.iter().map(|file| (file.name().to_owned(), file)).collect();
    let defines = |name: &str| {
        let (package, message) = name.rsplit_once('.').unwrap();
        all.file
            .iter()
            .find(|file| {
                file.package() == package && file.message_type.iter().any(|one| one.name() == message)
            })
            .unwrap_or_else(|| panic!("{name} is not in envoy-types"))
    };
    let messages = OTHERS.iter().chain(&REQUIRED_EXTENSIONS);
    let mut wanted: Vec<String> = messages.map(|name| defines(name).name().to_owned()).collect();
    let mut kept = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if kept.insert(name.clone()) {
            wanted.extend(files[&name].dependency.iter().cloned());
        }
    }
    let mut file = all.file.clone();
    file.retain(|file| kept.contains(file.name()));
    file.iter_mut().for_each(|file| file.source_code_info = None);
    FileDescriptorSet { file }
}

/// `UPDATE=1 cargo test descriptors` writes them anew.
#[test]
fn descriptors_are_those_of_envoy_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/envoy.binpb");
    let current = needed(shipped()).encode_to_vec();
    if std::env::var_os("UPDATE").is_some() && fs::read(&path).unwrap() != current {
        fs::write(&path, &current).unwrap();
    }
    assert!(fs::read(&path).unwrap() == current, "run UPDATE=1 cargo test descriptors");
}
