//! Why a connection cannot be made, in plain words: TLS that is spoken to who speaks none, and certificates that cannot be used.
//!
//! It must not know which flag mends it: whoever shows the words says that.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// What is wrong with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// TLS was spoken to who speaks none.
    NotTls,
    /// What answers does not speak HTTP; if nothing is encrypted, it may speak TLS.
    NotHttp,
    /// The certificate was signed by an authority that is not trusted.
    UnknownIssuer,
    /// The certificate is for these names.
    WrongName(Vec<String>),
    /// The certificate has expired.
    Expired,
    /// The certificate is valid later.
    NotValidYet,
    /// The certificate is that of an authority.
    IsAuthority,
    /// The certificate cannot be used for another reason.
    Certificate(String),
    /// The other side refused the handshake.
    Refused(AlertDescription),
}

impl Fault {
    /// Finds the fault among the causes of an error.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let tls = error.downcast_ref().and_then(Self::of_tls);
            if let Some(fault) = tls.or_else(|| Self::of_http(error)) {
                return Some(fault);
            }
            // An I/O error holds another one, and does not name it as its cause.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(held) => Some(held),
                None => error.source(),
            };
        }
        None
    }

    fn of_tls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Self::NotTls),
            rustls::Error::AlertReceived(alert) => Some(Self::Refused(*alert)),
            rustls::Error::InvalidCertificate(certificate) => Some(Self::of_certificate(certificate)),
            _ => None,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // A signature is wrong where another authority has the name of one that is trusted: one that was made anew, as a rule.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet,
            CertificateError::NotValidForName => Self::WrongName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName(presented.iter().map(|name| plain_name(name)).collect())
            }
            // The verifier has a type of its own for it, which is not in reach here.
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => Self::IsAuthority,
            other => Self::Certificate(other.to_string()),
        }
    }

    /// An answer that does not begin as HTTP does; hyper tells it by its words alone.
    fn of_http(error: &(dyn Error + 'static)) -> Option<Self> {
        let error = error.downcast_ref::<hyper::Error>()?;
        (error.is_parse() && error.to_string().contains("version")).then_some(Self::NotHttp)
    }
}

/// `DnsName("a.example")` is `a.example`.
fn plain_name(name: &str) -> String {
    let quoted = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    quoted.unwrap_or(name).trim_matches('"').to_owned()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("it does not speak TLS there; its URL begins with http://"),
            Self::NotHttp => {
                f.write_str("it does not answer in HTTP; if it speaks TLS, its URL begins with https://")
            }
            Self::UnknownIssuer => {
                f.write_str("its certificate was signed by an authority that is not trusted here")
            }
            Self::WrongName(names) if names.is_empty() => {
                f.write_str("its certificate is for another name than the one in its URL")
            }
            Self::WrongName(names) => {
                let names = names.join(", ");
                write!(f, "its certificate is for {names}, and not for the name in its URL")
            }
            Self::Expired => f.write_str("its certificate has expired"),
            Self::NotValidYet => f.write_str("its certificate is not valid yet; compare the clocks"),
            Self::IsAuthority => f.write_str(
                "its certificate is that of an authority itself, which no server may present; it needs one that the authority signed",
            ),
            Self::Certificate(why) => write!(f, "its certificate cannot be used: {why}"),
            Self::Refused(AlertDescription::CertificateRequired) => {
                f.write_str("it takes no connection without a client certificate")
            }
            Self::Refused(alert) => write!(f, "it refused the TLS handshake ({alert:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_below_what_holds_it() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let held = io::Error::new(io::ErrorKind::InvalidData, inner);
        let outer = io::Error::other(held);
        assert_eq!(Fault::of(&outer), Some(Fault::UnknownIssuer));
        assert_eq!(Fault::of(&io::Error::other("else")), None);
        let renewed = rustls::Error::InvalidCertificate(CertificateError::BadSignature);
        assert_eq!(Fault::of(&renewed), Some(Fault::UnknownIssuer));
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(Fault::of(&plain), Some(Fault::NotTls));
    }

    #[test]
    fn who_wants_a_certificate_is_said_to_want_one() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let found = Fault::of(&io::Error::other(alert)).map(|fault| fault.to_string());
        assert_eq!(found.as_deref(), Some("it takes no connection without a client certificate"));
    }

    #[test]
    fn names_are_those_of_the_certificate() {
        let names = [r#"DnsName("a.example")"#, "IpAddress(127.0.0.1)"].map(plain_name).to_vec();
        assert_eq!(
            Fault::WrongName(names).to_string(),
            "its certificate is for a.example, 127.0.0.1, and not for the name in its URL"
        );
    }
}
