//! Who is at the other end of a connection, as far as the transport can tell.

use super::node::bounded;

/// The other end of a connection. The transport puts it into the extensions of each request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// `IP:PORT` of the client, or `unix:PATH` of the socket.
    pub address: String,
    /// The names in the client's certificate, where one was verified.
    pub certificate: Option<CertificateNames>,
}

/// What a verified client certificate says of its owner. Fit for logs: bounded, and without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The SPIFFE ID. Absent if there are several: an identity is one name.
    pub spiffe: Option<String>,
    /// The DNS names.
    pub dns: Vec<String>,
}

/// How the URI of a SPIFFE ID begins.
const SPIFFE: &str = "spiffe://";
/// The most DNS names that are kept.
const MAX_NAMES: usize = 16;
/// Longest name that is kept whole, the most that a SPIFFE ID may have.
const MAX_NAME: usize = 2048;

impl CertificateNames {
    /// Keeps what identifies a client among the certificate's URI and DNS names.
    pub fn new<'a>(uris: impl IntoIterator<Item = &'a str>, dns: impl IntoIterator<Item = &'a str>) -> Self {
        // Schemes have no case.
        let is_spiffe =
            |uri: &&str| uri.get(..SPIFFE.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SPIFFE));
        let mut ids = uris.into_iter().filter(is_spiffe);
        let spiffe = ids.next().filter(|_| ids.next().is_none());
        Self { spiffe: spiffe.map(name), dns: dns.into_iter().take(MAX_NAMES).map(name).collect() }
    }
}

/// A name that was cut says so: it must not equal one that is shorter.
fn name(text: &str) -> String {
    let mut name = bounded(text, MAX_NAME);
    if text.chars().nth(MAX_NAME).is_some() {
        name.push('…');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_one_name() {
        let names = CertificateNames::new(["https://a", "spiffe://td/agent"], ["a.test", "b.test"]);
        assert_eq!(names.spiffe.as_deref(), Some("spiffe://td/agent"));
        assert_eq!(names.dns, ["a.test", "b.test"]);
        assert_eq!(
            CertificateNames::new(["spiffe://td/a", "spiffe://td/b"], []),
            CertificateNames::default()
        );
        assert_eq!(CertificateNames::new(["spiffe:/é"], []), CertificateNames::default());
    }

    #[test]
    fn names_are_fit_for_logs() {
        let long = format!("spiffe://td/{}", "a".repeat(MAX_NAME));
        let many: Vec<String> = (0..100).map(|n| format!("{n}\n.test")).collect();
        let names = CertificateNames::new([long.as_str()], many.iter().map(String::as_str));
        let spiffe = names.spiffe.unwrap();
        assert_eq!(spiffe.chars().count(), MAX_NAME + 1);
        assert!(spiffe.ends_with("a…"), "{spiffe}");
        assert_eq!((names.dns.len(), names.dns[3].as_str()), (MAX_NAMES, "3\u{fffd}.test"));
    }
}
