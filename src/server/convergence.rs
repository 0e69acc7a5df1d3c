//! When an edit is live: the one log line that says what changed, where, and after how long.

use crate::{
    fleet::{Fleet, Kind, SessionId, Sidecar},
    metrics::Metrics,
    policy::PolicyDiff,
    snapshot::Version,
};
use std::time::{Duration, Instant};

/// After this the line says who has not answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// A thousand sidecars answer within a few milliseconds: one look at the fleet is enough for many answers. The times in
/// the line are those of the answers.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An edit on its way.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) number: u64,
    pub(super) noticed: Instant,
    pub(super) entries: usize,
    pub(super) change: PolicyDiff,
    /// The resource types that it changed, with their new versions.
    pub(super) changed: Vec<(Kind, Version)>,
}

impl Edit {
    /// When a sidecar had accepted what the edit changed, or a newer edit. What it thinks of other resources does not
    /// matter.
    fn live_since(&self, sidecar: &Sidecar) -> Option<Instant> {
        if let Some((_, when)) = sidecar.live.filter(|(live, _)| *live >= self.number) {
            return Some(when);
        }
        let accepted = |(kind, version): &(Kind, Version)| {
            let state = sidecar.kinds.get(kind)?;
            state.acked_at.filter(|_| state.acked.as_ref() == Some(version))
        };
        let times: Option<Vec<Instant>> = self.changed.iter().map(accepted).collect();
        times?.into_iter().max()
    }
}

#[derive(Debug, Default)]
struct Progress {
    live: usize,
    last: Option<Instant>,
    rejected: Vec<String>,
    silent: Vec<String>,
}

/// Waits until every sidecar that was connected when the edit was published has answered, and logs.
pub(super) async fn report(fleet: Fleet, metrics: Metrics, edit: Edit) {
    let mut changes = fleet.changes();
    let at_start: Vec<SessionId> = fleet.sidecars().into_iter().map(|(id, _)| id).collect();
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        changes.mark_unchanged();
        let progress = progress(&fleet.sidecars(), &at_start, &edit);
        let timed_out = tokio::time::Instant::now() >= until;
        if progress.silent.is_empty() || timed_out {
            log(&edit, &progress, &metrics);
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(until) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn progress(sidecars: &[(SessionId, Sidecar)], at_start: &[SessionId], edit: &Edit) -> Progress {
    let mut progress = Progress::default();
    for (id, sidecar) in sidecars {
        if !at_start.contains(id) {
            continue;
        }
        match edit.live_since(sidecar) {
            Some(when) => {
                progress.live += 1;
                progress.last = progress.last.max(Some(when));
            }
            _ if sidecar.kinds.values().any(|kind| {
                kind.nack.as_ref().is_some_and(|nack| kind.sent.as_ref() == Some(&nack.version))
            }) =>
            {
                progress.rejected.push(sidecar.info.node_id.clone());
            }
            _ => progress.silent.push(sidecar.info.node_id.clone()),
        }
    }
    progress
}

fn log(edit: &Edit, progress: &Progress, metrics: &Metrics) {
    let Edit { change, entries, .. } = edit;
    let Progress { live, rejected, silent, last } = progress;
    let all = live + rejected.len() + silent.len();
    let after = last.map(|last| last.saturating_duration_since(edit.noticed));
    let milliseconds = after.map_or(0.0, |after| (after.as_secs_f64() * 10_000.0).round() / 10.0);
    let (added, removed) = (change.added.len(), change.removed.len());
    if !rejected.is_empty() || !silent.is_empty() {
        let (rejected, silent) = (names(rejected), names(silent));
        let mut problems = String::new();
        for (what, who) in [("rejected by", &rejected), ("no answer yet from", &silent)] {
            if !who.is_empty() {
                problems.push_str(&format!("; {what} {who}"));
            }
        }
        tracing::warn!(
            added,
            removed,
            entries,
            live,
            sidecars = all,
            rejected,
            silent,
            "allowlist edit: {change}; live on {live} of {all} sidecars{problems}"
        );
    } else if all == 0 {
        tracing::info!(
            added,
            removed,
            entries,
            live,
            sidecars = all,
            "allowlist edit: {change}; no sidecar is connected"
        );
    } else {
        if let Some(after) = after {
            metrics.live(after);
        }
        tracing::info!(
            added,
            removed,
            entries,
            live,
            sidecars = all,
            milliseconds,
            "allowlist edit: {change}; live on {live} of {all} sidecars after {milliseconds} ms"
        );
    }
}

/// A few names, for one log line.
fn names(all: &[String]) -> String {
    const NAMED: usize = 8;
    let mut text = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > NAMED {
        text.push_str(&format!(" and {} more", all.len() - NAMED));
    }
    text
}
