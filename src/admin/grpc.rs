//! The admin API over gRPC (`proto/exeat/admin/v1/admin.proto`).

use super::{
    COMMON, Rescan, StatusSource,
    csds::body,
    explain,
    proto::{
        DumpRequest, DumpResponse, ExplainRequest, ExplainResponse, ReloadRequest, Resource, StatusRequest,
        StatusResponse, admin_server::Admin,
    },
};
use crate::{
    policy::{Question, Timestamp},
    snapshot::ResourceKind,
};
use std::{
    fmt,
    pin::Pin,
    time::{Duration, SystemTime},
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Changes closer together than this are sent as one.
const MERGE: Duration = Duration::from_millis(100);

const NOTHING_YET: &str = "no valid allowlist has been read yet";

fn no_agent(name: &str) -> Status {
    Status::not_found(format!("there is no agent `{name}`"))
}

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

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<StatusResponse>, Status> {
        tokio::select! {
            () = (self.rescan)() => Ok(Response::new(self.source.view())),
            () = self.shutdown.cancelled() => Err(Status::unavailable("the control plane shuts down")),
        }
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let ExplainRequest { target, method, agent } = request.into_inner();
        let question: Question = target.parse().map_err(Status::invalid_argument)?;
        let question = if method.is_empty() {
            question
        } else {
            question.with_method(&method).map_err(Status::invalid_argument)?
        };
        let policies = self.source.policies.borrow().clone();
        let policies = policies.ok_or_else(|| Status::unavailable(NOTHING_YET))?;
        let texts = self.source.allowlist().texts;
        let now = Timestamp::of(SystemTime::now());
        let asked = Some(agent.as_str()).filter(|agent| !agent.is_empty());
        let answer = explain(&policies, asked, &question, now, &texts);
        answer.map(Response::new).ok_or_else(|| no_agent(&agent))
    }

    async fn dump(&self, request: Request<DumpRequest>) -> Result<Response<DumpResponse>, Status> {
        let DumpRequest { agent, r#type } = request.into_inner();
        let policies = self.source.policies.borrow().clone();
        let policies = policies.ok_or_else(|| Status::unavailable(NOTHING_YET))?;
        let asked = Some(agent.as_str()).filter(|agent| !agent.is_empty());
        policies.policy(asked).ok_or_else(|| no_agent(&agent))?;
        let published = self.source.stores.current(asked.unwrap_or(COMMON));
        let published = published.ok_or_else(|| Status::unavailable(NOTHING_YET))?;
        let kinds = ResourceKind::ALL.into_iter().filter(|kind| r#type.is_empty() || kind.as_str() == r#type);
        let sets = kinds.filter_map(|kind| Some((kind, published.snapshot.set(kind)?)));
        let resources = sets.flat_map(|(kind, set)| {
            set.iter().map(move |one| Resource {
                r#type: kind.as_str().to_owned(),
                name: one.name().to_string(),
                version: one.version().to_string(),
                type_url: kind.type_url().to_owned(),
                value: body(one).map(|body| body.value).unwrap_or_default(),
            })
        });
        Ok(Response::new(DumpResponse { resources: resources.collect() }))
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
                    else => return,
                }
                tokio::time::sleep(MERGE).await;
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }
}
