//! What rejected responses left behind, beyond the life of a stream.
//!
//! Envoy applies the good part of a rejected response and reports none of it when it comes back: neither what it took
//! nor what it dropped. So the names in a rejected response are kept by node, and sent again on its next stream
//! (R-D22).

use crate::snapshot::ResourceKind;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Nodes and types that are remembered, and bytes of all names together. A client invents node ids at will; past
/// this the oldest are forgotten.
const MAX_ENTRIES: usize = 4096;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What a name costs beside its bytes.
const OVERHEAD: usize = 64;

type Key = (Arc<str>, ResourceKind);

/// The memory, shared by all streams.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Key, Entry>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    names: BTreeSet<Arc<str>>,
    /// Orders entries by when they were last added to.
    touched: u64,
}

impl Doubts {
    /// A node rejected a response with these names.
    pub(super) fn add<'a>(
        &self,
        node: &Arc<str>,
        kind: ResourceKind,
        names: impl Iterator<Item = &'a Arc<str>>,
    ) {
        let table = &mut *self.lock();
        table.clock += 1;
        let entry = table
            .entries
            .entry((Arc::clone(node), kind))
            .or_insert_with(|| Entry { names: BTreeSet::new(), touched: 0 });
        entry.touched = table.clock;
        for name in names {
            if entry.names.insert(Arc::clone(name)) {
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
    pub(super) fn settle<'a>(
        &self,
        node: &Arc<str>,
        kind: ResourceKind,
        names: impl Iterator<Item = &'a Arc<str>>,
    ) {
        let table = &mut *self.lock();
        let key = (Arc::clone(node), kind);
        let Some(entry) = table.entries.get_mut(&key) else { return };
        for name in names {
            if entry.names.remove(name) {
                table.bytes -= cost(name);
            }
        }
        if entry.names.is_empty() {
            table.forget(&key);
        }
    }

    /// The names that are in doubt.
    pub(super) fn of(&self, node: &Arc<str>, kind: ResourceKind) -> Vec<Arc<str>> {
        let table = self.lock();
        let entry = table.entries.get(&(Arc::clone(node), kind));
        entry.into_iter().flat_map(|entry| entry.names.iter().cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.names.iter().map(cost).sum::<usize>();
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

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|n| format!("r{n}").into()).collect()
    }

    #[test]
    fn an_ack_settles_its_own_names_only() {
        let (doubts, node) = (Doubts::default(), "n".into());
        doubts.add(&node, CDS, names(3).iter());
        doubts.settle(&node, CDS, names(1).iter());
        doubts.settle(&node, ResourceKind::Listener, names(3).iter());
        assert_eq!(doubts.of(&node, CDS), ["r1".into(), "r2".into()]);
        doubts.settle(&node, CDS, names(3).iter());
        assert!(doubts.of(&node, CDS).is_empty() && doubts.lock().bytes == 0);
    }

    #[test]
    fn invented_nodes_cost_bounded_memory() {
        let doubts = Doubts::default();
        for n in 0..=MAX_ENTRIES {
            doubts.add(&format!("n{n}").into(), CDS, names(2).iter());
        }
        assert!(doubts.of(&"n0".into(), CDS).is_empty());
        assert_eq!(doubts.of(&"n1".into(), CDS).len(), 2);
        let most = MAX_BYTES / (OVERHEAD + 8);
        doubts.add(&"large".into(), CDS, names(most).iter());
        assert!(doubts.lock().bytes <= MAX_BYTES);
        assert_eq!(doubts.of(&"large".into(), CDS).len(), most);
    }
}
