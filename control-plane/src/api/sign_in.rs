//! The rpcs by which people get in without a credential: by email and password, and by a one-time link.
//!
//! Whatever is wrong, the answer is the same, and so is the work: it must not tell who exists.

use std::net::IpAddr;
use std::time::Duration;

use inbound::LineLimit;
use tonic::Code;
use trunkline::admin::v1::AuditKind;
use trunkline::identity::v1::{
    RedeemLinkRequest, RedeemLinkResponse, Session, SignInMethod, SignInRequest, SignInResponse, UserState,
};

use super::Registry;
use super::people::{new_principal, revoke_all};
use super::proofs::unverified;
use super::rpc::{Call, Rpc};
use super::sessions::message;
use crate::audit::Incident;
use crate::auth::admin::token_hash;
use crate::auth::password::{self, Verified};
use crate::auth::session;
use crate::auth::throttle::SignInAttempt;
use crate::clock;
use crate::domain::principal::{self, EMAIL, USERS};
use crate::error::Error;
use crate::rights::roles;
use crate::store::audit::{Author, Deed};
use crate::store::bindings::BindingRow;
use crate::store::links::{LinkPurpose, LinkRow};
use crate::store::principals::{PasswordRow, Principal};
use crate::store::sessions::SessionRow;
use crate::store::{Store, Tx};

/// Why somebody is not looked at who tries again too soon.
const THROTTLED: &str = "TOO_MANY_SIGN_INS";
/// The longest text about what somebody signs in with, in characters.
const MAX_AGENT: usize = 128;

/// Who guesses must not fill the log.
static REFUSALS: LineLimit<Option<IpAddr>> = LineLimit::new();

impl Rpc for SignInRequest {
    type Response = SignInResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        call.check_secure()?;
        let agent = agent(&self.agent)?;
        let store = call.registry.store();
        // What is no address is nobody's, and is looked for like any other.
        let email = principal::email(self.email.trim()).unwrap_or_default();
        let found = store.principal_by_email(&email).await?;
        let uid = found.as_ref().map_or("", |found| &found.uid);
        let device = token_hash(&self.device);
        let is_known = store.knows_device(uid, &device).await?;
        let seat = call.proofs().passwords.seat(Some(&email), call.counted_address(), is_known);
        let seat = seat.map_err(unverified)?;
        let attempt = SignInAttempt::new(&email, call.counted_address(), is_known.then_some(device.as_str()));
        if let Some(wait) = attempt.begin(store).await? {
            call.note_sign_in(&email, THROTTLED);
            return Err(too_often(wait));
        }
        let stored = store.password(uid).await?;
        let is_active = found.as_ref().is_some_and(|found| found.state == UserState::Active);
        let phc = if is_active { stored.phc.as_str() } else { "" };
        let verified =
            call.proofs().passwords.verify(&seat, &self.password, phc).await.map_err(unverified)?;
        let Some(person) = found.filter(|_| verified != Verified::No) else {
            attempt.failed(store).await?;
            return Err(refused(call, &email));
        };
        attempt.succeeded(store).await?;
        let device = if is_known { self.device } else { session::new_device() };
        let (row, secret) = session::begin(&person.uid, SignInMethod::Password.into(), call.place(), &agent);
        let mut tx = store.write().await?;
        // Verifying takes a while: what has become of them since is what counts.
        let is_still = tx.password(&person.uid).await?.phc == stored.phc
            && tx.principal_by_uid(&person.uid).await?.is_some_and(|now| now.state == UserState::Active);
        if !is_still {
            return Err(refused(call, &email));
        }
        tx.add_session(&row, session::MOST).await?;
        tx.record(signed_in(&person, &row));
        tx.commit().await?;
        if verified == Verified::Outdated {
            let new = call.proofs().passwords.hash(&seat, &self.password).await.map_err(unverified)?;
            store.rehash_password(&person.uid, &stored.phc, &new).await?;
        }
        note(call, store, &person, &row, &device).await?;
        Ok(SignInResponse {
            session: Some(current(&person, &row)),
            secret,
            device,
            must_change_password: stored.must_change,
        })
    }
}

impl Rpc for RedeemLinkRequest {
    type Response = RedeemLinkResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        call.check_secure()?;
        let agent = agent(&self.agent)?;
        let store = call.registry.store();
        let link = store.open_link(&token_hash(&self.secret), clock::now_us()).await?;
        let link = link.ok_or_else(|| link_refused(call))?;
        let email = email_for(&self, &link, store).await?.ok_or_else(|| link_refused(call))?;
        let phc = hashed(&self, call, &link, &email).await?;
        let mut tx = store.write().await?;
        if !tx.use_link(&link.hash).await? {
            return Err(link_refused(call));
        }
        let person = match link.purpose {
            LinkPurpose::Setup => {
                tx.acts_as(&format!("{USERS}{email}"), "");
                first_administrator(&mut tx, &email).await?
            }
            _ => tx.principal_by_uid(&link.uid).await?.filter(is_allowed),
        };
        let person = person.ok_or_else(|| link_refused(call))?;
        tx.acts_as(&person.name, &person.uid);
        if let Some(phc) = phc {
            set_password(&mut tx, &person, phc, link.purpose).await?;
        }
        let device = session::new_device();
        let (row, secret) = session::begin(&person.uid, SignInMethod::Link.into(), call.place(), &agent);
        tx.add_session(&row, session::MOST).await?;
        tx.record(signed_in(&person, &row));
        tx.commit().await?;
        call.proofs().credentials.forget();
        note(call, store, &person, &row, &device).await?;
        Ok(RedeemLinkResponse { session: Some(current(&person, &row)), secret, device })
    }
}

/// The address of whom a link is for. `None`: nobody can use it any more.
async fn email_for(
    request: &RedeemLinkRequest,
    link: &LinkRow,
    store: &Store,
) -> Result<Option<String>, Error> {
    if link.purpose == LinkPurpose::Setup {
        let has_somebody = store.has_principals().await?;
        let email = principal::email(request.email.trim()).ok_or_else(|| Error::field("email", EMAIL))?;
        return Ok(Some(email).filter(|_| !has_somebody));
    }
    if !request.email.is_empty() {
        return Err(Error::field("email", "is only for the link of the first start"));
    }
    let found = store.principal_by_uid(&link.uid).await?.filter(is_allowed);
    Ok(found.and_then(|found| found.email))
}

/// The hash of the password, where the link sets one.
async fn hashed(
    request: &RedeemLinkRequest,
    call: &Call<'_>,
    link: &LinkRow,
    email: &str,
) -> Result<Option<String>, Error> {
    let password = &request.password;
    if link.purpose == LinkPurpose::SignIn {
        return match password.is_empty() {
            true => Ok(None),
            false => Err(Error::field("password", "is not set by a link that signs in")),
        };
    }
    password::check(password, email).map_err(|unfit| Error::field("password", unfit.to_string()))?;
    let seat = call.proofs().passwords.seat(None, None, false).map_err(unverified)?;
    call.proofs().passwords.hash(&seat, password).await.map(Some).map_err(unverified)
}

/// Makes the first administrator. `None`: there is somebody already.
async fn first_administrator(tx: &mut Tx, email: &str) -> Result<Option<Principal>, Error> {
    if tx.has_principals().await? {
        return Ok(None);
    }
    let person = Principal {
        email: Some(email.to_owned()),
        state: UserState::Active,
        ..new_principal(tx, format!("{USERS}{email}"))
    };
    tx.put_principal(&person).await?;
    let everything = BindingRow { role: roles::ADMINISTRATOR.to_owned(), team: String::new() };
    tx.bind(&person.uid, &everything, &person.name).await?;
    Ok(Some(person))
}

async fn set_password(tx: &mut Tx, person: &Principal, phc: String, by: LinkPurpose) -> Result<(), Error> {
    tx.put_password(&person.uid, &PasswordRow { phc, must_change: false }).await?;
    // Only who looks after all people makes a link to reset a password: whoever had the one before has it no more.
    let invited_by = if by == LinkPurpose::Reset { String::new() } else { person.invited_by.clone() };
    tx.put_principal(&Principal { state: UserState::Active, invited_by, ..person.clone() }).await?;
    // Others of theirs were for the same, and would set another password after this one.
    tx.delete_links_of(&person.uid).await?;
    if by == LinkPurpose::Reset { revoke_all(tx, &person.uid, "").await } else { Ok(()) }
}

/// Writes down that somebody signed in.
async fn note(
    call: &Call<'_>,
    store: &Store,
    person: &Principal,
    row: &SessionRow,
    device: &str,
) -> Result<(), Error> {
    store.note_device(&person.uid, &token_hash(device), row.create_us, session::MOST_DEVICES).await?;
    store.note_sign_in(&person.uid, row.create_us).await?;
    tracing::info!(principal = person.name, session = row.id, address = call.place(), "signed in");
    Ok(())
}

/// What is recorded of who signed in.
fn signed_in(person: &Principal, row: &SessionRow) -> Deed {
    Deed {
        kind: Some(AuditKind::SignIn),
        actor: Some((person.name.clone(), person.uid.clone())),
        through: format!("{}/sessions/{}", person.name, row.id),
        resource: person.name.clone(),
        ..Deed::default()
    }
}

fn current(person: &Principal, row: &SessionRow) -> Session {
    Session { current: true, ..message(&person.name, row, "") }
}

fn is_allowed(principal: &Principal) -> bool {
    principal.state != UserState::Disabled
}

/// What somebody signs in with, as it says itself.
fn agent(text: &str) -> Result<String, Error> {
    if text.chars().count() > MAX_AGENT {
        return Err(Error::field("agent", format!("has more than {MAX_AGENT} characters")));
    }
    Ok(printable::line(text).into_owned())
}

fn refused(call: &Call<'_>, email: &str) -> Error {
    log_refusal(call, "a sign-in");
    call.note_sign_in(email, "SIGN_IN_REFUSED");
    Error::new(Code::Unauthenticated, "SIGN_IN_REFUSED", "the email address or the password is wrong")
}

fn link_refused(call: &Call<'_>) -> Error {
    log_refusal(call, "a one-time link");
    call.note_sign_in("", "LINK_INVALID");
    let text = "the link is unknown, used up or expired; ask an administrator for another one";
    Error::new(Code::Unauthenticated, "LINK_INVALID", text)
}

fn log_refusal(call: &Call<'_>, what: &str) {
    if let Some(times) = REFUSALS.count(call.counted_address()) {
        tracing::warn!(address = call.place(), times, "refused {what}");
    }
}

impl Call<'_> {
    /// Records that somebody did not get in. What they say who they are is nobody's name, unless it is an address.
    fn note_sign_in(&self, email: &str, reason: &str) {
        let Some(author) = Author::current() else { return };
        let who = if email.is_empty() { String::new() } else { format!("{USERS}{email}") };
        self.registry.audit().note(Incident::sign_in(&author, &who, reason));
    }
}

pub(super) fn too_often(wait: Duration) -> Error {
    let wait = Duration::from_secs(wait.as_secs() + 1);
    let text = format!("too many tries; try again in {} s", wait.as_secs());
    Error::new(Code::ResourceExhausted, "TOO_MANY_SIGN_INS", text).retry_after(wait)
}

impl Registry {
    /// Makes the link by which somebody becomes the first administrator, at the first start of all, and at every start where there is no
    /// other way in. `None`: there is no need for one.
    pub async fn setup_link(store: &Store, is_only_way: bool) -> Result<Option<String>, Error> {
        if store.has_principals().await? {
            return Ok(None);
        }
        let mut tx = store.write().await?;
        if tx.has_principals().await? || (!is_only_way && tx.has_setup_link().await?) {
            return Ok(None);
        }
        let (link, secret) = crate::auth::link::generate(LinkPurpose::Setup, "", tx.now_us());
        tx.add_link(&link).await?;
        tx.commit().await?;
        Ok(Some(secret))
    }
}
