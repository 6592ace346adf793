//! The rpcs of API keys, of service accounts and of users.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::{
    ApiKey, ApiKeyState, CreateApiKeyRequest, CreateApiKeyResponse, ListApiKeysRequest, ListApiKeysResponse,
    RevokeApiKeyRequest, RevokeApiKeyResponse,
};

use super::credentials::cap;
use super::people::{check_above, principal_not_found, revoke_made};
use super::proofs::{denied, not_theirs};
use super::rpc::{Call, Rpc};
use crate::auth::api_key;
use crate::clock;
use crate::discovery::page::Pages;
use crate::domain::{Kind, names, principal};
use crate::error::Error;
use crate::rights::Rights;
use crate::rights::giving::check_stands_above;
use crate::rights::permission_set::{self, PermissionSet};
use crate::store::api_keys::ApiKeyRow;
use crate::store::principals::Principal;

/// No key that ends is good for longer: ten years.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);
/// What names the list, so that its page tokens are of no use to others.
const PAGE: &str = "page of API keys";

impl Rpc for CreateApiKeyRequest {
    type Response = CreateApiKeyResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let lifetime = lifetime(&self)?;
        principal::title(&self.title).map_err(|why| Error::field("title", why))?;
        let parent = call.parent_of_keys(&self.parent, Permission::PeopleWrite, false).await?;
        let store = call.registry.store();
        if !self.role.is_empty() {
            check_role(call, &self.role).await?;
        }
        let cap = cap(store, &self.role).await?;
        let rights = store.rights_of(&parent.uid, cap).await?;
        let rights = rights.ok_or_else(|| disabled(&parent.name))?;
        if let (Some(cap), Some(all)) = (cap, store.rights_of(&parent.uid, None).await?) {
            check_holds(&all, &self.role, cap)?;
        }
        check_stands_above(&call.caller, &rights).map_err(|error| not_theirs(&error))?;
        let (new, now_us) = (api_key::generate(), clock::now_us());
        let row = ApiKeyRow {
            id: new.id,
            hash: new.hash,
            uid: parent.uid.clone(),
            title: self.title,
            role: self.role,
            create_us: now_us,
            expire_us: lifetime.map_or(0, |lifetime| now_us + clock::duration_us(lifetime)),
            ..ApiKeyRow::default()
        };
        let mut tx = store.write().await?;
        if !tx.add_api_key(&row, api_key::MOST).await? {
            let text = format!("{} has {} API keys; revoke one first", parent.name, api_key::MOST);
            return Err(Error::new(Code::FailedPrecondition, "TOO_MANY_KEYS", text));
        }
        tx.commit().await?;
        let api_key = message(&parent.name, &row, now_us, false);
        tracing::info!(key = api_key.name, by = call.caller.name, "made an API key");
        Ok(CreateApiKeyResponse { api_key: Some(api_key), secret: new.key })
    }
}

impl Rpc for ListApiKeysRequest {
    type Response = ListApiKeysResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let parent = call.parent_of_keys(&self.parent, Permission::PeopleRead, true).await?;
        let store = call.registry.store();
        let pages = Pages::new(call.registry.inner.vault.clone(), PAGE);
        let (size, after) = (Pages::size(self.page_size)?, pages.after(&self.page_token)?);
        let after = after.split_once(' ').and_then(|(time, id)| Some((time.parse().ok()?, id)));
        let rows = store.api_keys_of(&parent.uid, after, size + 1).await?;
        let mut rows: Vec<_> =
            rows.into_iter().map(|row| (format!("{} {}", row.create_us, row.id), row)).collect();
        let next_page_token = pages.cut(&mut rows, size, |(place, _)| place)?;
        let is_suspended = store.rights_of(&parent.uid, None).await?.is_none();
        let now_us = clock::now_us();
        let api_keys = rows.iter().map(|(_, row)| message(&parent.name, row, now_us, is_suspended)).collect();
        Ok(ListApiKeysResponse { api_keys, next_page_token })
    }
}

impl Rpc for RevokeApiKeyRequest {
    type Response = RevokeApiKeyResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let Some((parent, id)) = principal::split(&self.name, "keys") else {
            let text = format!(
                "`{}` is not of the form `serviceAccounts/{{service_account}}/keys/{{key}}`",
                self.name
            );
            return Err(Error::field("name", text));
        };
        let parent = call.parent_of_keys(parent, Permission::PeopleWrite, true).await?;
        let mut tx = call.registry.store().write().await?;
        if parent.uid != call.caller.uid && parent.owner != call.caller.name {
            check_above(call, &mut tx, &parent).await?;
        }
        if !tx.delete_api_key(&parent.uid, id).await? {
            return Err(principal_not_found(&self.name));
        }
        revoke_made(&mut tx, &parent.uid).await?;
        tx.commit().await?;
        call.proofs().credentials.forget();
        tracing::info!(key = self.name, by = call.caller.name, "revoked an API key");
        Ok(RevokeApiKeyResponse {})
    }
}

/// How long a new key is good. `None`: for ever.
fn lifetime(request: &CreateApiKeyRequest) -> Result<Option<Duration>, Error> {
    match (&request.lifetime, request.never_expires) {
        (Some(_), true) => Err(Error::field("never_expires", "is refused beside `lifetime`")),
        (None, true) => Ok(None),
        (None, false) => Ok(Some(api_key::LIFETIME)),
        (Some(asked), false) => {
            let asked = clock::duration(asked).filter(|asked| !asked.is_zero() && *asked <= LONGEST);
            let text = "must be more than nothing and at most ten years; for ever is `never_expires`";
            asked.map(Some).ok_or_else(|| Error::field("lifetime", text))
        }
    }
}

async fn check_role(call: &Call<'_>, role: &str) -> Result<(), Error> {
    names::parse(Kind::Role, role).map_err(|error| Error::field("role", error.to_string()))?;
    match call.find(Kind::Role, role).await {
        Err(error) if error.code() == Code::NotFound => {
            Err(Error::field("role", format!("names {role}, which does not exist")))
        }
        found => found.map(drop),
    }
}

/// Refuses a role by which a key would seem to do more than whose it is may do, or something that they may not do at all.
fn check_holds(rights: &Rights, role: &str, of_role: PermissionSet) -> Result<(), Error> {
    let has_role = rights.roles().iter().any(|held| held.role == role);
    let Some(lacked) = of_role.iter().find(|permission| !has_role && !rights.holds(*permission)) else {
        return Ok(());
    };
    let held = rights.roles().iter().map(|held| match held.team.as_str() {
        "" => held.role.clone(),
        team => format!("{} in {team}", held.role),
    });
    let held = held.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    let held = if held.is_empty() { "no role".to_owned() } else { held };
    let text = format!(
        "is {role}, which gives more than {} may: it has {held}, and not {}",
        rights.name,
        permission_set::name(lacked)
    );
    Err(Error::field("role", text))
}

fn disabled(name: &str) -> Error {
    let text = format!("{name}, or who answers for it, is disabled");
    Error::new(Code::FailedPrecondition, "PRINCIPAL_DISABLED", text).with("name", name)
}

impl Call<'_> {
    /// Whose keys a request is about. Those of others take a permission; to look at them or end them, who looks after a team does in which a
    /// service account has a role.
    async fn parent_of_keys(
        &self,
        parent: &str,
        permission: Permission,
        is_stopping: bool,
    ) -> Result<Principal, Error> {
        if parent.is_empty() && self.is_administrator() {
            return Err(Error::field("parent", "is required: the administrator's bearer is nobody's"));
        }
        let parent = if parent.is_empty() { &self.caller.name } else { parent };
        if !principal::is_user(parent) && !principal::is_service_account(parent) {
            let text =
                format!("`{parent}` is neither `users/{{user}}` nor `serviceAccounts/{{service_account}}`");
            return Err(Error::field("parent", text));
        }
        let found = self.seen(parent).await?;
        let may = found.uid == self.caller.uid
            || self.may(permission, &found)
            || (is_stopping && self.may_stop(&found).await?);
        if may { Ok(found) } else { Err(denied(permission, " everywhere")) }
    }
}

/// The message of a key of `parent`.
fn message(parent: &str, row: &ApiKeyRow, now_us: i64, is_suspended: bool) -> ApiKey {
    let end_us = Some(row.expire_us).filter(|us| *us != 0);
    let state = match end_us {
        Some(end_us) if end_us <= now_us => ApiKeyState::Expired,
        _ if is_suspended => ApiKeyState::Suspended,
        Some(end_us) if end_us <= now_us + clock::duration_us(api_key::EXPIRING) => ApiKeyState::Expiring,
        _ => ApiKeyState::Valid,
    };
    ApiKey {
        name: format!("{parent}/keys/{}", row.id),
        title: row.title.clone(),
        create_time: Some(clock::timestamp(row.create_us)),
        expire_time: end_us.map(clock::timestamp),
        last_use_time: Some(row.seen_us).filter(|us| *us != 0).map(clock::timestamp),
        last_use_address: row.address.clone(),
        role: row.role.clone(),
        state: state.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::HeldRole;

    #[test]
    fn a_key_is_given_no_role_that_gives_more_than_whose_it_is_may() {
        let held = |role: &str, team: &str, permissions: &[Permission]| HeldRole {
            role: role.to_owned(),
            team: team.to_owned(),
            permissions: permissions.iter().copied().collect(),
        };
        let developer =
            held("roles/developer", "teams/core", &[Permission::RegistryRead, Permission::ServersWrite]);
        let rights = |roles: Vec<HeldRole>| {
            Rights::new(
                "u".to_owned(),
                "serviceAccounts/ci".to_owned(),
                roles,
                [].into(),
                PermissionSet::all(),
            )
        };
        let of = |permissions: &[Permission]| permissions.iter().copied().collect::<PermissionSet>();
        let ci = rights(vec![developer.clone()]);
        check_holds(&ci, "roles/viewer", of(&[Permission::RegistryRead])).unwrap();
        check_holds(&ci, "roles/developer", of(&[Permission::RegistryRead, Permission::FleetRead])).unwrap();
        let error =
            check_holds(&ci, "roles/administrator", of(&[Permission::RegistryRead, Permission::PeopleWrite]));
        assert!(
            error.unwrap_err().to_string().contains(
                "is roles/administrator, which gives more than serviceAccounts/ci may: it has roles/developer in teams/core, and not \
                 people.write"
            )
        );
        let nobody =
            check_holds(&rights(vec![]), "roles/viewer", of(&[Permission::RegistryRead])).unwrap_err();
        assert!(nobody.to_string().contains("it has no role, and not registry.read"), "{nobody}");
    }

    #[test]
    fn the_state_of_a_key_follows_from_its_end_and_its_principal() {
        let day = 86_400_000_000;
        let state = |expire_us, is_suspended| {
            message("users/a@x", &ApiKeyRow { expire_us, ..ApiKeyRow::default() }, 10 * day, is_suspended)
                .state()
        };
        assert_eq!(state(0, false), ApiKeyState::Valid);
        assert_eq!(state(17 * day + 1, false), ApiKeyState::Valid);
        assert_eq!(state(17 * day, false), ApiKeyState::Expiring);
        assert_eq!(state(10 * day, false), ApiKeyState::Expired);
        assert_eq!(state(10 * day, true), ApiKeyState::Expired);
        assert_eq!(state(0, true), ApiKeyState::Suspended);
    }

    #[test]
    fn a_key_ends_in_ninety_days_unless_something_else_is_said() {
        let of = |seconds: Option<i64>, never_expires| {
            let lifetime = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
            lifetime_of(lifetime, never_expires)
        };
        fn lifetime_of(
            asked: Option<prost_types::Duration>,
            never_expires: bool,
        ) -> Result<Option<Duration>, String> {
            let request =
                CreateApiKeyRequest { lifetime: asked, never_expires, ..CreateApiKeyRequest::default() };
            lifetime(&request).map_err(|error| error.to_string())
        }
        assert_eq!(of(None, false), Ok(Some(Duration::from_secs(90 * 86_400))));
        assert_eq!(of(None, true), Ok(None));
        assert_eq!(of(Some(60), false), Ok(Some(Duration::from_secs(60))));
        for bad in [(Some(0), false), (Some(-1), false), (Some(400_000_000), false), (Some(60), true)] {
            assert!(of(bad.0, bad.1).is_err(), "{bad:?}");
        }
    }
}
