//! The one integration-test binary: real Envoy, real files, real clients, all on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr, missing_docs, unreachable_pub, missing_debug_implementations)]

mod support;

mod architecture;
mod bootstrap;
mod catalogue;
mod check;
mod clients;
mod commands;
mod convergence;
mod descriptors;
mod edits;
mod enforcement;
mod files;
mod golden;
mod groups;
mod grpc;
mod hard_clients;
mod language;
mod lifecycle;
mod limits;
mod live;
mod model;
mod oracle;
mod peers;
mod properties;
mod rejections;
mod revocation;
mod run;
mod transport;
mod tunnels;
mod why;
