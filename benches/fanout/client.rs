//! Clients that cost as little as possible: just enough HTTP/2 to open one stream, find the end and the nonce of each
//! message, and answer. Windows are so large that they never have to be opened again.

use crate::{Protocol, TYPE_URL};
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
};
use prost::Message;
use std::{
    cell::{Cell, RefCell},
    io::ErrorKind,
    net::SocketAddr,
    rc::Rc,
    time::{Instant, SystemTime},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinSet,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MAX_WINDOW: u32 = (1 << 31) - 1;
const DEFAULT_WINDOW: u32 = 65_535;
const STREAM: u32 = 1;
/// Connections that are being opened: fewer than a listener's queue has room for.
const AT_ONCE: usize = 64;
/// Frame types and flags of RFC 9113.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const FRAME_HEAD: usize = 9;
/// Of messages and of frames that are no data: what is looked at. The nonce is in the head, before the resources.
const LOOKED_AT: usize = 256;
/// The tag of the nonce in the responses of both protocols.
const NONCE: u64 = 5;

thread_local! {
    /// One for all clients: nothing stays in it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 * 1024]);
}

/// Connections with one stream each.
pub(crate) struct Clients {
    count: usize,
    shared: Rc<Shared>,
    start: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    opened: Cell<usize>,
    /// When each message of this round was complete.
    times: RefCell<Vec<SystemTime>>,
    bytes: Cell<u64>,
    moved: Notify,
}

/// What all clients saw of one publication.
pub(crate) struct Round {
    pub(crate) times: Vec<SystemTime>,
    /// Of all messages, with gRPC's prefix.
    pub(crate) bytes: u64,
}

impl Clients {
    /// Connects, and waits until each has its stream.
    pub(crate) async fn open(count: usize, server: SocketAddr, protocol: Protocol) -> Self {
        let shared = Rc::new(Shared::default());
        let start = watch::Sender::new(false);
        let mut clients = Self { count, shared, start, tasks: JoinSet::new() };
        for number in 0..count {
            let (shared, start) = (Rc::clone(&clients.shared), clients.start.subscribe());
            clients.tasks.spawn_local(run(number, server, protocol, shared, start));
            clients.until(|shared| shared.opened.get() + AT_ONCE > number).await;
        }
        clients.until(|shared| shared.opened.get() == count).await;
        clients
    }

    /// Waits for something to be true; panics with a client that does.
    async fn until(&mut self, done: impl Fn(&Shared) -> bool) {
        while !done(&self.shared) {
            tokio::select! {
                () = self.shared.moved.notified() => {}
                Some(ended) = self.tasks.join_next() => ended.unwrap(),
            }
        }
    }

    /// Lets each ask for everything; gives when they began.
    pub(crate) fn ask(&self) -> Instant {
        let begun = Instant::now();
        self.start.send_replace(true);
        begun
    }

    /// Waits until each has got one more message.
    pub(crate) async fn round(&mut self) -> Round {
        let count = self.count;
        self.until(|shared| shared.times.borrow().len() == count).await;
        Round { times: self.shared.times.take(), bytes: self.shared.bytes.take() }
    }
}

async fn run(
    number: usize,
    server: SocketAddr,
    protocol: Protocol,
    shared: Rc<Shared>,
    mut start: watch::Receiver<bool>,
) {
    let mut socket = TcpStream::connect(server).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket.write_all(&hello(protocol)).await.unwrap();
    let (mut parser, mut started) = (Parser::default(), false);
    let (mut events, mut reply) = (Vec::new(), Vec::new());
    loop {
        if started {
            socket.readable().await.unwrap();
        } else {
            tokio::select! {
                readable = socket.readable() => readable.unwrap(),
                asked = start.wait_for(|start| *start) => {
                    drop(asked.unwrap());
                    started = true;
                    socket.write_all(&message(&first_request(protocol, number))).await.unwrap();
                }
            }
        }
        BUFFER.with_borrow_mut(|buffer| match socket.try_read(buffer) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(length) => parser.take(&buffer[..length], &mut events),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        });
        for event in events.drain(..) {
            match event {
                Event::Opened => {
                    shared.opened.set(shared.opened.get() + 1);
                    shared.moved.notify_one();
                }
                Event::Reply(frame) => reply.extend(frame),
                Event::Message { bytes, nonce } => {
                    shared.times.borrow_mut().push(SystemTime::now());
                    shared.bytes.set(shared.bytes.get() + bytes as u64);
                    shared.moved.notify_one();
                    reply.extend(message(&answer(protocol, nonce)));
                }
            }
        }
        if !reply.is_empty() {
            socket.write_all(&reply).await.unwrap();
            reply.clear();
        }
    }
}

fn first_request(protocol: Protocol, number: usize) -> Vec<u8> {
    let node = Some(Node {
        id: format!("node-{number:05}"),
        cluster: "bench".to_owned(),
        user_agent_name: "envoy".to_owned(),
        ..Default::default()
    });
    let type_url = TYPE_URL.to_owned();
    match protocol {
        Protocol::Sotw => DiscoveryRequest { node, type_url, ..Default::default() }.encode_to_vec(),
        Protocol::Delta => DeltaDiscoveryRequest { node, type_url, ..Default::default() }.encode_to_vec(),
    }
}

fn answer(protocol: Protocol, response_nonce: String) -> Vec<u8> {
    let type_url = TYPE_URL.to_owned();
    match protocol {
        Protocol::Sotw => DiscoveryRequest { type_url, response_nonce, ..Default::default() }.encode_to_vec(),
        Protocol::Delta => {
            DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }.encode_to_vec()
        }
    }
}

/// The connection's preface, and the head of the request.
fn hello(protocol: Protocol) -> Vec<u8> {
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let settings = [&[0, 4], MAX_WINDOW.to_be_bytes().as_slice()].concat();
    let update = (MAX_WINDOW - DEFAULT_WINDOW).to_be_bytes();
    // HPACK: indexed fields, and literals without indexing (RFC 7541, appendix A).
    let mut head = vec![0x83, 0x86];
    for (name, value) in [
        (&[4][..], protocol.path()),
        (&[1], "bench"),
        (&[0x0f, 0x10], "application/grpc"),
        (b"\x00\x02te", "trailers"),
    ] {
        head.extend_from_slice(name);
        head.push(u8::try_from(value.len()).unwrap());
        head.extend_from_slice(value.as_bytes());
    }
    [
        PREFACE,
        &frame(SETTINGS, 0, 0, &settings),
        &frame(WINDOW_UPDATE, 0, 0, &update),
        &frame(HEADERS, END_HEADERS, STREAM, &head),
    ]
    .concat()
}

fn message(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    frame(DATA, 0, STREAM, &[&[0], length.as_slice(), payload].concat())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

enum Event {
    Opened,
    /// A frame that the server waits for.
    Reply(Vec<u8>),
    Message {
        bytes: usize,
        nonce: String,
    },
}

/// Splits what arrives into frames and messages.
#[derive(Default)]
struct Parser {
    head: Vec<u8>,
    payload: Piece,
    grpc: Vec<u8>,
    message: Piece,
}

/// Something of known length whose beginning is looked at.
#[derive(Default)]
struct Piece {
    left: usize,
    start: Vec<u8>,
}

impl Piece {
    fn begin(&mut self, length: usize) {
        self.left = length;
        self.start.clear();
    }

    /// Takes what belongs to it.
    fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(self.left.min(bytes.len()));
        *bytes = rest;
        self.left -= taken.len();
        let looked_at = taken.len().min(LOOKED_AT - self.start.len());
        self.start.extend_from_slice(&taken[..looked_at]);
        taken
    }
}

/// Completes a head of `size` bytes, if enough is there.
fn complete(head: &mut Vec<u8>, size: usize, bytes: &mut &[u8]) -> bool {
    let (taken, rest) = bytes.split_at((size - head.len()).min(bytes.len()));
    head.extend_from_slice(taken);
    *bytes = rest;
    head.len() == size
}

impl Parser {
    fn take(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) {
        while self.head.len() == FRAME_HEAD || !bytes.is_empty() {
            if self.head.len() < FRAME_HEAD {
                if !complete(&mut self.head, FRAME_HEAD, &mut bytes) {
                    return;
                }
                self.payload
                    .begin(u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize);
            }
            let data = self.payload.take(&mut bytes);
            let (kind, flags) = (self.head[3], self.head[4]);
            if kind == DATA {
                assert_eq!(flags & (PADDED | END_STREAM), 0);
                self.data(data, events);
            }
            if self.payload.left > 0 {
                return;
            }
            self.head.clear();
            match (kind, flags & ACK) {
                (HEADERS, END_STREAM) => panic!("the server ended a stream"),
                (HEADERS, _) => events.push(Event::Opened),
                (SETTINGS, 0) => events.push(Event::Reply(frame(SETTINGS, ACK, 0, &[]))),
                (PING, 0) => events.push(Event::Reply(frame(PING, ACK, 0, &self.payload.start))),
                (DATA | SETTINGS | PING | WINDOW_UPDATE, _) => {}
                (other, _) => panic!("the server sent a frame of type {other}"),
            }
        }
    }

    fn data(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) {
        while !bytes.is_empty() {
            if self.grpc.len() < 5 {
                if !complete(&mut self.grpc, 5, &mut bytes) {
                    return;
                }
                self.message.begin(u32::from_be_bytes(self.grpc[1..].try_into().unwrap()) as usize);
            }
            self.message.take(&mut bytes);
            if self.message.left == 0 {
                let bytes = self.grpc.len() + u32::from_be_bytes(self.grpc[1..].try_into().unwrap()) as usize;
                self.grpc.clear();
                events.push(Event::Message { bytes, nonce: nonce(&self.message.start) });
            }
        }
    }
}

fn nonce(mut message: &[u8]) -> String {
    loop {
        let key = prost::encoding::decode_varint(&mut message).unwrap();
        let length = usize::try_from(prost::encoding::decode_varint(&mut message).unwrap()).unwrap();
        assert_eq!(key & 7, 2, "all fields before the nonce have a length");
        let (value, rest) = message.split_at(length);
        if key >> 3 == NONCE {
            return String::from_utf8(value.to_vec()).unwrap();
        }
        message = rest;
    }
}
