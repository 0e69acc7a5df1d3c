//! Which clients are served what: the one thing that a server of resources must know and a protocol cannot.

use super::{Node, Peer};
use crate::snapshot::{ResourceKind, Store};
use std::{fmt, sync::Arc};
use tokio::sync::watch;

/// What a client is served, and as whom.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The group's name, for status and logs.
    pub group: Arc<str>,
    /// What the group is served.
    pub store: Arc<Store>,
    /// Who the client is: proven by its certificate, else what it says of itself. What it rejected is kept under it.
    pub identity: Arc<str>,
    /// Whether what an edit closes goes on there for a while, by the client's own choice.
    pub late_revocation: bool,
}

/// Decides about clients. Asked once for each stream.
pub trait Groups: Send + Sync + 'static {
    /// The group of a client. An error is told to it and ends its stream.
    fn assign(&self, peer: &Peer, node: &Node) -> Result<Assignment, String>;

    /// Wakes when clients may have to be asked about again: whose group has changed is sent away, and comes back.
    fn moves(&self) -> Option<watch::Receiver<()>> {
        None
    }

    /// Where something that a client rejected comes from, for people, as far as its words tell.
    fn explain(&self, kind: ResourceKind, message: &str) -> Option<String>;
}

impl fmt::Debug for dyn Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Groups")
    }
}

/// Everybody is served the same.
#[derive(Clone, Debug)]
pub struct OneGroup(pub Arc<Store>);

impl Groups for OneGroup {
    fn assign(&self, _: &Peer, node: &Node) -> Result<Assignment, String> {
        let (group, store, identity) = ("all".into(), Arc::clone(&self.0), node.id.as_str().into());
        Ok(Assignment { group, store, identity, late_revocation: false })
    }

    fn explain(&self, _: ResourceKind, _: &str) -> Option<String> {
        None
    }
}
