//! The principal that a request is made by, found by the credential that it presents.
//!
//! It must not know what the principal wants, or may do: that is in the snapshot, and `policy` decides it.

mod bearer_cache;
mod client_certificate;
mod credentials;

use std::sync::Arc;

pub use bearer_cache::BearerCache;
pub use client_certificate::ClientCertificate;
pub use credentials::verify_tunnel_credential;
use inbound::Holder;

use crate::error::Failure;
use crate::snapshot::{BearerGrants, Snapshot};

/// A caller whose credential was verified. It depends on no snapshot: what it may do is looked up in the one at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The kind, which says where its rights are found.
    pub kind: PrincipalKind,
    /// The identity that sealed handles are bound to, whichever bearer is presented.
    pub uid: Box<str>,
    /// The name: `tokens/{token}`, `users/{user}` or `serviceAccounts/{service_account}`.
    pub name: Box<str>,
    /// The time when its credential expires, in seconds since the Unix epoch. A token expires apart from that, because
    /// its time can be edited.
    pub expires: Option<u64>,
    /// The slot in which what it holds is counted, found once because it takes a hash.
    pub holder: Holder,
}

impl Principal {
    /// Creates a principal of this kind.
    pub fn new(kind: PrincipalKind, uid: Box<str>, name: Box<str>, expires: Option<u64>) -> Self {
        let holder = Holder::of(&*uid);
        Self { kind, uid, name, expires, holder }
    }
}

/// The kinds of principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A token, which a program presents as a bearer. What it may do is found by its uid.
    Token,
    /// A user or a service account, whose bearer names what they were granted.
    Person(Arc<BearerGrants>),
    /// The token that names the certificate of a client. It is found by that each time, because a token may name another one now.
    Certificate(Arc<ClientCertificate>),
}

/// What a caller presents: a bearer, and the certificate of its connection.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The bearer. It counts where there is one, and then alone.
    pub bearer: Option<&'a str>,
    /// The certificate.
    pub certificate: Option<&'a Arc<ClientCertificate>>,
}

/// Returns the principal whose token names `certificate`.
///
/// # Errors
/// If no token does, or several.
#[cold]
pub fn principal_of(
    snapshot: &Snapshot,
    certificate: &Arc<ClientCertificate>,
) -> Result<Arc<Principal>, Failure> {
    let token = snapshot.token_of(certificate.identities()).ok_or(Failure::Certificate)?;
    let (kind, expires) = (PrincipalKind::Certificate(Arc::clone(certificate)), certificate.expires());
    Ok(Arc::new(Principal::new(kind, token.uid.clone(), token.name.clone(), Some(expires))))
}
