//! Files of certificates, read so that what is wrong with one is said before it is used.

use std::path::Path;

use mcp::border::without_mark;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::{Error, Result};

/// Reads a file of certificates (PEM) that are to be trusted.
pub fn read_certificates(path: &Path) -> Result<Vec<u8>> {
    let wrong = |why: String| Error::usage(format!("{}: {why}", path.display()));
    let pem = std::fs::read(path)
        .map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))?;
    let pem = without_mark(&pem).to_vec();
    let certificates: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| wrong(format!("is not readable as PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(wrong(
            "contains no certificate; one begins with -----BEGIN CERTIFICATE-----, as `openssl x509` prints it"
                .into(),
        ));
    }
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(wrong("contains no certificate that can be used".into()));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, part) in
            [("rubbish", "contains no certificate"), (garbage, "certificate that can be used")]
        {
            std::fs::write(&path, text).unwrap();
            let error = read_certificates(&path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("ca.pem"), "{error}");
        }
        assert!(read_certificates(&folder.path().join("gone")).is_err());
    }
}
