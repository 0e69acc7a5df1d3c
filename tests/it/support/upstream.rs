//! An HTTP server that answers with the request head it got, plain or with TLS on the same port.

use super::{http::read_head, tls};
use rustls::ServerConfig;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

pub struct Upstream {
    port: u16,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// The names that TLS clients asked for.
    names: Mutex<Vec<Option<String>>>,
}

/// How a TLS connection begins (RFC 8446 section 5.1, handshake).
const HANDSHAKE: u8 = 22;

impl Upstream {
    pub fn start(host: Ipv4Addr) -> Self {
        Self::start_at((host, 0).into())
    }

    pub fn start_at(address: SocketAddr) -> Self {
        Self::with_certificate(address, None)
    }

    /// With a certificate of its own.
    pub fn with_certificate(address: SocketAddr, config: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                all.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, config) = (Arc::clone(&all), config.clone());
                thread::spawn(move || accept(client, &seen, config.as_ref()));
            }
        });
        Self { port, seen }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections have arrived.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many requests have arrived.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// The names that TLS clients have asked for.
    pub fn names(&self) -> Vec<Option<String>> {
        self.seen.names.lock().unwrap().clone()
    }
}

fn accept(client: TcpStream, seen: &Seen, config: Option<&Arc<ServerConfig>>) {
    let mut first = [0];
    if client.peek(&mut first).is_err() || first != [HANDSHAKE] {
        return serve(client, seen);
    }
    let mut stream = tls::server(client, config);
    while stream.conn.is_handshaking() {
        if stream.conn.complete_io(&mut stream.sock).is_err() {
            return;
        }
    }
    seen.names.lock().unwrap().push(stream.conn.server_name().map(str::to_owned));
    serve(stream, seen);
}

fn serve(client: impl Read + Write, seen: &Seen) {
    let mut stream = BufReader::new(client);
    while let Some(head) = read_head(&mut stream) {
        seen.requests.fetch_add(1, Ordering::SeqCst);
        if head.to_ascii_lowercase().contains("upgrade: websocket") {
            let _ = stream.get_mut().write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
            );
            // What the client does next is its business; the connection stays open.
            while read_head(&mut stream).is_some() {}
            return;
        }
        if head.starts_with("GET /slow") {
            thread::sleep(Duration::from_secs(16));
        }
        if head.starts_with("GET /stream") {
            let begin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
            let _ = stream.get_mut().write_all(begin.as_bytes());
            // The rest never comes; the client ends it.
            let _ = stream.fill_buf();
            return;
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let _ = stream.read_exact(&mut vec![0; length.unwrap_or(0)]);
        let reply = format!(
            "HTTP/1.1 200 OK\r\nalt-svc: h3=\":443\"\r\ncontent-length: {}\r\n\r\n{head}",
            head.len()
        );
        if stream.get_mut().write_all(reply.as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}
