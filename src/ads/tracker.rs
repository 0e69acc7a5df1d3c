//! What one client has of one type, and what it lacks: common to both protocol variants.
//!
//! A client normally has what one set holds for its subscription, so that set is all there is to remember: nothing is
//! kept by name and stream but exceptions, and what differs from the next set is worked out once for all streams.

use super::{outstanding::Names, subscription::Subscription};
use crate::snapshot::{Changes, Encoded, ResourceKind, ResourceSet, Version};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Missing names that are answered at a time: making an answer is work, and only a client in earnest has few.
const MAX_FALLBACKS: usize = 256;

/// What may be sent now.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Whether removals may be, too. Clusters go only when no route leads to them any more (R-C17b).
    pub removals: bool,
    /// Whether what is sent takes something away that was allowed: then nothing may hold it back (R-C17c).
    pub urgent: bool,
    /// Until when changes wait for clusters to get warm. What a client asks for anew does not wait.
    pub gate: Option<Instant>,
}

impl Pass {
    pub(super) const URGENT: Self = Self { removals: true, urgent: true, gate: None };
}

/// What a client has of one type.
#[derive(Debug, Default)]
pub struct Tracker {
    pub(super) subscription: Subscription,
    /// The client has what this set holds for its subscription...
    base: Option<Arc<ResourceSet>>,
    /// ...except for these names: it has or may have this version, or lacks the resource.
    except: BTreeMap<Arc<str>, Option<Version>>,
    /// Names to send although the client may have them: it asked again ("must still provide").
    /// Sorted, each once.
    asked: Vec<Arc<str>>,
    /// Names in a rejected response. Parts of it may be in force or not, so they go out again with the next change
    /// (R-D22), but are no reason to send anything: that would be a loop (R-C12). With the nonce of that response: one
    /// that was sent later and accepted tells what the client has.
    doubted: BTreeMap<Arc<str>, u64>,
    /// An answer is due even if nothing is in it.
    pub(super) due: bool,
    /// Whether the last look found anything unsent.
    pub(super) behind: bool,
    /// The client came with what an earlier stream had brought it, so there may be traffic to lose.
    pub(super) resumed: bool,
}

/// What is to be sent.
#[derive(Debug)]
pub(super) enum Batch {
    /// All that differs between two sets: shared with every stream that goes the same way.
    Shared(Arc<Changes>),
    /// For this client alone.
    Own { upserts: Vec<Encoded>, removed: Vec<Arc<str>> },
}

impl Batch {
    pub(super) fn adds(&self) -> bool {
        match self {
            Self::Shared(changes) => !changes.upserts().is_empty(),
            Self::Own { upserts, .. } => !upserts.is_empty(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Shared(changes) => changes.is_empty(),
            Self::Own { upserts, removed } => upserts.is_empty() && removed.is_empty(),
        }
    }

    pub(super) fn removed(&self) -> &[Arc<str>] {
        match self {
            Self::Shared(changes) => changes.removed(),
            Self::Own { removed, .. } => removed,
        }
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Self::Shared(changes) => changes.upserts().len(),
            Self::Own { upserts, .. } => upserts.len(),
        }
    }

    pub(super) fn sotw(&self) -> Vec<Bytes> {
        match self {
            Self::Shared(changes) => vec![changes.sotw()],
            Self::Own { upserts, .. } => upserts.iter().map(|one| one.sotw().clone()).collect(),
        }
    }

    pub(super) fn delta(&self) -> Vec<Bytes> {
        match self {
            Self::Shared(changes) => vec![changes.delta()],
            Self::Own { upserts, .. } => upserts.iter().map(|one| one.delta().clone()).collect(),
        }
    }

    pub(super) fn names(&self) -> Names {
        match self {
            Self::Shared(changes) => Names::Changed(Arc::clone(changes)),
            Self::Own { upserts, removed } => {
                Names::Listed(upserts.iter().map(Encoded::name).chain(removed).cloned().collect())
            }
        }
    }
}

/// What there is to send, and what of it must wait.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) batch: Batch,
    /// Removals that may not be sent yet.
    pub(super) held: Vec<Arc<str>>,
    /// Names whose turn comes with the next response.
    deferred: Vec<Arc<str>>,
    reach: Reach,
}

/// How far a plan brings the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It gets what it asked for, and nothing else.
    Asked,
    /// To the set that the plan was made for.
    Set,
    /// To the set, and nothing is in doubt any more.
    SetAndDoubted,
}

impl Plan {
    /// Of changes that every stream shares, or none.
    fn shared(changes: Arc<Changes>) -> Self {
        Self { batch: Batch::Shared(changes), held: Vec::new(), deferred: Vec::new(), reach: Reach::Set }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Whether a client that accepts it has the whole set.
    pub(super) fn is_complete(&self) -> bool {
        self.reach != Reach::Asked && self.held.is_empty() && self.deferred.is_empty()
    }
}

impl Tracker {
    /// Whether a rejection left anything that is not known.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// The version of a resource that the client has, as far as can be known.
    fn has(&self, name: &str) -> Option<&Version> {
        match self.except.get(name) {
            Some(version) => version.as_ref(),
            None => self.base.as_ref()?.get(name).map(Encoded::version),
        }
    }

    /// What the client had in the last complete response, if it still has it.
    pub(super) fn had(&self, name: &str) -> Option<&Encoded> {
        self.base.as_ref()?.get(name)
    }

    /// Whether the client was brought to another set than this.
    pub(super) fn has_moved(&self, set: &ResourceSet) -> bool {
        self.base.as_ref().is_some_and(|base| base.version() != set.version())
    }

    /// Whether the client wants nothing that is in the set.
    pub(super) fn wants_nothing_of(&self, set: &ResourceSet) -> bool {
        self.subscription.view(set).next().is_none()
    }

    /// Whether an answer may wait for clusters to get warm. What a client asks for anew may not; on a new stream, one
    /// that comes with what it had may, and must not be led to clusters that it does not have.
    pub(super) const fn may_wait(&self) -> bool {
        !self.due || (self.is_new() && self.resumed)
    }

    /// Whether the client was ever answered.
    pub(super) const fn is_new(&self) -> bool {
        self.base.is_none()
    }

    /// Whether there is nothing in `set` that the client was not sent.
    pub(super) fn is_at(&self, set: &ResourceSet) -> bool {
        let same = self.base.as_ref().is_some_and(|base| base.version() == set.version());
        same && self.except.is_empty() && self.asked.is_empty() && !self.due
    }

    /// The client says what it has from an earlier stream.
    pub(super) fn claims<'a>(&mut self, versions: impl Iterator<Item = (&'a String, &'a String)>) {
        let claim =
            |(name, version): (&String, &String)| (name.as_str().into(), Some(version.as_str().into()));
        self.except = versions.map(claim).collect();
    }

    /// What the response `nonce` left at the client is not known: it was rejected, or is given up waiting for. Before the
    /// first answer on a stream that is a reason to send.
    pub(super) fn doubt(&mut self, nonce: u64, names: impl IntoIterator<Item = Arc<str>>) {
        for name in names {
            // Whoever rejects the answer to a name that does not exist has nothing of it.
            let base = self.base.as_ref();
            let invented = base.is_some_and(|base| base.has_fallback() && base.get(&name).is_none());
            if invented && self.subscription.names_it(&name) {
                continue;
            }
            if self.is_new() {
                // No version is like it. A name that is gone must be reported.
                self.except.insert(name, Some(Version::default()));
            } else {
                self.doubted.insert(name, nonce);
            }
        }
    }

    /// The client accepted the response `nonce`, so what it has of these names is known, whatever became of responses
    /// before it.
    pub(super) fn accepted(&mut self, nonce: u64, names: &Names) {
        if self.doubted.is_empty() {
            return;
        }
        for name in names.iter() {
            if self.doubted.get(name).is_some_and(|doubted| *doubted < nonce) {
                self.doubted.remove(name);
            }
        }
    }

    /// The client wants these names sent, whether or not it has them.
    pub(super) fn ask(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        self.asked.extend(names);
        self.asked.sort_unstable();
        self.asked.dedup();
    }

    /// The client wants all names that it named sent.
    pub(super) fn ask_for_all_named(&mut self) {
        self.asked = self.subscription.names().to_vec();
    }

    /// The wildcard is new, or asked for again: everything counts as unsent. Of what was `covered` before, is doubted or
    /// is still `unanswered`, the client may have anything: a name of these that is gone must be reported.
    pub(super) fn forget<'a>(
        &mut self,
        covered: &Subscription,
        unanswered: impl Iterator<Item = &'a Arc<str>>,
    ) {
        let base = self.base.take();
        let had = base.iter().flat_map(|base| covered.view(base)).map(|one| Arc::clone(one.name()));
        let known = had.chain(unanswered.cloned()).chain(std::mem::take(&mut self.doubted).into_keys());
        self.except.extend(known.map(|name| (name, Some(Version::default()))));
        self.except.values_mut().flatten().for_each(|version| *version = Version::default());
    }

    /// What is not subscribed is the client's own business.
    pub(super) fn drop_unsubscribed(&mut self) {
        let subscription = &self.subscription;
        self.except.retain(|name, _| subscription.covers(name));
        self.asked.retain(|name| subscription.covers(name));
        self.doubted.retain(|name, _| subscription.covers(name));
    }

    /// Works out what brings the client to `set`.
    pub(super) fn plan(&self, kind: ResourceKind, set: &ResourceSet, removals: bool) -> Plan {
        if self.is_at(set) && self.doubted.is_empty() {
            return Plan::shared(Arc::default());
        }
        let changes = set.changes_since(self.base.as_deref());
        let plain = self.except.is_empty() && self.doubted.is_empty();
        // Removals concern every client of the wildcard; those of names that also have a fallback are no removals.
        let no_removals = changes.removed().is_empty()
            || (removals && self.subscription.is_wildcard() && !set.has_fallback());
        if plain
            && no_removals
            && self.asked.iter().all(|name| changes.has(name))
            && self.subscription.is_whole(set)
        {
            return Plan::shared(changes);
        }
        let mut names = self.candidates(&changes, set.has_fallback());
        let plan = self.pick(kind, set, &names, removals);
        let Batch::Own { upserts, removed } = &plan.batch else { return plan };
        let mut due = upserts.iter().map(Encoded::name).chain(removed);
        if self.doubted.is_empty() || due.all(|name| self.asked.binary_search(name).is_ok()) {
            return plan;
        }
        // Something that the client wants has changed, so what is doubted goes out again.
        names.extend(self.doubted.keys().cloned());
        names.sort_unstable();
        names.dedup();
        Plan { reach: Reach::SetAndDoubted, ..self.pick(kind, set, &names, removals) }
    }

    /// Works out what the client has asked for, and nothing else.
    pub(super) fn plan_asked(&self, kind: ResourceKind, set: &ResourceSet) -> Plan {
        Plan { reach: Reach::Asked, ..self.pick(kind, set, &self.asked, true) }
    }

    /// The names that may have to be sent, sorted, each once.
    fn candidates(&self, changes: &Changes, set_has_fallback: bool) -> Vec<Arc<str>> {
        let subscription = &self.subscription;
        let named = subscription.names().iter();
        let mut names: Vec<Arc<str>> = if subscription.is_wildcard() {
            changes.names().cloned().collect()
        } else if changes.len() < named.len() {
            changes.names().filter(|name| subscription.names_it(name)).cloned().collect()
        } else {
            named.clone().filter(|name| changes.has(name)).cloned().collect()
        };
        if self.is_new() && set_has_fallback {
            names.extend(named.cloned());
        }
        names.extend(self.except.keys().chain(&self.asked).cloned());
        names.sort_unstable();
        names.dedup();
        names
    }

    fn pick(&self, kind: ResourceKind, set: &ResourceSet, names: &[Arc<str>], removals: bool) -> Plan {
        let (mut upserts, mut removed, mut held) = (Vec::new(), Vec::new(), Vec::new());
        let mut deferred = Vec::new();
        let mut fallbacks = 0;
        for name in names {
            let (asked, doubted) = (self.asked.binary_search(name).is_ok(), self.doubted.contains_key(name));
            let mut resource = set.get(name).cloned();
            if resource.is_none() && set.has_fallback() && self.subscription.names_it(name) {
                // What the client has is replaced at once: it may be an allowing table.
                if fallbacks >= MAX_FALLBACKS && self.has(name).is_none() {
                    deferred.push(Arc::clone(name));
                    continue;
                }
                fallbacks += 1;
                resource = set.resolve(name);
            }
            match resource {
                Some(resource) if asked || doubted || self.has(name) != Some(resource.version()) => {
                    upserts.push(resource)
                }
                Some(_) => {}
                // "Knowing When a Requested Resource Does Not Exist". Not for routes that were never there: Envoy 1.40
                // then never gets ready.
                None if doubted
                    || self.has(name).is_some()
                    || (asked && kind != ResourceKind::RouteConfiguration) =>
                {
                    // Nothing can lead to what the client never had.
                    let free = removals || (!doubted && self.has(name).is_none());
                    if free { removed.push(Arc::clone(name)) } else { held.push(Arc::clone(name)) }
                }
                None => {}
            }
        }
        Plan { batch: Batch::Own { upserts, removed }, held, deferred, reach: Reach::Set }
    }

    /// What was planned is on its way, or there was nothing to send.
    pub(super) fn commit(&mut self, set: &Arc<ResourceSet>, plan: &Plan) {
        // Sorted, each once, as the names were that the plan was made of.
        self.asked = plan.deferred.clone();
        if plan.reach == Reach::Asked {
            if let Batch::Own { upserts, removed } = &plan.batch {
                let sent =
                    upserts.iter().map(|one| (Arc::clone(one.name()), Some(Arc::clone(one.version()))));
                let gone = removed.iter().map(|name| (Arc::clone(name), None));
                self.except.extend(sent.chain(gone));
            }
            return;
        }
        let held = plan
            .held
            .iter()
            .map(|name| (Arc::clone(name), Some(self.has(name).cloned().unwrap_or_default())));
        self.except = held.collect();
        if plan.reach == Reach::SetAndDoubted {
            self.doubted.clear();
        }
        self.base = Some(Arc::clone(set));
        self.behind = !self.except.is_empty() || !self.asked.is_empty();
        self.due = false;
    }
}
