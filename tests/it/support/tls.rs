//! TLS of test clients and upstreams.

use super::tools::certificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
    StreamOwned,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, TcpStream},
    path::Path,
    sync::{Arc, LazyLock},
};

/// Believes every certificate: what is tested is the proxy.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(ring::default_provider())))
        .with_no_client_auth();
    Arc::new(config)
});

/// A client that asks for a name, or for none.
pub fn client(
    mut socket: TcpStream,
    name: Option<&str>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    // For addresses no name is sent.
    let nobody = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into());
    let name = name.map_or(nobody, |name| ServerName::try_from(name.to_owned()).unwrap());
    let mut tls = ClientConnection::new(Arc::clone(&CLIENT), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        let (read, written) = tls.complete_io(&mut socket)?;
        if read + written == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(StreamOwned::new(tls, socket))
}

/// The ClientHello that asks for a name, without the header of its record. It resumes no session: a pre-shared key would have to
/// stay the last extension.
pub fn client_hello(name: &str) -> Vec<u8> {
    const HEADER: usize = 5;
    let mut config = (**CLIENT).clone();
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes.split_off(HEADER)
}

static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    server_config(&certificate(directory.path(), "upstream.test"))
});

/// How a server speaks TLS with a certificate and key.
pub fn server_config((certificate, key): &(impl AsRef<Path>, impl AsRef<Path>)) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key);
    Arc::new(config.unwrap())
}

/// A server that has one certificate for everybody, or the given one.
pub fn server(
    socket: TcpStream,
    config: Option<&Arc<ServerConfig>>,
) -> StreamOwned<ServerConnection, TcpStream> {
    let config = config.unwrap_or(&SERVER);
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), socket)
}
