//! `exeat run`: a control plane, an Envoy, and perhaps a command behind it.

use super::{FAILED, proxy_env};
use crate::{
    cli::{RunArgs, ServeArgs},
    envoy::{Bootstrap, ResourceKind},
    fleet::{Fleet, Sidecar},
    server::{Interrupt, Interrupts, Server, XdsListen, descriptors},
    sidecar::{self, LocalEnvoy},
};
use anyhow::{Context, bail};
use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::Child;

/// What `run` creates where there is no allowlist.
const SAMPLE: &str = include_str!("sample.yaml");
/// The node cluster of the local sidecar, and how its id begins.
const NODE: &str = "local";
/// How the name of its temporary directory begins; the rest is random.
const DIRECTORY: &str = "exeat-";
/// As shells say it of a command that does not exist.
const NOT_FOUND: u8 = 127;
/// From a policy in force to an open proxy port.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How often to try a port that is about to open.
const PORT_POLL: Duration = Duration::from_millis(10);

pub(super) async fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    create_sample(&args.serve)?;
    let envoy = sidecar::find(args.envoy.as_deref()).await?;
    let mut config = args.serve.config()?;
    config.profile.egress = with_port(config.profile.egress)?;
    let proxy = config.profile.egress;
    let directory = tempfile::Builder::new().prefix(DIRECTORY).tempdir()?;
    // Nobody else gets into the directory, so nobody else can speak for the Envoy of this machine.
    let socket = XdsListen::Unix(std::path::absolute(directory.path().join("xds.sock"))?);
    config.xds.push(socket.clone());
    let mut server = Server::start(config).await?;
    if !args.command.is_empty() && !server.has_policy() {
        server.stop().await;
        bail!("there is no valid allowlist, so the command is not started; see the errors above");
    }
    let bootstrap = Bootstrap {
        node_id: directory.path().file_name().map_or_else(
            || NODE.to_owned(),
            |name| name.to_string_lossy().replace(DIRECTORY, &format!("{NODE}-")),
        ),
        node_cluster: NODE.to_owned(),
        xds: server.xds().last().context("xDS has no address")?.clone(),
        tls: None,
        admin_socket: directory.path().join("admin.sock"),
        max_connections: connections(descriptors()),
        drain_time: 0,
    };
    // The command owns standard output.
    let log = if args.command.is_empty() { Stdio::inherit() } else { io::stderr().into() };
    // From here on there is something that a signal must end; until then it ends this process, as usual.
    let mut interrupts = Interrupts::listen()?;
    let mut envoy = LocalEnvoy::start(&envoy, &bootstrap, directory.path(), log)?;
    let local = Local { proxy, peer: socket.to_string(), fleet: server.fleet().clone() };
    let outcome = tokio::select! {
        outcome = work(args, &local, &mut interrupts) => outcome,
        status = envoy.ended() => Err(anyhow::anyhow!("Envoy ended by itself: {}", status?)),
        error = server.failed() => Err(error),
    };
    envoy.stop().await;
    server.stop().await;
    outcome
}

/// The sidecar that was started here.
struct Local {
    proxy: SocketAddr,
    /// Where it connects to.
    peer: String,
    fleet: Fleet,
}

async fn work(args: &RunArgs, local: &Local, interrupts: &mut Interrupts) -> anyhow::Result<ExitCode> {
    let proxy = local.proxy;
    let Some((program, arguments)) = args.command.split_first() else {
        let ready = async {
            ready(local, None).await?;
            tracing::info!(
                "the proxy is ready: use it with curl -x http://{proxy}, or put a command behind --"
            );
            std::future::pending::<anyhow::Result<ExitCode>>().await
        };
        return tokio::select! {
            outcome = ready => outcome,
            _ = interrupts.next() => Ok(ExitCode::SUCCESS),
        };
    };
    tokio::select! {
        result = ready(local, Some(READY_WITHIN)) => result?,
        _ = interrupts.next() => return Ok(ExitCode::from(FAILED)),
    }
    let variables = proxy_env::variables(&proxy.to_string(), std::env::var_os("JAVA_TOOL_OPTIONS"));
    let command =
        tokio::process::Command::new(program).args(arguments).envs(variables).kill_on_drop(true).spawn();
    let mut command = match command {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("exeat: {}: command not found", program.to_string_lossy());
            return Ok(ExitCode::from(NOT_FOUND));
        }
        command => command.with_context(|| format!("cannot start {}", program.to_string_lossy()))?,
    };
    wait(&mut command, interrupts).await.map(exit_code)
}

/// Waits for the command. Ctrl-C reaches it from the terminal, and what it makes of that is its business; a signal
/// for this process alone is passed on.
async fn wait(command: &mut Child, interrupts: &mut Interrupts) -> anyhow::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = command.wait() => return Ok(status?),
            interrupt = interrupts.next() => if interrupt == Interrupt::Terminate {
                sidecar::terminate(command);
            },
        }
    }
}

/// As shells do: 128 and the signal's number.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED))
}

/// Ends when the sidecar has the policy and its port is open.
async fn ready(local: &Local, within: Option<Duration>) -> anyhow::Result<()> {
    let Local { proxy, peer, fleet } = local;
    let open = async {
        let mut changes = fleet.changes();
        loop {
            changes.mark_unchanged();
            let mut sidecars = fleet.sidecars();
            // Others may use its name.
            sidecars.retain(|(_, sidecar)| sidecar.info.peer == *peer);
            if let Some(words) = sidecars.iter().find_map(|(_, sidecar)| rejection(sidecar)) {
                bail!("Envoy refused its configuration: {words}");
            }
            if sidecars.iter().any(|(_, sidecar)| has_policy(sidecar)) {
                break;
            }
            changes.changed().await?;
        }
        while tokio::net::TcpStream::connect(proxy).await.is_err() {
            tokio::time::sleep(PORT_POLL).await;
        }
        Ok(())
    };
    match within {
        None => open.await,
        Some(within) => tokio::time::timeout(within, open)
            .await
            .map_err(|_| anyhow::anyhow!("the proxy did not get ready; see the messages above"))?,
    }
}

/// Envoy asks for one type after the other; routes come last. The open port alone proves nothing: it may be another's, and
/// then Envoy rejects its listener.
fn has_policy(sidecar: &Sidecar) -> bool {
    let accepted =
        |kind: ResourceKind| sidecar.kinds.get(kind.as_str()).is_some_and(|state| state.acked.is_some());
    accepted(ResourceKind::Listener) && accepted(ResourceKind::RouteConfiguration)
}

fn rejection(sidecar: &Sidecar) -> Option<String> {
    sidecar.kinds.values().find_map(|kind| kind.nack.as_ref()).map(|nack| nack.message.clone())
}

/// Chooses a free port where the operator left it open.
fn with_port(mut address: SocketAddr) -> anyhow::Result<SocketAddr> {
    if address.port() == 0 {
        let probe = std::net::TcpListener::bind(address)?;
        address.set_port(probe.local_addr()?.port());
    }
    Ok(address)
}

/// Writes a commented allowlist where there is none at the default place.
fn create_sample(args: &ServeArgs) -> anyhow::Result<()> {
    let [path] = args.allowlists.as_slice() else { return Ok(()) };
    // Only at the default place: a mistyped path must not allow the sample's hosts.
    if path != Path::new(ServeArgs::DEFAULT_ALLOWLIST) || is_there(path) {
        return Ok(());
    }
    let mut file = fs::File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(SAMPLE.as_bytes())?;
    tracing::info!("created {} with a few hosts: edit it while this runs", path.display());
    Ok(())
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// As many connections of clients as files allow, of which Envoy ends without warning when it has none left: one for the client,
/// one for the upstream, and one for what is coming or going.
fn connections(files: u64) -> u32 {
    u32::try_from(files / 3).unwrap_or(u32::MAX).clamp(1, Bootstrap::MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        allowlist::{FileText, read},
        policy::Timestamp,
    };

    #[test]
    fn connections_leave_files_for_the_upstreams() {
        assert_eq!([0, 1024, 1_048_576, u64::MAX].map(connections), [1, 341, 50_000, 50_000]);
    }

    #[test]
    fn the_sample_is_valid() {
        let file = FileText {
            path: "allowlist.yaml".into(),
            label: "allowlist.yaml".into(),
            bytes: SAMPLE.as_bytes().into(),
        };
        let loaded = read(&[file], Timestamp::parse("2026-01-01").unwrap());
        assert_eq!(loaded.files[0].diagnostics, []);
        assert!(loaded.policies.unwrap().entries() > 0);
    }

    #[test]
    fn a_sample_is_written_only_where_nothing_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        fs::write(&path, "- a.com\n").unwrap();
        assert!(is_there(&path));
        assert!(!is_there(&directory.path().join("b.yaml")));
    }
}
