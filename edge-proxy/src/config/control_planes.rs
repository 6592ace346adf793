//! The control planes, and the authorities that their certificates must come from. The file of these is read anew before each
//! attempt to connect: it is renewed when the certificates are.
//!
//! It must not know when somebody connects.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Uri};

use super::{ConfigError, read};

const CA_OPTION: &str = "--control-plane-ca";

/// The control planes of an edge: at least one.
#[derive(Debug)]
pub struct ControlPlanes {
    uris: Vec<Uri>,
    ca_file: Option<PathBuf>,
    in_force: Mutex<InForce>,
}

/// How they are connected to.
#[derive(Debug)]
struct InForce {
    /// The authorities as they were read; empty for those of the system.
    pem: String,
    endpoints: Vec<Endpoint>,
    /// What was said last about a file that cannot be used.
    complaint: Option<String>,
}

impl ControlPlanes {
    /// The control planes at `uris`, with certificates of the authorities in `ca_file`, else of those that the system trusts.
    pub(super) fn new(uris: Vec<Uri>, ca_file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let pem = ca_file.as_deref().map(read_certificates).transpose()?.unwrap_or_default();
        let endpoints = endpoints(&uris, &pem)?;
        let in_force = Mutex::new(InForce { pem, endpoints, complaint: None });
        Ok(Self { uris, ca_file, in_force })
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.uris.len()
    }

    /// Returns how one of them is connected to now.
    pub fn endpoint(&self, at: usize) -> Endpoint {
        let mut in_force = self.in_force();
        self.read_anew(&mut in_force);
        in_force.endpoints[at].clone()
    }

    /// Reads the file of authorities anew, because somebody asked for it.
    pub fn renew(&self) {
        let mut in_force = self.in_force();
        in_force.complaint = None;
        match &self.ca_file {
            None => {
                tracing::info!("SIGHUP: there is no {CA_OPTION} to read anew; other options take a restart")
            }
            Some(path) => {
                if !self.read_anew(&mut in_force) && in_force.complaint.is_none() {
                    tracing::info!("{CA_OPTION} {} has not changed", path.display());
                }
            }
        }
    }

    /// Puts what the file holds in force, and returns whether that is new. Where it cannot be used, what was read before stays.
    fn read_anew(&self, in_force: &mut InForce) -> bool {
        let Some(path) = &self.ca_file else { return false };
        let read = read_certificates(path).and_then(|pem| match pem == in_force.pem {
            true => Ok(None),
            false => Ok(Some((endpoints(&self.uris, &pem)?, pem))),
        });
        let is_new = matches!(read, Ok(Some(_)));
        let complaint = read.as_ref().err().map(ToString::to_string);
        if let Ok(Some((endpoints, pem))) = read {
            *in_force = InForce { pem, endpoints, complaint: None };
            tracing::info!("{CA_OPTION} {} was read anew, for new connections", path.display());
        }
        if complaint.is_some() && complaint != in_force.complaint {
            let error = complaint.as_deref();
            tracing::error!(error, "the authorities cannot be read anew; those before stay in force");
        }
        in_force.complaint = complaint;
        is_new
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `pem`: the authorities, or nothing for those that the system trusts.
fn endpoints(uris: &[Uri], pem: &str) -> Result<Vec<Endpoint>, ConfigError> {
    let tls = match pem {
        "" => ClientTlsConfig::new().with_native_roots(),
        pem => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
    };
    uris.iter().map(|uri| endpoint(uri, &tls)).collect()
}

fn endpoint(uri: &Uri, tls: &ClientTlsConfig) -> Result<Endpoint, ConfigError> {
    let endpoint = Endpoint::from(uri.clone())
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    match uri.scheme_str() {
        Some("https") => Ok(endpoint.tls_config(tls.clone())?),
        _ => Ok(endpoint),
    }
}

fn read_certificates(path: &Path) -> Result<String, ConfigError> {
    let pem = read(CA_OPTION, path)?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    match roots.add_parsable_certificates(certificates).0 {
        0 => Err(ConfigError::NoCertificate { option: CA_OPTION, path: path.to_owned() }),
        _ => Ok(pem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        rcgen::generate_simple_self_signed(["control.example".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn authorities_are_read_anew_and_what_is_broken_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let (first, second) = (authority(), authority());
        std::fs::write(&path, &first).unwrap();
        let uri = Uri::from_static("http://control.example:4445");
        let planes = ControlPlanes::new(vec![uri.clone()], Some(path.clone())).unwrap();
        let pem = || {
            assert_eq!(planes.endpoint(0).uri(), &uri);
            planes.in_force().pem.clone()
        };
        assert_eq!(pem(), first);
        std::fs::write(&path, "nothing").unwrap();
        assert_eq!(pem(), first);
        let complaint = planes.in_force().complaint.clone().unwrap();
        assert!(
            complaint.contains("--control-plane-ca") && complaint.contains("no certificate"),
            "{complaint}"
        );
        std::fs::write(&path, &second).unwrap();
        assert_eq!((pem(), planes.in_force().complaint.clone()), (second, None));
    }
}
