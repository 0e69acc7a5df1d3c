//! Addresses, and names that lead to them.

use super::Lab;
use crate::support::{Stack, deny_reason, secure_tunnel, tunnel, wait_until};
use std::net::{IpAddr, TcpListener};

/// B-20, B-21, B-24 to B-27: addresses in any spelling, cloud metadata, the sidecar itself.
#[test]
fn b20_b27_addresses_are_names_of_their_own() {
    let lab = Lab::start();
    let own = lab.stack.proxy().to_string();
    for target in [
        "10.0.0.5:{port}",
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "127.0.0.1:9901",
        "[::1]:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "[64:ff9b::7f00:1]:{port}",
        "2130706433:{port}",
        "0x7f000001:{port}",
        "127.1:{port}",
        "0177.0.0.1:{port}",
        "0177.0115.0.4:{port}",
        "0.0.0.0:{port}",
        "localhost:{port}",
        "metadata.google.internal:80",
        &own,
    ] {
        lab.refused(&format!("CONNECT {target} HTTP/1.1\r\n\r\n"), 403, "not-listed");
        lab.refused(&format!("GET http://{target}/ HTTP/1.1\r\nhost: x\r\n\r\n"), 403, "not-listed");
    }
}

/// B-27: an entry cannot open exeat's own ports or the proxy's either.
#[test]
fn b27_own_ports_stay_closed_whatever_is_listed() {
    let stack = Stack::start("- allowed.test:{port}\n");
    let (proxy, admin) = (stack.proxy(), stack.control_plane.admin);
    let xds = format!("{}:18000", admin.ip());
    let entry = |host: String, port: u16| {
        format!("- {{host: {host}, ports: [{port}], protocol: tcp, private: true}}\n")
    };
    let own = [(proxy.ip(), proxy.port()), (admin.ip(), admin.port()), (admin.ip(), 18000)];
    let other = TcpListener::bind((admin.ip(), 0)).unwrap().local_addr().unwrap();
    let list: String = own.into_iter().map(|(ip, port)| entry(ip.to_string(), port)).collect();
    stack.edit(&format!("{list}{}", entry(other.ip().to_string(), other.port())));
    for target in [proxy.to_string(), admin.to_string(), xds] {
        let (_, reply) = tunnel(stack.proxy(), &target);
        assert_eq!((reply.code, deny_reason(&reply)), (403, Some("denied-by-rule")), "{target}");
    }
    let (_, reply) = tunnel(stack.proxy(), &other.to_string());
    assert_ne!(reply.code, 403, "what is beside them is no business of exeat's");
    stack.control_plane.process().wait_for("the warning", |line| line.contains("its ports stay closed"));
}

/// The same in report mode, which lets pass what is not listed: private addresses stay closed, in whatever spelling.
#[test]
fn b24_b27_report_mode_opens_no_private_address() {
    let lab = Lab::with("mode: report\nallow: [\"allowed.test:{port}\"]\n");
    let (own, control) = (lab.stack.proxy(), lab.stack.control_plane.admin);
    let evil = lab.evil.local_addr().unwrap();
    for target in [
        evil.to_string(),
        own.to_string(),
        control.to_string(),
        format!("{}:18000", control.ip()),
        "127.0.0.1:9901".to_owned(),
        format!("localhost:{}", evil.port()),
        "169.254.169.254:80".to_owned(),
        format!("0.0.0.0:{}", evil.port()),
        format!("2130706433:{}", evil.port()),
        format!("0x7f000001:{}", evil.port()),
        format!("127.1:{}", evil.port()),
        format!("0177.0115.0.4:{}", evil.port()),
        format!("[::ffff:{}]:{}", evil.ip(), evil.port()),
        format!("[::1]:{}", evil.port()),
    ] {
        for bytes in [
            format!("CONNECT {target} HTTP/1.1\r\n\r\n"),
            format!("GET http://{target}/ HTTP/1.1\r\nhost: {target}\r\n\r\n"),
        ] {
            let answered = lab.send(&bytes);
            assert!(answered.as_ref().is_none_or(|(code, _)| *code != 200), "{bytes:?}: {answered:?}");
        }
    }
    let came = lab.evil.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(came, Err(std::io::ErrorKind::WouldBlock));
}

/// B-22, B-23: a name that leads to a private address, also beside others. More in `enforcement.rs`.
#[test]
fn b22_rebinding_is_refused_with_a_reason() {
    let lab = Lab::start();
    let refused = |name: &str| {
        lab.refused(&format!("CONNECT {name}:{{port}} HTTP/1.1\r\n\r\n"), 403, "private-address");
        lab.refused(
            &format!("GET http://{name}:{{port}}/ HTTP/1.1\r\nhost: x\r\n\r\n"),
            403,
            "private-address",
        );
    };
    refused("rebind.wild.test");
    // B-25: as IPv6, and as what carries IPv4 in IPv6.
    let evil = match lab.evil.local_addr().unwrap().ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_string(),
        IpAddr::V6(address) => address.to_string(),
    };
    for (number, address) in
        ["::1", "fd00::1", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", &evil]
            .iter()
            .enumerate()
    {
        let name = format!("v6-{number}.wild.test");
        lab.stack.dns.set(&name, &[address]);
        refused(&name);
    }
    // What Envoy does not look into or speaks TLS to, and what passes in report mode, is guarded alike.
    lab.stack.dns.set("inside.wild.test", &[&lab.stack.block.host(5).to_string()]);
    lab.stack.edit(
        "allow:\n  - {host: rebind.wild.test, ports: [{port}], protocol: tcp}\n  - {host: inside.wild.test, ports: [{port}], tls: originate}\n",
    );
    lab.refused("CONNECT rebind.wild.test:{port} HTTP/1.1\r\n\r\n", 403, "private-address");
    lab.refused("GET http://inside.wild.test:{port}/ HTTP/1.1\r\nhost: x\r\n\r\n", 403, "private-address");
    lab.stack.edit("mode: report\nallow: []\n");
    refused("rebind.wild.test");
}

/// B-22: a name that led outside, and leads inside when it is asked for again. What is open stays where it is; Envoy keeps the
/// address that it knows as long as it gets no good one.
#[test]
fn b22_a_name_that_moves_inside_leads_nowhere_new() {
    let lab = Lab::start();
    let name = "moves.wild.test";
    let asked = || lab.stack.dns.asked().iter().filter(|asked| *asked == name).count();
    lab.stack.dns.set_for(1, name, &[&lab.stack.block.host(2).to_string()]);
    assert_eq!(secure_tunnel(lab.stack.proxy(), &lab.stack.at(name)).get_inside(name).code, 200);
    lab.stack.dns.set_for(1, name, &[&lab.stack.block.host(5).to_string()]);
    let before = asked();
    wait_until("the name is asked for again", || asked() > before);
    for _ in 0..20 {
        let (inside, _) = tunnel(lab.stack.proxy(), &lab.stack.at(name));
        drop(inside.tls(Some(name)));
        lab.unreached();
    }
}
