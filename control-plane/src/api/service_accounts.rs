//! The rpcs of service accounts. Who answers for one may do all of this with it.

use trunkline::common::v1::Permission;
use trunkline::identity::v1::{
    CreateServiceAccountRequest, CreateServiceAccountResponse, DeleteServiceAccountRequest,
    DeleteServiceAccountResponse, GetServiceAccountRequest, GetServiceAccountResponse,
    ListServiceAccountsRequest, ListServiceAccountsResponse, ServiceAccount, UpdateServiceAccountRequest,
    UpdateServiceAccountResponse, UserState,
};

use super::belongings;
use super::people::{
    check_above, check_etag, check_may_give, check_team_exists, etag, give, new_principal,
    principal_not_found, taken,
};
use super::proofs::denied;
use super::rpc::{Call, Rpc};
use super::users::fields;
use crate::clock;
use crate::domain::names;
use crate::domain::principal::{self, SERVICE_ACCOUNTS, USERS};
use crate::error::Error;
use crate::store::principals::Principal;
use crate::store::{StoreError, Tx};

/// The fields of a service account that an update changes.
const WRITABLE: [&str; 4] = ["title", "owner", "team", "disabled"];

impl Rpc for GetServiceAccountRequest {
    type Response = GetServiceAccountResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        check_name("name", &self.name)?;
        let found = call.seen(&self.name).await?;
        let service_account = Some(call.service_account(&found).await?);
        Ok(GetServiceAccountResponse { service_account })
    }
}

impl Rpc for ListServiceAccountsRequest {
    type Response = ListServiceAccountsResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let asked = (self.page_size, self.page_token.as_str(), self.search.as_str());
        let (found, next_page_token) = call.page_of_people(SERVICE_ACCOUNTS, asked).await?;
        let mut service_accounts = Vec::with_capacity(found.len());
        for found in &found {
            service_accounts.push(call.service_account(found).await?);
        }
        Ok(ListServiceAccountsResponse { service_accounts, next_page_token })
    }
}

impl Rpc for CreateServiceAccountRequest {
    type Response = CreateServiceAccountResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let account = self.service_account.unwrap_or_default();
        let name = format!("{SERVICE_ACCOUNTS}{}", self.service_account_id);
        names::check_id(&self.service_account_id)
            .map_err(|error| Error::field("service_account_id", error.to_string()))?;
        if !account.name.is_empty() && account.name != name {
            return Err(Error::field("service_account.name", format!("must be {name}, or empty")));
        }
        principal::title(&account.title).map_err(|why| Error::field("service_account.title", why))?;
        let mut tx = call.registry.store().write().await?;
        if tx.principal(&name).await?.is_some() {
            return Err(taken(&name));
        }
        let mut new = Principal {
            title: account.title,
            owner: call.answers_by_default(&mut tx).await?,
            state: state(account.disabled),
            ..new_principal(&tx, name)
        };
        if !account.owner.is_empty() {
            set_owner(call, &mut tx, &mut new, account.owner).await?;
        }
        if !account.team.is_empty() {
            set_team(call, &mut tx, &mut new, account.team).await?;
        }
        tx.put_principal(&new).await?;
        // What it can do ends with what who answers for it can do.
        let is_bounded = !new.owner.is_empty() && new.owner == call.answers_by_default(&mut tx).await?;
        account.bindings.iter().try_for_each(|given| check_may_give(call, &given.team, is_bounded))?;
        give(call, &mut tx, &new, &account.bindings, "service_account.bindings").await?;
        tx.commit().await?;
        tracing::info!(principal = new.name, by = call.caller.name, "created a service account");
        let service_account = Some(call.service_account(&new).await?);
        Ok(CreateServiceAccountResponse { service_account })
    }
}

impl Rpc for UpdateServiceAccountRequest {
    type Response = UpdateServiceAccountResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let patch = self.service_account.ok_or_else(|| Error::field("service_account", "is required"))?;
        let fields = fields(self.update_mask.as_ref(), &WRITABLE, |field| match field {
            "title" => !patch.title.is_empty(),
            "owner" => !patch.owner.is_empty(),
            "team" => !patch.team.is_empty(),
            _ => patch.disabled,
        })?;
        let (mut tx, mut account, may_only_stop) = begin(call, "service_account.name", &patch.name).await?;
        if may_only_stop && !(fields == ["disabled"] && patch.disabled) {
            return Err(not_yours());
        }
        let was = tx.standing_of(&account.uid).await?;
        check_etag(&account.name, &patch.etag, &etag(&account, false))?;
        if fields.contains(&"title") {
            principal::title(&patch.title).map_err(|why| Error::field("service_account.title", why))?;
            account.title = patch.title;
        }
        if fields.contains(&"owner") && patch.owner != account.owner {
            set_owner(call, &mut tx, &mut account, patch.owner).await?;
        }
        if fields.contains(&"team") && patch.team != account.team {
            set_team(call, &mut tx, &mut account, patch.team).await?;
        }
        let before = account.state;
        if fields.contains(&"disabled") {
            account.state = state(patch.disabled);
        }
        tx.put_principal(&account).await?;
        if let Some(was) = was {
            tx.note_rights(&was.rights).await?;
        }
        match (before, account.state) {
            (UserState::Active, UserState::Disabled) => belongings::stop(&mut tx, &account).await?,
            (UserState::Disabled, UserState::Active) => belongings::start(&mut tx, &account).await?,
            _ => {}
        }
        tx.commit().await?;
        call.proofs().credentials.forget();
        let service_account = Some(call.service_account(&account).await?);
        Ok(UpdateServiceAccountResponse { service_account })
    }
}

impl Rpc for DeleteServiceAccountRequest {
    type Response = DeleteServiceAccountResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (mut tx, account, may_only_stop) = begin(call, "name", &self.name).await?;
        if may_only_stop {
            return Err(not_yours());
        }
        check_etag(&account.name, &self.etag, &etag(&account, false))?;
        belongings::hand_over(call, &mut tx, &account, &self.transfer_to, false).await?;
        belongings::stop(&mut tx, &account).await?;
        tx.delete_principal(&account.uid).await?;
        let revision = tx.commit().await?;
        call.proofs().credentials.forget();
        tracing::info!(principal = account.name, by = call.caller.name, "deleted a service account");
        Ok(DeleteServiceAccountResponse { revision })
    }
}

/// Begins a write of a service account, by who answers for it or may change it, or looks after a team where it has a role. Answers
/// whether they may only stop it.
async fn begin(call: &Call<'_>, field: &str, name: &str) -> Result<(Tx, Principal, bool), Error> {
    check_name(field, name)?;
    let seen = call.seen(name).await?;
    let may_only_stop = !call.may(Permission::PeopleWrite, &seen);
    if may_only_stop && !call.may_stop(&seen).await? {
        return Err(not_yours());
    }
    let mut tx = call.registry.store().write().await?;
    let account = tx.principal(name).await?.filter(|account| account.uid == seen.uid);
    let account = account.ok_or_else(|| principal_not_found(name))?;
    if account.owner != call.caller.name {
        check_above(call, &mut tx, &account).await?;
    }
    Ok((tx, account, may_only_stop))
}

fn not_yours() -> Error {
    denied(Permission::PeopleWrite, " everywhere, or to answer for it")
}

/// Says who answers for a service account: who gives it away must be able to, and who gets it must be there.
async fn set_owner(
    call: &Call<'_>,
    tx: &mut Tx,
    account: &mut Principal,
    owner: String,
) -> Result<(), Error> {
    let is_given_away = account.owner == call.caller.name || owner == call.caller.name;
    if !call.caller.everywhere().contains(Permission::PeopleWrite) && (owner.is_empty() || !is_given_away) {
        return Err(denied(Permission::PeopleWrite, " everywhere"));
    }
    let found = tx.principal(&owner).await?;
    let found = found.filter(|found| found.state != UserState::Disabled && found.email.is_some());
    // Who does not exist for the caller is told in the same words as who does not exist.
    let is_there = match &found {
        Some(found) => call.sees(found).await?,
        None => false,
    };
    if !owner.is_empty() && !is_there {
        let text = format!("must name a user who is not disabled (`{USERS}{{user}}`): {owner} is none");
        return Err(Error::field("service_account.owner", text));
    }
    account.owner = owner;
    Ok(())
}

/// Says which team a service account belongs to: those who look after it may change its keys.
async fn set_team(call: &Call<'_>, tx: &mut Tx, account: &mut Principal, team: String) -> Result<(), Error> {
    if !team.is_empty() {
        check_team_exists(call, tx, &team, "service_account.team").await?;
        let may = call.caller.in_team(&team).contains(Permission::TokensIssue)
            || call.caller.everywhere().contains(Permission::PeopleWrite);
        if !may {
            return Err(denied(Permission::TokensIssue, &format!(" in {team}")));
        }
    }
    account.team = team;
    Ok(())
}

fn state(is_disabled: bool) -> UserState {
    if is_disabled { UserState::Disabled } else { UserState::Active }
}

fn check_name(field: &str, name: &str) -> Result<(), Error> {
    if principal::is_service_account(name) {
        return Ok(());
    }
    let text = format!("`{name}` is not of the form `serviceAccounts/{{service_account}}`");
    Err(Error::field(field, text))
}

impl Call<'_> {
    /// Who answers for what the caller creates: they, or who answers for them. Of the administrator's bearer, nobody.
    async fn answers_by_default(&self, tx: &mut Tx) -> Result<String, Error> {
        if self.is_administrator() {
            return Ok(String::new());
        }
        let caller = tx.principal_by_uid(&self.caller.uid).await?;
        let caller = caller.ok_or_else(|| principal_not_found(&self.caller.name))?;
        Ok(if caller.email.is_some() { caller.name } else { caller.owner })
    }
}

impl Call<'_> {
    /// The message of a service account, with the teams that exist for the caller.
    async fn service_account(&self, of: &Principal) -> Result<ServiceAccount, StoreError> {
        let disabled = of.state == UserState::Disabled;
        let suspended = !disabled && self.registry.store().rights_of(&of.uid, None).await?.is_none();
        Ok(ServiceAccount {
            name: of.name.clone(),
            uid: of.uid.clone(),
            title: of.title.clone(),
            owner: of.owner.clone(),
            team: of.team.clone(),
            disabled,
            suspended,
            bindings: self.bindings(of).await?,
            teams: self.teams_of(of).await?,
            create_time: Some(clock::timestamp(of.create_us)),
            etag: etag(of, false),
        })
    }
}
