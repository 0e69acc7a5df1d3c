//! gRPC messages as a small head of their own and shared resource bytes.
//!
//! tonic's codec would copy every resource into a buffer of each stream, which keeps it for its life.

use super::wire::ControlPlane;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// Compression flag and length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;
/// Resources up to this size are copied into the chunk before them: a frame of their own would cost more.
const COPY_BELOW: usize = 1024;

/// `control_plane.identifier` of every response.
pub(super) fn control_plane() -> ControlPlane {
    ControlPlane { identifier: concat!("exeat/", env!("CARGO_PKG_VERSION")).to_owned() }
}

/// The chunks of one message: `head` and the resource fields behind it.
pub(super) fn message(head: &impl Message, resources: &[Bytes]) -> Vec<Bytes> {
    let head_len = head.encoded_len();
    let length = head_len + resources.iter().map(Bytes::len).sum::<usize>();
    let mut chunks = Vec::new();
    let copied = resources.iter().map(Bytes::len).filter(|length| *length <= COPY_BELOW);
    let mut small = BytesMut::with_capacity(PREFIX + head_len + copied.sum::<usize>());
    small.put_u8(0);
    // gRPC cannot frame more than 4 GiB. A client refuses that length long before the stream would break on it.
    small.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    head.encode_raw(&mut small);
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
    use crate::ads::wire::SotwHead;

    #[test]
    fn large_resources_are_shared_and_the_length_is_right() {
        let head = SotwHead { type_url: "t".into(), ..Default::default() };
        let resources = [Bytes::from(vec![1; 10]), Bytes::from(vec![2; 5000]), Bytes::from(vec![3; 10])];
        let chunks = message(&head, &resources);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1].as_ptr(), resources[1].as_ptr());
        let all: Vec<u8> = chunks.concat();
        let length = u32::from_be_bytes(all[1..5].try_into().unwrap());
        assert_eq!(length as usize, all.len() - 5);
    }
}
