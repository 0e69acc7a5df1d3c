//! Resources as canonical protobuf JSON, for people and tests.
//!
//! Envoy's message descriptors come with the crate `envoy-types`, which does not export them: the ones that exeat uses
//! are in `proto/envoy.binpb`, which a test compares with the crate and writes anew.

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;
use std::sync::LazyLock;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(include_bytes!("../../proto/envoy.binpb").as_slice()).ok());

/// An encoded message as JSON, with the field names of the proto files.
pub fn json(type_url: &str, value: &[u8]) -> Result<Value, String> {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let descriptor = POOL
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(name))
        .ok_or_else(|| format!("there is no description of {name}"))?;
    let message = DynamicMessage::decode(descriptor, value).map_err(|error| error.to_string())?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    let mut json = json.map_err(|error| error.to_string())?;
    if let Value::Object(fields) = &mut json {
        // As in an Any, which it is on the wire.
        fields.insert("@type".to_owned(), type_url.into());
    }
    Ok(json)
}
