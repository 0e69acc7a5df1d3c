//! The access log: one JSON line for each request on the sidecar's standard output, denials flagged.
//!
//! Knows nothing of the policy: rule and reason are read from what routes and filters wrote down.

use super::{
    any::pack,
    carry,
    chain::Inner,
    deny::{self, DENY_ACTION},
    format::{JsonFormat, StdoutAccessLog},
    sni,
};
use crate::policy::DenyReason;
use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, OrFilter, ResponseFlagFilter, access_log::ConfigType,
    access_log_filter::FilterSpecifier,
};
use std::time::Duration;

/// How far Envoy's clocks of a connection and of its time limit may be apart.
const LATENESS: Duration = Duration::from_millis(500);

/// Fields that Envoy leaves empty appear as `null`. No query strings and no headers: they carry secrets.
fn fields() -> [(&'static str, String); 16] {
    [
        ("time", "%START_TIME%".to_owned()),
        ("action", deny::action_format()),
        ("reason", deny::reason_format()),
        ("rule", deny::rule_format()),
        ("host", "%REQ(:AUTHORITY)%".to_owned()),
        ("method", "%REQ(:METHOD)%".to_owned()),
        ("path", "%PATH(NQ)%".to_owned()),
        ("code", "%RESPONSE_CODE%".to_owned()),
        ("details", "%RESPONSE_CODE_DETAILS%".to_owned()),
        ("node", "%CEL(xds.node.id)%".to_owned()),
        ("client", "%DOWNSTREAM_REMOTE_ADDRESS%".to_owned()),
        ("bytes_sent", "%BYTES_RECEIVED%".to_owned()),
        ("bytes_received", "%BYTES_SENT%".to_owned()),
        ("duration_ms", "%DURATION%".to_owned()),
        ("protocol", "%PROTOCOL%".to_owned()),
        (
            "request_id",
            coalesce(&[
                &format!(r#"{{"command": "FILTER_STATE", "param": "{}:PLAIN"}}"#, carry::ID),
                "\"STREAM_ID\"",
            ]),
        ),
    ]
}

/// The first of some operators that gives something.
fn coalesce(operators: &[&str]) -> String {
    format!(r#"%COALESCE({{"operators": [{}]}})%"#, operators.join(", "))
}

/// Each request, and what is none. Tunnels that were opened are logged by their chains, which know where they went; but what
/// ends them by a limit is known here.
pub(super) fn to_stdout() -> AccessLog {
    // Who leaves while a name is resolved has no answer; who leaves before the end of the headers has asked for nothing.
    let mine = "has(request.method) && (request.method != 'CONNECT' || !has(response.code) || response.code != 200 \
                || response.code_details in ['max_duration_timeout', 'stream_idle_timeout', \
                'request_payload_too_large'])";
    let all = format!("{mine} || {} || {}", deny::BROKEN, deny::HTTPS_IN_CLEAR);
    to(JsonFormat::new(fields()), Some(deny::cel_filter(all)))
}

/// What the check of tunnels closes, what has no room behind it, and what ends before it has shown what it is: a client that
/// leaves then is denied nothing, but its name was resolved.
pub(super) fn of_checks() -> Vec<AccessLog> {
    let mismatch = "connection.termination_details.startsWith('rbac')".to_owned();
    let no_chain = "has(response.code_details) && response.code_details == 'filter_chain_not_found'";
    let undecided = "!has(upstream.address) && !has(connection.termination_details)";
    // Who has sent nothing, or not enough, in time.
    let too_late = format!("request.duration > duration('{}ms')", (sni::HELLO_WITHIN - LATENESS).as_millis());
    let not_tls = format!("{no_chain} || {undecided} && {too_late}");
    let left = format!("!({no_chain}) && {undecided} && !({too_late}) && response.flags == 0");
    let line = |(reason, filter): (DenyReason, String)| {
        let format = JsonFormat::new(of_tunnels(DENY_ACTION, reason.as_str()));
        to(format, Some(deny::cel_filter(filter)))
    };
    let mut lines: Vec<AccessLog> =
        [(DenyReason::SniMismatch, mismatch), (DenyReason::NotTls, not_tls)].map(line).into();
    let passed = || JsonFormat::new(of_tunnels(&known(carry::ACTION), &known(carry::REASON)));
    lines.push(to(passed(), Some(deny::cel_filter(left))));
    // There is no chain for it, or no room. What its chain could not connect has a line there.
    let refused = JsonFormat::new(of_tunnels(DENY_ACTION, &known(carry::REFUSED)));
    let at_once = "upstream.transport_failure_reason.contains('immediate connect error')";
    lines.push(to(refused, Some(deny::cel_filter(at_once.to_owned()))));
    lines
}

/// What chains carried and did not carry. Requests have lines of their own.
pub(super) fn of_chains(inner: Inner) -> Vec<AccessLog> {
    let tunnels = matches!(inner, Inner::Tls | Inner::Tcp);
    let line =
        |action: &str, reason: &str, filter| to(JsonFormat::new(of_tunnels(action, reason)), Some(filter));
    let passed = |filter| line(&known(carry::ACTION), &known(carry::REASON), filter);
    let mut lines = Vec::new();
    if tunnels {
        // The second could not be connected.
        let filters = vec![deny::cel_filter("has(upstream.address)".to_owned()), flagged("UF")];
        lines.push(passed(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::OrFilter(OrFilter { filters })),
        }));
    }
    if inner == Inner::Tcp {
        // Its chain was just taken away. Of tunnels with TLS the check knows that.
        lines.push(line(DENY_ACTION, DenyReason::NotListed.as_str(), flagged("NR")));
    }
    // What a name leads to was not among the addresses of its entry.
    lines.push(line(DENY_ACTION, DenyReason::PrivateAddress.as_str(), flagged("UH")));
    lines
}

fn known(key: &str) -> String {
    format!("%FILTER_STATE({key}:PLAIN)%")
}

fn flagged(flag: &str) -> AccessLogFilter {
    let flags = vec![flag.to_owned()];
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags })),
    }
}

/// The line of a tunnel: what there is of the fields of requests, and the SNI.
fn of_tunnels(action: &str, reason: &str) -> Vec<(&'static str, String)> {
    vec![
        ("time", "%START_TIME%".to_owned()),
        ("action", action.to_owned()),
        ("reason", reason.to_owned()),
        ("rule", known(carry::RULE)),
        ("host", known(carry::AUTHORITY)),
        ("method", "CONNECT".to_owned()),
        ("sni", "%REQUESTED_SERVER_NAME%".to_owned()),
        (
            "details",
            coalesce(&["\"DOWNSTREAM_LOCAL_CLOSE_REASON\"", "\"UPSTREAM_TRANSPORT_FAILURE_REASON\""]),
        ),
        ("node", "%CEL(xds.node.id)%".to_owned()),
        ("client", known(carry::CLIENT)),
        // The address really dialled; %UPSTREAM_HOST% may name another one of the DNS answer.
        ("upstream", "%UPSTREAM_REMOTE_ADDRESS%".to_owned()),
        ("bytes_sent", "%BYTES_RECEIVED%".to_owned()),
        ("bytes_received", "%BYTES_SENT%".to_owned()),
        ("duration_ms", "%DURATION%".to_owned()),
        ("request_id", known(carry::REQUEST)),
    ]
}

fn to(format: JsonFormat, filter: Option<AccessLogFilter>) -> AccessLog {
    let log = StdoutAccessLog { log_format: Some(format) };
    AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter,
        config_type: Some(ConfigType::TypedConfig(pack(&log))),
    }
}
