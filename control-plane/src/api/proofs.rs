//! What the rpcs share by which people get in: passwords, the rule of transports, and the credentials that they begin and end.
//!
//! It must not know the rpcs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use inbound::TransportRule;
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
