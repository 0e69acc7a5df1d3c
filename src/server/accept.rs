//! From listening sockets to connections: how many there may be, and how soon each has to show that it is in earnest.
//!
//! Knows nothing of xDS or HTTP.

use super::{
    connection::{Connection, Transport},
    listen::Socket,
    tls::Acceptor,
};
use crate::ads::Peer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::Instant,
};

/// Connections of all listeners together.
const CONNECTIONS: usize = 10_000;
/// Connections of the admin port.
const ADMIN_CONNECTIONS: usize = 256;
/// Descriptors for files, watches and sockets of the server itself.
const RESERVED_DESCRIPTORS: usize = 128;
/// What a client has for the first bytes of HTTP/2.
const PREFACE_WITHIN: Duration = Duration::from_secs(10);
/// What a client has for the TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Handshakes at a time. Those who have shown no certificate cannot take the places of those who have, and where there are
/// too many the oldest gives way: an honest one is over in a moment.
const HANDSHAKES: usize = 1024;
/// A system that is out of descriptors or memory has none the next moment either.
const PAUSE: Duration = Duration::from_millis(100);
/// Strangers decide how often something happens, but not how long the log gets.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Connections on their way to the server. It takes each one at once.
const QUEUE: usize = 16;

/// What clients are granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) handshakes: usize,
    pub(super) preface_within: Duration,
    pub(super) handshake_within: Duration,
}

impl Limits {
    /// Of the xDS port. Descriptors are left for everything else: without one the allowlist files cannot be read.
    pub(super) fn xds() -> Self {
        let descriptors = usize::try_from(descriptors()).unwrap_or(usize::MAX);
        // Where there are very few, half of them.
        let others = (ADMIN_CONNECTIONS + RESERVED_DESCRIPTORS).min(descriptors / 2);
        let places = descriptors - others;
        let handshakes = HANDSHAKES.min(places / 8).max(1);
        let connections = CONNECTIONS.min(places.saturating_sub(handshakes));
        if connections < CONNECTIONS {
            tracing::warn!(
                "at most {connections} xDS connections: the process may open {descriptors} files (ulimit -n)"
            );
        }
        Self { connections, handshakes, preface_within: PREFACE_WITHIN, handshake_within: HANDSHAKE_WITHIN }
    }

    /// Of the admin port.
    pub(super) const fn admin() -> Self {
        Self {
            connections: ADMIN_CONNECTIONS,
            handshakes: 1,
            preface_within: PREFACE_WITHIN,
            handshake_within: HANDSHAKE_WITHIN,
        }
    }
}

/// How many files the process, and what it starts, may open: all that the system grants.
pub(crate) fn descriptors() -> u64 {
    let granted = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: granted.maximum, ..granted };
    // What could not be raised stays.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What comes out of the listeners. Nothing that a client does ends it.
pub(super) type Incoming = mpsc::Receiver<Result<Connection, Infallible>>;

/// What a listener gives.
pub(super) enum Accepted {
    /// Becomes TLS where that is asked for.
    Tcp(TcpStream),
    /// As it is.
    Local(Box<dyn Transport>),
}

/// What all listeners share.
pub(super) struct Accept {
    limits: Limits,
    permits: Arc<Semaphore>,
    /// Oldest first; some may be over.
    handshakes: Mutex<VecDeque<AbortHandle>>,
    sink: mpsc::Sender<Result<Connection, Infallible>>,
    full: Seldom,
    failing: Seldom,
    refused: Seldom,
}

impl Accept {
    pub(super) fn new(limits: Limits) -> (Arc<Self>, Incoming) {
        let (sink, incoming) = mpsc::channel(QUEUE);
        let permits = Arc::new(Semaphore::new(limits.connections));
        let handshakes = Mutex::default();
        let (full, failing, refused) = Default::default();
        (Arc::new(Self { limits, permits, handshakes, sink, full, failing, refused }), incoming)
    }

    /// Accepts for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>, socket: Socket, tls: Option<Acceptor>) {
        loop {
            let (accepted, address) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    self.failing.log(|| tracing::error!("cannot accept connections: {error}"));
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let peer = Peer { address, certificate: None };
            match (accepted, &tls) {
                (Accepted::Tcp(stream), Some(tls)) => {
                    // A client that dawdles keeps nobody else waiting.
                    let handshake = Arc::clone(&self).handshake(stream, tls.clone(), peer);
                    self.begin(tokio::spawn(handshake).abort_handle());
                }
                (Accepted::Tcp(stream), None) => self.deliver(Box::new(stream), peer).await,
                (Accepted::Local(stream), _) => self.deliver(stream, peer).await,
            }
        }
    }

    /// Counts a handshake, and ends the oldest if there are too many.
    fn begin(&self, handshake: AbortHandle) {
        let mut all = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= self.limits.handshakes {
            all.retain(|one| !one.is_finished());
        }
        if all.len() >= self.limits.handshakes
            && let Some(oldest) = all.pop_front()
        {
            oldest.abort();
        }
        all.push_back(handshake);
    }

    async fn handshake(self: Arc<Self>, stream: TcpStream, tls: Acceptor, mut peer: Peer) {
        let shaken = tokio::time::timeout(self.limits.handshake_within, tls.accept(stream)).await;
        match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((stream, certificate)) => {
                if let Some(names) = &certificate {
                    tracing::debug!("the client at {} is {names:?}", peer.address);
                }
                peer.certificate = certificate;
                self.deliver(Box::new(stream), peer).await;
            }
            Err(error) => {
                let (address, why) = (peer.address, super::tls::explain(&error));
                self.refused.log(|| tracing::warn!("no TLS with the client at {address}: {why}"));
            }
        }
    }

    async fn deliver(&self, io: Box<dyn Transport>, peer: Peer) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let (address, most) = (peer.address, self.limits.connections);
            self.full.log(|| tracing::error!("closed the connection of {address}: {most} are open"));
            return;
        };
        let connection = Connection::new(io, peer, self.limits.preface_within, permit);
        // Without a server that takes it, it is closed.
        drop(self.sink.send(Ok(connection)).await);
    }
}

/// The client was gone before it was accepted. The next one waits.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Lets a message into the log only so often.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn log(&self, log: impl FnOnce()) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            *last = Some(Instant::now());
            drop(last);
            log();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{XdsListen, connection::PREFACE_BYTES};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tonic::transport::server::Connected;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// Far above what anything takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn listen(limits: Limits) -> (String, Incoming) {
        let socket = Socket::bind(&XdsListen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let address = socket.endpoint().unwrap().to_string();
        let (accept, incoming) = Accept::new(limits);
        tokio::spawn(accept.run(socket, None));
        (address, incoming)
    }

    #[tokio::test]
    async fn who_does_not_begin_is_closed() {
        let limits = Limits { preface_within: Duration::from_millis(50), ..Limits::admin() };
        let (address, mut incoming) = listen(limits).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        // A byte now and then is no beginning either.
        client.write_all(&PREFACE[..PREFACE_BYTES - 1]).await.unwrap();
        let mut connection = incoming.recv().await.unwrap().unwrap();
        let mut read = Vec::new();
        let end = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut read)).await;
        assert_eq!(end.expect("it ends").unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(read, PREFACE[..PREFACE_BYTES - 1]);
    }

    #[tokio::test]
    async fn who_has_begun_may_be_silent() {
        let limits = Limits { preface_within: Duration::from_millis(50), ..Limits::admin() };
        let (address, mut incoming) = listen(limits).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        let mut connection = incoming.recv().await.unwrap().unwrap();
        let mut read = [0; PREFACE_BYTES];
        connection.read_exact(&mut read).await.unwrap();
        let silence = tokio::time::timeout(3 * limits.preface_within, connection.read(&mut read)).await;
        assert!(silence.is_err(), "the connection ended: {silence:?}");
        client.write_all(b"x").await.unwrap();
        assert_eq!(connection.read(&mut read).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn one_too_many_is_closed_at_once_until_one_leaves() {
        let (address, mut incoming) = listen(Limits { connections: 2, ..Limits::admin() }).await;
        let mut clients = Vec::new();
        let mut served = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(&address).await.unwrap());
            served.push(incoming.recv().await.unwrap().unwrap());
        }
        assert_eq!(served[0].connect_info().address, clients[0].local_addr().unwrap().to_string());
        let mut extra = TcpStream::connect(&address).await.unwrap();
        let end = tokio::time::timeout(PATIENCE, extra.read(&mut [0])).await.expect("it is closed");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        served.pop();
        let _client = TcpStream::connect(&address).await.unwrap();
        tokio::time::timeout(PATIENCE, incoming.recv()).await.expect("there is room again").unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_oldest_handshake_gives_way() {
        let (accept, _incoming) = Accept::new(Limits { handshakes: 2, ..Limits::admin() });
        let mut all = Vec::new();
        for _ in 0..3 {
            let handshake = tokio::spawn(std::future::pending::<()>());
            accept.begin(handshake.abort_handle());
            all.push(handshake);
        }
        assert!(all.remove(0).await.unwrap_err().is_cancelled());
        // One that is over keeps no place.
        all[0].abort();
        drop((&mut all[0]).await);
        accept.begin(tokio::spawn(std::future::pending::<()>()).abort_handle());
        assert!(!all[1].is_finished());
    }

    #[test]
    fn the_log_stays_short() {
        let (seldom, mut lines) = (Seldom::default(), 0);
        for _ in 0..1000 {
            seldom.log(|| lines += 1);
        }
        assert_eq!(lines, 1);
    }
}
