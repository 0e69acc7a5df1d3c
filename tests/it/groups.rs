//! Several groups on one server: each client gets its own, and hears of nobody else's edits.

use crate::support::{resource, soon, wait_until};
use envoy_types::pb::envoy::{
    config::{cluster::v3::Cluster, core::v3::Node},
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use exeat::{
    ads::{self, Aggregated, Assignment, Context, DiscoveryService, Doubts, Groups, Peer},
    envoy::ResourceKind,
    fleet::Fleet,
    snapshot::{Fallbacks, Snapshot, Store, Urgency},
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::net::TcpListener;
use tokio_stream::{StreamExt, iter};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Server, server::TcpIncoming},
};

/// A group for each `node.cluster`.
struct ByCluster(BTreeMap<&'static str, Arc<Store>>);

impl Groups for ByCluster {
    fn assign(&self, _: &Peer, node: &ads::Node) -> Result<Assignment, String> {
        let (group, store) = self.0.get_key_value(node.cluster.as_str()).ok_or("there is no such group")?;
        let (group, store, identity) = ((*group).into(), Arc::clone(store), node.id.as_str().into());
        Ok(Assignment { group, store, identity, late_revocation: false })
    }

    fn explain(&self, _: ResourceKind, _: &str) -> Option<String> {
        None
    }
}

fn publish(store: &Store, name: &str) {
    let resources =
        vec![resource(ResourceKind::Cluster, name, &Cluster { name: name.to_owned(), ..Default::default() })];
    store.publish(Snapshot::new(resources, &Fallbacks::new(), None), Urgency::Additions);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_is_served_its_own_group() {
    let [red, blue] = [(); 2].map(|()| Arc::new(Store::new()));
    publish(&red, "red-1");
    publish(&blue, "blue-1");
    let fleet = Fleet::new();
    let context = Context {
        groups: Arc::new(ByCluster([("red", Arc::clone(&red)), ("blue", Arc::clone(&blue))].into())),
        fleet: fleet.clone(),
        doubts: Doubts::default(),
        trusted: &[],
        shutdown: CancellationToken::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        Server::builder()
            .add_service(DiscoveryService::<Aggregated>::new(context))
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    let open = async |cluster: &str| {
        let request = DeltaDiscoveryRequest {
            node: Some(Node {
                id: format!("of-{cluster}"),
                cluster: cluster.to_owned(),
                ..Default::default()
            }),
            type_url: ResourceKind::Cluster.type_url().to_owned(),
            ..Default::default()
        };
        let mut client =
            AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await.unwrap();
        let requests = iter([request]).chain(tokio_stream::pending());
        client.delta_aggregated_resources(requests).await.unwrap().into_inner()
    };
    let (mut of_red, mut of_blue) = (open("red").await, open("blue").await);
    let name = |response: Result<Option<DeltaDiscoveryResponse>, Status>| {
        response.unwrap().unwrap().resources[0].name.clone()
    };
    assert_eq!(name(soon(of_red.message()).await), "red-1");
    assert_eq!(name(soon(of_blue.message()).await), "blue-1");
    wait_until("both are in the fleet", || fleet.sidecars().len() == 2);
    publish(&red, "red-2");
    publish(&blue, "blue-2");
    publish(&blue, "blue-3");
    assert_eq!(name(soon(of_red.message()).await), "red-2");
    assert!(name(soon(of_blue.message()).await).starts_with("blue-"));
    let refused = soon(open("green").await.message()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, "there is no such group"));
}
