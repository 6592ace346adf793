//! What the rpcs share by which people get in: passwords, the rule of transports, and the credentials that they begin and end.
//!
//! It must not know the rpcs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use ipnet::IpNet;
use tonic::Code;

use super::credentials::Credentials;
use super::rpc::Call;
use crate::auth::password::{PasswordError, Passwords};
use crate::error::Error;
use crate::rights::ADMINISTRATOR;
use crate::rights::giving::NotTheirs;
use trunkline::common::v1::Permission;

/// When somebody may come again for whom there was no place.
const CROWDED: Duration = Duration::from_secs(1);

/// The parts by which people get in.
#[derive(Debug)]
pub struct Proofs {
    /// Passwords.
    pub passwords: Passwords,
    /// Where secrets of people may be sent.
    pub transport: TransportRule,
    /// The credentials that are accepted.
    pub credentials: Arc<Credentials>,
}

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
    /// Tells whether nobody can listen to a request from `peer`.
    pub(super) fn is_secure(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> bool {
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

    /// Tells whether an address is that of many.
    pub(super) fn is_balancer(&self, address: IpAddr) -> bool {
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

impl Call<'_> {
    /// The parts by which people get in.
    pub(super) fn proofs(&self) -> &Proofs {
        &self.registry.inner.proofs
    }

    /// Refuses secrets of people where somebody could listen, before anything is looked at.
    pub(super) fn check_secure(&self) -> Result<(), Error> {
        if self.proofs().transport.is_secure(self.address, &self.headers) {
            return Ok(());
        }
        let text = "passwords and links are taken over TLS or from this machine only; use an https URL (--tls-cert), or allow \
                    it with --insecure-sign-in";
        Err(Error::new(Code::FailedPrecondition, "INSECURE_TRANSPORT", text))
    }

    /// The address that tries to sign in count for. `None`: many people have it.
    pub(super) fn counted_address(&self) -> Option<IpAddr> {
        let address = self.address.filter(|address| !self.proofs().transport.is_balancer(*address))?;
        Some(subscriber(address))
    }

    /// The address for people.
    pub(super) fn place(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }

    /// Tells whether the caller is the administrator's bearer.
    pub(super) fn is_administrator(&self) -> bool {
        self.caller.name == ADMINISTRATOR
    }

    /// Refuses callers who hold a permission in some team only.
    pub(super) fn needs_everywhere(&self, permission: Permission) -> Result<(), Error> {
        match self.caller.everywhere().contains(permission) {
            true => Ok(()),
            false => Err(denied(permission, " everywhere")),
        }
    }
}

/// Of IPv6, the network of the subscriber: they have all of its addresses.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

/// The error of a caller who does not hold a permission.
pub(super) fn denied(permission: Permission, place: &str) -> Error {
    let name = crate::rights::permission_set::name(permission);
    let text = format!("this takes the permission {name}{place}, which the caller does not have");
    Error::new(Code::PermissionDenied, "PERMISSION_DENIED", text).with("permission", name)
}

/// The error of who would give what they do not have.
pub(super) fn not_theirs(error: &NotTheirs) -> Error {
    let permissions = error.missing.names().join(",");
    Error::new(Code::PermissionDenied, "NOT_YOURS_TO_GIVE", error.to_string())
        .with("permissions", permissions)
        .with("team", error.team.clone())
}

/// The error where a password cannot be looked at.
pub(super) fn unverified(error: PasswordError) -> Error {
    match error {
        PasswordError::Crowded => {
            let text = "too many people sign in at this moment; try again in a second";
            Error::new(Code::ResourceExhausted, "OVERLOADED", text).retry_after(CROWDED)
        }
        PasswordError::Hash(_) => Error::internal(error),
    }
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
