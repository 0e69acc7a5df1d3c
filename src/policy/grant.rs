//! In which way a rule lets a request through: protocol, methods, paths, and the conditions that go with it.

use super::{AddressGuard, Limits, Port, Ports, overlaps};
use ipnet::IpNet;
use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// Whether a denial is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// The request passes, and the log says that it would be denied.
    Report,
}

impl Mode {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}

/// Which kind of traffic passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Tunnels that carry TLS to every port but 80, plain HTTP to every port but 443.
    #[default]
    Any,
    /// Plain HTTP only, these requests of it.
    Http(Requests),
    /// These plain requests, which go on as TLS: those to port 80 to port 443.
    Originate(Requests),
    /// Tunnels that carry TLS.
    Tls,
    /// Tunnels that carry anything.
    Tcp,
}

impl Traffic {
    /// Whether tunnels to a port pass.
    #[must_use]
    pub fn tunnels(&self, port: Port) -> bool {
        match self {
            Self::Any => port != Port::HTTP,
            Self::Http(_) | Self::Originate(_) => false,
            Self::Tls | Self::Tcp => true,
        }
    }

    /// Whether nobody looks at what a tunnel carries. Else it must be TLS for the host that was asked for.
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        matches!(self, Self::Tcp)
    }

    /// Whether it comes before others that let the same request through: it looks at less, or keeps more to itself.
    #[must_use]
    pub const fn is_preferred(&self) -> bool {
        matches!(self, Self::Tcp | Self::Originate(_))
    }

    /// Which plain requests pass; nothing where none does.
    #[must_use]
    pub const fn plain(&self) -> Option<&Requests> {
        const ALL: &Requests = &Requests { methods: Vec::new(), paths: Vec::new() };
        match self {
            Self::Any => Some(ALL),
            Self::Http(requests) | Self::Originate(requests) => Some(requests),
            Self::Tls | Self::Tcp => None,
        }
    }

    /// Whether everything that `other` lets through on these ports passes.
    #[must_use]
    pub fn includes(&self, other: &Self, ports: &Ports) -> bool {
        match (self, other) {
            (Self::Any, Self::Tls) => !ports.contains(Port::HTTP),
            (Self::Any, Self::Http(_)) | (Self::Tcp, Self::Tls) => true,
            (Self::Http(own), Self::Http(other)) | (Self::Originate(own), Self::Originate(other)) => {
                own.includes(other)
            }
            (own, other) => own == other,
        }
    }
}

/// Which plain requests; an empty list means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requests {
    /// Methods, sorted.
    pub methods: Vec<Method>,
    /// Paths, sorted.
    pub paths: Vec<PathPattern>,
}

impl Requests {
    /// Whether a request is one of these.
    #[must_use]
    pub fn matches(&self, method: &str, path: &str) -> bool {
        self.has_method(method) && self.has_path(path)
    }

    /// Whether the method is one of these.
    #[must_use]
    pub fn has_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|one| one.0 == method)
    }

    /// Whether the path is one of these.
    #[must_use]
    pub fn has_path(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|one| one.matches(path))
    }

    /// Whether every request is one of these.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty()
    }

    fn includes(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || !other.methods.is_empty() && other.methods.iter().all(|method| self.methods.contains(method));
        let paths = self.paths.is_empty()
            || !other.paths.is_empty()
                && other.paths.iter().all(|path| self.paths.iter().any(|own| own.includes(path)));
        methods && paths
    }
}

/// Methods and paths, each with a space in front.
impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.methods.iter().try_for_each(|method| write!(f, " {}", method.0))?;
        self.paths.iter().try_for_each(|path| write!(f, " {path}"))
    }
}

/// An HTTP method in upper case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Method(String);

impl Method {
    /// Longest name: the longest that is registered has 17 characters (IANA, HTTP Method Registry).
    const MAX: usize = 32;

    /// Reads a method such as `GET`. What it must look like is in the error.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let capital = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(capital) {
            return Err("a method is a word in capital letters, such as GET");
        }
        if text == "CONNECT" {
            return Err("CONNECT opens tunnels, in which no method can be seen");
        }
        Ok(Self(text.to_owned()))
    }

    /// The method.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path, or everything below one. Queries are not compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathPattern {
    /// `/v1/models`.
    Exact(String),
    /// `/v1/*`: what begins with `/v1/`.
    Prefix(String),
}

/// Whether Envoy writes a character of a path in another way before it compares: as an escape, or as a slash.
pub(super) const fn is_rewritten(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

impl PathPattern {
    /// Reads a path. What it must look like is in the error.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('/') {
            return Err("a path begins with a slash");
        }
        let (path, prefix) = match text.strip_suffix("/*") {
            Some(path) => (format!("{path}/"), true),
            None => (text.to_owned(), false),
        };
        if path.contains('*') {
            return Err("a `*` can only stand at the end, behind a slash");
        }
        if path.contains(['?', '#']) {
            return Err("queries and fragments are not compared; leave them out");
        }
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !is_rewritten(byte) && byte != b';');
        // Envoy resolves these before it compares.
        let dots = path.split('/').any(|part| matches!(part, "." | ".."));
        if !plain || dots || path.contains("//") {
            return Err("a path has plain characters, no `..`, no `//` and no escapes");
        }
        Ok(if prefix { Self::Prefix(path) } else { Self::Exact(path) })
    }

    /// Whether a path without its query is covered.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(own) => own == path,
            Self::Prefix(own) => path.starts_with(own),
        }
    }

    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix(own), Self::Prefix(other) | Self::Exact(other)) => other.starts_with(own),
            (own, other) => own == other,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}*"),
        }
    }
}

/// A target that may be private.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Private {
    /// The addresses that its name may lead to, sorted; where empty, all but those of cloud metadata and the like.
    pub addresses: Vec<IpNet>,
}

/// In which way a rule lets through what it covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Which traffic.
    pub traffic: Traffic,
    /// Whether it is only let through to be reported.
    pub mode: Mode,
    /// Longest life of a tunnel or a streamed answer.
    pub max_tunnel: Option<Duration>,
    /// Whether it may be a private address.
    pub private: Option<Private>,
    /// How much of it.
    pub limits: Limits,
}

static DEFAULT: LazyLock<Arc<Grant>> = LazyLock::new(Arc::default);

impl Grant {
    /// The default, without memory of its own.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        Arc::clone(&DEFAULT)
    }

    /// With memory of its own only if it is not the default.
    #[must_use]
    pub fn into_shared(self) -> Arc<Self> {
        if self == Self::default() { Self::shared() } else { Arc::new(self) }
    }

    /// Whether everything that `other` lets through on these ports passes, for as long.
    #[must_use]
    pub fn includes(&self, other: &Self, ports: &Ports) -> bool {
        let longer = self.max_tunnel.is_none_or(|own| other.max_tunnel.is_some_and(|other| own >= other));
        self.traffic.includes(&other.traffic, ports)
            && (self.mode == Mode::Enforce || other.mode == Mode::Report)
            && longer
            && self.limits.includes(&other.limits)
            && reach_includes(self.private.as_ref(), other.private.as_ref())
    }
}

/// Whether an entry leads wherever another one does.
fn reach_includes(one: Option<&Private>, other: Option<&Private>) -> bool {
    match (one, other) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some(one), None) => one.addresses.is_empty(),
        (Some(one), Some(other)) => {
            let guarded = AddressGuard::never_meant();
            let plain = |range: &IpNet| !guarded.iter().any(|never| overlaps(never, range));
            one == other || one.addresses.is_empty() && other.addresses.iter().all(plain)
        }
    }
}

/// What is not the default, as words: `http GET /v1/*, report`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match &self.traffic {
            Traffic::Any => {}
            Traffic::Tls => words.push("tls".to_owned()),
            Traffic::Tcp => words.push("tcp".to_owned()),
            Traffic::Http(requests) => words.push(format!("http{requests}")),
            Traffic::Originate(requests) => words.push(format!("originate{requests}")),
        }
        if let Some(private) = &self.private {
            let addresses: String = private.addresses.iter().map(|range| format!(" {range}")).collect();
            words.push(format!("private{addresses}"));
        }
        if let Some(longest) = self.max_tunnel {
            words.push(format!("at most {}", spell(longest)));
        }
        if !self.limits.is_empty() {
            words.push(self.limits.to_string());
        }
        if self.mode == Mode::Report {
            words.push("report".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

/// As in the file.
fn spell(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(24 * 3600, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let unit = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    unit.map_or_else(String::new, |(length, unit)| format!("{}{unit}", seconds / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_two_forms() {
        let path = |text| PathPattern::parse(text);
        assert!(path("/v1/*").unwrap().matches("/v1/x") && !path("/v1/*").unwrap().matches("/v1"));
        assert!(path("/*").unwrap().matches("/anything"));
        assert!(path("/v1").unwrap().matches("/v1") && !path("/v1").unwrap().matches("/v1/"));
        for wrong in [
            "v1", "/a*", "/*/b", "/a?b", "/a/../b", "/a//b", "/a%2fb", "/ü", "/a b", "/a|b", "/{a}", "/a^",
            "/<a>", "/\"a", "/a`",
        ] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
        assert!(Method::parse("get").is_err() && Method::parse("CONNECT").is_err());
    }

    #[test]
    fn a_wider_grant_includes_a_narrower_one() {
        let http = |methods: &[&str], paths: &[&str]| {
            Traffic::Http(Requests {
                methods: methods.iter().map(|one| Method::parse(one).unwrap()).collect(),
                paths: paths.iter().map(|one| PathPattern::parse(one).unwrap()).collect(),
            })
        };
        let ports = Ports::default();
        let includes = |one: Traffic, other: Traffic| one.includes(&other, &ports);
        assert!(includes(Traffic::Any, http(&["GET"], &[])) && !includes(http(&[], &[]), Traffic::Any));
        assert!(includes(http(&["GET", "POST"], &["/v1/*"]), http(&["GET"], &["/v1/x/*", "/v1/y"])));
        assert!(!includes(http(&["GET"], &[]), http(&[], &["/x"])));
        assert!(!includes(Traffic::Any, Traffic::Tcp) && !includes(Traffic::Any, Traffic::Tls));
        assert!(Traffic::Any.includes(&Traffic::Tls, &Ports::only(Port::HTTPS)));
        let report = Grant { mode: Mode::Report, ..Grant::default() };
        assert!(Grant::default().includes(&report, &ports) && !report.includes(&Grant::default(), &ports));
        let short = Grant { max_tunnel: Some(Duration::from_secs(1)), ..Grant::default() };
        assert!(Grant::default().includes(&short, &ports) && !short.includes(&Grant::default(), &ports));
    }
}
