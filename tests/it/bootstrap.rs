//! `exeat bootstrap`.

use crate::support::{command, envoy_binary, exeat};
use std::fs;

#[test]
fn envoy_accepts_every_form() {
    let directory = tempfile::tempdir().unwrap();
    for address in ["127.0.0.1:18000", "[::1]:18000", "control-plane:18000", "unix:/run/exeat/xds.sock"] {
        let output = exeat()
            .args([
                "bootstrap",
                "--node-id",
                "agent \"1\"",
                "--node-cluster",
                "a: b",
                "--xds-address",
                address,
            ])
            .output()
            .unwrap();
        assert!(output.status.success());
        let file = directory.path().join("bootstrap.yaml");
        fs::write(&file, &output.stdout).unwrap();
        let envoy = envoy_binary();
        let output = command(
            envoy.to_str().unwrap(),
            &["--mode", "validate", "-c", file.to_str().unwrap(), "--log-level", "warning"],
        );
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{address}: {words}");
        assert!(!words.contains("[warning]"), "{address}: {words}");
    }
}

#[test]
fn a_wrong_address_is_explained() {
    let output = exeat().args(["bootstrap", "--node-id", "n", "--xds-address", "http://x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("write HOST:PORT or unix:/path/to/socket"));
}

/// The example that people copy is what the command prints. `UPDATE=1` writes it anew.
#[test]
fn the_example_is_up_to_date() {
    let output = exeat().args(["bootstrap", "--node-id", "agent-1"]).output().unwrap();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/bootstrap.yaml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &output.stdout).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), String::from_utf8(output.stdout).unwrap());
}
