//! gRPC messages as a small head of their own and shared resource bytes.
//!
//! tonic's codec would copy every resource into a buffer of each stream, which keeps it for its life.

use crate::snapshot::ResourceKind;
use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use std::sync::Arc;

/// Compression flag and length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;
/// Resources up to this size are copied into the chunk before them: a frame of their own would cost more.
const COPY_BELOW: usize = 1024;

/// `control_plane.identifier` of every response.
const IDENTIFIER: &str = concat!("exeat/", env!("CARGO_PKG_VERSION"));

// Of `DiscoveryResponse` and of `DeltaDiscoveryResponse`, which agree in all but the last.
const VERSION_TAG: u32 = 1;
const TYPE_URL_TAG: u32 = 4;
const NONCE_TAG: u32 = 5;
const REMOVED_TAG: u32 = 6;
/// `ControlPlane.identifier`.
const IDENTIFIER_TAG: u32 = 1;

/// A response without its resources, which follow as shared bytes: protobuf allows any order of fields. Written by hand,
/// because a message would need five copies of texts for each client.
pub(super) struct Head<'a> {
    pub(super) version: &'a str,
    pub(super) kind: ResourceKind,
    pub(super) nonce: u64,
    /// Delta only.
    pub(super) removed: &'a [Arc<str>],
    /// 6 in `DiscoveryResponse`, 7 in `DeltaDiscoveryResponse`.
    pub(super) control_plane_tag: u32,
}

impl Head<'_> {
    fn texts<'a>(&'a self, nonce: &'a str) -> impl Iterator<Item = (u32, &'a str)> {
        let removed = self.removed.iter().map(|name| (REMOVED_TAG, &**name));
        [(VERSION_TAG, self.version), (TYPE_URL_TAG, self.kind.type_url()), (NONCE_TAG, nonce)]
            .into_iter()
            .chain(removed)
    }
}

fn text_len(tag: u32, text: &str) -> usize {
    key_len(tag) + encoded_len_varint(text.len() as u64) + text.len()
}

fn put_text(buffer: &mut impl BufMut, tag: u32, text: &str) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(text.len() as u64, buffer);
    buffer.put_slice(text.as_bytes());
}

/// The chunks of one message: `head` and the resource fields behind it.
pub(super) fn message(head: &Head<'_>, resources: &[Bytes]) -> Vec<Bytes> {
    let nonce = head.nonce.to_string();
    let identifier_len = text_len(IDENTIFIER_TAG, IDENTIFIER);
    let head_len = head.texts(&nonce).map(|(tag, text)| text_len(tag, text)).sum::<usize>()
        + key_len(head.control_plane_tag)
        + encoded_len_varint(identifier_len as u64)
        + identifier_len;
    let length = head_len + resources.iter().map(Bytes::len).sum::<usize>();
    let mut chunks = Vec::new();
    let copied = resources.iter().map(Bytes::len).filter(|length| *length <= COPY_BELOW);
    let mut small = BytesMut::with_capacity(PREFIX + head_len + copied.sum::<usize>());
    small.put_u8(0);
    // gRPC cannot frame more than 4 GiB. A client refuses that length long before the stream would break on it.
    small.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    head.texts(&nonce).for_each(|(tag, text)| put_text(&mut small, tag, text));
    encode_key(head.control_plane_tag, WireType::LengthDelimited, &mut small);
    encode_varint(identifier_len as u64, &mut small);
    put_text(&mut small, IDENTIFIER_TAG, IDENTIFIER);
    for resource in resources {
        if resource.len() <= COPY_BELOW {
            small.put_slice(resource);
        } else {
            if !small.is_empty() {
                chunks.push(small.split().freeze());
            }
            chunks.push(resource.clone());
        }
    }
    if !small.is_empty() {
        chunks.push(small.freeze());
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use prost::Message;

    #[test]
    fn large_resources_are_shared_and_the_length_is_right() {
        // Fields 2 of unknown content: a message is what they are.
        let field = |size: u8| Bytes::from([vec![0x12, size], vec![0; size.into()]].concat());
        let large = Bytes::from([vec![0x12, 0x88, 0x27], vec![0; 5000]].concat());
        let resources = [field(10), large.clone(), field(10)];
        let head =
            Head { version: "v", kind: ResourceKind::Cluster, nonce: 7, removed: &[], control_plane_tag: 6 };
        let chunks = message(&head, &resources);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1].as_ptr(), large.as_ptr());
        let all: Vec<u8> = chunks.concat();
        let length = u32::from_be_bytes(all[1..5].try_into().unwrap());
        assert_eq!(length as usize, all.len() - 5);
    }

    #[test]
    fn heads_are_what_the_protocol_says() {
        let removed = ["a".into(), "b".into()];
        let head = |control_plane_tag, removed| Head {
            version: "v",
            kind: ResourceKind::Cluster,
            nonce: 7,
            removed,
            control_plane_tag,
        };
        let bytes = message(&head(6, &[]), &[]).concat();
        let sotw = DiscoveryResponse::decode(&bytes[5..]).unwrap();
        assert_eq!((sotw.version_info.as_str(), sotw.nonce.as_str()), ("v", "7"));
        assert_eq!(sotw.type_url, ResourceKind::Cluster.type_url());
        assert_eq!(sotw.control_plane.unwrap().identifier, IDENTIFIER);
        let bytes = message(&head(7, &removed), &[]).concat();
        let delta = DeltaDiscoveryResponse::decode(&bytes[5..]).unwrap();
        assert_eq!((delta.system_version_info.as_str(), delta.nonce.as_str()), ("v", "7"));
        assert_eq!(
            (delta.type_url.as_str(), delta.removed_resources),
            (head(7, &[]).kind.type_url(), vec!["a".to_owned(), "b".into()])
        );
        assert_eq!(delta.control_plane.unwrap().identifier, IDENTIFIER);
    }
}
