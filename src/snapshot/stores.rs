//! The stores of all groups of clients, by the groups' names.

use super::{Published, Store, Version, version_of_all};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// One store for each group. A group that is gone leaves its store to whoever still follows it.
#[derive(Debug, Default)]
pub struct Stores(RwLock<BTreeMap<Arc<str>, Arc<Store>>>);

impl Stores {
    /// The store of a group.
    #[must_use]
    pub fn get(&self, group: &str) -> Option<Arc<Store>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(group).cloned()
    }

    /// The store of a group, made if there is none.
    #[must_use]
    pub fn open(&self, group: &Arc<str>) -> Arc<Store> {
        let mut stores = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(stores.entry(Arc::clone(group)).or_default())
    }

    /// Gives up the stores of groups that are not among these.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|group, _| keep(group));
    }

    /// What is in force for a group.
    #[must_use]
    pub fn current(&self, group: &str) -> Option<Published> {
        self.get(group)?.current()
    }

    /// What is in force, by group.
    #[must_use]
    pub fn all(&self) -> BTreeMap<Arc<str>, Published> {
        let stores = self.0.read().unwrap_or_else(PoisonError::into_inner);
        stores.iter().filter_map(|(group, store)| Some((Arc::clone(group), store.current()?))).collect()
    }

    /// A hash over everything that is in force: of the one group, or of all.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        Self::version_of(&self.all())
    }

    /// The same of what was in force at one look.
    #[must_use]
    pub fn version_of(all: &BTreeMap<Arc<str>, Published>) -> Option<Version> {
        let mut versions = all.values().map(|published| published.snapshot.version());
        match all.len() {
            0 => None,
            1 => versions.next().cloned(),
            _ => Some(version_of_all(versions)),
        }
    }
}
