//! Clients as people use them: curl, openssl, Python requests.

use crate::support::{Stack, certificate, command, python_with};
use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

/// `openssl s_server` that answers HTTP, killed at the end.
struct TlsUpstream {
    child: Child,
    port: u16,
    certificate: String,
    _directory: tempfile::TempDir,
}

impl TlsUpstream {
    fn start(stack: &Stack, name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = certificate(directory.path(), name);
        let host = stack.block.host(2);
        let port = {
            let probe = TcpListener::bind((host, 0)).unwrap();
            probe.local_addr().unwrap().port()
        };
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &format!("{host}:{port}")])
            .arg("-cert")
            .arg(&certificate)
            .arg("-key")
            .arg(key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the tests need openssl");
        crate::support::wait_until("openssl listens", || std::net::TcpStream::connect((host, port)).is_ok());
        Self { child, port, certificate: certificate.to_str().unwrap().to_owned(), _directory: directory }
    }
}

impl Drop for TlsUpstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_tls() -> (Stack, TlsUpstream) {
    let stack = Stack::start("- a.test:{port}\n");
    let tls = TlsUpstream::start(&stack, "tls.test");
    stack.edit(&format!("- a.test:{{port}}\n- tls.test:{}\n", tls.port));
    (stack, tls)
}

#[test]
fn curl() {
    let (stack, tls) = with_tls();
    let proxy = format!("http://{}", stack.proxy());
    let run = |arguments: &[&str]| {
        let output = command("curl", &[&["-sS", "--max-time", "20", "-x", &proxy], arguments].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    let url = format!("http://{}/", stack.at("a.test"));
    assert_eq!(run(&[&code[..], &[&url]].concat()), (0, "200".into(), String::new()));
    let (_, body, _) = run(&["http://evil.test/"]);
    assert!(body.contains(r#""reason":"not-listed""#), "{body}");
    let url = format!("https://tls.test:{}/", tls.port);
    assert_eq!(
        run(&[&code[..], &["--cacert", &tls.certificate, &url]].concat()),
        (0, "200".into(), String::new())
    );
    let (code, _, words) = run(&["https://evil.test/"]);
    assert_eq!(code, 56);
    assert!(words.contains("CONNECT tunnel failed, response 403"), "{words}");
}

#[test]
fn openssl_s_client() {
    let (stack, tls) = with_tls();
    let proxy = stack.proxy().to_string();
    let connect =
        |target: &str| command("openssl", &["s_client", "-proxy", &proxy, "-connect", target, "-brief"]);
    let output = connect(&format!("tls.test:{}", tls.port));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("CONNECTION ESTABLISHED"), "{words}");
    let output = connect("evil.test:443");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("403"), "{words}");
}

/// Python up to 3.11 sends CONNECT with HTTP/1.0.
#[test]
fn python_requests() {
    let (stack, tls) = with_tls();
    let script = format!(
        r#"
import requests
s = requests.Session()
s.trust_env = False
s.proxies = {{"http": "http://{proxy}", "https": "http://{proxy}"}}
assert s.get("http://{plain}/").status_code == 200
assert s.get("http://evil.test/").json()["reason"] == "not-listed"
assert s.get("https://tls.test:{port}/", verify="{certificate}").status_code == 200
try:
    s.get("https://evil.test/")
except requests.exceptions.ProxyError as error:
    assert "403 Forbidden" in str(error), error
else:
    raise SystemExit("evil.test was reached")
"#,
        proxy = stack.proxy(),
        plain = stack.at("a.test"),
        port = tls.port,
        certificate = tls.certificate,
    );
    let modules = python_with("requests", &["requests==2.32.5"]);
    let path = format!("import sys; sys.path.insert(0, {:?})\n{script}", modules.to_str().unwrap());
    let output = command("python3", &["-c", &path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// HTTP/2 with prior knowledge: the scheme is the client's to choose, and must not open port 80.
#[test]
fn http_2_clients_cannot_choose_the_scheme() {
    let stack = Stack::start("- a.test:{port}\n- default.test\n");
    let proxy = format!("http://{}/", stack.proxy());
    let at = stack.at("a.test");
    let output = command(
        "curl",
        &[
            "-sS",
            "--http2-prior-knowledge",
            "-H",
            &format!("host: {at}"),
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &proxy,
        ],
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200");
    let script = format!(
        r#"
import socket, struct
def header(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
s = socket.create_connection(("{host}", {port}))
s.settimeout(20)
block = header(b":method", b"GET") + header(b":scheme", b"https") + header(b":authority", b"default.test") + header(b":path", b"/")
s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, block))
data = b""
while b"egress_denied" not in data:
    more = s.recv(4096)
    assert more, data
    data += more
assert b"https-needs-connect" in data, data
"#,
        host = stack.proxy().ip(),
        port = stack.proxy().port(),
    );
    let output = command("python3", &["-c", &script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
