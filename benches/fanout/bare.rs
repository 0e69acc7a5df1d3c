//! The floor: a tonic server that gives everybody the same bytes, and reads answers without looking at them.

use crate::{Protocol, TYPE_URL, resources, server::Served};
use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::{
    envoy::{
        config::core::v3::ControlPlane,
        service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource},
    },
    google::protobuf::Any,
};
use http_body::Frame;
use prost::Message;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_stream::{Stream, wrappers::WatchStream};
use tonic::{Status, body::Body, server::NamedService};

/// As long as a real one.
const VERSION: &str = "0123456789abcdef0123456789abcdef";

/// What streams write.
#[derive(Clone, Default)]
struct Feed {
    /// The whole set, first.
    full: Bytes,
    /// The edit.
    edit: Bytes,
}

#[derive(Default)]
struct Counts {
    streams: AtomicU64,
    answered: AtomicU64,
}

/// The publisher.
pub(crate) struct Bare {
    protocol: Protocol,
    names: usize,
    next: Feed,
    /// Freed when the next edit is made, and not while it is measured.
    before: Feed,
    feed: watch::Sender<Feed>,
    counts: Arc<Counts>,
}

impl Bare {
    pub(crate) fn new(protocol: Protocol, names: usize) -> Self {
        let feed = watch::Sender::default();
        Self { protocol, names, next: Feed::default(), before: Feed::default(), feed, counts: Arc::default() }
    }

    pub(crate) fn service(&self) -> BareService {
        BareService { feed: self.feed.subscribe(), counts: Arc::clone(&self.counts) }
    }
}

impl Served for Bare {
    fn prepare(&mut self, step: usize, nonce: usize) -> Duration {
        let bodies: Vec<(String, Any)> = resources(self.names, step).collect();
        self.before = Feed::default();
        let full = response(self.protocol, &bodies, 1);
        let start = Instant::now();
        let edit = match self.protocol {
            Protocol::Sotw => response(self.protocol, &bodies, nonce),
            Protocol::Delta => response(self.protocol, &bodies[step % self.names..][..1], nonce),
        };
        let took = start.elapsed();
        self.next = Feed { full, edit };
        took
    }

    fn publish(&mut self) {
        self.before = self.feed.send_replace(std::mem::take(&mut self.next));
    }

    fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }

    fn streams(&self) -> u64 {
        self.counts.streams.load(Ordering::Relaxed)
    }
}

/// With the head first, so that clients find the nonce without looking at everything.
fn response(protocol: Protocol, bodies: &[(String, Any)], nonce: usize) -> Bytes {
    let (type_url, nonce) = (TYPE_URL.to_owned(), nonce.to_string());
    let identifier = concat!("exeat/", env!("CARGO_PKG_VERSION")).to_owned();
    let control_plane = Some(ControlPlane { identifier });
    let parts = match protocol {
        Protocol::Sotw => [
            DiscoveryResponse {
                version_info: VERSION.to_owned(),
                type_url,
                nonce,
                control_plane,
                ..Default::default()
            }
            .encode_to_vec(),
            DiscoveryResponse {
                resources: bodies.iter().map(|(_, body)| body.clone()).collect(),
                ..Default::default()
            }
            .encode_to_vec(),
        ],
        Protocol::Delta => [
            DeltaDiscoveryResponse {
                system_version_info: VERSION.to_owned(),
                type_url,
                nonce,
                control_plane,
                ..Default::default()
            }
            .encode_to_vec(),
            DeltaDiscoveryResponse { resources: bodies.iter().map(resource).collect(), ..Default::default() }
                .encode_to_vec(),
        ],
    };
    let length = parts.iter().map(Vec::len).sum::<usize>();
    let mut framed = BytesMut::with_capacity(5 + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap());
    parts.iter().for_each(|part| framed.put_slice(part));
    framed.freeze()
}

fn resource((name, body): &(String, Any)) -> Resource {
    Resource {
        name: name.clone(),
        version: VERSION.to_owned(),
        resource: Some(body.clone()),
        ..Default::default()
    }
}

#[derive(Clone)]
pub(crate) struct BareService {
    feed: watch::Receiver<Feed>,
    counts: Arc<Counts>,
}

impl NamedService for BareService {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower_service::Service<http::Request<Body>> for BareService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.counts.streams.fetch_add(1, Ordering::Relaxed);
        let mut response = http::Response::new(Body::new(BareBody {
            requests: request.into_body(),
            feed: WatchStream::new(self.feed.clone()),
            counts: Arc::clone(&self.counts),
            asked: false,
            synced: false,
        }));
        response.headers_mut().insert(http::header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
        ready(Ok(response))
    }
}

struct BareBody {
    requests: Body,
    feed: WatchStream<Feed>,
    counts: Arc<Counts>,
    asked: bool,
    synced: bool,
}

impl http_body::Body for BareBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.requests).poll_frame(context) {
                // A client writes each message as one frame.
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    if std::mem::replace(&mut this.asked, true) {
                        this.counts.answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        if !this.asked {
            return Poll::Pending;
        }
        let Some(feed) = ready!(Pin::new(&mut this.feed).poll_next(context)) else {
            return Poll::Ready(None);
        };
        let first = !std::mem::replace(&mut this.synced, true);
        Poll::Ready(Some(Ok(Frame::data(if first { feed.full } else { feed.edit }))))
    }
}

impl Drop for BareBody {
    fn drop(&mut self) {
        self.counts.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
