//! The access log: one JSON line for each request on the sidecar's standard output, denials flagged.

use super::{
    any::pack,
    deny,
    format::{JsonFormat, StdoutAccessLog},
};
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType};

/// Fields that Envoy leaves empty appear as `null`. No query strings and no headers: they carry secrets.
fn fields() -> [(&'static str, String); 17] {
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
        // The address really dialled; %UPSTREAM_HOST% may name another one of the DNS answer.
        ("upstream", "%UPSTREAM_REMOTE_ADDRESS%".to_owned()),
        ("bytes_sent", "%BYTES_RECEIVED%".to_owned()),
        ("bytes_received", "%BYTES_SENT%".to_owned()),
        ("duration_ms", "%DURATION%".to_owned()),
        ("protocol", "%PROTOCOL%".to_owned()),
        ("request_id", "%STREAM_ID%".to_owned()),
    ]
}

pub(super) fn to_stdout() -> AccessLog {
    let log = StdoutAccessLog { log_format: Some(JsonFormat::new(fields())) };
    AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter: None,
        config_type: Some(ConfigType::TypedConfig(pack(&log))),
    }
}
