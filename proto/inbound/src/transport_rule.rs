//! The ways to a listener on which nobody can listen: those that secrets may be sent on.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// Tells the ways on which nobody can listen from others.
#[derive(Debug, Clone, Default)]
pub struct TransportRule {
    /// The listener speaks TLS.
    pub is_tls: bool,
    /// Plain HTTP is good enough.
    pub allows_plain: bool,
    /// Balancers that may say that their client speaks TLS.
    pub balancers: Vec<IpNet>,
}

impl TransportRule {
    /// Returns whether nobody can listen to a request from `peer`.
    pub fn is_secure(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> bool {
        if self.is_tls || self.allows_plain {
            return true;
        }
        let Some(peer) = peer else { return false };
        match forwarded_scheme(headers) {
            // A proxy on this machine says so of clients elsewhere.
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => {
                peer.is_loopback() || self.is_balancer(peer)
            }
            Some(_) => false,
            None => peer.is_loopback() && !self.is_balancer(peer),
        }
    }

    /// Returns whether an address is that of many.
    pub fn is_balancer(&self, address: IpAddr) -> bool {
        self.balancers.iter().any(|network| network.contains(&address))
    }
}

/// The scheme by which a client spoke to the last proxy, as that one says.
fn forwarded_scheme(headers: &HeaderMap) -> Option<&str> {
    let last = |name: &str| headers.get_all(name).iter().next_back()?.to_str().ok();
    if let Some(scheme) = last("x-forwarded-proto") {
        return Some(scheme.rsplit(',').next().unwrap_or_default().trim());
    }
    let element = last("forwarded")?.rsplit(',').next()?;
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("proto").then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn plain_http_is_good_enough_on_this_machine_only() {
        let rule = TransportRule::default();
        let none = headers(&[]);
        assert!(rule.is_secure("127.0.0.1".parse().ok(), &none));
        assert!(rule.is_secure("::1".parse().ok(), &none));
        assert!(!rule.is_secure("192.0.2.1".parse().ok(), &none));
        assert!(!rule.is_secure(None, &none));
        let tls = TransportRule { is_tls: true, ..TransportRule::default() };
        assert!(tls.is_secure("192.0.2.1".parse().ok(), &none));
        let plain = TransportRule { allows_plain: true, ..TransportRule::default() };
        assert!(plain.is_secure("192.0.2.1".parse().ok(), &none));
    }

    #[test]
    fn only_balancers_say_that_their_client_speaks_tls() {
        let balancers = vec!["192.0.2.0/24".parse().unwrap()];
        let rule = TransportRule { balancers, ..TransportRule::default() };
        let (balancer, other) = ("192.0.2.7".parse().ok(), "198.51.100.1".parse().ok());
        for https in [
            headers(&[("x-forwarded-proto", "https")]),
            headers(&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "http, HTTPS")]),
            headers(&[("forwarded", "for=10.0.0.1;proto=http, for=10.0.0.2; Proto=\"https\"")]),
        ] {
            assert!(rule.is_secure(balancer, &https), "{https:?}");
            assert!(!rule.is_secure(other, &https), "{https:?}");
        }
        for http in
            [headers(&[("x-forwarded-proto", "http")]), headers(&[("forwarded", "for=10.0.0.1;proto=http")])]
        {
            assert!(!rule.is_secure(balancer, &http), "{http:?}");
            assert!(!rule.is_secure("127.0.0.1".parse().ok(), &http), "{http:?}");
        }
        assert!(!rule.is_secure(balancer, &headers(&[])));
    }
}
