//! Clients that others wrote: the gRPC team's for Rust, and Python's gRPC with scripted conversations.

use crate::support::{Block, GenericServer, example, finish_within, python_with, resource};
use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use exeat::{envoy::ResourceKind, snapshot::Resource as Served};
use prost::Message;
use std::{path::Path, process::Command};
use tokio::time::{Duration, timeout};
use xds_client::{
    ClientConfig, Node, ProstCodec, Resource, ResourceEvent, ResourceWatcher, Result, TokioRuntime,
    TonicTransportBuilder, XdsClient, resource::TypeUrl,
};

/// A route table, of which the client looks at the first virtual host. One that is called "bad" is rejected.
#[derive(Clone, Debug)]
struct Table(String);

impl Resource for Table {
    type Message = RouteConfiguration;
    const TYPE_URL: TypeUrl = TypeUrl::new(ResourceKind::RouteConfiguration.type_url());
    const ALL_RESOURCES_REQUIRED_IN_SOTW: bool = false;

    fn deserialize(bytes: Bytes) -> Result<Self::Message> {
        RouteConfiguration::decode(bytes).map_err(Into::into)
    }

    fn name(message: &Self::Message) -> &str {
        &message.name
    }

    fn validate(message: Self::Message) -> Result<Self> {
        match message.virtual_hosts.first() {
            Some(host) if host.name == "bad" => Err(xds_client::Error::Validation("bad".to_owned())),
            Some(host) => Ok(Self(host.name.clone())),
            None => Ok(Self(String::new())),
        }
    }
}

fn table(name: &str, content: &str) -> Served {
    let host = VirtualHost { name: content.to_owned(), domains: vec!["*".to_owned()], ..Default::default() };
    let table = RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..Default::default() };
    resource(ResourceKind::RouteConfiguration, name, &table)
}

/// The next table that the client accepts.
async fn next(watcher: &mut ResourceWatcher<Table>) -> String {
    let next = async {
        loop {
            if let ResourceEvent::ResourceChanged { result: Ok(table), .. } = watcher.next().await.unwrap() {
                return table.0.clone();
            }
        }
    };
    timeout(Duration::from_secs(20), next).await.unwrap()
}

/// Whether the next thing that the client hears is that a table is invalid.
async fn rejected(watcher: &mut ResourceWatcher<Table>) -> bool {
    let event = timeout(Duration::from_secs(20), watcher.next()).await.unwrap().unwrap();
    matches!(
        event,
        ResourceEvent::ResourceChanged { result: Err(_), .. } | ResourceEvent::AmbientError { .. }
    )
}

#[test]
fn the_grpc_teams_client_gets_what_it_watches() {
    let mut server = GenericServer::start((Block::claim().host(9), 0).into());
    server.publish(vec![table("a", "1"), table("b", "1"), table("unwatched", "1")]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config =
        ClientConfig::new(Node::new("tests", "1").with_id("peer"), format!("http://{}", server.address));
    let (client, mut a, mut b) = runtime.block_on(async {
        let client =
            XdsClient::builder(config, TonicTransportBuilder::new(), ProstCodec, TokioRuntime).build();
        let (mut a, mut b) = (client.watch::<Table>("a").await, client.watch::<Table>("b").await);
        assert_eq!((next(&mut a).await, next(&mut b).await), ("1".to_owned(), "1".to_owned()));
        (client, a, b)
    });
    server.publish(vec![table("a", "2"), table("b", "1"), table("unwatched", "2")]);
    assert_eq!(runtime.block_on(next(&mut a)), "2");
    server.publish(vec![table("a", "bad"), table("b", "1")]);
    server.wait_nack(ResourceKind::RouteConfiguration);
    // The client takes nothing more before it was told what it rejected.
    assert!(runtime.block_on(rejected(&mut a)), "bad is no table");
    server.publish(vec![table("a", "2"), table("b", "2")]);
    assert_eq!(runtime.block_on(next(&mut b)), "2", "a rejection holds nothing back");
    assert_eq!(runtime.block_on(next(&mut a)), "2", "and is undone");
    server.cut_and(|server| server.publish(vec![table("a", "3"), table("b", "2")]));
    assert_eq!(runtime.block_on(next(&mut a)), "3", "it comes back");
    drop(client);
}

/// Each requirement of the protocol as a conversation, on every service and in both variants.
#[test]
fn pythons_grpc_finds_every_requirement_kept() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/conformance.py");
    let packages = python_with("xds", &["grpcio==1.85.1", "xds-protos==1.85.0"]);
    let mut conversations = Command::new("python3");
    conversations.env("PYTHONPATH", packages).arg(script).arg(example("adhoc"));
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy"] {
        conversations.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    let output = finish_within(&mut conversations, Duration::from_secs(900));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.trim_end().ends_with(" 0 failed"), "{text}");
}
