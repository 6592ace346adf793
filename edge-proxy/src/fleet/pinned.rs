//! TLS in which both sides accept certificates by their fingerprint alone. It must not know who is accepted.
//!
//! TLS 1.3 only, and nothing is resumed: an earlier session would let in an edge that has left the snapshot since.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    ServerConfig, SignatureScheme,
};

use super::certificate::{Certificate, fingerprint};
use crate::snapshot::Sha256;

type Accepts = dyn Fn(&Sha256) -> bool + Send + Sync;

/// Accepts certificates by their fingerprint, once the handshake has shown that the other side has the key.
struct Pinned {
    provider: Arc<CryptoProvider>,
    accepts: Box<Accepts>,
}

impl Pinned {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let accepted = (self.accepts)(&fingerprint(certificate));
        accepted
            .then_some(())
            .ok_or(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}

/// TLS towards the one edge that has `sibling` for its certificate.
pub(super) fn client(own: &Certificate, sibling: Sha256) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let pinned =
        Pinned { provider: Arc::clone(&provider), accepts: Box::new(move |found| *found == sibling) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// TLS for the edges whose certificates are accepted.
pub(super) fn server(own: &Certificate, accepts: Box<Accepts>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let pinned = Pinned { provider: Arc::clone(&provider), accepts };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(pinned))
        .with_single_cert(vec![own.certificate.clone()], own.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn never_asked_for() -> Error {
    PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never_asked_for())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never_asked_for())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    fn certificate() -> Certificate {
        Certificate::load_or_create(tempfile::tempdir().unwrap().path()).unwrap()
    }

    /// Returns whether both sides come to trust each other.
    fn shake(client: ClientConfig, server: ServerConfig) -> Result<(), Error> {
        let name = ServerName::try_from("any").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut wire = Vec::new();
        for _ in 0..4 {
            wire.clear();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    #[test]
    fn each_side_accepts_what_is_pinned_and_nothing_else() {
        let (mine, theirs, other) = (certificate(), certificate(), certificate());
        let accepts = |who: &Certificate| {
            let pinned = who.fingerprint();
            Box::new(move |found: &Sha256| *found == pinned) as Box<Accepts>
        };
        let to = |own: &Certificate, sibling: &Certificate| client(own, sibling.fingerprint()).unwrap();
        let at = |own: &Certificate, sibling: &Certificate| server(own, accepts(sibling)).unwrap();
        assert_eq!(shake(to(&mine, &theirs), at(&theirs, &mine)), Ok(()));
        assert!(shake(to(&mine, &theirs), at(&other, &mine)).is_err(), "the server is another");
        assert!(shake(to(&other, &theirs), at(&theirs, &mine)).is_err(), "the client is another");
        let stolen = Certificate { certificate: mine.certificate.clone(), key: other.key.clone_key() };
        assert!(client(&stolen, theirs.fingerprint()).is_err(), "a certificate without its key");
    }

    #[test]
    fn a_peer_without_a_certificate_is_refused() {
        let theirs = certificate();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pin = theirs.fingerprint();
        let pinned =
            Pinned { provider: Arc::clone(&provider), accepts: Box::new(move |found| *found == pin) };
        let anonymous = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned))
            .with_no_client_auth();
        assert!(shake(anonymous, server(&theirs, Box::new(|_| true)).unwrap()).is_err());
    }
}
