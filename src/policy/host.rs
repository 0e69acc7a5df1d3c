//! Host names and the three forms in which an allowlist writes them.

use std::{fmt, net::Ipv4Addr, sync::Arc};

/// A DNS name in the form Envoy compares: lower case, A-labels, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Longest name in characters (RFC 1035 §2.3.4, without the root's dot).
    const MAX_LENGTH: usize = 253;
    /// Longest label in characters (RFC 1035 §2.3.4).
    const MAX_LABEL: usize = 63;

    /// Normalises a name: lower case, one trailing dot dropped, international labels to A-labels (UTS 46).
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let name = Self::parse_local(text)?;
        if name.0.contains('.') { Ok(name) } else { Err(InvalidHost::SingleLabel) }
    }

    /// The same, with names of one label: those that only a local resolver knows.
    pub fn parse_local(text: &str) -> Result<Self, InvalidHost> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let name = idna::domain_to_ascii(text).map_err(|_| InvalidHost::NotIdna)?;
        if name.is_empty() {
            return Err(InvalidHost::Empty);
        }
        if name.len() > Self::MAX_LENGTH {
            return Err(InvalidHost::TooLong(name.len()));
        }
        name.split('.').try_for_each(Self::check_label)?;
        if Self::reads_as_address(&name) {
            return Err(InvalidHost::Address);
        }
        Ok(Self(name.into()))
    }

    fn check_label(label: &str) -> Result<(), InvalidHost> {
        if label.is_empty() {
            return Err(InvalidHost::EmptyLabel);
        }
        if label.len() > Self::MAX_LABEL {
            return Err(InvalidHost::LongLabel(label.to_owned()));
        }
        if label.contains('_') {
            return Err(InvalidHost::Underscore);
        }
        if let Some(found) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            return Err(InvalidHost::Character(found));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(InvalidHost::Hyphen(label.to_owned()));
        }
        Ok(())
    }

    /// No top-level name is numeric (RFC 3696 §2), so such a text is meant as an address: `127.1`, `0x7f.1`, `1.2.3.4`.
    fn reads_as_address(name: &str) -> bool {
        let last = name.rsplit('.').next().unwrap_or(name);
        let hex =
            last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        hex || last.bytes().all(|byte| byte.is_ascii_digit()) || name.parse::<Ipv4Addr>().is_ok()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `host` (normalised) lies below this name, at any depth, on a label boundary.
    #[must_use]
    pub fn is_above(&self, host: &str) -> bool {
        host.strip_suffix(&*self.0)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|labels| !labels.is_empty())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which names a rule covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// `a.com`: exactly this name.
    Exact(HostName),
    /// `*.a.com`: everything below, at any depth; not the name itself.
    Subdomains(HostName),
    /// `.a.com`: the name and everything below.
    Tree(HostName),
}

impl HostPattern {
    /// The name that the pattern is built on.
    #[must_use]
    pub const fn name(&self) -> &HostName {
        match self {
            Self::Exact(name) | Self::Subdomains(name) | Self::Tree(name) => name,
        }
    }

    /// The one name that is covered as itself.
    #[must_use]
    pub const fn exact(&self) -> Option<&HostName> {
        match self {
            Self::Exact(name) | Self::Tree(name) => Some(name),
            Self::Subdomains(_) => None,
        }
    }

    /// The name below which everything is covered.
    #[must_use]
    pub const fn above(&self) -> Option<&HostName> {
        match self {
            Self::Subdomains(name) | Self::Tree(name) => Some(name),
            Self::Exact(_) => None,
        }
    }

    /// Whether `host` (normalised as [`HostName`] is) is covered.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        self.exact().is_some_and(|name| name.as_str() == host)
            || self.above().is_some_and(|name| name.is_above(host))
    }

    /// Whether every name that `other` covers is covered.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let name = other.name();
        let below = other.above().is_none()
            || self.above().is_some_and(|above| above == name || above.is_above(name.as_str()));
        below && (other.exact().is_none() || self.matches(name.as_str()))
    }
}

/// The pattern as it is written in an allowlist.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Subdomains(name) => write!(f, "*.{name}"),
            Self::Tree(name) => write!(f, ".{name}"),
        }
    }
}

/// Why a text is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// No characters at all.
    #[error("the host is empty")]
    Empty,
    /// Two dots in a row, or a dot at the start.
    #[error("the host has an empty label (two dots in a row)")]
    EmptyLabel,
    /// More than 253 characters.
    #[error("the host has {0} characters, DNS allows 253")]
    TooLong(usize),
    /// More than 63 characters.
    #[error("the label `{0}` is longer than the 63 characters DNS allows")]
    LongLabel(String),
    /// A character that no host name has.
    #[error("`{0}` cannot stand in a host name")]
    Character(char),
    /// Envoy 1.40 answers 400 to CONNECT and absolute-form requests for such names.
    #[error("Envoy refuses proxy requests for host names with an underscore")]
    Underscore,
    /// A label that starts or ends with a hyphen.
    #[error("the label `{0}` starts or ends with a hyphen")]
    Hyphen(String),
    /// Not convertible to A-labels.
    #[error("not a valid internationalised name")]
    NotIdna,
    /// An IP address in some spelling.
    #[error("this reads as an IP address, not as a host name")]
    Address,
    /// One label: a name that only a local resolver knows.
    #[error("a name without a dot is a local name")]
    SingleLabel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        for (text, expected) in [
            ("API.Example.COM", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("ＡＰＩ.example", "api.example"),
        ] {
            assert_eq!(HostName::parse(text).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn refuses() {
        for (text, expected) in [
            ("", InvalidHost::Empty),
            ("a..com", InvalidHost::EmptyLabel),
            ("a.com..", InvalidHost::EmptyLabel),
            ("-a.com", InvalidHost::Hyphen("-a".into())),
            ("a_b.com", InvalidHost::Underscore),
            ("a,b.com", InvalidHost::Character(',')),
            ("127.1", InvalidHost::Address),
            ("0x7f.1", InvalidHost::Address),
            ("0x7f000001", InvalidHost::Address),
            ("0177.0.0.1", InvalidHost::Address),
            ("10.0.0.5", InvalidHost::Address),
            ("2130706433", InvalidHost::Address),
            ("localhost", InvalidHost::SingleLabel),
        ] {
            assert_eq!(HostName::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn below_means_on_a_label_boundary() {
        let name = HostName::parse("wild.test").unwrap();
        assert!(name.is_above("a.wild.test"));
        assert!(name.is_above("a.b.wild.test"));
        for host in ["wild.test", "notwild.test", ".wild.test", "wild.test.evil.test"] {
            assert!(!name.is_above(host), "{host}");
        }
    }
}
