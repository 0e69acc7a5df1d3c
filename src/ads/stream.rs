//! One client's stream: the only place where the protocol meets I/O and the clock.
//!
//! The response body asks for the next message when HTTP/2 can take one. Until then nothing is computed, so a client
//! that reads slowly gets the newest state and costs no memory. It is polled by hand: what a stream waits for is
//! registered once, and not with each message.

use super::{
    Assignment, Context, Event, InFlight, Machine, Node, Peer, Refusal, Response, Scope, Step, node::bounded,
    requests::Requests, throttle::Throttle,
};
use crate::{
    fleet::{Accepted, Session, SidecarInfo},
    snapshot::{EditId, Published, ResourceKind},
};
use bytes::Bytes;
use http_body::Frame;
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::Sleep;
use tokio_stream::{Stream, wrappers::WatchStream};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, body::Body};

const SHUTDOWN: &str = "the control plane shuts down";
const NOTHING_YET: &str = "there is nothing to serve yet";
/// A stream that asks for nothing is closed (R-L12).
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// A stream and what it is served from.
pub(super) struct Client<M: Machine> {
    requests: Requests<M::Request>,
    machine: M,
    scope: Scope,
    context: Context,
    peer: Peer,
    /// One answer, then the end (Fetch).
    once: bool,
    throttle: Throttle,
    joined: Option<Joined>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whether anything has happened since the machine was asked.
    due: bool,
    /// When to ask it again if nothing happens; before the first request, when to give up.
    wake: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// A client that has said who it is.
struct Joined {
    /// What is remembered of it beyond this stream is kept under this: one identity may be that of many sidecars, and
    /// their node ids tell them apart.
    key: Arc<str>,
    /// What was in force when it was last looked at...
    published: Published,
    /// ...and what is since then.
    changes: WatchStream<Option<Published>>,
    /// In the fleet until it is dropped. Who fetches once is no part of it.
    session: Option<Session>,
    /// The newest publication that was looked at.
    seen: Option<EditId>,
}

impl<M: Machine> Client<M> {
    pub(super) fn new(body: Body, context: Context, scope: Scope, peer: Peer, once: bool) -> Self {
        Self {
            requests: Requests::new(body),
            machine: M::new(scope, context.trusted),
            scope,
            peer,
            once,
            throttle: Throttle::new(),
            joined: None,
            shutdown: Box::pin(context.shutdown.clone().cancelled_owned()),
            due: false,
            wake: Some(Instant::now() + FIRST_REQUEST_WITHIN),
            timer: None,
            ended: false,
            context,
        }
    }

    /// The next message as chunks; nothing when the client has closed its side.
    fn poll_next(&mut self, context: &mut task::Context<'_>) -> Poll<Result<Option<Vec<Bytes>>, Status>> {
        while !self.ended {
            if let Some(joined) = &mut self.joined {
                self.due |= joined.follow(context)?;
            }
            if std::mem::take(&mut self.due)
                && let Some(chunks) = self.look()?
            {
                self.due = true;
                return Poll::Ready(Ok(Some(chunks)));
            }
            if self.ended {
                break;
            }
            if self.shutdown.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Status::unavailable(SHUTDOWN)));
            }
            let slow_until = self.throttle.until(Instant::now());
            if slow_until.is_none()
                && let Poll::Ready(request) = self.requests.poll_next(context)
            {
                match request? {
                    Some(request) => self.take(request)?,
                    // R-L1.
                    None => break,
                }
                continue;
            }
            ready!(self.poll_timer([slow_until, self.wake].into_iter().flatten().min(), context));
            if self.joined.is_none() && slow_until.is_none() {
                return Poll::Ready(Err(Status::deadline_exceeded("no request arrived on this stream")));
            }
            self.due = true;
        }
        Poll::Ready(Ok(None))
    }

    /// Asks the machine for the next message.
    fn look(&mut self) -> Result<Option<Vec<Bytes>>, Status> {
        let Some(joined) = &mut self.joined else { return Ok(None) };
        joined.look();
        let Joined { published, session, .. } = joined;
        match self.machine.poll(published, Instant::now()) {
            Step::Send(response) => {
                self.ended = self.once;
                let (kind, version) = (response.kind, Arc::clone(&response.version));
                let chunks = M::encode(response);
                if let Some(session) = session {
                    session.sent(kind.as_str(), &version, chunks.iter().map(Bytes::len).sum());
                }
                return Ok(Some(chunks));
            }
            Step::Wait(until) => self.wake = until,
        }
        if self.once {
            self.ended = true;
            return Ok(empty(self.scope, published).map(M::encode));
        }
        if let Some(session) = session {
            let has_all = self.machine.in_sync() && self.machine.has_asked(&published.snapshot);
            session.live(has_all.then(|| published.edit.number()));
        }
        Ok(None)
    }

    /// Never ready without an instant.
    fn poll_timer(&mut self, until: Option<Instant>, context: &mut task::Context<'_>) -> Poll<()> {
        let Some(until) = until.map(tokio::time::Instant::from) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context)
    }

    fn take(&mut self, mut request: M::Request) -> Result<(), Status> {
        self.throttle.take(Instant::now());
        let node = M::node(&mut request);
        // A node that comes again changes nothing: nobody moves to another group on an open stream (R-C2).
        let joined = match &mut self.joined {
            Some(joined) => joined,
            None => self.joined.insert(join::<M>(&self.context, &self.peer, node, self.once)?),
        };
        // Asked once for each type.
        let doubts = |kind: ResourceKind| {
            if let Some(session) = &joined.session {
                session.asked(kind.as_str());
            }
            self.context.doubts.of(&joined.key, kind)
        };
        let event = self.machine.on_request(&request, doubts).map_err(|refusal| match refusal {
            Refusal::TooManyNames | Refusal::NameTooLong => Status::resource_exhausted(refusal.to_string()),
            Refusal::NoTypeUrl | Refusal::ForeignType(_) => Status::invalid_argument(refusal.to_string()),
        })?;
        match event {
            Some(Event::Acked { kind, response, settled, waiting }) => {
                self.context.doubts.settle(&joined.key, kind, response.names.iter());
                if let Some(session) = &joined.session {
                    let accepted =
                        settled.then_some(Accepted { version: response.version, sent: response.since });
                    session.acked(kind.as_str(), accepted, waiting);
                }
            }
            Some(Event::Nacked { kind, response, message, waiting }) => {
                self.context.doubts.add(&joined.key, kind, response.names.iter());
                // What is no resource of the policy is the client's own affair.
                let set = joined.published.snapshot.set(kind);
                let foreign = set.is_some_and(|set| {
                    set.has_fallback() && !response.names.iter().any(|name| set.get(name).is_some())
                });
                if foreign {
                    return Ok(());
                }
                let origin = self.context.groups.explain(kind, &message);
                if let Some(session) = &joined.session {
                    log_rejection(session.node(), kind, &response, &message, origin.as_deref());
                    session.nacked(kind.as_str(), &response.version, message, origin, waiting);
                }
            }
            None => {}
        }
        self.due = true;
        Ok(())
    }
}

impl<M: Machine> Drop for Client<M> {
    /// What the client made of responses that it has not answered will not be known.
    fn drop(&mut self) {
        // Who fetches once never answers.
        let Some(joined) = self.joined.as_ref().filter(|_| !self.once) else { return };
        for (kind, names) in self.machine.unanswered() {
            self.context.doubts.add(&joined.key, kind, names.iter());
        }
    }
}

impl Joined {
    /// Gets what is in force now; says whether that is new.
    fn follow(&mut self, context: &mut task::Context<'_>) -> Result<bool, Status> {
        let mut new = false;
        while let Poll::Ready(change) = Pin::new(&mut self.changes).poll_next(context) {
            let change = change.ok_or_else(|| Status::unavailable(SHUTDOWN))?;
            // R-L9: an empty set would make a reconnecting Envoy delete everything.
            self.published = change.ok_or_else(|| Status::unavailable(NOTHING_YET))?;
            new = true;
        }
        Ok(new)
    }

    /// Publications that came and went while the client was busy were never sent: the newest state wins.
    fn look(&mut self) {
        let edit = self.published.edit;
        if let (Some(seen), Some(session)) = (self.seen, &self.session) {
            session.coalesced(edit.number().saturating_sub(seen.number()).saturating_sub(1));
        }
        self.seen = Some(edit);
    }
}

fn join<M: Machine>(
    context: &Context,
    peer: &Peer,
    node: Option<Node>,
    once: bool,
) -> Result<Joined, Status> {
    // R-C3: without a node there is nobody to serve.
    let node = node
        .filter(|node| !node.id.is_empty())
        .ok_or_else(|| Status::invalid_argument("the first request must carry a node with an id"))?;
    let Assignment { group, store, identity } = context.groups.assign(peer, &node).map_err(|reason| {
        let (id, peer) = (&node.id, &peer.address);
        tracing::error!(node = id, peer, "refused sidecar {id} at {peer}: {reason}");
        Status::failed_precondition(reason)
    })?;
    let mut snapshots = store.subscribe();
    let published = snapshots.borrow_and_update().clone();
    let published = published.ok_or_else(|| Status::unavailable(NOTHING_YET))?;
    let key = format!("{identity}\n{}", node.id).into();
    let info = || SidecarInfo {
        node_id: node.id,
        node_cluster: node.cluster,
        identity: Arc::clone(&identity),
        group,
        version: node.version.map(|version| version.to_string()),
        protocol: M::PROTOCOL.as_str(),
        peer: peer.address.clone(),
    };
    let session = (!once).then(|| context.fleet.open(info()));
    Ok(Joined { key, published, changes: WatchStream::from_changes(snapshots), session, seen: None })
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

/// What a Fetch gets that finds nothing.
fn empty(scope: Scope, published: &Published) -> Option<Response> {
    let Scope::Only(kind) = scope else { return None };
    let version = Arc::clone(published.snapshot.set(kind)?.version());
    Some(Response { kind, nonce: 0, version, resources: Vec::new(), count: 0, removed: Vec::new() })
}

/// The HTTP body of the response: chunks of messages, then the gRPC status as trailers.
pub(super) struct ResponseBody<M: Machine> {
    /// Absent once the stream has ended.
    client: Option<Box<Client<M>>>,
    chunks: VecDeque<Bytes>,
}

impl<M: Machine> ResponseBody<M> {
    pub(super) fn new(client: Client<M>) -> Self {
        Self { client: Some(Box::new(client)), chunks: VecDeque::new() }
    }
}

impl<M: Machine> http_body::Body for ResponseBody<M> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            let Some(client) = &mut self.client else { return Poll::Ready(None) };
            let status = match ready!(client.poll_next(context)) {
                Ok(Some(chunks)) => {
                    self.chunks = chunks.into();
                    continue;
                }
                Ok(None) => Status::ok(""),
                Err(status) => status,
            };
            self.client = None;
            let mut trailers = http::HeaderMap::new();
            if let Err(error) = status.add_header(&mut trailers) {
                return Poll::Ready(Some(Err(error)));
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
    }
}
