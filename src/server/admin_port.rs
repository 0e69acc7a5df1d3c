//! The admin port: HTTP/1 and HTTP/2 for health, metrics, status and the admin API, with no more patience than needed.
//!
//! Knows nothing of what is served there.

use super::{
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
    accept::{Accept, Limits},
    listen::Socket,
};
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use std::time::Duration;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// From the first byte of an HTTP/1 request, or from the one before, to the end of its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection: a person with two or three commands.
const MAX_STREAMS: u32 = 8;

/// Serves until `shutdown`; requests that run then have as long as the caller grants.
pub(super) async fn serve(listener: TcpListener, routes: Router, shutdown: CancellationToken) {
    let (accept, mut incoming) = Accept::new(Limits::admin());
    let _accepting = AbortOnDropHandle::new(tokio::spawn(accept.run(Socket::Tcp(listener), None)));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS);
    let service = TowerToHyperService::new(routes);
    let mut connections = JoinSet::new();
    loop {
        let connection = tokio::select! {
            () = shutdown.cancelled() => break,
            // Nobody waits for what has ended.
            Some(_) = connections.join_next() => continue,
            accepted = incoming.recv() => match accepted {
                Some(Ok(connection)) => connection,
                Some(Err(never)) => match never {},
                None => break,
            },
        };
        let (builder, service, until) = (builder.clone(), service.clone(), shutdown.clone());
        connections.spawn(async move {
            let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(connection), service));
            let ended = tokio::select! {
                ended = serving.as_mut() => ended,
                () = until.cancelled() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!("a connection of the admin port ended: {error}");
            }
        });
    }
    while connections.join_next().await.is_some() {}
}
