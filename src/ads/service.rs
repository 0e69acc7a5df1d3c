//! The gRPC services below tonic's codec: a request path becomes a stream.

use super::{
    DeltaMachine, Doubts, Groups, Machine, Peer, Scope, SotwMachine, Trusted,
    stream::{Client, ResponseBody},
};
use crate::{fleet::Fleet, snapshot::ResourceKind};
use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    marker::PhantomData,
    sync::Arc,
    task,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, server::NamedService};

/// What all streams of a server share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who is served what.
    pub groups: Arc<dyn Groups>,
    /// Where clients are reported.
    pub fleet: Fleet,
    /// What clients may have of responses that they rejected.
    pub doubts: Doubts,
    /// Whose claims are believed.
    pub trusted: Trusted,
    /// Ends all streams.
    pub shutdown: CancellationToken,
}

/// One of the services of the xDS protocol ("RPC Services and Methods"): its name, and the names of its methods.
pub trait Service: Send + Sync + 'static {
    /// As in the path.
    const NAME: &'static str;
    /// What streams of it may ask for.
    const SCOPE: Scope;
    /// State of the world.
    const STREAM: &'static str;
    /// Incremental.
    const DELTA: &'static str;
    /// One answer; an aggregated service has none.
    const FETCH: Option<&'static str>;
}

macro_rules! services {
    ($($(#[$doc:meta])* $service:ident: $name:literal, $scope:expr, $stream:literal, $delta:literal, $fetch:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $service;

            impl Service for $service {
                const NAME: &'static str = $name;
                const SCOPE: Scope = $scope;
                const STREAM: &'static str = $stream;
                const DELTA: &'static str = $delta;
                const FETCH: Option<&'static str> = $fetch;
            }
        )*
    };
}

services! {
    /// ADS: all types on one stream, in order.
    Aggregated: "envoy.service.discovery.v3.AggregatedDiscoveryService", Scope::Aggregated,
        "StreamAggregatedResources", "DeltaAggregatedResources", None;
    /// CDS.
    Clusters: "envoy.service.cluster.v3.ClusterDiscoveryService", Scope::Only(ResourceKind::Cluster),
        "StreamClusters", "DeltaClusters", Some("FetchClusters");
    /// EDS.
    Endpoints: "envoy.service.endpoint.v3.EndpointDiscoveryService", Scope::Only(ResourceKind::Endpoints),
        "StreamEndpoints", "DeltaEndpoints", Some("FetchEndpoints");
    /// SDS.
    Secrets: "envoy.service.secret.v3.SecretDiscoveryService", Scope::Only(ResourceKind::Secret),
        "StreamSecrets", "DeltaSecrets", Some("FetchSecrets");
    /// LDS.
    Listeners: "envoy.service.listener.v3.ListenerDiscoveryService", Scope::Only(ResourceKind::Listener),
        "StreamListeners", "DeltaListeners", Some("FetchListeners");
    /// RDS.
    Routes: "envoy.service.route.v3.RouteDiscoveryService", Scope::Only(ResourceKind::RouteConfiguration),
        "StreamRoutes", "DeltaRoutes", Some("FetchRoutes");
}

/// Serves one service.
pub struct DiscoveryService<S> {
    context: Context,
    service: PhantomData<S>,
}

impl<S> DiscoveryService<S> {
    /// Serves what `context` gives.
    #[must_use]
    pub const fn new(context: Context) -> Self {
        Self { context, service: PhantomData }
    }
}

impl<S> Clone for DiscoveryService<S> {
    fn clone(&self) -> Self {
        Self::new(self.context.clone())
    }
}

impl<S> fmt::Debug for DiscoveryService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoveryService").finish_non_exhaustive()
    }
}

impl<S: Service> DiscoveryService<S> {
    fn open<M: Machine>(&self, request: http::Request<Body>, once: bool) -> http::Response<Body> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let client = Client::<M>::new(request.into_body(), self.context.clone(), S::SCOPE, peer, once);
        let mut response = http::Response::new(Body::new(ResponseBody::new(client)));
        response.headers_mut().insert(http::header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
        response
    }
}

impl<S: Service> NamedService for DiscoveryService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service> tower_service::Service<http::Request<Body>> for DiscoveryService<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        ready(Ok(if method == S::STREAM {
            self.open::<SotwMachine>(request, false)
        } else if method == S::DELTA {
            self.open::<DeltaMachine>(request, false)
        } else if S::FETCH == Some(method) {
            self.open::<SotwMachine>(request, true)
        } else {
            // R-N7.
            Status::unimplemented(format!("{} has no method {method}", S::NAME)).into_http()
        }))
    }
}
