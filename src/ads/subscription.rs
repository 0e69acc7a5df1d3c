//! What a client wants of one resource type (xDS protocol, "How the client specifies what resources to return").

use crate::snapshot::{Encoded, ResourceSet};
use std::collections::BTreeSet;

/// The name that means all resources.
pub(super) const WILDCARD: &str = "*";

/// Wildcard, names, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    names: BTreeSet<String>,
    wildcard: bool,
    /// Whether the client has ever named something. Before that, an empty list is a wildcard for types that have one;
    /// afterwards it is an empty list.
    explicit: bool,
}

impl Subscription {
    /// State of the world: each request repeats the whole subscription.
    pub(super) fn replace(&mut self, names: &[String], full_state: bool) {
        // Some clients send one empty name for "none".
        let mut names: BTreeSet<String> = names.iter().filter(|name| !name.is_empty()).cloned().collect();
        if names.is_empty() && !self.explicit {
            self.wildcard = full_state;
            return;
        }
        self.explicit = true;
        self.wildcard = names.remove(WILDCARD);
        self.names = names;
    }

    /// Delta: the first request of a type; one that names nothing is a wildcard for types that have one.
    pub(super) fn begin_delta(&mut self, subscribe: &[String], unsubscribe: &[String], full_state: bool) {
        if subscribe.is_empty() && unsubscribe.is_empty() {
            self.wildcard = full_state;
        }
    }

    /// Delta: adds a name or the wildcard.
    pub(super) fn add(&mut self, name: &str) {
        if name == WILDCARD {
            self.wildcard = true;
        } else {
            self.names.insert(name.to_owned());
        }
    }

    /// Delta: takes a name or the wildcard out. Gives whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        if name == WILDCARD { std::mem::take(&mut self.wildcard) } else { self.names.remove(name) }
    }

    pub(super) const fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Names asked for one by one.
    pub(super) const fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// The resources of the set that are subscribed, each once, sorted by name.
    pub(super) fn view<'a>(&'a self, set: &'a ResourceSet) -> Box<dyn Iterator<Item = &'a Encoded> + 'a> {
        if self.wildcard {
            Box::new(set.iter())
        } else {
            Box::new(self.names.iter().filter_map(|name| set.get(name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(subscription: &mut Subscription, names: &[&str]) -> (bool, Vec<String>) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        subscription.replace(&names, true);
        (subscription.is_wildcard(), subscription.names().iter().cloned().collect())
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
}
