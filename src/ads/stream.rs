//! One client's stream: the only place where the protocol meets I/O and the clock.
//!
//! The response body asks for the next message when HTTP/2 can take one. Until then nothing is computed, so a client
//! that reads slowly gets the newest state and costs no memory.

use super::{Admission, Event, Machine, Node, Step};
use crate::{
    fleet::{Fleet, Session, SidecarInfo},
    snapshot::Published,
};
use bytes::Bytes;
use http_body::Frame;
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, body::Body};
use tonic_prost::ProstDecoder;

/// Largest request: a delta reconnect lists every resource with its version.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// A stream that asks for nothing is closed (R-L12).
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// A stream and what it is served from.
pub(super) struct Client<M: Machine> {
    requests: Streaming<M::Request>,
    snapshots: watch::Receiver<Option<Published>>,
    machine: M,
    admission: Admission,
    fleet: Fleet,
    /// In the fleet from the first request on, out of it when dropped.
    session: Option<Session>,
    shutdown: CancellationToken,
    peer: String,
    opened: Instant,
}

impl<M: Machine> Client<M> {
    pub(super) fn new(
        body: Body,
        snapshots: watch::Receiver<Option<Published>>,
        fleet: Fleet,
        admission: Admission,
        shutdown: CancellationToken,
        peer: String,
    ) -> Self {
        Self {
            requests: Streaming::new_request(ProstDecoder::default(), body, None, Some(MAX_REQUEST_BYTES)),
            snapshots,
            machine: M::default(),
            admission,
            fleet,
            session: None,
            shutdown,
            peer,
            opened: Instant::now(),
        }
    }

    /// The next message as chunks; nothing when the client has closed its side.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Status> {
        loop {
            let mut wake = match &self.session {
                Some(_) => None,
                None => Some(self.opened + FIRST_REQUEST_WITHIN),
            };
            let current = self.snapshots.borrow_and_update().clone();
            if let (Some(published), Some(session)) = (current, &self.session) {
                match self.machine.poll(&published.snapshot, Instant::now()) {
                    Step::Send(response) => {
                        session.sent(response.kind.as_str(), &response.version);
                        return Ok(Some(M::encode(response)));
                    }
                    Step::Wait(until) => wake = until,
                }
                let has_all = self.machine.in_sync() && self.machine.has_asked(&published.snapshot);
                session.live(has_all.then(|| published.edit.number()));
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Err(Status::unavailable("the control plane shuts down")),
                request = self.requests.message() => match request? {
                    Some(request) => self.take(request)?,
                    None => return Ok(None),
                },
                changed = self.snapshots.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane shuts down"))?;
                }
                () = sleep_until(wake) => if self.session.is_none() {
                    return Err(Status::deadline_exceeded("no request arrived on this stream"));
                },
            }
        }
    }

    fn take(&mut self, mut request: M::Request) -> Result<(), Status> {
        let node = M::node(&mut request);
        if self.session.is_none() {
            // R-C3: without a node there is nobody to serve.
            let node = node
                .filter(|node| !node.id.is_empty())
                .ok_or_else(|| Status::invalid_argument("the first request must carry a node with an id"))?;
            (self.admission)(&node).map_err(|reason| {
                let (id, peer) = (&node.id, &self.peer);
                tracing::error!(node = id, peer, "refused sidecar {id} at {peer}: {reason}");
                Status::failed_precondition(reason)
            })?;
            self.session = Some(self.fleet.open(self.info(node)));
        }
        let event = self
            .machine
            .on_request(&request)
            .map_err(|refusal| Status::invalid_argument(refusal.to_string()))?;
        let Some(session) = &self.session else { return Ok(()) };
        match event {
            Some(Event::Acked { kind, version }) => session.acked(kind.as_str(), &version),
            Some(Event::Nacked { kind, version, message }) => {
                let (node, r#type) = (session.node(), kind.as_str());
                session.nacked(kind.as_str(), &version, message.clone());
                tracing::error!(node, r#type, "sidecar {node} rejected {}: {message}", r#type);
            }
            None => {}
        }
        Ok(())
    }

    fn info(&self, node: Node) -> SidecarInfo {
        SidecarInfo {
            node_id: node.id,
            node_cluster: node.cluster,
            version: node.version.map(|version| version.to_string()),
            protocol: M::PROTOCOL.as_str(),
            peer: self.peer.clone(),
        }
    }
}

/// Never ends without an instant.
async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

type Turn<M> = Pin<Box<dyn Future<Output = (Client<M>, Result<Option<Vec<Bytes>>, Status>)> + Send>>;

/// The HTTP body of the response: chunks of messages, then the gRPC status as trailers.
pub(super) struct ResponseBody<M: Machine> {
    /// Absent once the stream has ended.
    turn: Option<Turn<M>>,
    chunks: VecDeque<Bytes>,
    ended: bool,
}

impl<M: Machine> ResponseBody<M> {
    pub(super) fn new(client: Client<M>) -> Self {
        Self { turn: Some(Self::turn(client)), chunks: VecDeque::new(), ended: false }
    }

    fn turn(mut client: Client<M>) -> Turn<M> {
        Box::pin(async move {
            let outcome = client.next().await;
            (client, outcome)
        })
    }
}

impl<M: Machine> http_body::Body for ResponseBody<M> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let Some(turn) = &mut self.turn else { return Poll::Ready(None) };
            let (client, outcome) = match turn.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(done) => done,
            };
            let status = match outcome {
                Ok(Some(chunks)) => {
                    self.chunks = chunks.into();
                    self.turn = Some(Self::turn(client));
                    continue;
                }
                Ok(None) => Status::ok(""),
                Err(status) => status,
            };
            self.turn = None;
            self.ended = true;
            let mut trailers = http::HeaderMap::new();
            if let Err(error) = status.add_header(&mut trailers) {
                return Poll::Ready(Some(Err(error)));
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
    }
}
