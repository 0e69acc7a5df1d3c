//! Upstream clusters.
//!
//! Knows nothing of the policy; those of single private targets are in `private`.

use super::{
    FORWARD_CLUSTER,
    any::{duration, number, pack},
    chain::Inner,
    dns, inner,
    listener::BUFFER,
    private::{ANY_CLUSTER, PRIVATE_CLUSTER},
    profile::Profile,
    sni,
};
use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            CircuitBreakers, Cluster,
            circuit_breakers::Thresholds,
            cluster::{ClusterDiscoveryType, CustomClusterType, LbPolicy},
        },
        core::v3::{DataSource, Http1ProtocolOptions, UpstreamHttpProtocolOptions, data_source::Specifier},
    },
    extensions::{
        clusters::dynamic_forward_proxy::v3::{
            ClusterConfig, cluster_config::ClusterImplementationSpecifier,
        },
        common::dynamic_forward_proxy::v3::DnsCacheConfig,
        transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, TlsParameters, UpstreamTlsContext,
            certificate_validation_context::SystemRootCerts, common_tls_context::ValidationContextType,
            tls_parameters::TlsProtocol,
        },
        upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
    },
};
use prost::Name;
use std::time::Duration;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Envoy's default of 1,024 connections a cluster would be the number of tunnels of a sidecar. What bounds them is the limit of
/// its clients' connections, and those of entries.
pub(super) const UNBOUNDED: u32 = 1_000_000;

pub(super) fn unbounded() -> Option<CircuitBreakers> {
    let thresholds = Thresholds {
        max_connections: number(UNBOUNDED),
        max_pending_requests: number(UNBOUNDED),
        max_requests: number(UNBOUNDED),
        ..Default::default()
    };
    Some(CircuitBreakers { thresholds: vec![thresholds], ..Default::default() })
}

/// A dynamic forward proxy: one cluster for every allowed name, so that an edit needs no cluster and no warming.
pub(super) fn dynamic(name: &str, cache: DnsCacheConfig) -> Cluster {
    let config = ClusterConfig {
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(cache)),
        ..Default::default()
    };
    Cluster {
        name: name.to_owned(),
        connect_timeout: duration(CONNECT_TIMEOUT),
        lb_policy: LbPolicy::ClusterProvided.into(),
        per_connection_buffer_limit_bytes: number(BUFFER),
        circuit_breakers: unbounded(),
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
            name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
            typed_config: Some(pack(&config)),
        })),
        ..Default::default()
    }
}

/// The clusters that depend on nothing but the profile.
pub(super) fn fixed(profile: &Profile) -> Vec<Cluster> {
    let inside = [sni::NAME, Inner::Tls.name(), Inner::Tcp.name(), Inner::Http.name()];
    let mut all = vec![
        dynamic(FORWARD_CLUSTER, dns::cache(profile)),
        dynamic(PRIVATE_CLUSTER, dns::private_cache(profile)),
        dynamic(ANY_CLUSTER, dns::any_cache(profile)),
    ];
    all.extend(inside.map(|name| inner::cluster(name, inner::raw())));
    all.push(originate(profile));
    all
}

/// TLS to the upstream, whose certificate must be of the host that was asked for.
fn originate(profile: &Profile) -> Cluster {
    let trusted = match &profile.upstream_ca {
        Some(pem) => CertificateValidationContext {
            trusted_ca: Some(DataSource {
                specifier: Some(Specifier::InlineBytes(pem.to_vec())),
                ..Default::default()
            }),
            ..Default::default()
        },
        None => CertificateValidationContext {
            system_root_certs: Some(SystemRootCerts::default()),
            ..Default::default()
        },
    };
    let tls = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            // Envoy's default for clients ends at TLS 1.2.
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..Default::default()
            }),
            validation_context_type: Some(ValidationContextType::ValidationContext(trusted)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let options = HttpProtocolOptions {
        upstream_http_protocol_options: Some(UpstreamHttpProtocolOptions {
            auto_sni: true,
            auto_san_validation: true,
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        })),
        ..Default::default()
    };
    let socket = inner::socket("envoy.transport_sockets.tls", &tls);
    Cluster {
        typed_extension_protocol_options: [(HttpProtocolOptions::full_name(), pack(&options))].into(),
        ..inner::cluster(Inner::Originate.name(), socket)
    }
}
