//! The certificate of a client, which the handshake has verified: the identities that it names, and until when.
//!
//! It must not know tokens, nor which authorities are believed.

use access::certificate::identities;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// The names of a certificate that are looked at; one with more has none.
const MAX_NAMES: usize = 64;

/// The certificate of a client.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    identities: Box<[Box<str>]>,
    expires: u64,
}

impl ClientCertificate {
    /// Reads the chain that a client presented, its own certificate first. One that cannot be read is nobody's.
    pub fn read(chain: &[CertificateDer<'static>]) -> Self {
        let (identities, expires) = chain.first().and_then(|leaf| read(leaf)).unwrap_or_default();
        Self { chain: chain.to_vec(), identities: identities.into(), expires }
    }

    /// The certificates as they were presented.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The identities that a token may name it by.
    pub fn identities(&self) -> &[Box<str>] {
        &self.identities
    }

    /// When it is not valid any more, in seconds since the Unix epoch.
    pub fn expires(&self) -> u64 {
        self.expires
    }
}

fn read(leaf: &[u8]) -> Option<(Vec<Box<str>>, u64)> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let expires = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let extension = certificate.subject_alternative_name().ok()?;
    let names = extension.map_or(&[][..], |extension| &extension.value.general_names[..]);
    let (mut uris, mut dns_names, mut has_others) = (Vec::new(), Vec::new(), false);
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => dns_names.push(*name),
            _ => has_others = true,
        }
    }
    let common_names = certificate.subject().iter_common_name().map(|name| name.as_str());
    let common_names: Vec<&str> = common_names.collect::<Result<_, _>>().ok()?;
    if names.len() > MAX_NAMES || common_names.len() > MAX_NAMES {
        return None;
    }
    Some((identities(&uris, &dns_names, has_others, &common_names), expires))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(names: Vec<SanType>, common_names: &str) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = DistinguishedName::new();
        if !common_names.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common_names);
        }
        params.not_after = date_time_ymd(2030, 1, 1);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::read(&[made.der().clone()])
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn each_kind_of_name_is_an_identity_of_its_own_kind() {
        let spiffe = uri("spiffe://example.org/agent");
        for (names, common_name, expected) in [
            (vec![spiffe.clone()], "boss", vec!["spiffe://example.org/agent"]),
            (vec![dns("Agent.example.org")], "boss", vec!["dns:agent.example.org"]),
            (vec![], "agent", vec!["cn:agent"]),
            (vec![spiffe.clone(), uri("spiffe://example.org/b")], "boss", vec![]),
            (vec![dns("spiffe://example.org/agent"), dns("*.example.org")], "boss", vec![]),
            (vec![SanType::Rfc822Name("boss@example.org".try_into().unwrap())], "boss", vec![]),
            (vec![spiffe; MAX_NAMES + 1], "boss", vec![]),
        ] {
            let read = certificate(names, common_name);
            let found: Vec<&str> = read.identities().iter().map(|name| &**name).collect();
            assert_eq!(found, expected, "{common_name}");
        }
        assert_eq!(certificate(vec![], "agent").expires(), 1_893_456_000);
    }

    #[test]
    fn what_cannot_be_read_is_nobody() {
        for bytes in [&b""[..], b"junk", &[0x30, 0x82, 0xff, 0xff]] {
            let read = ClientCertificate::read(&[CertificateDer::from(bytes.to_vec())]);
            assert_eq!((read.identities().len(), read.expires()), (0, 0));
        }
    }
}
