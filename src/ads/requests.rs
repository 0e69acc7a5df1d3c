//! A stream's requests, read from frames.
//!
//! tonic's decoder copies every frame into a buffer of 8 KiB that each stream keeps, and that grows to the largest
//! request: Envoy's first has 61 kB. Here a request that arrives in one piece is decoded where it is, and what others
//! need is given back.

use bytes::{Bytes, BytesMut};
use prost::Message;
use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tonic::{Code, Status, body::Body};

/// Largest request: a delta reconnect lists every resource with its version.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Compression flag and length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// The requests of a stream.
pub(super) struct Requests<T> {
    body: Body,
    /// The frame that came last, as far as it is not read.
    frame: Bytes,
    /// The beginning of a request of several frames.
    begun: BytesMut,
    request: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Requests<T> {
    pub(super) fn new(body: impl Into<Body>) -> Self {
        Self { body: body.into(), frame: Bytes::new(), begun: BytesMut::new(), request: PhantomData }
    }

    /// The next request; nothing when the client has closed its side.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<T>, Status>> {
        loop {
            if let Some(message) = self.message()? {
                let request = T::decode(message).map_err(|error| Status::internal(error.to_string()))?;
                return Poll::Ready(Ok(Some(request)));
            }
            match ready!(http_body::Body::poll_frame(Pin::new(&mut self.body), context)) {
                // What is no data are trailers, which mean nothing in a request.
                Some(Ok(frame)) => self.frame = frame.into_data().unwrap_or_default(),
                Some(Err(status)) if status.code() == Code::Cancelled => return Poll::Ready(Ok(None)),
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None if self.begun.is_empty() => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(Status::internal("the stream ended within a request"))),
            }
        }
    }

    /// Whether a part of a request is there, and the rest is not.
    pub(super) fn is_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    /// A message that is there in full.
    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        if self.begun.is_empty()
            && let Some(end) = end(&self.frame)?
        {
            return Ok(Some(self.frame.split_to(end).slice(PREFIX..)));
        }
        self.begun.extend_from_slice(&std::mem::take(&mut self.frame));
        let Some(end) = end(&self.begun)? else { return Ok(None) };
        let mut message = std::mem::take(&mut self.begun);
        // Nothing is left of the buffer when the last request in it is done.
        self.frame = message.split_off(end).freeze();
        Ok(Some(message.freeze().slice(PREFIX..)))
    }
}

/// Where the first message ends, if all of it is there.
fn end(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some((&[flag, a, b, c, d], rest)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    if flag != 0 {
        return Err(Status::internal("the request is compressed, which was not agreed on"));
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MAX_BYTES {
        return Err(Status::out_of_range(format!(
            "a request may have {MAX_BYTES} bytes, and this has {length}"
        )));
    }
    Ok((rest.len() >= length).then_some(PREFIX + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ads::DiscoveryRequest;
    use http_body::Frame;
    use std::{collections::VecDeque, task::Waker};

    struct Frames(VecDeque<Bytes>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    fn framed(name: &str) -> Vec<u8> {
        let request = DiscoveryRequest { resource_names: vec![name.to_owned()], ..Default::default() };
        let message = request.encode_to_vec();
        [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), &message].concat()
    }

    /// The names in the requests, and what ended the stream.
    fn read<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<Code>) {
        let frames = frames.into_iter().map(Bytes::copy_from_slice).collect();
        let mut requests = Requests::<DiscoveryRequest>::new(Body::new(Frames(frames)));
        let mut names = Vec::new();
        loop {
            match requests.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(Some(request))) => names.extend(request.resource_names),
                Poll::Ready(Ok(None)) => return (names, None),
                Poll::Ready(Err(status)) => return (names, Some(status.code())),
                Poll::Pending => unreachable!(),
            }
        }
    }

    #[test]
    fn requests_may_be_cut_anywhere() {
        let all = [framed("a"), framed(""), framed(&"b".repeat(300)), framed("c")].concat();
        for size in 1..=all.len() {
            let (names, end) = read(all.chunks(size));
            assert_eq!((names.len(), end), (4, None), "{size}");
            assert_eq!((names[0].as_str(), names[2].len(), names[3].as_str()), ("a", 300, "c"));
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_stream() {
        let good = framed("a");
        for (bytes, code) in [
            (&good[..good.len() - 1], Code::Internal),
            (&good[..3], Code::Internal),
            (&[1, 0, 0, 0, 0][..], Code::Internal),
            (&[0, 0, 0, 0, 1, 0xff], Code::Internal),
            (&[0, 1, 0, 0, 1], Code::OutOfRange),
        ] {
            assert_eq!(read([good.as_slice(), bytes]), (vec!["a".to_owned()], Some(code)), "{bytes:?}");
        }
    }
}
