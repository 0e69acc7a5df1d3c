//! What a client wants of one resource type (xDS protocol, "How the client specifies what resources to return").

use crate::snapshot::{Encoded, ResourceSet};
use std::sync::Arc;

/// The name that means all resources.
pub(super) const WILDCARD: &str = "*";

/// Wildcard, names, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Sorted, each once. A slice and not a tree: ten thousand names of a thousand clients are most of the memory.
    names: Box<[Arc<str>]>,
    /// Of all names.
    bytes: usize,
    wildcard: bool,
    /// Whether the client has ever named something. Before that, an empty list is a wildcard for types that have one;
    /// afterwards it is an empty list.
    explicit: bool,
}

impl Subscription {
    /// State of the world: each request repeats the whole subscription. Gives the names that are new in it.
    pub(super) fn replace(&mut self, names: &[String], full_state: bool) -> Vec<Arc<str>> {
        if self.repeats(names) {
            return Vec::new();
        }
        // Some clients send one empty name for "none".
        let mut sorted: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        if sorted.is_empty() && !self.explicit {
            self.wildcard = full_state;
            return Vec::new();
        }
        self.explicit = true;
        sorted.sort_unstable();
        sorted.dedup();
        self.wildcard = sorted.contains(&WILDCARD);
        sorted.retain(|name| *name != WILDCARD);
        let mut added = Vec::new();
        let names = sorted.into_iter().map(|name| match self.find(name) {
            Some(known) => Arc::clone(known),
            None => {
                let name: Arc<str> = name.into();
                added.push(Arc::clone(&name));
                name
            }
        });
        let names = names.collect();
        self.keep(names);
        added
    }

    /// Whether a request only says again what is known: ACKs do, with thousands of names.
    fn repeats(&self, names: &[String]) -> bool {
        self.explicit
            && !self.wildcard
            && self.names.len() == names.len()
            && self.names.iter().zip(names).all(|(known, name)| **known == **name)
    }

    /// Delta: the first request of a type; one that names nothing is a wildcard for types that have one.
    pub(super) fn begin_delta(&mut self, subscribe: &[String], unsubscribe: &[String], full_state: bool) {
        if subscribe.is_empty() && unsubscribe.is_empty() {
            self.wildcard = full_state;
        }
    }

    /// Delta: adds names, and the wildcard if it is among them.
    pub(super) fn add(&mut self, names: &[String]) {
        self.wildcard |= names.iter().any(|name| name == WILDCARD);
        let new = names.iter().filter(|name| *name != WILDCARD && !self.names_it(name));
        let new: Vec<Arc<str>> = new.map(|name| name.as_str().into()).collect();
        if !new.is_empty() {
            let mut all: Vec<Arc<str>> = self.names.iter().cloned().chain(new).collect();
            all.sort_unstable();
            all.dedup();
            self.keep(all.into());
        }
    }

    /// Delta: takes names, and the wildcard if it is among them, out. Gives the names that were there.
    pub(super) fn remove(&mut self, names: &[String]) -> Vec<Arc<str>> {
        if names.iter().any(|name| name == WILDCARD) {
            self.wildcard = false;
        }
        let mut gone: Vec<Arc<str>> = names.iter().filter_map(|name| self.find(name).cloned()).collect();
        if !gone.is_empty() {
            gone.sort_unstable();
            gone.dedup();
            let stays = |name: &&Arc<str>| gone.binary_search(name).is_err();
            let names = self.names.iter().filter(stays).cloned().collect();
            self.keep(names);
        }
        gone
    }

    pub(super) const fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    pub(super) const fn is_empty(&self) -> bool {
        !self.wildcard && self.names.is_empty()
    }

    /// How many names there are.
    pub(super) const fn len(&self) -> usize {
        self.names.len()
    }

    /// The bytes of all names.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn keep(&mut self, names: Box<[Arc<str>]>) {
        self.bytes = names.iter().map(|name| name.len()).sum();
        self.names = names;
    }

    /// Names asked for one by one, sorted.
    pub(super) const fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    pub(super) fn names_it(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names_it(name)
    }

    /// Whether it means exactly what is in the set, so that nothing of the set need be picked out.
    pub(super) fn is_whole(&self, set: &ResourceSet) -> bool {
        let named = || set.iter().zip(&self.names).all(|(one, name)| one.name() == name);
        self.wildcard || (self.names.len() == set.len() && named())
    }

    /// The resources of the set that are subscribed, each once, sorted by name.
    pub(super) fn view<'a>(&'a self, set: &'a ResourceSet) -> Box<dyn Iterator<Item = &'a Encoded> + 'a> {
        if self.wildcard {
            Box::new(set.iter())
        } else {
            Box::new(self.names.iter().filter_map(|name| set.get(name)))
        }
    }

    /// The name as it is kept.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<str>> {
        self.names.get(self.names.binary_search_by(|known| (**known).cmp(name)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn replaced(subscription: &mut Subscription, names: &[&str]) -> (bool, Vec<String>) {
        subscription.replace(&texts(names), true);
        (subscription.is_wildcard(), subscription.names().iter().map(ToString::to_string).collect())
    }

    /// The example sequence of "How the client specifies what resources to return".
    #[test]
    fn the_legacy_wildcard_never_comes_back() {
        let mut subscription = Subscription::default();
        assert_eq!(replaced(&mut subscription, &[]), (true, vec![]));
        assert_eq!(replaced(&mut subscription, &["*", "A"]), (true, vec!["A".into()]));
        assert_eq!(replaced(&mut subscription, &["A"]), (false, vec!["A".into()]));
        assert_eq!(replaced(&mut subscription, &[]), (false, vec![]));
    }

    #[test]
    fn types_without_wildcard_start_with_nothing() {
        let mut subscription = Subscription::default();
        subscription.replace(&[], false);
        assert!(!subscription.is_wildcard());
        subscription.begin_delta(&[], &[], false);
        assert!(!subscription.is_wildcard());
    }

    #[test]
    fn one_empty_name_is_no_name() {
        let mut subscription = Subscription::default();
        replaced(&mut subscription, &["A"]);
        assert_eq!(replaced(&mut subscription, &[""]), (false, vec![]));
    }

    #[test]
    fn names_are_sorted_and_single_in_any_order_of_requests() {
        let mut subscription = Subscription::default();
        assert_eq!(replaced(&mut subscription, &["B", "A", "B"]), (false, vec!["A".into(), "B".into()]));
        assert_eq!(subscription.replace(&texts(&["C", "A"]), true), ["C".into()]);
        subscription.add(&texts(&["B", "A", "B"]));
        assert_eq!(subscription.names(), ["A".into(), "B".into(), "C".into()]);
        assert_eq!(subscription.remove(&texts(&["C", "X", "A", "A"])), ["A".into(), "C".into()]);
        assert_eq!(subscription.names(), ["B".into()]);
    }
}
