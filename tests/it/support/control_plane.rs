//! `exeat serve` as a process.

use super::{
    address::Block,
    http::get,
    in_sync,
    process::{Process, exeat, wait_until},
};
use exeat::envoy::XdsEndpoint;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub struct ControlPlane {
    process: Option<Process>,
    flags: Vec<String>,
    directory: tempfile::TempDir,
    /// Nobody else gets the addresses while the server lives.
    _block: Block,
    pub xds: XdsEndpoint,
    pub admin: SocketAddr,
}

impl ControlPlane {
    /// Writes `allowlist` to a file and serves it.
    pub fn start(block: &Block, allowlist: &str, flags: &[&str]) -> Self {
        let mut this = Self::prepared(block, flags);
        fs::write(this.allowlist(), allowlist).unwrap();
        this.launch();
        this
    }

    /// As `start`, but nothing runs and no file exists yet.
    pub fn prepared(block: &Block, flags: &[&str]) -> Self {
        let mut all: Vec<String> = ["--log-format", "json"].map(str::to_owned).to_vec();
        all.extend(["--egress-listen".to_owned(), block.egress().to_string()]);
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Self {
            process: None,
            flags: all,
            directory: tempfile::tempdir().unwrap(),
            _block: block.clone(),
            xds: XdsEndpoint::Address((block.host(9), 18_000).into()),
            admin: (block.host(9), 18_001).into(),
        }
    }

    /// Flags of the next launch, after those it has.
    pub fn add_flags(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    /// Flags of the next launch, instead of those it has.
    pub fn replace_flags(&mut self, flags: &[&str]) {
        self.flags = ["--log-format", "json"].iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    }

    pub const fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub fn listen_on_unix(&mut self, path: &Path) {
        self.xds = XdsEndpoint::Unix(path.to_owned());
    }

    pub fn launch(&mut self) {
        let mut command = exeat();
        command
            .current_dir(self.directory.path())
            .arg("serve")
            .args(["--xds-listen", &self.xds.to_string(), "--admin-listen", &self.admin.to_string()])
            .args(&self.flags);
        let process = Process::start(command);
        process.wait_for("listens", |line| line.contains("listens"));
        self.process = Some(process);
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// Where its sidecars listen.
    pub fn egress(&self) -> SocketAddr {
        self._block.egress()
    }

    /// Stops the server as an operator does.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal("-TERM");
        assert!(process.wait().success(), "{}", process.text());
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn allowlist(&self) -> PathBuf {
        self.directory.path().join("allowlist.yaml")
    }

    pub fn write_by_rename(&self, text: &str) {
        let temporary = self.directory.path().join(".new");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.allowlist()).unwrap();
    }

    /// The answer of admin HTTP: status code and body.
    pub fn ask(&self, path: &str) -> (u16, String) {
        let reply = get(self.admin, &format!("http://{}{path}", self.admin));
        (reply.code, reply.body)
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ask("/status").1).unwrap()
    }

    pub fn version(&self) -> String {
        self.status()["version"].as_str().unwrap().to_owned()
    }

    /// The value of a metric, with its labels as written.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.ask("/metrics");
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    pub fn wait_in_sync(&self, sidecars: usize) {
        wait_until("the sidecars are in sync", || in_sync(&self.status(), sidecars));
    }

    /// Waits until so many entries are in force.
    pub fn wait_for_entries(&self, entries: u64) {
        wait_until(&format!("{entries} entries are in force"), || self.status()["entries"] == entries);
    }
}
