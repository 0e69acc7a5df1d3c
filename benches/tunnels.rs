//! What the proxy costs: latency, throughput, memory, and how fast a revoked tunnel ends.
//!
//! `cargo bench --bench tunnels` prints tables. ENVOY_BIN names an Envoy; else the cached one is used or installed. All rows of
//! a table are measured in one run and in turns, with one client and one upstream, which share the machine. The
//! references are no proxy at all, and a plain Envoy forward proxy without any policy.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout)]

mod support;

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use support::{Killed, start_envoy};

const UPSTREAM: &str = "127.0.0.1";
const EXEAT_PROXY: &str = "127.0.0.1:11020";
const PLAIN_PROXY: &str = "127.0.0.1:11021";
const ADMIN: &str = "127.0.0.1:11022";
const XDS: &str = "127.0.0.1:11023";
const HOST: &str = "host0.bench.test";
const ROUNDS: usize = 300;
const DOWNLOAD: usize = 256 << 20;
const DOWNLOADS: usize = 5;
const CUTS: usize = 20;

/// A name for which everything leads to the upstream.
fn dns() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            let mut end = 12;
            while end < length && query[end] != 0 {
                end += usize::from(query[end]) + 1;
            }
            // The root's label, type and class.
            end += 5;
            let is_a = query[end - 4..end - 2] == [0, 1];
            let mut reply = query[..end].to_vec();
            reply[2..4].copy_from_slice(&[0x85, 0x80]);
            reply[8..12].fill(0);
            reply[7] = u8::from(is_a);
            if is_a {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&reply, client);
        }
    });
    address
}

/// Answers each request with as many bytes as its path says.
fn answer(mut stream: impl Read + Write) {
    let block = vec![b'x'; 64 << 10];
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&head);
        let length: usize = text.split(['/', ' ']).find_map(|part| part.parse().ok()).unwrap_or(2);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let mut left = length;
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        while left > 0 {
            let part = left.min(block.len());
            if stream.write_all(&block[..part]).is_err() {
                return;
            }
            left -= part;
        }
        let _ = stream.flush();
    }
}

fn serve(config: Option<Arc<ServerConfig>>) -> u16 {
    let listener = TcpListener::bind((UPSTREAM, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            client.set_nodelay(true).unwrap();
            let config = config.clone();
            thread::spawn(move || match config {
                Some(config) => answer(StreamOwned::new(ServerConnection::new(config).unwrap(), client)),
                None => answer(client),
            });
        }
    });
    port
}

struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn tls(directory: &Path) -> Tls {
    let (certificate, key) = (directory.join("c.pem"), directory.join("k.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=bench", "-addext", &format!("subjectAltName=DNS:{HOST}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success());
    let chain: Vec<_> = CertificateDer::pem_file_iter(&certificate).unwrap().map(Result::unwrap).collect();
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let provider = || Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each handshake is a whole one.
    client.resumption = rustls::client::Resumption::disabled();
    Tls { server: Arc::new(server), client: Arc::new(client) }
}

/// A control plane with a list, and its sidecar.
struct Proxied {
    _exeat: Killed,
    envoy: Killed,
}

fn start(directory: &Path, list: &str, resolver: SocketAddr) -> Proxied {
    let path = directory.join("allowlist.yaml");
    fs::write(&path, list).unwrap();
    let exeat = support::exeat(&path, [XDS, EXEAT_PROXY, ADMIN], resolver)
        .args(["--log", "error", "--allow-range", "127.0.0.1/32"])
        .stderr(Stdio::null())
        .spawn();
    let exeat = Killed(exeat.unwrap());
    let envoy = start_envoy(&support::bootstrap(directory, XDS));
    connect(EXEAT_PROXY);
    Proxied { _exeat: exeat, envoy }
}

/// Of a forward proxy as one would write it without a policy.
const ROUTES: &str = "route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {connect_matcher: {}}
                route: {cluster: forward, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}
              - match: {prefix: /}
                route: {cluster: forward, timeout: 0s}";

fn connect(address: &str) -> TcpStream {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        if let Ok(stream) = TcpStream::connect(address) {
            stream.set_nodelay(true).unwrap();
            return stream;
        }
        assert!(Instant::now() < end, "{address} does not listen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a head; gives its status and the length of what follows.
fn head(stream: &mut impl Read) -> (u16, usize) {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    (text.split(' ').nth(1).unwrap().parse().unwrap(), length.unwrap_or(0))
}

fn tunnel(proxy: Option<&str>, host: &str, port: u16) -> TcpStream {
    let Some(proxy) = proxy else { return connect(&format!("{UPSTREAM}:{port}")) };
    let mut stream = connect(proxy);
    stream
        .write_all(format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(head(&mut stream).0, 200);
    stream
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn secure(tls: &Tls, proxy: Option<&str>, port: u16) -> Secure {
    let stream = tunnel(proxy, HOST, port);
    let name = ServerName::try_from(HOST).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(&tls.client), name).unwrap(), stream)
}

fn fetch(stream: &mut (impl Read + Write), request: &str) -> u16 {
    stream.write_all(request.as_bytes()).unwrap();
    let (code, mut left) = head(stream);
    let mut block = vec![0; 256 << 10];
    while left > 0 {
        let part = left.min(block.len());
        left -= stream.read(&mut block[..part]).unwrap();
    }
    code
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// In milliseconds.
fn timed(what: impl FnOnce()) -> f64 {
    let start = Instant::now();
    what();
    start.elapsed().as_secs_f64() * 1000.0
}

const WAYS: [(&str, Option<&str>); 3] =
    [("no proxy", None), ("plain Envoy", Some(PLAIN_PROXY)), ("exeat", Some(EXEAT_PROXY))];

/// Latency and throughput beside the references.
fn costs(tls: &Tls, secure_port: u16, port: u16) {
    println!("| what | no proxy | plain Envoy | exeat | exeat / no proxy | exeat / plain Envoy |");
    println!("|---|---|---|---|---|---|");
    let row = |what: &str, unit: &str, [direct, plain, own]: [f64; 3]| {
        println!(
            "| {what} | {direct:.2} {unit} | {plain:.2} {unit} | {own:.2} {unit} | {:.2} | {:.2} |",
            own / direct,
            own / plain
        );
    };
    let get = format!("GET /2 HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut times: [[Vec<f64>; 3]; 3] = Default::default();
    let mut kept: Vec<Secure> = WAYS.iter().map(|(_, proxy)| secure(tls, *proxy, secure_port)).collect();
    let mut plain: Vec<TcpStream> = WAYS
        .iter()
        .map(|(_, proxy)| proxy.map_or_else(|| connect(&format!("{UPSTREAM}:{port}")), connect))
        .collect();
    for round in 0..ROUNDS + 20 {
        for (index, (_, proxy)) in WAYS.iter().enumerate() {
            let fresh = timed(|| {
                assert_eq!(fetch(&mut secure(tls, *proxy, secure_port), &get), 200);
            });
            let inside = timed(|| {
                assert_eq!(fetch(&mut kept[index], &get), 200);
            });
            let request = match proxy {
                None => get.clone(),
                Some(_) => format!("GET http://{HOST}:{port}/2 HTTP/1.1\r\nhost: {HOST}:{port}\r\n\r\n"),
            };
            let clear = timed(|| {
                assert_eq!(fetch(&mut plain[index], &request), 200);
            });
            // The first ones warm up.
            if round >= 20 {
                for (kind, time) in [fresh, inside, clear].into_iter().enumerate() {
                    times[kind][index].push(time);
                }
            }
        }
    }
    let what = [
        "new TLS connection and one request, median",
        "one request in an open tunnel, median",
        "one plain request, kept alive, median",
    ];
    for (what, mut ways) in what.iter().zip(times) {
        row(what, "ms", std::array::from_fn(|index| median(&mut ways[index])));
    }
    let mut speeds: [Vec<f64>; 3] = Default::default();
    for _ in 0..DOWNLOADS {
        for (index, (_, proxy)) in WAYS.iter().enumerate() {
            let mut stream = secure(tls, *proxy, secure_port);
            let request = format!("GET /{DOWNLOAD} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
            let time = timed(|| assert_eq!(fetch(&mut stream, &request), 200));
            speeds[index].push((DOWNLOAD >> 20) as f64 / time * 1000.0);
        }
    }
    row(
        "download of 256 MiB by TLS, median",
        "MiB/s",
        std::array::from_fn(|index| median(&mut speeds[index])),
    );
}

fn list(entries: usize, port: u16, secure_port: u16) -> String {
    let others: String = (1..entries.saturating_sub(1)).map(|n| format!("- host{n}.bench.test\n")).collect();
    format!("- {HOST}:{port}\n- {HOST}:{secure_port}\n{others}")
}

/// The time of a denial, and the sidecar's memory.
fn sizes(directory: &Path, resolver: SocketAddr, port: u16, secure_port: u16) {
    println!("\n| entries | 403 in clear, median ms | 403 to CONNECT, median ms | sidecar, MiB |");
    println!("|---|---|---|---|");
    for entries in [10, 1_000, 10_000, 100_000] {
        let proxied = start(directory, &list(entries, port, secure_port), resolver);
        let mut kept = connect(EXEAT_PROXY);
        let denied = "GET http://evil.test/ HTTP/1.1\r\nhost: evil.test\r\n\r\n";
        let (mut clear, mut tunnels) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS + 20 {
            let one = timed(|| assert_eq!(fetch(&mut kept, denied), 403));
            let mut stream = connect(EXEAT_PROXY);
            let other = timed(|| {
                assert_eq!(
                    fetch(&mut stream, "CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test:443\r\n\r\n"),
                    403
                );
            });
            if round >= 20 {
                clear.push(one);
                tunnels.push(other);
            }
        }
        let (clear, tunnels) = (median(&mut clear), median(&mut tunnels));
        println!("| {entries} | {clear:.3} | {tunnels:.3} | {:.0} |", support::rss_mib(proxied.envoy.0.id()));
    }
}

/// From the save of the file, by a rename, to the end of a tunnel.
fn cuts(directory: &Path, resolver: SocketAddr, port: u16) {
    println!("\n| entries | tunnels open | save -> cut, median ms | last ms |");
    println!("|---|---|---|---|");
    for entries in [10, 1_000, 2_000, 10_000] {
        let text = |with: bool| {
            let others: String =
                (1..entries).map(|n| format!("- {{host: o{n}.bench.test, ports: [443]}}\n")).collect();
            let own = if with {
                format!("- {{host: {HOST}, ports: [{port}], protocol: tcp}}\n")
            } else {
                String::new()
            };
            format!("{own}- {{host: kept.bench.test, ports: [{port}], protocol: tcp}}\n{others}")
        };
        let (with, without) = (text(true), text(false));
        let _proxied = start(directory, &with, resolver);
        let (path, new) = (directory.join("allowlist.yaml"), directory.join(".new"));
        let save = |text: &str| {
            fs::write(&new, text).unwrap();
            let start = Instant::now();
            fs::rename(&new, &path).unwrap();
            start
        };
        let mut times = Vec::new();
        for _ in 0..CUTS {
            let mut tunnels: Vec<TcpStream> = (0..10).map(|_| reachable(port)).collect();
            let mut kept = tunnel(Some(EXEAT_PROXY), "kept.bench.test", port);
            let start = save(&without);
            for stream in &mut tunnels {
                let _ = BufReader::new(stream).read_line(&mut String::new());
                times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
            let kept_request = "GET /2 HTTP/1.1\r\nhost: h\r\n\r\n";
            assert_eq!(fetch(&mut kept, kept_request), 200, "what is still allowed stays");
            save(&with);
        }
        let last = times.iter().copied().fold(0.0, f64::max);
        println!("| {entries} | 10 | {:.1} | {last:.1} |", median(&mut times));
    }
}

/// A tunnel, as soon as the entry is there.
fn reachable(port: u16) -> TcpStream {
    loop {
        let mut stream = connect(EXEAT_PROXY);
        stream
            .write_all(format!("CONNECT {HOST}:{port} HTTP/1.1\r\nhost: {HOST}:{port}\r\n\r\n").as_bytes())
            .unwrap();
        if head(&mut stream).0 == 200 && fetch_ok(&mut stream) {
            return stream;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn fetch_ok(stream: &mut TcpStream) -> bool {
    if stream.write_all(b"GET /2 HTTP/1.1\r\nhost: h\r\n\r\n").is_err() {
        return false;
    }
    let mut byte = [0; 64];
    matches!(stream.read(&mut byte), Ok(1..))
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, resolver) = (tls(directory.path()), dns());
    let (secure_port, port) = (serve(Some(Arc::clone(&tls.server))), serve(None));
    {
        let bootstrap = directory.path().join("plain.yaml");
        fs::write(&bootstrap, support::forward_proxy(PLAIN_PROXY, resolver, ROUTES)).unwrap();
        let _plain = start_envoy(&bootstrap);
        connect(PLAIN_PROXY);
        let _proxied = start(directory.path(), &list(10, port, secure_port), resolver);
        costs(&tls, secure_port, port);
    }
    sizes(directory.path(), resolver, port, secure_port);
    cuts(directory.path(), resolver, port);
}
