//! The state as other xDS tools read it (`envoy.service.status.v3`, CSDS): each client's resources, and whether the
//! client has them.

use super::{StatusSource, status::in_sync};
use crate::{
    fleet::{KindState, Sidecar},
    snapshot::{Encoded, ResourceKind, ResourceSet},
};
use envoy_types::pb::{
    envoy::{
        admin::v3::UpdateFailureState,
        config::core::v3::{Node, node::UserAgentVersionType},
        service::{
            discovery::v3::DiscoveryResponse,
            status::v3::{
                ClientConfig, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
                client_config::GenericXdsConfig,
                client_status_discovery_service_server::ClientStatusDiscoveryService,
            },
        },
        r#type::matcher::v3::{NodeMatcher, StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{Any, Timestamp},
};
use prost::Message;
use std::{pin::Pin, time::SystemTime};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Most bytes of resources in an answer: each client's are in it anew.
const MAX_CONTENTS: usize = 64 * 1024 * 1024;
/// Most matchers in a request: each is held against each client.
const MAX_MATCHERS: usize = 64;

/// The service.
#[derive(Clone, Debug)]
pub struct ClientStatusService {
    source: StatusSource,
}

impl ClientStatusService {
    /// Serves the view.
    #[must_use]
    pub const fn new(source: StatusSource) -> Self {
        Self { source }
    }

    fn answer(source: &StatusSource, request: &ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
        if request.node_matchers.len() > MAX_MATCHERS {
            return Err(Status::invalid_argument(format!("at most {MAX_MATCHERS} node_matchers")));
        }
        let (mut config, mut contents) = (Vec::new(), 0);
        for (_, sidecar) in source.fleet.sidecars() {
            if matches(&request.node_matchers, &sidecar.info.node_id)? {
                if !request.exclude_resource_contents {
                    contents += size(source, &sidecar.info.group);
                }
                if contents > MAX_CONTENTS {
                    return Err(Status::resource_exhausted(
                        "the answer would be too large: match fewer nodes, or set exclude_resource_contents",
                    ));
                }
                config.push(client(source, &sidecar, request.exclude_resource_contents));
            }
        }
        Ok(ClientStatusResponse { config })
    }
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for ClientStatusService {
    type StreamClientStatusStream = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    async fn stream_client_status(
        &self,
        requests: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let source = self.source.clone();
        let answers = requests.into_inner().map(move |request| Self::answer(&source, &request?));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        Self::answer(&self.source, request.get_ref()).map(Response::new)
    }
}

/// The bytes of everything that a group is served.
fn size(source: &StatusSource, group: &str) -> usize {
    let published = source.stores.current(group);
    let sets = ResourceKind::ALL.into_iter().filter_map(|kind| published.as_ref()?.snapshot.set(kind));
    sets.map(|set| set.iter().map(|one| one.sotw().len()).sum::<usize>()).sum()
}

/// Whether one of the matchers fits; no matchers fit all ("if no node matchers are specified, return all").
fn matches(matchers: &[NodeMatcher], id: &str) -> Result<bool, Status> {
    if matchers.is_empty() {
        return Ok(true);
    }
    for matcher in matchers {
        if !matcher.node_metadatas.is_empty() {
            return Err(Status::invalid_argument("matching by node metadata is not supported"));
        }
        if matcher.node_id.as_ref().map_or(Ok(true), |text| matches_text(text, id))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn matches_text(matcher: &StringMatcher, text: &str) -> Result<bool, Status> {
    let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let text = fold(text);
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(pattern)) => Ok(text == fold(pattern)),
        Some(MatchPattern::Prefix(pattern)) => Ok(text.starts_with(&fold(pattern))),
        Some(MatchPattern::Suffix(pattern)) => Ok(text.ends_with(&fold(pattern))),
        Some(MatchPattern::Contains(pattern)) => Ok(text.contains(&fold(pattern))),
        Some(MatchPattern::SafeRegex(_) | MatchPattern::Custom(_)) | None => {
            Err(Status::invalid_argument("node ids are matched by exact, prefix, suffix or contains only"))
        }
    }
}

fn client(source: &StatusSource, sidecar: &Sidecar, without_contents: bool) -> ClientConfig {
    let published = source.stores.current(&sidecar.info.group);
    let set = |kind: ResourceKind| published.as_ref().and_then(|published| published.snapshot.set(kind));
    let edit = published.as_ref().map(|published| published.edit.number());
    let has_all = in_sync(sidecar, edit);
    let mut resources = Vec::new();
    for kind in ResourceKind::ALL {
        let (Some(state), Some(set)) = (sidecar.kinds.get(kind.as_str()), set(kind)) else { continue };
        let all = set.iter().map(|one| {
            // A sidecar that came back with everything was sent nothing.
            let status = if has_all { ConfigStatus::Synced } else { status(set, state) };
            resource(kind, state, status, one, without_contents)
        });
        resources.extend(all);
    }
    ClientConfig {
        node: Some(Node {
            id: sidecar.info.node_id.clone(),
            cluster: sidecar.info.node_cluster.clone(),
            user_agent_version_type: sidecar.info.version.clone().map(UserAgentVersionType::UserAgentVersion),
            ..Default::default()
        }),
        generic_xds_configs: resources,
        client_scope: sidecar.info.group.to_string(),
        ..Default::default()
    }
}

fn resource(
    kind: ResourceKind,
    state: &KindState,
    status: ConfigStatus,
    one: &Encoded,
    without_contents: bool,
) -> GenericXdsConfig {
    let timestamp = |at: SystemTime| {
        let at = prost_types::Timestamp::from(at);
        Timestamp { seconds: at.seconds, nanos: at.nanos }
    };
    GenericXdsConfig {
        type_url: kind.type_url().to_owned(),
        name: one.name().to_string(),
        version_info: one.version().to_string(),
        xds_config: (!without_contents).then(|| body(one)).flatten(),
        config_status: status.into(),
        error_state: state.nack.as_ref().map(|nack| UpdateFailureState {
            details: nack.message.clone(),
            version_info: nack.version.to_string(),
            last_update_attempt: Some(timestamp(nack.at)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn status(set: &ResourceSet, state: &KindState) -> ConfigStatus {
    if state.nack.is_some() {
        ConfigStatus::Error
    } else if state.sent.as_ref() != Some(set.version()) {
        ConfigStatus::NotSent
    } else if state.acked.as_ref().is_some_and(|accepted| accepted.version == *set.version()) {
        ConfigStatus::Synced
    } else {
        ConfigStatus::Stale
    }
}

/// A resource field of a response is a response with one resource.
pub(super) fn body(one: &Encoded) -> Option<Any> {
    DiscoveryResponse::decode(one.sotw().clone()).ok()?.resources.into_iter().next()
}
