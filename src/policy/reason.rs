//! Why a request is denied: the closed list that the 403 body, the header, the log and the commands share.

/// A reason for a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DenyReason {
    /// No entry covers the host.
    NotListed,
    /// An entry names the host, but not this port.
    PortNotListed,
    /// Plain HTTP to port 443, which is for TLS through CONNECT.
    NotTls,
    /// A `https://` URL sent to the proxy as a plain request.
    HttpsNeedsConnect,
    /// The authority is not a host name with an optional port.
    BadHost,
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
    pub const ALL: [Self; 10] = [
        Self::NotListed,
        Self::PortNotListed,
        Self::NotTls,
        Self::HttpsNeedsConnect,
        Self::BadHost,
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
            Self::NotTls => "not-tls",
            Self::HttpsNeedsConnect => "https-needs-connect",
            Self::BadHost => "bad-host",
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
            Self::PortNotListed => "the host is listed, this port is not; add host:port to the allowlist",
            Self::NotTls => {
                "port 443 takes TLS through CONNECT; use an https:// URL, or list another port for plain HTTP"
            }
            Self::HttpsNeedsConnect => {
                "the client must send CONNECT for https:// URLs instead of the URL itself"
            }
            Self::BadHost => "the request's host must be a host name with an optional port",
            Self::PrivateAddress => {
                "the host resolves to a private address; the control plane's --allow-range lifts a range"
            }
            Self::UpgradeNotAllowed => "only WebSocket upgrades pass",
            Self::BadPath => "the path contains escaped slashes",
            Self::BadRequest => "this is not a valid HTTP proxy request",
            Self::NoPolicy => "the sidecar has not received a policy yet",
        }
    }
}
