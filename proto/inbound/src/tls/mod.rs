//! TLS of a listener: the certificate that it presents, its key, and whose certificates of clients it believes. They are read at the
//! start, when their files change, and when somebody asks for it; what is wrong with them is said in plain words.
//!
//! It must not know who connects.

mod files;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};
use tokio::sync::{Notify, watch};

use files::Files;

/// What new connections are accepted with, also after it was read anew.
pub type InForce = watch::Receiver<Arc<Acceptance>>;

/// Whose certificates of clients are believed.
#[derive(Debug, Clone)]
pub struct ClientAuthorities {
    /// The file of their certificates.
    pub file: PathBuf,
    /// Whether a client without a certificate is refused.
    pub is_required: bool,
}

/// What connections are accepted with at some time.
#[derive(Debug)]
pub struct Acceptance {
    /// What a handshake is made with. It keeps the sessions that it may resume, so that none outlives it.
    pub config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Acceptance {
    /// Returns whether a client that presented this chain would be let in.
    pub fn believes(&self, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(clients), Some((leaf, rest))) = (&self.clients, chain.split_first()) else { return false };
        clients.verify_client_cert(leaf, rest, UnixTime::now()).is_ok()
    }
}

/// The end of 9999: what is still valid then is without an end.
const FOR_EVER: Duration = Duration::from_secs(253_402_300_799);

/// The certificate in force, and the files that it is read from.
#[derive(Debug)]
pub struct Certificate {
    sources: Sources,
    files: Files,
    in_force: watch::Sender<Arc<Acceptance>>,
    end: String,
}

/// The files of a certificate.
#[derive(Debug)]
struct Sources {
    cert: PathBuf,
    key: PathBuf,
    clients: Option<ClientAuthorities>,
}

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableCertificate {
    /// A file cannot be read.
    #[error("cannot read {option} {}: {problem}", .path.display())]
    Unreadable {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// There is no certificate in the file.
    #[error("--tls-cert {} has no certificate, which begins with `-----BEGIN CERTIFICATE-----`", .0.display())]
    NoCertificate(PathBuf),
    /// There is no certificate of an authority in the file.
    #[error("--client-ca {} has no certificate, which begins with `-----BEGIN CERTIFICATE-----`", .0.display())]
    NoAuthority(PathBuf),
    /// A certificate cannot be that of an authority.
    #[error("--client-ca {} cannot be used: {problem}", .path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// There is no private key in the file.
    #[error("--tls-key {} has no private key, which begins with `-----BEGIN PRIVATE KEY-----`", .0.display())]
    NoKey(PathBuf),
    /// The private key has a passphrase.
    #[error("--tls-key {} is encrypted; store it without a passphrase: `openssl pkey -in FILE -out NEW`", .0.display())]
    EncryptedKey(PathBuf),
    /// They do not belong together.
    #[error("--tls-key {} is not the key of the certificate in --tls-cert {}", .key.display(), .cert.display())]
    OtherKey {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// It begins with the certificate of an authority.
    #[error(
        "--tls-cert {} does not begin with the certificate of --tls-key {}; put it before those of authorities",
        .cert.display(), .key.display()
    )]
    Order {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// Something else.
    #[error("--tls-cert {} and --tls-key {} cannot be used: {problem}", .cert.display(), .key.display())]
    Other {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The reason.
        problem: rustls::Error,
    },
}

/// The options of the files, in the order of [`Sources::paths`].
const OPTIONS: [&str; 3] = ["--tls-cert", "--tls-key", "--client-ca"];

/// A certificate as it was read.
struct Loaded {
    acceptance: Acceptance,
    /// Until when it is valid.
    end: String,
}

impl Certificate {
    /// Reads a certificate with the chain of its authorities, its key, and the authorities of clients, if they may present
    /// certificates.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn load(
        cert: &Path,
        key: &Path,
        clients: Option<ClientAuthorities>,
    ) -> Result<Self, UnusableCertificate> {
        let sources = Sources { cert: cert.to_owned(), key: key.to_owned(), clients };
        // Looked at before they are read: what changes meanwhile is read again.
        let files = Files::new(sources.paths());
        let Loaded { acceptance, end } = load(&sources)?;
        Ok(Self { sources, files, in_force: watch::Sender::new(Arc::new(acceptance)), end })
    }

    /// What new connections are accepted with, also after it was read anew.
    pub fn in_force(&self) -> InForce {
        self.in_force.subscribe()
    }

    /// Reads the files anew whenever they changed, and at each `asked`, for ever.
    pub async fn keep_renewed(mut self, asked: Arc<Notify>) {
        loop {
            let changed = tokio::select! {
                () = asked.notified() => self.files.look(),
                changed = self.files.changed() => changed,
            };
            self.renew(&changed);
        }
    }

    /// Puts what the files hold in force, of which some `changed`. What cannot be used is logged, and the certificate in force stays.
    fn renew(&mut self, changed: &[bool]) {
        match load(&self.sources) {
            Ok(Loaded { acceptance, end }) => {
                self.in_force.send_replace(Arc::new(acceptance));
                for file in self.sources.named(changed) {
                    tracing::info!(valid_until = end, "{file} was read anew");
                }
                self.end = end;
            }
            Err(error) => tracing::error!(
                %error,
                valid_until = self.end,
                "the certificate cannot be read anew; the one before stays in force"
            ),
        }
    }
}

impl Sources {
    fn paths(&self) -> Vec<PathBuf> {
        let clients = self.clients.iter().map(|clients| clients.file.clone());
        [self.cert.clone(), self.key.clone()].into_iter().chain(clients).collect()
    }

    /// Those that changed, with their options; where none did, the certificate.
    fn named(&self, changed: &[bool]) -> Vec<String> {
        let paths = self.paths();
        let all: Vec<_> =
            OPTIONS.iter().zip(&paths).map(|(option, path)| format!("{option} {}", path.display())).collect();
        let named: Vec<_> =
            all.iter().zip(changed).filter(|(_, changed)| **changed).map(|(file, _)| file.clone()).collect();
        if named.is_empty() { all.into_iter().take(1).collect() } else { named }
    }
}

/// Reads a certificate and its key. What only clients object to is logged.
fn load(sources: &Sources) -> Result<Loaded, UnusableCertificate> {
    let Sources { cert, key, clients } = sources;
    let chain = read_chain(cert)?;
    let private = read_key(key)?;
    let clients = clients.as_ref().map(verifier).transpose()?;
    if let Some(complaint) = complaint(&chain) {
        tracing::warn!("the certificate in --tls-cert {} {complaint}", cert.display());
    }
    let end = end(&chain);
    let mut config = configure(chain.clone(), private.clone_key(), clients.clone()).map_err(|problem| {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        let fits = |other: &CertificateDer<'static>| {
            configure(vec![other.clone()], private.clone_key(), None).is_ok()
        };
        match problem {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) if chain[1..].iter().any(fits) => {
                UnusableCertificate::Order { cert, key }
            }
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                UnusableCertificate::OtherKey { cert, key }
            }
            problem => UnusableCertificate::Other { cert, key, problem },
        }
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded { acceptance: Acceptance { config: Arc::new(config), clients }, end })
}

/// Reads the authorities of clients.
fn verifier(clients: &ClientAuthorities) -> Result<Arc<dyn ClientCertVerifier>, UnusableCertificate> {
    let ClientAuthorities { file, is_required } = clients;
    let authorities = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let authorities = match authorities {
        Ok(authorities) if !authorities.is_empty() => authorities,
        Ok(_) | Err(pem::Error::NoItemsFound) => return Err(UnusableCertificate::NoAuthority(file.clone())),
        Err(error) => return Err(unreadable("--client-ca", file, &error)),
    };
    let refused = |problem: String| UnusableCertificate::Authority { path: file.clone(), problem };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| refused(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder(Arc::new(roots));
    let builder = if *is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| refused(error.to_string()))
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder();
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, UnusableCertificate> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(pem::Error::NoItemsFound) => Err(UnusableCertificate::NoCertificate(path.to_owned())),
        Err(error) => Err(unreadable("--tls-cert", path, &error)),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, UnusableCertificate> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(path) => UnusableCertificate::EncryptedKey(path.to_owned()),
        pem::Error::NoItemsFound => UnusableCertificate::NoKey(path.to_owned()),
        error => unreadable("--tls-key", path, &error),
    })
}

fn is_encrypted(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("BEGIN ENCRYPTED PRIVATE KEY"))
}

fn unreadable(option: &'static str, path: &Path, error: &pem::Error) -> UnusableCertificate {
    let problem = match error {
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    UnusableCertificate::Unreadable { option, path: path.to_owned(), problem }
}

/// What every client will object to. Whom it trusts, and by which name it calls, is not known here.
fn complaint(chain: &[CertificateDer<'_>]) -> Option<&'static str> {
    match objection(chain, UnixTime::now())? {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Some("has expired: clients refuse it")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("is not valid yet: clients refuse it; compare the clocks")
        }
        // The verifier has a type of its own for it, which is not in reach here.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            Some("is that of an authority itself: clients refuse it; present one that the authority signed")
        }
        _ => None,
    }
}

/// Until when a certificate is valid: who finds it expired says since when.
fn end(chain: &[CertificateDer<'_>]) -> String {
    match objection(chain, UnixTime::since_unix_epoch(FOR_EVER)) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => {
            let seconds = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            prost_types::Timestamp { seconds, nanos: 0 }.to_string()
        }
        Some(_) => "unknown".to_owned(),
        None => "for ever".to_owned(),
    }
}

/// What a client objects to that trusts the last certificate of the chain, at some time.
fn objection(chain: &[CertificateDer<'_>], now: UnixTime) -> Option<CertificateError> {
    let (leaf, rest) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add(chain.last()?.clone().into_owned()).ok()?;
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.verify_server_cert(leaf, rest, &name, &[], now) {
        Err(rustls::Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}
