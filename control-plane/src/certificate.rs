//! The certificate that the listener presents, and its key: read at the start, and what is wrong with them in plain words.
//!
//! It must not know who connects.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};

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

/// Reads a certificate with the chain of its authorities, and its key. What only clients object to is logged.
pub(crate) fn load(cert: &Path, key: &Path) -> Result<ServerConfig, UnusableCertificate> {
    let chain = read_chain(cert)?;
    let private = read_key(key)?;
    if let Some(complaint) = complaint(&chain) {
        tracing::warn!("the certificate in --tls-cert {} {complaint}", cert.display());
    }
    configure(chain.clone(), private.clone_key()).map_err(|problem| {
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
    })
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
    let (leaf, rest) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add(chain.last()?.clone().into_owned()).ok()?;
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let checked = verifier.verify_server_cert(leaf, rest, &name, &[], UnixTime::now());
    let Err(rustls::Error::InvalidCertificate(error)) = checked else { return None };
    match error {
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
