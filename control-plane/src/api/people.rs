//! What users and service accounts have in common: how they are found and listed, and what is given to them.

use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::{Binding, UserState};

use super::credentials::cap;
use super::proofs::{denied, not_theirs};
use super::rpc::Call;
use crate::auth::admin::token_hash;
use crate::discovery::page::Pages;
use crate::domain::{Kind, names, principal};
use crate::error::Error;
use crate::rights::giving::{check_gives, check_stands_above};
use crate::store::bindings::BindingRow;
use crate::store::principals::{Principal, PrincipalPage, Visible};
use crate::store::withdrawals::Withdrawn;
use crate::store::{StoreError, Tx};

/// The bindings that somebody can be created with.
const MOST_BINDINGS: usize = 64;
/// The longest text that is looked for.
const MAX_SEARCH: usize = 256;

/// A principal that does not exist yet, and has nothing.
pub(super) fn new_principal(tx: &Tx, name: String) -> Principal {
    Principal {
        uid: uuid::Uuid::now_v7().to_string(),
        name,
        email: None,
        title: String::new(),
        owner: String::new(),
        team: String::new(),
        state: UserState::Active,
        epoch: 0,
        revision: tx.revision(),
        create_us: tx.now_us(),
        update_us: tx.now_us(),
        sign_in_us: 0,
        invited_by: String::new(),
    }
}

/// The validator of what people write of a principal.
pub(super) fn etag(of: &Principal, must_change_password: bool) -> String {
    let email = of.email.as_deref().unwrap_or_default();
    let is_disabled = of.state == UserState::Disabled;
    let text = format!(
        "{}\n{email}\n{}\n{}\n{}\n{is_disabled}\n{must_change_password}",
        of.uid, of.title, of.owner, of.team
    );
    token_hash(&text)[..24].to_owned()
}

/// Refuses a write of what has changed since it was read.
pub(super) fn check_etag(name: &str, sent: &str, current: &str) -> Result<(), Error> {
    if sent.is_empty() || sent == current {
        return Ok(());
    }
    let text = format!("{name} has changed since its etag was read; read it again and retry");
    Err(Error::new(Code::Aborted, "ETAG_MISMATCH", text).with("name", name).with("etag", current))
}

/// There is nobody and nothing of this name, or not for the caller.
pub(super) fn principal_not_found(name: &str) -> Error {
    Error::new(Code::NotFound, "RESOURCE_NOT_FOUND", format!("{name} does not exist")).with("name", name)
}

/// The name is taken.
pub(super) fn taken(name: &str) -> Error {
    Error::new(Code::AlreadyExists, "RESOURCE_EXISTS", format!("{name} already exists")).with("name", name)
}

/// Ends all sessions of somebody but one, and whatever they made with those.
pub(super) async fn revoke_all(tx: &mut Tx, uid: &str, but: &str) -> Result<(), Error> {
    tx.delete_sessions(uid, but).await?;
    revoke_made(tx, uid).await
}

/// Ends what somebody may have made with a session or a key that has ended: access bearers, and links that sign in elsewhere. Who still
/// may makes others.
pub(super) async fn revoke_made(tx: &mut Tx, uid: &str) -> Result<(), Error> {
    tx.delete_sign_in_links_of(uid).await?;
    Ok(tx.withdraw(uid, Withdrawn::All).await?)
}

/// Refuses to take the last one away who can sign in and has everything. Who does it by the administrator's bearer has that to make another.
pub(super) async fn check_not_last(call: &Call<'_>, tx: &mut Tx, of: &Principal) -> Result<(), Error> {
    let is_last = !call.is_administrator()
        && tx.is_active_administrator(&of.uid).await?
        && !tx.has_other_administrator(&of.uid).await?;
    if !is_last {
        return Ok(());
    }
    let text = format!("{} is the last active administrator; make another one first", of.name);
    Err(Error::new(Code::FailedPrecondition, "LAST_ADMINISTRATOR", text).with("name", of.name.clone()))
}

/// Refuses to do to somebody what only who has all that they have may do.
pub(super) async fn check_above(call: &Call<'_>, tx: &mut Tx, of: &Principal) -> Result<(), Error> {
    let Some(standing) = tx.standing_of(&of.uid).await? else { return Ok(()) };
    check_stands_above(&call.caller, &standing.rights).map_err(|error| not_theirs(&error))
}

/// Gives roles to somebody new, as far as the caller has what is in them.
pub(super) async fn give(
    call: &Call<'_>,
    tx: &mut Tx,
    to: &Principal,
    bindings: &[Binding],
    field: &str,
) -> Result<(), Error> {
    if bindings.len() > MOST_BINDINGS {
        let text = format!("has {} entries; the maximum is {MOST_BINDINGS}", bindings.len());
        return Err(Error::field(field, text));
    }
    for (index, binding) in bindings.iter().enumerate() {
        let field = format!("{field}[{index}]");
        check_exists(tx, Kind::Role, &binding.role, &format!("{field}.role")).await?;
        if !binding.team.is_empty() {
            check_team_exists(call, tx, &binding.team, &format!("{field}.team")).await?;
        }
        let given = cap(call.registry.store(), &binding.role).await?.unwrap_or_default();
        check_gives(&call.caller, given, &binding.team).map_err(|error| not_theirs(&error))?;
        let row = BindingRow { role: binding.role.clone(), team: binding.team.clone() };
        tx.bind(&to.uid, &row, &call.caller.name).await?;
    }
    Ok(())
}

/// Checks that the caller may give roles in a team, or everywhere. To what has no more than they have themselves, at any time, gives who
/// may issue tokens.
pub(super) fn check_may_give(call: &Call<'_>, team: &str, is_bounded: bool) -> Result<(), Error> {
    let held = match team {
        "" => call.caller.everywhere(),
        _ if call.caller.sees_all() => call.caller.everywhere().union(call.caller.in_team(team)),
        _ => call.caller.in_team(team),
    };
    let looks_after = !team.is_empty() && held.contains(Permission::TeamsWrite);
    if held.contains(Permission::RolesWrite)
        || looks_after
        || (is_bounded && held.contains(Permission::TokensIssue))
    {
        return Ok(());
    }
    let place = if team.is_empty() { " everywhere".to_owned() } else { format!(" in {team}") };
    Err(denied(Permission::RolesWrite, &place))
}

/// Refuses a name that is of no team that exists for the caller.
pub(super) async fn check_team_exists(
    call: &Call<'_>,
    tx: &mut Tx,
    name: &str,
    field: &str,
) -> Result<(), Error> {
    check_exists(tx, Kind::Team, name, field).await?;
    match call.team(tx, name).await {
        Err(error) if error.code() == Code::NotFound => Err(no_such(field, name)),
        found => found.map(drop),
    }
}

fn no_such(field: &str, name: &str) -> Error {
    Error::field(field, format!("names {name}, which does not exist"))
}

/// Refuses a name that is of no role or team that exists.
pub(super) async fn check_exists(tx: &mut Tx, kind: Kind, name: &str, field: &str) -> Result<(), Error> {
    names::parse(kind, name).map_err(|error| Error::field(field, error.to_string()))?;
    let is_built_in = kind == Kind::Role && crate::rights::roles::built_in(name).is_some();
    match is_built_in || tx.get(kind, name).await?.is_some() {
        true => Ok(()),
        false => Err(no_such(field, name)),
    }
}

impl Call<'_> {
    /// Tells whether the caller may do something to a service account: whoever answers for it may all.
    pub(super) fn may(&self, permission: Permission, of: &Principal) -> bool {
        let is_own = !of.owner.is_empty() && of.owner == self.caller.name && !self.caller.is_limited;
        let in_team = || !of.team.is_empty() && self.caller.in_team(&of.team).contains(permission);
        is_own || self.caller.everywhere().contains(permission) || in_team()
    }

    /// Tells whether the caller looks after a team in which a service account has a role: they may stop it.
    pub(super) async fn may_stop(&self, of: &Principal) -> Result<bool, Error> {
        let teams = self.registry.store().places_of(&of.uid).await?;
        Ok(of.email.is_none()
            && teams.iter().any(|team| self.caller.in_team(team).contains(Permission::TeamsWrite)))
    }

    /// Tells whether a user or service account exists for the caller.
    pub(super) async fn sees(&self, of: &Principal) -> Result<bool, Error> {
        if of.uid == self.caller.uid || self.may(Permission::PeopleRead, of) {
            return Ok(true);
        }
        let teams = self.registry.store().places_of(&of.uid).await?;
        Ok(teams.iter().any(|team| self.caller.in_team(team).contains(Permission::PeopleRead)))
    }

    /// Finds a user or service account that the caller sees.
    pub(super) async fn seen(&self, name: &str) -> Result<Principal, Error> {
        let found = self.registry.store().principal(name).await?;
        match found {
            Some(found) if self.sees(&found).await? => Ok(found),
            _ => Err(principal_not_found(name)),
        }
    }

    /// A page of the users or service accounts that the caller sees, and the token of the next one.
    pub(super) async fn page_of_people(
        &self,
        prefix: &'static str,
        (page_size, page_token, search): (i32, &str, &str),
    ) -> Result<(Vec<Principal>, String), Error> {
        if search.len() > MAX_SEARCH || search.contains('\0') {
            return Err(Error::field("search", format!("must have at most {MAX_SEARCH} bytes, without NUL")));
        }
        let pages = Pages::new(self.registry.inner.vault.clone(), page_context(prefix));
        let (size, after) = (Pages::size(page_size)?, pages.after(page_token)?);
        let page = PrincipalPage {
            prefix,
            after: &after,
            search: &search.to_lowercase(),
            only: self.visible(),
            limit: size + 1,
        };
        let mut found = self.registry.store().principals(&page).await?;
        let next = pages.cut(&mut found, size, |found| &found.name)?;
        Ok((found, next))
    }

    fn visible(&self) -> Option<Visible<'_>> {
        if self.caller.everywhere().contains(Permission::PeopleRead) {
            return None;
        }
        let is_readable = |team: &&String| self.caller.in_team(team).contains(Permission::PeopleRead);
        let teams = self.caller.teams().iter().filter(is_readable).map(String::as_str);
        Some(Visible { name: &self.caller.name, teams: teams.collect() })
    }
}

/// What names the list, so that its page tokens are of no use to others.
fn page_context(prefix: &'static str) -> &'static str {
    if prefix == principal::USERS { "page of users" } else { "page of service accounts" }
}

impl Call<'_> {
    /// The roles that somebody was given everywhere and in teams that exist for the caller.
    pub(super) async fn bindings(&self, of: &Principal) -> Result<Vec<Binding>, StoreError> {
        let mut rows = self.registry.store().bindings_of(&of.uid).await?;
        rows.retain(|row| row.team.is_empty() || self.knows_of(of, &row.team));
        Ok(rows.into_iter().map(|row| Binding { role: row.role, team: row.team }).collect())
    }

    /// The teams that somebody is in and that exist for the caller.
    pub(super) async fn teams_of(&self, of: &Principal) -> Result<Vec<String>, StoreError> {
        let mut teams = self.registry.store().teams_of(&of.uid).await?;
        teams.retain(|team| self.knows_of(of, team));
        Ok(teams)
    }

    /// Whether the caller may know that somebody is in a team, or has a role there.
    fn knows_of(&self, of: &Principal, team: &str) -> bool {
        let caller = &self.caller;
        of.uid == caller.uid
            || caller.sees_all()
            || caller.everywhere().contains(Permission::PeopleRead)
            || caller.seen_teams().any(|seen| seen == team)
    }
}
