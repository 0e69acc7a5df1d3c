//! `exeat bootstrap`.

use crate::{cli::BootstrapArgs, envoy::BootstrapTls};
use anyhow::Context;
use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
};

pub(super) fn print(args: BootstrapArgs) -> anyhow::Result<ExitCode> {
    let bootstrap = args.bootstrap()?;
    for (path, text) in bootstrap.tls.iter().flat_map(BootstrapTls::secret_files) {
        fs::write(&path, text).with_context(|| {
            format!("cannot write {} (the directory of --tls-secrets must exist)", path.display())
        })?;
    }
    match write!(io::stdout(), "{bootstrap}") {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => Ok(result.map(|()| ExitCode::SUCCESS)?),
    }
}
