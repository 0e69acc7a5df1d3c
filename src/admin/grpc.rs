//! The admin API over gRPC (`proto/exeat/admin/v1/admin.proto`).

use super::{
    Rescan, StatusSource,
    proto::{RescanRequest, StatusRequest, StatusResponse, admin_server::Admin},
};
use std::{fmt, pin::Pin, time::Duration};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Changes closer together than this are sent as one.
const MERGE: Duration = Duration::from_millis(100);

/// The service.
#[derive(Clone)]
pub struct AdminService {
    source: StatusSource,
    rescan: Rescan,
    shutdown: CancellationToken,
}

impl fmt::Debug for AdminService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminService").finish_non_exhaustive()
    }
}

impl AdminService {
    /// Serves the view; watching streams end on `shutdown`.
    #[must_use]
    pub const fn new(source: StatusSource, rescan: Rescan, shutdown: CancellationToken) -> Self {
        Self { source, rescan, shutdown }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<StatusResponse, Status>> + Send>>;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.source.view()))
    }

    async fn rescan(&self, _: Request<RescanRequest>) -> Result<Response<StatusResponse>, Status> {
        tokio::select! {
            () = (self.rescan)() => Ok(Response::new(self.source.view())),
            () = self.shutdown.cancelled() => Err(Status::unavailable("the control plane shuts down")),
        }
    }

    async fn watch_status(
        &self,
        _: Request<StatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let source = self.source.clone();
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let mut fleet = source.fleet.changes();
            let mut files = source.files.clone();
            let mut published = source.store.subscribe();
            let mut last = None;
            loop {
                let view = source.view();
                if last.as_ref() != Some(&view) {
                    if sender.send(Ok(view.clone())).await.is_err() {
                        return;
                    }
                    last = Some(view);
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = sender.closed() => return,
                    Ok(()) = fleet.changed() => {}
                    Ok(()) = files.changed() => {}
                    Ok(()) = published.changed() => {}
                    else => return,
                }
                tokio::time::sleep(MERGE).await;
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }
}
