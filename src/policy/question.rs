//! What a person asks about: a URL, or a host with or without a port, as a request.

use super::{HostName, InvalidHost, Method, Port, Request, Via, authority, grant::is_rewritten, literal};
use std::{net::IpAddr, str::FromStr};

/// What a person asks about: a URL, or a host with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// As written.
    pub text: String,
    /// What that means.
    pub request: Request,
}

impl Question {
    /// The same with another method. In a tunnel no method can be seen.
    pub fn with_method(mut self, method: &str) -> Result<Self, String> {
        let method = Method::parse(&method.to_ascii_uppercase()).map_err(str::to_owned)?;
        if self.request.via == Via::PlainHttp {
            method.as_str().clone_into(&mut self.request.method);
        }
        Ok(self)
    }
}

impl FromStr for Question {
    type Err = String;

    /// Reads `https://host/…`, `http://host/…` (`wss`, `ws`), `host` or `host:port`, with or without a method in front.
    /// Without a scheme, a tunnel.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((method, rest)) = text.split_once(' ') {
            let question: Self = rest.trim_start().parse()?;
            return Ok(Self { text: text.to_owned(), ..question.with_method(method)? });
        }
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
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (named, path) = rest.split_at(end);
        if let Some((_, host)) = named.rsplit_once('@') {
            return Err(format!("`{named}` names a user; the host is {host}"));
        }
        let (host, port) = split(named)?;
        let port = port.map_or(Ok(default), |port| Port::parse(port).map_err(|error| error.to_string()))?;
        let host = normal(host)?;
        let path = normal_path(path.split(['?', '#']).next().unwrap_or(""))?;
        let request = match via {
            Via::Tunnel => Request::tunnel(host, port),
            Via::PlainHttp => Request { path, ..Request::plain(host, port) },
        };
        Ok(Self { text: text.to_owned(), request })
    }
}

/// A path as Envoy compares it: dots resolved, slashes merged.
fn normal_path(path: &str) -> Result<String, String> {
    if path.bytes().any(is_rewritten) || path.contains("..;") {
        return Err("write the path without escapes, and without characters that Envoy escapes or refuses before it compares"
            .to_owned());
    }
    // Dots are resolved first, and then slashes merged.
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let ends = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    parts.retain(|part| !part.is_empty());
    let end = if ends && !parts.is_empty() { "/" } else { "" };
    Ok(format!("/{}{end}", parts.join("/")))
}

/// Host and port; brackets stay.
fn split(named: &str) -> Result<(&str, Option<&str>), String> {
    let Some(rest) = named.strip_prefix('[') else {
        return Ok(match named.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (named, None),
        });
    };
    let close = rest.find(']').ok_or_else(|| format!("`{named}` has no closing bracket"))?;
    let (host, rest) = named.split_at(close + 2);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(format!("`{rest}` behind the address is no port")),
    }
}

/// As it stands in an authority.
fn normal(host: &str) -> Result<String, String> {
    if literal(host).is_some() {
        return Ok(host.to_owned());
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: IpAddr = address.parse().map_err(|_| format!("`{host}` is no IPv6 address"))?;
        return Err(format!("Envoy compares texts; write {}", authority(address)));
    }
    match HostName::parse(host) {
        Ok(name) => Ok(name.as_str().to_owned()),
        // Local names can be listed as private targets.
        Err(InvalidHost::SingleLabel) => Ok(host.trim_end_matches('.').to_ascii_lowercase()),
        Err(error) => Err(format!("`{host}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_hosts_are_targets() {
        let port = |text| Port::parse(text).unwrap();
        for (text, expected) in [
            ("https://A.test/x?y#z", Request::tunnel("a.test", port("443"))),
            ("http://a.test", Request::plain("a.test", port("80"))),
            ("wss://a.test:8443/", Request::tunnel("a.test", port("8443"))),
            ("a.test", Request::tunnel("a.test", port("443"))),
            ("a.test.:22", Request::tunnel("a.test", port("22"))),
            ("[::1]:22", Request::tunnel("[::1]", port("22"))),
            ("http://10.0.0.1/", Request::plain("10.0.0.1", port("80"))),
            ("ollama:11434", Request::tunnel("ollama", port("11434"))),
            (
                "POST http://a.test/v1/x?y",
                Request {
                    method: "POST".to_owned(),
                    path: "/v1/x".to_owned(),
                    ..Request::plain("a.test", port("80"))
                },
            ),
            (
                "http://a.test//v1/./x/../y/",
                Request { path: "/v1/y/".to_owned(), ..Request::plain("a.test", port("80")) },
            ),
            (
                "http://a.test/v1//../",
                Request { path: "/v1/".to_owned(), ..Request::plain("a.test", port("80")) },
            ),
            (
                "http://a.test/v1//..//x",
                Request { path: "/v1/x".to_owned(), ..Request::plain("a.test", port("80")) },
            ),
            ("POST https://a.test/", Request::tunnel("a.test", port("443"))),
        ] {
            let asked: Question = text.parse().unwrap();
            assert_eq!(asked.request, expected, "{text}");
            assert_eq!(asked.text, text);
        }
        for (text, words) in [
            ("ftp://a.test", "no scheme"),
            ("https://user@a.test/", "the host is a.test"),
            ("a.test:0443", "begins with a zero"),
            ("https://127.1/", "IP address"),
            ("https://[0::1]/", "write [::1]"),
            ("https:///x", "empty"),
            ("http://a.test/%61dmin", "without escapes"),
            ("http://a.test/a|b", "without escapes"),
            ("G(T http://a.test", "capital letters"),
        ] {
            assert!(text.parse::<Question>().unwrap_err().contains(words), "{text}");
        }
    }
}
