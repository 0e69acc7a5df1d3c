//! How much of what a rule lets through.

use std::{fmt, time::Duration};

/// Limits of one rule. What is not said is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limits {
    /// Tunnels at a time, of each host form and port for itself.
    pub connections: Option<u32>,
    /// Requests a minute, of each host form, tunnels, plain requests and each path for themselves.
    pub requests_per_minute: Option<u32>,
    /// Bytes that one tunnel or one request may send.
    pub upload: Option<u64>,
    /// How long a tunnel or a streamed answer may be without a byte.
    pub idle: Option<Duration>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether everything that is within `other` is within these.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        fn wider<T: Ord>(own: Option<&T>, other: Option<&T>) -> bool {
            own.is_none_or(|own| other.is_some_and(|other| own >= other))
        }
        wider(self.connections.as_ref(), other.connections.as_ref())
            && wider(self.requests_per_minute.as_ref(), other.requests_per_minute.as_ref())
            && wider(self.upload.as_ref(), other.upload.as_ref())
            && wider(self.idle.as_ref(), other.idle.as_ref())
    }

    /// The wider of both, for what one of the two lets through.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        fn wider<T: Ord + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.zip(other).map(|(one, other)| one.max(other))
        }
        Self {
            connections: wider(self.connections, other.connections),
            requests_per_minute: wider(self.requests_per_minute, other.requests_per_minute),
            upload: wider(self.upload, other.upload),
            idle: wider(self.idle, other.idle),
        }
    }

    /// What is said here, else there.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            connections: self.connections.or(other.connections),
            requests_per_minute: self.requests_per_minute.or(other.requests_per_minute),
            upload: self.upload.or(other.upload),
            idle: self.idle.or(other.idle),
        }
    }
}

/// In words: `20 connections, 60 requests a minute`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.connections.map(|count| format!("{count} connections")),
            self.requests_per_minute.map(|count| format!("{count} requests a minute")),
            self.upload.map(|bytes| format!("upload of {bytes} bytes")),
            self.idle.map(|idle| format!("idle for {} s", idle.as_secs())),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}
