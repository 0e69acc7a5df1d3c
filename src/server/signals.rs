//! Requests to stop.
//!
//! Knows nothing of what is stopped.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT: a person at the terminal, which sends it to every program in front.
    Keyboard,
    /// SIGTERM, or SIGHUP because the terminal is gone: meant for this process.
    Terminate,
}

/// Hears requests to stop. There is one for the life of the process: the first listener takes the default reaction away
/// for good, so what arrives while there is none would be lost.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interrupts {
    /// Begins to listen. Fails if signals cannot be received.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next request, also one that arrived while nobody waited.
    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::Keyboard,
            _ = self.terminate.recv() => Interrupt::Terminate,
            _ = self.hang_up.recv() => Interrupt::Terminate,
        }
    }
}
