//! `exeat serve`.

use crate::{
    cli::ServeArgs,
    server::{Server, interrupted},
};
use std::process::ExitCode;

pub(super) async fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let mut server = Server::start(args.config()?).await?;
    tokio::select! {
        signal = interrupted() => drop(signal?),
        error = server.failed() => return Err(error),
    }
    tracing::info!("stopping; sidecars keep what they have");
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
