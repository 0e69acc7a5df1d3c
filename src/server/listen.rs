//! The sockets of the xDS and the admin server.
//!
//! Knows nothing of what is served on them.

use super::{
    SHUTDOWN_DEADLINE, XdsListen,
    accept::{Accept, Accepted, Limits},
    tls::Acceptor,
};
use crate::envoy::XdsEndpoint;
use anyhow::{Context, bail};
use std::{
    fs::Permissions,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::{
    net::{TcpListener, TcpSocket, UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

/// Owner and group: whoever connects can read the policy.
const SOCKET_MODE: u32 = 0o660;

/// Connections that the system keeps until they are accepted: a fleet that comes back does so at once.
const BACKLOG: u32 = 4096;

/// A bound socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    /// The file goes before the listener: what another server puts there later is not ours.
    Unix(SocketFile, UnixListener),
}

/// A socket that nobody listens on would only mislead; the next start removes it too.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// The way to it must not change with the working directory.
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another one there.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Binds all or none.
pub(super) async fn bind(all: &[XdsListen]) -> anyhow::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for listen in all {
        sockets.push(Socket::bind(listen).await?);
    }
    Ok(sockets)
}

impl Socket {
    pub(super) async fn bind(listen: &XdsListen) -> anyhow::Result<Self> {
        match listen {
            XdsListen::Tcp(address) => {
                let listener = open(*address).with_context(|| {
                    format!("cannot listen for xDS on {address} (--xds-listen chooses another address)")
                })?;
                Ok(Self::Tcp(listener))
            }
            XdsListen::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path).with_context(|| {
                    format!("cannot listen for xDS on unix:{} (its directory must exist)", path.display())
                })?;
                let file = SocketFile::new(path)?;
                std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix(file, listener))
            }
        }
    }

    /// The address with the port that was really bound.
    pub(super) fn endpoint(&self) -> io::Result<XdsEndpoint> {
        Ok(match self {
            Self::Tcp(listener) => XdsEndpoint::Address(listener.local_addr()?),
            Self::Unix(file, _) => XdsEndpoint::Unix(file.path.clone()),
        })
    }

    /// The next client, and where it is.
    pub(super) async fn accept(&self) -> io::Result<(Accepted, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without it answers are late, and still right.
                drop(stream.set_nodelay(true));
                Ok((Accepted::Tcp(stream), address.to_string()))
            }
            Self::Unix(file, listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Accepted::Local(Box::new(stream)), format!("unix:{}", file.path.display())))
            }
        }
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that comes back need not wait for connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves on all sockets until `shutdown`, with TLS on those that are TCP if there is an acceptor.
pub(super) async fn serve(
    sockets: Vec<Socket>,
    tls: Option<Acceptor>,
    services: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (accept, incoming) = Accept::new(Limits::xds());
    let mut listeners = JoinSet::new();
    for socket in sockets {
        let until = shutdown.clone().cancelled_owned();
        let accept = accept.clone().run(socket, tls.clone());
        listeners.spawn(async move {
            tokio::select! {
                () = until => {}
                () = accept => {}
            }
        });
    }
    drop(accept);
    let serve = services.serve_with_incoming_shutdown(ReceiverStream::new(incoming), shutdown.cancelled());
    // Draining waits for every connection, also for those that never asked for anything.
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_DEADLINE / 2).await;
    };
    let result = tokio::select! {
        result = serve => result.context("the xDS server ended"),
        () = deadline => Ok(()),
        Some(Err(error)) = listeners.join_next() => Err(error).context("a listener of the xDS server crashed"),
    };
    // The sockets are closed and their files gone when this returns.
    listeners.shutdown().await;
    result
}

/// Removes the socket file of a server that is gone, and nothing else.
async fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{} exists and is not a socket", path.display())
        }
        Ok(_) => match UnixStream::connect(path).await {
            // Only this says that nobody listens: a busy server gives other errors.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => bail!("another server listens on unix:{}", path.display()),
        },
    }
}
