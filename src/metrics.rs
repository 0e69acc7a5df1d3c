//! Counters that live as long as the process. What can be read off the current state is not here: see `admin`.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    fmt::{self, Write},
    time::Duration,
};

/// How an edit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EditOutcome {
    /// It is in force.
    Applied,
    /// It has errors; what was enforced before is kept.
    Rejected,
}

impl EncodeLabelValue for EditOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
        })
    }
}

/// Labels of edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EditLabels {
    /// How it ended.
    pub outcome: EditOutcome,
}

/// Upper bounds in seconds: an edit is normally live within a few milliseconds.
const LIVE_BUCKETS: [f64; 11] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// Shared counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    edits: Family<EditLabels, Counter>,
    live: Histogram,
    sidecar_live: Histogram,
    revocation: Histogram,
}

impl Metrics {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        let histogram = || Histogram::new(LIVE_BUCKETS);
        Self {
            edits: Family::default(),
            live: histogram(),
            sidecar_live: histogram(),
            revocation: histogram(),
        }
    }

    /// Puts the counters into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("allowlist_edits", "Edits of the allowlist files", self.edits.clone());
        registry.register_with_unit(
            "edit_live",
            "Time from noticing an edit until the last connected sidecar accepted it",
            Unit::Seconds,
            self.live.clone(),
        );
        registry.register_with_unit(
            "sidecar_live",
            "Time from noticing an edit until a sidecar accepted it, for each sidecar",
            Unit::Seconds,
            self.sidecar_live.clone(),
        );
        registry.register_with_unit(
            "revocation",
            "Time from noticing an edit that takes something away until the last connected sidecar accepted it",
            Unit::Seconds,
            self.revocation.clone(),
        );
    }

    /// Counts an edit.
    pub fn edit(&self, outcome: EditOutcome) {
        self.edits.get_or_create(&EditLabels { outcome }).inc();
    }

    /// Records how long an edit took to be live everywhere.
    pub fn live(&self, after: Duration) {
        self.live.observe(after.as_secs_f64());
    }

    /// Records how long an edit took to be live at one sidecar.
    pub fn sidecar_live(&self, after: Duration) {
        self.sidecar_live.observe(after.as_secs_f64());
    }

    /// Records how long it took to take something away everywhere.
    pub fn revoked(&self, after: Duration) {
        self.revocation.observe(after.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
