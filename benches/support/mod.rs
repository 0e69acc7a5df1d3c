//! What benches with a real Envoy share: the binary, its flags, and a forward proxy as one would write it without exeat.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A process that ends with the bench.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `ENVOY_BIN`, else the cached one, which is installed if need be.
fn envoy() -> PathBuf {
    std::env::var_os("ENVOY_BIN").map_or_else(
        || {
            let target =
                Path::new(env!("CARGO_BIN_EXE_exeat")).ancestors().nth(2).unwrap().join("test-tools");
            exeat::sidecar::install(&target).unwrap()
        },
        PathBuf::from,
    )
}

/// An Envoy with the flag that all sidecars have.
pub(crate) fn start_envoy(bootstrap: &Path) -> Killed {
    let child = Command::new(envoy())
        .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "critical"])
        .args(["--drain-time-s", "0", "-c"])
        .arg(bootstrap)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Killed(child.unwrap())
}

/// An exeat with a list; more arguments may follow.
pub(crate) fn exeat(list: &Path, [xds, egress, admin]: [&str; 3], resolver: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
    command
        .args(["serve", "--xds-listen", xds, "--egress-listen", egress, "--admin-listen", admin])
        .args(["--dns-resolver", &resolver.to_string(), "--allowlist"])
        .arg(list);
    command
}

/// The configuration of a sidecar of exeat.
pub(crate) fn bootstrap(directory: &Path, xds: &str) -> PathBuf {
    let output = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .args(["bootstrap", "--node-id", "bench", "--xds-address", xds, "--admin-socket"])
        .arg(directory.join("admin.sock"))
        .output()
        .unwrap();
    let path = directory.join("bootstrap.yaml");
    fs::write(&path, output.stdout).unwrap();
    path
}

/// An Envoy that goes wherever its routes say: `routes` is a field of the connection manager.
pub(crate) fn forward_proxy(listen: &str, resolver: SocketAddr, routes: &str) -> String {
    let listen: SocketAddr = listen.parse().unwrap();
    let dns = format!(
        "{{name: d, dns_lookup_family: V4_ONLY, typed_dns_resolver_config: {{name: envoy.network.dns_resolver.cares, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, resolvers: [{{socket_address: {{address: {}, port_value: {}}}}}]}}}}}}",
        resolver.ip(),
        resolver.port()
    );
    format!(
        "node: {{id: reference, cluster: reference}}
static_resources:
  listeners:
  - name: egress
    address: {{socket_address: {{address: {ip}, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: egress
          upgrade_configs: [{{upgrade_type: CONNECT}}]
          {routes}
          http_filters:
          - name: dfp
            typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig, dns_cache_config: {dns}}}
          - name: router
            typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: forward
    lb_policy: CLUSTER_PROVIDED
    cluster_type: {{name: envoy.clusters.dynamic_forward_proxy, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig, dns_cache_config: {dns}}}}}
",
        ip = listen.ip(),
        port = listen.port(),
    )
}

/// The resident memory of a process, in MiB.
pub(crate) fn rss_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
