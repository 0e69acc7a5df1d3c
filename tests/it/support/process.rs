//! Child processes whose output can be waited for.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Far above what anything takes, so that a busy machine does not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Exit code, standard output, standard error.
pub fn texts(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a future gives, or the test fails.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing came")
}

/// Waits for a condition; panics with `what` if it does not come true.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "did not come true: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its end, as `Command::output` does, but not for ever.
pub fn finish(command: &mut Command) -> Output {
    finish_within(command, PATIENCE)
}

/// As [`finish`], with a limit.
pub fn finish_within(command: &mut Command, limit: Duration) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let id = child.id().to_string();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let output = receiver.recv_timeout(limit).unwrap_or_else(|_| {
        drop(Command::new("kill").args(["-KILL", &id]).status());
        panic!("did not end: {command:?}")
    });
    output.unwrap()
}

/// A child process that ends with this value.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), &lines);
        collect(child.stderr.take().unwrap(), &lines);
        Self { child, lines }
    }

    /// Everything printed so far, both outputs.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits for a line and gives it.
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let mut found = None;
        let end = Instant::now() + PATIENCE;
        while found.is_none() {
            found = self.lines().into_iter().find(|line| is_it(line));
            assert!(found.is_some() || Instant::now() < end, "no line with {what} in:\n{}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
        found.unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has now, in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

fn collect(output: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            lines.lock().unwrap().push(line);
        }
    });
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- output of process {} ---\n{}", self.child.id(), self.text());
        }
    }
}

/// The program under test, with none of the machine's settings.
pub fn exeat() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EXEAT_") {
            command.env_remove(name);
        }
    }
    command
}
