//! All resources of one type, and what differs between two such sets: worked out once, for all streams.

use super::{Encoded, Version, encode};
use bytes::{Bytes, BytesMut};
use envoy_types::pb::google::protobuf::Any;
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Makes the resource that a name gets which does not exist, so that nothing a client asks for is ever missing.
pub type Fallback = fn(&str) -> Any;

/// Streams follow closely: nearly all come from the set before, a few from some earlier one.
const REMEMBERED_CHANGES: usize = 8;

/// All resources of one type. Immutable; what is worked out from it is kept with it.
#[derive(Default)]
pub struct ResourceSet {
    version: Version,
    /// Sorted by name, each once.
    resources: Box<[Encoded]>,
    fallback: Option<Fallback>,
    sotw: OnceLock<Bytes>,
    /// By the version that they start from.
    changes: Mutex<VecDeque<(Version, Slot)>>,
}

/// Filled by whoever needs it first.
type Slot = Arc<OnceLock<Arc<Changes>>>;

impl ResourceSet {
    /// Of resources that are sorted by name, each once.
    pub(super) fn new(resources: Vec<Encoded>, fallback: Option<Fallback>) -> Self {
        let parts = resources.iter().flat_map(|one| [one.name().as_bytes(), one.version().as_bytes()]);
        Self { version: encode::version_of(parts), resources: resources.into(), fallback, ..Self::default() }
    }

    /// A hash over the names and versions of the set.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// One resource.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Encoded> {
        let index = self.resources.binary_search_by(|one| (**one.name()).cmp(name)).ok()?;
        self.resources.get(index)
    }

    /// What a client that asks for this name gets: the resource, else the fallback of the type.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<Encoded> {
        let missing = || self.fallback.map(|fallback| Encoded::new(name, &fallback(name)));
        self.get(name).cloned().or_else(missing)
    }

    /// Whether a name that does not exist gets something all the same.
    #[must_use]
    pub const fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }

    /// All resources, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Encoded> + Clone {
        self.resources.iter()
    }

    /// How many resources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The `resources` fields of a `DiscoveryResponse` that holds the whole set.
    #[must_use]
    pub fn sotw(&self) -> Bytes {
        self.sotw.get_or_init(|| concat(self.iter().map(Encoded::sotw))).clone()
    }

    /// What turns `base`, or nothing, into this set.
    #[must_use]
    pub fn changes_since(&self, base: Option<&Self>) -> Arc<Changes> {
        let from = base.map_or_else(Version::default, |base| Arc::clone(&base.version));
        let slot = {
            // Nothing is computed under the lock: streams that need the same wait for each other in the slot.
            let mut known = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            match known.iter().find(|(version, _)| *version == from) {
                Some((_, slot)) => Arc::clone(slot),
                None => {
                    let slot = Arc::default();
                    known.push_front((from, Arc::clone(&slot)));
                    known.truncate(REMEMBERED_CHANGES);
                    slot
                }
            }
        };
        Arc::clone(slot.get_or_init(|| Arc::new(self.compare(base))))
    }

    /// Works out what the streams that are at `previous` are about to ask for, so that no client waits for it.
    pub(super) fn follow(&self, previous: &Self) {
        drop(self.changes_since(Some(previous)));
        if previous.sotw.get().is_some() {
            drop(self.sotw());
        }
    }

    fn compare(&self, base: Option<&Self>) -> Changes {
        let mut changes = Changes::default();
        let mut old = base.into_iter().flat_map(Self::iter).peekable();
        for new in self.iter() {
            while let Some(gone) = old.next_if(|old| old.name() < new.name()) {
                changes.removed.push(Arc::clone(gone.name()));
            }
            let known = old.next_if(|old| old.name() == new.name());
            if known.map(Encoded::version) != Some(new.version()) {
                changes.upserts.push(new.clone());
            }
        }
        changes.removed.extend(old.map(|gone| Arc::clone(gone.name())));
        changes
    }
}

impl fmt::Debug for ResourceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceSet").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The difference between two sets.
#[derive(Debug, Default)]
pub struct Changes {
    upserts: Vec<Encoded>,
    removed: Vec<Arc<str>>,
    sotw: OnceLock<Bytes>,
    delta: OnceLock<Bytes>,
}

impl Changes {
    /// Resources that are new or different, sorted by name.
    #[must_use]
    pub fn upserts(&self) -> &[Encoded] {
        &self.upserts
    }

    /// Names that are gone, sorted.
    #[must_use]
    pub fn removed(&self) -> &[Arc<str>] {
        &self.removed
    }

    /// How many names differ.
    #[must_use]
    pub fn len(&self) -> usize {
        self.upserts.len() + self.removed.len()
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this name differs.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.upserts.binary_search_by(|one| (**one.name()).cmp(name)).is_ok()
            || self.removed.binary_search_by(|one| (**one).cmp(name)).is_ok()
    }

    /// The names that differ.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.upserts.iter().map(Encoded::name).chain(&self.removed)
    }

    /// The upserts as `resources` fields of a `DiscoveryResponse`.
    #[must_use]
    pub fn sotw(&self) -> Bytes {
        self.sotw.get_or_init(|| concat(self.upserts.iter().map(Encoded::sotw))).clone()
    }

    /// The upserts as `resources` fields of a `DeltaDiscoveryResponse`.
    #[must_use]
    pub fn delta(&self) -> Bytes {
        self.delta.get_or_init(|| concat(self.upserts.iter().map(Encoded::delta))).clone()
    }
}

/// One piece for all, so that a stream writes one frame and not one for each resource.
fn concat<'a>(pieces: impl ExactSizeIterator<Item = &'a Bytes> + Clone) -> Bytes {
    if pieces.len() == 1 {
        return pieces.map(Bytes::clone).next().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(pieces.clone().map(Bytes::len).sum());
    pieces.for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}
