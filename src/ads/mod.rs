//! The xDS server: from a snapshot to each client's stream.
//!
//! Knows nothing of policy, allowlists or how bytes were made.
//!
//! The protocol lives in pure state machines without I/O, clock or async: [`SotwMachine`] and [`DeltaMachine`] take
//! requests and, asked with a snapshot, give at most one response at a time. [`stream`](self) drives one machine for
//! each client: it asks for a response only when one can be sent, so nothing queues and the newest state wins.

mod delta;
mod frame;
mod machine;
mod node;
mod service;
mod sotw;
mod stream;
mod subscription;
mod wire;

pub use delta::{DeltaKind, DeltaMachine};
pub use machine::{ByKind, Event, InFlight, KindMachine, Machine, Protocol, Refusal, Response, Step, Turn};
pub use node::{Node, UserAgentVersion};
pub use service::{Admission, AdsService};
pub use sotw::{SotwKind, SotwMachine};
pub use wire::{DeltaDiscoveryRequest, DiscoveryRequest, ErrorDetail, WireNode};
