//! Keeps web pages away from the admin port: a browser on this machine reaches it, whoever wrote the page.
//!
//! Knows nothing of what is served there.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::net::IpAddr;

/// Endings of names that nobody can register (RFC 6761, RFC 6762, ICANN's `.internal`), and of Kubernetes services.
const LOCAL: [&str; 5] = [".local", ".localhost", ".internal", ".svc", ".test"];

/// Refuses requests that a page of another site makes, and those for a name: a page may have its own name lead here (DNS
/// rebinding). Programs ask for an address, for `localhost`, or for a name inside a network that has no dot.
///
/// `is_local`: whether only this machine reaches the port. Else it is asked for by whatever name it has.
pub async fn refuse_strangers(State(is_local): State<bool>, request: Request, next: Next) -> Response {
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let host = host.or_else(|| text(request.headers(), header::HOST.as_str()).map(str::to_owned));
    if (is_local && host.as_deref().is_some_and(is_a_web_name)) || is_of_a_page(request.headers()) {
        let words = "refused: not for web pages; ask for an IP address or localhost\n";
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    next.run(request).await
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether it is a name that anybody could register.
fn is_a_web_name(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_local = |name: &str| LOCAL.iter().any(|end| name.ends_with(end));
    address.parse::<IpAddr>().is_err() && name.contains('.') && !is_local(name)
}

/// Whether a browser made it for a page that did not come from here.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let site = text(headers, "sec-fetch-site");
    site.is_some_and(|site| !matches!(site, "none" | "same-origin"))
        || (site.is_none() && headers.contains_key(header::ORIGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_web_are_refused() {
        for host in [
            "127.0.0.1:18001",
            "[::1]:18001",
            "::1",
            "localhost:18001",
            "exeat:18001",
            "exeat.ns.svc",
            "10.0.0.1",
        ] {
            assert!(!is_a_web_name(host), "{host}");
        }
        for host in ["attacker.example:18001", "attacker.example", "127.0.0.1.attacker.example"] {
            assert!(is_a_web_name(host), "{host}");
        }
    }

    #[test]
    fn pages_are_refused_and_people_are_not() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            pairs.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            headers
        };
        assert!(!is_of_a_page(&headers(&[])));
        assert!(!is_of_a_page(&headers(&[("sec-fetch-site", "none")])));
        assert!(!is_of_a_page(&headers(&[
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://127.0.0.1")
        ])));
        assert!(is_of_a_page(&headers(&[("sec-fetch-site", "cross-site")])));
        assert!(is_of_a_page(&headers(&[("origin", "http://attacker.example")])));
    }
}
