//! The server processes: this binary again, told what to do in lines.
//!
//! | line | does | answer |
//! |---|---|---|
//! | `prepare STEP NONCE` | makes what is published next | nanoseconds |
//! | `publish` | | nanoseconds since 1970, before it was |
//! | `answered COUNT` | waits for so many ACKs since the start | `done` |
//! | `streams COUNT` | waits until so many are open | `done` |

use crate::{Protocol, bare::Bare, resources};
use exeat::{
    ads::{Aggregated, Context, DiscoveryService, Doubts, OneGroup},
    fleet::Fleet,
    snapshot::{Fallbacks, Resource, ResourceKind, Snapshot, Store, Urgency},
};
use std::{
    io::{BufRead, Write},
    net::Ipv4Addr,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, Server, TcpIncoming};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// As in `exeat serve`.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_STREAMS: u32 = 64;

/// What publishes.
pub(crate) trait Served {
    /// Makes what is published next: the set after so many edits. Gives how long encoding it took. A server that does
    /// not count for itself puts `nonce` in.
    fn prepare(&mut self, step: usize, nonce: usize) -> Duration;
    fn publish(&mut self);
    /// ACKs since the start.
    fn answered(&self) -> u64;
    fn streams(&self) -> u64;
}

struct Exeat {
    names: usize,
    next: Option<Snapshot>,
    store: Arc<Store>,
    fleet: Fleet,
}

impl Served for Exeat {
    fn prepare(&mut self, step: usize, _: usize) -> Duration {
        let resources = resources(self.names, step)
            .map(|(name, body)| Resource { kind: ResourceKind::Cluster, name, body })
            .collect();
        let current = self.store.current();
        let start = Instant::now();
        let previous = current.as_ref().map(|published| &*published.snapshot);
        self.next = Some(Snapshot::new(resources, &Fallbacks::new(), previous));
        start.elapsed()
    }

    fn publish(&mut self) {
        self.store.publish(self.next.take().unwrap(), Urgency::Additions).unwrap();
    }

    fn answered(&self) -> u64 {
        self.fleet.counts(ResourceKind::Cluster.as_str()).acked
    }

    fn streams(&self) -> u64 {
        self.fleet.sidecars().len() as u64
    }
}

/// Serves until its input ends.
pub(crate) fn main(what: &str, protocol: Protocol, names: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let builder = || {
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(MAX_STREAMS)
    };
    let (served, router): (Box<dyn Served>, Router) = if what == "bare" {
        let bare = Bare::new(protocol, names);
        let service = bare.service();
        (Box::new(bare), builder().add_service(service))
    } else {
        let (store, fleet) = (Arc::new(Store::new()), Fleet::new());
        let context = Context {
            groups: Arc::new(OneGroup(Arc::clone(&store))),
            fleet: fleet.clone(),
            doubts: Doubts::default(),
            trusted: &[],
            shutdown: CancellationToken::new(),
        };
        let service = DiscoveryService::<Aggregated>::new(context);
        (Box::new(Exeat { names, next: None, store, fleet }), builder().add_service(service))
    };
    let socket = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    println!("{}", socket.local_addr().unwrap());
    let incoming = TcpIncoming::from(socket).with_nodelay(Some(true));
    runtime.spawn(router.serve_with_incoming(incoming));
    obey(served);
}

fn obey(mut served: Box<dyn Served>) {
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<usize>().unwrap();
        let until = |done: &dyn Fn() -> bool| {
            while !done() {
                thread::sleep(LOOK);
            }
            "done".to_owned()
        };
        let answer = match words[0] {
            "prepare" => served.prepare(number(1), number(2)).as_nanos().to_string(),
            "publish" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                served.publish();
                now.as_nanos().to_string()
            }
            "answered" => until(&|| served.answered() >= number(1) as u64),
            "streams" => until(&|| served.streams() == number(1) as u64),
            other => panic!("`{other}` is no command"),
        };
        println!("{answer}");
        std::io::stdout().flush().unwrap();
    }
}
