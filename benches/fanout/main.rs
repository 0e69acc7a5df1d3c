//! How fast `snapshot` and `ads` bring edits to many clients; against a server that only writes the same bytes.
//!
//! `cargo bench --bench fanout` runs it and prints a table. Of each cell the first number is exeat's, the second the
//! floor's: a tonic server with the same transport that writes one ready piece of memory to every stream, and neither
//! decodes what clients say nor knows what they have. For each row both servers run at once, each with all its clients,
//! and take turns with every edit, so that noise of the machine hits both. Clients are in this process and cost both
//! servers the same.
//!
//! An edit changes one of the names. Its time begins when what was made of it is published; making it is a column of
//! its own. Its CPU is all that the server uses until the last ACK is counted.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod client;
mod process;
mod server;

use client::Clients;
use envoy_types::pb::{
    envoy::config::cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType},
    },
    google::protobuf::Any,
};
use process::Process;
use prost::Message;
use std::time::{Duration, Instant, SystemTime};

pub(crate) const TYPE_URL: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Clients, and edits: one client needs more of them to be measured.
const CLIENTS: [(usize, usize); 3] = [(1, 201), (100, 61), (1_000, 21)];
const NAMES: [usize; 2] = [1_000, 10_000];
/// First syncs; after the first one, all clients leave and come back.
const SYNCS: usize = 5;
/// Edits with one client before anything is measured, so that memory has grown to what edits need.
const WARM_UP: usize = 5;
const IDLE: Duration = Duration::from_secs(5);
/// With fewer streams, what one costs is less than what the heap grows or shrinks by with each set.
const MANY: usize = 1_000;
/// For both sides of all connections.
const FILES: u64 = 8192;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    Sotw,
    Delta,
}

impl Protocol {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sotw => "sotw",
            Self::Delta => "delta",
        }
    }

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Sotw => "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            Self::Delta => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        }
    }
}

/// What is served after so many edits. Each changes one name, and no length.
pub(crate) fn resources(names: usize, step: usize) -> impl Iterator<Item = (String, Any)> {
    (0..names).map(move |index| {
        let revision = if index <= step { (step - index) / names * names + index } else { 0 };
        let name = format!("cluster-{index:05}");
        let cluster = Cluster {
            name: name.clone(),
            alt_stat_name: format!("r{revision:05}"),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
            ..Default::default()
        };
        (name, Any { type_url: TYPE_URL.to_owned(), value: cluster.encode_to_vec() })
    })
}

/// One server of a row, and what was measured of it.
struct Side {
    process: Process,
    step: usize,
    nonce: usize,
    answered: usize,
    clients: Option<Clients>,
    count: usize,
    rss_before: f64,
    sync: Vec<f64>,
    sync_bytes: u64,
    made: Vec<f64>,
    p50: Vec<f64>,
    last: Vec<f64>,
    cpu: Duration,
    edit_bytes: u64,
    idle: f64,
}

impl Side {
    /// Starts a server, lets one client come and go, and connects the clients.
    async fn start(what: &str, protocol: Protocol, names: usize, count: usize) -> Self {
        let mut process = Process::start(what, protocol, names).await;
        process.prepare(0, 1).await;
        process.publish().await;
        let mut side = Self {
            process,
            step: 0,
            nonce: 1,
            answered: 0,
            clients: None,
            count: 1,
            rss_before: 0.0,
            sync: Vec::new(),
            sync_bytes: 0,
            made: Vec::new(),
            p50: Vec::new(),
            last: Vec::new(),
            cpu: Duration::ZERO,
            edit_bytes: 0,
            idle: 0.0,
        };
        side.connect(protocol).await;
        side.sync().await;
        for _ in 0..WARM_UP {
            side.edit().await;
        }
        side.clients = None;
        side.process.streams(0).await;
        side.rss_before = side.process.rss_kib();
        (side.count, side.cpu, side.edit_bytes) = (count, Duration::ZERO, 0);
        [&mut side.sync, &mut side.made, &mut side.p50, &mut side.last].into_iter().for_each(Vec::clear);
        side.connect(protocol).await;
        side
    }

    /// Replaces all clients with new ones.
    async fn connect(&mut self, protocol: Protocol) {
        self.clients = None;
        self.process.streams(0).await;
        self.nonce = 1;
        self.clients = Some(Clients::open(self.count, self.process.address, protocol).await);
    }

    async fn sync(&mut self) {
        let clients = self.clients.as_mut().unwrap();
        let begun = clients.ask();
        let round = clients.round().await;
        self.sync.push(milliseconds(begun.elapsed()));
        self.sync_bytes = round.bytes;
        self.answered += self.count;
        self.process.answered(self.answered).await;
    }

    async fn edit(&mut self) {
        self.step += 1;
        self.nonce += 1;
        self.made.push(milliseconds(self.process.prepare(self.step, self.nonce).await));
        let cpu = self.process.cpu();
        let published = self.process.publish().await;
        let round = self.clients.as_mut().unwrap().round().await;
        self.answered += self.count;
        self.process.answered(self.answered).await;
        self.cpu += self.process.cpu() - cpu;
        let since = |at: &SystemTime| milliseconds(at.duration_since(published).unwrap_or_default());
        let mut times: Vec<f64> = round.times.iter().map(since).collect();
        self.p50.push(median(&mut times));
        self.last.push(times[times.len() - 1]);
        self.edit_bytes += round.bytes;
    }

    fn per_client(&self, bytes: u64, messages: usize) -> f64 {
        bytes as f64 / (self.count * messages) as f64
    }

    fn kib_per_stream(&self) -> f64 {
        (self.process.rss_kib() - self.rss_before) / self.count as f64
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `ours / floor = ratio`.
fn cell(ours: f64, floor: f64, digits: usize) -> String {
    format!("{ours:.digits$} / {floor:.digits$} = **{:.2}**", ours / floor)
}

/// To encode one name is no measure for making a whole set of which one is new.
fn made(protocol: Protocol, ours: f64, floor: f64) -> String {
    match protocol {
        Protocol::Sotw => cell(ours, floor, 2),
        Protocol::Delta => format!("{ours:.2} / {floor:.2}"),
    }
}

async fn row(protocol: Protocol, count: usize, names: usize, edits: usize) -> String {
    eprintln!("{}, {count} clients, {names} names", protocol.as_str());
    let mut exeat = Side::start("exeat", protocol, names, count).await;
    let mut bare = Side::start("bare", protocol, names, count).await;
    bare.sync().await;
    exeat.sync().await;
    for edit in 0..edits {
        // Neither always comes after the other.
        let sides = if edit % 2 == 0 { [&mut bare, &mut exeat] } else { [&mut exeat, &mut bare] };
        for side in sides {
            side.edit().await;
        }
    }
    let memory =
        if count < MANY { "–".to_owned() } else { cell(exeat.kib_per_stream(), bare.kib_per_stream(), 1) };
    let idle = if count < MANY {
        "–".to_owned()
    } else {
        let before = [exeat.process.cpu(), bare.process.cpu()];
        let start = Instant::now();
        tokio::time::sleep(IDLE).await;
        for (side, before) in [&mut exeat, &mut bare].into_iter().zip(before) {
            side.idle = (side.process.cpu() - before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        }
        format!("{:.2} / {:.2}", exeat.idle, bare.idle)
    };
    for _ in 1..SYNCS {
        for side in [&mut bare, &mut exeat] {
            side.connect(protocol).await;
            side.sync().await;
        }
    }
    let per_edit = |side: &Side| milliseconds(side.cpu) / edits as f64;
    let of_edit = |side: &Side| side.per_client(side.edit_bytes, edits);
    let of_sync = |side: &Side| side.per_client(side.sync_bytes, 1);
    format!(
        "| {} | {count} | {names} | {} | {} | {} | {} | {} | {} | {} | {memory} | {idle} |",
        protocol.as_str(),
        cell(median(&mut exeat.sync), median(&mut bare.sync), 1),
        cell(median(&mut exeat.last), median(&mut bare.last), 2),
        cell(median(&mut exeat.p50), median(&mut bare.p50), 2),
        cell(per_edit(&exeat), per_edit(&bare), 2),
        made(protocol, median(&mut exeat.made), median(&mut bare.made)),
        cell(of_sync(&exeat), of_sync(&bare), 0),
        cell(of_edit(&exeat), of_edit(&bare), 0),
    )
}

fn parse(protocol: &str) -> Protocol {
    if protocol == Protocol::Sotw.as_str() { Protocol::Sotw } else { Protocol::Delta }
}

/// Raises the limit of open files for this process and the servers, which inherit it.
fn raise_limit() {
    let (pid, files) = (std::process::id().to_string(), format!("--nofile={FILES}:"));
    let raised = std::process::Command::new("prlimit").args(["--pid", &pid, &files]).status();
    assert!(raised.is_ok_and(|status| status.success()), "prlimit cannot allow {FILES} open files");
}

/// Rows may be chosen on the command line: `sotw-1000-10000`.
fn chosen(arguments: &[String], value: &str) -> bool {
    arguments.is_empty() || arguments.iter().any(|argument| argument == value)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [server, what, protocol, names] = arguments.as_slice()
        && server == "server"
    {
        return server::main(what, parse(protocol), names.parse().unwrap());
    }
    raise_limit();
    println!(
        "| protocol | clients | names | first sync, ms | edit, last client, ms | edit, p50 client, ms | server CPU per edit, ms | making it, ms | bytes of first sync | bytes of edit | KiB per stream | idle CPU, % |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        for (count, edits) in CLIENTS {
            for names in NAMES {
                let row_name = format!("{}-{count}-{names}", protocol.as_str());
                if chosen(&arguments, &row_name) {
                    let local = tokio::task::LocalSet::new();
                    println!("{}", local.block_on(&runtime, row(protocol, count, names, edits)));
                }
            }
        }
    }
    eprintln!("{:.0} s", start.elapsed().as_secs_f64());
}
