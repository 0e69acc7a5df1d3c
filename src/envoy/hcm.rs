//! The HTTP connection manager of the egress listener: an explicit proxy that trusts no client.
//!
//! Knows nothing of the policy.

use super::{
    EGRESS_ROUTES, access_log,
    any::{duration, number, pack, yes},
    carry, deny,
    format::LocalReplyField,
    limits,
    listener::BUFFER,
    profile::Profile,
};
use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            AggregatedConfigSource, ApiVersion, ConfigSource, Http1ProtocolOptions, Http2ProtocolOptions,
            HttpProtocolOptions, config_source::ConfigSourceSpecifier,
            http_protocol_options::HeadersWithUnderscoresAction,
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds,
                http_connection_manager::{
                    PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation, UpgradeConfig,
                },
            },
        },
    },
    google::protobuf::Any,
};
use prost::{Message, Name};
use std::time::Duration;

/// A stream without a byte in either direction ends after this. Envoy's default of five minutes cuts idle tunnels
/// and event streams.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// A client must have sent its request headers by then.
const REQUEST_HEADERS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client has to read an answer before its connection is closed, and how much later than its chain a tunnel ends.
/// Clients are near. Envoy's default is a second.
const DELAYED_CLOSE_TIMEOUT: Duration = Duration::from_millis(10);
const MAX_CONCURRENT_STREAMS: u32 = 100;
/// Bytes that the clients of one HTTP/2 connection may send ahead, all streams together. Envoy's default is 24 MiB.
const CONNECTION_WINDOW: u32 = 1 << 20;

pub(super) fn egress(profile: &Profile) -> Any {
    let manager = HttpConnectionManager {
        stat_prefix: "egress".to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            route_config_name: EGRESS_ROUTES.to_owned(),
            config_source: Some(ads()),
        })),
        upgrade_configs: vec![upgrade("CONNECT"), upgrade("websocket")],
        http_protocol_options: Some(Http1ProtocolOptions {
            // Python up to 3.11 and `openssl s_client` send CONNECT with HTTP/1.0.
            accept_http_10: true,
            ..Default::default()
        }),
        http2_protocol_options: Some(Http2ProtocolOptions {
            allow_connect: true,
            max_concurrent_streams: number(MAX_CONCURRENT_STREAMS),
            initial_stream_window_size: number(BUFFER),
            initial_connection_window_size: number(CONNECTION_WINDOW),
            ..Default::default()
        }),
        common_http_protocol_options: Some(HttpProtocolOptions {
            // CGI and WSGI read `x_method` as `x-method`, which is removed.
            headers_with_underscores_action: HeadersWithUnderscoresAction::DropHeader.into(),
            ..Default::default()
        }),
        // `host.` is the same name as `host`; ports are never stripped, they are policy.
        strip_trailing_host_dot: true,
        normalize_path: yes(),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest.into(),
        // Clients are not trusted: their x-envoy headers are dropped, and `https://` URLs in clear are refused.
        use_remote_address: yes(),
        skip_xff_append: true,
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        stream_idle_timeout: duration(STREAM_IDLE_TIMEOUT),
        request_headers_timeout: duration(REQUEST_HEADERS_TIMEOUT),
        delayed_close_timeout: duration(DELAYED_CLOSE_TIMEOUT),
        access_log: vec![access_log::to_stdout()],
        http_filters: filters(profile),
        ..Default::default()
    };
    let mut value = manager.encode_to_vec();
    let replies = LocalReplyField { local_reply_config: Some(deny::replies()) };
    value.extend(replies.encode_to_vec());
    Any { type_url: HttpConnectionManager::type_url(), value }
}

/// Routes come over the same stream as the listener, which waits for them however long it takes: an open port without
/// a policy would answer 404.
fn ads() -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: duration(Duration::ZERO),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn upgrade(kind: &str) -> UpgradeConfig {
    UpgradeConfig { upgrade_type: kind.to_owned(), ..Default::default() }
}

/// The order is part of the meaning.
fn filters(profile: &Profile) -> Vec<HttpFilter> {
    let router = Router { suppress_envoy_headers: true, ..Default::default() };
    let mut filters = limits::filters();
    filters.extend(carry::filters(profile));
    filters.push(carry::filter("envoy.filters.http.router", pack(&router)));
    filters
}
