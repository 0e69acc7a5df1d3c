//! `exeat bootstrap`.

use crate::support::{Authority, command, envoy_binary, exeat};
use std::{fs, path::Path};

#[test]
fn envoy_accepts_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path(), "ca");
    let (cert, key) = authority.issue("agent", "DNS:agent.test");
    let [ca, cert, key, secrets] =
        [&authority.certificate, &cert, &key, directory.path()].map(|path: &Path| path.to_str().unwrap());
    let identity = ["--tls-ca", ca, "--tls-cert", cert, "--tls-key", key];
    let forms: [(&str, Vec<&str>); 10] = [
        ("127.0.0.1:18000", vec![]),
        ("[::1]:18000", vec![]),
        ("control-plane:18000", vec![]),
        ("unix:/run/exeat/xds.sock", vec![]),
        ("[::1]:18000", vec!["--tls-ca", ca]),
        ("control-plane:18000", identity.to_vec()),
        ("127.0.0.1:18000", [&identity[..], &["--tls-server-name", "spiffe://a \"b\"/c"]].concat()),
        ("unix:/run/exeat/xds.sock", [&identity[..], &["--tls-server-name", "control-plane"]].concat()),
        ("control-plane:18000", [&identity[..], &["--tls-secrets", secrets]].concat()),
        ("127.0.0.1:18000", vec!["--tls-ca", ca, "--tls-secrets", secrets]),
    ];
    for (address, flags) in forms {
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
            .args(&flags)
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
        assert!(output.status.success(), "{address} {flags:?}: {words}");
        assert!(!words.contains("[warning]"), "{address} {flags:?}: {words}");
    }
}

#[test]
fn tls_is_for_tcp() {
    let socket = ["--xds-address", "unix:/x", "--tls-ca", "ca.pem"];
    let output = exeat().args(["bootstrap", "--node-id", "n"]).args(socket).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("TLS is for TCP"));
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/bootstrap.yaml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &output.stdout).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), String::from_utf8(output.stdout).unwrap());
}
