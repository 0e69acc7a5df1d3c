//! Loopback addresses that no other test uses, in this process or another.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// A range 127.x.y.0/24.
#[derive(Clone)]
pub struct Block {
    base: [u8; 3],
    /// Bound for as long as the block is used.
    _claim: Arc<TcpListener>,
}

const CLAIM_PORT: u16 = 10_099;
const EGRESS_PORT: u16 = 10_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Block {
    pub fn claim() -> Self {
        let start = std::process::id().wrapping_mul(131);
        loop {
            let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (250 * 250);
            let base = [127, 2 + (number / 250) as u8, 1 + (number % 250) as u8];
            let claim = TcpListener::bind((Ipv4Addr::new(base[0], base[1], base[2], 254), CLAIM_PORT));
            if let Ok(claim) = claim {
                return Self { base, _claim: Arc::new(claim) };
            }
        }
    }

    pub fn host(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.base[0], self.base[1], self.base[2], last)
    }

    /// Where the sidecar listens.
    pub fn egress(&self) -> SocketAddr {
        (self.host(1), EGRESS_PORT).into()
    }
}
