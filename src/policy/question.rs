//! What a person asks about: a URL, or a host with or without a port, as a request.

use super::{HostName, Port, Request, Via};
use std::str::FromStr;

/// What a person asks about: a URL, or a host with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// As written.
    pub text: String,
    /// What that means.
    pub request: Request,
}

impl FromStr for Question {
    type Err = String;

    /// Reads `https://host/…`, `http://host/…` (`wss`, `ws`), `host` or `host:port`. Without a scheme, a tunnel.
    fn from_str(text: &str) -> Result<Self, String> {
        let (via, default, rest) = match text.split_once("://") {
            None => (Via::Tunnel, Port::HTTPS, text),
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "https" | "wss" => (Via::Tunnel, Port::HTTPS, rest),
                "http" | "ws" => (Via::PlainHttp, Port::HTTP, rest),
                _ => {
                    return Err(format!("`{scheme}` is no scheme that the proxy knows; write http or https"));
                }
            },
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if let Some((_, host)) = authority.rsplit_once('@') {
            return Err(format!("`{authority}` names a user; the host is {host}"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Port::parse(port).map_err(|error| error.to_string())?),
            None => (authority, default),
        };
        let host = HostName::parse(host).map_err(|error| format!("`{host}`: {error}"))?;
        let request = Request { host: host.as_str().to_owned(), port, via };
        Ok(Self { text: text.to_owned(), request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_hosts_are_targets() {
        for (text, host, port, via) in [
            ("https://A.test/x?y#z", "a.test", "443", Via::Tunnel),
            ("http://a.test", "a.test", "80", Via::PlainHttp),
            ("wss://a.test:8443/", "a.test", "8443", Via::Tunnel),
            ("a.test", "a.test", "443", Via::Tunnel),
            ("a.test.:22", "a.test", "22", Via::Tunnel),
        ] {
            let asked: Question = text.parse().unwrap();
            let expected = Request { host: host.to_owned(), port: Port::parse(port).unwrap(), via };
            assert_eq!(asked.request, expected, "{text}");
        }
        for (text, words) in [
            ("ftp://a.test", "no scheme"),
            ("https://user@a.test/", "the host is a.test"),
            ("a.test:0443", "begins with a zero"),
            ("https://10.0.0.1/", "IP address"),
            ("https:///x", "empty"),
        ] {
            assert!(text.parse::<Question>().unwrap_err().contains(words), "{text}");
        }
    }
}
