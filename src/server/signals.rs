//! Requests to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Ends at SIGINT or SIGTERM. Fails if signals cannot be received.
pub async fn interrupted() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
