//! Clients that are slow, silent, in a hurry, broken or many, and a server that goes away.

use crate::support::{Block, ControlPlane, Stack, get, soon, wait_until};
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use exeat::{envoy::ResourceKind, envoy::XdsEndpoint};
use std::{
    fmt::Write,
    fs,
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

const RDS: ResourceKind = ResourceKind::RouteConfiguration;

async fn channel(server: &ControlPlane) -> Channel {
    Channel::from_shared(format!("http://{}", server.xds)).unwrap().connect().await.unwrap()
}

fn rds(nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(Node { id: "hard".to_owned(), ..Default::default() }),
        type_url: RDS.type_url().to_owned(),
        resource_names: vec!["egress".to_owned()],
        response_nonce: nonce.to_owned(),
        ..Default::default()
    }
}

type Opened = (mpsc::Sender<DiscoveryRequest>, Streaming<DiscoveryResponse>);

async fn open(channel: Channel) -> Opened {
    let (send, receive) = mpsc::channel(64);
    send.send(rds("")).await.unwrap();
    let mut client =
        AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
    let stream = client.stream_aggregated_resources(ReceiverStream::new(receive)).await.unwrap().into_inner();
    (send, stream)
}

fn open_files(server: &ControlPlane) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.process().id())).unwrap().count()
}

/// About a megabyte of routes; a higher revision has one host more.
fn large(revision: u32) -> String {
    (0..8000 + revision).fold(String::new(), |mut text, n| {
        writeln!(text, "- h{n}.a-rather-long-name-for-a-host.test").unwrap();
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_costs_little_and_ends_at_the_newest() {
    let server = ControlPlane::start(&Block::claim(), &large(0), &[]);
    let (fast_send, mut fast) = open(channel(&server).await).await;
    let first = soon(fast.message()).await.unwrap().unwrap();
    fast_send.send(rds(&first.nonce)).await.unwrap();
    let mut newest = String::new();
    let mut edit = async |revisions: std::ops::RangeInclusive<u32>| {
        for revision in revisions {
            server.write_by_rename(&large(revision));
            let response = soon(fast.message()).await.unwrap().unwrap();
            fast_send.send(rds(&response.nonce)).await.unwrap();
            newest = response.version_info;
        }
    };
    // What the allocator keeps for edits is not counted.
    edit(1..=8).await;
    let (_slow_send, mut slow) = open(channel(&server).await).await;
    let before = server.process().memory();
    edit(9..=20).await;
    let grown = server.process().memory().saturating_sub(before);
    assert!(grown < 60 * 1024, "{grown} KiB more after 12 edits of which one client read none");
    // What was on its way, and then the newest: not one of each edit.
    let mut seen = Vec::new();
    while seen.last() != Some(&newest) {
        let response = soon(slow.message()).await.unwrap().unwrap();
        seen.push(response.version_info);
        _slow_send.send(rds(&response.nonce)).await.unwrap();
    }
    assert!(seen.len() < 10, "{} responses", seen.len());
    assert!(server.metric("exeat_xds_coalesced_edits_total") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_slowed_and_hurts_nobody_else() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let (flood, mut answers) = open(channel(&server).await).await;
    let nonce = soon(answers.message()).await.unwrap().unwrap().nonce;
    let flooding = tokio::spawn(async move {
        let mut sent = 0_u32;
        while flood.send(rds(&nonce)).await.is_ok() {
            sent += 1;
            if sent == 20_000 {
                break;
            }
        }
        sent
    });
    let (send, mut stream) = open(channel(&server).await).await;
    let first = soon(stream.message()).await.unwrap().unwrap();
    send.send(rds(&first.nonce)).await.unwrap();
    fs::write(server.allowlist(), "- b.test\n").unwrap();
    let second = soon(stream.message()).await.unwrap().unwrap();
    assert_ne!(first.version_info, second.version_info);
    // Five hundred may come at once, and then two hundred a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!flooding.is_finished(), "20,000 requests were read in two seconds");
    flooding.abort();
}

/// Requests whose fields are of a wrong kind.
#[derive(Clone, PartialEq, prost::Message)]
struct Malformed {
    #[prost(bytes = "vec", tag = "1")]
    version_info: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_ends_its_own_stream_only() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let shared = channel(&server).await;
    let (send, mut fine) = open(shared.clone()).await;
    let first = soon(fine.message()).await.unwrap().unwrap();
    let mut raw = tonic::client::Grpc::new(shared);
    raw.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Malformed, DiscoveryResponse>::default();
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    let bad = tokio_stream::iter([Malformed { version_info: vec![0xff, 0xfe] }]);
    let outcome = raw.streaming(tonic::Request::new(bad), path.parse().unwrap(), codec).await;
    let status = match outcome {
        Ok(stream) => soon(stream.into_inner().message()).await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::Internal, "{status}");
    send.send(rds(&first.nonce)).await.unwrap();
    fs::write(server.allowlist(), "- b.test\n").unwrap();
    assert!(soon(fine.message()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connects_leave_nothing_behind() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let connect = async |count: usize| {
        for round in 0..count {
            let (send, mut stream) = open(channel(&server).await).await;
            let response = soon(stream.message()).await.unwrap().unwrap();
            if round % 3 != 0 {
                send.send(rds(&response.nonce)).await.unwrap();
            }
        }
        wait_until("everybody is gone", || server.metric("exeat_sidecars{protocol=\"sotw\"}") == 0.0);
    };
    connect(200).await;
    let (memory, files) = (server.process().memory(), open_files(&server));
    connect(1000).await;
    wait_until("the sockets are closed", || open_files(&server) <= files + 5);
    let grown = server.process().memory().saturating_sub(memory);
    assert!(grown < 8 * 1024, "{grown} KiB more after 1,000 connects");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_tells_clients_to_come_back_and_waits_for_nobody() {
    let mut server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let (_send, mut stream) = open(channel(&server).await).await;
    soon(stream.message()).await.unwrap();
    let XdsEndpoint::Address(address) = &server.xds else { panic!("TCP") };
    let mut silent = TcpStream::connect(address).unwrap();
    let started = Instant::now();
    let stopped = tokio::task::spawn_blocking(move || {
        server.stop();
        server
    });
    let status = soon(stream.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the control plane shuts down"));
    let server = stopped.await.unwrap();
    // Three seconds are the deadline; the rest is for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(!server.is_running());
    // A connection that never said anything is closed as well.
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut rest = Vec::new();
    drop(silent.read_to_end(&mut rest));
}

/// Two control planes read the same files; a sidecar that loses one goes to the other and notices nothing.
#[test]
fn a_sidecar_is_handed_over_between_two_servers() {
    let mut other = ControlPlane::prepared(&Block::claim(), &[]);
    let XdsEndpoint::Address(second) = other.xds.clone() else { panic!("TCP") };
    let also = format!(
        ", {{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]",
        second.ip(),
        second.port()
    );
    let mut stack = Stack::with("- a.test:{port}\n", &[], |text| {
        let line = text.lines().find(|line| line.trim_start().starts_with("endpoints: [")).unwrap();
        text.replace(line, &format!("{}{also}", line.strip_suffix("]}]").unwrap()))
    });
    let range = format!("{}/32", stack.block.host(2));
    let (resolver, egress) = (stack.dns.address().to_string(), stack.proxy().to_string());
    other.replace_flags(&["--allow-range", &range, "--dns-resolver", &resolver, "--egress-listen", &egress]);
    fs::copy(stack.allowlist(), other.allowlist()).unwrap();
    other.launch();
    assert_eq!(other.version(), stack.control_plane.version(), "replicas agree without talking");
    let hash = |server: &ControlPlane| server.metric("exeat_version_hash");
    let before = hash(&stack.control_plane);
    assert_eq!(hash(&other), before);
    let url = format!("http://{}/", stack.at("a.test"));
    assert_eq!(get(stack.proxy(), &url).code, 200);
    stack.control_plane.stop();
    other.wait_in_sync(1);
    for kind in ["cds", "lds", "rds"] {
        let metric = format!("exeat_xds_responses_total{{type=\"{kind}\"}}");
        assert_eq!(other.metric(&metric), 0.0, "{kind} is sent again by the other");
    }
    assert_eq!(get(stack.proxy(), &url).code, 200);
    other.write_by_rename("- other.test\n");
    wait_until("the other's edit is enforced", || get(stack.proxy(), &url).code == 403);
    assert_ne!(hash(&other), before);
}
