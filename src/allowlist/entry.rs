//! The host of an entry as text: `a.com`, `*.a.com`, `.a.com`, an address or a range, each but the last with an optional
//! `:port`.
//!
//! Knows nothing of files and places: it says what is wrong with a text and what to write instead.

use super::spec;
use crate::policy::{HostName, HostPattern, InvalidHost, Port, Ports, Suffix, Target, suffix_of};
use std::net::{IpAddr, Ipv6Addr};

/// Provider domains whose customers have names below, and that the Public Suffix List does not have as a whole.
const SHARED: [&str; 4] = ["amazonaws.com", "googleusercontent.com", "windows.net", "r2.dev"];

/// What an entry means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) target: Target,
    pub(super) port: Option<Ports>,
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

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To let a host through, or to be used by a list that does.
    Allow,
    /// To deny it: the wider the better.
    Deny,
}

/// Reads the host of one entry.
pub(super) fn parse(text: &str, purpose: Purpose) -> Result<Entry, Problem> {
    refuse_other_things(text)?;
    if let Some((target, port)) = address(text)? {
        return Ok(Entry { target, port, notes: Vec::new() });
    }
    let (written, port) = split_port(text)?;
    let (form, base) = split_form(written)?;
    let wide = written != base;
    let name = match HostName::parse_local(base) {
        Ok(name) if wide && !name.as_str().contains('.') && purpose == Purpose::Allow => {
            return Err(public_suffix(base));
        }
        Ok(name) => name,
        Err(error) => return Err(explain_host(base, &error)),
    };
    let mut notes = Vec::new();
    if !base.is_ascii() {
        notes.push(Problem::new(
            "host-international",
            format!("`{base}` is enforced as `{name}`"),
            format!("write {name} to make this visible"),
        ));
    }
    if let Some(label) = mixed_script(base, &name) {
        notes.push(Problem::new(
            "host-mixed-script",
            format!("`{label}` has letters of several scripts, which can look like another name"),
            "check who owns the name, and write it as it was meant",
        ));
    }
    let pattern = form(name);
    if let Some(above) = pattern.above().filter(|_| purpose == Purpose::Allow) {
        let shared = Problem::new(
            "host-shared-tenant",
            format!("every customer of the provider has names below `{above}`"),
            "name the hosts that you mean",
        );
        match suffix_of(above.as_str()) {
            Suffix::Registrable if SHARED.contains(&above.as_str()) => notes.push(shared),
            Suffix::Registrable => {}
            Suffix::Registry => return Err(public_suffix(above.as_str())),
            Suffix::SharedTenant => notes.push(shared),
        }
    }
    Ok(Entry { target: Target::Host(pattern), port, notes })
}

/// The first label with letters of Latin and of another script, as it reads.
fn mixed_script(written: &str, name: &HostName) -> Option<String> {
    let (unicode, _) = idna::domain_to_unicode(name.as_str());
    let text = if written.is_ascii() { unicode } else { written.to_lowercase() };
    let mixed = |label: &&str| {
        let latin = label.chars().any(|c| c.is_ascii_alphabetic());
        // Accents and the like are Latin; Greek begins at U+0370.
        latin && label.chars().any(|c| c >= '\u{370}' && c.is_alphabetic())
    };
    text.split(['.', '\u{3002}']).find(mixed).map(str::to_owned)
}

/// An address or a range, if it is one in a spelling that can be meant.
fn address(text: &str) -> Result<Option<(Target, Option<Ports>)>, Problem> {
    if let Ok(range) = text.parse::<ipnet::IpNet>() {
        return spec::range(range).map(|target| Some((target, None)));
    }
    if let Some((range, _)) = text.rsplit_once(':').filter(|(range, _)| range.contains('/'))
        && range.parse::<ipnet::IpNet>().is_ok()
    {
        let help = format!("write {{host: \"{range}\", ports: [...]}}");
        return Err(Problem::new("host-port", format!("`{text}` is a range with a port"), help));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Some((spec::address(address), None)));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, rest)) = rest.split_once(']') else { return Ok(None) };
            let Ok(address) = host.parse::<Ipv6Addr>() else { return odd_address(text).map(Some) };
            (IpAddr::from(address), rest)
        }
        None => {
            let (host, _) = text.split_once(':').unwrap_or((text, ""));
            let Ok(address) = host.parse::<IpAddr>() else {
                return if is_ipv6(text) { odd_address(text).map(Some) } else { Ok(None) };
            };
            (address, text.get(host.len()..).unwrap_or_default())
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return odd_address(text).map(Some),
        Some(port) => Some(read_port(&crate::policy::authority(host), port)?),
    };
    Ok(Some((spec::address(host), port)))
}

fn odd_address<T>(text: &str) -> Result<T, Problem> {
    Err(Problem::new(
        "host-address",
        format!("`{text}` reads as an IP address in a spelling that programs understand differently"),
        "write all four numbers in decimal (127.0.0.1), or IPv6 without a zone (\"[fd00::1]:443\")",
    ))
}

/// Things that are no host at all, each with the way out.
fn refuse_other_things(text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::new(
            "host-empty",
            "found an empty text, expected a host",
            "write a host such as a.com",
        ));
    }
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
    if let Some((_, host)) = text.rsplit_once('@') {
        return Err(Problem::new("host-userinfo", format!("`{text}` names a user"), format!("write {host}")));
    }
    if let Some((host, _)) = text.split_once('/').filter(|(host, _)| !is_range(host)) {
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

/// What stands before a slash may be an address.
fn is_range(before: &str) -> bool {
    before.parse::<IpAddr>().is_ok()
}

fn split_port(text: &str) -> Result<(&str, Option<Ports>), Problem> {
    let Some((host, port)) = text.split_once(':') else {
        return Ok((text, None));
    };
    Ok((host, Some(read_port(host, port)?)))
}

fn read_port(host: &str, port: &str) -> Result<Ports, Problem> {
    let port = Port::parse(port).map_err(|error| {
        Problem::new(
            "host-port",
            error.to_string(),
            format!("write {host}:443, or {host} for ports 80 and 443"),
        )
    })?;
    Ok(Ports::only(port))
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
        InvalidHost::Address => "write all four numbers in decimal (127.0.0.1), or a host name".to_owned(),
        InvalidHost::SingleLabel => "write the full name".to_owned(),
        InvalidHost::Underscore => "use a name of the host without an underscore".to_owned(),
        InvalidHost::Character(_) => "host names have letters, digits, hyphens and dots".to_owned(),
        InvalidHost::Hyphen(_)
        | InvalidHost::LongLabel(_)
        | InvalidHost::TooLong(_)
        | InvalidHost::NotIdna => "check the spelling".to_owned(),
    };
    let code = match error {
        InvalidHost::SingleLabel => "host-local",
        InvalidHost::Address => "host-address",
        InvalidHost::Underscore => "host-underscore",
        _ => "host-invalid",
    };
    Problem::new(code, format!("`{text}`: {error}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(text: &str) -> String {
        let entry = parse(text, Purpose::Allow).unwrap_or_else(|problem| panic!("{text}: {problem:?}"));
        match entry.port.as_ref().and_then(Ports::suffix) {
            Some(ports) => format!("{}:{ports}", entry.target),
            None => entry.target.to_string(),
        }
    }

    #[test]
    fn hosts_and_addresses_with_ports() {
        for (text, expected) in [
            ("a.com", "a.com"),
            ("A.com.", "a.com"),
            ("*.a.com", "*.a.com"),
            (".a.com", ".a.com"),
            ("a.com:8443", "a.com:8443"),
            ("*.a.com:443", "*.a.com:443"),
            (".a.com:80", ".a.com:80"),
            ("localhost", "localhost"),
            ("10.0.0.5", "10.0.0.5"),
            ("10.0.0.5:80", "10.0.0.5:80"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.5/32", "10.0.0.5"),
            ("fd00:0::1", "[fd00::1]"),
            ("[::1]:8080", "[::1]:8080"),
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
            ("127.1", "host-address", "all four numbers"),
            ("0x7f.1", "host-address", "all four numbers"),
            ("0177.0.0.1", "host-address", "all four numbers"),
            ("10.0.0.5/8", "host-address", "10.0.0.0/8"),
            ("fd00::/8", "host-address", "one by one"),
            ("fe80::1%eth0", "host-address", "without a zone"),
            ("10.0.0.0/8:443", "host-port", "ports: [...]"),
            ("10.0.0.5:0", "host-port", "10.0.0.5:443"),
            ("a.com:", "host-port", "a.com:443"),
            ("a.com:0", "host-port", "a.com:443"),
            ("a.com:70000", "host-port", "a.com:443"),
            ("a.com:443:1", "host-port", "a.com:443"),
            ("a_b.com", "host-underscore", "without an underscore"),
        ] {
            let problem = parse(text, Purpose::Allow).expect_err(text);
            assert_eq!(problem.code, code, "{text}: {problem:?}");
            assert!(problem.help.contains(help), "{text}: {problem:?}");
        }
    }

    #[test]
    fn notes_do_not_stop_an_entry() {
        for (text, code) in [
            ("bücher.example", "host-international"),
            ("*.github.io", "host-shared-tenant"),
            (".amazonaws.com", "host-shared-tenant"),
            ("xn--gthub-n2e.com", "host-mixed-script"),
        ] {
            assert_eq!(parse(text, Purpose::Allow).unwrap().notes[0].code, code, "{text}");
        }
        let codes: Vec<_> =
            parse("gіthub.com", Purpose::Allow).unwrap().notes.iter().map(|note| note.code).collect();
        assert_eq!(codes, ["host-international", "host-mixed-script"]);
        assert!(parse("bücher.example", Purpose::Allow).unwrap().notes.len() == 1);
        assert!(parse(".github.io", Purpose::Deny).unwrap().notes.is_empty());
        assert!(parse("*.zip", Purpose::Deny).is_ok());
    }
}
