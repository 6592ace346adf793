//! The authenticator in front of every rpc, over gRPC and JSON alike: finds the [`Caller`] by the credential that the
//! contract declares for the rpc. It runs before anything else, so that a stranger cannot learn what exists.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use inbound::{ConnectionHandle, ConnectionHolder, Framing, Guarded, PublicRequest, TransportRule};
use tonic::Code;
use trunkline::common::v1::Permission;

use super::audited::refused;
use super::bodies::{RequestBodies, too_many_connections, too_many_public_requests};
use super::credentials::Credentials;
use super::json;
use super::permissions::{Needs, Permissions, Undeclared};
use super::proofs::denied;
use crate::audit::AuditRecorder;
use crate::auth::api_key;
use crate::auth::caller::Caller;
use crate::discovery::authenticate::EdgeAuthenticator;
use crate::domain::reflect;
use crate::error::Error;
use crate::rights::Rights;

/// Headers that requests of pages have.
const OF_PAGES: [&str; 2] = ["origin", "sec-fetch-site"];

/// The challenge of HTTP Basic, as edges have it.
const BASIC: &str = r#"Basic realm="Trunkline", charset="UTF-8""#;

/// All that is left to those who must choose another password first.
const BEFORE_CHANGE: [&str; 3] = [
    "/trunkline.identity.v1.SessionService/ChangePassword",
    "/trunkline.identity.v1.SessionService/SignOut",
    "/trunkline.identity.v1.SessionService/GetCaller",
];

/// What an rpc took before its permission was another one: roles of that time go on.
const BEFORE: (&str, Permission) =
    ("/trunkline.discovery.v1.FleetService/WatchRollout", Permission::FleetRead);

/// The credentials that the authenticator accepts, and the rpcs that take each.
#[derive(Debug)]
pub struct Authenticator {
    permissions: Permissions,
    credentials: Arc<Credentials>,
    edges: EdgeAuthenticator,
    bodies: RequestBodies,
    basic: Option<TransportRule>,
    audit: AuditRecorder,
}

impl Authenticator {
    /// Reads the permissions that the contract declares. Fails where an rpc declares none. `basic`: where API keys are taken as
    /// passwords of HTTP Basic, if anywhere.
    pub fn new(
        credentials: Arc<Credentials>,
        edges: EdgeAuthenticator,
        bodies: RequestBodies,
        basic: Option<TransportRule>,
        audit: AuditRecorder,
    ) -> Result<Self, Undeclared> {
        let permissions = Permissions::read(reflect::pool())?;
        Ok(Self { permissions, credentials, edges, bodies, basic, audit })
    }

    fn framing(&self, path: &str) -> Framing {
        if self.permissions.is_client_streaming(path) { Framing::GrpcMessages } else { Framing::Whole }
    }

    /// Whether whoever asks may send an API key by HTTP Basic, and is to be told so: many programs do only then. Browsers are not: they
    /// would ask whoever sits there, and send it from then on, whichever page asks.
    fn offers_basic(&self, head: &Head) -> bool {
        let is_page = OF_PAGES.iter().any(|name| head.headers.contains_key(*name));
        !is_page && self.basic.as_ref().is_some_and(|rule| rule.is_secure(head.address, &head.headers))
    }

    async fn caller(&self, head: &Head) -> Result<Caller, Error> {
        match self.permissions.needs(&head.path) {
            Needs::Nothing => Ok(Caller::Anonymous),
            Needs::Edge => self.edges.admit(head.bearer()).await.map(Caller::Edge),
            needs => {
                let key = head.basic(self.basic.as_ref())?;
                let rights = self.credentials.rights(key.as_deref().or(head.bearer()), head.address).await?;
                check(&head.path, needs, &rights).inspect_err(|error| {
                    refused(&self.audit, &rights, (&head.path, head.address, &head.headers), error.reason());
                })?;
                Ok(Caller::Principal(rights))
            }
        }
    }
}

/// Refuses what somebody may not do, whatever it is about.
fn check(path: &str, needs: Needs, rights: &Rights) -> Result<(), Error> {
    if rights.must_change_password && !BEFORE_CHANGE.contains(&path) {
        let text = "another password must be chosen before anything else; run `mcpctl login` to choose one";
        return Err(Error::new(Code::PermissionDenied, "MUST_CHANGE_PASSWORD", text));
    }
    match needs {
        Needs::Permission(_) if path == BEFORE.0 && rights.holds(BEFORE.1) => Ok(()),
        Needs::Permission(permission) if !rights.holds(permission) => Err(denied(permission, "")),
        _ => Ok(()),
    }
}

/// What is looked at of a request before it is passed on.
struct Head {
    path: String,
    /// Scheme and credential.
    authorization: Option<(String, String)>,
    address: Option<IpAddr>,
    headers: HeaderMap,
}

impl Head {
    fn of(request: &Request) -> Self {
        let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| value.split_once(' '));
        Self {
            path: request.uri().path().to_owned(),
            authorization: sent.map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest.trim().to_owned())),
            address: request.extensions().get::<ConnectionHandle>().map(ConnectionHandle::address),
            headers: request.headers().clone(),
        }
    }

    fn bearer(&self) -> Option<&str> {
        let sent = self.authorization.as_ref().filter(|(scheme, _)| scheme == "bearer");
        sent.map(|(_, bearer)| bearer.as_str())
    }

    /// The API key that came as the password of HTTP Basic, where that is taken. Its user name says nothing.
    fn basic(&self, rule: Option<&TransportRule>) -> Result<Option<String>, Error> {
        let sent = self.authorization.as_ref().filter(|(scheme, _)| scheme == "basic");
        let (Some(rule), Some((_, sent))) = (rule, sent) else { return Ok(None) };
        if !rule.is_secure(self.address, &self.headers) {
            let text = "HTTP Basic is taken over TLS or from this machine only";
            return Err(Error::new(Code::PermissionDenied, "BASIC_NOT_HERE", text));
        }
        let text = STANDARD.decode(sent).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let key = text.as_deref().and_then(|text| text.split_once(':')).map(|(_, password)| password);
        match key.filter(|key| key.starts_with(api_key::PREFIX)) {
            Some(key) => Ok(Some(key.to_owned())),
            None => {
                let text = "the password of HTTP Basic must be an API key; the user name may be anything";
                Err(Error::new(Code::Unauthenticated, "API_KEY_INVALID", text))
            }
        }
    }
}

/// A layer for `axum::middleware::from_fn_with_state`: passes on the calls of those who may make them, with bounds on their
/// bodies. Of others nothing but the head counts.
pub async fn admit(
    State(authenticator): State<Arc<Authenticator>>,
    request: Request,
    next: Next,
) -> Response {
    let head = Head::of(&request);
    let admitted = authenticator.caller(&head).await;
    let admitted = admitted.and_then(|caller| Ok((begin(&request, &caller)?, caller)));
    match admitted {
        Ok((public_request, caller)) => {
            let framing = authenticator.framing(&head.path);
            let (mut request, _reservation) = authenticator.bodies.bound(request, &caller, framing);
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            match public_request {
                // A stream is in progress until it has ended.
                Some(public_request) => response.map(|body| Body::new(Guarded::new(body, public_request))),
                None => response,
            }
        }
        Err(error) => {
            let mut response = json::refuse(request.headers(), &error.into());
            if authenticator.offers_basic(&head) && response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(BASIC));
            }
            response
        }
    }
}

/// Notes that the connection belongs to a caller who is known, or counts its requests.
fn begin(request: &Request, caller: &Caller) -> Result<Option<PublicRequest>, Error> {
    let Some(connection) = request.extensions().get::<ConnectionHandle>() else { return Ok(None) };
    if *caller == Caller::Anonymous {
        return connection.public_request().map(Some).ok_or_else(too_many_public_requests);
    }
    connection.set_authenticated(holder(caller)).map_err(too_many_connections)?;
    Ok(None)
}

/// Whom a connection counts for. Whatever other credentials hold, edges and the administrator's bearer find one.
fn holder(caller: &Caller) -> ConnectionHolder<Option<&str>> {
    match caller {
        Caller::Edge(claims) => ConnectionHolder::kept(Some(&claims.sub)),
        Caller::Principal(rights) if !rights.uid.is_empty() => ConnectionHolder::new(Some(&rights.uid)),
        Caller::Principal(_) | Caller::Anonymous => ConnectionHolder::kept(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::HeldRole;
    use crate::rights::permission_set::PermissionSet;

    #[test]
    fn who_sees_the_fleet_sees_how_far_it_is_whatever_else_they_see() {
        let allowed = |held: Permission, path: &str, needed: Permission| {
            let permissions = [held].into_iter().collect();
            let role = HeldRole { role: "roles/own".to_owned(), team: String::new(), permissions };
            let (uid, name) = ("u".to_owned(), "users/ann".to_owned());
            let rights = Rights::new(uid, name, vec![role], [].into(), PermissionSet::all());
            check(path, Needs::Permission(needed), &rights).is_ok()
        };
        let other = "/trunkline.registry.v1.ServerService/ListServers";
        let read = Permission::RegistryRead;
        assert!(allowed(read, BEFORE.0, read) && allowed(Permission::FleetRead, BEFORE.0, read));
        assert!(
            !allowed(Permission::FleetRead, other, read) && !allowed(Permission::UsageRead, BEFORE.0, read)
        );
    }
}
