//! The rpcs of callers about themselves: who they are, where they are signed in, their password, and what they call servers with.

use std::collections::BTreeSet;

use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::{
    Binding, ChangePasswordRequest, ChangePasswordResponse, CreateAccessBearerRequest,
    CreateAccessBearerResponse, CreateSignInLinkRequest, CreateSignInLinkResponse, GetCallerRequest,
    GetCallerResponse, ListSessionsRequest, ListSessionsResponse, RevokeSessionRequest,
    RevokeSessionResponse, Session, SignOutRequest, SignOutResponse, TeamPermissions,
};

use super::credentials::{key_refused, session_ended};
use super::people::{principal_not_found, revoke_all, revoke_made};
use super::proofs::{denied, not_theirs, unverified};
use super::rpc::{Call, Rpc};
use super::sign_in::too_often;
use crate::auth::keys::AccessClaims;
use crate::auth::password::{self, Verified};
use crate::auth::throttle::SignInAttempt;
use crate::auth::{link, session};
use crate::clock;
use crate::domain::principal;
use crate::error::Error;
use crate::rights::giving::check_stands_above;
use crate::rights::permission_set::PermissionSet;
use crate::rights::{HeldRole, Rights};
use crate::store::links::LinkPurpose;
use crate::store::principals::{PasswordRow, Principal};
use crate::store::sessions::SessionRow;

/// The sessions that are listed at most.
const MOST_LISTED: i64 = 1_000;
/// The pairs of role and team that a bearer names at most: it is a header of every call.
const MOST_PAIRS: usize = 128;
/// All of somebody's.
const ALL: &str = "-";

impl Rpc for SignOutRequest {
    type Response = SignOutResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let id = call.session_id()?;
        let mut tx = call.registry.store().write().await?;
        if tx.delete_session(&call.caller.uid, id).await? {
            revoke_made(&mut tx, &call.caller.uid).await?;
        }
        tx.commit().await?;
        call.proofs().credentials.forget();
        Ok(SignOutResponse {})
    }
}

impl Rpc for GetCallerRequest {
    type Response = GetCallerResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let caller = &call.caller;
        let binding = |held: &HeldRole| Binding { role: held.role.clone(), team: held.team.clone() };
        Ok(GetCallerResponse {
            principal: caller.name.clone(),
            through: caller.through.clone(),
            expire_time: caller.end_us.map(clock::timestamp),
            bindings: caller.roles().iter().map(binding).collect(),
            teams: caller.teams().iter().cloned().collect(),
            permissions: caller.everywhere().names(),
            team_permissions: team_permissions(caller),
            must_change_password: caller.must_change_password,
        })
    }
}

fn team_permissions(caller: &Rights) -> Vec<TeamPermissions> {
    let of_roles = caller.roles().iter().map(|held| held.team.as_str()).filter(|team| !team.is_empty());
    let teams: BTreeSet<&str> = caller.teams().iter().map(String::as_str).chain(of_roles).collect();
    let of =
        |team: &str| TeamPermissions { team: team.to_owned(), permissions: caller.in_team(team).names() };
    teams.into_iter().map(of).collect()
}

impl Rpc for ChangePasswordRequest {
    type Response = ChangePasswordResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        call.check_secure()?;
        let id = call.session_id()?.to_owned();
        let store = call.registry.store();
        let person = call.person().await?;
        let email = person.email.as_deref().unwrap_or_default();
        password::check(&self.new_password, email)
            .map_err(|unfit| Error::field("new_password", unfit.to_string()))?;
        if self.new_password == self.password {
            return Err(Error::field("new_password", "is the password of now; choose another one"));
        }
        let seat =
            call.proofs().passwords.seat(Some(email), call.counted_address(), true).map_err(unverified)?;
        // Who has stolen a session does not guess the password by it either.
        let attempt = SignInAttempt::new(email, None, Some(id.as_str()));
        if let Some(wait) = attempt.begin(store).await? {
            return Err(too_often(wait));
        }
        let stored = store.password(&person.uid).await?;
        let verified = call.proofs().passwords.verify(&seat, &self.password, &stored.phc).await;
        if verified.map_err(unverified)? == Verified::No {
            attempt.failed(store).await?;
            let text = "the password of now is wrong";
            return Err(Error::new(Code::PermissionDenied, "PASSWORD_WRONG", text));
        }
        attempt.succeeded(store).await?;
        let phc = call.proofs().passwords.hash(&seat, &self.new_password).await.map_err(unverified)?;
        let mut tx = store.write().await?;
        if tx.password(&person.uid).await?.phc != stored.phc {
            let text = "the password was changed meanwhile; sign in again";
            return Err(Error::new(Code::Aborted, "PASSWORD_CHANGED", text));
        }
        tx.put_password(&person.uid, &PasswordRow { phc, must_change: false }).await?;
        tx.delete_links_of(&person.uid).await?;
        revoke_all(&mut tx, &person.uid, &id).await?;
        tx.commit().await?;
        call.proofs().credentials.forget();
        tracing::info!(principal = person.name, "changed the password");
        Ok(ChangePasswordResponse {})
    }
}

impl Rpc for ListSessionsRequest {
    type Response = ListSessionsResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let person = call.user_of_sessions(&self.parent, Permission::PeopleRead).await?;
        let now_us = clock::now_us();
        let rows = call.registry.store().sessions_of(&person.uid, now_us, MOST_LISTED).await?;
        let rows = rows.iter().filter(|row| session::is_in_force(row, now_us));
        let sessions = rows.map(|row| message(&person.name, row, &call.caller.through)).collect();
        Ok(ListSessionsResponse { sessions })
    }
}

impl Rpc for RevokeSessionRequest {
    type Response = RevokeSessionResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let Some((parent, id)) = principal::split(&self.name, "sessions") else {
            let text = format!("`{}` is not of the form `users/{{user}}/sessions/{{session}}`", self.name);
            return Err(Error::field("name", text));
        };
        let person = call.user_of_sessions(parent, Permission::PeopleWrite).await?;
        let mut tx = call.registry.store().write().await?;
        if id == ALL {
            revoke_all(&mut tx, &person.uid, "").await?;
        } else if tx.delete_session(&person.uid, id).await? {
            revoke_made(&mut tx, &person.uid).await?;
        } else {
            return Err(principal_not_found(&self.name));
        }
        tx.commit().await?;
        call.proofs().credentials.forget();
        Ok(RevokeSessionResponse {})
    }
}

impl Rpc for CreateAccessBearerRequest {
    type Response = CreateAccessBearerResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let store = call.registry.store();
        // Read before what it holds: what is lost in between is lost to this bearer.
        let person = call.person().await?;
        call.check_in_force().await?;
        let rights = store.rights_of(&person.uid, None).await?;
        let rights = rights.ok_or_else(|| principal_not_found(&person.name))?;
        if call.is_limited().await? {
            let text = "an API key that is limited to a role makes no access bearer; use one without a role, or a token";
            return Err(Error::new(Code::FailedPrecondition, "KEY_IS_LIMITED", text));
        }
        let rights = if self.team.is_empty() { rights } else { of_team(&rights, &self.team)? };
        let pairs = store.grant_pairs(&rights).await?;
        if pairs.len() > MOST_PAIRS {
            let text = format!(
                "the caller has {} roles in teams, and a bearer names at most {MOST_PAIRS}; choose one team with `team`",
                pairs.len()
            );
            return Err(Error::new(Code::FailedPrecondition, "TOO_MANY_TEAMS", text));
        }
        let claims = AccessClaims::new(&person.name, &person.uid, person.epoch, pairs, call.caller.end_us);
        let expire_time = Some(clock::timestamp(claims.exp * 1_000_000));
        let signer = &call.registry.inner.signer;
        Ok(CreateAccessBearerResponse {
            bearer: signer.sign_access(claims).map_err(Error::internal)?,
            expire_time,
        })
    }
}

/// What somebody has in one team.
fn of_team(rights: &Rights, team: &str) -> Result<Rights, Error> {
    let held: Vec<_> = rights.roles().iter().filter(|held| held.team == team).cloned().collect();
    if held.is_empty() {
        return Err(Error::field("team", format!("the caller has no role in {team}")));
    }
    let teams = BTreeSet::from([team.to_owned()]);
    Ok(Rights::new(rights.uid.clone(), rights.name.clone(), held, teams, PermissionSet::all()))
}

impl Rpc for CreateSignInLinkRequest {
    type Response = CreateSignInLinkResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        // A key may hold less than its owner, who is signed in by the link.
        call.session_id()?;
        let mut tx = call.registry.store().write().await?;
        call.check_in_force().await?;
        let (link, secret) = link::generate(LinkPurpose::SignIn, &call.caller.uid, tx.now_us());
        tx.add_link(&link).await?;
        tx.commit().await?;
        Ok(CreateSignInLinkResponse { secret, expire_time: Some(clock::timestamp(link.expire_us)) })
    }
}

impl Call<'_> {
    /// Refuses who proved who they are by what has ended since. Credentials are remembered for a moment, and what is made with one must
    /// not outlive it: what this finds has not ended, or ends with an epoch that is still to come.
    async fn check_in_force(&self) -> Result<(), Error> {
        let (store, through, now_us) = (self.registry.store(), &self.caller.through, clock::now_us());
        if let Some((_, id)) = principal::split(through, "sessions") {
            let rows = store.sessions_of(&self.caller.uid, now_us, MOST_LISTED).await?;
            let is_there = rows.iter().any(|row| row.id == id && session::is_in_force(row, now_us));
            return if is_there { Ok(()) } else { Err(session_ended()) };
        }
        match principal::split(through, "keys") {
            Some((_, id)) if store.api_key(id).await?.is_none() => Err(key_refused()),
            _ => Ok(()),
        }
    }

    /// Tells whether the caller uses an API key that may do no more than a role.
    async fn is_limited(&self) -> Result<bool, Error> {
        let Some((_, id)) = principal::split(&self.caller.through, "keys") else { return Ok(false) };
        let key = self.registry.store().api_key(id).await?;
        Ok(key.is_none_or(|key| !key.role.is_empty()))
    }

    /// The id of the session that this request is part of.
    fn session_id(&self) -> Result<&str, Error> {
        let id = principal::split(&self.caller.through, "sessions").map(|(_, id)| id);
        id.ok_or_else(|| {
            let text = "this is for people who are signed in; sign in with `mcpctl login`";
            Error::new(Code::FailedPrecondition, "NO_SESSION", text)
        })
    }

    /// The principal who calls.
    async fn person(&self) -> Result<Principal, Error> {
        if self.is_administrator() {
            let text =
                "the administrator's bearer is nobody's; sign in with `mcpctl login`, or create a token";
            return Err(Error::new(Code::FailedPrecondition, "NO_PRINCIPAL", text));
        }
        let found = self.registry.store().principal_by_uid(&self.caller.uid).await?;
        found.ok_or_else(|| principal_not_found(&self.caller.name))
    }

    /// The user whose sessions a request is about. Those of others take a permission, and to end them all that they have.
    async fn user_of_sessions(&self, parent: &str, permission: Permission) -> Result<Principal, Error> {
        if parent.is_empty() || parent == self.caller.name {
            return if self.caller.is_limited { Err(limited()) } else { self.person().await };
        }
        if !self.caller.everywhere().contains(permission) {
            return Err(denied(permission, " everywhere"));
        }
        let store = self.registry.store();
        let found = store.principal(parent).await?.filter(|found| found.email.is_some());
        let person = found.ok_or_else(|| principal_not_found(parent))?;
        if permission == Permission::PeopleWrite
            && let Some(theirs) = store.rights_of(&person.uid, None).await?
        {
            check_stands_above(&self.caller, &theirs).map_err(|error| not_theirs(&error))?;
        }
        Ok(person)
    }
}

fn limited() -> Error {
    let text = "an API key that is limited to a role is not told of sessions, and ends none; use one without a role, or sign in";
    Error::new(Code::PermissionDenied, "KEY_IS_LIMITED", text)
}

/// The message of a session of `person`. `through`: the name of the one of the request.
pub(super) fn message(person: &str, row: &SessionRow, through: &str) -> Session {
    let name = format!("{person}/sessions/{}", row.id);
    Session {
        create_time: Some(clock::timestamp(row.create_us)),
        last_use_time: Some(clock::timestamp(row.seen_us)),
        expire_time: Some(clock::timestamp(row.expire_us)),
        address: row.address.clone(),
        agent: row.agent.clone(),
        method: row.method,
        current: name == through,
        name,
    }
}
