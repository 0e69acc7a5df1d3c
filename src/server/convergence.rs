//! When an edit is live: the one log line that says what changed, where, and after how long.

use crate::{
    fleet::{Progress, Tracking},
    metrics::Metrics,
    policy::PolicyDiff,
};
use std::time::{Duration, Instant};

/// After this the line says who has not answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// An edit on its way.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) noticed: Instant,
    pub(super) entries: usize,
    pub(super) change: PolicyDiff,
}

/// Waits until every sidecar that was connected when the edit was published has answered, and logs.
pub(super) async fn report(tracking: Tracking, metrics: Metrics, edit: Edit) {
    let progress = tracking.result(PATIENCE).await;
    log(&edit, &progress, &metrics);
}

fn log(edit: &Edit, progress: &Progress, metrics: &Metrics) {
    let Edit { change, entries, .. } = edit;
    let mut took: Vec<Duration> =
        progress.live.iter().map(|when| when.saturating_duration_since(edit.noticed)).collect();
    took.sort_unstable();
    took.iter().for_each(|took| metrics.sidecar_live(*took));
    let (live, last) = (took.len(), took.last().copied());
    let sidecars = live + progress.rejected.len() + progress.silent.len() + progress.left.len();
    let (added, removed) = (change.added.len(), change.removed.len());
    let [rejected, silent, left] =
        [&progress.rejected, &progress.silent, &progress.left].map(|who| names(who));
    let p50_ms = milliseconds(took.get(took.len() / 2).copied());
    let last_ms = milliseconds(last);
    if !rejected.is_empty() || !silent.is_empty() {
        let mut problems = String::new();
        for (what, who) in
            [("rejected by", &rejected), ("no answer yet from", &silent), ("disconnected meanwhile:", &left)]
        {
            if !who.is_empty() {
                problems.push_str(&format!("; {what} {who}"));
            }
        }
        tracing::warn!(
            added,
            removed,
            entries,
            live,
            sidecars,
            rejected,
            silent,
            left,
            "allowlist edit: {change}; live on {live} of {sidecars} sidecars{problems}"
        );
        return;
    }
    let Some(last) = last else {
        let none = if left.is_empty() {
            "no sidecar is connected".to_owned()
        } else {
            format!("{left} disconnected")
        };
        tracing::info!(added, removed, entries, live, sidecars, left, "allowlist edit: {change}; {none}");
        return;
    };
    metrics.live(last);
    if removed > 0 {
        metrics.revoked(last);
    }
    let after =
        if live > 1 { format!("p50 {p50_ms} ms, last {last_ms} ms") } else { format!("after {last_ms} ms") };
    let gone = if left.is_empty() { String::new() } else { format!("; disconnected meanwhile: {left}") };
    tracing::info!(
        added,
        removed,
        entries,
        live,
        sidecars,
        left,
        p50_ms,
        last_ms,
        "allowlist edit: {change}; live on {live} of {sidecars} sidecars {after}{gone}"
    );
}

/// With one digit.
fn milliseconds(duration: Option<Duration>) -> f64 {
    duration.map_or(0.0, |duration| (duration.as_secs_f64() * 10_000.0).round() / 10.0)
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
