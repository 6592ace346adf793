//! The rpcs of users.

use prost_types::FieldMask;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse, DisableUserRequest,
    DisableUserResponse, EnableUserRequest, EnableUserResponse, GetUserRequest, GetUserResponse,
    ListUsersRequest, ListUsersResponse, OneTimeLink, ResetPasswordRequest, ResetPasswordResponse,
    UpdateUserRequest, UpdateUserResponse, User, UserState,
};

use super::belongings;
use super::people::{
    check_above, check_etag, check_not_last, check_team_exists, etag, give, new_principal,
    principal_not_found, taken,
};
use super::proofs::not_theirs;
use super::rpc::{Call, Rpc};
use crate::auth::link;
use crate::clock;
use crate::domain::Violations;
use crate::domain::principal::{self, EMAIL, USERS};
use crate::error::Error;
use crate::rights::giving::check_gives;
use crate::rights::roles;
use crate::store::links::LinkPurpose;
use crate::store::memberships::MemberRow;
use crate::store::principals::Principal;
use crate::store::{StoreError, Tx};

/// The fields of a user that an update changes.
const WRITABLE: [&str; 3] = ["email", "title", "must_change_password"];

impl Rpc for GetUserRequest {
    type Response = GetUserResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        check_name(&self.name)?;
        let found = call.seen(&self.name).await?;
        Ok(GetUserResponse { user: Some(call.user(&found).await?) })
    }
}

impl Rpc for ListUsersRequest {
    type Response = ListUsersResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let asked = (self.page_size, self.page_token.as_str(), self.search.as_str());
        let (found, next_page_token) = call.page_of_people(USERS, asked).await?;
        let mut users = Vec::with_capacity(found.len());
        for found in &found {
            users.push(call.user(found).await?);
        }
        Ok(ListUsersResponse { users, next_page_token })
    }
}

impl Rpc for CreateUserRequest {
    type Response = CreateUserResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        call.needs_everywhere(Permission::PeopleWrite)?;
        let user = self.user.ok_or_else(|| Error::field("user", "is required"))?;
        let (name, email) = name_and_email(&user)?;
        principal::title(&user.title).map_err(|why| Error::field("user.title", why))?;
        let mut tx = call.registry.store().write().await?;
        check_free(&mut tx, &name, &email).await?;
        let person = Principal {
            email: Some(email),
            title: user.title,
            state: UserState::Invited,
            ..new_principal(&tx, name)
        };
        tx.put_principal(&person).await?;
        give(call, &mut tx, &person, &user.bindings, "user.bindings").await?;
        if !self.team.is_empty() {
            join(call, &mut tx, &person, &self.team).await?;
        }
        let link = add_link(&mut tx, LinkPurpose::Invite, &person).await?;
        tx.commit().await?;
        tracing::info!(principal = person.name, by = call.caller.name, "created a user");
        Ok(CreateUserResponse { user: Some(call.user(&person).await?), link: Some(link) })
    }
}

impl Rpc for UpdateUserRequest {
    type Response = UpdateUserResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let patch = self.user.ok_or_else(|| Error::field("user", "is required"))?;
        let fields = fields(self.update_mask.as_ref(), &WRITABLE, |field| match field {
            "email" => !patch.email.is_empty(),
            "title" => !patch.title.is_empty(),
            _ => patch.must_change_password,
        })?;
        let (mut tx, mut person) = begin(call, "user.name", &patch.name).await?;
        let mut password = tx.password(&person.uid).await?;
        check_etag(&person.name, &patch.etag, &etag(&person, password.must_change))?;
        if fields.contains(&"email") {
            let email = principal::email(&patch.email).ok_or_else(|| Error::field("user.email", EMAIL))?;
            if person.email.as_ref() != Some(&email) {
                check_email_free(&mut tx, &person.name, &email).await?;
                person.email = Some(email);
            }
        }
        if fields.contains(&"title") {
            principal::title(&patch.title).map_err(|why| Error::field("user.title", why))?;
            person.title = patch.title;
        }
        if fields.contains(&"must_change_password") {
            password.must_change = patch.must_change_password;
            tx.put_password(&person.uid, &password).await?;
        }
        tx.put_principal(&person).await?;
        tx.commit().await?;
        Ok(UpdateUserResponse { user: Some(call.user(&person).await?) })
    }
}

impl Rpc for DeleteUserRequest {
    type Response = DeleteUserResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (mut tx, person) = begin(call, "name", &self.name).await?;
        let must_change = tx.password(&person.uid).await?.must_change;
        check_etag(&person.name, &self.etag, &etag(&person, must_change))?;
        check_not_last(call, &mut tx, &person).await?;
        let heir = &self.transfer_to;
        let kept = belongings::hand_over(call, &mut tx, &person, heir, self.keep_bearers).await?;
        belongings::stop(&mut tx, &person).await?;
        tx.delete_principal(&person.uid).await?;
        let revision = tx.commit().await?;
        call.proofs().credentials.forget();
        tracing::info!(principal = person.name, by = call.caller.name, "deleted a user");
        Ok(DeleteUserResponse { revision, kept })
    }
}

impl Rpc for DisableUserRequest {
    type Response = DisableUserResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (mut tx, person) = begin(call, "name", &self.name).await?;
        check_not_last(call, &mut tx, &person).await?;
        let person = Principal { state: UserState::Disabled, ..person };
        tx.put_principal(&person).await?;
        belongings::stop(&mut tx, &person).await?;
        let revision = tx.commit().await?;
        call.proofs().credentials.forget();
        tracing::info!(principal = person.name, by = call.caller.name, "disabled a user");
        Ok(DisableUserResponse { user: Some(call.user(&person).await?), revision })
    }
}

impl Rpc for EnableUserRequest {
    type Response = EnableUserResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (mut tx, person) = begin(call, "name", &self.name).await?;
        let has_password = !tx.password(&person.uid).await?.phc.is_empty();
        let state = if has_password { UserState::Active } else { UserState::Invited };
        let person = Principal { state, ..person };
        tx.put_principal(&person).await?;
        belongings::start(&mut tx, &person).await?;
        let revision = tx.commit().await?;
        tracing::info!(principal = person.name, by = call.caller.name, "enabled a user");
        Ok(EnableUserResponse { user: Some(call.user(&person).await?), revision })
    }
}

impl Rpc for ResetPasswordRequest {
    type Response = ResetPasswordResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (mut tx, person) = begin(call, "name", &self.name).await?;
        if person.state == UserState::Disabled {
            let text = format!("{} is disabled; enable them first", person.name);
            return Err(Error::new(tonic::Code::FailedPrecondition, "USER_DISABLED", text));
        }
        let link = add_link(&mut tx, LinkPurpose::Reset, &person).await?;
        tx.commit().await?;
        tracing::info!(principal = person.name, by = call.caller.name, "made a link to reset a password");
        Ok(ResetPasswordResponse { link: Some(link) })
    }
}

/// Begins a write of a user, by who may do that to them.
async fn begin(call: &Call<'_>, field: &str, name: &str) -> Result<(Tx, Principal), Error> {
    call.needs_everywhere(Permission::PeopleWrite)?;
    check_name_in(field, name)?;
    let mut tx = call.registry.store().write().await?;
    let person = tx.principal(name).await?.ok_or_else(|| principal_not_found(name))?;
    check_above(call, &mut tx, &person).await?;
    Ok((tx, person))
}

/// Puts somebody new into a team, as a member.
async fn join(call: &Call<'_>, tx: &mut Tx, person: &Principal, team: &str) -> Result<(), Error> {
    check_team_exists(call, tx, team, "team").await?;
    let may = call.caller.holds_for_all(Permission::TeamsWrite)
        || call.caller.in_team(team).contains(Permission::TeamsWrite);
    if !may {
        return Err(super::proofs::denied(Permission::TeamsWrite, &format!(" in {team}")));
    }
    let given = roles::permissions_of(roles::DEVELOPER).unwrap_or_default();
    check_gives(&call.caller, given, team).map_err(|error| not_theirs(&error))?;
    let member = MemberRow {
        team: team.to_owned(),
        uid: person.uid.clone(),
        principal: person.name.clone(),
        added_by: call.caller.name.clone(),
        ..MemberRow::default()
    };
    Ok(tx.put_member(&member).await?)
}

/// Makes a link for somebody.
pub(super) async fn add_link(
    tx: &mut Tx,
    purpose: LinkPurpose,
    person: &Principal,
) -> Result<OneTimeLink, Error> {
    let (link, secret) = link::generate(purpose, &person.uid, tx.now_us());
    tx.add_link(&link).await?;
    Ok(OneTimeLink { secret, expire_time: Some(clock::timestamp(link.expire_us)) })
}

/// The name and the address of somebody new: each follows from the other where only one is given.
fn name_and_email(user: &User) -> Result<(String, String), Error> {
    let mut violations = Violations::default();
    let given =
        if user.email.is_empty() { user.name.strip_prefix(USERS).unwrap_or_default() } else { &user.email };
    let email = principal::email(given);
    violations.require(
        email.is_some(),
        if user.email.is_empty() { "user.name" } else { "user.email" },
        EMAIL,
    );
    let email = email.unwrap_or_default();
    let name = if user.name.is_empty() { format!("{USERS}{email}") } else { user.name.clone() };
    if !email.is_empty() && !principal::is_user(&name) {
        violations.add("user.name", form(&name));
    }
    if violations.is_empty() { Ok((name, email)) } else { Err(Error::invalid(violations)) }
}

/// Refuses a name and an address of which one is somebody else's.
async fn check_free(tx: &mut Tx, name: &str, email: &str) -> Result<(), Error> {
    if tx.principal(name).await?.is_some() {
        return Err(taken(name));
    }
    check_email_free(tx, name, email).await
}

/// Refuses an address that somebody else signs in with, or is named after.
async fn check_email_free(tx: &mut Tx, name: &str, email: &str) -> Result<(), Error> {
    let named = format!("{USERS}{email}");
    let other = match tx.principal_by_email(email).await? {
        Some(other) => Some(other),
        None if named == name => None,
        None => tx.principal(&named).await?,
    };
    match other {
        Some(other) => Err(taken(&other.name)),
        None => Ok(()),
    }
}

/// The fields that an update changes: those of the mask, or those that are set.
pub(super) fn fields(
    mask: Option<&FieldMask>,
    writable: &[&'static str],
    is_set: impl Fn(&str) -> bool,
) -> Result<Vec<&'static str>, Error> {
    let Some(mask) = mask else {
        return Ok(writable.iter().copied().filter(|field| is_set(field)).collect());
    };
    if mask.paths == ["*"] {
        return Ok(writable.to_vec());
    }
    let mut violations = Violations::default();
    let mut fields = Vec::new();
    for (index, path) in mask.paths.iter().enumerate() {
        match writable.iter().find(|field| *field == path) {
            Some(field) => fields.push(*field),
            None => {
                let text = format!("names `{path}`, which cannot be changed; {} can", writable.join(", "));
                violations.add(format!("update_mask.paths[{index}]"), text);
            }
        }
    }
    if violations.is_empty() { Ok(fields) } else { Err(Error::invalid(violations)) }
}

fn check_name(name: &str) -> Result<(), Error> {
    check_name_in("name", name)
}

fn check_name_in(field: &str, name: &str) -> Result<(), Error> {
    if principal::is_user(name) { Ok(()) } else { Err(Error::field(field, form(name))) }
}

fn form(name: &str) -> String {
    format!("`{name}` is not of the form `users/{{user}}`, where the id is an email address in lower case")
}

impl Call<'_> {
    /// The message of a user, with the teams that exist for the caller.
    async fn user(&self, of: &Principal) -> Result<User, StoreError> {
        let must_change_password = self.registry.store().password(&of.uid).await?.must_change;
        Ok(User {
            name: of.name.clone(),
            uid: of.uid.clone(),
            email: of.email.clone().unwrap_or_default(),
            title: of.title.clone(),
            state: of.state.into(),
            bindings: self.bindings(of).await?,
            teams: self.teams_of(of).await?,
            create_time: Some(clock::timestamp(of.create_us)),
            last_sign_in_time: Some(of.sign_in_us).filter(|us| *us != 0).map(clock::timestamp),
            must_change_password,
            etag: etag(of, must_change_password),
            invited_by: of.invited_by.clone(),
        })
    }
}
