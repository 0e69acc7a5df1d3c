//! Requests with only the fields that the server reads.
//!
//! Envoy's node lists 516 extensions, 61 kB; decoding all that costs 137 µs for each request, skipping it 5 µs.

use bytes::Bytes;
use std::collections::BTreeMap;

/// `envoy.service.discovery.v3.DiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryRequest {
    /// The last accepted version.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Guaranteed in the first request of a stream only.
    #[prost(message, optional, tag = "2")]
    pub node: Option<WireNode>,
    /// The whole subscription.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// Which resource type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The response this one answers.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Present in a NACK.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<ErrorDetail>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// Guaranteed in the first request of a stream only.
    #[prost(message, optional, tag = "1")]
    pub node: Option<WireNode>,
    /// Which resource type.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to add to the subscription.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names to take out of it.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What the client has from an earlier stream; in the first request of a type only.
    #[prost(btree_map = "string, string", tag = "5")]
    pub initial_resource_versions: BTreeMap<String, String>,
    /// The response this one answers.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Present in a NACK.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<ErrorDetail>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ErrorDetail {
    /// A gRPC status code; Envoy always says 13.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Envoy's words; may quote a whole resource.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WireNode {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) cluster: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<prost_types::Struct>,
    #[prost(string, tag = "6")]
    pub(super) user_agent_name: String,
    #[prost(message, optional, tag = "8")]
    pub(super) user_agent_build_version: Option<BuildVersion>,
    /// Not decoded: they are many, and come with each request of some clients.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(super) extensions: Vec<Bytes>,
}

/// `envoy.config.core.v3.Extension`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireExtension {
    #[prost(bool, tag = "5")]
    pub(super) disabled: bool,
    #[prost(string, repeated, tag = "6")]
    pub(super) type_urls: Vec<String>,
}

/// `envoy.config.core.v3.BuildVersion`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BuildVersion {
    #[prost(message, optional, tag = "1")]
    pub(super) version: Option<SemanticVersion>,
}

/// `envoy.type.v3.SemanticVersion`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SemanticVersion {
    #[prost(uint32, tag = "1")]
    pub(super) major_number: u32,
    #[prost(uint32, tag = "2")]
    pub(super) minor_number: u32,
    #[prost(uint32, tag = "3")]
    pub(super) patch: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::{
        config::core::v3 as core, service::discovery::v3 as full, r#type::v3::SemanticVersion as FullVersion,
    };
    use prost::Message;

    #[test]
    fn slim_requests_read_what_full_ones_write() {
        let node = core::Node {
            id: "n".into(),
            cluster: "c".into(),
            user_agent_name: "envoy".into(),
            extensions: vec![core::Extension { name: "x".into(), ..Default::default() }],
            user_agent_version_type: Some(core::node::UserAgentVersionType::UserAgentBuildVersion(
                core::BuildVersion {
                    version: Some(FullVersion { major_number: 1, minor_number: 40, patch: 2 }),
                    ..Default::default()
                },
            )),
            ..Default::default()
        };
        let request = full::DeltaDiscoveryRequest {
            node: Some(node),
            type_url: "t".into(),
            resource_names_subscribe: vec!["a".into()],
            resource_names_unsubscribe: vec!["b".into()],
            initial_resource_versions: [("c".to_owned(), "1".to_owned())].into(),
            response_nonce: "5".into(),
            error_detail: Some(envoy_types::pb::google::rpc::Status {
                code: 13,
                message: "no".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let slim = DeltaDiscoveryRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        let node = slim.node.unwrap();
        assert_eq!((node.id.as_str(), node.cluster.as_str()), ("n", "c"));
        let version = node.user_agent_build_version.unwrap().version.unwrap();
        assert_eq!((version.major_number, version.minor_number, version.patch), (1, 40, 2));
        assert_eq!(slim.type_url, "t");
        assert_eq!(slim.resource_names_subscribe, ["a"]);
        assert_eq!(slim.resource_names_unsubscribe, ["b"]);
        assert_eq!(slim.initial_resource_versions["c"], "1");
        assert_eq!(slim.response_nonce, "5");
        assert_eq!(slim.error_detail.unwrap().message, "no");
    }
}
