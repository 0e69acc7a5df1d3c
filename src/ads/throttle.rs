//! How fast a stream's requests are read.

use std::time::{Duration, Instant};

/// Requests that may come at once: a client that connects asks for everything in a moment.
const BURST: u32 = 500;
/// Beyond the burst, one request in this time: 200 a second, far more than answers to anything that is sent.
const INTERVAL: Duration = Duration::from_millis(5);

/// A bucket of tokens. A client that asks faster is read slower, and HTTP/2 makes it wait; nothing is refused, so
/// that no honest client can be hit by accident.
#[derive(Debug)]
pub(super) struct Throttle {
    /// When the bucket would be full.
    full_at: Option<Instant>,
}

impl Throttle {
    pub(super) const fn new() -> Self {
        Self { full_at: None }
    }

    /// A request was read that is as much work as so many.
    pub(super) fn take(&mut self, now: Instant, cost: u32) {
        self.full_at = Some(self.full_at.unwrap_or(now).max(now) + INTERVAL * cost);
    }

    /// When the next request may be read; nothing if at once.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.full_at?.checked_sub(INTERVAL * BURST).filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_is_slowed() {
        let (mut throttle, mut now) = (Throttle::new(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(throttle.until(now), None);
            throttle.take(now, 1);
        }
        throttle.take(now, 1);
        assert_eq!(throttle.until(now), Some(now + INTERVAL));
        throttle.take(now, 100);
        assert_eq!(throttle.until(now), Some(now + INTERVAL * 101));
        now += INTERVAL * BURST * 2;
        assert_eq!(throttle.until(now), None);
    }
}
