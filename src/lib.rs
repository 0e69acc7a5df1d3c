//! **exeat** turns allowlist files into live egress policy on Envoy sidecars. This page is its architecture.
//!
//! # One way
//!
//! ```text
//!  *.yaml ─► source ─► allowlist ─► policy ─► envoy ─► snapshot ─► ads ─► gRPC (xDS: SotW + delta) ─► Envoy
//!            (bytes)   (typed,     (meaning)  (protos)  (frozen    (per-stream                          │
//!                       places)       │                  bytes)      state)                             │
//!                                     │ decide()                       │ ack / nack ◄───────────────────┘
//!                                     ▼                                ▼
//!                                 the oracle                         fleet ─► admin (HTTP, gRPC, metrics): reads only
//! ```
//!
//! What a file says flows to the right and nothing flows back: what sidecars answer ends in the [`fleet`], which status,
//! metrics and the log read, and which nothing that is served depends on.
//!
//! | module | is | must not know |
//! |---|---|---|
//! | [`policy`] | what is allowed, and the reference decision | YAML, files, Envoy, clocks |
//! | [`source`] | what is on disk, now and after each edit | YAML, policy |
//! | [`allowlist`] | from text to policies, every mistake at its place; the last good content of each file | disks, Envoy, clocks |
//! | [`envoy`] | from policy to Envoy resources, equal to the byte on every replica | YAML, streams, versions |
//! | [`snapshot`] | resources as frozen bytes with content-hash versions | streams, clients, policy |
//! | [`ads`] | the xDS protocol: pure machines, and the stream that drives one | policy, how bytes were made |
//! | [`fleet`] | who is connected and has accepted what | gRPC, HTTP, policy |
//! | [`admin`] | the one view of it all | how to change anything |
//! | [`server`] | the wiring: the one place that sees all | |
//! | [`sidecar`] | an Envoy on this machine: found, started, stopped | policy |
//! | [`cli`], [`cmd`] | flags; one module for each command | |
//! | [`metrics`], [`telemetry`] | counters, and how the log is written: all may use them | who counts and logs |
//!
//! `tests/it/architecture.rs` fails on an import against these arrows, and on a file of more than 400 lines
//! before its tests. `R-…` in comments is a requirement in the table of [`ads`].
//!
//! # Invariants
//!
//! * **Nothing right of `policy` can widen it.** The default of [`envoy::compile`] is 403; a missing rule can only deny.
//! * **Nothing left of `ads` knows that clients exist.**
//! * **A bad edit changes nothing.** [`allowlist::Ledger`] keeps each file's last good content; at the start there is no
//!   policy and no snapshot until every file is good, and clients are answered UNAVAILABLE, because an empty set would
//!   delete everything they have.
//! * **An edit changes the route table, and the chains of what comes or goes.** The egress listener and the forwarding clusters
//!   depend on flags only (and on an agent's `max_connections`). Envoy swaps a route table without touching a connection.
//! * **What passes hangs on a chain of its own entry** (`envoy::chains`), named by what the entry means: a chain that is taken
//!   away or renamed ends its connections, and nothing else does. What is decided before that, by name, and after it, by the
//!   bytes of a tunnel, [`policy::Policy::decide`] says alike.
//! * **Order and place carry no meaning.** Rules add up, deny rules win over all of them; what is decided for a host is put
//!   together from every rule that covers it, in [`policy::Policy::decide`] and in `envoy::domain` alike.
//! * **A group of sidecars has one policy, one store and one version.** A sidecar is the agent that names it most closely,
//!   which is asked once for each stream; when that changes, the stream ends.
//! * **Time only takes away.** What a file says is kept with its ends; what is served is that at an instant
//!   ([`policy::PolicySet::at`]), and the pipeline looks at the clock as it looks at the files.
//! * **Versions are hashes of bytes**, and bytes are a function of the input, so replicas and restarts agree and a
//!   sidecar that comes back is sent nothing it has.
//! * **Nothing queues.** A response is computed when the one before it is with HTTP/2; the newest snapshot wins; resource
//!   bytes, and what differs between two snapshots, are shared by all streams.
//! * **Nothing that is allowed is dropped, nothing that is taken away waits.** Clusters and chains go before the routes that lead
//!   to them and leave after them; an edit that takes something away passes everything that waits ([`ads`] says how), and
//!   what it adds besides follows as an edit of its own.
//! * **A rejection is never "nothing changed".** What a sidecar may have taken of a rejected response is remembered beyond
//!   its stream and sent again with the next change.
//! * **Nobody is let in by chance.** Sockets that other machines reach need client certificates or plain words; who is at
//!   the other end is an [`ads::Peer`], which the transport makes and no client's bytes can. `server::accept` bounds
//!   connections and how long they may be idle before they begin; no error of a client or of accept(2) ends it.
//! * **A peer's bytes cannot panic us**: no `unwrap`, `expect` or indexing outside tests (clippy enforces it).
//!
//! # Follow one edit
//!
//! 1. [`source::Watcher`] hears of a rename or a closed file, scans, and finds different bytes.
//! 2. `server::pipeline` gives them to the [`allowlist::Ledger`], which reads what changed, looks up groups and presets, runs
//!    the self-tests and combines a [`policy::PolicySet`]: the common policy, and one for each agent.
//! 3. For each policy that differs, [`envoy::compile`] makes resources of it, [`snapshot::Snapshot::new`] encodes them, sharing what is unchanged, and
//!    [`snapshot::Store::publish`] wakes all streams.
//! 4. Each stream in `ads::stream` polls its [`ads::Machine`], which compares what its client has and gives a response:
//!    a small head, and the shared bytes. The documentation of [`ads`] follows this step from the store to the frame.
//! 5. The ACK settles the response; when a machine is in sync, the stream tells the [`fleet`], which keeps count for
//!    each edit that is on its way.
//! 6. `server::convergence` writes the one log line when the last sidecar has answered.
//!
//! # Ports
//!
//! | what | default |
//! |---|---|
//! | egress proxy (Envoy's listener) | 127.0.0.1:10000 |
//! | xDS, gRPC health | 127.0.0.1:18000, other addresses (with TLS), unix sockets |
//! | admin HTTP, and the admin gRPC API and CSDS | 127.0.0.1:18001 |
//! | Envoy's admin | a unix socket of mode 0600 |

pub mod admin;
pub mod ads;
pub mod allowlist;
pub mod cli;
pub mod cmd;
pub mod envoy;
pub mod fleet;
pub mod metrics;
pub mod policy;
pub mod server;
pub mod sidecar;
pub mod snapshot;
pub mod source;
pub mod telemetry;
