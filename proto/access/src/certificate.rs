//! The identities that tokens name of client certificates, in one spelling each: a SPIFFE ID, a DNS name, or the common name of a
//! certificate that has neither.
//!
//! It must not know how a certificate is encoded, nor who trusts it.

/// The most bytes of a SPIFFE ID (SPIFFE ID, section 2.3).
const MAX_SPIFFE_ID: usize = 2_048;
/// The most bytes of a name in DNS.
const MAX_DNS_NAME: usize = 253;
/// The most bytes of a label of one.
const MAX_LABEL: usize = 63;
/// The most characters of a common name (RFC 5280, appendix A.1).
const MAX_COMMON_NAME: usize = 64;

/// Why a text is no identity of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// It is of no form that is known.
    #[error("must be spiffe://TRUST-DOMAIN/PATH, dns:NAME or cn:NAME")]
    Form,
    /// A name that stands for many.
    #[error("must name one certificate; wildcards are not taken")]
    Wildcard,
    /// A SPIFFE ID that is none.
    #[error(
        "must be a SPIFFE ID as spiffe://example.org/ns/prod/sa/agent: a trust domain in lower case, and a path of letters, digits, \
         `.`, `-` and `_`, without a slash at its end"
    )]
    SpiffeId,
    /// A name that cannot be in DNS.
    #[error("must be a DNS name in lower case, as dns:agent.example.org")]
    DnsName,
    /// A common name that none is taken for.
    #[error("must be a common name of 1 to 64 printable characters without spaces around it, as cn:agent")]
    CommonName,
}

/// Checks the identity of a certificate as a token names it.
///
/// # Errors
/// If it is none, or not spelled as it must be.
pub fn check_identity(text: &str) -> Result<(), NoIdentity> {
    let (is_fine, otherwise) = if text.starts_with("spiffe:") {
        (is_spiffe_id(text), NoIdentity::SpiffeId)
    } else if let Some(name) = text.strip_prefix("dns:") {
        (is_dns_name(name), NoIdentity::DnsName)
    } else if let Some(name) = text.strip_prefix("cn:") {
        (is_common_name(name), NoIdentity::CommonName)
    } else {
        (false, NoIdentity::Form)
    };
    match is_fine {
        true => Ok(()),
        false if text.contains('*') => Err(NoIdentity::Wildcard),
        false => Err(otherwise),
    }
}

/// The identities of a certificate with these names. One with several URIs is that of no workload (X.509-SVID, section 2), and a
/// common name counts where there is nothing else, not even names of other kinds (`has_others`): authorities look at it less.
pub fn identities(
    uris: &[&str],
    dns_names: &[&str],
    has_others: bool,
    common_names: &[&str],
) -> Vec<Box<str>> {
    let names: Vec<String> = match (uris, dns_names, common_names) {
        ([], [], [name]) if !has_others => vec![format!("cn:{name}")],
        ([], [], _) => Vec::new(),
        (uris, dns_names, _) => {
            let spiffe_id = if let [uri] = uris { Some((*uri).to_owned()) } else { None };
            let dns_names = dns_names.iter().map(|name| format!("dns:{}", name.to_ascii_lowercase()));
            spiffe_id.into_iter().chain(dns_names).collect()
        }
    };
    names.into_iter().filter(|name| check_identity(name).is_ok()).map(Into::into).collect()
}

fn is_spiffe_id(text: &str) -> bool {
    let Some((domain, path)) = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let of_domain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let of_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(of_path);
    text.len() <= MAX_SPIFFE_ID
        && (1..=255).contains(&domain.len())
        && domain.bytes().all(of_domain)
        && path.split('/').all(is_segment)
}

fn is_dns_name(name: &str) -> bool {
    let of_label =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(of_label)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_DNS_NAME && name.split('.').all(is_label)
}

fn is_common_name(name: &str) -> bool {
    let is_fine = |letter: char| !letter.is_control() && letter != '*';
    (1..=MAX_COMMON_NAME).contains(&name.chars().count()) && name.trim() == name && name.chars().all(is_fine)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_identity_has_one_spelling() {
        for fine in [
            "spiffe://example.org/ns/prod/sa/agent",
            "spiffe://trust_domain-1.example/A.b_c-1",
            "dns:agent.example.org",
            "dns:localhost",
            "cn:agent",
            "cn:Agent of the night, Inc.",
        ] {
            assert_eq!(check_identity(fine), Ok(()), "{fine}");
        }
        let long = format!("dns:{}.org", "a".repeat(64));
        for (text, expected) in [
            ("", NoIdentity::Form),
            ("agent", NoIdentity::Form),
            ("CN=agent", NoIdentity::Form),
            ("DNS:agent.example.org", NoIdentity::Form),
            ("https://example.org/agent", NoIdentity::Form),
            ("spiffe://example.org", NoIdentity::SpiffeId),
            ("spiffe://example.org/", NoIdentity::SpiffeId),
            ("spiffe://Example.org/agent", NoIdentity::SpiffeId),
            ("spiffe://example.org:443/agent", NoIdentity::SpiffeId),
            ("spiffe://example.org/agent/", NoIdentity::SpiffeId),
            ("spiffe://example.org/a//b", NoIdentity::SpiffeId),
            ("spiffe://example.org/../agent", NoIdentity::SpiffeId),
            ("spiffe://example.org/a%2fb", NoIdentity::SpiffeId),
            ("spiffe://example.org/agent?x=1", NoIdentity::SpiffeId),
            ("spiffe://example.org/*", NoIdentity::Wildcard),
            ("dns:*.example.org", NoIdentity::Wildcard),
            ("dns:Agent.example.org", NoIdentity::DnsName),
            ("dns:agent.example.org.", NoIdentity::DnsName),
            ("dns:-agent.example.org", NoIdentity::DnsName),
            (&long, NoIdentity::DnsName),
            ("dns:", NoIdentity::DnsName),
            ("cn:", NoIdentity::CommonName),
            ("cn: agent", NoIdentity::CommonName),
            ("cn:a\nb", NoIdentity::CommonName),
            ("cn:*", NoIdentity::Wildcard),
        ] {
            assert_eq!(check_identity(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_certificate_is_what_its_names_say_and_its_common_name_only_without_them() {
        let of =
            |uris: &[&str], dns: &[&str], common: &[&str]| identities(uris, dns, false, common).join(" ");
        assert_eq!(of(&["spiffe://e.org/a"], &[], &["boss"]), "spiffe://e.org/a");
        assert_eq!(of(&["spiffe://e.org/a", "spiffe://e.org/b"], &[], &["boss"]), "");
        assert_eq!(of(&["spiffe://e.org/a", "https://e.org"], &["A.e.org"], &[]), "dns:a.e.org");
        assert_eq!(of(&["https://e.org"], &[], &["boss"]), "");
        assert_eq!(of(&[], &["*.e.org"], &["boss"]), "", "a wildcard is nobody");
        assert_eq!(of(&[], &[], &["agent"]), "cn:agent");
        assert_eq!(of(&[], &[], &["agent", "boss"]), "");
        assert!(identities(&[], &[], true, &["agent"]).is_empty(), "it has an address");
    }

    proptest! {
        #[test]
        fn whatever_a_certificate_says_a_token_could_name_it(
            uris in proptest::collection::vec("(spiffe://)?[a-z./*]{0,12}", 0..3),
            dns in proptest::collection::vec("[a-zA-Z.*]{0,12}", 0..3),
            has_others: bool,
            common in proptest::collection::vec(".{0,8}", 0..3),
        ) {
            let [uris, dns, common] = [&uris, &dns, &common].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            for identity in identities(&uris, &dns, has_others, &common) {
                prop_assert_eq!(check_identity(&identity), Ok(()));
                prop_assert!(!identity.contains('*'));
            }
        }
    }
}
