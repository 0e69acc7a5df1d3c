//! Ports of a rule.

use std::{
    fmt,
    num::NonZeroU16,
    sync::{Arc, LazyLock},
};

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// Plain HTTP: the port of an authority that names none.
    pub const HTTP: Self = Self::known(80);
    /// TLS: reached through CONNECT only.
    pub const HTTPS: Self = Self::known(443);

    const fn known(port: u16) -> Self {
        match NonZeroU16::new(port) {
            Some(port) => Self(port),
            None => Self(NonZeroU16::MIN),
        }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0.get()
    }

    /// Reads decimal digits without sign or leading zeros: Envoy compares the text of a port, so `0443` is not 443.
    pub fn parse(text: &str) -> Result<Self, InvalidPort> {
        if text.is_empty() {
            return Err(InvalidPort::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidPort::NotANumber(text.to_owned()));
        }
        if text.starts_with('0') {
            return Err(InvalidPort::LeadingZero(text.to_owned()));
        }
        text.parse().map(Self).map_err(|_| InvalidPort::OutOfRange(text.to_owned()))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPort {
    /// Nothing after the colon.
    #[error("nothing stands after the colon")]
    Empty,
    /// Something other than digits.
    #[error("`{0}` is not a port number")]
    NotANumber(String),
    /// `0443`, or port 0.
    #[error("port `{0}` begins with a zero, and port 0 does not exist")]
    LeadingZero(String),
    /// Above 65535.
    #[error("port `{0}` is above 65535")]
    OutOfRange(String),
}

/// The ports of a rule: never empty, sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(Arc<[Port]>);

/// Nearly all rules share it.
static DEFAULT: LazyLock<Ports> = LazyLock::new(|| Ports([Port::HTTP, Port::HTTPS].into()));

impl Ports {
    /// Exactly one port.
    #[must_use]
    pub fn only(port: Port) -> Self {
        Self([port].into())
    }

    /// These ports, in any order; nothing if there is none.
    #[must_use]
    pub fn of(mut ports: Vec<Port>) -> Option<Self> {
        ports.sort_unstable();
        ports.dedup();
        (!ports.is_empty()).then(|| Self(ports.into()))
    }

    /// Whether the port is one of these.
    #[must_use]
    pub fn contains(&self, port: Port) -> bool {
        self.0.binary_search(&port).is_ok()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The ports in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Port> + '_ {
        self.0.iter().copied()
    }

    /// The ports as written behind a host; nothing for the default ports.
    #[must_use]
    pub fn suffix(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        let ports: Vec<_> = self.iter().map(|port| port.to_string()).collect();
        Some(ports.join(","))
    }
}

impl From<Port> for Ports {
    fn from(port: Port) -> Self {
        Self::only(port)
    }
}

/// 80 and 443: what an entry without a port means.
impl Default for Ports {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_spelling_envoy_compares_is_a_port() {
        assert_eq!(Port::parse("443"), Ok(Port::HTTPS));
        for (text, error) in [
            ("", InvalidPort::Empty),
            ("+443", InvalidPort::NotANumber("+443".into())),
            ("0443", InvalidPort::LeadingZero("0443".into())),
            ("0", InvalidPort::LeadingZero("0".into())),
            ("65536", InvalidPort::OutOfRange("65536".into())),
        ] {
            assert_eq!(Port::parse(text), Err(error));
        }
    }

    #[test]
    fn default_ports_are_not_spelled() {
        assert_eq!(Ports::default().suffix(), None);
        assert_eq!(Ports::only(Port::HTTPS).suffix().as_deref(), Some("443"));
    }
}
