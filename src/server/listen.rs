//! The socket of the xDS server.

use super::{SHUTDOWN_DEADLINE, XdsListen};
use crate::envoy::XdsEndpoint;
use anyhow::{Context, bail};
use std::{
    fs::Permissions,
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};

/// Owner and group: whoever connects can read the policy.
const SOCKET_MODE: u32 = 0o660;

/// A bound socket.
#[derive(Debug)]
pub(super) enum Xds {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Xds {
    pub(super) async fn bind(listen: &XdsListen) -> anyhow::Result<Self> {
        match listen {
            XdsListen::Tcp(address) => {
                let listener = TcpListener::bind(address).await.with_context(|| {
                    format!("cannot listen for xDS on {address} (--xds-listen chooses another address)")
                })?;
                Ok(Self::Tcp(listener))
            }
            XdsListen::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)
                    .with_context(|| format!("cannot listen for xDS on unix:{}", path.display()))?;
                std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// The address with the port that was really bound.
    pub(super) fn endpoint(&self) -> io::Result<XdsEndpoint> {
        Ok(match self {
            Self::Tcp(listener) => XdsEndpoint::Address(listener.local_addr()?),
            Self::Unix(_, path) => XdsEndpoint::Unix(std::path::absolute(path)?),
        })
    }

    pub(super) async fn serve(self, services: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
        let deadline = shutdown.clone();
        let serve = async {
            match self {
                Self::Tcp(listener) => {
                    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                    services.serve_with_incoming_shutdown(incoming, shutdown.cancelled()).await
                }
                Self::Unix(listener, path) => {
                    let incoming = UnixListenerStream::new(listener);
                    let result = services.serve_with_incoming_shutdown(incoming, shutdown.cancelled()).await;
                    // A socket that nobody listens on would only mislead; the next start removes it too.
                    drop(std::fs::remove_file(path));
                    result
                }
            }
        };
        // Draining waits for every connection, also for those that never asked for anything.
        let deadline = async {
            deadline.cancelled().await;
            tokio::time::sleep(SHUTDOWN_DEADLINE / 2).await;
        };
        tokio::select! {
            result = serve => result.context("the xDS server ended"),
            () = deadline => Ok(()),
        }
    }
}

/// Removes the socket file of a server that is gone, and nothing else.
async fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{} exists and is not a socket", path.display())
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            bail!("another server listens on unix:{}", path.display())
        }
        Ok(_) => std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display())),
    }
}
