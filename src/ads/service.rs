//! The gRPC service below tonic's codec: a request path becomes a stream.

use super::{
    DeltaMachine, Machine, Node, SotwMachine,
    stream::{Client, ResponseBody},
};
use crate::{fleet::Fleet, snapshot::Store};
use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    server::NamedService,
    transport::server::{TcpConnectInfo, UdsConnectInfo},
};

/// Decides whether a client may have resources at all; an error is told to the client and ends its stream.
pub type Admission = fn(&Node) -> Result<(), String>;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`.
#[derive(Clone)]
pub struct AdsService {
    store: Arc<Store>,
    fleet: Fleet,
    admission: Admission,
    shutdown: CancellationToken,
}

impl fmt::Debug for AdsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdsService").finish_non_exhaustive()
    }
}

impl AdsService {
    /// Serves `store` to all admitted clients, reports them to `fleet`, and ends all streams on `shutdown`.
    #[must_use]
    pub const fn new(
        store: Arc<Store>,
        fleet: Fleet,
        admission: Admission,
        shutdown: CancellationToken,
    ) -> Self {
        Self { store, fleet, admission, shutdown }
    }

    fn open<M: Machine>(&self, request: http::Request<Body>) -> http::Response<Body> {
        // R-L9: an empty set would make a reconnecting Envoy delete everything.
        if self.store.current().is_none() {
            return Status::unavailable("no valid allowlist has been read yet").into_http();
        }
        let peer = peer(request.extensions());
        let client = Client::<M>::new(
            request.into_body(),
            self.store.subscribe(),
            self.fleet.clone(),
            self.admission,
            self.shutdown.clone(),
            peer,
        );
        let mut response = http::Response::new(Body::new(ResponseBody::new(client)));
        response.headers_mut().insert(http::header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
        response
    }
}

fn peer(extensions: &http::Extensions) -> String {
    if let Some(address) = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr) {
        return address.to_string();
    }
    match extensions.get::<UdsConnectInfo>() {
        Some(_) => "unix".to_owned(),
        None => "unknown".to_owned(),
    }
}

impl NamedService for AdsService {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower_service::Service<http::Request<Body>> for AdsService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let method = path.strip_prefix('/').and_then(|path| path.strip_prefix(Self::NAME)).unwrap_or(path);
        ready(Ok(match method {
            "/StreamAggregatedResources" => self.open::<SotwMachine>(request),
            "/DeltaAggregatedResources" => self.open::<DeltaMachine>(request),
            other => Status::unimplemented(format!("there is no method {other}")).into_http(),
        }))
    }
}
