//! `exeat bootstrap`.

use crate::{cli::BootstrapArgs, envoy::Bootstrap};
use std::{
    io::{self, Write},
    process::ExitCode,
};

pub(super) fn print(args: BootstrapArgs) -> anyhow::Result<ExitCode> {
    let BootstrapArgs { node_id, node_cluster, xds_address: xds, admin_socket } = args;
    let bootstrap = Bootstrap { node_id, node_cluster, xds, admin_socket };
    match write!(io::stdout(), "{bootstrap}") {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => Ok(result.map(|()| ExitCode::SUCCESS)?),
    }
}
