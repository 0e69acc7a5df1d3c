//! The xDS port below gRPC: several sockets, TLS with client certificates, and clients that mean no good.

use crate::support::{Authority, Block, ControlPlane, Process, Sidecar, command, exeat, finish, wait_until};
use exeat::envoy::XdsEndpoint;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// The files of a server or a client: authorities of the other side, own certificate, own key.
struct Files([PathBuf; 3]);

impl Files {
    fn create(directory: PathBuf) -> Self {
        fs::create_dir(&directory).unwrap();
        Self(["ca.pem", "cert.pem", "key.pem"].map(|name| directory.join(name)))
    }

    /// Puts others in their place, each by a rename.
    fn put(&self, ca: &Path, (cert, key): &(PathBuf, PathBuf)) {
        for (from, to) in [ca, cert, key].into_iter().zip(&self.0) {
            replace(to, &fs::read(from).unwrap());
        }
    }

    /// Puts others in their place as a Kubernetes volume does: links lead to a directory behind a link that is swapped.
    fn swap(&self, ca: &Path, (cert, key): &(PathBuf, PathBuf)) {
        let directory = self.0[0].parent().unwrap();
        let content = tempfile::tempdir_in(directory).unwrap().keep();
        for (from, to) in [ca, cert, key].into_iter().zip(&self.0) {
            let name = to.file_name().unwrap();
            fs::copy(from, content.join(name)).unwrap();
            if !to.is_symlink() {
                symlink(Path::new("..data").join(name), to).unwrap();
            }
        }
        symlink(content, directory.join("..new")).unwrap();
        fs::rename(directory.join("..new"), directory.join("..data")).unwrap();
    }

    fn flags(&self, names: [&'static str; 3]) -> Vec<&str> {
        names.into_iter().zip(&self.0).flat_map(|(name, path)| [name, path.to_str().unwrap()]).collect()
    }
}

const OF_SERVER: [&str; 3] = ["--client-ca", "--tls-cert", "--tls-key"];
const OF_SIDECAR: [&str; 3] = ["--tls-ca", "--tls-cert", "--tls-key"];

fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

fn tcp(server: &ControlPlane) -> SocketAddr {
    match server.xds {
        XdsEndpoint::Address(address) => address,
        _ => panic!("{} is no address", server.xds),
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// Begins HTTP/2 as a client that trusts `ca`, and gives the certificate of a server that answers.
fn greet(
    server: SocketAddr,
    ca: &Path,
    identity: Option<&(PathBuf, PathBuf)>,
) -> Result<CertificateDer<'static>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(ca)).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(vec![certificate(cert)], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let client = ClientConnection::new(Arc::new(config), server.ip().into()).unwrap();
    let socket = TcpStream::connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = StreamOwned::new(client, socket);
    let mut answer = [0; 9];
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| error.to_string())?;
    assert_eq!(answer[3], 4, "SETTINGS come first: {answer:?}");
    let mut settings = vec![0; usize::from(answer[2])];
    stream.read_exact(&mut settings).unwrap();
    assert!(settings.chunks(6).any(|one| one == [0, 3, 0, 0, 0, 64]), "no limit of streams: {settings:?}");
    Ok(stream.conn.peer_certificates().unwrap()[0].clone().into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_and_unix_serve_at_once() {
    let block = Block::claim();
    let mut server = ControlPlane::prepared(&block, &[]);
    fs::write(server.allowlist(), "- a.test\n").unwrap();
    let path = server.directory().join("xds.sock");
    let unix = format!("unix:{}", path.display());
    server.add_flags(&["--xds-listen", &unix]);
    server.launch();
    let line = server.process().wait_for("both", |line| line.contains("listens"));
    assert!(line.contains(&server.xds.to_string()) && line.contains(&unix), "{line}");
    for address in [format!("http://{}", server.xds), unix] {
        let mut health = HealthClient::new(Endpoint::new(address).unwrap().connect().await.unwrap());
        let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status;
        assert_eq!(status, i32::from(ServingStatus::Serving));
    }
    server.stop();
    assert!(!path.exists());
}

#[test]
fn only_certificates_of_the_authority_are_served() {
    let block = Block::claim();
    let mut server = ControlPlane::prepared(&block, &["--log", "info,exeat=debug"]);
    fs::write(server.allowlist(), "- a.test\n").unwrap();
    let address = tcp(&server);
    let ca = Authority::create(server.directory(), "ca");
    let foreign = Authority::create(server.directory(), "foreign");
    let own = ca.issue("server", &format!("IP:{}", address.ip()));
    let agent = ca.issue("agent", "URI:spiffe://td/agent,DNS:agent.test");
    let stranger = foreign.issue("stranger", "URI:spiffe://td/agent");
    let files = Files::create(server.directory().join("server"));
    files.put(&ca.certificate, &own);
    server.add_flags(&files.flags(OF_SERVER));
    server.launch();

    assert_eq!(greet(address, &ca.certificate, Some(&agent)), Ok(certificate(&own.0)));
    server.process().wait_for("the client's names", |line| {
        line.contains("spiffe://td/agent") && line.contains("agent.test")
    });
    let error = greet(address, &ca.certificate, None).unwrap_err();
    assert!(error.contains("CertificateRequired"), "{error}");
    let error = greet(address, &ca.certificate, Some(&stranger)).unwrap_err();
    assert!(error.contains("UnknownCA"), "{error}");
    server.process().wait_for("why", |line| line.contains("no TLS with the client at"));
    // Plaintext gets no HTTP/2, at most an alert.
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.first().is_none_or(|first| *first == 21), "{answer:?}");

    let sidecar = ["agent.pem", "agent.key", "ca.pem"].map(|name| server.directory().join(name));
    let [cert, key, ca] = sidecar.each_ref().map(|path| path.to_str().unwrap());
    let flags = ["--tls-ca", ca, "--tls-cert", cert, "--tls-key", key];
    let _sidecar = Sidecar::with_flags(&server, "claimed", &flags, |text| text);
    server.wait_in_sync(1);
    // What the certificate proves counts, not what the node says.
    let sidecar = &server.status()["sidecars"][0];
    assert_eq!((&sidecar["node_id"], &sidecar["identity"]), (&"claimed".into(), &"spiffe://td/agent".into()));
}

#[test]
fn certificates_are_replaced_while_all_runs() {
    let block = Block::claim();
    let mut server = ControlPlane::prepared(&block, &[]);
    fs::write(server.allowlist(), "- a.test\n").unwrap();
    let address = tcp(&server);
    let [old, new] = ["old", "new"].map(|name| Authority::create(server.directory(), name));
    let names = format!("IP:{}", address.ip());
    let (old_server, new_server) = (old.issue("old-server", &names), new.issue("new-server", &names));
    let old_agent = old.issue("old-agent", "URI:spiffe://td/agent");
    let new_agent = new.issue("new-agent", "URI:spiffe://td/agent");
    let ours = Files::create(server.directory().join("server"));
    let theirs = Files::create(server.directory().join("sidecar"));
    ours.put(&old.certificate, &old_server);
    theirs.swap(&old.certificate, &old_agent);
    server.add_flags(&ours.flags(OF_SERVER));
    server.launch();
    let secrets = theirs.0[0].parent().unwrap().to_str().unwrap().to_owned();
    let flags = [theirs.flags(OF_SIDECAR), vec!["--tls-secrets", &secrets]].concat();
    let _sidecar = Sidecar::with_flags(&server, "agent", &flags, |text| text);
    server.wait_in_sync(1);
    let peer = server.status()["sidecars"][0]["peer"].clone();
    assert!(peer.as_str().unwrap().starts_with("127."), "{peer}");

    ours.put(&new.certificate, &new_server);
    wait_until("new handshakes see the new certificate", || {
        greet(address, &new.certificate, Some(&new_agent)) == Ok(certificate(&new_server.0))
    });
    assert!(greet(address, &new.certificate, Some(&old_agent)).unwrap_err().contains("UnknownCA"));
    // What is open goes on.
    let before = server.version();
    fs::write(server.allowlist(), "- a.test\n- b.test\n").unwrap();
    wait_until("the edit is live", || server.version() != before);
    server.wait_in_sync(1);
    assert_eq!(server.status()["sidecars"][0]["peer"], peer);

    // A key of another certificate, and half a file.
    for (file, bytes) in [(&ours.0[2], fs::read(&old_agent.1).unwrap()), (&ours.0[0], b"-----BEGIN".to_vec())]
    {
        let good = fs::read(file).unwrap();
        replace(file, &bytes);
        let name = file.file_name().unwrap().to_str().unwrap();
        server.process().wait_for("the refusal", |line| {
            line.contains("ERROR") && line.contains(name) && line.contains("that were there before")
        });
        assert_eq!(greet(address, &new.certificate, Some(&new_agent)), Ok(certificate(&new_server.0)));
        replace(file, &good);
    }
    assert!(!server.process().text().contains("PRIVATE KEY"));

    // The sidecar follows its files, too.
    theirs.swap(&new.certificate, &new_agent);
    server.stop();
    server.launch();
    server.wait_in_sync(1);
}

#[test]
fn unusable_files_are_explained_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::create(directory.path(), "ca");
    let (cert, key) = ca.issue("server", "DNS:a.test");
    let (_, other) = ca.issue("other", "DNS:a.test");
    fs::write(directory.path().join("allowlist.yaml"), "- a.test\n").unwrap();
    let (missing, at) = (directory.path().join("missing.pem"), directory.path());
    let cases: [(&Path, &Path, &Path, &str, &str); 7] = [
        (&missing, &key, &ca.certificate, "--tls-cert", "missing.pem: there is no such file"),
        (at, &key, &ca.certificate, "--tls-cert", "this is a directory"),
        (&key, &key, &ca.certificate, "--tls-cert", "it holds no certificate"),
        (&cert, &cert, &ca.certificate, "--tls-key", "it holds no private key"),
        (&cert, &other, &ca.certificate, "--tls-key", "this is not the key of the certificate in"),
        (&cert, &key, &key, "--client-ca", "it holds no certificate"),
        (&cert, &key, &missing, "--client-ca", "missing.pem: there is no such file"),
    ];
    for (cert, key, ca, flag, problem) in cases {
        let output = finish(
            exeat()
                .current_dir(directory.path())
                .args(["serve", "--xds-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
                .args([
                    Path::new("--tls-cert"),
                    cert,
                    Path::new("--tls-key"),
                    key,
                    Path::new("--client-ca"),
                    ca,
                ]),
        );
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(flag) && words.contains(problem), "{flag} {problem}: {words}");
    }
}

#[test]
fn a_flood_of_connections_ends_no_listener() {
    let block = Block::claim();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("allowlist.yaml"), "- a.test\n").unwrap();
    let address: SocketAddr = (block.host(9), 18_000).into();
    let mut limited = std::process::Command::new("sh");
    // The program under test, with few file descriptors.
    limited
        .current_dir(directory.path())
        .args(["-c", "ulimit -n 48; exec \"$@\"", "sh"])
        .arg(exeat().get_program())
        .args(["serve", "--xds-listen", &address.to_string()])
        .args(["--admin-listen", &format!("{}:18001", block.host(9))]);
    let server = Process::start(limited);
    server.wait_for("listens", |line| line.contains("listens"));
    let flood: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    let closed = "closed the connection of";
    server.wait_for("that there are too many", |line| line.contains(closed));
    // What somebody takes away is still taken away.
    fs::write(directory.path().join("allowlist.yaml"), "- b.test\n").unwrap();
    server.wait_for("the edit", |line| line.contains("allowlist edit: +b.test -a.test"));
    drop(flood);
    // The server may not have seen yet that they are gone.
    wait_until("there is room again", || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut settings = [0; 9];
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").is_ok()
            && stream.read_exact(&mut settings).is_ok()
            && settings[3] == 4
    });
}

/// A client whose machine is gone sends nothing any more, not even that it is gone (R-L4).
#[test]
fn half_open_connections_are_noticed() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let mut stream = TcpStream::connect(tcp(&server)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    // The server pings after 30 s and waits 10 s for the answer; the rest is for a busy machine.
    stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    let mut said = Vec::new();
    let end = stream.read_to_end(&mut said);
    assert!(
        end.is_ok() || end.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset,
        "it is still open"
    );
    let mut frames = said.as_slice();
    let mut pinged = false;
    while let [a, b, c, kind, rest @ ..] = frames {
        pinged |= *kind == 6;
        frames = rest.get(5 + u32::from_be_bytes([0, *a, *b, *c]) as usize..).unwrap_or_default();
    }
    assert!(pinged, "{said:?}");
}

/// Whoever sends half a request must not keep a place of the admin port.
#[test]
fn half_a_request_holds_no_place_of_the_admin_port() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let mut stream = TcpStream::connect(server.admin).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut said = Vec::new();
    assert!(stream.read_to_end(&mut said).is_ok(), "it is still open");
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_admin_port_is_not_for_web_pages() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let url = |path: &str| format!("http://{}{path}", server.admin);
    let code = |arguments: &[&str]| {
        let all = [&["-sS", "-o", "/dev/null", "-w", "%{http_code}"], arguments].concat();
        String::from_utf8(command("curl", &all).stdout).unwrap()
    };
    assert_eq!(code(&[&url("/healthz")]), "200");
    assert_eq!(code(&[&url("/heathz")]), "404");
    assert_eq!(code(&[&url("/status"), "-H", "Host: attacker.example"]), "403");
    let reload = url("/exeat.admin.v1.Admin/Reload");
    assert_eq!(code(&["-X", "POST", "-H", "Origin: http://attacker.example", &reload]), "403");
}
