//! Resources as frozen bytes: what is served, by name and version.
//!
//! Knows nothing of streams, clients, files or policy: the core of an xDS server for any resources.
//!
//! A [`Snapshot`] is immutable. [`Store`] holds the current one and wakes everybody who waits for the next; nothing
//! is locked while anything is sent. Versions are hashes of bytes, so replicas and restarts agree on them without
//! talking, and a sidecar that comes back is sent nothing it has.

mod encode;
mod store;

pub use crate::envoy::{Resource, ResourceKind};
pub use encode::Encoded;
pub use store::{EditId, Published, Store};

use std::{collections::BTreeMap, sync::Arc};

/// A hash of content, in hexadecimal.
pub type Version = Arc<str>;

/// All resources of one type.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    version: Version,
    resources: BTreeMap<Arc<str>, Encoded>,
}

impl ResourceSet {
    /// A hash over the names and versions of the set.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// One resource.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Encoded> {
        self.resources.get(name)
    }

    /// All resources, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Encoded> {
        self.resources.values()
    }
}

/// Everything that one group of sidecars is served.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: Version,
    sets: BTreeMap<ResourceKind, ResourceSet>,
}

impl Snapshot {
    /// Encodes resources. Where `previous` has the same content, its bytes are shared.
    #[must_use]
    pub fn new(resources: Vec<Resource>, previous: Option<&Self>) -> Self {
        let mut sets: BTreeMap<ResourceKind, ResourceSet> =
            ResourceKind::ALL.into_iter().map(|kind| (kind, ResourceSet::default())).collect();
        for resource in resources {
            let kind = resource.kind;
            let mut encoded = Encoded::new(resource);
            if let Some(same) = previous
                .and_then(|snapshot| snapshot.set(kind)?.get(encoded.name()))
                .filter(|same| same.version() == encoded.version())
            {
                encoded = same.clone();
            }
            if let Some(set) = sets.get_mut(&kind) {
                set.resources.insert(Arc::clone(encoded.name()), encoded);
            }
        }
        for set in sets.values_mut() {
            set.version = encode::version_of(
                set.resources.values().flat_map(|one| [one.name().as_bytes(), one.version().as_bytes()]),
            );
        }
        let version = encode::version_of(sets.values().map(|set| set.version.as_bytes()));
        Self { version, sets }
    }

    /// A hash over everything.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// The resources of a type.
    #[must_use]
    pub fn set(&self, kind: ResourceKind) -> Option<&ResourceSet> {
        self.sets.get(&kind)
    }
}
