//! Roles: who has them, what they can hold, and those that are built in, which are in no table.
//!
//! It must not know how people prove who they are.

use prost::Message as _;
use prost_reflect::MethodDescriptor;
use schema::contract::pool;
use schema::prose;
use tonic::Code;
use trunkline::admin::v1::manifest;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::{
    BindRoleRequest, BindRoleResponse, Binding, ListPermissionsRequest, ListPermissionsResponse,
    PermissionDescription, Role, UnbindRoleRequest, UnbindRoleResponse,
};

use super::list::place;
use super::people::check_not_last;
use super::permissions::permission;
use super::proofs::not_theirs;
use super::rpc::{Call, Rpc};
use super::teams::{check, check_principal, standing};
use super::write::Write;
use crate::domain::{Kind, KindRules};
use crate::error::Error;
use crate::rights::giving::check_gives;
use crate::rights::permission_set::{self, PermissionSet};
use crate::rights::roles::{self, BuiltIn};
use crate::rights::{Ownership, Rights};
use crate::store::bindings::BindingRow;
use crate::store::{Page, Row, Tx};

impl Rpc for BindRoleRequest {
    type Response = BindRoleResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (mut tx, who, binding) = call.binding(&self.principal, self.binding).await?;
        call.check_confirmed(&mut tx, &who).await?;
        if tx.bind(&who.uid, &binding, &call.caller.name).await? {
            tx.note_rights(&who).await?;
        }
        let (revision, BindingRow { role, team }) = (tx.commit().await?, binding);
        tracing::info!(role, team, principal = who.name, by = call.caller.name, "bound a role");
        Ok(BindRoleResponse { revision })
    }
}

impl Rpc for UnbindRoleRequest {
    type Response = UnbindRoleResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (mut tx, who, binding) = call.binding(&self.principal, self.binding).await?;
        if (binding.role.as_str(), binding.team.as_str()) == (roles::ADMINISTRATOR, "")
            && let Some(person) = tx.principal_by_uid(&who.uid).await?
        {
            check_not_last(call, &mut tx, &person).await?;
        }
        if !tx.unbind(&who.uid, &binding).await? {
            let place = if binding.team.is_empty() { "everywhere" } else { binding.team.as_str() };
            let text = format!("{} does not have {} {place}", who.name, binding.role);
            return Err(Error::new(Code::NotFound, "BINDING_NOT_FOUND", text)
                .with("name", who.name)
                .with("role", binding.role)
                .with("team", binding.team));
        }
        tx.note_rights(&who).await?;
        let (revision, BindingRow { role, team }) = (tx.commit().await?, binding);
        tracing::info!(role, team, principal = who.name, by = call.caller.name, "unbound a role");
        Ok(UnbindRoleResponse { revision })
    }
}

impl Rpc for ListPermissionsRequest {
    type Response = ListPermissionsResponse;

    async fn run(self, _call: &Call<'_>) -> Result<Self::Response, Error> {
        let described = PermissionSet::all().iter().map(|permission| PermissionDescription {
            name: permission_set::name(permission).to_owned(),
            description: description(permission),
            rpcs: rpcs(permission),
        });
        Ok(ListPermissionsResponse { permissions: described.collect() })
    }
}

/// What the contract says of a permission.
fn description(permission: Permission) -> String {
    let values = pool().get_enum_by_name("trunkline.common.v1.Permission");
    let value = values.and_then(|values| values.get_value(permission as i32));
    value.map(|value| prose::of_value(&value)).unwrap_or_default()
}

/// The rpcs that declare a permission.
fn rpcs(wanted: Permission) -> Vec<String> {
    let methods = pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let name =
        |method: MethodDescriptor| format!("{}/{}", method.parent_service().full_name(), method.name());
    methods.filter(|method| permission(pool(), method) == wanted).map(name).collect()
}

impl Call<'_> {
    /// Begins to give somebody a role, or to take it: who they are, and which role where, if it is the caller's to give.
    async fn binding(
        &self,
        principal: &str,
        binding: Option<Binding>,
    ) -> Result<(Tx, Rights, BindingRow), Error> {
        check_principal("principal", principal)?;
        let Binding { role, team } = binding.ok_or_else(|| Error::field("binding", "is required"))?;
        check(Kind::Role, "binding.role", &role)?;
        let mut tx = self.registry.store().write().await?;
        match team.as_str() {
            "" => self.needs_everywhere(Permission::RolesWrite)?,
            _ => self.check_binds_in(&self.team(&mut tx, &team).await?.ownership())?,
        }
        let given = self.permissions_of(&mut tx, "binding.role", &role).await?;
        check_gives(&self.caller, given, &team).map_err(|error| not_theirs(&error))?;
        let who = standing(&mut tx, principal).await?;
        self.check_not_oneself(&who)?;
        Ok((tx, who, BindingRow { role, team }))
    }

    fn check_binds_in(&self, of: &Ownership) -> Result<(), Error> {
        match self.caller.may(Permission::RolesWrite, of) {
            true => Ok(()),
            false => Err(Error::denied(Permission::RolesWrite, &of.team)),
        }
    }

    /// What a role holds, that a field names.
    pub(super) async fn permissions_of(
        &self,
        tx: &mut Tx,
        field: &str,
        role: &str,
    ) -> Result<PermissionSet, Error> {
        if let Some(permissions) = roles::permissions_of(role) {
            return Ok(permissions);
        }
        let row = tx.get(Kind::Role, role).await?;
        let row = row.ok_or_else(|| Error::field(field, format!("names {role}, which does not exist")))?;
        Ok(roles::permissions_named(&row.message::<Role>()?.permissions))
    }
}

impl Write<'_> {
    /// Checks what is asked of roles only, where it is one.
    pub(super) async fn check_if_role<K: KindRules>(
        &mut self,
        before: Option<&K>,
        after: &K,
    ) -> Result<(), Error> {
        let role = |message: &K| match message.clone().into_manifest() {
            manifest::Resource::Role(role) => Some(role),
            _ => None,
        };
        if K::KIND != Kind::Role {
            return Ok(());
        }
        match role(after) {
            Some(after) => self.check_role(before.and_then(role).as_ref(), &after).await,
            None => Ok(()),
        }
    }

    /// Checks that what a role gives, or gave, is the caller's to give.
    async fn check_role(&mut self, before: Option<&Role>, after: &Role) -> Result<(), Error> {
        check_not_built_in(Kind::Role, &after.name)?;
        let held = |role: &Role| roles::permissions_named(&role.permissions);
        let given = before.map(held).unwrap_or_default().union(held(after));
        check_gives(&self.call.caller, given, "").map_err(|error| not_theirs(&error))?;
        if before.is_none() {
            return Ok(());
        }
        self.check_not_bound(&after.name)?;
        if !before.map(held).unwrap_or_default().difference(held(after)).is_empty() {
            self.tx.withdraw_below(&after.name).await?;
        }
        Ok(self.tx.touch_role(&after.name).await?)
    }

    /// Refuses callers who have the role themselves, unless all is theirs to change.
    fn check_not_bound(&self, role: &str) -> Result<(), Error> {
        let caller = &self.call.caller;
        if caller.sees_all() || !caller.roles().iter().any(|held| held.role == role) {
            return Ok(());
        }
        let text = format!("you have {role} yourself; somebody else who may do so has to change it");
        Err(Error::new(Code::PermissionDenied, "OWN_RIGHTS", text).with("name", role))
    }

    /// Checks that nobody has a role that is deleted, or takes it from them. A member of a team whose role there it is leaves the team.
    pub(super) async fn unbind_role(&mut self, row: &Row, force: bool) -> Result<(), Error> {
        let role: Role = row.message()?;
        self.check_role(Some(&role), &role).await?;
        let mut holders = self.tx.uids_bound_to(&row.name).await?;
        holders.extend(self.tx.uids_as(&row.name).await?);
        holders.sort();
        holders.dedup();
        if holders.is_empty() {
            return Ok(());
        }
        if !force {
            let count = holders.len();
            let text = format!("{} is the role of {count}; set `force` to take it from them", row.name);
            return Err(Error::new(Code::FailedPrecondition, "ROLE_IN_USE", text)
                .with("name", row.name.clone())
                .with("holders", count.to_string()));
        }
        let before = self.tx.standings_of(&holders).await?;
        self.tx.forget_role(&row.name).await?;
        for standing in before {
            self.tx.note_rights(&standing.rights).await?;
        }
        Ok(())
    }
}

/// The error of who would write what is built in.
pub(super) fn check_not_built_in(kind: Kind, name: &str) -> Result<(), Error> {
    if kind != Kind::Role || roles::built_in(name).is_none() {
        return Ok(());
    }
    let text = format!(
        "{name} is built in, and cannot be changed; create a role of your own with what it should hold"
    );
    Err(Error::new(Code::FailedPrecondition, "ROLE_BUILT_IN", text).with("name", name))
}

/// The row of a role that is built in, as if it were in the table.
pub(super) fn built_in_row(kind: Kind, name: &str) -> Option<Row> {
    (kind == Kind::Role).then(|| roles::built_in(name)).flatten().map(row)
}

fn row(role: &BuiltIn) -> Row {
    let mut shown = role.role();
    let status = Role { built_in: std::mem::take(&mut shown.built_in), ..Role::default() };
    shown.name.clear();
    Row {
        kind: Kind::Role,
        name: role.name.to_owned(),
        uid: role.uid(),
        revision: 0,
        create_us: 0,
        update_us: 0,
        deleted: false,
        apply_set: String::new(),
        ownership: Role::default().ownership(),
        body: shown.encode_to_vec(),
        status: status.encode_to_vec(),
    }
}

/// What a page of the table found, with the roles that are built in among them.
pub(super) fn with_built_in(page: &Page, found: Vec<Row>) -> Vec<Row> {
    if page.kind != Kind::Role || !page.labels.is_empty() {
        return found;
    }
    let place = |row: &Row| place(page.order, row);
    let is_before = |one: &(i64, String), other: &(i64, String)| match page.descending {
        true => one > other,
        false => one < other,
    };
    let is_full = found.len() as i64 == page.limit;
    let last = found.last().filter(|_| is_full).map(place);
    let mut all: Vec<Row> = roles::BUILT_IN.iter().map(row).collect();
    all.retain(|row| {
        let at = place(row);
        page.after.as_ref().is_none_or(|after| is_before(after, &at))
            && last.as_ref().is_none_or(|last| is_before(&at, last))
    });
    all.extend(found);
    all.sort_by_key(place);
    if page.descending {
        all.reverse();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::page::Order;

    fn own(name: &str, revision: i64) -> Row {
        Row { name: format!("roles/{name}"), revision, create_us: revision, ..row(&roles::BUILT_IN[0]) }
    }

    fn page(order: Order, descending: bool, after: Option<(i64, &str)>, limit: i64) -> Page {
        Page {
            kind: Kind::Role,
            parent: None,
            order,
            descending,
            after: after.map(|(value, name)| (value, format!("roles/{name}"))),
            viewer: crate::store::Viewer::of_everything(),
            labels: Vec::new(),
            limit,
        }
    }

    fn names(page: &Page, found: Vec<Row>) -> Vec<String> {
        let rows = with_built_in(page, found);
        rows.into_iter().map(|row| row.name.trim_start_matches("roles/").to_owned()).collect()
    }

    #[test]
    fn built_in_roles_stand_among_the_others_on_every_page_once() {
        let by_name = page(Order::Name, false, None, 2);
        // The page is full, so what comes after its last row is of the next one.
        assert_eq!(names(&by_name, vec![own("b", 5), own("d", 6)]), ["administrator", "auditor", "b", "d"]);
        let next = page(Order::Name, false, Some((0, "d")), 2);
        assert_eq!(names(&next, vec![own("x", 7)]), ["developer", "team-owner", "viewer", "x"]);
        let backwards = page(Order::Name, true, Some((0, "team-owner")), 2);
        assert_eq!(names(&backwards, vec![own("b", 5)]), ["developer", "b", "auditor", "administrator"]);
        let newest = page(Order::Revision, true, None, 9);
        let found = names(&newest, vec![own("d", 6), own("b", 5)]);
        assert_eq!(found, ["d", "b", "viewer", "team-owner", "developer", "auditor", "administrator"]);
    }

    #[test]
    fn a_built_in_role_reads_as_the_role_it_is() {
        let role: Role = built_in_row(Kind::Role, "roles/viewer").unwrap().message().unwrap();
        assert_eq!((role.name.as_str(), role.built_in), ("roles/viewer", true));
        assert_eq!(role.permissions, ["registry.read", "tokens.read", "usage.read"]);
        assert_eq!(role.meta.unwrap().uid, "built-in:viewer");
        assert!(built_in_row(Kind::Role, "roles/mine").is_none());
        assert!(built_in_row(Kind::Team, "roles/viewer").is_none());
    }

    #[test]
    fn every_permission_is_described_with_the_rpcs_that_need_it() {
        let all: Vec<_> = PermissionSet::all().iter().map(|one| (description(one), rpcs(one))).collect();
        for (description, _) in &all {
            assert!(description.ends_with('.'), "{description:?}");
        }
        assert_eq!(description(Permission::ServersCall), "Call virtual servers at edges.");
        let writes = rpcs(Permission::ServersWrite);
        assert!(
            writes.contains(&"trunkline.registry.v1.ServerService/CreateServer".to_owned()),
            "{writes:?}"
        );
        assert_eq!(rpcs(Permission::ServersCall), [""; 0]);
    }
}
