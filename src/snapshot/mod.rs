//! Resources as frozen bytes: what is served, by name and version.
//!
//! Knows nothing of streams, clients, files or policy: the core of an xDS server for any resources.
//!
//! A [`Snapshot`] is immutable. [`Store`] holds the current one and wakes everybody who waits for the next; nothing
//! is locked while anything is sent. Versions are hashes of bytes, so replicas and restarts agree on them without
//! talking, and a sidecar that comes back is sent nothing it has. What differs between two [`ResourceSet`]s is worked
//! out and encoded once ([`Changes`]), however many streams need it.

mod encode;
mod set;
mod store;
mod stores;

pub use crate::envoy::{Resource, ResourceKind};
pub use encode::Encoded;
pub use set::{Changes, Fallback, ResourceSet};
pub use store::{EditId, Published, Store, Tightened, Urgency};
pub use stores::Stores;

use std::{collections::BTreeMap, sync::Arc};

/// A hash of content, in hexadecimal.
pub type Version = Arc<str>;

/// What names that do not exist get, for the types that have such a thing.
pub type Fallbacks = BTreeMap<ResourceKind, Fallback>;

/// Everything that one group of sidecars is served.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: Version,
    sets: BTreeMap<ResourceKind, Arc<ResourceSet>>,
}

impl Snapshot {
    /// Encodes resources. Where `previous` has the same content, its bytes are shared.
    #[must_use]
    pub fn new(resources: Vec<Resource>, fallbacks: &Fallbacks, previous: Option<&Self>) -> Self {
        let mut by_kind: BTreeMap<ResourceKind, Vec<Resource>> =
            ResourceKind::ALL.into_iter().map(|kind| (kind, Vec::new())).collect();
        for resource in resources {
            by_kind.entry(resource.kind).or_default().push(resource);
        }
        let sets: BTreeMap<ResourceKind, Arc<ResourceSet>> = by_kind
            .into_iter()
            .map(|(kind, resources)| {
                let before = previous.and_then(|snapshot| snapshot.set(kind));
                let all = encode_all(resources, before);
                let set = ResourceSet::new(all, fallbacks.get(&kind).copied());
                let set = match before {
                    Some(same) if same.version() == set.version() => Arc::clone(same),
                    Some(before) => {
                        set.follow(before);
                        Arc::new(set)
                    }
                    None => Arc::new(set),
                };
                (kind, set)
            })
            .collect();
        let version = encode::version_of(sets.values().map(|set| set.version().as_bytes()));
        Self { version, sets }
    }

    /// A hash over everything.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// The resources of a type.
    #[must_use]
    pub fn set(&self, kind: ResourceKind) -> Option<&Arc<ResourceSet>> {
        self.sets.get(&kind)
    }
}

/// Encodes resources of one type, sorted by name. Of several with the same name the last counts.
fn encode_all(mut resources: Vec<Resource>, before: Option<&Arc<ResourceSet>>) -> Vec<Encoded> {
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    let mut known = before.into_iter().flat_map(|set| set.iter()).peekable();
    let (mut all, mut buffer) = (Vec::with_capacity(resources.len()), Vec::new());
    for Resource { name, body, .. } in resources {
        while known.next_if(|known| **known.name() < *name).is_some() {}
        let same = known.peek().filter(|known| **known.name() == *name && known.holds(&body, &mut buffer));
        let one = same.map_or_else(|| Encoded::new(&name, &body), |same| Encoded::clone(same));
        all.pop_if(|last: &mut Encoded| last.name() == one.name());
        all.push(one);
    }
    all
}

/// A hash of hashes: the version of something that is put together from versions.
#[must_use]
pub fn version_of_all<'a>(versions: impl IntoIterator<Item = &'a Version>) -> Version {
    encode::version_of(versions.into_iter().map(|version| version.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::Any;

    fn snapshot(resources: &[(&str, &str)], previous: Option<&Snapshot>) -> Snapshot {
        let resource = |(name, content): &(&str, &str)| Resource {
            kind: ResourceKind::Cluster,
            name: (*name).to_owned(),
            body: Any { type_url: "t".into(), value: content.as_bytes().to_vec() },
        };
        Snapshot::new(resources.iter().map(resource).collect(), &Fallbacks::new(), previous)
    }

    #[test]
    fn what_is_unchanged_is_shared_and_the_last_of_a_name_counts() {
        let cds = |snapshot: &Snapshot| Arc::clone(snapshot.set(ResourceKind::Cluster).unwrap());
        let first = snapshot(&[("b", "1"), ("a", "1"), ("d", "1"), ("b", "2")], None);
        let names: Vec<String> = cds(&first).iter().map(|one| one.name().to_string()).collect();
        assert_eq!(names, ["a", "b", "d"]);
        assert_eq!(first.version(), snapshot(&[("a", "1"), ("b", "2"), ("d", "1")], None).version());
        let second = snapshot(&[("c", "1"), ("d", "2"), ("b", "2")], Some(&first));
        let at = |snapshot: &Snapshot| cds(snapshot).get("b").unwrap().delta().as_ptr();
        assert_eq!(at(&first), at(&second));
        let changes = cds(&second).changes_since(Some(&cds(&first)));
        let upserts: Vec<&str> = changes.upserts().iter().map(|one| &**one.name()).collect();
        assert_eq!((upserts.as_slice(), changes.removed()), (["c", "d"].as_slice(), ["a".into()].as_slice()));
    }
}
