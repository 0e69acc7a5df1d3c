//! When an edit is live: the one log line that says what changed, where, and after how long.
//!
//! Knows nothing of resources or streams; it changes nothing.

use super::groups::COMMON;
use crate::{
    fleet::{Progress, Tracking},
    metrics::Metrics,
    policy::{PolicyDiff, PolicySet},
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// After this the line says who has not answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an edit that is not live everywhere by then is followed. It may have met a sidecar that is frozen, or that
/// rejected it and takes the next edit.
const FOLLOWED: Duration = Duration::from_secs(120);

/// An edit on its way.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) noticed: Instant,
    pub(super) entries: usize,
    pub(super) change: Changes,
}

/// What an edit changes.
#[derive(Debug)]
pub(super) struct Changes {
    /// Agents that came, went or match other sidecars, in words.
    agents: Vec<String>,
    /// By group, the common one first.
    groups: Vec<(Arc<str>, PolicyDiff)>,
}

impl Changes {
    pub(super) fn of(old: &PolicySet, new: &PolicySet) -> Self {
        let find =
            |set: &PolicySet, name: &str| set.agents().iter().find(|agent| *agent.name == *name).cloned();
        let mut agents = Vec::new();
        for agent in new.agents() {
            match find(old, &agent.name) {
                None => agents.push(format!("agent {} is new", agent.name)),
                Some(old) if old.selector != agent.selector => {
                    agents.push(format!("agent {} matches other sidecars", agent.name));
                }
                Some(_) => {}
            }
        }
        let gone = old.agents().iter().filter(|agent| find(new, &agent.name).is_none());
        agents.extend(gone.map(|agent| format!("agent {} is gone", agent.name)));
        let group = |name: Option<Arc<str>>| name.unwrap_or_else(|| COMMON.into());
        let groups = old.differences(new).into_iter().map(|(name, change)| (group(name), change)).collect();
        Self { agents, groups }
    }

    /// All groups that there are now.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &PolicyDiff)> {
        self.groups.iter().map(|(group, change)| (group, change))
    }

    /// Whether sidecars are sent away to come back as another agent.
    pub(super) fn moves(&self) -> bool {
        !self.agents.is_empty()
    }

    fn count(&self, of: impl Fn(&PolicyDiff) -> usize) -> usize {
        self.told().map(|(_, change)| of(change)).sum()
    }

    fn closes(&self) -> bool {
        self.groups.iter().any(|(_, change)| change.closes)
    }

    /// What is worth telling: what agents inherit is told once.
    pub(super) fn told(&self) -> impl Iterator<Item = (&Arc<str>, &PolicyDiff)> {
        let common = self.groups.first().map(|(_, change)| change);
        self.groups
            .iter()
            .filter(move |(group, change)| **group == *COMMON || Some(change) != common)
            .map(|(group, change)| (group, change))
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for agent in &self.agents {
            write!(f, "{separator}{agent}")?;
            separator = "; ";
        }
        for (group, change) in self.told().filter(|(_, change)| !change.is_empty()) {
            match &**group {
                COMMON => write!(f, "{separator}{change}")?,
                agent => write!(f, "{separator}agent {agent}: {change}")?,
            }
            separator = "; ";
        }
        if separator.is_empty() { f.write_str("no change in meaning") } else { Ok(()) }
    }
}

/// Waits until every sidecar that was connected when the edit was published has answered, and logs. Goes on with those
/// that have not accepted it, so that the metrics hold slow edits too.
pub(super) async fn report(trackings: Vec<Tracking>, metrics: Metrics, edit: Edit) {
    let by = Instant::now() + PATIENCE;
    let mut progress = Progress::default();
    for tracking in &trackings {
        progress.add(tracking.answered(by.saturating_duration_since(Instant::now())).await);
    }
    // What a log line announces is already to be seen in the metrics.
    measure(&edit, &progress, 0, &metrics);
    log(&edit, &progress);
    if !progress.is_over() {
        let known = progress.live.len();
        let by = Instant::now() + FOLLOWED;
        let mut progress = Progress::default();
        for tracking in &trackings {
            progress.add(tracking.live(by.saturating_duration_since(Instant::now())).await);
        }
        measure(&edit, &progress, known, &metrics);
        log_late(&edit, &progress);
    }
}

/// How long it took at each sidecar, in ascending order.
fn took(edit: &Edit, progress: &Progress) -> Vec<Duration> {
    let mut took: Vec<Duration> =
        progress.live.iter().map(|live| live.at.saturating_duration_since(edit.noticed)).collect();
    took.sort_unstable();
    took
}

/// Counts all sidecars but the first `known`. An edit that is not live everywhere is in their metrics only.
fn measure(edit: &Edit, progress: &Progress, known: usize, metrics: &Metrics) {
    let took = took(edit, progress);
    took.iter().skip(known).for_each(|took| metrics.sidecar_live(*took));
    let Some(last) = took.last().filter(|_| progress.is_over()) else { return };
    metrics.live(*last);
    if let Some(cut) = cut(edit, progress) {
        metrics.revoked(cut);
    }
}

/// After how long what an edit closes had ended wherever it ends at once.
fn cut(edit: &Edit, progress: &Progress) -> Option<Duration> {
    let closed = progress.live.iter().filter(|live| edit.change.closes() && live.late.is_none());
    closed.map(|live| live.at.saturating_duration_since(edit.noticed)).max()
}

/// The same as the end of a log line, with where it does not.
fn told_of_cut(edit: &Edit, progress: &Progress) -> String {
    if !edit.change.closes() || progress.live.is_empty() {
        return String::new();
    }
    let late: Vec<String> = progress.live.iter().filter_map(|live| live.late.clone()).collect();
    let open = [&*progress.rejected, &progress.silent, &progress.left].concat();
    let mut text = match cut(edit, progress) {
        Some(cut) => format!("; what it closes is cut after {} ms", milliseconds(Some(cut))),
        None => "; what it closes is cut when the drain time is over".to_owned(),
    };
    if !late.is_empty() && late.len() < progress.live.len() {
        text.push_str(&format!(", at {} when the drain time is over", names(&late)));
    }
    if !open.is_empty() {
        text.push_str(&format!(", and may go on at {}", names(&open)));
    }
    text
}

/// What became of an edit that was not live everywhere in time.
fn log_late(edit: &Edit, progress: &Progress) {
    let change = &edit.change;
    let (live, last) = (progress.live.len(), took(edit, progress).last().copied());
    let last_ms = milliseconds(last);
    let cut = told_of_cut(edit, progress);
    if live == 0 && progress.is_over() {
        tracing::info!(live, "allowlist edit: {change}; the sidecars that had not accepted it are gone");
    } else if progress.is_over() {
        tracing::info!(
            live,
            last_ms,
            "allowlist edit: {change}; now live on all {live} sidecars that are still connected, last after {last_ms} ms{cut}"
        );
    } else {
        let (rejected, silent) = (names(&progress.rejected), names(&progress.silent));
        let seconds = FOLLOWED.as_secs();
        tracing::warn!(
            live,
            rejected,
            silent,
            "allowlist edit: {change}; after {seconds} s more still not live everywhere{cut}; exeat status shows where"
        );
    }
}

fn log(edit: &Edit, progress: &Progress) {
    let Edit { change, entries, .. } = edit;
    let took = took(edit, progress);
    let (live, last) = (took.len(), took.last().copied());
    let sidecars = live + progress.rejected.len() + progress.silent.len() + progress.left.len();
    let (added, removed) =
        (change.count(|change| change.added.len()), change.count(|change| change.removed.len()));
    let [rejected, silent, left] =
        [&progress.rejected, &progress.silent, &progress.left].map(|who| names(who));
    let p50_ms = milliseconds(took.get(took.len() / 2).copied());
    let last_ms = milliseconds(last);
    let cut = told_of_cut(edit, progress);
    if !progress.is_over() {
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
            "allowlist edit: {change}; live on {live} of {sidecars} sidecars{problems}{cut}"
        );
        return;
    }
    if last.is_none() {
        let none = if left.is_empty() {
            "no sidecar is connected".to_owned()
        } else {
            format!("{left} disconnected")
        };
        tracing::info!(added, removed, entries, live, sidecars, left, "allowlist edit: {change}; {none}");
        return;
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
        "allowlist edit: {change}; live on {live} of {sidecars} sidecars {after}{cut}{gone}"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Live;

    #[test]
    fn where_what_is_closed_goes_on_is_said() {
        let noticed = Instant::now();
        let edit = |closes: bool| {
            let diff = PolicyDiff { closes, ..PolicyDiff::default() };
            let change = Changes { agents: Vec::new(), groups: vec![(COMMON.into(), diff)] };
            Edit { noticed, entries: 1, change }
        };
        let progress = |live: &[(u64, Option<&str>)], left: &[&str]| Progress {
            live: live
                .iter()
                .map(|(ms, late)| Live {
                    at: noticed + Duration::from_millis(*ms),
                    late: late.map(str::to_owned),
                })
                .collect(),
            left: left.iter().map(|node| (*node).to_owned()).collect(),
            ..Progress::default()
        };
        let (quick, slow, late) = ((2, None), (3, None), (9, Some("old")));
        for (closes, progress, cut_ms, text) in [
            (false, progress(&[quick], &["gone"]), None, ""),
            (true, progress(&[], &["gone"]), None, ""),
            (true, progress(&[quick, slow], &[]), Some(3), "; what it closes is cut after 3 ms"),
            (
                true,
                progress(&[quick, late], &[]),
                Some(2),
                "; what it closes is cut after 2 ms, at old when the drain time is over",
            ),
            (true, progress(&[late], &[]), None, "; what it closes is cut when the drain time is over"),
            (
                true,
                progress(&[slow], &["gone"]),
                Some(3),
                "; what it closes is cut after 3 ms, and may go on at gone",
            ),
        ] {
            let edit = edit(closes);
            assert_eq!(cut(&edit, &progress), cut_ms.map(Duration::from_millis), "{text}");
            assert_eq!(told_of_cut(&edit, &progress), text);
        }
    }
}
