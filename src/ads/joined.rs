//! A client that has said who it is: what it is served, and what the fleet and the log are told of it.
//!
//! Knows nothing of the protocol's rules or of bytes.

use super::{
    Assignment, Context, Event, Groups, InFlight, Machine, Node, Peer, doubts::StreamDoubts, node::bounded,
};
use crate::{
    fleet::{Accepted, Session, SidecarInfo},
    snapshot::{EditId, Published, ResourceKind, Version},
};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::{Duration, Instant},
};
use tokio_stream::{Stream, wrappers::WatchStream};
use tonic::Status;

pub(super) const SHUTDOWN: &str = "the control plane shuts down";
const MOVED: &str = "another policy is meant for this client now; it is served to the next stream";
const NOTHING_YET: &str = "there is nothing to serve yet";
/// A client that asks for the same again and again and rejects it decides not how long the log gets.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A client that has said who it is.
pub(super) struct Joined {
    /// What is remembered of it beyond this stream.
    pub(super) doubts: StreamDoubts,
    /// What was in force when it was last looked at...
    pub(super) published: Published,
    /// ...and what is since then.
    changes: WatchStream<Option<Published>>,
    /// In the fleet until it is dropped. Who fetches once is no part of it.
    pub(super) session: Option<Session>,
    /// The newest publication that was looked at.
    seen: Option<EditId>,
    /// What it said of itself, for when groups change.
    node: Node,
    group: Arc<str>,
    moves: Option<WatchStream<()>>,
    /// The rejections that the log has: of each type the version, and when.
    logged: BTreeMap<ResourceKind, (Version, Instant)>,
}

impl Joined {
    /// Gets what is in force now; says whether there is anything to look at.
    pub(super) fn follow(
        &mut self,
        groups: &dyn Groups,
        peer: &Peer,
        context: &mut task::Context<'_>,
    ) -> Result<bool, Status> {
        let mut new = false;
        while let Poll::Ready(change) = Pin::new(&mut self.changes).poll_next(context) {
            // The group is gone, or the server ends.
            let change = change.ok_or_else(|| self.moved())?;
            // R-L9: an empty set would make a reconnecting Envoy delete everything.
            self.published = change.ok_or_else(|| Status::unavailable(NOTHING_YET))?;
            new = true;
        }
        // Last, so that nobody is sent what was published after they were to leave.
        let mut moved = false;
        if let Some(moves) = &mut self.moves {
            while let Poll::Ready(Some(())) = Pin::new(&mut *moves).poll_next(context) {
                moved = true;
            }
        }
        // R-C2: nobody moves to another group on an open stream.
        if moved && groups.assign(peer, &self.node).ok().is_none_or(|now| now.group != self.group) {
            return Err(self.moved());
        }
        if let Some(session) = self.session.as_ref().filter(|_| moved) {
            session.stays();
            new = true;
        }
        Ok(new)
    }

    fn moved(&self) -> Status {
        if let Some(session) = &self.session {
            session.moves();
        }
        Status::unavailable(MOVED)
    }

    /// Publications that came and went while the client was busy were never sent: the newest state wins.
    pub(super) fn look(&mut self) {
        let edit = self.published.edit;
        if let (Some(seen), Some(session)) = (self.seen, &self.session) {
            session.coalesced(edit.number().saturating_sub(seen.number()).saturating_sub(1));
        }
        self.seen = Some(edit);
    }

    /// The client has answered something.
    pub(super) fn heard(&mut self, event: Event, groups: &dyn Groups) {
        match event {
            Event::Acked { kind, response, settled, waiting } => {
                self.doubts.accepted(kind, &response.names);
                if let Some(session) = &self.session {
                    let accepted =
                        settled.then_some(Accepted { version: response.version, sent: response.since });
                    session.acked(kind.as_str(), accepted, waiting);
                }
            }
            Event::Nacked { kind, response, message, waiting } => {
                self.doubts.rejected(kind, &response.names);
                // What is no resource of the policy is the client's own affair.
                let set = self.published.snapshot.set(kind);
                let foreign = set.is_some_and(|set| {
                    set.has_fallback() && !response.names.iter().any(|name| set.get(name).is_some())
                });
                if foreign {
                    if let Some(session) = &self.session {
                        session.answered(kind.as_str(), waiting);
                    }
                } else if let Some(session) = &self.session {
                    let origin = groups.explain(kind, &message);
                    // What a log line announces is already to be seen in the status.
                    session.nacked(
                        kind.as_str(),
                        &response.version,
                        message.clone(),
                        origin.clone(),
                        waiting,
                    );
                    let (last, now) = (self.logged.get(&kind), Instant::now());
                    let is_new = last
                        .is_none_or(|(version, at)| *version != response.version || *at + LOG_EVERY <= now);
                    if is_new {
                        self.logged.insert(kind, (Arc::clone(&response.version), now));
                        log_rejection(session.node(), kind, &response, &message, origin.as_deref());
                    }
                }
            }
        }
    }
}

/// Takes a client in, or says why not.
pub(super) fn join<M: Machine>(
    context: &Context,
    peer: &Peer,
    node: Option<Node>,
    once: bool,
) -> Result<Joined, Status> {
    // R-C3: without a node there is nobody to serve.
    let node = node
        .filter(|node| !node.id.is_empty())
        .ok_or_else(|| Status::invalid_argument("the first request must carry a node with an id"))?;
    // Before the question, so that no answer gets old unseen.
    let moves = context.groups.moves().map(WatchStream::from_changes);
    let Assignment { group, store, identity, late_revocation } =
        context.groups.assign(peer, &node).map_err(|reason| {
            let (id, peer) = (&node.id, &peer.address);
            context.fleet.refused(id, peer, &reason);
            tracing::error!(node = id, peer, "refused sidecar {id} at {peer}: {reason}");
            Status::failed_precondition(reason)
        })?;
    let mut node = node;
    node.forget_extensions();
    let mut snapshots = store.subscribe();
    let published = snapshots.borrow_and_update().clone();
    let published = published.ok_or_else(|| Status::unavailable(NOTHING_YET))?;
    // One identity may be that of many sidecars, and their node ids tell them apart.
    let doubts = context.doubts.stream(format!("{identity}\n{}", node.id).into());
    let info = || SidecarInfo {
        node_id: node.id.clone(),
        node_cluster: node.cluster.clone(),
        identity: Arc::clone(&identity),
        group: Arc::clone(&group),
        version: node.version.map(|version| version.to_string()),
        protocol: M::PROTOCOL.as_str(),
        peer: peer.address.clone(),
        late_revocation,
    };
    let session = (!once).then(|| context.fleet.open(info()));
    Ok(Joined {
        doubts,
        published,
        changes: WatchStream::from_changes(snapshots),
        session,
        seen: None,
        moves,
        node,
        group,
        logged: BTreeMap::new(),
    })
}

/// Names in a log line, and characters of them.
const NAMED: usize = 8;
const MAX_NAMES_TEXT: usize = 512;

fn log_rejection(node: &str, kind: ResourceKind, response: &InFlight, message: &str, origin: Option<&str>) {
    let r#type = kind.as_str();
    let nonce = response.nonce;
    let version = &*response.version;
    let mut names: Vec<&str> = response.names.iter().take(NAMED + 1).map(|name| &**name).collect();
    if names.len() > NAMED {
        names.truncate(NAMED);
        names.push("...");
    }
    let names = bounded(&names.join(", "), MAX_NAMES_TEXT);
    let place = origin.map_or_else(String::new, |origin| format!(" (see {origin})"));
    tracing::error!(
        node,
        r#type,
        nonce,
        version,
        names,
        origin,
        "sidecar {node} rejected {}: {message}{place}; parts of the update may be in force there",
        r#type
    );
}
