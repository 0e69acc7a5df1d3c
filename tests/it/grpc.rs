//! The gRPC side with a generated client: ADS, the admin API, health.

use crate::support::{Block, ControlPlane, soon};
use envoy_types::pb::envoy::{
    config::{
        core::v3::{BuildVersion, Extension, Node, node::UserAgentVersionType},
        route::v3::RouteConfiguration,
    },
    service::discovery::v3::{
        DeltaDiscoveryRequest, DiscoveryRequest,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    r#type::v3::SemanticVersion,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use exeat::{
    admin::proto::{StatusRequest, admin_client::AdminClient},
    envoy::{REQUIRED_EXTENSIONS, REVOCATION},
    snapshot::ResourceKind,
};
use prost::Message;
use std::{fs, time::Duration};
use tokio_stream::{StreamExt, iter, wrappers::ReceiverStream};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

fn node(id: &str) -> Option<Node> {
    Some(Node { id: id.to_owned(), cluster: "tests".to_owned(), ..Default::default() })
}

async fn channel(server: &ControlPlane) -> Channel {
    Channel::from_shared(format!("http://{}", server.xds)).unwrap().connect().await.unwrap()
}

fn server(allowlist: &str) -> ControlPlane {
    ControlPlane::start(&Block::claim(), allowlist, &[])
}

const RDS: &str = ResourceKind::RouteConfiguration.type_url();

fn rds(nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        node: node("scripted"),
        type_url: RDS.to_owned(),
        resource_names: vec!["egress".to_owned()],
        response_nonce: nonce.to_owned(),
        ..Default::default()
    }
}

/// How a stream with one first request ends, if it ends.
async fn sotw_error(server: &ControlPlane, request: DiscoveryRequest) -> (Code, String) {
    let mut client = AggregatedDiscoveryServiceClient::new(channel(server).await);
    // The client's side stays open.
    let requests = iter([request]).chain(tokio_stream::pending());
    let status = match client.stream_aggregated_resources(requests).await {
        Ok(mut stream) => soon(stream.get_mut().message()).await.unwrap_err(),
        Err(status) => status,
    };
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_the_world_follows_edits() {
    let server = server("- a.test\n");
    let mut client = AggregatedDiscoveryServiceClient::new(channel(&server).await);
    let (send, receive) = tokio::sync::mpsc::channel(4);
    send.send(rds("")).await.unwrap();
    let mut stream =
        client.stream_aggregated_resources(ReceiverStream::new(receive)).await.unwrap().into_inner();
    let first = soon(stream.message()).await.unwrap().unwrap();
    assert_eq!((first.type_url.as_str(), first.resources.len()), (RDS, 1));
    assert!(first.control_plane.unwrap().identifier.starts_with("exeat/"));
    let table = RouteConfiguration::decode(first.resources[0].value.as_slice()).unwrap();
    assert_eq!(table.name, "egress");
    send.send(rds(&first.nonce)).await.unwrap();
    fs::write(server.allowlist(), "- a.test\n- b.test\n").unwrap();
    let second = soon(stream.message()).await.unwrap().unwrap();
    assert_ne!((&second.version_info, &second.nonce), (&first.version_info, &first.nonce));
    send.send(rds(&second.nonce)).await.unwrap();
    crate::support::wait_until("the ACK is seen", || {
        server.status()["sidecars"][0]["resources"][0]["acked_version"] == second.version_info.as_str()
    });
    // R-L1: the client's end is the end of the stream.
    drop(send);
    assert!(soon(stream.message()).await.unwrap().is_none());
    server.wait_in_sync(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_sends_what_a_client_lacks() {
    let server = server("- a.test\n");
    let mut client = AggregatedDiscoveryServiceClient::new(channel(&server).await);
    let request = DeltaDiscoveryRequest {
        node: node("scripted"),
        type_url: ResourceKind::Cluster.type_url().to_owned(),
        initial_resource_versions: [("gone".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let requests = iter([request]).chain(tokio_stream::pending());
    let mut stream = client.delta_aggregated_resources(requests).await.unwrap().into_inner();
    let response = soon(stream.message()).await.unwrap().unwrap();
    assert_eq!(response.resources[0].name, "forward");
    assert!(!response.resources[0].version.is_empty());
    // Routes that it does not tell of may lead to what is gone, for a moment.
    let response = soon(stream.message()).await.unwrap().unwrap();
    assert_eq!(response.removed_resources, ["gone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_served_are_refused() {
    let server = server("- a.test\n");
    let (code, words) = sotw_error(&server, DiscoveryRequest { node: None, ..rds("") }).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(words.contains("node"), "{words}");
    let (code, _) = sotw_error(&server, DiscoveryRequest { type_url: String::new(), ..rds("") }).await;
    assert_eq!(code, Code::InvalidArgument);
    let old = BuildVersion {
        version: Some(SemanticVersion { major_number: 1, minor_number: 39, patch: 0 }),
        ..Default::default()
    };
    let envoy = Node {
        user_agent_name: "envoy".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(old)),
        ..node("old").unwrap()
    };
    let (code, words) = sotw_error(&server, DiscoveryRequest { node: Some(envoy), ..rds("") }).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(words.contains("Envoy 1.40 or later"), "{words}");
    let new = BuildVersion {
        version: Some(SemanticVersion { major_number: 1, minor_number: 40, patch: 0 }),
        ..Default::default()
    };
    let has = |types: &[&str]| Extension {
        type_urls: types.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    // A bootstrap of somebody else's.
    let foreign = Node {
        user_agent_name: "envoy".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(new.clone())),
        ..node("foreign").unwrap()
    };
    let (code, words) = sotw_error(&server, DiscoveryRequest { node: Some(foreign), ..rds("") }).await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(words.contains("print it anew with `exeat bootstrap`"), "{words}");
    let yes = Value { kind: Some(Kind::BoolValue(true)) };
    let own = Struct { fields: [(REVOCATION.to_owned(), yes)].into() };
    let own = Value { kind: Some(Kind::StructValue(own)) };
    let metadata = Some(Struct { fields: [("exeat".to_owned(), own)].into() });
    let without = |missing: &str| {
        let types: Vec<&str> = REQUIRED_EXTENSIONS.into_iter().filter(|name| *name != missing).collect();
        Node {
            user_agent_name: "envoy".to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(new.clone())),
            metadata: metadata.clone(),
            extensions: vec![has(&["other"]), has(&types)],
            ..node("poor").unwrap()
        }
    };
    for _ in 0..2 {
        let poor = Some(without("envoy.extensions.filters.http.rbac.v3.RBAC"));
        let (code, words) = sotw_error(&server, DiscoveryRequest { node: poor, ..rds("") }).await;
        assert_eq!(code, Code::FailedPrecondition);
        assert!(words.contains("built without envoy.extensions.filters.http.rbac.v3.RBAC"), "{words}");
    }
    let refused = &server.status()["refused"];
    assert_eq!(
        [&refused[0]["node_id"], &refused[1]["node_id"], &refused[2]["node_id"]],
        ["old", "foreign", "poor"],
        "{refused}"
    );
    assert_eq!(refused[2]["times"], 2);
    // The server lives on.
    assert_eq!(server.ask("/readyz").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_before_the_first_valid_allowlist() {
    let server = server("nonsense: [\n");
    let (code, _) = sotw_error(&server, rds("")).await;
    assert_eq!(code, Code::Unavailable);
    let mut health = HealthClient::new(channel(&server).await);
    let ask = || HealthCheckRequest { service: String::new() };
    let status = health.check(ask()).await.unwrap().into_inner().status;
    assert_eq!(status, i32::from(ServingStatus::NotServing));
    fs::write(server.allowlist(), "- a.test\n").unwrap();
    let mut watch = health.watch(ask()).await.unwrap().into_inner();
    while soon(watch.message()).await.unwrap().unwrap().status != i32::from(ServingStatus::Serving) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_shows_and_follows_the_state() {
    let server = server("- a.test\n");
    let refused = AdminClient::new(channel(&server).await).status(StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented, "sidecars do not see each other");
    let endpoint = Endpoint::new(format!("http://{}", server.admin)).unwrap();
    let mut admin = AdminClient::new(endpoint.connect().await.unwrap());
    let status = admin.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.ready && status.entries == 1 && status.files[0].in_force);
    let mut watch = admin.watch_status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().version, status.version);
    fs::write(server.allowlist(), "- a.test\n- b.test\n").unwrap();
    let next = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let next = soon(watch.message()).await.unwrap().unwrap();
            if next.entries == 2 {
                return next;
            }
        }
    });
    assert_ne!(next.await.unwrap().version, status.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_serves_too() {
    let block = Block::claim();
    let mut server = ControlPlane::prepared(&block, &[]);
    fs::write(server.allowlist(), "- a.test\n").unwrap();
    let path = server.directory().join("xds.sock");
    // A socket file that a crashed server left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    server.listen_on_unix(&path);
    server.launch();
    let endpoint = Endpoint::new(format!("unix:{}", path.display())).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status;
    assert_eq!(status, i32::from(ServingStatus::Serving));
    server.stop();
    assert!(!path.exists());
}
