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

/// A directory for PYTHONPATH that holds packages, installed once below `target/`.
pub fn python_with(name: &str, packages: &[&str]) -> PathBuf {
    let tools = target().join("test-tools");
    let directory = tools.join(name);
    fs::create_dir_all(&tools).unwrap();
    let lock = File::create(tools.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    // Renamed when it is whole: an installation that was interrupted does not count.
    if !directory.is_dir() {
        let partial = tools.join(format!("{name}.partial"));
        drop(fs::remove_dir_all(&partial));
        let install = ["-m", "pip", "install", "--quiet", "--target", partial.to_str().unwrap()];
        let output = command("python3", &[&install, packages].concat());
        assert!(
            output.status.success(),
            "cannot install {packages:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::rename(partial, &directory).unwrap();
    }
    directory
}

/// An example of this package, which `cargo test` builds.
pub fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_exeat")).with_file_name("examples").join(name);
    assert!(path.is_file(), "{} is missing: run cargo build --examples", path.display());
    let built = fs::metadata(&path).unwrap().modified().unwrap();
    // What cargo says that it was made of: `PATH: PATH PATH...`.
    let made_of = fs::read_to_string(path.with_extension("d")).unwrap();
    let sources = made_of.split_whitespace().skip(1).filter_map(|source| fs::metadata(source).ok());
    let newest = sources.map(|source| source.modified().unwrap()).max().unwrap();
    assert!(built >= newest, "{} is old: run cargo build --examples", path.display());
    path
}

/// A certificate authority of a test.
pub struct Authority {
    directory: PathBuf,
    pub certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// Makes one, whose files are in `directory`.
    pub fn create(directory: &Path, name: &str) -> Self {
        let file = |ending: &str| directory.join(format!("{name}.{ending}"));
        let (certificate, key) = (file("pem"), file("key"));
        let subject = format!("/CN={name}");
        openssl(
            &format!("req -x509 {NEW_KEY} -days 2"),
            &[
                ("-subj", &subject),
                ("-keyout", key.to_str().unwrap()),
                ("-out", certificate.to_str().unwrap()),
            ],
        );
        Self { directory: directory.to_owned(), certificate, key }
    }

    /// Issues a certificate for names such as `DNS:a.test,IP:127.0.0.1,URI:spiffe://b`: paths of it and its key.
    pub fn issue(&self, file: &str, names: &str) -> (PathBuf, PathBuf) {
        let path = |ending: &str| self.directory.join(format!("{file}.{ending}"));
        let (certificate, key, request, extensions) = (path("pem"), path("key"), path("csr"), path("ext"));
        openssl(
            &format!("req {NEW_KEY} -subj /CN={file}"),
            &[("-keyout", key.to_str().unwrap()), ("-out", request.to_str().unwrap())],
        );
        fs::write(&extensions, format!("subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\n"))
            .unwrap();
        openssl(
            "x509 -req -CAcreateserial -days 2",
            &[
                ("-in", request.to_str().unwrap()),
                ("-CA", self.certificate.to_str().unwrap()),
                ("-CAkey", self.key.to_str().unwrap()),
                ("-extfile", extensions.to_str().unwrap()),
                ("-out", certificate.to_str().unwrap()),
            ],
        );
        (certificate, key)
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn openssl(words: &str, options: &[(&str, &str)]) {
    let mut arguments: Vec<&str> = words.split(' ').collect();
    arguments.extend(options.iter().flat_map(|(option, value)| [*option, *value]));
    let output = command("openssl", &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A self-signed certificate for a name: paths of certificate and key.
pub fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    openssl(
        &format!("req -x509 {NEW_KEY} -days 2"),
        &[
            ("-subj", &format!("/CN={name}")),
            ("-addext", &format!("subjectAltName=DNS:{name}")),
            ("-keyout", key.to_str().unwrap()),
            ("-out", certificate.to_str().unwrap()),
        ],
    );
    (certificate, key)
}
