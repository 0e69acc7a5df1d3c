//! Small worlds for the tests of the machines.

use crate::snapshot::{Fallbacks, Resource, ResourceKind, Snapshot};
use envoy_types::pb::google::protobuf::Any;

pub(super) const CDS: ResourceKind = ResourceKind::Cluster;
pub(super) const EDS: ResourceKind = ResourceKind::Endpoints;
pub(super) const LDS: ResourceKind = ResourceKind::Listener;
pub(super) const RDS: ResourceKind = ResourceKind::RouteConfiguration;

/// Kind, name, content.
pub(super) type World<'a> = &'a [(ResourceKind, &'a str, &'a str)];

pub(super) fn snapshot(resources: World<'_>) -> Snapshot {
    let resource = |(kind, name, content): &(ResourceKind, &str, &str)| Resource {
        kind: *kind,
        name: (*name).to_owned(),
        body: Any { type_url: kind.type_url().to_owned(), value: content.as_bytes().to_vec() },
    };
    Snapshot::new(resources.iter().map(resource).collect(), &Fallbacks::new(), None)
}
