//! Commands that say what files mean: `check`, `why`, `diff`, `dump`, and what is shipped.

use crate::support::{Block, ControlPlane, envoy_binary, exeat, finish, texts};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    texts(finish(exeat().current_dir(directory).args(arguments)))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn the_samples_are_sound_also_for_envoy() {
    let samples = repository().join("deploy/samples");
    let envoy = envoy_binary();
    for sample in ["tiny.yaml", "small.yaml", "medium.yaml", "fleet/main.yaml"] {
        let (code, out, err) = run(&samples, &["check", sample, "--envoy", envoy.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{sample}: {out}{err}");
    }
    let why = |target: &str, agent: &str| {
        let arguments = ["why", target, "--agent", agent, "--allowlist", "fleet/main.yaml"];
        run(&samples, &arguments).0
    };
    assert_eq!(why("https://api.anthropic.com", "openclaw-main"), Some(0));
    assert_eq!(why("db.internal.example.com:5432", "mcp-postgres"), Some(0));
    assert_eq!(why("https://api.anthropic.com", "mcp-postgres"), Some(1));
    assert_eq!(why("https://x.org", "nobody"), Some(2));
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for sample in ["tiny.yaml", "small.yaml", "medium.yaml"] {
        let text = fs::read_to_string(samples.join(sample)).unwrap();
        assert!(readme.contains(&text), "the README shows {sample} as it is");
    }
}

/// A valid file that Envoy rejected would not be enforced.
#[test]
fn what_is_valid_is_valid_for_envoy() {
    let directory = tempfile::tempdir().unwrap();
    let mut list = String::from("deny:\n");
    for n in 0..250 {
        list.push_str(&format!("  - .a-denied-host-{n}.of-some-length.example\n"));
    }
    list.push_str("  - 9.9.0.0/16\nallow:\n");
    let octets: Vec<String> =
        (b'A'..=b'Z').map(|letter| format!("M{0}{0}{0}{0}{0}{0}", char::from(letter))).collect();
    list.push_str(&format!(
        "  - {{host: m.example, protocol: http, methods: [{}], paths: [/v1/*]}}\n",
        octets.join(", ")
    ));
    let ports: Vec<String> = (1..=16).map(|port| (port * 1111).to_string()).collect();
    for n in 0..63 {
        list.push_str(&format!(
            "  - {{host: 8.{n}.0.0/17, ports: [{}], max_tunnel: {}s}}\n",
            ports.join(", "),
            n + 1
        ));
    }
    list.push_str("  - {host: \"2606:4700::1111\", ports: [443]}\n  - {host: db, ports: [5432], protocol: tcp, private: true}\n");
    list.push_str(
        "  - {host: lim.example, limits: {connections: 2, requests_per_minute: 1500, upload: 1GiB, idle: 1h}}\n  - {host: api.example, tls: \
         originate, paths: [/v1/*]}\n  - {host: db2.example, ports: [5432], private: true, addresses: [10.0.5.0/24]}\nagents:\n  one: {match: \
         {node_id: one}, mode: report, max_connections: 9}\n",
    );
    fs::write(directory.path().join("allowlist.yaml"), list).unwrap();
    let envoy = envoy_binary();
    let (code, out, err) = run(directory.path(), &["check", "--envoy", envoy.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn envoy_has_the_last_word() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("allowlist.yaml"), "- a.test\n").unwrap();
    let refuses = directory.path().join("envoy");
    fs::write(&refuses, "#!/bin/sh\necho 'error initializing configuration: no' >&2\nexit 1\n").unwrap();
    assert!(finish(std::process::Command::new("chmod").arg("+x").arg(&refuses)).status.success());
    let (code, out, _) = run(directory.path(), &["check", "--envoy", "./envoy"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("Envoy refuses the resources: error initializing configuration: no"), "{out}");
    assert_eq!(run(directory.path(), &["check", "--envoy", "./none"]).0, Some(2));
}

#[test]
fn diff_says_what_opens_and_closes() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write(
        "old.yaml",
        "allow: [a.test, .b.test, gone.test]\ndeny: [x.b.test]\nagents: {one: {match: {node_id: one}}}\n",
    );
    write(
        "new.yaml",
        "# moved\nallow:\n  - a.test\n  - .b.test\n  - y.b.test\n  - \"*.c.test\"\n  - {host: db, ports: [1], private: true}\n\
         agents:\n  one: {match: {node_id: one}, allow: [own.test]}\n  two: {match: {node_id: two}, mode: report}\n",
    );
    let (code, out, _) = run(directory.path(), &["diff", "old.yaml", "new.yaml"]);
    let expected = " opens *.c.test (new.yaml:6)  <- look twice: a wildcard
 opens db:1 (private) (new.yaml:7)  <- look twice: a private target
 opens x.b.test (old.yaml:2)  <- look twice: a deny entry is gone
closes gone.test (old.yaml:1)
agent one:
 opens own.test (new.yaml:9)
agent two is new, against the common policy:
 opens mode: report  <- look twice: everything else passes and is reported
";
    assert_eq!((code, out.as_str()), (Some(1), expected));
    assert_eq!(run(directory.path(), &["diff", "new.yaml", "new.yaml"]).0, Some(0));
    let (code, out, _) = run(directory.path(), &["diff", "new.yaml", "old.yaml", "--json"]);
    let groups: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &groups[0]["changes"][0]["opens"]), (Some(1), &true.into()));
    write("bad.yaml", "allow:\n");
    assert_eq!(run(directory.path(), &["diff", "bad.yaml", "new.yaml"]).0, Some(2));
}

#[test]
fn a_running_control_plane_says_the_same_as_its_files() {
    let list = "allow: [.a.test]\nagents:\n  one:\n    match: {node_id: one}\n    allow:\n      - {host: b.test, protocol: http, \
                methods: [GET], owner: dana}\n";
    let server = ControlPlane::start(&Block::claim(), list, &[]);
    let admin = server.admin.to_string();
    for question in [
        ["x.a.test", "", ""],
        ["http://b.test/", "one", "POST"],
        ["https://x.a.test", "one", ""],
        ["b.test", "", ""],
    ] {
        let [target, agent, method] = question;
        let mut arguments = vec!["why", target];
        for (flag, value) in [("--agent", agent), ("--method", method)] {
            if !value.is_empty() {
                arguments.extend([flag, value]);
            }
        }
        let files = run(server.directory(), &arguments);
        let asked = run(server.directory(), &[arguments.as_slice(), &["--server", &admin]].concat());
        assert_eq!(files, asked);
    }
    let (_, out, _) =
        run(server.directory(), &["why", "POST http://b.test/", "--agent", "one", "--server", &admin]);
    assert!(
        out.contains("method-not-allowed")
            && out.contains("| - {host: b.test")
            && out.contains("owner: dana"),
        "{out}"
    );
    let (code, _, err) = run(server.directory(), &["why", "a.test", "--agent", "two", "--server", &admin]);
    assert_eq!(code, Some(2));
    assert!(err.contains("there is no agent `two`"), "{err}");
    for agent in [[].as_slice(), &["--agent", "one"]] {
        let profile = ["--egress-listen", &server.egress().to_string()].map(str::to_owned);
        let profile: Vec<&str> = profile.iter().map(String::as_str).collect();
        let files = run(server.directory(), &[&["dump", "--format", "json"], agent, &profile].concat());
        let asked =
            run(server.directory(), &[&["dump", "--format", "json", "--server", &admin], agent].concat());
        assert_eq!(files.0, Some(0), "{}", files.2);
        assert_eq!(files, asked);
    }
    let (_, routes, _) = run(server.directory(), &["dump", "--type", "rds"]);
    assert!(routes.contains("virtual_hosts:") && routes.contains("x-envoy-internal"), "{routes}");
    assert!(!routes.contains("load_assignment"));
}

#[test]
fn what_is_shipped_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let print = |arguments: &[&str]| {
        let (code, out, err) = run(directory.path(), arguments);
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let list = print(&["presets"]);
    assert!(list.lines().any(|line| line.starts_with("github  ") || line.starts_with("github ")), "{list}");
    let preset = print(&["presets", "show", "relays"]);
    fs::write(directory.path().join("relays.yaml"), &preset).unwrap();
    assert_eq!(run(directory.path(), &["check", "relays.yaml"]).0, Some(0), "a preset is an allowlist file");
    let (code, _, err) = run(directory.path(), &["presets", "show", "gihub"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("did you mean `github`?"), "{err}");
    assert!(print(&["env"]).contains("export https_proxy='http://127.0.0.1:10000'\n"));
    let compose = print(&["env", "--compose", "--proxy", "egress:3128"]);
    assert!(compose.starts_with("environment:\n  HTTP_PROXY: \"http://egress:3128\"\n"), "{compose}");
    assert!(print(&["env", "--dockerfile"]).contains("ENV NODE_USE_ENV_PROXY=\"1\"\n"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(print(&["completions", shell]).contains("exeat"));
    }
}

/// The schema names exactly the keys that the reader knows.
#[test]
fn the_schema_is_that_of_the_language() {
    let directory = tempfile::tempdir().unwrap();
    let (_, text, _) = run(directory.path(), &["schema"]);
    assert_eq!(text, fs::read_to_string(repository().join("deploy/allowlist.schema.json")).unwrap());
    let schema: Value = serde_json::from_str(&text).unwrap();
    let known = |list: &str| -> BTreeSet<String> {
        fs::write(directory.path().join("allowlist.yaml"), list).unwrap();
        let (_, out, _) = run(directory.path(), &["check", "--json"]);
        let report: Value = serde_json::from_str(&out).unwrap();
        let help = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find_map(|found| found["help"].as_str()?.strip_prefix("known keys: "));
        help.unwrap_or_else(|| panic!("{out}")).split(", ").map(str::to_owned).collect()
    };
    let mut in_schema = BTreeSet::new();
    properties(&schema, &mut in_schema);
    for list in [
        "zzzzzzzz: 1\nallow: []\n",
        "- {host: a.test, zzzzzzzz: 1}\n",
        "- {host: a.test, limits: {zzzzzzzz: 1}}\n",
        "agents: {x: {zzzzzzzz: 1}}\n",
        "agents: {x: {match: {zzzzzzzz: 1}}}\n",
        "defaults: {zzzzzzzz: 1}\nallow: []\n",
        "tests: {zzzzzzzz: 1}\nallow: []\n",
        "tests: {allow: [{zzzzzzzz: 1}]}\nallow: []\n",
    ] {
        let keys = known(list);
        assert!(in_schema.contains(&keys), "{keys:?} is not in the schema: {in_schema:?}");
    }
    let presets: BTreeSet<String> = run(directory.path(), &["presets"])
        .1
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    let mut enums = BTreeSet::new();
    enumerations(&schema, &mut enums);
    assert!(enums.contains(&presets), "{enums:?}");
}

/// The key sets of all objects.
fn properties(schema: &Value, found: &mut BTreeSet<BTreeSet<String>>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        found.insert(properties.keys().cloned().collect());
    }
    children(schema, |child| properties(child, found));
}

fn enumerations(schema: &Value, found: &mut BTreeSet<BTreeSet<String>>) {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        found.insert(values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect());
    }
    children(schema, |child| enumerations(child, found));
}

fn children(value: &Value, mut each: impl FnMut(&Value)) {
    match value {
        Value::Object(fields) => fields.values().for_each(&mut each),
        Value::Array(items) => items.iter().for_each(&mut each),
        _ => {}
    }
}
