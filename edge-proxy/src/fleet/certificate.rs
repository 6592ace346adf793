//! The key pair of this edge and its self-signed certificate, which siblings know it by: made once, and kept.
//!
//! Siblings trust it because the control plane sends them its fingerprint, and for nothing else.

use std::io;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::os::files;
use crate::snapshot::Sha256;

const FILE: &str = "sibling.pem";
/// The name in the certificate. Nothing checks it.
const NAME: &str = "edge.trunkline.internal";

/// A certificate and its key.
#[derive(Debug)]
pub struct Certificate {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Loads the certificate in `folder`, or makes one there.
    ///
    /// # Errors
    /// If `folder` cannot be read or written.
    pub fn load_or_create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        if let Some(pem) = files::read(&path)? {
            match Self::parse(&pem) {
                Ok(kept) => return Ok(kept),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot read the certificate of this edge; generating a new one");
                }
            }
        }
        let pem = make().map_err(io::Error::other)?;
        files::write(&path, pem.as_bytes())?;
        Self::parse(pem.as_bytes()).map_err(io::Error::other)
    }

    fn parse(pem: &[u8]) -> Result<Self, rustls::pki_types::pem::Error> {
        Ok(Self {
            certificate: CertificateDer::from_pem_slice(pem)?,
            key: PrivateKeyDer::from_pem_slice(pem)?,
        })
    }

    /// The fingerprint that siblings pin.
    pub fn fingerprint(&self) -> Sha256 {
        fingerprint(&self.certificate)
    }
}

/// The fingerprint of a certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Sha256 {
    let mut sha256 = Sha256::default();
    sha256.copy_from_slice(digest(&SHA256, certificate).as_ref());
    sha256
}

fn make() -> Result<String, rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = rcgen::CertificateParams::new([NAME.to_owned()])?.self_signed(&key)?;
    Ok(key.serialize_pem() + &certificate.pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_and_made_anew_when_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let first = Certificate::load_or_create(folder.path()).unwrap().fingerprint();
        assert_eq!(Certificate::load_or_create(folder.path()).unwrap().fingerprint(), first);
        std::fs::write(folder.path().join(FILE), "junk").unwrap();
        let second = Certificate::load_or_create(folder.path()).unwrap().fingerprint();
        assert_ne!(second, first);
        assert_eq!(Certificate::load_or_create(folder.path()).unwrap().fingerprint(), second);
    }
}
