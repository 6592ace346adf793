//! The members of teams: who is in one, who adds and removes them, and what becomes of them when it is deleted.
//!
//! Nobody gives what they do not have, and nobody changes what they may do themselves. It must not know how people prove who they are.

use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::{
    AddMemberRequest, AddMemberResponse, InviteMemberRequest, InviteMemberResponse, ListMembersRequest,
    ListMembersResponse, Member, OneTimeLink, RemoveMemberRequest, RemoveMemberResponse, Team, UserState,
};

use super::Registry;
use super::people::{new_principal, principal_not_found};
use super::proofs::not_theirs;
use super::rpc::{Call, Rpc};
use super::users::add_link;
use super::write::Write;
use crate::clock;
use crate::discovery::page::Pages;
use crate::domain::{Kind, KindRules as _, Violations, names, principal};
use crate::error::Error;
use crate::rights::giving::check_gives;
use crate::rights::permission_set::PermissionSet;
use crate::rights::{Rights, roles};
use crate::store::bindings::BindingRow;
use crate::store::links::LinkPurpose;
use crate::store::memberships::MemberRow;
use crate::store::principals::Principal;
use crate::store::{Row, Tx};

/// The context that page tokens of members are sealed in.
const MEMBERS: &str = "members";
/// The longest name of a principal.
const MAX_NAME: usize = 270;

/// What belongs to a team, and is named where it is in the way.
const OWNED_NAMED: usize = 3;

impl Rpc for AddMemberRequest {
    type Response = AddMemberResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let member = self.member.ok_or_else(|| Error::field("member", "is required"))?;
        check_principal("member.principal", &member.principal)?;
        call.check_addressable(&member.principal).await?;
        let mut tx = call.registry.store().write().await?;
        call.team_to_write(&mut tx, &self.team).await?;
        let who = standing(&mut tx, &member.principal).await?;
        let added = call.put_member(&mut tx, &self.team, &who, &member).await?;
        let revision = tx.commit().await?;
        tracing::info!(team = self.team, principal = who.name, by = call.caller.name, "added a member");
        Ok(AddMemberResponse { member: Some(shown(added)), revision })
    }
}

impl Rpc for InviteMemberRequest {
    type Response = InviteMemberResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let member = self.member.unwrap_or_default();
        if !member.principal.is_empty() {
            let text = "must be empty: the user is created, and named by `email`; AddMember adds who exists";
            return Err(Error::field("member.principal", text));
        }
        let mut tx = call.registry.store().write().await?;
        call.team_to_write(&mut tx, &self.team).await?;
        let (name, link) = call.invite(&mut tx, &self.email).await?;
        let who = standing(&mut tx, &name).await?;
        let added = call.put_member(&mut tx, &self.team, &who, &member).await?;
        tx.commit().await?;
        tracing::info!(team = self.team, principal = name, by = call.caller.name, "invited a member");
        Ok(InviteMemberResponse { member: Some(shown(added)), link: Some(link) })
    }
}

impl Rpc for RemoveMemberRequest {
    type Response = RemoveMemberResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        check_principal("principal", &self.principal)?;
        let mut tx = call.registry.store().write().await?;
        // Who leaves gives nobody anything.
        let is_leaving = self.principal == call.caller.name && call.caller.teams().contains(&self.team);
        match is_leaving {
            true => drop(call.team(&mut tx, &self.team).await?),
            false => drop(call.team_to_write(&mut tx, &self.team).await?),
        }
        let who = tx.standing_named(&self.principal).await?.map(|standing| standing.rights);
        let (old, bound) = match &who {
            Some(who) => {
                (tx.member(&self.team, &who.uid).await?, tx.roles_bound(&who.uid, &self.team).await?)
            }
            None => (None, Vec::new()),
        };
        let Some(who) = who.filter(|_| old.is_some() || !bound.is_empty()) else {
            let text = format!("{} is not in {}", self.principal, self.team);
            return Err(Error::new(Code::NotFound, "MEMBER_NOT_FOUND", text)
                .with("name", self.principal)
                .with("team", self.team));
        };
        if let Some(old) = old.as_ref().filter(|_| !is_leaving) {
            call.check_gives_roles(&mut tx, &self.team, old.is_owner, &old.role).await?;
        }
        if old.is_some_and(|old| old.is_owner) && !self.force {
            check_not_last_owner(&mut tx, &self.team, &who).await?;
        }
        tx.remove_member(&self.team, &who.uid).await?;
        // Who is not in the team has no role in it either.
        for role in bound {
            if !is_leaving {
                let given = call.permissions_of(&mut tx, "principal", &role).await?;
                check_gives(&call.caller, given, &self.team).map_err(|error| not_theirs(&error))?;
            }
            tx.unbind(&who.uid, &BindingRow { role, team: self.team.clone() }).await?;
        }
        tx.note_rights(&who).await?;
        let revision = tx.commit().await?;
        tracing::info!(team = self.team, principal = who.name, by = call.caller.name, "removed a member");
        Ok(RemoveMemberResponse { revision })
    }
}

impl Rpc for ListMembersRequest {
    type Response = ListMembersResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (size, pages) = (Pages::size(self.page_size)?, call.registry.member_pages());
        let after = pages.after(&self.page_token)?;
        check_team("team", &self.team)?;
        let row = call.find(Kind::Team, &self.team).await?;
        let of = row.message::<Team>()?.ownership();
        if !call.caller.teams().contains(&self.team) && !call.caller.may(Permission::PeopleRead, &of) {
            return Err(Error::denied(Permission::PeopleRead, &self.team));
        }
        let mut found = call.registry.store().members(&self.team, &after, size + 1).await?;
        let mut placed: Vec<_> = found.drain(..).map(|member| (member.place(), member)).collect();
        let next_page_token = pages.cut(&mut placed, size, |(place, _)| place)?;
        let members = placed.into_iter().map(|(_, member)| shown(member)).collect();
        Ok(ListMembersResponse { members, next_page_token })
    }
}

impl Registry {
    fn member_pages(&self) -> Pages {
        Pages::new(self.inner.vault.clone(), MEMBERS)
    }
}

impl Call<'_> {
    /// A team that exists for the caller, within a write.
    pub(super) async fn team(&self, tx: &mut Tx, name: &str) -> Result<Team, Error> {
        check_team("team", name)?;
        let row = tx.get(Kind::Team, name).await?;
        let team = row.map(|row| row.message::<Team>()).transpose()?;
        let team = team.filter(|team| self.caller.sees(&team.ownership()));
        team.ok_or_else(|| Error::not_found(Kind::Team, name))
    }

    /// Refuses service accounts that do not exist for the caller. A person is named by their address: who has that adds them.
    async fn check_addressable(&self, name: &str) -> Result<(), Error> {
        if principal::is_service_account(name) {
            self.seen(name).await?;
        }
        Ok(())
    }

    async fn team_to_write(&self, tx: &mut Tx, name: &str) -> Result<Team, Error> {
        let team = self.team(tx, name).await?;
        match self.caller.may(Permission::TeamsWrite, &team.ownership()) {
            true => Ok(team),
            false => Err(Error::denied(Permission::TeamsWrite, name)),
        }
    }

    /// Creates a user who chooses a password by the link.
    async fn invite(&self, tx: &mut Tx, email: &str) -> Result<(String, OneTimeLink), Error> {
        let email = principal::email(email).ok_or_else(|| Error::field("email", principal::EMAIL))?;
        let name = format!("{}{email}", principal::USERS);
        let known = match tx.principal(&name).await? {
            Some(known) => Some(known),
            None => tx.principal_by_email(&email).await?,
        };
        if let Some(known) = known {
            // A link that was lost: whoever made it makes another.
            if known.state == UserState::Invited && known.invited_by == self.caller.name {
                tx.delete_links_of(&known.uid).await?;
                let link = add_link(tx, LinkPurpose::Invite, &known).await?;
                return Ok((known.name, link));
            }
            let text = format!("{email} is a user already; AddMember adds them to the team");
            return Err(Error::new(Code::AlreadyExists, "RESOURCE_EXISTS", text).with("name", name));
        }
        // Who looks after all people may choose passwords anyway.
        let is_trusted = self.caller.everywhere().contains(Permission::PeopleWrite);
        let invited_by = if is_trusted { String::new() } else { self.caller.name.clone() };
        let (email, state) = (Some(email), UserState::Invited);
        let user = Principal { email, state, invited_by, ..new_principal(tx, name.clone()) };
        tx.put_principal(&user).await?;
        Ok((name, add_link(tx, LinkPurpose::Invite, &user).await?))
    }

    /// Puts somebody into a team as what is said, if the caller may make them that.
    pub(super) async fn put_member(
        &self,
        tx: &mut Tx,
        team: &str,
        who: &Rights,
        member: &Member,
    ) -> Result<MemberRow, Error> {
        self.check_not_oneself(who)?;
        check_role_name("member.role", &member.role)?;
        self.check_gives_roles(tx, team, member.owner, &member.role).await?;
        let old = tx.member(team, &who.uid).await?;
        if old.is_none() {
            self.check_confirmed(tx, who).await?;
        }
        if let Some(old) = &old {
            if (old.is_owner, &old.role) == (member.owner, &member.role) {
                return Ok(old.clone());
            }
            self.check_gives_roles(tx, team, old.is_owner, &old.role).await?;
        }
        let new = MemberRow {
            team: team.to_owned(),
            uid: who.uid.clone(),
            principal: who.name.clone(),
            is_owner: member.owner,
            role: member.role.clone(),
            create_us: old.as_ref().map_or(tx.now_us(), |old| old.create_us),
            added_by: old.map_or_else(|| self.caller.name.clone(), |old| old.added_by),
            is_bound: false,
        };
        tx.put_member(&new).await?;
        tx.note_rights(who).await?;
        Ok(new)
    }

    /// Checks that the caller could give what a membership gives.
    async fn check_gives_roles(
        &self,
        tx: &mut Tx,
        team: &str,
        is_owner: bool,
        role: &str,
    ) -> Result<(), Error> {
        let mut given = PermissionSet::default();
        for role in roles::of_member(is_owner, role) {
            given = given.union(self.permissions_of(tx, "member.role", role).await?);
        }
        check_gives(&self.caller, given, team).map_err(|error| not_theirs(&error))
    }

    /// Refuses to give something to who was invited by somebody else, who may have chosen their password and be them.
    pub(super) async fn check_confirmed(&self, tx: &mut Tx, who: &Rights) -> Result<(), Error> {
        let person = tx.principal_by_uid(&who.uid).await?;
        let by = person.map(|person| person.invited_by).unwrap_or_default();
        if by.is_empty() || by == self.caller.name {
            return Ok(());
        }
        let name = &who.name;
        let text = format!(
            "{name} was invited by {by}, who may have chosen their password; send them another link first, which `mcpctl reset-password` makes"
        );
        Err(Error::new(Code::FailedPrecondition, "NOT_CONFIRMED", text).with("name", name.clone()))
    }

    /// Refuses callers who would change what they may do themselves, unless all is theirs to change.
    pub(super) fn check_not_oneself(&self, who: &Rights) -> Result<(), Error> {
        if who.name != self.caller.name || self.caller.sees_all() {
            return Ok(());
        }
        let text = "nobody changes what they may do themselves; somebody else who may do so has to";
        Err(Error::new(Code::PermissionDenied, "OWN_RIGHTS", text).with("name", who.name.clone()))
    }
}

impl Write<'_> {
    /// Checks that nothing belongs to a team that is deleted: another team of that name would have it.
    pub(super) async fn check_owns_nothing(&mut self, team: &str) -> Result<(), Error> {
        let owned = self.tx.owned_by_team(team).await?;
        if owned.is_empty() {
            return Ok(());
        }
        let named = owned.iter().take(OWNED_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = owned.len().saturating_sub(OWNED_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!(
            "{team} has {named}{more}; delete that too, or give it to somebody else: set `meta.team`, or `team` of a service account"
        );
        Err(Error::new(Code::FailedPrecondition, "TEAM_NOT_EMPTY", text).with("name", team))
    }

    /// Checks that nobody is in a team that is deleted, or takes them out of it.
    pub(super) async fn empty_team(&mut self, row: &Row, force: bool) -> Result<(), Error> {
        let members = self.tx.uids_in(&row.name).await?.len();
        let bound = self.tx.uids_bound_in(&row.name).await?.len();
        if members + bound == 0 {
            return Ok(());
        }
        if !force {
            let text = format!(
                "{} has {} and {}; set `force` to delete it with them",
                row.name,
                counted(members, "member"),
                counted(bound, "binding")
            );
            return Err(Error::new(Code::FailedPrecondition, "TEAM_NOT_EMPTY", text)
                .with("name", row.name.clone())
                .with("members", members.to_string())
                .with("bindings", bound.to_string()));
        }
        // The grant goes with the team, and with it what their bearers have in it.
        self.tx.touch_team(&row.name).await?;
        Ok(self.tx.empty_team(&row.name).await?)
    }
}

/// Somebody by their name, within a write.
pub(super) async fn standing(tx: &mut Tx, name: &str) -> Result<Rights, Error> {
    let found = tx.standing_named(name).await?;
    found.map(|standing| standing.rights).ok_or_else(|| principal_not_found(name))
}

/// Refuses to leave a team without an owner, who alone looks after it.
async fn check_not_last_owner(tx: &mut Tx, team: &str, who: &Rights) -> Result<(), Error> {
    if tx.has_other_owner(team, &who.uid).await? {
        return Ok(());
    }
    let text = format!(
        "{} is the last owner of {team}, and only an administrator could look after it then; make somebody else an owner first, or set `force`",
        who.name
    );
    Err(Error::new(Code::FailedPrecondition, "LAST_OWNER", text)
        .with("name", who.name.clone())
        .with("team", team))
}

/// Checks that a field names a user or a service account.
pub(super) fn check_principal(field: &str, name: &str) -> Result<(), Error> {
    match name.len() <= MAX_NAME && (principal::is_user(name) || principal::is_service_account(name)) {
        true => Ok(()),
        false => Err(Error::field(field, "must be `users/{user}` or `serviceAccounts/{service_account}`")),
    }
}

/// Checks that a field names a role, or nothing.
fn check_role_name(field: &str, name: &str) -> Result<(), Error> {
    if name.is_empty() { Ok(()) } else { check(Kind::Role, field, name) }
}

pub(super) fn check_team(field: &str, name: &str) -> Result<(), Error> {
    check(Kind::Team, field, name)
}

/// Checks that a field names a resource of a kind.
pub(super) fn check(kind: Kind, field: &str, name: &str) -> Result<(), Error> {
    let mut violations = Violations::default();
    match names::parse(kind, name) {
        Ok(_) => return Ok(()),
        Err(error) => violations.add(field, error.to_string()),
    }
    Err(Error::invalid(violations))
}

fn shown(member: MemberRow) -> Member {
    Member {
        principal: member.principal,
        owner: member.is_owner,
        role: member.role,
        create_time: Some(clock::timestamp(member.create_us)),
        added_by: member.added_by,
        bound: member.is_bound,
    }
}

/// A number of things: `1 member`, `2 members`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
