//! A running Envoy.

use crate::envoy::Bootstrap;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs, io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::{Child, Command};

/// Envoy gets this long to flush its log before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// An Envoy that ends with this value.
#[derive(Debug)]
pub struct LocalEnvoy {
    child: Child,
}

impl LocalEnvoy {
    /// Writes `bootstrap` into `directory` and starts `binary` with it. The access log goes to `log`.
    pub fn start(binary: &Path, bootstrap: &Bootstrap, directory: &Path, log: Stdio) -> anyhow::Result<Self> {
        let file = directory.join("bootstrap.yaml");
        fs::write(&file, bootstrap.to_string())?;
        let child = Command::new(binary)
            .arg("-c")
            .arg(&file)
            // Connections that an edit revokes end at once; denials show in the log at once.
            .args(["--drain-time-s", "0", "--file-flush-interval-msec", "100"])
            // At level warning, each address range warns that CidrRange is a work in progress, and every stop of the
            // control plane that the stream has ended.
            .args(["--use-dynamic-base-id", "--log-level", "error"])
            // Ctrl-C is for the command in front; Envoy ends after it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { child })
    }

    /// Ends when Envoy has ended by itself.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Stops Envoy.
    pub async fn stop(mut self) {
        terminate(&self.child);
        if tokio::time::timeout(STOP_WITHIN, self.child.wait()).await.is_err() {
            drop(self.child.kill().await);
        }
    }
}

/// Asks a process to end. One that has ended is left alone.
pub fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may end at this very moment.
        let _ = kill_process(pid, Signal::TERM);
    }
}
