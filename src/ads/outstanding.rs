//! Responses that wait for their answer.

use crate::snapshot::{Changes, ResourceSet, Version};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a response may stay unanswered before the next one of its type goes out all the same. Envoy holds an ACK
/// back while clusters warm, which may take for ever (R-S18).
pub(super) const IN_FLIGHT_GRACE: Duration = Duration::from_secs(2);
/// Unanswered responses of a type that are remembered: a client that reads and never answers must not cost memory.
const REMEMBERED: usize = 8;

/// The names in a response.
#[derive(Clone, Debug)]
pub enum Names {
    /// All of a set.
    Whole(Arc<ResourceSet>),
    /// Those that differ between two sets.
    Changed(Arc<Changes>),
    /// These.
    Listed(Arc<[Arc<str>]>),
}

impl Names {
    /// Each name once.
    pub fn iter(&self) -> Box<dyn Iterator<Item = &Arc<str>> + '_> {
        match self {
            Self::Whole(set) => Box::new(set.iter().map(crate::snapshot::Encoded::name)),
            Self::Changed(changes) => Box::new(changes.names()),
            Self::Listed(names) => Box::new(names.iter()),
        }
    }
}

/// A response on its way.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// Counts the responses of the stream.
    pub nonce: u64,
    /// The version of the type that it brings.
    pub version: Version,
    /// When it was sent.
    pub since: Instant,
    /// What it is about.
    pub names: Names,
    /// Whether it adds or changes anything.
    pub adds: bool,
    /// Whether a client that accepts it has everything of this version.
    pub complete: bool,
}

/// The unanswered responses of one type, oldest first.
#[derive(Debug, Default)]
pub struct Outstanding {
    responses: Vec<InFlight>,
}

impl Outstanding {
    /// Gives the one that is no longer waited for: nobody knows what became of it.
    pub(super) fn push(&mut self, response: InFlight) -> Option<InFlight> {
        self.responses.push(response);
        (self.responses.len() > REMEMBERED).then(|| self.responses.remove(0))
    }

    /// Delta, "ACK and NACK": each response is settled by its own nonce (R-D24).
    pub(super) fn settle(&mut self, nonce: &str) -> Option<InFlight> {
        let nonce: u64 = nonce.parse().ok()?;
        let index = self.responses.iter().position(|one| one.nonce == nonce)?;
        Some(self.responses.remove(index))
    }

    /// State of the world: an answer settles what came before, too. Envoy answers only the newest of several.
    pub(super) fn settle_through(&mut self, nonce: &str) -> Option<InFlight> {
        let settled = self.settle(nonce)?;
        self.responses.retain(|one| one.nonce > settled.nonce);
        Some(settled)
    }

    /// Since when the oldest response is unanswered.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.responses.first().map(|one| one.since)
    }

    /// Until when nothing more may be sent.
    pub(super) fn blocks_until(&self, now: Instant) -> Option<Instant> {
        self.responses.last().map(|one| one.since + IN_FLIGHT_GRACE).filter(|until| now < *until)
    }

    /// Since when the newest response that adds or changes something is unanswered.
    pub(super) fn adding_since(&self) -> Option<Instant> {
        self.responses.iter().rfind(|one| one.adds).map(|one| one.since)
    }

    /// What unanswered responses are about.
    pub(super) fn all_names(&self) -> impl Iterator<Item = &Names> {
        self.responses.iter().map(|one| &one.names)
    }

    /// All names in unanswered responses.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.responses.iter().flat_map(|one| one.names.iter())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.responses.is_empty()
    }
}
