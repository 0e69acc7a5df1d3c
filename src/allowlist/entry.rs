//! One entry as text: `a.com`, `*.a.com`, `.a.com`, each with an optional `:port`.
//!
//! Knows nothing of files and places: it says what is wrong with a text and what to write instead.

use crate::policy::{HostName, HostPattern, InvalidHost, Port, Ports, Suffix, suffix_of};
use std::net::Ipv6Addr;

/// What an entry means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) pattern: HostPattern,
    pub(super) ports: Ports,
    /// Things to look at that do not stop the entry.
    pub(super) notes: Vec<Problem>,
}

/// What is wrong, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: String,
}

impl Problem {
    fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
}

/// Reads one entry.
pub(super) fn parse(text: &str) -> Result<Entry, Problem> {
    refuse_other_things(text)?;
    let (written, ports) = split_port(text)?;
    let (form, base) = split_form(written)?;
    let name = HostName::parse(base).map_err(|error| match error {
        InvalidHost::SingleLabel if written != base => public_suffix(base),
        other => explain_host(base, &other),
    })?;
    let mut notes = Vec::new();
    if !base.is_ascii() {
        notes.push(Problem::new(
            "host-international",
            format!("`{base}` is enforced as `{name}`"),
            format!("write {name} to make this visible"),
        ));
    }
    let pattern = form(name);
    if let Some(above) = pattern.above() {
        match suffix_of(above.as_str()) {
            Suffix::Registrable => {}
            Suffix::Registry => return Err(public_suffix(above.as_str())),
            Suffix::SharedTenant => notes.push(Problem::new(
                "host-shared-tenant",
                format!("every customer of the provider has names below `{above}`"),
                "name the hosts that you mean",
            )),
        }
    }
    Ok(Entry { pattern, ports, notes })
}

/// Things that are no host at all, each with the way out.
fn refuse_other_things(text: &str) -> Result<(), Problem> {
    let Some(first) = text.chars().next() else {
        return Err(Problem::new(
            "host-empty",
            "found an empty text, expected a host",
            "write a host such as a.com",
        ));
    };
    if let Some((host, _)) = text.split_once('#') {
        return Err(Problem::new(
            "host-comment",
            format!("`#` is part of the host in `{text}`"),
            format!("put a space before the `#`: {} # …", host.trim()),
        ));
    }
    if let Some((one, two)) = text.split_once(" - ") {
        return Err(Problem::new(
            "host-indentation",
            format!("`{one} - {two}` is one entry, because its second line is indented further"),
            "start all dashes of the list in the same column",
        ));
    }
    if text.contains(char::is_whitespace) {
        return Err(Problem::new(
            "host-space",
            format!("`{text}` contains white space"),
            "write one host per line",
        ));
    }
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        return Err(Problem::new(
            "host-character",
            format!("`{}` contains the control character U+{:04X}", text, u32::from(found)),
            "retype the host",
        ));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?']).next().unwrap_or(rest);
        return Err(Problem::new(
            "host-url",
            format!("`{text}` is a URL, expected a host"),
            format!("write {host}"),
        ));
    }
    if first == '@' {
        return Err(Problem::new(
            "entry-not-supported",
            format!("groups such as `{text}` cannot be enforced by exeat {}", env!("CARGO_PKG_VERSION")),
            "write the hosts out; a later version will know groups",
        ));
    }
    if let Some((_, host)) = text.rsplit_once('@') {
        return Err(Problem::new("host-userinfo", format!("`{text}` names a user"), format!("write {host}")));
    }
    if text.parse::<ipnet::IpNet>().is_ok() || is_ipv6(text) {
        return Err(address(text));
    }
    if let Some((host, _)) = text.split_once('/') {
        return Err(Problem::new(
            "host-path",
            format!("`{text}` has a path; inside TLS no path can be seen"),
            format!("write {host}"),
        ));
    }
    Ok(())
}

fn public_suffix(name: &str) -> Problem {
    Problem::new(
        "host-public-suffix",
        format!("`{name}` is a public suffix: anyone can register names below it"),
        "name the domains below it that you mean",
    )
}

fn is_ipv6(text: &str) -> bool {
    let bare = text.strip_prefix('[').map_or(text, |rest| rest.split(']').next().unwrap_or(rest));
    let bare = bare.split('%').next().unwrap_or(bare);
    bare.parse::<Ipv6Addr>().is_ok()
}

fn address(text: &str) -> Problem {
    Problem::new(
        "host-address",
        format!("`{text}` reads as an IP address, expected a host name"),
        format!(
            "exeat {} allows names only; a later version will know address entries",
            env!("CARGO_PKG_VERSION")
        ),
    )
}

fn split_port(text: &str) -> Result<(&str, Ports), Problem> {
    let Some((host, port)) = text.split_once(':') else {
        return Ok((text, Ports::default()));
    };
    let port = Port::parse(port).map_err(|error| {
        Problem::new(
            "host-port",
            error.to_string(),
            format!("write {host}:443, or {host} for ports 80 and 443"),
        )
    })?;
    Ok((host, Ports::only(port)))
}

type Form = fn(HostName) -> HostPattern;

fn split_form(text: &str) -> Result<(Form, &str), Problem> {
    let wildcard = |message: String, help: String| Err(Problem::new("host-wildcard", message, help));
    if text == "*" {
        return wildcard(
            "`*` would allow every host".to_owned(),
            "list the hosts that are needed, or a domain with all below it: .a.com".to_owned(),
        );
    }
    if let Some(name) = text.strip_prefix("**.") {
        return wildcard(
            format!("`{text}` means different things in different tools"),
            format!(
                "write .{name} for {name} and everything below it, or \"*.{name}\" for everything below it only"
            ),
        );
    }
    let (form, name): (Form, &str) = if let Some(name) = text.strip_prefix("*.") {
        (HostPattern::Subdomains, name)
    } else if let Some(name) = text.strip_prefix('.') {
        (HostPattern::Tree, name)
    } else {
        (HostPattern::Exact, text)
    };
    if name.contains('*') {
        let tail = name.rsplit('*').next().unwrap_or(name).trim_start_matches('.');
        let help = if tail.contains('.') {
            format!("write \"*.{tail}\" for everything below {tail}, or list the hosts one by one")
        } else {
            "list the hosts one by one".to_owned()
        };
        return wildcard(
            format!("`{text}` has a `*` in the middle; it can only stand alone before the first dot"),
            help,
        );
    }
    Ok((form, name))
}

fn explain_host(text: &str, error: &InvalidHost) -> Problem {
    let help = match error {
        InvalidHost::Empty | InvalidHost::EmptyLabel => "write a host such as a.com".to_owned(),
        InvalidHost::Address => return address(text),
        InvalidHost::SingleLabel => format!(
            "write the full name; local names such as `{text}` lead to private addresses, which a later version will \
             let single entries reach"
        ),
        InvalidHost::Underscore => "use a name of the host without an underscore".to_owned(),
        InvalidHost::Character(_) => "host names have letters, digits, hyphens and dots".to_owned(),
        InvalidHost::Hyphen(_)
        | InvalidHost::LongLabel(_)
        | InvalidHost::TooLong(_)
        | InvalidHost::NotIdna => "check the spelling".to_owned(),
    };
    let code = match error {
        InvalidHost::SingleLabel => "host-local",
        InvalidHost::Underscore => "host-underscore",
        _ => "host-invalid",
    };
    Problem::new(code, format!("`{text}`: {error}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(text: &str) -> String {
        let entry = parse(text).unwrap();
        match entry.ports.suffix() {
            Some(ports) => format!("{}:{ports}", entry.pattern),
            None => entry.pattern.to_string(),
        }
    }

    #[test]
    fn three_forms_with_ports() {
        for (text, expected) in [
            ("a.com", "a.com"),
            ("A.com.", "a.com"),
            ("*.a.com", "*.a.com"),
            (".a.com", ".a.com"),
            ("a.com:8443", "a.com:8443"),
            ("*.a.com:443", "*.a.com:443"),
            (".a.com:80", ".a.com:80"),
        ] {
            assert_eq!(spelling(text), expected);
        }
    }

    #[test]
    fn every_refusal_says_what_to_write() {
        for (text, code, help) in [
            ("", "host-empty", "a.com"),
            ("a.com# note", "host-comment", "a.com # …"),
            ("a.com - b.com", "host-indentation", "same column"),
            ("a.com b.com", "host-space", "one host per line"),
            ("a\u{0}.com", "host-character", "retype"),
            ("https://api.a.com/v1", "host-url", "write api.a.com"),
            ("@group", "entry-not-supported", "write the hosts out"),
            ("user@a.com", "host-userinfo", "write a.com"),
            ("a.com/v1", "host-path", "write a.com"),
            ("*", "host-wildcard", "list the hosts"),
            ("**.a.com", "host-wildcard", "write .a.com"),
            ("a.*.com", "host-wildcard", "one by one"),
            ("a.*.b.com", "host-wildcard", "\"*.b.com\""),
            ("*a.com", "host-wildcard", "\"*.a.com\""),
            ("*.com", "host-public-suffix", "name the domains"),
            (".co.uk", "host-public-suffix", "name the domains"),
            ("a..com", "host-invalid", "a.com"),
            ("127.1", "host-address", "names only"),
            ("0x7f.1", "host-address", "names only"),
            ("0177.0.0.1", "host-address", "names only"),
            ("10.0.0.5", "host-address", "names only"),
            ("10.0.0.0/8", "host-address", "names only"),
            ("fd00::1", "host-address", "names only"),
            ("[::1]:8080", "host-address", "names only"),
            ("fe80::1%eth0", "host-address", "names only"),
            ("10.0.0.5:80", "host-address", "names only"),
            ("localhost", "host-local", "full name"),
            ("pyp", "host-local", "full name"),
            ("a.com:", "host-port", "a.com:443"),
            ("a.com:0", "host-port", "a.com:443"),
            ("a.com:70000", "host-port", "a.com:443"),
            ("a.com:443:1", "host-port", "a.com:443"),
            ("a_b.com", "host-underscore", "without an underscore"),
        ] {
            let problem = parse(text).expect_err(text);
            assert_eq!(problem.code, code, "{text}: {problem:?}");
            assert!(problem.help.contains(help), "{text}: {problem:?}");
        }
    }

    #[test]
    fn notes_do_not_stop_an_entry() {
        let entry = parse("bücher.example").unwrap();
        assert_eq!(entry.notes[0].code, "host-international");
        let entry = parse("*.github.io").unwrap();
        assert_eq!(entry.notes[0].code, "host-shared-tenant");
    }
}
