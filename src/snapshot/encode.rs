//! One resource as the bytes of a discovery response, encoded once for all clients and both protocols.

use super::Version;
use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::google::protobuf::Any;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, string},
};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3Default;

/// `DiscoveryResponse.resources`, `DeltaDiscoveryResponse.resources` and `Resource.resource` all have tag 2.
const RESOURCE_TAG: u32 = 2;
/// `envoy.service.discovery.v3.Resource.name`.
const NAME_TAG: u32 = 3;
/// `envoy.service.discovery.v3.Resource.version`.
const VERSION_TAG: u32 = 1;

/// A resource, ready to be sent. Sets that have it in common share it.
#[derive(Clone, Debug)]
pub struct Encoded(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    name: Arc<str>,
    version: Version,
    delta: Bytes,
    sotw: Bytes,
}

impl Encoded {
    pub(super) fn new(name: &str, body: &Any) -> Self {
        let version = version_of([body.type_url.as_bytes(), &body.value]);
        // The field of a delta response is a `Resource` whose last field is the `Any`; that tail is, byte for byte,
        // the field of a state-of-the-world response.
        let any_len = body.encoded_len();
        let any_field_len = key_len(RESOURCE_TAG) + encoded_len_varint(any_len as u64) + any_len;
        let (name_text, version_text) = (name.to_owned(), version.to_string());
        let resource_len = string::encoded_len(NAME_TAG, &name_text)
            + string::encoded_len(VERSION_TAG, &version_text)
            + any_field_len;
        let mut buffer = BytesMut::with_capacity(
            key_len(RESOURCE_TAG) + encoded_len_varint(resource_len as u64) + resource_len,
        );
        put_length_delimited(&mut buffer, resource_len);
        string::encode(NAME_TAG, &name_text, &mut buffer);
        string::encode(VERSION_TAG, &version_text, &mut buffer);
        let tail = buffer.len();
        put_length_delimited(&mut buffer, any_len);
        body.encode_raw(&mut buffer);
        let delta = buffer.freeze();
        Self(Arc::new(Parts { name: name.into(), version, sotw: delta.slice(tail..), delta }))
    }

    /// Whether it is the encoding of this, without making one. `buffer` is for any use.
    pub(super) fn holds(&self, body: &Any, buffer: &mut Vec<u8>) -> bool {
        buffer.clear();
        put_length_delimited(buffer, body.encoded_len());
        body.encode_raw(buffer);
        self.0.sotw == *buffer
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Hash of type and content.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.0.version
    }

    /// The `resources` field of a `DeltaDiscoveryResponse`, key and length included.
    #[must_use]
    pub fn delta(&self) -> &Bytes {
        &self.0.delta
    }

    /// The `resources` field of a `DiscoveryResponse`, key and length included.
    #[must_use]
    pub fn sotw(&self) -> &Bytes {
        &self.0.sotw
    }
}

fn put_length_delimited(buffer: &mut impl BufMut, length: usize) {
    encode_key(RESOURCE_TAG, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}

/// Hashes parts so that moving a byte from one part to the next changes the result.
pub(super) fn version_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Version {
    let mut hash = Xxh3Default::new();
    for part in parts {
        hash.update(&part.len().to_le_bytes());
        hash.update(part);
    }
    format!("{:032x}", hash.digest128()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

    #[test]
    fn one_buffer_is_the_field_of_both_protocols() {
        for size in [0, 1, 200, 70_000] {
            let body = Any { type_url: "type.googleapis.com/x".into(), value: vec![7; size] };
            let encoded = Encoded::new("a", &body);
            let sotw = DiscoveryResponse::decode(encoded.sotw().clone()).unwrap();
            assert_eq!(sotw.resources, std::slice::from_ref(&body));
            let delta = DeltaDiscoveryResponse::decode(encoded.delta().clone()).unwrap();
            assert_eq!(delta.resources[0].name, "a");
            assert_eq!(delta.resources[0].version, &**encoded.version());
            assert_eq!(delta.resources[0].resource.as_ref(), Some(&body));
            assert!(encoded.holds(&body, &mut vec![1]));
            assert!(!encoded.holds(&Any { value: vec![8; size + 1], ..body }, &mut Vec::new()));
        }
    }

    #[test]
    fn versions_depend_on_where_a_part_ends() {
        assert_ne!(version_of([b"ab".as_slice(), b"c"]), version_of([b"a".as_slice(), b"bc"]));
    }
}
