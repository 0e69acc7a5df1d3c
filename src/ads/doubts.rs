//! What rejected responses left behind, beyond the life of a stream.
//!
//! Envoy applies the good part of a rejected response and reports none of it when it comes back: neither what it took
//! nor what it dropped. So the names in a rejected response are kept by node, and sent again on its next stream
//! (R-D22). So are those in responses that a stream has not been answered: the next stream of the node may begin before
//! anybody notices that the one before is dead.

use super::outstanding::Names;
use crate::snapshot::ResourceKind;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Nodes and types that are remembered, and bytes of all names together. A client invents node ids at will; past
/// this the oldest are forgotten.
const MAX_ENTRIES: usize = 4096;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Of these, what one node may use for one type: nobody can make the others' be forgotten alone.
const MAX_ENTRY_BYTES: usize = 8 * 1024 * 1024;
/// What a name costs beside its bytes.
const OVERHEAD: usize = 64;

type Key = (Arc<str>, ResourceKind);

/// The memory, shared by all streams.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Table>,
    /// Whether there may be entries: normally there are none, and nobody need lock anything.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Key, Entry>,
    bytes: usize,
    clock: u64,
    /// The streams that are open, by node.
    streams: BTreeMap<Arc<str>, Vec<Arc<Unanswered>>>,
}

/// What a stream has sent and its client has not answered.
type Unanswered = Mutex<Vec<(ResourceKind, Names)>>;

#[derive(Debug)]
struct Entry {
    names: BTreeSet<Arc<str>>,
    bytes: usize,
    /// Orders entries by when they were last added to.
    touched: u64,
}

impl Doubts {
    /// A stream of a node begins, and ends when the result is dropped.
    pub(super) fn stream(&self, node: Arc<str>) -> StreamDoubts {
        let unanswered = Arc::<Unanswered>::default();
        self.lock().streams.entry(Arc::clone(&node)).or_default().push(Arc::clone(&unanswered));
        StreamDoubts { doubts: self.clone(), node, unanswered }
    }

    /// A node rejected a response with these names, or will never answer it.
    fn add<'a>(&self, node: &Arc<str>, kind: ResourceKind, names: impl Iterator<Item = &'a Arc<str>>) {
        let table = &mut *self.lock();
        self.shared.any.store(true, Ordering::Release);
        table.clock += 1;
        let entry = table.entries.entry((Arc::clone(node), kind)).or_insert_with(|| Entry {
            names: BTreeSet::new(),
            bytes: 0,
            touched: 0,
        });
        entry.touched = table.clock;
        for name in names {
            if entry.bytes + cost(name) > MAX_ENTRY_BYTES {
                break;
            }
            if entry.names.insert(Arc::clone(name)) {
                entry.bytes += cost(name);
                table.bytes += cost(name);
            }
        }
        while table.entries.len() > MAX_ENTRIES || table.bytes > MAX_BYTES {
            let oldest = table.entries.iter().min_by_key(|(_, entry)| entry.touched);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            table.forget(&oldest);
        }
    }

    /// A node accepted a response with these names: what it has of them is known again.
    fn settle<'a>(&self, node: &Arc<str>, kind: ResourceKind, names: impl Iterator<Item = &'a Arc<str>>) {
        let table = &mut *self.lock();
        let key = (Arc::clone(node), kind);
        let Some(entry) = table.entries.get_mut(&key) else { return };
        for name in names {
            if entry.names.remove(name) {
                entry.bytes -= cost(name);
                table.bytes -= cost(name);
            }
        }
        if entry.names.is_empty() {
            table.forget(&key);
            self.shared.any.store(!table.entries.is_empty(), Ordering::Release);
        }
    }

    /// The names that are in doubt, but for what the node has not answered on `stream`.
    fn of(&self, node: &Arc<str>, kind: ResourceKind, stream: &Arc<Unanswered>) -> Vec<Arc<str>> {
        let table = self.lock();
        let entry = table.entries.get(&(Arc::clone(node), kind));
        let mut names: Vec<Arc<str>> = entry.iter().flat_map(|entry| entry.names.iter().cloned()).collect();
        let others =
            table.streams.get(node).into_iter().flatten().filter(|other| !Arc::ptr_eq(other, stream));
        for other in others {
            let unanswered = other.lock().unwrap_or_else(PoisonError::into_inner);
            let of_kind = unanswered.iter().filter(|(other, _)| *other == kind);
            names.extend(of_kind.flat_map(|(_, names)| names.iter().cloned()));
        }
        names
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }
}

/// What one stream knows and leaves behind.
#[derive(Debug)]
pub(super) struct StreamDoubts {
    doubts: Doubts,
    node: Arc<str>,
    unanswered: Arc<Unanswered>,
}

impl StreamDoubts {
    /// The client rejected a response with these names.
    pub(super) fn rejected(&self, kind: ResourceKind, names: &Names) {
        self.doubts.add(&self.node, kind, names.iter());
    }

    /// The client accepted a response with these names.
    pub(super) fn accepted(&self, kind: ResourceKind, names: &Names) {
        if self.doubts.shared.any.load(Ordering::Acquire) {
            self.doubts.settle(&self.node, kind, names.iter());
        }
    }

    /// What the client has not answered now.
    pub(super) fn unanswered(&self, all: Vec<(ResourceKind, Names)>) {
        *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// The names that other streams of this client left in doubt.
    pub(super) fn of(&self, kind: ResourceKind) -> Vec<Arc<str>> {
        self.doubts.of(&self.node, kind, &self.unanswered)
    }
}

impl Drop for StreamDoubts {
    /// What the client made of responses that it has not answered will not be known.
    fn drop(&mut self) {
        let all = std::mem::take(&mut *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner));
        for (kind, names) in all {
            self.doubts.add(&self.node, kind, names.iter());
        }
        let table = &mut *self.doubts.lock();
        if let Some(streams) = table.streams.get_mut(&self.node) {
            streams.retain(|stream| !Arc::ptr_eq(stream, &self.unanswered));
            if streams.is_empty() {
                table.streams.remove(&self.node);
            }
        }
    }
}

fn cost(name: &Arc<str>) -> usize {
    name.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    const CDS: ResourceKind = ResourceKind::Cluster;

    fn names(count: usize) -> Names {
        Names::Listed((0..count).map(|n| format!("r{n}").into()).collect())
    }

    fn of(doubts: &Doubts, node: &str) -> Vec<Arc<str>> {
        doubts.stream(node.into()).of(CDS)
    }

    #[test]
    fn an_ack_settles_its_own_names_only() {
        let doubts = Doubts::default();
        let stream = doubts.stream("n".into());
        stream.rejected(CDS, &names(3));
        stream.accepted(CDS, &names(1));
        stream.accepted(ResourceKind::Listener, &names(3));
        assert_eq!(of(&doubts, "n"), ["r1".into(), "r2".into()]);
        stream.accepted(CDS, &names(3));
        assert!(of(&doubts, "n").is_empty() && doubts.lock().bytes == 0);
    }

    #[test]
    fn what_a_stream_was_not_answered_is_in_doubt_for_the_next_one() {
        let doubts = Doubts::default();
        let (dying, other) = (doubts.stream("n".into()), doubts.stream("m".into()));
        dying.unanswered(vec![(CDS, names(2))]);
        let next = doubts.stream("n".into());
        assert_eq!(next.of(CDS), ["r0".into(), "r1".into()]);
        assert!(next.of(ResourceKind::Listener).is_empty() && other.of(CDS).is_empty());
        assert!(dying.of(CDS).is_empty(), "its own are no doubts");
        drop(dying);
        assert_eq!(next.of(CDS), ["r0".into(), "r1".into()]);
        next.accepted(CDS, &names(2));
        drop((next, other));
        assert!(doubts.lock().streams.is_empty() && doubts.lock().entries.is_empty());
    }

    #[test]
    fn invented_nodes_cost_bounded_memory() {
        let doubts = Doubts::default();
        for n in 0..=MAX_ENTRIES {
            doubts.stream(format!("n{n}").into()).rejected(CDS, &names(2));
        }
        assert!(of(&doubts, "n0").is_empty());
        assert_eq!(of(&doubts, "n1").len(), 2);
        let most = MAX_BYTES / (OVERHEAD + 8);
        doubts.stream("large".into()).rejected(CDS, &names(most));
        assert!(doubts.lock().bytes <= MAX_ENTRY_BYTES + MAX_ENTRIES * 2 * (OVERHEAD + 2));
        assert_eq!(of(&doubts, "n2").len(), 2, "nobody is forgotten for one large entry");
    }
}
