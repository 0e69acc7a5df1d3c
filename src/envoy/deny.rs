//! What a denial looks like: the 403, its header and body, and how the log recognises one.
//!
//! Routes only say in their names which reason they stand for; the listener turns reasons into answers, so the texts
//! are in each sidecar once. Denials that Envoy itself makes are recognised by its response-code details.

use super::{
    any::{NAMESPACE, number, pack},
    format::{JsonFormat, LocalReplyConfig, ResponseMapper},
};
use crate::policy::DenyReason;
use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{AccessLogFilter, ExtensionFilter, access_log_filter, extension_filter},
        core::v3::{HeaderValue, HeaderValueOption},
    },
    extensions::access_loggers::filters::cel::v3::ExpressionFilter,
};

/// The response header that names the reason.
pub const DENY_REASON_HEADER: &str = "x-exeat-deny-reason";
/// The value of `action` in the log line of a denial.
pub const DENY_ACTION: &str = "deny";
/// The value of `action` in the log line of what passes.
pub(super) const ALLOW_ACTION: &str = "allow";
/// The value of `action` in the log line of what passes in report mode.
pub const WOULD_DENY_ACTION: &str = "would-deny";
/// The name of routes of tunnels whose number is limited.
pub(super) const LIMITED: &str = "allow/limited";
/// Metadata key of a virtual host, and of a route that comes from another rule.
pub(super) const RULE_KEY: &str = "rule";
/// Names of routes that deny begin with this and end in the reason.
pub(super) const DENY_PREFIX: &str = "deny/";
/// Names of routes that let through what would be denied begin with this and end in the reason.
pub(super) const WOULD_DENY_PREFIX: &str = "would-deny/";

/// What is broken in form. HTTP/2 that Envoy cannot read gets no answer. What breaks behind its headers was decided before, and
/// some of it may have passed.
pub(super) const BROKEN: &str = "(response.code_details in ['missing_host_header', 'absolute_path_rejected', 'invalid_path', \
     'request_header_timeout'] \
     || response.code_details.startsWith('http.') \
     || (response.code_details.startsWith('http1.') || response.code_details.startsWith('http2.') \
     || response.code_details.startsWith('codec_error')) \
     && response.code_details != 'http1.https_url_on_plaintext_connection' && !has(request.method))";

/// What Envoy refuses before it takes it for a request.
pub(super) const HTTPS_IN_CLEAR: &str = "response.code_details == 'http1.https_url_on_plaintext_connection'";

/// How the sidecar finds out about a reason, other than by the route.
const fn own_verdict(reason: DenyReason) -> Option<&'static str> {
    match reason {
        DenyReason::PrivateAddress => Some(
            "(response.code_details.contains('address_denied') \
             || response.code_details.startsWith('rbac_access_denied'))",
        ),
        // A chain that has no room closes connections as they come.
        DenyReason::TooManyConnections => Some(
            "(response.code_details.contains('immediate_connect_error') && xds.route_name == 'allow/limited')",
        ),
        DenyReason::RateLimited => Some("response.code_details == 'local_rate_limited'"),
        DenyReason::UploadLimit => Some("response.code_details == 'request_payload_too_large'"),
        DenyReason::UpgradeNotAllowed => Some("response.code_details == 'upgrade_failed'"),
        DenyReason::BadPath => Some("response.code_details == 'path_normalization_failed'"),
        DenyReason::BadRequest => Some(BROKEN),
        DenyReason::NoPolicy => Some("response.code_details == 'route_not_found'"),
        // A route says it for requests over HTTP/2, Envoy itself for those over HTTP/1.
        DenyReason::HttpsNeedsConnect => Some(HTTPS_IN_CLEAR),
        DenyReason::NotListed
        | DenyReason::PortNotListed
        | DenyReason::Expired
        | DenyReason::DeniedByRule
        | DenyReason::MethodNotAllowed
        | DenyReason::PathNotAllowed
        | DenyReason::NotTls
        | DenyReason::SniMismatch
        | DenyReason::BadHost => None,
    }
}

fn own_verdicts() -> impl Iterator<Item = (DenyReason, &'static str)> {
    DenyReason::ALL.into_iter().filter_map(|reason| Some((reason, own_verdict(reason)?)))
}

/// A formatter that gives the reason of a denial, and null for everything else.
pub(super) fn reason_format() -> String {
    let own: String =
        own_verdicts().map(|(reason, verdict)| format!("{verdict} ? '{}' : ", reason.as_str())).collect();
    let by_route: String = DenyReason::ALL
        .iter()
        .map(|reason| format!("xds.route_name.endsWith('deny/{0}') ? '{0}' : ", reason.as_str()))
        .collect();
    // What has no reason is a field that is missing, and that is logged as null.
    format!("%CEL({own}{by_route}xds.route_metadata.filter_metadata.exeat.none)%")
}

/// A formatter that gives `deny`, `would-deny` or `allow`.
pub(super) fn action_format() -> String {
    let own: String = own_verdicts().map(|(_, verdict)| format!("{verdict} || ")).collect();
    format!(
        "%CEL({own}xds.route_name.startsWith('{DENY_PREFIX}') ? '{DENY_ACTION}' \
         : xds.route_name.startsWith('{WOULD_DENY_PREFIX}') ? '{WOULD_DENY_ACTION}' : '{ALLOW_ACTION}')%"
    )
}

/// The same of what is about to pass, as an expression.
pub(super) fn passing_action() -> String {
    format!("(xds.route_name.startsWith('{WOULD_DENY_PREFIX}') ? '{WOULD_DENY_ACTION}' : '{ALLOW_ACTION}')")
}

/// Why what is about to pass would be denied, or nothing, as an expression.
pub(super) fn passing_reason() -> String {
    let reason = |reason: &DenyReason| {
        format!("xds.route_name == '{WOULD_DENY_PREFIX}{0}' ? '{0}' : ", reason.as_str())
    };
    format!("({}'')", DenyReason::ALL.iter().map(reason).collect::<String>())
}

/// Why what was let through finds no chain, or one without room, as an expression: what allowed it was just taken away, or its
/// entry has a limit.
pub(super) fn refused_reason() -> String {
    let (full, gone) = (DenyReason::TooManyConnections.as_str(), DenyReason::NotListed.as_str());
    format!("(xds.route_name == '{LIMITED}' ? '{full}' : '{gone}')")
}

/// An expression that gives the rule of the route, else of the virtual host, as `file:line`.
pub(super) fn rule_expression() -> String {
    let at = |what: &str| format!("xds.{what}_metadata.filter_metadata.{NAMESPACE}.{RULE_KEY}");
    let own = format!("has(xds.route_metadata.filter_metadata.{NAMESPACE})");
    format!("({own} ? {} : {})", at("route"), at("virtual_host"))
}

/// A formatter that gives it.
pub(super) fn rule_format() -> String {
    format!("%CEL({})%", rule_expression())
}

/// One answer for each reason.
pub(super) fn replies() -> LocalReplyConfig {
    LocalReplyConfig { mappers: DenyReason::ALL.into_iter().map(reply).collect() }
}

fn reply(reason: DenyReason) -> ResponseMapper {
    let by_route = format!("xds.route_name == '{DENY_PREFIX}{}'", reason.as_str());
    let expression = match own_verdict(reason) {
        Some(own) => format!("{own} || {by_route}"),
        None => by_route,
    };
    // Broken requests keep Envoy's 400: they are refused for their form, not by policy. So do 413 and 429.
    let status_code = match reason {
        DenyReason::BadPath | DenyReason::BadRequest | DenyReason::RateLimited | DenyReason::UploadLimit => {
            None
        }
        DenyReason::TooManyConnections => number(429),
        _ => number(403),
    };
    ResponseMapper {
        filter: Some(cel_filter(expression)),
        status_code,
        body_format_override: Some(JsonFormat::new([
            ("error", "egress_denied".to_owned()),
            ("reason", reason.as_str().to_owned()),
            ("host", "%REQ(:AUTHORITY)%".to_owned()),
            ("rule", rule_format()),
            ("hint", reason.hint().to_owned()),
            ("request_id", "%STREAM_ID%".to_owned()),
        ])),
        headers_to_add: vec![HeaderValueOption {
            header: Some(HeaderValue {
                key: DENY_REASON_HEADER.to_owned(),
                value: reason.as_str().to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }],
    }
}

pub(super) fn cel_filter(expression: String) -> AccessLogFilter {
    AccessLogFilter {
        filter_specifier: Some(access_log_filter::FilterSpecifier::ExtensionFilter(ExtensionFilter {
            name: "envoy.access_loggers.extension_filters.cel".to_owned(),
            config_type: Some(extension_filter::ConfigType::TypedConfig(pack(&ExpressionFilter {
                expression,
                ..Default::default()
            }))),
        })),
    }
}
