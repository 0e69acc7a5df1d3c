//! The state as OpenMetrics. Labels are bounded: never hosts, never node names.

use super::{StatusSource, status::in_sync};
use crate::snapshot::{ResourceKind, Stores};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use std::{collections::BTreeMap, fmt, time::UNIX_EPOCH};

/// Hexadecimal digits of a version that a float holds exactly.
const EXACT_DIGITS: usize = 12;

/// As much of a version as a gauge can say.
fn as_number(version: &str) -> Option<f64> {
    let digits = version.get(..EXACT_DIGITS)?;
    let (high, low) = digits.split_at_checked(EXACT_DIGITS / 2)?;
    let part = |digits| u32::from_str_radix(digits, 16).ok().map(f64::from);
    Some(part(high)? * f64::from(1_u32 << (4 * EXACT_DIGITS / 2)) + part(low)?)
}

/// Reads the state at each scrape.
#[derive(Debug)]
pub(super) struct StateCollector(pub(super) StatusSource);

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(source) = self;
        let published = source.stores.all();
        let edit = |group: &str| published.get(group).map(|published| published.edit.number());
        let allowlist = source.allowlist();
        let rejected = allowlist.files.iter().filter(|file| !file.in_force).count();
        let sidecars = source.fleet.sidecars();

        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("ready", "Whether resources are served", f64::from(u8::from(!published.is_empty())))?;
        if let Some(hash) = Stores::version_of(&published).and_then(|version| as_number(&version)) {
            gauge("version_hash", "The version that is served, as a number that replicas share", hash)?;
        }
        gauge("allowlist_entries", "Entries in force", count(allowlist.entries))?;
        gauge("allowlist_files", "Allowlist files", count(allowlist.files.len()))?;
        gauge("allowlist_files_rejected", "Files whose newest content is not in force", count(rejected))?;
        let restored = allowlist.files.iter().filter(|file| file.restored).count();
        let help = "Files of which what was in force before the start is served";
        gauge("allowlist_files_restored", help, count(restored))?;
        let applied = allowlist.applied_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        if let Some(applied) = applied {
            gauge(
                "allowlist_applied_timestamp_seconds",
                "When the newest edit came into force",
                applied.as_secs_f64(),
            )?;
        }

        let mut by_protocol = BTreeMap::from([("delta", 0), ("sotw", 0)]);
        for (_, sidecar) in &sidecars {
            *by_protocol.entry(sidecar.info.protocol).or_default() += 1;
        }
        let family = encoder.encode_descriptor("sidecars", "Connected sidecars", None, MetricType::Gauge)?;
        labelled_gauges(family, "protocol", by_protocol)?;
        let behind = sidecars.iter().filter(|(_, one)| !in_sync(one, edit(&one.info.group))).count();
        let metric = ConstGauge::new(count(behind));
        let help = "Connected sidecars that have not accepted everything that is served";
        metric.encode(encoder.encode_descriptor("sidecars_behind", help, None, MetricType::Gauge)?)?;
        let rejecting = ResourceKind::ALL.map(|kind| {
            let has_nack = |(_, one): &&(_, crate::fleet::Sidecar)| {
                one.kinds.get(kind.as_str()).is_some_and(|state| state.nack.is_some())
            };
            (kind.as_str(), sidecars.iter().filter(has_nack).count())
        });
        let help = "Connected sidecars that rejected the newest resources of a type";
        let family = encoder.encode_descriptor("sidecars_rejecting", help, None, MetricType::Gauge)?;
        labelled_gauges(family, "type", rejecting)?;

        let counts = ResourceKind::ALL.map(|kind| (kind.as_str(), source.fleet.counts(kind.as_str())));
        let responses = counts.map(|(kind, counts)| (kind, counts.sent));
        let family = encoder.encode_descriptor(
            "xds_responses",
            "Discovery responses sent",
            None,
            MetricType::Counter,
        )?;
        labelled_counters(family, "type", responses)?;
        let acks = counts.map(|(kind, counts)| (kind, counts.acked));
        let family =
            encoder.encode_descriptor("xds_acks", "Responses accepted", None, MetricType::Counter)?;
        labelled_counters(family, "type", acks)?;
        let nacks = counts.map(|(kind, counts)| (kind, counts.nacked));
        let family =
            encoder.encode_descriptor("xds_nacks", "Responses rejected", None, MetricType::Counter)?;
        labelled_counters(family, "type", nacks)?;
        let bytes = counts.map(|(kind, counts)| (kind, counts.bytes));
        let help = "Bytes of discovery responses, gRPC framing included";
        let family = encoder.encode_descriptor("xds_sent", help, Some(&Unit::Bytes), MetricType::Counter)?;
        labelled_counters(family, "type", bytes)?;
        let help = "Edits that were replaced by a newer one before a busy sidecar could be sent them";
        let coalesced = ConstCounter::new(source.fleet.coalesced());
        coalesced.encode(encoder.encode_descriptor(
            "xds_coalesced_edits",
            help,
            None,
            MetricType::Counter,
        )?)?;
        let unanswered = sidecars.iter().flat_map(|(_, one)| one.kinds.values());
        let oldest = unanswered.filter_map(|kind| kind.unanswered_since).map(|since| since.elapsed()).max();
        let help = "Age of the oldest response that a sidecar has not answered";
        let metric = ConstGauge::new(oldest.unwrap_or_default().as_secs_f64());
        let unit = Some(&Unit::Seconds);
        metric.encode(encoder.encode_descriptor("xds_oldest_unanswered", help, unit, MetricType::Gauge)?)
    }
}

fn labelled_gauges(
    mut family: MetricEncoder<'_>,
    label: &str,
    values: impl IntoIterator<Item = (&'static str, usize)>,
) -> fmt::Result {
    for (value, count_of) in values {
        ConstGauge::new(count(count_of)).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

fn labelled_counters(
    mut family: MetricEncoder<'_>,
    label: &str,
    values: impl IntoIterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    for (value, total) in values {
        ConstCounter::new(total).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

/// Gauges are floating point; counts here are far below where that loses anything.
fn count(value: usize) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}
