#![doc = include_str!("catalogue.md")]

mod addresses;
mod names;
mod requests;

use crate::support::{Connection, Stack, deny_reason, get, wait_until};
use std::net::TcpListener;

/// A stack with names that are listed, and a listener that nobody may reach.
struct Lab {
    stack: Stack,
    evil: TcpListener,
}

const LIST: &str = "
allow:
  - allowed.test:{port}
  - allowed.test
  - \"*.wild.test:{port}\"
  - {host: paths.test, ports: [{port}], protocol: http, methods: [GET], paths: [/v1/*]}
deny:
  - secret.wild.test
";

impl Lab {
    fn start() -> Self {
        Self::with(LIST)
    }

    fn with(list: &str) -> Self {
        let stack = Stack::start(list);
        // Where every name that is not allowed would lead, and private addresses, too.
        let evil = TcpListener::bind((stack.block.host(5), stack.upstream.port())).unwrap();
        evil.set_nonblocking(true).unwrap();
        let address = stack.block.host(5).to_string();
        for name in
            ["evil.test", "secret.wild.test", "rebind.wild.test", "allowed.test.evil.test", "notwild.test"]
        {
            stack.dns.set(name, &[&address]);
        }
        Self { stack, evil }
    }

    fn port(&self) -> u16 {
        self.stack.upstream.port()
    }

    /// Sends bytes, in which `{port}` is the upstream's port, and reads the answer if there is one.
    fn send(&self, bytes: &str) -> Option<(u16, Option<String>)> {
        let mut connection = Connection::open(self.stack.proxy());
        connection.send(bytes.replace("{port}", &self.port().to_string()));
        let reply = connection.try_reply()?;
        Some((reply.code, deny_reason(&reply).map(str::to_owned)))
    }

    /// Refused with this code and reason; nobody was asked or reached; the log says so.
    fn refused(&self, bytes: &str, code: u16, reason: &str) {
        let (before, logged) = (self.stack.upstream.connections(), self.stack.sidecar.logged().len());
        assert_eq!(self.send(bytes), Some((code, Some(reason.to_owned()))), "{bytes:?}");
        assert_eq!(self.stack.upstream.connections(), before, "{bytes:?}");
        self.unreached();
        wait_until(&format!("the log has {reason} of {bytes:?}"), || {
            let lines = self.stack.sidecar.logged();
            lines.iter().skip(logged).any(|line| line["action"] == "deny" && line["reason"] == reason)
        });
    }

    /// Refused, or closed, in whatever words; nobody was asked or reached; the log flags it.
    fn stopped(&self, bytes: &str) {
        let (before, logged) = (self.stack.upstream.connections(), self.stack.sidecar.logged().len());
        let answered = self.send(bytes);
        assert!(
            answered.as_ref().is_none_or(|(code, _)| [400, 403].contains(code)),
            "{bytes:?}: {answered:?}"
        );
        assert_eq!(self.stack.upstream.connections(), before, "{bytes:?}");
        self.unreached();
        wait_until(&format!("the log flags {bytes:?}"), || {
            self.stack.sidecar.logged().iter().skip(logged).any(|line| line["action"] == "deny")
        });
    }

    /// Nobody got to where nobody may go, and no name was asked for but those that are allowed.
    fn unreached(&self) {
        let came = self.evil.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(came, Err(std::io::ErrorKind::WouldBlock));
        let allowed =
            |name: &str| name == "allowed.test" || name == "paths.test" || name.ends_with(".wild.test");
        let asked = self.stack.dns.asked();
        assert!(asked.iter().all(|name| allowed(name) && name != "secret.wild.test"), "{asked:?}");
    }
}

/// CVE-2025-66479 and its like: an empty list allows nothing, and so does one that was emptied.
#[test]
fn an_empty_list_is_not_an_open_door() {
    let lab = Lab::with("allow: []\n");
    lab.refused("CONNECT allowed.test:{port} HTTP/1.1\r\n\r\n", 403, "not-listed");
    lab.stack.edit("- allowed.test:{port}\n");
    assert_eq!(get(lab.stack.proxy(), &format!("http://{}/", lab.stack.at("allowed.test"))).code, 200);
    lab.stack.edit("allow: []\n");
    lab.refused("GET http://allowed.test:{port}/ HTTP/1.1\r\nhost: x\r\n\r\n", 403, "not-listed");
}

/// B-30: what the presets close stays closed below whatever is listed.
#[test]
fn b30_presets_that_deny_win() {
    let lab = Lab::with("use: [doh, relays]\nallow: [dns.google, \"*.quad9.net\", .ngrok.io]\n");
    for host in ["dns.google", "dns.quad9.net", "x.ngrok.io"] {
        lab.refused(&format!("CONNECT {host}:443 HTTP/1.1\r\n\r\n"), 403, "denied-by-rule");
        lab.refused(&format!("GET http://{host}/ HTTP/1.1\r\nhost: x\r\n\r\n"), 403, "denied-by-rule");
    }
}

/// Report mode ends with the file's words and no others: an edit that cannot be read does not open anything (Claude Code
/// #81572).
#[test]
fn an_edit_that_cannot_be_read_opens_nothing() {
    let lab = Lab::start();
    let before = lab.stack.control_plane.version();
    std::fs::write(lab.stack.allowlist(), "allow:\n  - evil.test:1\n  - *.evil.test\n").unwrap();
    lab.stack.control_plane.process().wait_for("the error", |line| line.contains("yaml-unquoted-star"));
    assert_eq!(lab.stack.control_plane.version(), before);
    lab.refused("CONNECT evil.test:1 HTTP/1.1\r\n\r\n", 403, "not-listed");
    // B-44: larger than what is read.
    let list = "- evil.test:1\n".repeat(400_000);
    std::fs::write(lab.stack.allowlist(), list).unwrap();
    lab.stack.control_plane.process().wait_for("the error", |line| line.contains("file-too-large"));
    assert_eq!(lab.stack.control_plane.version(), before);
    lab.refused("CONNECT evil.test:1 HTTP/1.1\r\n\r\n", 403, "not-listed");
}
