//! Save an allowlist, and measure when a real Envoy first answers differently; against Envoy's own file-based xDS.
//!
//! `cargo bench` runs it and prints a table. ENVOY_BIN names an Envoy; else the cached one is used or installed.
//! Every row is measured in the same run, on the same machine, with the same client: a keep-alive connection that asks
//! for one host without a pause. The reference is what one would write by hand: one virtual host for each entry in a
//! route file that is replaced by a rename.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use support::{Killed, start_envoy};

const SIZES: [usize; 3] = [10, 1_000, 10_000];
const EDITS: usize = 200;
/// The reference needs half a second for each edit of 10,000 entries.
const EDITS_OF_LARGE_REFERENCE: usize = 40;
const TOGGLED: &str = "toggled.bench.test";
const EXEAT_PROXY: &str = "127.0.0.1:11010";
const REFERENCE_PROXY: &str = "127.0.0.1:11011";
const ADMIN: &str = "127.0.0.1:11012";
const XDS: &str = "127.0.0.1:11013";
const IDLE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq)]
enum Save {
    Rename,
    InPlace,
}

fn hosts(count: usize, with_toggled: bool) -> Vec<String> {
    let mut hosts: Vec<_> = (1..count).map(|n| format!("host{n}.some-tenant.bench.test")).collect();
    if with_toggled {
        hosts.push(TOGGLED.to_owned());
    }
    hosts
}

fn allowlist(count: usize, with_toggled: bool) -> String {
    hosts(count, with_toggled).iter().map(|host| format!("- {host}\n")).collect()
}

/// The route table by hand: one virtual host for each entry.
fn route_file(count: usize, with_toggled: bool) -> String {
    let mut text = "resources:\n- \"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n  name: egress\n  virtual_hosts:\n".to_owned();
    for host in hosts(count, with_toggled) {
        text.push_str(&format!(
            "  - name: {host}\n    domains: [\"{host}\", \"{host}:80\", \"{host}:443\"]\n    routes:\n    - match: {{connect_matcher: {{}}}}\n      route: {{cluster: forward, upgrade_configs: [{{upgrade_type: CONNECT, connect_config: {{}}}}]}}\n    - match: {{prefix: /}}\n      route: {{cluster: forward, timeout: 0s}}\n"
        ));
    }
    text.push_str("  - name: deny\n    domains: [\"*\"]\n    routes:\n    - match: {connect_matcher: {}}\n      direct_response: {status: 403}\n    - match: {prefix: /}\n      direct_response: {status: 403}\n");
    text
}

fn reference_bootstrap(directory: &Path, resolver: SocketAddr) -> String {
    let routes = directory.join("routes.yaml").display().to_string();
    let routes = format!(
        "rds: {{route_config_name: egress, config_source: {{path_config_source: {{path: {routes}}}}}}}"
    );
    support::forward_proxy(REFERENCE_PROXY, resolver, &routes)
}

/// A DNS server for which nothing exists: passing the policy shows as 503, and costs the same on both sides.
fn dns() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            query[2] = 0x85;
            query[3] = 0x83;
            let _ = socket.send_to(&query[..length], client);
        }
    });
    address
}

/// A keep-alive connection that asks for the toggled host.
struct Probe {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Probe {
    fn open(proxy: &str) -> Self {
        let end = Instant::now() + Duration::from_secs(60);
        let stream = loop {
            match TcpStream::connect(proxy) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < end, "{proxy}: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    fn denied(&mut self) -> bool {
        self.stream
            .write_all(format!("GET http://{TOGGLED}/ HTTP/1.1\r\nhost: {TOGGLED}\r\n\r\n").as_bytes())
            .unwrap();
        let (mut code, mut length) = (String::new(), 0);
        self.reader.read_line(&mut code).unwrap();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        code.contains(" 403 ")
    }

    fn wait_until(&mut self, denied: bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.denied() != denied {
            assert!(Instant::now() < end, "the edit did not arrive");
        }
    }
}

fn save(path: &Path, text: &str, how: Save) {
    match how {
        Save::Rename => {
            let new = path.with_file_name(".new");
            fs::write(&new, text).unwrap();
            fs::rename(new, path).unwrap();
        }
        Save::InPlace => fs::write(path, text).unwrap(),
    }
}

/// Toggles the host; gives the time of each edit, and when it was saved.
fn edits(
    probe: &mut Probe,
    path: &Path,
    texts: [&str; 2],
    how: Save,
    count: usize,
) -> Vec<(SystemTime, Duration)> {
    let mut times = Vec::new();
    for edit in 0..count {
        let add = edit % 2 == 1;
        // The rename is the save; what is renamed was written before.
        if how == Save::Rename {
            fs::write(path.with_file_name(".new"), texts[usize::from(add)]).unwrap();
        }
        let (wall, start) = (SystemTime::now(), Instant::now());
        match how {
            Save::Rename => fs::rename(path.with_file_name(".new"), path).unwrap(),
            Save::InPlace => fs::write(path, texts[usize::from(add)]).unwrap(),
        }
        probe.wait_until(!add);
        times.push((wall, start.elapsed()));
        // An edit is not due before the one before it is settled.
        thread::sleep(Duration::from_millis(20));
    }
    times
}

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1000.0
}

/// exeat with its log lines.
struct Exeat {
    process: Killed,
    published: Arc<Mutex<Vec<f64>>>,
}

fn start_exeat(list: &Path, resolver: SocketAddr, log: &str) -> Exeat {
    let mut child = support::exeat(list, [XDS, EXEAT_PROXY, ADMIN], resolver)
        .args(["--log-format", "json", "--log", log])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let published = Arc::new(Mutex::new(Vec::new()));
    let (lines, sink) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&published));
    thread::spawn(move || {
        for line in lines.map_while(Result::ok).filter(|line| line.contains("published version")) {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            sink.lock().unwrap().push(second_of_day(line["timestamp"].as_str().unwrap()));
        }
    });
    Exeat { process: Killed(child), published }
}

/// `…T12:34:56.789012Z`.
fn second_of_day(timestamp: &str) -> f64 {
    let time = timestamp.split('T').nth(1).unwrap().trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

/// Milliseconds from a save to the publication that follows it.
fn ours(saved: SystemTime, published: &[f64]) -> Option<Duration> {
    let saved = saved.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() % 86_400.0;
    let next = published.iter().find(|at| **at >= saved)?;
    Some(Duration::from_secs_f64(next - saved))
}

fn row(
    entries: usize,
    what: &str,
    times: &mut [Duration],
    ours: Option<&mut Vec<Duration>>,
    reference: Option<f64>,
) -> f64 {
    let (median, p99) = (percentile(times, 50), percentile(times, 99));
    let ours = ours.map_or_else(String::new, |ours| format!("{:.1}", percentile(ours, 50)));
    let ratio = reference.map_or_else(|| "1".to_owned(), |reference| format!("{:.2}", median / reference));
    println!("| {entries} | {what} | {} | {median:.1} | {p99:.1} | {ours} | {ratio} |", times.len());
    median
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap().split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    // utime and stime in ticks of 10 ms (proc(5), fields 14 and 15).
    (fields[11] + fields[12]) / 100.0
}

fn main() {
    let resolver = dns();
    println!("| entries | saved by | edits | median ms | p99 ms | until published, ms | of the reference |");
    println!("|---|---|---|---|---|---|---|");
    for size in SIZES {
        let directory = tempfile::tempdir().unwrap();
        let reference = {
            let path = directory.path().join("routes.yaml");
            let texts = [route_file(size, false), route_file(size, true)];
            save(&path, &texts[1], Save::InPlace);
            let bootstrap = directory.path().join("reference.yaml");
            fs::write(&bootstrap, reference_bootstrap(directory.path(), resolver)).unwrap();
            let _envoy = start_envoy(&bootstrap);
            let mut probe = Probe::open(REFERENCE_PROXY);
            probe.wait_until(false);
            let count = if size < 10_000 { EDITS } else { EDITS_OF_LARGE_REFERENCE };
            let times = edits(&mut probe, &path, [&texts[0], &texts[1]], Save::Rename, count);
            let mut times: Vec<_> = times.into_iter().map(|(_, time)| time).collect();
            row(size, "Envoy's file xDS, rename", &mut times, None, None)
        };
        let path = directory.path().join("allowlist.yaml");
        let texts = [allowlist(size, false), allowlist(size, true)];
        save(&path, &texts[1], Save::InPlace);
        let exeat = start_exeat(&path, resolver, "info,exeat=debug");
        let _envoy = start_envoy(&support::bootstrap(directory.path(), XDS));
        let mut probe = Probe::open(EXEAT_PROXY);
        probe.wait_until(false);
        for (how, what) in [(Save::Rename, "exeat, rename"), (Save::InPlace, "exeat, in place")] {
            let measured = edits(&mut probe, &path, [&texts[0], &texts[1]], how, EDITS);
            let published = exeat.published.lock().unwrap().clone();
            let mut ours: Vec<_> =
                measured.iter().filter_map(|(saved, _)| ours(*saved, &published)).collect();
            let mut times: Vec<_> = measured.into_iter().map(|(_, time)| time).collect();
            row(size, what, &mut times, Some(&mut ours), Some(reference));
        }
        if size == SIZES[0] {
            let pid = exeat.process.0.id();
            let before = cpu_seconds(pid);
            thread::sleep(IDLE);
            let used = (cpu_seconds(pid) - before) / IDLE.as_secs_f64() * 100.0;
            println!(
                "| {size} | idle server: {used:.2} % of a core, {:.1} MiB | | | | | |",
                support::rss_mib(pid)
            );
        }
    }
}
