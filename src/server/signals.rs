//! Requests to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT: a person at the terminal, which sends it to every program in front.
    Keyboard,
    /// SIGTERM, or SIGHUP because the terminal is gone: meant for this process.
    Terminate,
}

/// Ends at a request to stop. Fails if signals cannot be received.
pub async fn interrupted() -> std::io::Result<Interrupt> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Interrupt::Keyboard,
        _ = terminate.recv() => Interrupt::Terminate,
        _ = hang_up.recv() => Interrupt::Terminate,
    })
}
