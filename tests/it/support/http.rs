//! An HTTP/1.1 client that sends exactly what it is told, plain or inside TLS.

use super::tls::client;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

#[derive(Debug, Clone)]
pub struct Reply {
    pub code: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub fn deny_reason(reply: &Reply) -> Option<&str> {
    reply.header("x-exeat-deny-reason")
}

/// A connection that is kept.
pub struct Connection {
    socket: TcpStream,
    stream: BufReader<Box<dyn Stream>>,
}

/// Plain or TLS.
trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let stream = BufReader::new(Box::new(socket.try_clone().unwrap()) as Box<dyn Stream>);
        Self { socket, stream }
    }

    /// The same connection with TLS inside, for a name or none; an error if it ends before that is agreed.
    pub fn tls(self, name: Option<&str>) -> io::Result<Self> {
        let stream = client(self.socket.try_clone()?, name)?;
        Ok(Self { socket: self.socket, stream: BufReader::new(Box::new(stream)) })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref())?;
        stream.flush()
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether the other side has ended it, at once or within a time; bytes that come count for nothing.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// Reads one reply; a reply without a length ends with the connection.
    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("the connection ended without a reply")
    }

    pub fn try_reply(&mut self) -> Option<Reply> {
        let head = read_head(&mut self.stream)?;
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { code, head, body: String::new() };
        let mut body = Vec::new();
        match reply.header("content-length").map(str::parse) {
            Some(length) => {
                body.resize(length.unwrap(), 0);
                self.stream.read_exact(&mut body).unwrap();
            }
            None if code == 200 && reply.header("transfer-encoding").is_none() => {}
            None => {
                let _ = self.stream.read_to_end(&mut body);
            }
        }
        reply.body = String::from_utf8_lossy(&body).into_owned();
        Some(reply)
    }

    /// One request through the proxy in absolute form, on this connection.
    pub fn get(&mut self, authority: &str, path: &str) -> Reply {
        self.send(format!("GET http://{authority}{path} HTTP/1.1\r\nhost: {authority}\r\n\r\n"));
        self.reply()
    }

    /// One request to the end of a tunnel.
    pub fn get_inside(&mut self, host: &str) -> Reply {
        self.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        self.reply()
    }

    /// Whether what is open leads to an upstream that answers.
    pub fn answers(&mut self) -> bool {
        self.try_send("GET / HTTP/1.1\r\nhost: h\r\n\r\n").is_ok()
            && self.try_reply().is_some_and(|reply| reply.code == 200)
    }

    /// Reads so many bytes.
    pub fn read(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A head with its empty line, or nothing at the end of the connection.
pub fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if head[before..].trim().is_empty() {
            return Some(head);
        }
    }
}

/// Sends bytes on a new connection and reads one reply.
pub fn request(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Reply {
    let mut connection = Connection::open(address);
    connection.send(bytes);
    connection.reply()
}

/// `GET url` in absolute form.
pub fn get(address: SocketAddr, url: &str) -> Reply {
    let rest = url.strip_prefix("http://").unwrap();
    let authority = rest.split('/').next().unwrap();
    request(address, format!("GET {url} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n"))
}

/// CONNECT; the connection is the tunnel if the reply is 200.
pub fn tunnel(address: SocketAddr, authority: &str) -> (Connection, Reply) {
    let mut connection = Connection::open(address);
    connection.send(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n"));
    let reply = connection.reply();
    (connection, reply)
}

/// CONNECT, and TLS for that host inside. Panics where one of the two is refused.
pub fn secure_tunnel(address: SocketAddr, authority: &str) -> Connection {
    let (connection, reply) = tunnel(address, authority);
    assert_eq!(reply.code, 200, "{authority}: {reply:?}");
    let host = authority.rsplit_once(':').unwrap().0.trim_end_matches('.');
    connection.tls(Some(host)).unwrap_or_else(|error| panic!("{authority}: {error}"))
}
