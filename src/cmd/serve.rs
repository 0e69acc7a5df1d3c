//! `exeat serve`.

use crate::{
    cli::ServeArgs,
    server::{Interrupts, Server},
};
use std::process::ExitCode;

pub(super) async fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let mut server = Server::start(args.config()?).await?;
    tokio::select! {
        _ = interrupts.next() => {}
        error = server.failed() => return Err(error),
    }
    tracing::info!("stopping; sidecars keep what they have");
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
