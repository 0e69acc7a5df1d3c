//! The forward path: files → policy → resources → snapshot.

use super::{
    ServerConfig,
    convergence::{self, Edit},
    files::found,
    groups::{COMMON, SidecarGroups},
};
use crate::{
    admin::AllowlistState,
    allowlist::{Diagnostic, FileState, Ledger, Loaded, MAX_BYTES, OneLine, Severity, Snippet},
    envoy::{self, Profile},
    fleet::{Fleet, Kind},
    metrics::{EditOutcome, Metrics},
    policy::{Policy, PolicyDiff},
    snapshot::{Published, ResourceKind, Snapshot, Store, Urgency, Version},
    source::{Bundle, Rescan, Watcher},
    telemetry::{self, LogFormat},
};
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};
use tokio::sync::watch;

/// Owns the files' state and is the only one that publishes.
#[derive(Debug)]
pub(super) struct Pipeline {
    watcher: Watcher,
    ledger: Ledger,
    profile: Profile,
    log_format: LogFormat,
    store: Arc<Store>,
    groups: Arc<SidecarGroups>,
    fleet: Fleet,
    metrics: Metrics,
    states: watch::Sender<AllowlistState>,
    policy: Option<Policy>,
}

impl Pipeline {
    pub(super) fn new(
        config: &ServerConfig,
        store: Arc<Store>,
        groups: Arc<SidecarGroups>,
        fleet: Fleet,
        metrics: Metrics,
        states: watch::Sender<AllowlistState>,
    ) -> Self {
        for range in config.profile.guard.lifted() {
            tracing::warn!(%range, "allowed names may lead to {range}: private and reserved addresses in it are not guarded");
        }
        Self {
            watcher: Watcher::new(config.allowlists.clone(), MAX_BYTES),
            ledger: Ledger::default(),
            profile: config.profile.clone(),
            log_format: config.log_format,
            store,
            groups,
            fleet,
            metrics,
            states,
            policy: None,
        }
    }

    /// Has the files looked at on demand.
    pub(super) fn rescan(&self) -> Rescan {
        self.watcher.rescan()
    }

    /// Takes in what is on disk at the start.
    pub(super) fn load(&mut self) {
        let bundle = self.watcher.current().clone();
        self.apply(&bundle, Instant::now());
        if self.policy.is_none() {
            tracing::error!(
                "no resources are served until every allowlist file is valid; sidecars keep what they have, and exeat goes on watching"
            );
        }
    }

    /// Follows the files for ever.
    pub(super) async fn run(mut self) {
        loop {
            let change = self.watcher.changed().await;
            self.apply(&change.bundle, change.noticed);
        }
    }

    fn apply(&mut self, bundle: &Bundle, noticed: Instant) {
        let Loaded { policy, files } = self.ledger.apply(&found(bundle));
        let before = self.states.borrow().files.clone();
        // What a log line announces is already to be seen in the status.
        let now = files.clone();
        let entries = policy.as_ref().or(self.policy.as_ref()).map_or(0, |policy| policy.rules().len());
        self.states.send_modify(|state| state.files = files);
        self.tell(&before, &now);
        let applied = policy.is_some_and(|policy| self.enforce(policy, noticed));
        // Who sees the new number of entries finds them served.
        self.states.send_modify(|state| {
            state.entries = entries;
            if applied {
                state.applied_at = Some(SystemTime::now());
            }
        });
    }

    /// Publishes a policy. Gives whether anything that is served changed.
    fn enforce(&mut self, policy: Policy, noticed: Instant) -> bool {
        if self.policy.as_ref() == Some(&policy) {
            return false;
        }
        let previous = self.store.current();
        let resources = envoy::compile(&policy, &self.profile);
        let before = previous.as_ref().map(|published| &*published.snapshot);
        let snapshot = Snapshot::new(resources, &envoy::fallbacks(), before);
        let nothing = Policy::default();
        let old = self.policy.as_ref().unwrap_or(&nothing);
        let change = PolicyDiff::between(old, &policy);
        let urgency = self.urgency(old, &policy, &change, before, &snapshot);
        let entries = policy.rules().len();
        let first = self.policy.is_none();
        self.groups.set_policy(policy.clone());
        self.policy = Some(policy);
        let Some(published) = self.store.publish(snapshot, urgency) else {
            self.metrics.edit(EditOutcome::Applied);
            tracing::info!(entries, "allowlist edit: {change}; nothing changes at the sidecars");
            return true;
        };
        self.metrics.edit(EditOutcome::Applied);
        tracing::debug!(entries, "published version {}", published.snapshot.version());
        if first {
            let nothing = if entries == 0 { ": everything is denied" } else { "" };
            tracing::info!(entries, "serving {entries} allowlist entries{nothing}");
        } else {
            let changed = changed_kinds(previous.as_ref(), &published);
            let tracking = self.fleet.track((COMMON.into(), published.edit.number()), published.at, changed);
            let edit = Edit { noticed, entries, change };
            tokio::spawn(convergence::report(tracking, self.metrics.clone(), edit));
        }
        true
    }

    /// What an edit takes away goes out at once. Only if it also needs clusters that are not there yet does that part of
    /// it go first, as an edit of its own.
    fn urgency(
        &self,
        old: &Policy,
        new: &Policy,
        change: &PolicyDiff,
        before: Option<&Snapshot>,
        after: &Snapshot,
    ) -> Urgency {
        if change.removed.is_empty() {
            return Urgency::Additions;
        }
        let clusters =
            |snapshot: &Snapshot| snapshot.set(ResourceKind::Cluster).map(|set| set.version().clone());
        if before.and_then(clusters) == clusters(after) {
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
                self.metrics.edit(EditOutcome::Rejected);
                if self.policy.is_some() {
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
