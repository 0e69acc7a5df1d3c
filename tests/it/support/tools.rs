//! Other people's programs.

use super::sidecar::target;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Runs a program that the tests need, with no proxy settings of the machine.
pub fn command(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("the tests need {program}: {error}"))
}

/// A directory for PYTHONPATH that holds `requests`, installed once below `target/`.
pub fn python_with_requests() -> PathBuf {
    let tools = target().join("test-tools");
    let directory = tools.join("python");
    fs::create_dir_all(&tools).unwrap();
    let lock = File::create(tools.join("python.lock")).unwrap();
    lock.lock().unwrap();
    if !directory.join("requests").is_dir() {
        let target = directory.to_str().unwrap();
        let output =
            command("python3", &["-m", "pip", "install", "--quiet", "--target", target, "requests==2.32.5"]);
        assert!(
            output.status.success(),
            "cannot install requests: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    directory
}

/// A self-signed certificate for a name: paths of certificate and key.
pub fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let output = command(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            &format!("subjectAltName=DNS:{name}"),
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            certificate.to_str().unwrap(),
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}
