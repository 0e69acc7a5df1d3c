//! One entry as it is written, and what it becomes in a list of hosts that are allowed, or denied.

use super::{
    diagnostic::Span,
    entry::{Problem, Purpose},
};
use crate::policy::{
    AddressGuard, DenyRule, Grant, Limits, Method, Mode, Note, Origin, PathPattern, Port, Ports, Private,
    Requests, Rule, Target, Timestamp, Traffic, overlaps,
};
use ipnet::IpNet;
use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// `protocol:` of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Tls,
    Tcp,
}

/// `tls:` of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    Passthrough,
    Originate,
}

/// What an entry says besides its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) ports: Option<Ports>,
    pub(super) protocol: Option<Protocol>,
    pub(super) tls: Option<Tls>,
    pub(super) methods: Option<Vec<Method>>,
    pub(super) paths: Option<Vec<PathPattern>>,
    pub(super) private: bool,
    pub(super) addresses: Option<Vec<IpNet>>,
    pub(super) until: Option<Timestamp>,
    pub(super) mode: Option<Mode>,
    pub(super) max_tunnel: Option<Duration>,
    pub(super) limits: Limits,
    pub(super) note: Option<Arc<Note>>,
}

impl Options {
    /// What is said here, else there.
    pub(super) fn or(&self, other: &Self) -> Self {
        Self {
            ports: self.ports.clone().or_else(|| other.ports.clone()),
            protocol: self.protocol.or(other.protocol),
            tls: self.tls.or(other.tls),
            methods: self.methods.clone().or_else(|| other.methods.clone()),
            paths: self.paths.clone().or_else(|| other.paths.clone()),
            private: self.private || other.private,
            addresses: self.addresses.clone().or_else(|| other.addresses.clone()),
            until: self.until.into_iter().chain(other.until).min(),
            mode: self.mode.or(other.mode),
            max_tunnel: self.max_tunnel.into_iter().chain(other.max_tunnel).min(),
            limits: self.limits.or(&other.limits),
            note: self.note.clone().or_else(|| other.note.clone()),
        }
    }
}

/// An entry of any list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) target: Target,
    /// Nothing for a plain entry, as nearly all are.
    pub(super) options: Option<Box<Options>>,
    pub(super) span: Span,
}

/// `defaults:` of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub(super) ports: Option<Ports>,
    pub(super) max_tunnel: Option<Duration>,
    pub(super) owner: Option<String>,
}

static GUARD: LazyLock<AddressGuard> = LazyLock::new(AddressGuard::default);

fn problem(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem { code, message: message.into(), help: help.into() }
}

impl Spec {
    /// Whether it can be used in a list of that purpose.
    pub(super) fn check(&self, purpose: Purpose) -> Result<(), Problem> {
        static NOWHERE: LazyLock<Origin> = LazyLock::new(|| Origin { file: "".into(), line: 0 });
        match purpose {
            Purpose::Allow => self.allow(&Defaults::default(), NOWHERE.clone()).map(drop),
            Purpose::Deny => self.deny(Mode::Enforce, NOWHERE.clone()).map(drop),
        }
    }

    /// As an entry that allows.
    pub(super) fn allow(&self, defaults: &Defaults, origin: Origin) -> Result<Rule, Problem> {
        static NOTHING: LazyLock<Options> = LazyLock::new(Options::default);
        let options = self.options.as_deref().unwrap_or(&NOTHING);
        self.check_reach(options)?;
        let traffic = traffic(options)?;
        let ports = self.ports(options, defaults)?;
        if matches!(traffic, Traffic::Originate(_)) {
            self.check_origination(options)?;
        }
        if matches!(traffic, Traffic::Http(_)) && ports.contains(Port::HTTPS) {
            return Err(problem(
                "protocol-port",
                "port 443 is for TLS, and `protocol: http` is without",
                "take 443 out of `ports`, or take `protocol: http` out",
            ));
        }
        if options.limits.connections.is_some() && !ports.iter().any(|port| traffic.tunnels(port)) {
            return Err(problem(
                "limits",
                "`connections` limits tunnels, and this entry allows none",
                "write `requests_per_minute`, or take it out",
            ));
        }
        let mut note = options.note.clone();
        if let Some(owner) =
            defaults.owner.clone().filter(|_| note.as_ref().is_none_or(|n| n.owner.is_none()))
        {
            let known = note.as_deref().cloned().unwrap_or_default();
            note = Some(Arc::new(Note { owner: Some(owner), ..known }));
        }
        Ok(Rule {
            target: self.target.clone(),
            ports,
            grant: Grant {
                traffic,
                mode: options.mode.unwrap_or_default(),
                max_tunnel: options.max_tunnel.or(defaults.max_tunnel),
                limits: options.limits.clone(),
                private: options
                    .private
                    .then(|| Private { addresses: options.addresses.clone().unwrap_or_default() }),
            }
            .into_shared(),
            until: options.until,
            note,
            origin,
        })
    }

    /// As an entry that denies.
    pub(super) fn deny(&self, mode: Mode, origin: Origin) -> Result<DenyRule, Problem> {
        let options = self.options.as_deref();
        let narrowing = options.and_then(|options| {
            let keys = [
                ("protocol", options.protocol.is_some()),
                ("tls", options.tls.is_some()),
                ("methods", options.methods.is_some()),
                ("paths", options.paths.is_some()),
                ("private", options.private),
                ("addresses", options.addresses.is_some()),
                ("max_tunnel", options.max_tunnel.is_some()),
                ("limits", !options.limits.is_empty()),
                ("mode", options.mode.is_some()),
            ];
            keys.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
        });
        if let Some(key) = narrowing {
            return Err(problem(
                "deny-key",
                format!("`{key}` cannot stand in an entry that denies: it closes hosts and ports altogether"),
                format!("take `{key}` out, or allow less instead"),
            ));
        }
        Ok(DenyRule {
            target: self.target.clone(),
            ports: options.and_then(|options| options.ports.clone()),
            mode,
            until: options.and_then(|options| options.until),
            note: options.and_then(|options| options.note.clone()),
            origin,
        })
    }

    fn ports(&self, options: &Options, defaults: &Defaults) -> Result<Ports, Problem> {
        if options.tls == Some(Tls::Originate) {
            // What clients ask of port 80 goes to port 443.
            let all = options.ports.clone().unwrap_or_else(|| Ports::only(Port::HTTPS));
            let asked = all.iter().map(|port| if port == Port::HTTPS { Port::HTTP } else { port });
            return Ok(Ports::of(asked.collect()).unwrap_or_default());
        }
        match (&options.ports, options.protocol) {
            (Some(ports), _) => Ok(ports.clone()),
            (None, Some(Protocol::Http)) => Ok(Ports::only(Port::HTTP)),
            (None, Some(Protocol::Tls)) => Ok(Ports::only(Port::HTTPS)),
            (None, Some(Protocol::Tcp)) => {
                Err(problem("protocol-port", "`protocol: tcp` has no usual port", "name it: `ports: [5432]`"))
            }
            (None, None) => Ok(defaults.ports.clone().unwrap_or_default()),
        }
    }

    /// TLS to a host needs its name, and a port that speaks it.
    fn check_origination(&self, options: &Options) -> Result<(), Problem> {
        if self.target.pattern().is_none() {
            return Err(problem(
                "tls-originate",
                format!("`{}` is no name, and the certificate must be of one", self.target),
                "write the host's name",
            ));
        }
        if options.private {
            return Err(problem(
                "tls-originate",
                "`tls: originate` leads to public hosts only",
                "take `private` out, or let the client speak TLS itself",
            ));
        }
        if options.ports.as_ref().is_some_and(|ports| ports.contains(Port::HTTP)) {
            return Err(problem(
                "tls-originate",
                "port 80 does not speak TLS; requests to it go to port 443",
                "leave `ports` out, or name the port that speaks TLS",
            ));
        }
        Ok(())
    }

    /// What is guarded needs `private: true`, and that needs one exact target.
    fn check_reach(&self, options: &Options) -> Result<(), Problem> {
        let guarded = |range: IpNet| GUARD.refused().iter().any(|refused| overlaps(refused, &range));
        if options.private {
            if self.target.is_wide() {
                return Err(problem(
                    "private-wildcard",
                    format!("`{}` is more than one host, and `private` is for single ones", self.target),
                    "write one entry for each host or address",
                ));
            }
            if matches!(self.target, Target::Address(_)) && options.addresses.is_some() {
                return Err(problem(
                    "private-addresses",
                    "an address needs no `addresses`: it is one",
                    "take `addresses` out",
                ));
            }
            return Ok(());
        }
        if options.addresses.is_some() {
            return Err(problem(
                "private-addresses",
                "`addresses` limits where a private name leads, and this entry is not private",
                "add `private: true`, or take `addresses` out",
            ));
        }
        match &self.target {
            Target::Host(pattern) if !pattern.name().as_str().contains('.') => Err(problem(
                "host-local",
                format!("`{pattern}`: a name without a dot is a local name"),
                format!(
                    "write the full name, or `{{host: {pattern}, ports: [...], private: true}}` for a local service"
                ),
            )),
            Target::Address(address) if guarded((*address).into()) => Err(problem(
                "address-private",
                format!("{address} is a private or reserved address"),
                format!(
                    "write `{{host: \"{address}\", ports: [{}], private: true}}` if it is meant",
                    port_of(options)
                ),
            )),
            Target::Range(range) if guarded((*range).into()) => Err(problem(
                "address-private",
                format!("{range} has private or reserved addresses in it"),
                "write one entry with `private: true` for each address that is meant",
            )),
            Target::Host(_) | Target::Address(_) | Target::Range(_) => Ok(()),
        }
    }
}

fn port_of(options: &Options) -> String {
    options.ports.as_ref().and_then(Ports::suffix).unwrap_or_else(|| "443".to_owned()).replace(',', ", ")
}

fn traffic(options: &Options) -> Result<Traffic, Problem> {
    let key = match (&options.methods, &options.paths) {
        (None, None) => None,
        (Some(_), _) => Some("methods"),
        (None, Some(_)) => Some("paths"),
    };
    let requests = || Requests {
        methods: options.methods.clone().unwrap_or_default(),
        paths: options.paths.clone().unwrap_or_default(),
    };
    if options.tls == Some(Tls::Originate) {
        return match options.protocol {
            None | Some(Protocol::Http) => Ok(Traffic::Originate(requests())),
            Some(Protocol::Tls | Protocol::Tcp) => Err(problem(
                "tls-originate",
                "`tls: originate` is for plain requests, and `protocol` says tunnels",
                "take one of the two out",
            )),
        };
    }
    match (options.protocol, key) {
        (Some(Protocol::Http), _) => Ok(Traffic::Http(requests())),
        (_, Some(key)) => Err(problem(
            "methods-opaque",
            format!("`{key}` cannot be seen in a tunnel: inside TLS only the two ends see requests"),
            format!(
                "take `{key}` out, or add `tls: originate`, with which clients ask for http:// and Envoy speaks TLS, \
                 or `protocol: http` if the host itself speaks plain HTTP"
            ),
        )),
        (None, None) => Ok(Traffic::Any),
        (Some(Protocol::Tls), None) => Ok(Traffic::Tls),
        (Some(Protocol::Tcp), None) => Ok(Traffic::Tcp),
    }
}

/// A range of addresses that an allowlist can name.
pub(super) fn range(range: IpNet) -> Result<Target, Problem> {
    if range.trunc() != range {
        return Err(problem(
            "host-address",
            format!("`{range}` has more bits than the range"),
            format!("write {}", range.trunc()),
        ));
    }
    if range.prefix_len() == range.max_prefix_len() {
        return Ok(Target::Address(range.addr()));
    }
    match range {
        IpNet::V4(range) => Ok(Target::Range(range)),
        IpNet::V6(_) => Err(problem(
            "host-address",
            format!(
                "`{range}`: Envoy compares the texts of addresses, and IPv6 has too many spellings for ranges"
            ),
            "list the addresses one by one, or use host names",
        )),
    }
}

/// An address as a target.
pub(super) const fn address(address: IpAddr) -> Target {
    Target::Address(address)
}
