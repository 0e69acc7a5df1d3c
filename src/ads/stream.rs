//! One client's stream: the only place where the protocol meets I/O and the clock.
//!
//! The response body asks for the next message when HTTP/2 can take one. Until then nothing is computed, so a client
//! that reads slowly gets the newest state and costs no memory. It is polled by hand: what a stream waits for is
//! registered once, and not with each message.

use super::{
    Context, Machine, Peer, Refusal, Response, Scope, Step,
    joined::{Joined, SHUTDOWN, join},
    requests::Requests,
    throttle::Throttle,
};
use crate::snapshot::{Published, ResourceKind};
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
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, body::Body};

/// A stream that asks for nothing is closed (R-L12).
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// From the first byte of a request to its last: until then it takes memory.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// Requests that are read before other streams have their turn.
const AT_A_TIME: usize = 8;

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
    /// Since when a part of a request is there.
    begun: Option<Instant>,
    joined: Option<Joined>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whether anything has happened since the machine was asked.
    due: bool,
    /// When to ask it again if nothing happens; before the first request, when to give up.
    wake: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
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
            begun: None,
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
        let mut read = 0;
        while !self.ended {
            if let Some(joined) = &mut self.joined {
                self.due |= joined.follow(&*self.context.groups, &self.peer, context)?;
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
            let now = Instant::now();
            let slow_until = self.throttle.until(now);
            if slow_until.is_none() {
                if read == AT_A_TIME {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if let Poll::Ready(request) = self.requests.poll_next(context) {
                    read += 1;
                    self.begun = None;
                    match request? {
                        Some(request) => self.take(request)?,
                        // R-L1.
                        None => break,
                    }
                    continue;
                }
                self.begun = self.requests.is_begun().then(|| self.begun.unwrap_or(now));
            }
            let whole_by = self.begun.map(|begun| begun + REQUEST_WITHIN);
            let wake = [slow_until, whole_by, self.wake].into_iter().flatten().min();
            ready!(self.poll_timer(wake, context));
            if self.joined.is_none() && slow_until.is_none() {
                return Poll::Ready(Err(Status::deadline_exceeded("no request arrived on this stream")));
            }
            if slow_until.is_none() && whole_by.is_some_and(|by| by <= Instant::now()) {
                return Poll::Ready(Err(Status::deadline_exceeded("a request did not arrive in full")));
            }
            self.due = true;
        }
        Poll::Ready(Ok(None))
    }

    /// Asks the machine for the next message.
    fn look(&mut self) -> Result<Option<Vec<Bytes>>, Status> {
        let Some(joined) = &mut self.joined else { return Ok(None) };
        joined.look();
        let Joined { published, session, doubts, .. } = joined;
        match self.machine.poll(published, Instant::now()) {
            Step::Send(response) => {
                self.ended = self.once;
                let (kind, version) = (response.kind, Arc::clone(&response.version));
                let chunks = M::encode(response);
                if !self.once {
                    doubts.unanswered(self.machine.unanswered());
                }
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
            joined.doubts.of(kind)
        };
        let event = self.machine.on_request(&request, doubts).map_err(|refusal| match refusal {
            Refusal::TooManyNames | Refusal::NameTooLong => Status::resource_exhausted(refusal.to_string()),
            Refusal::NoTypeUrl | Refusal::ForeignType(_) => Status::invalid_argument(refusal.to_string()),
        })?;
        self.throttle.take(Instant::now(), self.machine.cost(&request));
        if event.is_some() {
            joined.doubts.unanswered(self.machine.unanswered());
        }
        if let Some(event) = event {
            joined.heard(event, &*self.context.groups);
        }
        self.due = true;
        Ok(())
    }
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
