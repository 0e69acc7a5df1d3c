//! A generic ADS server over the modules `snapshot` and `ads`, which know nothing of allowlists.
//!
//! ```console
//! $ cargo run --example adhoc -- --port 18000 --ctl 18001
//! $ curl --data '{"cds": {"a": "1"}, "eds": {"a": "1"}}' http://127.0.0.1:18001/state
//! ```
//!
//! `POST /state` replaces everything that is served: `{kind: {name: revision}}`, of the kinds `cds`, `eds`, `sds`,
//! `lds` and `rds`. It is answered when a client that asks gets the new state. A resource is valid and small, and its
//! bytes depend on kind, name and revision alone. Nothing is served before the first state, and nothing is kept.
#![allow(clippy::print_stdout)]

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, routing::post};
use clap::Parser;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{
                Address, DataSource, Locality, SocketAddress, address, data_source,
                socket_address::PortSpecifier,
            },
            endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints},
            listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
            route::v3::{RouteConfiguration, VirtualHost},
        },
        extensions::{
            filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
            transport_sockets::tls::v3::{GenericSecret, Secret, secret},
        },
    },
    google::protobuf::Any,
};
use exeat::{
    ads::{
        Aggregated, Clusters, Context, DiscoveryService, Doubts, Endpoints, Listeners, OneGroup, Routes,
        Secrets,
    },
    fleet::Fleet,
    snapshot::{Fallbacks, Resource, ResourceKind, Snapshot, Store, Urgency},
};
use prost::{Message, Name};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

/// How long clients have to take what was sent to them.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);
/// Ten thousand names of each kind fit easily.
const MAX_STATE_BYTES: usize = 64 * 1024 * 1024;

/// Serves whatever it is told.
#[derive(Parser)]
struct Args {
    /// xDS, on loopback.
    #[arg(long)]
    port: u16,
    /// HTTP, on loopback: `POST /state`.
    #[arg(long)]
    ctl: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { port, ctl } = Args::parse();
    let store = Arc::new(Store::new());
    let context = Context {
        groups: Arc::new(OneGroup(Arc::clone(&store))),
        fleet: Fleet::new(),
        doubts: Doubts::default(),
        trusted: &[],
        shutdown: CancellationToken::new(),
    };
    let xds = tonic::transport::Server::builder()
        .add_service(DiscoveryService::<Aggregated>::new(context.clone()))
        .add_service(DiscoveryService::<Clusters>::new(context.clone()))
        .add_service(DiscoveryService::<Endpoints>::new(context.clone()))
        .add_service(DiscoveryService::<Secrets>::new(context.clone()))
        .add_service(DiscoveryService::<Listeners>::new(context.clone()))
        .add_service(DiscoveryService::<Routes>::new(context.clone()));
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let control = tokio::net::TcpListener::bind(loopback(ctl)).await.context("--ctl")?;
    let xds_socket = tokio::net::TcpListener::bind(loopback(port)).await.context("--port")?;
    println!("xDS on {}, control on http://{}/state", xds_socket.local_addr()?, control.local_addr()?);
    let xds_socket = TcpIncoming::from(xds_socket).with_nodelay(Some(true));
    let routes = Router::new()
        .route("/state", post(replace))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_STATE_BYTES))
        .with_state(store);
    let stop = context.shutdown.clone();
    // Streams end by themselves; a client that does not read would keep its connection open for ever.
    let deadline = async {
        drop(tokio::signal::ctrl_c().await);
        stop.cancel();
        tokio::time::sleep(SHUTDOWN_DEADLINE).await;
    };
    tokio::select! {
        result = xds.serve_with_incoming_shutdown(xds_socket, context.shutdown.cancelled()) => result?,
        result = axum::serve(control, routes).into_future() => result?,
        () = deadline => {}
    }
    Ok(())
}

/// Takes the new state in. Streams and clients that come later see it from the moment this is answered.
async fn replace(State(store): State<Arc<Store>>, body: String) -> Result<String, (StatusCode, String)> {
    let refused = |error: String| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    let state: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(&body).map_err(|error| refused(error.to_string()))?;
    let mut resources = Vec::new();
    for (kind, names) in state {
        let kind = ResourceKind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(|| refused(format!("`{kind}` is none of cds, eds, sds, lds, rds")))?;
        resources.extend(names.into_iter().map(|(name, revision)| Resource {
            body: resource(kind, &name, revision),
            kind,
            name,
        }));
    }
    let previous = store.current();
    let previous = previous.as_ref().map(|published| &*published.snapshot);
    let snapshot = Snapshot::new(resources, &Fallbacks::new(), previous);
    let version = snapshot.version().to_string();
    store.publish(snapshot, Urgency::Additions);
    Ok(format!("{version}\n"))
}

/// A small resource that Envoy accepts, with the revision in some text of it.
fn resource(kind: ResourceKind, name: &str, revision: String) -> Any {
    let name = name.to_owned();
    match kind {
        ResourceKind::Cluster => pack(&Cluster {
            name,
            alt_stat_name: revision,
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
            ..Default::default()
        }),
        ResourceKind::Endpoints => pack(&ClusterLoadAssignment {
            cluster_name: name,
            endpoints: vec![LocalityLbEndpoints {
                locality: Some(Locality { zone: revision, ..Default::default() }),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ResourceKind::Secret => pack(&Secret {
            name,
            r#type: Some(secret::Type::GenericSecret(GenericSecret {
                secret: Some(DataSource {
                    specifier: Some(data_source::Specifier::InlineString(revision)),
                    ..Default::default()
                }),
                ..Default::default()
            })),
        }),
        ResourceKind::Listener => pack(&listener(name, revision)),
        ResourceKind::RouteConfiguration => pack(&RouteConfiguration {
            name,
            virtual_hosts: vec![VirtualHost {
                name: format!("revision {revision}"),
                domains: vec!["*".to_owned()],
                ..Default::default()
            }],
            ..Default::default()
        }),
    }
}

fn listener(name: String, revision: String) -> Listener {
    let proxy = TcpProxy {
        stat_prefix: revision,
        cluster_specifier: Some(ClusterSpecifier::Cluster(name.clone())),
        ..Default::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack(&proxy))),
    };
    Listener {
        name,
        address: Some(Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: Ipv4Addr::LOCALHOST.to_string(),
                port_specifier: Some(PortSpecifier::PortValue(0)),
                ..Default::default()
            })),
        }),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    }
}

fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}
