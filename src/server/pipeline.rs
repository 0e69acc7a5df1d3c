//! The forward path: files → policy → resources → snapshot.
//!
//! Knows nothing of streams: it publishes into stores, and hears of sidecars only to log how far an edit has come.

use super::{
    ServerConfig,
    convergence::{self, Changes, Edit},
    files::{follow_includes, found, patterns},
    groups::{COMMON, SidecarGroups},
    own_ports::OwnPorts,
    state_dir::StateDir,
};
use crate::{
    admin::AllowlistState,
    allowlist::{Diagnostic, FileState, Ledger, Loaded, MAX_BYTES, OneLine, Severity, Snippet},
    envoy::{self, Profile},
    fleet::{Fleet, Kind, Tracking},
    metrics::{EditOutcome, Metrics},
    policy::{Policy, PolicyDiff, PolicySet, Timestamp},
    snapshot::{Published, ResourceKind, Snapshot, Stores, Urgency, Version},
    source::{Rescan, Watcher},
    telemetry::{self, LogFormat},
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

/// How often the clock is compared with the ends of entries: it may jump.
const CLOCK_TICK: Duration = Duration::from_secs(1);

/// Entries of one edit that are named because they make much possible.
const MOST_WIDENINGS: usize = 8;

/// Follows the files, and the clock.
#[derive(Debug)]
pub(super) struct Pipeline {
    watcher: Watcher,
    /// How many paths the operator named.
    named: usize,
    /// Whether it is known that others can change the files.
    accept_exposed: bool,
    core: Core,
}

/// Owns the files' state and is the only one that publishes.
#[derive(Debug)]
struct Core {
    ledger: Ledger,
    state_dir: Option<StateDir>,
    own_ports: OwnPorts,
    profile: Profile,
    log_format: LogFormat,
    outlets: Outlets,
    /// What the files say, with what has expired or will.
    policies: Option<PolicySet>,
    /// Of that, what is in force, and since when that is known.
    in_force: Option<(Arc<PolicySet>, Timestamp)>,
}

/// Where what is in force becomes known.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) stores: Arc<Stores>,
    pub(super) groups: Arc<SidecarGroups>,
    pub(super) fleet: Fleet,
    pub(super) metrics: Metrics,
    pub(super) states: watch::Sender<AllowlistState>,
    pub(super) policies: watch::Sender<Option<Arc<PolicySet>>>,
}

impl Pipeline {
    pub(super) fn new(config: &ServerConfig, own_ports: OwnPorts, outlets: Outlets) -> anyhow::Result<Self> {
        for range in config.profile.guard.lifted() {
            tracing::warn!(%range, "allowed names may lead to {range}: private and reserved addresses in it are not guarded");
            for own in own_ports.within(range) {
                tracing::warn!(%range, %own, "{own}, where exeat or its proxy listens, is in {range}: names may lead there");
            }
        }
        let state_dir = config.state_dir.as_deref().map(StateDir::open).transpose()?;
        let saved = state_dir.as_ref().map(StateDir::saved).unwrap_or_default();
        Ok(Self {
            watcher: Watcher::new(config.allowlists.clone(), MAX_BYTES),
            named: config.allowlists.len(),
            accept_exposed: config.accept_exposed_files,
            core: Core {
                ledger: Ledger::restoring(saved),
                state_dir,
                own_ports,
                profile: config.profile.clone(),
                log_format: config.log_format,
                outlets,
                policies: None,
                in_force: None,
            },
        })
    }

    /// Has the files looked at on demand.
    pub(super) fn rescan(&self) -> Rescan {
        self.watcher.rescan()
    }

    /// Takes in what is on disk at the start.
    pub(super) fn load(&mut self) {
        self.apply(Instant::now());
        if self.core.policies.is_none() {
            tracing::error!(
                "no resources are served until every allowlist file is valid; sidecars keep what they have, and exeat goes on watching"
            );
        }
    }

    /// Follows files and clock for ever.
    pub(super) async fn run(mut self) {
        loop {
            let noticed = {
                let changed = self.watcher.changed();
                tokio::pin!(changed);
                // A change that is settling must not be forgotten because the clock ticks.
                loop {
                    tokio::select! {
                        change = &mut changed => break change.noticed,
                        () = self.core.clock_moved() => {
                            tokio::task::block_in_place(|| self.core.apply(Instant::now()));
                        }
                    }
                }
            };
            // Large allowlists take a moment, in which streams go on.
            tokio::task::block_in_place(|| self.apply(noticed));
        }
    }

    /// Reads what is on disk, with everything that it includes, and puts it in force.
    fn apply(&mut self, noticed: Instant) {
        let (named, accept) = (self.named, self.accept_exposed);
        self.core.ledger.read(&found(self.watcher.current(), named, accept));
        let watcher = &mut self.watcher;
        follow_includes(&mut self.core.ledger, |included| {
            watcher.include(patterns(included));
            found(watcher.current(), named, accept)
        });
        self.core.apply(noticed);
    }
}

impl Core {
    /// Ends when something has expired, or the clock was set back.
    async fn clock_moved(&self) {
        loop {
            let now = Timestamp::of(SystemTime::now());
            let known = self.in_force.as_ref().map_or(now, |(_, known)| *known);
            let end = self.policies.as_ref().and_then(|policies| policies.next_end(known));
            if now < known || end.is_some_and(|end| end <= now) {
                return;
            }
            let wait = end.map(|end| end.system_time().duration_since(SystemTime::now()).unwrap_or_default());
            tokio::time::sleep(wait.unwrap_or(CLOCK_TICK).min(CLOCK_TICK)).await;
        }
    }

    fn apply(&mut self, noticed: Instant) {
        let now = Timestamp::of(SystemTime::now());
        let Loaded { policies, files, texts, settled } = self.ledger.settle(now);
        let before = self.outlets.states.borrow().files.clone();
        if policies.is_some() {
            self.policies = policies.map(|policies| self.own_ports.close(&policies));
        }
        // What a log line announces is already to be seen in the status.
        self.outlets.states.send_modify(|state| state.files.clone_from(&files));
        self.tell(&before, &files);
        let policies = self.policies.as_ref().map(|policies| policies.at(now));
        let entries = policies.as_ref().map_or(0, PolicySet::entries);
        let applied = policies.is_some_and(|policies| self.enforce(policies, now, noticed));
        // Who sees the new number of entries finds them served.
        self.outlets.states.send_modify(|state| {
            state.entries = entries;
            state.texts = texts;
            if applied {
                state.applied_at = Some(SystemTime::now());
            }
        });
        if let Some(state_dir) = self.state_dir.as_mut().filter(|_| settled) {
            state_dir.save(self.ledger.last_good());
        }
    }

    /// Publishes policies. Gives whether anything that is served changed.
    fn enforce(&mut self, policies: PolicySet, now: Timestamp, noticed: Instant) -> bool {
        let old = self.in_force.take();
        if let Some((old, _)) = old.as_ref().filter(|(old, _)| **old == policies) {
            self.in_force = Some((Arc::clone(old), now));
            return false;
        }
        let policies = Arc::new(policies);
        let (first, nothing) = (old.is_none(), Arc::default());
        let old = old.map_or(nothing, |(old, _)| old);
        let entries = policies.entries();
        let edit = Edit { noticed, entries, change: Changes::of(&old, &policies) };
        let mut trackings = Vec::new();
        // Who comes to a new agent finds it served; who leaves an agent does so before that is told anything that is not for
        // them; then everybody gets what is new.
        let (known, new): (Vec<_>, Vec<_>) = edit
            .change
            .groups()
            .filter_map(|(group, change)| Some((group, change, policies.policy(name_of(group))?)))
            .partition(|(group, ..)| self.outlets.stores.current(group).is_some());
        for (group, change, policy) in new {
            trackings.extend(self.publish(group, None, policy, change, first));
        }
        self.outlets.groups.set_policies(Arc::clone(&policies));
        for (group, change, policy) in known {
            trackings.extend(self.publish(group, old.policy(name_of(group)), policy, change, first));
        }
        if !first {
            edit.change.told().for_each(|(group, change)| warn_of_widening(group, change));
        }
        self.outlets.policies.send_replace(self.policies.clone().map(Arc::new));
        self.in_force = Some((policies, now));
        self.outlets.metrics.edit(EditOutcome::Applied);
        if first {
            let nothing = if entries == 0 { ": everything is denied" } else { "" };
            tracing::info!(entries, "serving {entries} allowlist entries{nothing}");
        } else if trackings.is_empty() {
            let change = &edit.change;
            let nothing = if change.moves() {
                "sidecars that it concerns reconnect"
            } else {
                "nothing changes at the sidecars"
            };
            tracing::info!(entries, "allowlist edit: {change}; {nothing}");
        } else {
            tokio::spawn(convergence::report(trackings, self.outlets.metrics.clone(), edit));
        }
        true
    }

    /// Publishes the policy of one group. Gives how far that has come if it is anything to the sidecars.
    fn publish(
        &self,
        group: &Arc<str>,
        old: Option<&Policy>,
        policy: &Policy,
        change: &PolicyDiff,
        first: bool,
    ) -> Option<Tracking> {
        let store = self.outlets.stores.open(group);
        let previous = store.current();
        if previous.is_some() && old == Some(policy) {
            return None;
        }
        let resources = envoy::compile(policy, &self.profile);
        let before = previous.as_ref().map(|published| &*published.snapshot);
        let snapshot = Snapshot::new(resources, &envoy::fallbacks(), before);
        // Sidecars come to a new agent from a policy that may have been wider.
        let urgency = match old {
            Some(old) => self.urgency(old, policy, change, before, &snapshot),
            None if first => Urgency::Additions,
            None => Urgency::Tightening,
        };
        let published = store.publish(snapshot, urgency)?;
        tracing::debug!(%group, "published version {}", published.snapshot.version());
        let changed = changed_kinds(previous.as_ref(), &published);
        let key = (Arc::clone(group), published.edit.number());
        Some(self.outlets.fleet.track(key, published.at, changed))
    }

    /// What an edit takes away goes out at once. Only if it also adds what needs clusters or chains that are not there yet
    /// does that part of it go first, as an edit of its own.
    fn urgency(
        &self,
        old: &Policy,
        new: &Policy,
        change: &PolicyDiff,
        before: Option<&Snapshot>,
        after: &Snapshot,
    ) -> Urgency {
        if !change.closes {
            return Urgency::Additions;
        }
        let led_to = |snapshot: &Snapshot| {
            let version = |kind| snapshot.set(kind).map(|set| Arc::clone(set.version()));
            [version(ResourceKind::Cluster), version(ResourceKind::Listener)]
        };
        if !change.opens || before.map(led_to) == Some(led_to(after)) {
            return Urgency::Tightening;
        }
        let resources = envoy::compile(&new.narrowed_to(old), &self.profile);
        Urgency::Split(Box::new(Snapshot::new(resources, &envoy::fallbacks(), Some(after))))
    }

    /// Logs what is newly wrong with the files, and what is mended.
    fn tell(&self, before: &[FileState], now: &[FileState]) {
        for file in now {
            let old = before.iter().find(|old| old.path == file.path);
            if old == Some(file) {
                continue;
            }
            file.diagnostics.iter().for_each(|found| self.log(found));
            if !file.in_force {
                self.outlets.metrics.edit(EditOutcome::Rejected);
                if self.policies.is_some() {
                    let path = &file.path;
                    tracing::error!(%path, "{path} is not applied; what it allowed before stays in force");
                }
            } else if old.is_some_and(|old| !old.in_force) {
                let path = &file.path;
                tracing::info!(%path, "{path} is valid again");
            }
        }
    }

    fn log(&self, found: &Diagnostic) {
        let (line, column) = found.span.as_ref().map_or((0, 0), |span| (span.line, span.column));
        let path = &found.source.path;
        let (code, help) = (found.code, found.help.as_deref().unwrap_or_default());
        match (self.log_format, found.severity) {
            (LogFormat::Text, severity) => {
                let snippet = Snippet { diagnostic: found, colour: telemetry::colour() };
                match severity {
                    Severity::Error => tracing::error!("{}\n{snippet}", found.place()),
                    Severity::Warning => tracing::warn!("{}\n{snippet}", found.place()),
                }
            }
            (LogFormat::Json, Severity::Error) => {
                tracing::error!(%path, line, column, code, help, "{}", OneLine(found));
            }
            (LogFormat::Json, Severity::Warning) => {
                tracing::warn!(%path, line, column, code, help, "{}", OneLine(found));
            }
        }
    }
}

/// The agent of a group; nothing for sidecars that are none.
fn name_of(group: &str) -> Option<&str> {
    (group != COMMON).then_some(group)
}

/// An edit that makes more possible than hosts by their names is worth a second look, whoever made it.
fn warn_of_widening(group: &str, change: &PolicyDiff) {
    for (entry, widening) in change.widening.iter().take(MOST_WIDENINGS) {
        let what = widening.as_str();
        tracing::warn!(%entry, widening = what, group, "look twice at what the edit opens: {entry} ({what})");
    }
    if let Some(more) = change.widening.len().checked_sub(MOST_WIDENINGS).filter(|more| *more > 0) {
        tracing::warn!(group, "look twice at what the edit opens: {more} more like these");
    }
}

/// The types whose set differs, with the new version.
fn changed_kinds(before: Option<&Published>, after: &Published) -> Vec<(Kind, Version)> {
    let version =
        |published: &Published, kind| published.snapshot.set(kind).map(|set| Arc::clone(set.version()));
    let changed = ResourceKind::ALL.into_iter().filter_map(|kind| {
        let new = version(after, kind)?;
        let old = before.and_then(|before| version(before, kind));
        (old.as_ref() != Some(&new)).then_some((kind.as_str(), new))
    });
    changed.collect()
}
