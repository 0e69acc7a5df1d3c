//! TLS of the TCP listeners: from PEM files to what the next handshake uses, now and after every edit of the files.
//!
//! Connections that are open keep what they were made with. Sessions are never resumed, so that each connection shows its
//! certificate to the authorities of that moment.

use super::TlsFiles;
use crate::{
    ads::CertificateNames,
    source::{Bundle, RootState, Watcher},
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Far more than any chain or list of authorities.
const MAX_BYTES: usize = 1 << 20;
/// Certificate and key are two files and cannot change at once: they need not fit together for so long.
const PAIR_WITHIN: Duration = Duration::from_secs(1);

/// Shakes hands with what is in force.
#[derive(Clone)]
pub(super) struct Acceptor(watch::Receiver<Arc<ServerConfig>>);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// The encrypted connection, and who the client is if it had to show a certificate.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<CertificateNames>)> {
        let config = Arc::clone(&self.0.borrow());
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let names = names(stream.get_ref().1);
        Ok((stream, names))
    }
}

/// Why there is no TLS, and what to do about it, where the parser's words do not tell.
pub(super) fn explain(error: &io::Error) -> String {
    use rustls::{AlertDescription as Alert, Error, InvalidMessage};
    let what = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(Alert::CertificateUnknown | Alert::UnknownCA | Alert::BadCertificate)) => {
            "it does not accept this server's certificate: see --tls-ca and --tls-server-name of exeat bootstrap"
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it does not speak TLS: see --tls-ca of exeat bootstrap"
        }
        Some(Error::NoCertificatesPresented) => {
            "it shows no certificate: see --tls-cert and --tls-key of exeat bootstrap"
        }
        _ => return error.to_string(),
    };
    format!("{what} ({error})")
}

fn names(connection: &ServerConnection) -> Option<CertificateNames> {
    let certificate = connection.peer_certificates()?.first()?;
    // It was verified, and so it was parsed.
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(CertificateNames::new(certificate.valid_uri_names(), certificate.valid_dns_names()))
}

/// Follows the files.
pub(super) struct Reloader {
    files: TlsFiles,
    watcher: Watcher,
    sink: watch::Sender<Arc<ServerConfig>>,
}

/// Why the files cannot be used: which one, what is wrong with it, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {}: {problem}", path.display())]
pub(super) struct Unusable {
    flag: &'static str,
    path: PathBuf,
    problem: String,
}

/// Reads the files and begins to watch them.
pub(super) fn load(files: &TlsFiles) -> anyhow::Result<(Acceptor, Reloader)> {
    let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
    let watcher = Watcher::new(paths.into_iter().flatten().cloned().collect(), MAX_BYTES);
    let config = build(files, watcher.current())?;
    let (sink, source) = watch::channel(config);
    Ok((Acceptor(source), Reloader { files: files.clone(), watcher, sink }))
}

impl Reloader {
    /// Puts each good state of the files in force, for as long as it is polled.
    pub(super) async fn run(mut self) {
        loop {
            let mut bundle = self.watcher.changed().await.bundle;
            let deadline = Instant::now() + PAIR_WITHIN;
            let built = loop {
                let built = build(&self.files, &bundle);
                if built.is_ok() {
                    break built;
                }
                match timeout_at(deadline, self.watcher.changed()).await {
                    Ok(change) => bundle = change.bundle,
                    Err(_) => break built,
                }
            };
            match built {
                Ok(config) => drop(self.sink.send_replace(config)),
                Err(error) => {
                    tracing::error!("{error}; new connections use the certificates that were there before");
                }
            }
        }
    }
}

/// What handshakes need, out of the files' bytes.
fn build(files: &TlsFiles, bundle: &Bundle) -> Result<Arc<ServerConfig>, Unusable> {
    let (cert, key) = (&files.cert, &files.key);
    let of_cert = |problem: String| Unusable { flag: "--tls-cert", path: cert.clone(), problem };
    let of_key = |problem: String| Unusable { flag: "--tls-key", path: key.clone(), problem };
    let chain = bytes(bundle, cert).and_then(certificates).map_err(of_cert)?;
    let private = bytes(bundle, key).and_then(private_key).map_err(of_key)?;

    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| of_cert(error.to_string()))?;
    let (builder, clients) = match &files.client_ca {
        None => (builder.with_no_client_auth(), "clients need no certificate".to_owned()),
        Some(path) => {
            let of_ca = |problem: String| Unusable { flag: "--client-ca", path: path.clone(), problem };
            let roots = bytes(bundle, path).and_then(authorities).map_err(of_ca)?;
            let clients =
                format!("clients need a certificate of one of {} CAs in {}", roots.len(), path.display());
            let verifier = client_verifier(roots, &provider).map_err(of_ca)?;
            (builder.with_client_cert_verifier(verifier), clients)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            of_key(format!("this is not the key of the certificate in {}", cert.display()))
        }
        rustls::Error::InvalidCertificate(error) => of_cert(format!("cannot use this certificate: {error}")),
        error => of_key(format!("cannot use this key with {}: {error}", cert.display())),
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    tracing::info!("TLS for new xDS connections: certificate {}; {clients}", cert.display());
    Ok(Arc::new(config))
}

fn client_verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())
}

/// What a named file holds.
fn bytes<'a>(bundle: &'a Bundle, path: &Path) -> Result<&'a [u8], String> {
    let root = bundle.roots.iter().find(|root| root.path == path).map(|root| &root.state);
    let content = match root {
        Some(RootState::Files(files)) => match files.as_slice() {
            [file] if file.path == path => file.content.as_ref().map_err(ToString::to_string)?,
            _ => return Err("this is a directory; name the file in it".to_owned()),
        },
        // Only a directory can be empty of files.
        Some(RootState::Unreadable(_)) if path.is_dir() => {
            return Err("this is a directory; name the file in it".to_owned());
        }
        Some(RootState::Unreadable(reason)) => return Err(reason.to_string()),
        None => return Err("it was not read".to_owned()),
    };
    if content.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes; is it the right file?"));
    }
    Ok(content)
}

fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err("it holds no certificate; write it as PEM, from -----BEGIN CERTIFICATE----- on".to_owned())
        }
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is not readable as PEM: {error}")),
    }
}

/// The parser's own words stay out of the message: they may hold some of the key.
fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            "it holds no private key; write it as PEM, not encrypted: PKCS#8, PKCS#1 or SEC1".to_owned()
        }
        _ => "it is not readable as PEM".to_owned(),
    })
}

fn authorities(bytes: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(bytes)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|error| format!("certificate {} in it cannot be an authority: {error}", index + 1))?;
    }
    Ok(roots)
}
