//! A client's connection, from its first byte on.
//!
//! Knows nothing of where it comes from, or how many there are.

use crate::ads::Peer;
use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::Sleep,
};
use tonic::transport::server::Connected;

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`.
pub(super) const PREFACE_BYTES: usize = 24;

/// A client's socket, or TLS on it.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// The client's part of the bargain.
struct Preface {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Preface {
    fn within(within: Duration) -> Self {
        Self { missing: PREFACE_BYTES, deadline: Box::pin(tokio::time::sleep(within)) }
    }
}

/// A client's connection. It counts for as long as it lives.
pub(super) struct Connection {
    io: Box<dyn Transport>,
    peer: Peer,
    /// Until it has arrived.
    preface: Option<Preface>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// One that must begin HTTP/2 within a time.
    pub(super) fn new(
        io: Box<dyn Transport>,
        peer: Peer,
        within: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { io, peer, preface: Some(Preface::within(within)), _permit: permit }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut *this.io).poll_read(context, buffer);
        let Some(preface) = &mut this.preface else { return read };
        if read.is_pending() {
            ready!(preface.deadline.as_mut().poll(context));
            tracing::debug!("closed the connection of {}: it does not begin HTTP/2", this.peer.address);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        preface.missing = preface.missing.saturating_sub(buffer.filled().len() - before);
        if preface.missing == 0 {
            this.preface = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(context)
    }
}
