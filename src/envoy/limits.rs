//! Limits of an entry as filters: requests and bytes on its routes, connections on its chains.
//!
//! Knows nothing of hosts.

use super::any::{duration, extension, network_filter, number, pack};
use crate::policy::Limits;
use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{HeaderValue, HeaderValueOption, RuntimeFractionalPercent},
            listener::v3::Filter,
        },
        extensions::filters::{
            http::{
                body_size_limit::v3::BodySizeLimit,
                filter_chain::v3::{FilterChain, FilterChainConfig, FilterChainConfigPerRoute},
                local_ratelimit::v3::LocalRateLimit,
            },
            network::{connection_limit::v3::ConnectionLimit, http_connection_manager::v3::HttpFilter},
        },
        r#type::v3::{FractionalPercent, TokenBucket, fractional_percent::DenominatorType},
    },
    google::protobuf::{Any, UInt64Value},
};
use std::time::Duration;

const RATE_FILTER: &str = "exeat.rate";
const UPLOAD_FILTER: &str = "exeat.upload";
const MINUTE: Duration = Duration::from_secs(60);
/// Envoy's shortest time between two fills of a bucket.
const SHORTEST_FILL: Duration = Duration::from_millis(50);

/// Filters of the egress listener that do nothing but what routes say.
pub(super) fn filters() -> Vec<HttpFilter> {
    let rate = LocalRateLimit { stat_prefix: RATE_FILTER.to_owned(), ..Default::default() };
    vec![
        super::carry::filter(RATE_FILTER, pack(&rate)),
        super::carry::filter(UPLOAD_FILTER, pack(&FilterChainConfig::default())),
    ]
}

/// What the route says that a request meets first.
pub(super) fn of_route(limits: &Limits) -> Vec<(&'static str, Any)> {
    let rate = limits.requests_per_minute.map(|count| (RATE_FILTER, pack(&rate(count))));
    let upload = limits.upload.map(|most| {
        let filter = BodySizeLimit { max_request_bytes: Some(UInt64Value { value: most }) };
        let filters = vec![extension("envoy.filters.http.body_size_limit", &filter)];
        (UPLOAD_FILTER, pack(&FilterChainConfigPerRoute { filter_chain: Some(FilterChain { filters }) }))
    });
    rate.into_iter().chain(upload).collect()
}

/// A bucket that holds a minute's requests, and is filled one by one as far as Envoy can.
fn rate(count: u32) -> LocalRateLimit {
    let (tokens, interval) = filling(count);
    let always = || RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: 100,
            denominator: DenominatorType::Hundred.into(),
        }),
        ..Default::default()
    };
    let seconds = interval.as_secs().max(1);
    LocalRateLimit {
        stat_prefix: RATE_FILTER.to_owned(),
        token_bucket: Some(TokenBucket {
            max_tokens: count,
            tokens_per_fill: number(tokens),
            fill_interval: duration(interval),
        }),
        filter_enabled: Some(always()),
        filter_enforced: Some(always()),
        response_headers_to_add: vec![HeaderValueOption {
            header: Some(HeaderValue {
                key: "retry-after".to_owned(),
                value: seconds.to_string(),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// How many tokens come at a time, and how often, so that no more than `count` come in a minute.
fn filling(count: u32) -> (u32, Duration) {
    let most_fills = u32::try_from(MINUTE.as_millis() / SHORTEST_FILL.as_millis()).unwrap_or(u32::MAX);
    let tokens = count.div_ceil(most_fills).max(1);
    (tokens, MINUTE * tokens / count.max(1))
}

/// The first filter of a chain.
pub(super) fn of_chain(connections: Option<u32>) -> Option<Filter> {
    let limit = ConnectionLimit {
        stat_prefix: "chains".to_owned(),
        max_connections: Some(UInt64Value { value: connections?.into() }),
        ..Default::default()
    };
    Some(network_filter("envoy.filters.network.connection_limit", pack(&limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_comes_in_a_minute() {
        for count in [1, 2, 7, 60, 1200, 1201, 2000, 1_000_000] {
            let (tokens, interval) = filling(count);
            let in_a_minute = MINUTE.as_secs_f64() / interval.as_secs_f64() * f64::from(tokens);
            assert!(
                (in_a_minute - f64::from(count)).abs() < 0.01 * f64::from(count),
                "{count}: {in_a_minute}"
            );
            assert!(interval >= SHORTEST_FILL, "{count}: {interval:?}");
        }
    }
}
