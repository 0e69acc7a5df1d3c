//! Wiring: the one place that sees all parts.

mod accept;
mod admin_port;
mod config;
mod connection;
mod convergence;
mod files;
mod groups;
mod listen;
mod own_ports;
mod pipeline;
mod signals;
mod state_dir;
mod tls;

pub(crate) use accept::descriptors;
pub use config::{ServerConfig, TlsFiles, XdsListen};
pub use files::read;
pub use signals::{Interrupt, Interrupts};

use crate::{
    admin::{
        self, AdminService, AllowlistState, ClientStatusService, Rescan, StatusSource,
        proto::admin_server::AdminServer,
    },
    ads::{
        Aggregated, Clusters, Context as AdsContext, DiscoveryService, Doubts, Endpoints, Listeners, Routes,
        Secrets, Service,
    },
    envoy::XdsEndpoint,
    fleet::Fleet,
    metrics::Metrics,
    snapshot::{ResourceKind, Store, Stores},
};
use anyhow::Context;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer;
use groups::{COMMON, SidecarGroups};
use own_ports::OwnPorts;
use pipeline::{Outlets, Pipeline};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{service::RoutesBuilder, transport::Server as GrpcServer};
use tonic_health::server::HealthReporter;

/// HTTP/2 pings to clients, so that half-open connections do not stay for ever.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection. A sidecar needs one, and health a few.
const MAX_STREAMS: u32 = 64;
/// Streams end by themselves on shutdown; connections that do not are dropped after this.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);

/// A running control plane.
#[derive(Debug)]
pub struct Server {
    xds: Vec<XdsEndpoint>,
    admin: SocketAddr,
    fleet: Fleet,
    /// What sidecars get that are no agent.
    common: Arc<Store>,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Server {
    /// Reads the allowlists, binds the sockets and begins to serve. Fails only if a socket cannot be bound or the files
    /// of TLS cannot be used: without a valid allowlist it serves nothing and goes on watching.
    pub async fn start(config: ServerConfig) -> anyhow::Result<Self> {
        let (acceptor, reloader) = config.tls.as_ref().map(tls::load).transpose()?.unzip();
        let xds_sockets = listen::bind(&config.xds).await?;
        let admin_socket = tokio::net::TcpListener::bind(config.admin).await.with_context(|| {
            format!(
                "cannot listen for admin HTTP on {} (--admin-listen chooses another address)",
                config.admin
            )
        })?;
        let xds = xds_sockets.iter().map(listen::Socket::endpoint).collect::<Result<Vec<_>, _>>()?;
        let admin_address = admin_socket.local_addr()?;

        let shutdown = CancellationToken::new();
        let stores = Arc::new(Stores::default());
        let common = stores.open(&COMMON.into());
        let fleet = Fleet::new();
        let metrics = Metrics::new();
        let (file_states, files) = watch::channel(AllowlistState::default());
        let (policies, known_policies) = watch::channel(None);
        let source = StatusSource {
            stores: Arc::clone(&stores),
            policies: known_policies,
            fleet: fleet.clone(),
            files,
        };

        let groups = Arc::new(SidecarGroups::new(Arc::clone(&stores), fleet.clone()));

        // files → policy → resources → snapshot; the first policy is there before the first client.
        let outlets = Outlets {
            stores,
            groups: Arc::clone(&groups),
            fleet: fleet.clone(),
            metrics: metrics.clone(),
            states: file_states,
            policies,
        };
        let tcp = xds.iter().filter_map(|endpoint| match endpoint {
            XdsEndpoint::Address(address) => Some(*address),
            XdsEndpoint::Name(..) | XdsEndpoint::Unix(_) => None,
        });
        let own_ports = OwnPorts::new(tcp.chain([admin_address, config.profile.egress]));
        let mut pipeline = Pipeline::new(&config, own_ports, outlets)?;
        pipeline.load();

        // Read only, and not for sidecars: it shows all of them.
        let rescan = pipeline.rescan();
        let rescan: Rescan = Arc::new(move || {
            let rescan = rescan.clone();
            Box::pin(async move { rescan.now().await })
        });
        let status_admin = AdminServer::new(AdminService::new(source.clone(), rescan, shutdown.clone()));
        let status_clients =
            ClientStatusDiscoveryServiceServer::new(ClientStatusService::new(source.clone()));

        // snapshot → wire
        let (health, health_service) = tonic_health::server::health_reporter();
        let ads = AdsContext {
            groups,
            fleet: fleet.clone(),
            doubts: Doubts::default(),
            // A restart re-sends nothing.
            trusted: &[ResourceKind::RouteConfiguration],
            shutdown: shutdown.clone(),
        };
        let grpc = GrpcServer::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(MAX_STREAMS)
            .add_service(DiscoveryService::<Aggregated>::new(ads.clone()))
            .add_service(DiscoveryService::<Clusters>::new(ads.clone()))
            .add_service(DiscoveryService::<Endpoints>::new(ads.clone()))
            .add_service(DiscoveryService::<Secrets>::new(ads.clone()))
            .add_service(DiscoveryService::<Listeners>::new(ads.clone()))
            .add_service(DiscoveryService::<Routes>::new(ads))
            .add_service(health_service);

        // The sockets are bound: clients that connect from here on are served.
        let listening = xds.iter().map(XdsEndpoint::to_string).collect::<Vec<_>>().join(", ");
        tracing::info!(
            xds = %listening, admin = %admin_address,
            "exeat {} listens: xDS on {listening}, admin on http://{admin_address}",
            env!("CARGO_PKG_VERSION")
        );
        let mut tasks = JoinSet::new();
        let until = shutdown.clone();
        tasks.spawn(listen::serve(xds_sockets, acceptor, grpc, until));
        if let Some(reloader) = reloader {
            let until = shutdown.clone();
            tasks.spawn(async move {
                until.run_until_cancelled(reloader.run()).await;
                Ok(())
            });
        }
        let mut grpc_admin = RoutesBuilder::default();
        grpc_admin.add_service(status_admin).add_service(status_clients);
        let routes = admin::router(source, &metrics)
            .merge(grpc_admin.routes().into_axum_router())
            .fallback(admin::not_found)
            .layer(axum::middleware::from_fn_with_state(
                admin_address.ip().is_loopback(),
                admin::refuse_strangers,
            ));
        let until = shutdown.clone();
        tasks.spawn(async move {
            admin_port::serve(admin_socket, routes, until).await;
            Ok(())
        });
        let until = shutdown.clone();
        tasks.spawn(async move {
            until.run_until_cancelled(pipeline.run()).await;
            Ok(())
        });
        let until = shutdown.clone();
        let followed = Arc::clone(&common);
        tasks.spawn(async move {
            until.run_until_cancelled(report_health(health, followed)).await;
            Ok(())
        });
        Ok(Self { xds, admin: admin_address, fleet, common, shutdown, tasks })
    }

    /// Where sidecars connect, in the order of the settings.
    #[must_use]
    pub fn xds(&self) -> &[XdsEndpoint] {
        &self.xds
    }

    /// Where admin HTTP is.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Whether there is a valid allowlist, and so a policy to serve.
    #[must_use]
    pub fn has_policy(&self) -> bool {
        self.common.current().is_some()
    }

    /// Who is connected.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Ends when a part has failed.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => anyhow::Error::new(error).context("a part of the server crashed"),
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("a part of the server ended"),
        }
    }

    /// Ends all streams, then the sockets. Sidecars go on with what they have.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_DEADLINE, all).await.is_err() {
            tracing::warn!("connections were open at the end of the shutdown deadline and are dropped");
        }
    }
}

/// gRPC health follows readiness.
async fn report_health(health: HealthReporter, store: Arc<Store>) {
    let mut published = store.subscribe();
    loop {
        let status = match *published.borrow_and_update() {
            Some(_) => tonic_health::ServingStatus::Serving,
            None => tonic_health::ServingStatus::NotServing,
        };
        for service in ["", Aggregated::NAME] {
            health.set_service_status(service, status).await;
        }
        if published.changed().await.is_err() {
            return;
        }
    }
}
