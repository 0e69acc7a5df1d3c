//! What people and scripts are told of an edit on its way.

use crate::support::{Block, ControlPlane, Sidecar, Stack, exeat, finish, get, texts, wait_until};
use envoy_types::pb::envoy::{
    config::{core::v3::Node, route::v3::RouteConfiguration},
    service::{
        discovery::v3::{
            DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
        status::v3::{
            ClientStatusRequest, ConfigStatus,
            client_status_discovery_service_client::ClientStatusDiscoveryServiceClient,
        },
    },
    r#type::matcher::v3::{NodeMatcher, StringMatcher, string_matcher::MatchPattern},
};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use exeat::envoy::ResourceKind;
use prost::Message;
use std::{fs, process::Output, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

fn run(server: &ControlPlane, arguments: &[&str]) -> Output {
    finish(exeat().args(arguments).args(["--admin", &server.admin.to_string()]))
}

#[test]
fn a_script_waits_until_an_edit_is_enforced() {
    let stack = Stack::start("- a.test:{port}\n");
    let server = &stack.control_plane;
    let url = format!("http://{}/", stack.at("b.test"));
    for round in 0..10 {
        let (entries, code) = if round % 2 == 0 { (2, 200) } else { (1, 403) };
        let port = stack.upstream.port();
        let second = if round % 2 == 0 { format!("- b.test:{port}\n") } else { String::new() };
        fs::write(stack.allowlist(), format!("- a.test:{port}\n{second}")).unwrap();
        // Not a moment later: the server may not even have noticed the edit.
        let (exit, out, err) = texts(run(server, &["wait", "--live", "--timeout", "20"]));
        assert_eq!(exit, Some(0), "{err}");
        assert_eq!(out, format!("{entries} entries are live on 1 of 1 sidecars\n"));
        assert_eq!(get(stack.proxy(), &url).code, code);
    }
    fs::write(stack.allowlist(), "- *.b.test\n").unwrap();
    let (exit, _, err) = texts(run(server, &["wait", "--live"]));
    assert_eq!(exit, Some(1));
    assert!(err.contains("allowlist.yaml is not in force\nallowlist.yaml:1:3: "), "{err}");
}

/// A sidecar that becomes another agent comes back; until then nothing is live there.
#[test]
fn a_script_waits_for_sidecars_that_change_their_agent() {
    let stack = Stack::start("allow: []\n");
    let server = &stack.control_plane;
    let url = format!("http://{}/", stack.at("b.test"));
    let list = format!("allow: [\"b.test:{}\"]\n", stack.upstream.port());
    let agent =
        format!("{list}agents:\n  one: {{match: {{node_id: sidecar-1}}, inherit: false, allow: [c.test]}}\n");
    for _ in 0..10 {
        for (text, code) in [(&list, 200), (&agent, 403)] {
            fs::write(stack.allowlist(), text).unwrap();
            let (exit, out, err) = texts(run(server, &["wait", "--live", "--timeout", "20"]));
            assert_eq!(exit, Some(0), "{err}");
            assert!(out.contains("live on 1 of 1 sidecars"), "{out}");
            assert_eq!(get(stack.proxy(), &url).code, code);
        }
    }
}

#[test]
fn a_script_is_told_why_an_edit_is_not_live() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let (exit, out, _) = texts(run(&server, &["wait", "--live"]));
    assert_eq!((exit, out.as_str()), (Some(0), "1 entries are served; no sidecar is connected\n"));
    let (exit, _, err) = texts(run(&server, &["wait", "--live", "--sidecars", "1", "--timeout", "0.3"]));
    assert_eq!(exit, Some(1));
    assert_eq!(err, "exeat: not live after 0.3 s: 0 of 1 sidecars are connected\n");
    let nobody = finish(exeat().args(["wait", "--live", "--admin", "127.0.0.1:1"]));
    let (exit, _, err) = texts(nobody);
    assert_eq!(exit, Some(2));
    assert!(
        err.contains("no control plane answers on 127.0.0.1:1, where its --admin-listen should be"),
        "{err}"
    );
}

#[test]
fn a_person_sees_the_fleet() {
    let stack = Stack::start("- a.test:{port}\n");
    let (exit, out, err) = texts(run(&stack.control_plane, &["status"]));
    assert_eq!(exit, Some(0), "{err}");
    assert!(out.contains("serves 1 entries, version "), "{out}");
    assert!(out.contains("allowlist.yaml: in force"), "{out}");
    let row = out.lines().find(|line| line.starts_with("sidecar-1")).unwrap();
    assert!(row.contains("1.40.") && row.contains("common") && row.ends_with("in sync"), "{out}");
    let (_, out, _) = texts(run(&stack.control_plane, &["status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    let sidecar = &status["sidecars"][0];
    assert_eq!((&sidecar["identity"], &sidecar["edits_behind"]), (&"sidecar-1".into(), &0.into()));
    assert!(sidecar["resources"][0]["accepted_after_ms"].as_f64().unwrap() > 0.0, "{sidecar}");
}

/// A client that answers when it is told to.
struct Scripted {
    send: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse>,
}

async fn channel(server: &ControlPlane) -> Channel {
    Channel::from_shared(format!("http://{}", server.xds)).unwrap().connect().await.unwrap()
}

impl Scripted {
    async fn start(server: &ControlPlane, node: &str, table: &str) -> Self {
        let (send, receive) = mpsc::channel(4);
        let first = DeltaDiscoveryRequest {
            node: Some(Node { id: node.to_owned(), ..Default::default() }),
            type_url: ResourceKind::RouteConfiguration.type_url().to_owned(),
            resource_names_subscribe: vec![table.to_owned()],
            ..Default::default()
        };
        send.send(first).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel(server).await);
        let responses =
            client.delta_aggregated_resources(ReceiverStream::new(receive)).await.unwrap().into_inner();
        Self { send, responses }
    }

    /// The table in the next response, and the response's nonce.
    async fn next(&mut self) -> (RouteConfiguration, String) {
        let next = tokio::time::timeout(Duration::from_secs(20), self.responses.message());
        let response = next.await.expect("a response").unwrap().unwrap();
        assert!(response.removed_resources.is_empty());
        let body = response.resources[0].resource.as_ref().unwrap();
        (RouteConfiguration::decode(body.value.as_slice()).unwrap(), response.nonce)
    }

    async fn answer(&self, nonce: &str, words: Option<&str>) {
        self.tell(nonce, words, &[]).await;
    }

    /// Answers, and asks for more tables.
    async fn tell(&self, nonce: &str, words: Option<&str>, tables: &[&str]) {
        let request = DeltaDiscoveryRequest {
            type_url: ResourceKind::RouteConfiguration.type_url().to_owned(),
            response_nonce: nonce.to_owned(),
            resource_names_subscribe: tables.iter().map(|table| (*table).to_owned()).collect(),
            error_detail: words.map(|words| RpcStatus {
                code: 13,
                message: words.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.send.send(request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_leads_to_the_line_and_an_ack_clears_it() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let mut client = Scripted::start(&server, "scripted", "egress").await;
    let (_, nonce) = client.next().await;
    client.answer(&nonce, None).await;
    fs::write(server.allowlist(), "- a.test\n- b.test\n").unwrap();
    let (_, nonce) = client.next().await;
    let words = format!("virtual host allow/allowlist.yaml:2 is bad {}", "x".repeat(5000));
    client.answer(&nonce, Some(&words)).await;
    let line = server.process().wait_for("the rejection", |line| line.contains("rejected rds"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["origin"], "allowlist.yaml:2");
    assert_eq!(line["names"], "egress");
    assert!(line["message"].as_str().unwrap().len() < 2000, "a client's words are bounded");
    let line = server.process().wait_for("the edit", |line| line.contains("allowlist edit"));
    assert!(line.contains("live on 0 of 1 sidecars; rejected by scripted"), "{line}");
    let (_, out, _) = texts(run(&server, &["status"]));
    assert!(out.contains("rejected rds: virtual host") && out.contains("(see allowlist.yaml:2)"), "{out}");
    let (exit, _, err) = texts(run(&server, &["wait", "--live"]));
    assert_eq!(exit, Some(1), "{err}");
    assert!(err.contains("sidecar scripted rejected rds: "), "{err}");
    // No loop: the next thing to come is the next edit.
    fs::write(server.allowlist(), "- a.test\n").unwrap();
    let (table, nonce) = client.next().await;
    assert!(!table.virtual_hosts.iter().any(|host| host.name.contains(":2")));
    let before_the_answer = server.process().lines().len();
    client.answer(&nonce, None).await;
    let line = server.process().wait_for("the way back", |line| line.contains("allowlist edit: -b.test"));
    assert!(line.contains("live on 1 of 1 sidecars after"), "{line}");
    let at = server.process().lines().iter().position(|one| *one == line).unwrap();
    assert!(at >= before_the_answer, "live before the client has said so: {line}");
    wait_until("the rejection is cleared", || server.metric("exeat_sidecars_rejecting{type=\"rds\"}") == 0.0);
    assert_eq!(server.metric("exeat_xds_nacks_total{type=\"rds\"}"), 1.0);
    assert_eq!(server.metric("exeat_revocation_seconds_count"), 1.0);
    assert!(server.metric("exeat_xds_sent_bytes_total{type=\"rds\"}") > 1000.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_late_is_told_of_again_when_it_is_live() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n- b.test\n", &[]);
    let mut client = Scripted::start(&server, "late", "egress").await;
    let (_, nonce) = client.next().await;
    client.answer(&nonce, None).await;
    server.write_by_rename("- a.test\n");
    let (_, nonce) = client.next().await;
    server
        .process()
        .wait_for("who is late", |line| line.contains("-b.test; live on 0 of 1 sidecars; no answer yet"));
    assert_eq!(server.metric("exeat_revocation_seconds_count"), 0.0);
    client.answer(&nonce, None).await;
    server.process().wait_for("the end", |line| line.contains("-b.test; now live on all 1 sidecars"));
    assert_eq!(server.metric("exeat_revocation_seconds_count"), 1.0);
    assert_eq!(server.metric("exeat_sidecar_live_seconds_count"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_leaves_during_an_edit_is_told_of() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let mut stays = Scripted::start(&server, "stays", "egress").await;
    let mut leaves = Scripted::start(&server, "leaves", "egress").await;
    for client in [&mut stays, &mut leaves] {
        let (_, nonce) = client.next().await;
        client.answer(&nonce, None).await;
    }
    fs::write(server.allowlist(), "- a.test\n- b.test\n").unwrap();
    leaves.next().await;
    let (_, nonce) = stays.next().await;
    stays.answer(&nonce, None).await;
    drop(leaves);
    let line = server.process().wait_for("the edit", |line| line.contains("allowlist edit"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["live"], &line["left"]), (&1.into(), &"leaves".into()), "{line}");
    assert!(line["p50_ms"].as_f64().unwrap() <= line["last_ms"].as_f64().unwrap(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_exist_denies_everything() {
    let server = ControlPlane::start(&Block::claim(), "- a.test\n", &[]);
    let mut client = Scripted::start(&server, "lost", "no-such-table").await;
    let (table, _) = client.next().await;
    assert_eq!(table.name, "no-such-table");
    let [all] = table.virtual_hosts.as_slice() else { panic!("{table:?}") };
    assert_eq!(all.domains, ["*"]);
    let metadata = format!("{:?}", all.routes);
    assert!(metadata.contains("no-policy") && metadata.contains("403"), "{metadata}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tools_read_the_state_too() {
    let block = Block::claim();
    let server = ControlPlane::start(&block, "- a.test\n", &[]);
    let _envoy = Sidecar::start(&server, "envoy", |text| text);
    server.wait_in_sync(1);
    let mut silent = Scripted::start(&server, "silent", "egress").await;
    silent.next().await;
    let admin = Channel::from_shared(format!("http://{}", server.admin)).unwrap().connect().await.unwrap();
    let mut csds = ClientStatusDiscoveryServiceClient::new(admin);
    let all = csds.fetch_client_status(ClientStatusRequest::default()).await.unwrap().into_inner().config;
    let statuses = |id: &str| -> Vec<(String, ConfigStatus)> {
        let client = all.iter().find(|one| one.node.as_ref().unwrap().id == id).unwrap();
        let configs = client.generic_xds_configs.iter();
        configs.map(|one| (one.name.clone(), one.config_status())).collect()
    };
    assert_eq!(
        statuses("envoy"),
        [
            ["forward", "http", "originate", "private", "private-listed", "sni", "tcp", "tls"].as_slice(),
            &["egress", "http", "originate", "sni", "tcp", "tls"],
            &["egress"]
        ]
        .concat()
        .into_iter()
        .map(|name| (name.to_owned(), ConfigStatus::Synced))
        .collect::<Vec<_>>()
    );
    assert_eq!(statuses("silent"), [("egress".to_owned(), ConfigStatus::Stale)]);
    let table = all[0].generic_xds_configs.last().unwrap().xds_config.as_ref().unwrap();
    assert!(RouteConfiguration::decode(table.value.as_slice()).unwrap().virtual_hosts.len() > 1);
    let prefix =
        StringMatcher { match_pattern: Some(MatchPattern::Prefix("SIL".to_owned())), ignore_case: true };
    let matcher = NodeMatcher { node_id: Some(prefix), ..Default::default() };
    let request = ClientStatusRequest {
        node_matchers: vec![matcher],
        exclude_resource_contents: true,
        ..Default::default()
    };
    let some = csds.fetch_client_status(request).await.unwrap().into_inner().config;
    assert_eq!(some.len(), 1);
    assert!(some[0].generic_xds_configs[0].xds_config.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_nothing_of_the_policy_holds_nobody_up() {
    let block = Block::claim();
    let server = ControlPlane::start(&block, "- a.test\n", &[]);
    let _envoy = Sidecar::start(&server, "envoy", |text| text);
    server.wait_in_sync(1);
    let (send, receive) = mpsc::channel(4);
    let strange = DeltaDiscoveryRequest {
        node: Some(Node { id: "strange\u{202e}".to_owned(), ..Default::default() }),
        type_url: "type.googleapis.com/envoy.service.runtime.v3.Runtime".to_owned(),
        ..Default::default()
    };
    send.send(strange).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel(&server).await);
    let asked = tokio::spawn(async move {
        client
            .delta_aggregated_resources(ReceiverStream::new(receive))
            .await
            .unwrap()
            .into_inner()
            .message()
            .await
    });
    wait_until("both are connected", || server.status()["sidecars"].as_array().unwrap().len() == 2);
    fs::write(server.allowlist(), "- a.test\n- b.test\n").unwrap();
    let line = server.process().wait_for("the edit", |line| line.contains("allowlist edit"));
    assert!(line.contains("live on 1 of 1 sidecars"), "{line}");
    let (exit, out, _) = texts(run(&server, &["wait", "--live"]));
    assert_eq!((exit, out.as_str()), (Some(0), "2 entries are live on 1 of 1 sidecars\n"));
    // Rejecting the answer to a name that does not exist is no rejection of the policy.
    let mut lost = Scripted::start(&server, "lost", "no-such-table").await;
    let (_, nonce) = lost.next().await;
    // What else it asks for in the same request is answered (R-C15).
    lost.tell(&nonce, Some("forged\u{2028}line"), &["another-table"]).await;
    lost.next().await;
    let (_, out, _) = texts(run(&server, &["status"]));
    assert!(!out.contains("rejected"), "{out}");
    assert!(!server.process().text().contains(['\u{2028}', '\u{202e}']));
    asked.abort();
}
