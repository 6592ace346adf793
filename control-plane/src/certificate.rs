//! The certificate that the listener presents, and its key: read at the start, when their files change, and when somebody asks for
//! it; and what is wrong with them in plain words.
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
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};
use tokio::sync::{Notify, watch};

use files::Files;

/// What new connections are accepted with.
pub(crate) type InForce = watch::Receiver<Arc<ServerConfig>>;

/// The end of 9999: what is still valid then is without an end.
const FOR_EVER: Duration = Duration::from_secs(253_402_300_799);

/// The certificate in force, and the files that it is read from.
#[derive(Debug)]
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    files: Files<2>,
    in_force: watch::Sender<Arc<ServerConfig>>,
    end: String,
}

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnusableCertificate {
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

/// A certificate as it was read.
struct Loaded {
    config: ServerConfig,
    /// Until when it is valid.
    end: String,
}

impl Certificate {
    /// Reads a certificate with the chain of its authorities, and its key.
    pub(crate) fn load(cert: &Path, key: &Path) -> Result<Self, UnusableCertificate> {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        // Looked at before they are read: what changes meanwhile is read again.
        let files = Files::new([cert.clone(), key.clone()]);
        let Loaded { config, end } = load(&cert, &key)?;
        Ok(Self { cert, key, files, in_force: watch::Sender::new(Arc::new(config)), end })
    }

    /// What new connections are accepted with, also after it was read anew.
    pub(crate) fn in_force(&self) -> InForce {
        self.in_force.subscribe()
    }

    /// Reads the files anew whenever they changed, and at each `asked`, for ever.
    pub(crate) async fn keep_renewed(mut self, asked: Arc<Notify>) {
        loop {
            tokio::select! {
                () = asked.notified() => self.files.look(),
                () = self.files.changed() => {}
            }
            self.renew();
        }
    }

    /// Puts what the files hold in force. What cannot be used is logged, and the certificate in force stays.
    fn renew(&mut self) {
        match load(&self.cert, &self.key) {
            Ok(Loaded { config, end }) => {
                self.in_force.send_replace(Arc::new(config));
                tracing::info!(valid_until = end, "--tls-cert {} was read anew", self.cert.display());
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

/// Reads a certificate and its key. What only clients object to is logged.
fn load(cert: &Path, key: &Path) -> Result<Loaded, UnusableCertificate> {
    let chain = read_chain(cert)?;
    let private = read_key(key)?;
    if let Some(complaint) = complaint(&chain) {
        tracing::warn!("the certificate in --tls-cert {} {complaint}", cert.display());
    }
    let end = end(&chain);
    let mut config = configure(chain.clone(), private.clone_key()).map_err(|problem| {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        let fits =
            |other: &CertificateDer<'static>| configure(vec![other.clone()], private.clone_key()).is_ok();
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
    Ok(Loaded { config, end })
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)
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
