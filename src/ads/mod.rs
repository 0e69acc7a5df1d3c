//! The xDS server: from a snapshot to each client's stream.
//!
//! Knows nothing of policy, allowlists or how bytes were made.
//!
//! # Parts
//!
//! The protocol lives in pure state machines without I/O, clock or async: [`SotwMachine`] and [`DeltaMachine`] take
//! requests and, asked with what is published, give at most one response at a time. [`stream`](self) drives one machine
//! for each client: it asks for a response only when one can be sent, so nothing queues and the newest state wins.
//!
//! | file | holds |
//! |---|---|
//! | `by_kind` | a machine for each type, and the order between types |
//! | `sotw`, `delta` | what the two variants do differently |
//! | `tracker`, `subscription`, `outstanding` | of one type: what the client has, wants, and owes an answer to |
//! | `doubts` | what rejected responses may have left behind, beyond streams |
//! | `joined` | a client that has said who it is, and what is told of it |
//! | `stream`, `requests`, `throttle`, `frame`, `wire` | I/O and clock; reading requests, how fast; the bytes of messages |
//! | `service`, `groups`, `peer`, `node` | paths of the services; who is served what; who is there |
//!
//! # Follow one edit from the store to the frame
//!
//! 1. `stream` wakes because [`Store`](crate::snapshot::Store) has a newer [`Published`](crate::snapshot::Published).
//! 2. It polls its [`ByKind`], one machine for each type that the client asked for. What takes something away goes
//!    first; else clusters, then, when they are accepted, listeners and routes; what nothing leads to any more goes last.
//! 3. A [`Tracker`] compares the set that the client was brought to with the new one. The difference is a
//!    [`Changes`](crate::snapshot::Changes), worked out and encoded once for all streams that go the same way; only a
//!    client with names or exceptions of its own costs a look at each name.
//! 4. [`SotwKind`] or [`DeltaKind`] makes a [`Response`] of it and remembers it as [`Outstanding`] until it is answered.
//! 5. `frame` puts a head of some hundred bytes before the shared bytes, and HTTP/2 takes both as they are.
//! 6. The answer comes back through the same machine as an [`Event`]. The stream tells the fleet, and
//!    [`Doubts`] what a rejected response may have left behind.
//!
#![doc = include_str!("requirements.md")]

mod by_kind;
mod delta;
mod doubts;
mod frame;
mod groups;
mod joined;
mod machine;
mod node;
mod outstanding;
mod peer;
mod requests;
mod service;
mod sotw;
mod stream;
mod subscription;
#[cfg(test)]
mod testing;
mod throttle;
mod tracker;
mod wire;

pub use by_kind::ByKind;
pub use delta::{DeltaKind, DeltaMachine};
pub use doubts::Doubts;
pub use groups::{Assignment, Groups, OneGroup};
pub use machine::{
    Circumstances, Event, KindMachine, MAX_NAMES, Machine, Outgoing, Protocol, Refusal, Response, Scope,
    Step, Trusted, Turn,
};
pub use node::{Node, UserAgentVersion};
pub use outstanding::{InFlight, Names, Outstanding};
pub use peer::{CertificateNames, Peer};
pub use service::{
    Aggregated, Clusters, Context, DiscoveryService, Endpoints, Listeners, Routes, Secrets, Service,
};
pub use sotw::{SotwKind, SotwMachine};
pub use tracker::{Pass, Tracker};
pub use wire::{DeltaDiscoveryRequest, DiscoveryRequest, ErrorDetail, WireNode};
