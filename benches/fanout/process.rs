//! A server process, seen from outside.

use crate::Protocol;
use std::{
    fs,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) async fn start(what: &str, protocol: Protocol, names: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["server", what, protocol.as_str(), &names.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = output.next_line().await.unwrap().unwrap().parse().unwrap();
        Self { address, child, input, output }
    }

    async fn ask(&mut self, line: &str) -> String {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.output.next_line().await.unwrap().unwrap()
    }

    pub(crate) async fn prepare(&mut self, step: usize, nonce: usize) -> Duration {
        Duration::from_nanos(self.ask(&format!("prepare {step} {nonce}")).await.parse().unwrap())
    }

    pub(crate) async fn publish(&mut self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.ask("publish").await.parse().unwrap())
    }

    pub(crate) async fn answered(&mut self, count: usize) {
        self.ask(&format!("answered {count}")).await;
    }

    pub(crate) async fn streams(&mut self, count: usize) {
        self.ask(&format!("streams {count}")).await;
    }

    /// All its threads together. `stat` counts the same in ticks of 10 ms, which is more than many an edit costs.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id().unwrap())).unwrap();
        let nanos = tasks.map(|task| {
            let times = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            times.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanos.sum())
    }

    pub(crate) fn rss_kib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
