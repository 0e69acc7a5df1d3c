//! Why a request is denied: the closed list that the 403 body, the header, the log and the commands share.

/// A reason for a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DenyReason {
    /// No entry covers the host.
    NotListed,
    /// An entry names the host, but not this port.
    PortNotListed,
    /// The entry for the host has expired.
    Expired,
    /// A deny entry covers the host.
    DeniedByRule,
    /// The entry does not allow this method. CONNECT, which opens tunnels, is one.
    MethodNotAllowed,
    /// The entry does not allow this path.
    PathNotAllowed,
    /// Plain HTTP to port 443 or to a host that is listed for tunnels only; or a tunnel that carries no TLS.
    NotTls,
    /// A tunnel that carries TLS for another host than the one that CONNECT asked for.
    SniMismatch,
    /// A `https://` URL sent to the proxy as a plain request.
    HttpsNeedsConnect,
    /// The authority is not a host name with an optional port.
    BadHost,
    /// More requests than the entry allows for a minute.
    RateLimited,
    /// More bytes sent than the entry allows.
    UploadLimit,
    /// More connections than the entry allows.
    TooManyConnections,
    /// The name resolves to private addresses only.
    PrivateAddress,
    /// An `Upgrade` other than WebSocket.
    UpgradeNotAllowed,
    /// The path hides separators (`%2f`, `%5c`).
    BadPath,
    /// Not a valid HTTP proxy request.
    BadRequest,
    /// The sidecar has no policy yet.
    NoPolicy,
}

impl DenyReason {
    /// Every reason.
    pub const ALL: [Self; 18] = [
        Self::NotListed,
        Self::PortNotListed,
        Self::Expired,
        Self::DeniedByRule,
        Self::MethodNotAllowed,
        Self::PathNotAllowed,
        Self::NotTls,
        Self::SniMismatch,
        Self::HttpsNeedsConnect,
        Self::BadHost,
        Self::RateLimited,
        Self::UploadLimit,
        Self::TooManyConnections,
        Self::PrivateAddress,
        Self::UpgradeNotAllowed,
        Self::BadPath,
        Self::BadRequest,
        Self::NoPolicy,
    ];

    /// The stable identifier, as in the `x-exeat-deny-reason` header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotListed => "not-listed",
            Self::PortNotListed => "port-not-listed",
            Self::Expired => "expired",
            Self::DeniedByRule => "denied-by-rule",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::PathNotAllowed => "path-not-allowed",
            Self::NotTls => "not-tls",
            Self::SniMismatch => "sni-mismatch",
            Self::HttpsNeedsConnect => "https-needs-connect",
            Self::BadHost => "bad-host",
            Self::RateLimited => "rate-limited",
            Self::UploadLimit => "upload-limit",
            Self::TooManyConnections => "too-many-connections",
            Self::PrivateAddress => "private-address",
            Self::UpgradeNotAllowed => "upgrade-not-allowed",
            Self::BadPath => "bad-path",
            Self::BadRequest => "bad-request",
            Self::NoPolicy => "no-policy",
        }
    }

    /// What the person in front of the 403 can do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NotListed => "the host is not in the allowlist; add it there if it should be reachable",
            Self::PortNotListed => {
                "the host is listed, this port is not; add host:port to the allowlist, or, with `tls: originate`, ask for http://"
            }
            Self::Expired => {
                "the entry for the host has expired; give it a later `until` if it is still needed"
            }
            Self::DeniedByRule => "a deny entry names the host, and deny entries win over all others",
            Self::MethodNotAllowed => {
                "the host is listed, this method is not (CONNECT, too, is one: to port 80 it needs `protocol: tcp`)"
            }
            Self::PathNotAllowed => "the host is listed, this path is not",
            Self::NotTls => {
                "this port takes TLS in tunnels (CONNECT) only; use an https:// URL, list a port for plain HTTP, or `protocol: tcp` for what is neither"
            }
            Self::SniMismatch => "the TLS inside the tunnel names another host than CONNECT, or none",
            Self::HttpsNeedsConnect => {
                "the client must send CONNECT for https:// URLs instead of the URL itself"
            }
            Self::BadHost => "the request's host must be a host name with an optional port",
            Self::RateLimited => "the entry allows fewer requests a minute; try again later",
            Self::UploadLimit => "the entry allows fewer bytes to be sent at once",
            Self::TooManyConnections => "the entry allows fewer connections at a time",
            Self::PrivateAddress => {
                "the host leads to a private address; an entry with `private: true` may (to metadata and the like if its `addresses` say so), and the control plane's --allow-range lifts a range"
            }
            Self::UpgradeNotAllowed => "only WebSocket upgrades pass",
            Self::BadPath => "the path contains escaped slashes",
            Self::BadRequest => "this is not a valid HTTP proxy request",
            Self::NoPolicy => "the sidecar has not received a policy yet",
        }
    }
}
