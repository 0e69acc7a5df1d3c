//! `exeat run`, end to end.

use crate::support::{Authority, Block, Process, Upstream, envoy_binary, exeat, finish, wait_until};
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use exeat::envoy::ResourceKind;
use std::{fs, net::SocketAddr, path::Path, process::Command, process::Output};
use tokio_stream::wrappers::ReceiverStream;

fn run(directory: &Path, block: &Block) -> Command {
    let mut command = exeat();
    command
        .current_dir(directory)
        .args(["run", "--xds-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--egress-listen", &block.egress().to_string()])
        .arg("--envoy")
        .arg(envoy_binary());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_runs_behind_the_proxy_and_gives_its_exit_code() {
    let block = Block::claim();
    let upstream = Upstream::start(block.host(2));
    let directory = tempfile::tempdir().unwrap();
    // `localhost.test` has no address here; a literal is no entry. The hosts that curl asks for are judged by name.
    fs::write(directory.path().join("allowlist.yaml"), format!("- a.test:{}\n", upstream.port())).unwrap();
    let dns = crate::support::Dns::start(block.host(3), block.host(2));
    let with_dns = || {
        let mut command = run(directory.path(), &block);
        command
            .args(["--allow-range", &format!("{}/32", block.host(2))])
            .args(["--dns-resolver", &dns.address().to_string()]);
        command
    };
    let curl = |url: &str| -> Output {
        finish(with_dns().args(["--", "curl", "-sS", "--fail", "-o", "/dev/null", "-w", "%{http_code}", url]))
    };
    let output = curl(&format!("http://a.test:{}/", upstream.port()));
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "200".into()),
        "{}",
        text(&output.stderr)
    );
    let script =
        format!("import urllib.request as u; print(u.urlopen('http://a.test:{}/').status)", upstream.port());
    let output = finish(with_dns().args(["--", "python3", "-c", &script]));
    assert_eq!(text(&output.stdout).trim(), "200", "{}", text(&output.stderr));
    let output = curl("http://evil.test/");
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(22), "403".into()),
        "{}",
        text(&output.stderr)
    );
    let flagged = text(&output.stderr);
    assert!(flagged.contains(r#""action":"deny""#), "the denial is in the log: {flagged}");
}

#[test]
fn without_a_command_it_serves_until_interrupted_and_leaves_nothing_behind() {
    let block = Block::claim();
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(run(directory.path(), &block));
    process.wait_for("ready", |line| line.contains("the proxy is ready"));
    // Nobody else can speak for it.
    process.wait_for("its own socket", |line| line.contains("connected from unix:"));
    let sample = fs::read_to_string(directory.path().join("allowlist.yaml")).unwrap();
    assert!(sample.starts_with("# What programs behind the proxy may reach."));
    let proxy: SocketAddr = block.egress();
    let reply = crate::support::get(proxy, "http://evil.test/");
    assert_eq!(reply.code, 403);
    process.wait_for("the denial", |line| line.contains(r#""host":"evil.test""#));
    process.signal("-INT");
    assert!(process.wait().success(), "{}", process.text());
    wait_until("Envoy is gone", || std::net::TcpStream::connect(proxy).is_err());
}

#[test]
fn a_mistyped_path_creates_no_allowlist() {
    let block = Block::claim();
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start({
        let mut command = run(directory.path(), &block);
        command.args(["--allowlist", "allowlst.yaml"]);
        command
    });
    process.wait_for("the refusal", |line| line.contains("no resources are served"));
    assert!(!directory.path().join("allowlst.yaml").exists());
    process.signal("-INT");
    process.wait();
}

#[test]
fn a_port_that_is_taken_is_an_error_in_plain_words() {
    let block = Block::claim();
    let _taken = std::net::TcpListener::bind(block.egress()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("allowlist.yaml"), "- a.test\n").unwrap();
    let output = finish(run(directory.path(), &block).args(["--", "true"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot bind"), "{}", text(&output.stderr));
}

/// Somebody else on the machine holds the port and pretends to be the Envoy of `run`.
#[tokio::test(flavor = "multi_thread")]
async fn another_user_cannot_pass_for_the_proxy() {
    let block = Block::claim();
    let _taken = std::net::TcpListener::bind(block.egress()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("allowlist.yaml"), "- a.test\n").unwrap();
    let mut command = run(directory.path(), &block);
    command.args(["--", "sh", "-c", "echo the command was started"]);
    let mut process = Process::start(command);
    let line = process.wait_for("the address", |line| line.contains(" listens: xDS on "));
    let address = line.split("xDS on ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let directory = fs::read_dir(std::env::temp_dir()).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().ok()?;
        Some(format!("local-{}", name.strip_prefix("exeat-")?))
    });
    let mut pretenders = Vec::new();
    for node in directory {
        let Ok(server) =
            tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap().connect().await
        else {
            break;
        };
        pretenders.push(tokio::spawn(accept_everything(server, node)));
    }
    assert!(!pretenders.is_empty(), "somebody pretends");
    let status = tokio::task::spawn_blocking(move || (process.wait(), process.text())).await.unwrap();
    assert_eq!(status.0.code(), Some(2), "{}", status.1);
    assert!(!status.1.contains("the command was started"), "{}", status.1);
    assert!(status.1.contains("cannot bind"), "{}", status.1);
}

/// Asks for everything as this node, and accepts it.
async fn accept_everything(server: tonic::transport::Channel, node: String) {
    let (send, receive) = tokio::sync::mpsc::channel(8);
    for (kind, names) in [
        (ResourceKind::Cluster, vec![]),
        (ResourceKind::Listener, vec![]),
        (ResourceKind::RouteConfiguration, vec!["egress".to_owned()]),
    ] {
        let node = Some(Node { id: node.clone(), ..Default::default() });
        let type_url = kind.type_url().to_owned();
        send.send(DiscoveryRequest { node, type_url, resource_names: names, ..Default::default() })
            .await
            .unwrap();
    }
    let mut client = AggregatedDiscoveryServiceClient::new(server);
    let Ok(answers) = client.stream_aggregated_resources(ReceiverStream::new(receive)).await else { return };
    let mut answers = answers.into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        let names = if answer.type_url == ResourceKind::RouteConfiguration.type_url() {
            vec!["egress".to_owned()]
        } else {
            vec![]
        };
        let ack = DiscoveryRequest {
            version_info: answer.version_info,
            response_nonce: answer.nonce,
            type_url: answer.type_url,
            resource_names: names,
            ..Default::default()
        };
        if send.send(ack).await.is_err() {
            return;
        }
    }
}

/// What a command makes of Ctrl-C is its business; it is not terminated on top.
#[test]
fn an_interrupt_leaves_the_command_alone() {
    let block = Block::claim();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("allowlist.yaml"), "- a.test\n").unwrap();
    let script = "trap 'exit 9' TERM; kill -INT $PPID; i=0; while [ $i -lt 20 ]; do sleep 0.05; i=$((i+1)); done; exit 7";
    let output = finish(run(directory.path(), &block).args(["--", "sh", "-c", script]));
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let script =
        "trap 'exit 9' TERM; kill -TERM $PPID; i=0; while [ $i -lt 1000 ]; do sleep 0.05; i=$((i+1)); done";
    let output = finish(run(directory.path(), &block).args(["--", "sh", "-c", script]));
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
}

/// Its own Envoy needs no certificate.
#[test]
fn tls_is_for_others() {
    let block = Block::claim();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("allowlist.yaml"), "- a.test\n").unwrap();
    let ca = Authority::create(directory.path(), "ca");
    ca.issue("server", "DNS:a.test");
    let tls = ["--tls-cert", "server.pem", "--tls-key", "server.key", "--client-ca", "ca.pem"];
    let output = finish(run(directory.path(), &block).args(tls).args(["--", "true"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_command_that_cannot_run_is_said_at_once() {
    let block = Block::claim();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("allowlist.yaml"), "- *.a.test\n").unwrap();
    let output = finish(run(directory.path(), &block).args(["--", "true"]));
    assert_eq!(output.status.code(), Some(2));
    let words = text(&output.stderr);
    assert!(words.contains("yaml-unquoted-star") && words.contains("the command is not started"), "{words}");
    fs::write(directory.path().join("allowlist.yaml"), "- a.test\n").unwrap();
    let output = finish(run(directory.path(), &block).args(["--", "no-such-command"]));
    assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));
}
