//! A DNS server that knows a few names and remembers what it was asked.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

type Records = Arc<Mutex<Vec<(String, Vec<IpAddr>, Ttl)>>>;
/// Seconds for which an answer may be kept.
type Ttl = u8;
const TTL: Ttl = 60;

pub struct Dns {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    records: Records,
}

impl Dns {
    /// Every name below `.test` leads to `default`, those that begin with `nx` nowhere, unless set otherwise;
    /// of those that begin with `silent` it says nothing.
    pub fn start(host: Ipv4Addr, default: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let records: Records = Arc::default();
        let (log, known) = (Arc::clone(&asked), Arc::clone(&records));
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let query = &buffer[..length];
                let (name, end) = question(query);
                log.lock().unwrap().push(name.clone());
                if name.starts_with("silent") {
                    continue;
                }
                let set = known.lock().unwrap().iter().rev().find(|(known, ..)| *known == name).cloned();
                let (addresses, ttl) = set.map_or_else(
                    || {
                        let exists = name.ends_with(".test") && !name.starts_with("nx");
                        (if exists { vec![default.into()] } else { Vec::new() }, TTL)
                    },
                    |(_, addresses, ttl)| (addresses, ttl),
                );
                let _ = socket.send_to(&answer(query, end, &addresses, ttl), client);
            }
        });
        Self { address, asked, records }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, name: &str, addresses: &[&str]) {
        self.set_for(TTL, name, addresses);
    }

    /// For so many seconds, of which clients make more as they like.
    pub fn set_for(&self, ttl: Ttl, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.records.lock().unwrap().push((name.to_owned(), addresses, ttl));
    }

    /// Every name asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The name asked for, and where the question ends (RFC 1035 §4.1.2).
fn question(query: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    (labels.join("."), at + 5)
}

/// An authoritative answer: A or AAAA records, NXDOMAIN to who asks for A of what has none of either, nothing for other types.
fn answer(query: &[u8], end: usize, addresses: &[IpAddr], ttl: Ttl) -> Vec<u8> {
    const A: u8 = 1;
    const AAAA: u8 = 28;
    let kind = query[end - 3];
    let of_kind = |address: &&IpAddr| if address.is_ipv4() { kind == A } else { kind == AAAA };
    let records: Vec<&IpAddr> = addresses.iter().filter(of_kind).collect();
    let code = if kind == A && addresses.is_empty() { 3 } else { 0 };
    let mut reply = query[..2].to_vec();
    reply.extend([0x85, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    reply.extend(&query[12..end]);
    for address in records {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        reply.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, ttl, 0, bytes.len() as u8]);
        reply.extend(bytes);
    }
    reply
}
