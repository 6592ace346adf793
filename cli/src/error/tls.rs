//! Files of certificates and keys, read so that what is wrong with one is said before it is used.

use std::path::Path;

use mcp::border::without_mark;
use mcp::client::TlsMaterial;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::context::Context;
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

/// Reads a certificate that is presented, and its key (PEM, both in one text).
pub fn read_identity(certificate: &Path, key: &Path) -> Result<Vec<u8>> {
    let mut pem = read_certificates(certificate)?;
    let unusable = |why: String| Error::usage(format!("{}: {why}", key.display()));
    let text = std::fs::read(key)
        .map_err(|error| Error::usage(format!("cannot read {}: {error}", key.display())))?;
    let text = without_mark(&text);
    PrivateKeyDer::from_pem_slice(text).map_err(|_| {
        unusable(
            "contains no private key (PEM) without a password; one begins with -----BEGIN PRIVATE KEY-----"
                .into(),
        )
    })?;
    pem.push(b'\n');
    pem.extend_from_slice(text);
    reqwest::Identity::from_pem(&pem)
        .map_err(|_| unusable("contains no private key that can be used".into()))?;
    Ok(pem)
}

/// Returns what connections to the edges of a context bring to TLS.
pub fn material_of(context: &Context) -> Result<TlsMaterial> {
    let authorities = context.ca_file.as_deref().map(read_certificates).transpose()?;
    let identity = match (&context.client_cert, &context.client_key) {
        (Some(certificate), Some(key)) => Some(read_identity(certificate, key)?),
        (None, None) => None,
        _ => return Err(Error::usage("a client certificate has a file and its key another; give both")),
    };
    Ok(TlsMaterial { authorities: authorities.map(Into::into), identity: identity.map(Into::into) })
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

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let half = Context { client_cert: Some("cert.pem".into()), ..Context::default() };
        let error = material_of(&half).unwrap_err().to_string();
        assert_eq!(error, "a client certificate has a file and its key another; give both");
        assert!(material_of(&Context::default()).unwrap() == TlsMaterial::default());
    }
}
