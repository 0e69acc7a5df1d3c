//! What an entry is about: a host pattern, an address, or a range of addresses.

use super::{HostName, HostPattern};
use ipnet::{IpNet, Ipv4Net};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What a rule covers, besides ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Names.
    Host(HostPattern),
    /// One address, asked for as a literal in its canonical spelling.
    Address(IpAddr),
    /// IPv4 addresses, asked for as literals. IPv6 has too many spellings for Envoy to compare ranges.
    Range(Ipv4Net),
}

/// How closely a target names a host: the closest rule is the one that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Closeness(bool, usize);

impl Target {
    /// Whether a host is covered: a normalised name, or an address as it stands in an authority (`10.0.0.1`, `[::1]`).
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        self.closeness(host).is_some()
    }

    /// How closely it covers a host: exactly before by a wildcard, and by more labels or bits before by fewer.
    pub(super) fn closeness(&self, host: &str) -> Option<Closeness> {
        match self {
            Self::Host(pattern) => {
                let name = pattern.name().as_str();
                let exact = pattern.exact().is_some() && name == host;
                pattern.matches(host).then_some(Closeness(exact, name.len()))
            }
            Self::Address(address) => (authority(*address) == host).then_some(Closeness(true, usize::MAX)),
            Self::Range(range) => {
                let address = canonical_v4(host)?;
                range.contains(&address).then_some(Closeness(false, range.prefix_len().into()))
            }
        }
    }

    /// Whether everything that `other` covers is covered.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(own), Self::Host(other)) => own.includes(other),
            (Self::Address(own), Self::Address(other)) => own == other,
            (Self::Range(own), Self::Range(other)) => own.contains(other),
            (Self::Range(own), Self::Address(IpAddr::V4(other))) => own.contains(other),
            _ => false,
        }
    }

    /// The one host that is covered as itself, as it stands in an authority.
    #[must_use]
    pub fn exact(&self) -> Option<String> {
        match self {
            Self::Host(pattern) => pattern.exact().map(ToString::to_string),
            Self::Address(address) => Some(authority(*address)),
            Self::Range(_) => None,
        }
    }

    /// The host pattern, where it is one.
    #[must_use]
    pub const fn pattern(&self) -> Option<&HostPattern> {
        match self {
            Self::Host(pattern) => Some(pattern),
            Self::Address(_) | Self::Range(_) => None,
        }
    }

    /// The name that it is built on, where it has one.
    #[must_use]
    pub const fn name(&self) -> Option<&HostName> {
        match self {
            Self::Host(pattern) => Some(pattern.name()),
            Self::Address(_) | Self::Range(_) => None,
        }
    }

    /// Whether it covers more than one host.
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        match self {
            Self::Host(pattern) => pattern.above().is_some(),
            Self::Address(_) => false,
            Self::Range(_) => true,
        }
    }
}

impl From<HostPattern> for Target {
    fn from(pattern: HostPattern) -> Self {
        Self::Host(pattern)
    }
}

/// As it is written in an allowlist, where a port can follow.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(pattern) => pattern.fmt(f),
            Self::Address(address) => f.write_str(&authority(*address)),
            Self::Range(range) => range.fmt(f),
        }
    }
}

/// An address as it stands in an authority (RFC 3986 §3.2.2), in the spelling of RFC 5952.
#[must_use]
pub fn authority(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The address that an authority's host is, if it is one in canonical spelling: what Envoy compares is text.
#[must_use]
pub fn literal(host: &str) -> Option<IpAddr> {
    if let Some(address) = canonical_v4(host) {
        return Some(address.into());
    }
    let inside = host.strip_prefix('[')?.strip_suffix(']')?;
    let address: Ipv6Addr = inside.parse().ok()?;
    (address.to_string() == inside).then_some(address.into())
}

fn canonical_v4(host: &str) -> Option<Ipv4Addr> {
    // Rust refuses leading zeros and short forms.
    host.parse().ok()
}

/// Ranges of one family, for checks.
#[must_use]
pub fn overlaps(range: &IpNet, other: &IpNet) -> bool {
    range.contains(other) || other.contains(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_compared_in_one_spelling() {
        let v6 = Target::Address("fd00::1".parse().unwrap());
        assert!(v6.matches("[fd00::1]") && !v6.matches("[fd00:0::1]") && !v6.matches("fd00::1"));
        assert_eq!(v6.to_string(), "[fd00::1]");
        let range = Target::Range("10.0.4.0/23".parse().unwrap());
        for (host, covered) in
            [("10.0.5.255", true), ("10.0.6.0", false), ("010.0.5.1", false), ("10.0.5", false)]
        {
            assert_eq!(range.matches(host), covered, "{host}");
        }
        assert!(range.includes(&Target::Address("10.0.4.1".parse().unwrap())));
        assert_eq!(literal("[::1]"), Some("::1".parse().unwrap()));
        assert_eq!(literal("[0::1]"), None);
    }
}
