//! JSON formats and local replies with sorted keys.
//!
//! Envoy's `Struct` is a map, which prost encodes in random order; a listener whose bytes differ on each replica would
//! drain connections whenever a sidecar changes replicas. These messages have the same tags and sorted maps.
//!
//! Knows nothing of what is formatted.

use envoy_types::pb::{
    envoy::config::{accesslog::v3::AccessLogFilter, core::v3::HeaderValueOption},
    google::protobuf::UInt32Value,
};
use std::collections::BTreeMap;

/// `envoy.config.core.v3.SubstitutionFormatString` with `json_format`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct JsonFormat {
    #[prost(message, optional, tag = "2")]
    json_format: Option<Object>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
struct Object {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Text>,
}

/// `google.protobuf.Value` with `string_value`.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, optional, tag = "3")]
    string_value: Option<String>,
}

impl JsonFormat {
    pub(super) fn new(fields: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(key, text)| (key.to_owned(), Text { string_value: Some(text) }))
            .collect();
        Self { json_format: Some(Object { fields }) }
    }
}

/// `envoy.extensions.access_loggers.stream.v3.StdoutAccessLog`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StdoutAccessLog {
    #[prost(message, optional, tag = "1")]
    pub(super) log_format: Option<JsonFormat>,
}

impl prost::Name for StdoutAccessLog {
    const NAME: &'static str = "StdoutAccessLog";
    const PACKAGE: &'static str = "envoy.extensions.access_loggers.stream.v3";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

/// The one field of `HttpConnectionManager` that holds JSON formats. Concatenated protobuf messages merge, so this
/// is appended to the encoded rest (protobuf encoding, "Last One Wins").
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LocalReplyField {
    #[prost(message, optional, tag = "38")]
    pub(super) local_reply_config: Option<LocalReplyConfig>,
}

/// `LocalReplyConfig`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LocalReplyConfig {
    #[prost(message, repeated, tag = "1")]
    pub(super) mappers: Vec<ResponseMapper>,
}

/// `ResponseMapper`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResponseMapper {
    #[prost(message, optional, tag = "1")]
    pub(super) filter: Option<AccessLogFilter>,
    #[prost(message, optional, tag = "2")]
    pub(super) status_code: Option<UInt32Value>,
    #[prost(message, optional, tag = "4")]
    pub(super) body_format_override: Option<JsonFormat>,
    #[prost(message, repeated, tag = "5")]
    pub(super) headers_to_add: Vec<HeaderValueOption>,
}
