//! Authorities, the certificates that they sign, and what an edge speaks TLS with.

use std::path::PathBuf;
use std::sync::Arc;

use inbound::tls::{Certificate, ClientAuthorities, InForce};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trunkline_edge_proxy::transport::{ClientPort, ClientTls};

use super::{Edge, PATIENCE};

/// Who signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A certificate of this machine.
    fn server(&self) -> Pair {
        self.sign(&CertificateParams::new(["127.0.0.1", "localhost"].map(str::to_owned)).unwrap())
    }

    /// A certificate of a client with these names: `spiffe://…`, `dns:…` or `cn:…`.
    pub(crate) fn client(&self, names: &[&str]) -> Pair {
        self.sign(&client_params(names))
    }
}

pub(crate) fn client_params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name = DistinguishedName::new();
    params.not_after = date_time_ymd(2200, 1, 1);
    for name in names {
        match name.split_once(':').unwrap() {
            ("dns", name) => params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap())),
            ("cn", name) => params.distinguished_name.push(DnType::CommonName, name),
            _ => params.subject_alt_names.push(SanType::URI((*name).try_into().unwrap())),
        }
    }
    params
}

/// What an edge speaks TLS with, from files.
pub(crate) struct Tls {
    folder: tempfile::TempDir,
    renew: Arc<Notify>,
    in_force: InForce,
}

impl Tls {
    /// A certificate of `server`, for clients with certificates of `clients`, if they may present any.
    pub(crate) fn new(server: &Authority, clients: Option<&Authority>, is_required: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let renew = Arc::new(Notify::new());
        write(&folder, server, clients);
        let path = |name: &str| folder.path().join(name);
        let authorities = clients.map(|_| ClientAuthorities { file: path("clients"), is_required });
        let certificate = Certificate::load(&path("certificate"), &path("key"), authorities).unwrap();
        let in_force = certificate.in_force();
        tokio::spawn(certificate.keep_renewed(Arc::clone(&renew)));
        Self { folder, renew, in_force }
    }

    pub(crate) fn port(&self) -> ClientPort {
        let hsts = inbound::browser::hsts(60);
        ClientPort { tls: Some(ClientTls { in_force: self.in_force.clone(), hsts }), basic: None }
    }

    /// Puts others in their place, and has them read.
    pub(crate) async fn replace(&mut self, server: &Authority, clients: Option<&Authority>) {
        write(&self.folder, server, clients);
        self.renew.notify_one();
        tokio::time::timeout(PATIENCE, self.in_force.changed()).await.unwrap().unwrap();
    }

    /// Puts rubbish in the place of the certificate.
    pub(crate) fn break_certificate(&self) {
        std::fs::write(self.path("certificate"), "rubbish").unwrap();
        self.renew.notify_one();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn write(folder: &tempfile::TempDir, server: &Authority, clients: Option<&Authority>) {
    let Pair { certificate, key } = server.server();
    let clients = clients.map(|clients| clients.pem.clone()).unwrap_or_default();
    for (name, pem) in [("certificate", certificate), ("key", key), ("clients", clients)] {
        std::fs::write(folder.path().join(name), pem).unwrap();
    }
}

/// A client that trusts `server`, and presents a certificate if it has one.
pub(crate) fn https(server: &Authority, pair: Option<&Pair>, http1_only: bool) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(server.pem.as_bytes()).unwrap();
    let mut client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().tls_certs_only([root]);
    if let Some(Pair { certificate, key }) = pair {
        let identity = format!("{certificate}{key}");
        client = client.identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap());
    }
    let client = if http1_only { client.http1_only() } else { client };
    client.build().unwrap()
}

/// Opens a connection that agrees on this protocol; else the error that either side makes of it.
pub(crate) async fn connect(
    edge: &Edge,
    server: &Authority,
    pair: Option<&Pair>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    handshake(TcpStream::connect(edge.address).await?, server, pair, protocol).await
}

/// The same on a connection that there is.
pub(crate) async fn handshake(
    stream: TcpStream,
    server: &Authority,
    pair: Option<&Pair>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.pem.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut config = match pair {
        None => config.with_no_client_auth(),
        Some(Pair { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
