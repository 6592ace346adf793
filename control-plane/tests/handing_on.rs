//! Nobody gives what they do not have: what those who look after teams and roles cannot do, on both databases.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/control.rs"]
mod control;

use control::{Control, with_bearer};
use database::Database;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use trunkline::identity::v1::role_service_client::RoleServiceClient;
use trunkline::identity::v1::service_account_service_client::ServiceAccountServiceClient;
use trunkline::identity::v1::team_service_client::TeamServiceClient;
use trunkline::identity::v1::{
    AddMemberRequest, BindRoleRequest, Binding, CreateApiKeyRequest, CreateRoleRequest,
    CreateServiceAccountRequest, CreateTeamRequest, DeleteTeamRequest, GetTeamRequest, InviteMemberRequest,
    ListMembersRequest, ListTeamsRequest, Member, RemoveMemberRequest, Role, Scope, ServiceAccount, Team,
    UnbindRoleRequest, UpdateRoleRequest, UpdateTeamRequest,
};

suite! {
    a_team_owner_reaches_their_own_team_only,
    a_team_owner_adds_no_service_account_that_does_not_exist_for_them,
    a_team_owner_gives_what_they_have_there_and_nothing_to_themselves,
    a_member_sees_their_team_and_changes_nothing,
    who_binds_roles_gives_what_they_have_and_takes_no_more,
    nobody_makes_a_role_of_what_they_do_not_have,
    the_last_administrator_stays_one,
}

const REACHED: &str = "";

/// A control plane with two teams, and people as service accounts, who act by their keys.
struct House {
    control: Control,
}

/// Somebody who acts.
struct Actor {
    name: String,
    key: String,
}

impl Actor {
    fn ask<T>(&self, message: T) -> Request<T> {
        with_bearer(message, &self.key)
    }
}

impl House {
    async fn start(database: &Database) -> Self {
        let url = database.url().to_owned();
        let control = Control::start_with(|config| config.database_url = Some(url.into())).await;
        let house = Self { control };
        for id in ["a", "b"] {
            let request = CreateTeamRequest {
                team_id: id.to_owned(),
                team: Some(Team::default()),
                ..Default::default()
            };
            house.teams().create_team(house.control.admin(request)).await.unwrap();
        }
        house
    }

    fn teams(&self) -> TeamServiceClient<Channel> {
        TeamServiceClient::new(self.control.channel.clone())
    }

    fn roles(&self) -> RoleServiceClient<Channel> {
        RoleServiceClient::new(self.control.channel.clone())
    }

    /// Somebody with these roles everywhere.
    async fn actor(&self, id: &str, roles: &[&str]) -> Actor {
        let bindings = roles.iter().map(|role| binding(role, "")).collect();
        self.account(id, ServiceAccount { bindings, ..ServiceAccount::default() }).await
    }

    /// Somebody who is in no team, and who is a team's to look after.
    async fn ward(&self, id: &str, team: &str) -> Actor {
        self.account(id, ServiceAccount { team: team.to_owned(), ..ServiceAccount::default() }).await
    }

    async fn account(&self, id: &str, account: ServiceAccount) -> Actor {
        let mut accounts = ServiceAccountServiceClient::new(self.control.channel.clone());
        let request =
            CreateServiceAccountRequest { service_account_id: id.to_owned(), service_account: Some(account) };
        accounts.create_service_account(self.control.admin(request)).await.unwrap();
        let name = format!("serviceAccounts/{id}");
        let request = CreateApiKeyRequest { parent: name.clone(), ..Default::default() };
        let made = accounts.create_api_key(self.control.admin(request)).await.unwrap().into_inner();
        Actor { name, key: made.secret }
    }

    /// Somebody in a team.
    async fn member(&self, id: &str, team: &str, is_owner: bool) -> Actor {
        let actor = self.actor(id, &[]).await;
        let request = self.control.admin(add(team, &actor.name, is_owner, ""));
        self.teams().add_member(request).await.unwrap();
        actor
    }

    async fn role(&self, id: &str, permissions: &[&str]) -> String {
        self.roles().create_role(self.control.admin(create_role(id, permissions))).await.unwrap();
        format!("roles/{id}")
    }
}

fn binding(role: &str, team: &str) -> Binding {
    Binding { role: role.to_owned(), team: team.to_owned() }
}

fn add(team: &str, who: &str, is_owner: bool, role: &str) -> AddMemberRequest {
    let member =
        Member { principal: who.to_owned(), owner: is_owner, role: role.to_owned(), ..Member::default() };
    AddMemberRequest { team: team.to_owned(), member: Some(member) }
}

fn create_role(id: &str, permissions: &[&str]) -> CreateRoleRequest {
    let permissions = permissions.iter().map(|&name| name.to_owned()).collect();
    let role = Some(Role { permissions, ..Role::default() });
    CreateRoleRequest { role_id: id.to_owned(), role, ..Default::default() }
}

fn bind(who: &str, role: &str, team: &str) -> BindRoleRequest {
    BindRoleRequest { principal: who.to_owned(), binding: Some(binding(role, team)) }
}

/// The reason why something was refused; [`REACHED`]: it was not.
fn reason<T>(result: Result<T, Status>) -> String {
    match result {
        Ok(_) => REACHED.to_owned(),
        Err(status) => {
            let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
            let expected = [Code::PermissionDenied, Code::NotFound, Code::FailedPrecondition];
            assert!(expected.contains(&status.code()), "{status:?}");
            reason
        }
    }
}

async fn a_team_owner_reaches_their_own_team_only(database: Database) {
    let house = House::start(&database).await;
    let (owner, bob) = (house.member("owner", "teams/a", true).await, house.actor("bob", &[]).await);
    let mut teams = house.teams();
    let hidden = "RESOURCE_NOT_FOUND";
    let other = "teams/b".to_owned();
    assert_eq!(reason(teams.get_team(owner.ask(GetTeamRequest { name: other.clone() })).await), hidden);
    assert_eq!(reason(teams.add_member(owner.ask(add("teams/b", &bob.name, false, ""))).await), hidden);
    assert_eq!(reason(teams.add_member(owner.ask(add("teams/b", &owner.name, true, ""))).await), hidden);
    let invite = InviteMemberRequest { team: other.clone(), email: "x@example.org".to_owned(), member: None };
    assert_eq!(reason(teams.invite_member(owner.ask(invite)).await), hidden);
    let list = ListMembersRequest { team: other.clone(), ..Default::default() };
    assert_eq!(reason(teams.list_members(owner.ask(list)).await), hidden);
    let remove = RemoveMemberRequest { team: other.clone(), principal: bob.name.clone(), force: false };
    assert_eq!(reason(teams.remove_member(owner.ask(remove)).await), hidden);
    let update = UpdateTeamRequest {
        team: Some(Team { name: other.clone(), title: "mine".to_owned(), ..Team::default() }),
        ..Default::default()
    };
    assert_eq!(reason(teams.update_team(owner.ask(update)).await), hidden);
    let delete = DeleteTeamRequest { name: other, force: true, ..Default::default() };
    assert_eq!(reason(teams.delete_team(owner.ask(delete)).await), hidden);
    let create =
        CreateTeamRequest { team_id: "c".to_owned(), team: Some(Team::default()), ..Default::default() };
    assert_ne!(reason(teams.create_team(owner.ask(create)).await), REACHED, "a team of their own");
    let listed = teams.list_teams(owner.ask(ListTeamsRequest::default())).await.unwrap().into_inner();
    let names: Vec<_> = listed.teams.into_iter().map(|team| team.name).collect();
    assert_eq!(names, ["teams/a"]);

    let update = UpdateTeamRequest {
        team: Some(Team { name: "teams/a".to_owned(), title: "ours".to_owned(), ..Team::default() }),
        ..Default::default()
    };
    assert_eq!(reason(teams.update_team(owner.ask(update)).await), REACHED);
    // What its members may call is no more than its owner may.
    let scope = Some(Scope { servers: vec!["*".to_owned()], ..Scope::default() });
    let widen = UpdateTeamRequest {
        team: Some(Team { name: "teams/a".to_owned(), scope, ..Team::default() }),
        ..Default::default()
    };
    assert_eq!(reason(teams.update_team(owner.ask(widen)).await), "PERMISSION_DENIED");
}

/// Whom they do not see they have not heard of: adding somebody would show them that there is one.
async fn a_team_owner_adds_no_service_account_that_does_not_exist_for_them(database: Database) {
    let house = House::start(&database).await;
    let owner = house.member("owner", "teams/a", true).await;
    house.ward("far", "teams/b").await;
    let mut teams = house.teams();
    let mut told = Vec::new();
    for id in ["far", "gone"] {
        let who = format!("serviceAccounts/{id}");
        let status = teams.add_member(owner.ask(add("teams/a", &who, false, ""))).await.unwrap_err();
        told.push((status.code(), status.message().replace(id, "ID")));
    }
    assert_eq!(told, vec![(Code::NotFound, "serviceAccounts/ID does not exist".to_owned()); 2]);
    let near = house.ward("near", "teams/a").await;
    assert_eq!(reason(teams.add_member(owner.ask(add("teams/a", &near.name, false, ""))).await), REACHED);
    let by_administrator = house.control.admin(add("teams/a", "serviceAccounts/far", false, ""));
    assert_eq!(reason(teams.add_member(by_administrator).await), REACHED);
}

async fn a_team_owner_gives_what_they_have_there_and_nothing_to_themselves(database: Database) {
    let house = House::start(&database).await;
    let (owner, bob) = (house.member("owner", "teams/a", true).await, house.ward("bob", "teams/a").await);
    let keeper = house.role("keeper", &["registry.read", "keys.rotate"]).await;
    let mut teams = house.teams();
    let theirs = "NOT_YOURS_TO_GIVE";
    for role in ["roles/administrator", "roles/auditor", keeper.as_str()] {
        assert_eq!(reason(teams.add_member(owner.ask(add("teams/a", &bob.name, false, role))).await), theirs);
        let invite = InviteMemberRequest {
            team: "teams/a".to_owned(),
            email: "x@example.org".to_owned(),
            member: Some(Member { role: role.to_owned(), ..Member::default() }),
        };
        assert_eq!(reason(teams.invite_member(owner.ask(invite)).await), theirs, "{role}");
    }
    for (is_owner, role) in [(true, ""), (false, ""), (true, "roles/viewer")] {
        let oneself = add("teams/a", &owner.name, is_owner, role);
        assert_eq!(reason(teams.add_member(owner.ask(oneself)).await), "OWN_RIGHTS");
    }
    // They bind no roles, not in their own team either.
    let mut roles = house.roles();
    let bound = roles.bind_role(owner.ask(bind(&bob.name, "roles/viewer", "teams/a"))).await;
    assert_ne!(reason(bound), REACHED);
    for (is_owner, role) in [(false, ""), (false, "roles/viewer"), (true, "")] {
        let other = add("teams/a", &bob.name, is_owner, role);
        assert_eq!(reason(teams.add_member(owner.ask(other)).await), REACHED, "{is_owner} {role}");
    }
    // Who has more there than they is not theirs to change.
    let more = house.control.admin(add("teams/a", &bob.name, false, &keeper));
    teams.add_member(more).await.unwrap();
    assert_eq!(reason(teams.add_member(owner.ask(add("teams/a", &bob.name, false, ""))).await), theirs);
    let remove =
        RemoveMemberRequest { team: "teams/a".to_owned(), principal: bob.name.clone(), force: false };
    assert_eq!(reason(teams.remove_member(owner.ask(remove)).await), theirs);
    // An owner may leave: that gives nobody anything.
    let leave = |force: bool| RemoveMemberRequest {
        team: "teams/a".to_owned(),
        principal: owner.name.clone(),
        force,
    };
    assert_eq!(reason(teams.remove_member(owner.ask(leave(false))).await), "LAST_OWNER");
    assert_eq!(reason(teams.remove_member(owner.ask(leave(true))).await), REACHED);
}

async fn a_member_sees_their_team_and_changes_nothing(database: Database) {
    let house = House::start(&database).await;
    let member = house.member("member", "teams/a", false).await;
    let bob = house.member("bob", "teams/a", false).await;
    let mut teams = house.teams();
    let list = ListMembersRequest { team: "teams/a".to_owned(), ..Default::default() };
    let listed = teams.list_members(member.ask(list)).await.unwrap().into_inner().members;
    let names: Vec<_> = listed.into_iter().map(|member| member.principal).collect();
    assert_eq!(names, ["serviceAccounts/bob", "serviceAccounts/member"]);
    let get = GetTeamRequest { name: "teams/a".to_owned() };
    let team = teams.get_team(member.ask(get)).await.unwrap().into_inner().team.unwrap();
    assert_eq!(team.status.unwrap().member_count, 2);
    let remove =
        RemoveMemberRequest { team: "teams/a".to_owned(), principal: bob.name.clone(), force: false };
    assert_eq!(reason(teams.remove_member(member.ask(remove)).await), "PERMISSION_DENIED");
    let raise = add("teams/a", &member.name, true, "");
    assert_eq!(reason(teams.add_member(member.ask(raise)).await), "PERMISSION_DENIED");
}

async fn who_binds_roles_gives_what_they_have_and_takes_no_more(database: Database) {
    let house = House::start(&database).await;
    house.role("clerk", &["registry.read", "roles.write"]).await;
    let reader = house.role("reader", &["registry.read"]).await;
    let clerk = house.actor("clerk", &["roles/clerk"]).await;
    let (bob, root) = (house.actor("bob", &[]).await, house.actor("root", &["roles/administrator"]).await);
    let mut roles = house.roles();
    let theirs = "NOT_YOURS_TO_GIVE";
    for role in ["roles/administrator", "roles/viewer", "roles/developer"] {
        assert_eq!(reason(roles.bind_role(clerk.ask(bind(&bob.name, role, ""))).await), theirs, "{role}");
    }
    assert_eq!(reason(roles.bind_role(clerk.ask(bind(&clerk.name, &reader, ""))).await), "OWN_RIGHTS");
    let in_team = bind(&bob.name, &reader, "teams/a");
    assert_eq!(reason(roles.bind_role(clerk.ask(in_team)).await), "RESOURCE_NOT_FOUND", "a team of others");
    let take =
        UnbindRoleRequest { principal: root.name.clone(), binding: Some(binding("roles/administrator", "")) };
    assert_eq!(reason(roles.unbind_role(clerk.ask(take)).await), theirs);
    assert_eq!(reason(roles.bind_role(clerk.ask(bind(&bob.name, &reader, ""))).await), REACHED);
    let take = UnbindRoleRequest { principal: bob.name.clone(), binding: Some(binding(&reader, "")) };
    assert_eq!(reason(roles.unbind_role(clerk.ask(take)).await), REACHED);
    // Who may do everything may do it to themselves, too.
    assert_eq!(reason(roles.bind_role(root.ask(bind(&root.name, &reader, ""))).await), REACHED);
}

async fn nobody_makes_a_role_of_what_they_do_not_have(database: Database) {
    let house = House::start(&database).await;
    house.role("chief", &["registry.read", "registry.all", "roles.write", "servers.call"]).await;
    let keeper = house.role("keeper", &["keys.rotate"]).await;
    house.role("clerk", &["registry.read", "roles.write"]).await;
    let chief = house.actor("chief", &["roles/chief"]).await;
    let clerk = house.actor("clerk", &["roles/clerk"]).await;
    let mut roles = house.roles();
    let theirs = "NOT_YOURS_TO_GIVE";
    assert_eq!(reason(roles.create_role(chief.ask(create_role("x", &["keys.rotate"]))).await), theirs);
    assert_eq!(reason(roles.create_role(chief.ask(create_role("x", &["servers.call"]))).await), REACHED);
    let update = |name: &str, permissions: &[&str]| UpdateRoleRequest {
        role: Some(Role {
            name: name.to_owned(),
            permissions: permissions.iter().map(|&name| name.to_owned()).collect(),
            ..Role::default()
        }),
        ..Default::default()
    };
    assert_eq!(reason(roles.update_role(chief.ask(update("roles/x", &["keys.rotate"]))).await), theirs);
    assert_eq!(reason(roles.update_role(chief.ask(update(&keeper, &["servers.call"]))).await), theirs);
    // Who does not reach everybody's resources changes no role, not that which they have themselves.
    for name in ["roles/clerk", "roles/x"] {
        let raised = roles.update_role(clerk.ask(update(name, &["registry.read"]))).await;
        assert_eq!(reason(raised), "PERMISSION_DENIED", "{name}");
    }
    assert_ne!(reason(roles.create_role(clerk.ask(create_role("y", &["registry.read"]))).await), REACHED);
}

async fn the_last_administrator_stays_one(database: Database) {
    let house = House::start(&database).await;
    let root = house.actor("root", &["roles/administrator"]).await;
    for email in ["ann@example.org", "bob@example.org"] {
        let invite =
            InviteMemberRequest { team: "teams/a".to_owned(), email: email.to_owned(), member: None };
        house.teams().invite_member(house.control.admin(invite)).await.unwrap();
    }
    // Both have chosen their passwords.
    database.run("update principals set state = 2").await;
    let (ann, bob) = ("users/ann@example.org", "users/bob@example.org");
    let mut roles = house.roles();
    roles.bind_role(root.ask(bind(ann, "roles/administrator", ""))).await.unwrap();
    let take = |who: &str| UnbindRoleRequest {
        principal: who.to_owned(),
        binding: Some(binding("roles/administrator", "")),
    };
    let last = "LAST_ADMINISTRATOR";
    assert_eq!(reason(roles.unbind_role(root.ask(take(ann))).await), last, "programs sign in nowhere");
    roles.bind_role(root.ask(bind(bob, "roles/administrator", ""))).await.unwrap();
    assert_eq!(reason(roles.unbind_role(root.ask(take(ann))).await), REACHED);
    assert_eq!(reason(roles.unbind_role(root.ask(take(bob))).await), last);
    // The administrator's bearer can make another.
    assert_eq!(reason(roles.unbind_role(house.control.admin(take(bob))).await), REACHED);
}
