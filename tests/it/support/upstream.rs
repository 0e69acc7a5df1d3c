//! An HTTP server that answers with the request head it got.

use super::http::read_head;
use std::{
    io::{BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

pub struct Upstream {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    pub fn start(host: Ipv4Addr) -> Self {
        Self::start_at((host, 0).into())
    }

    pub fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || serve(client, &count));
            }
        });
        Self { port, requests }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many requests have arrived.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(mut client: TcpStream, count: &AtomicUsize) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    while let Some(head) = read_head(&mut reader) {
        count.fetch_add(1, Ordering::SeqCst);
        if head.to_ascii_lowercase().contains("upgrade: websocket") {
            let _ = client.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
            );
            // What the client does next is its business; the connection stays open.
            while read_head(&mut reader).is_some() {}
            return;
        }
        if head.starts_with("GET /slow") {
            thread::sleep(Duration::from_secs(16));
        }
        let reply = format!(
            "HTTP/1.1 200 OK\r\nalt-svc: h3=\":443\"\r\ncontent-length: {}\r\n\r\n{head}",
            head.len()
        );
        if client.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}
