//! Teams and roles over a socket, on both databases: who is in a team, who has a role, and what cannot be done to either.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/control.rs"]
mod control;

use control::Control;
use database::Database;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::role_service_client::RoleServiceClient;
use trunkline::identity::v1::team_service_client::TeamServiceClient;
use trunkline::identity::v1::{
    AddMemberRequest, BindRoleRequest, Binding, CreateRoleRequest, CreateTeamRequest, DeleteRoleRequest,
    DeleteTeamRequest, GetRoleRequest, GetTeamRequest, InviteMemberRequest, ListMembersRequest,
    ListPermissionsRequest, ListRolesRequest, Member, RemoveMemberRequest, Role, Team, TeamStatus,
    UnbindRoleRequest, UpdateRoleRequest, UpdateTeamRequest, UserState,
};
use trunkline_control_plane::store::bindings::BindingRow;
use trunkline_control_plane::store::principals::Principal;

suite! {
    a_team_knows_its_members,
    members_come_in_pages_by_name,
    who_is_invited_is_created_once,
    a_team_that_is_not_empty_is_deleted_with_force_only,
    built_in_roles_are_there_and_stay_as_they_are,
    a_role_is_bound_and_unbound,
    a_role_that_somebody_has_is_deleted_with_force_only,
    what_does_not_exist_can_be_given_to_nobody,
    permissions_are_described,
    nobody_has_rights_who_is_disabled_or_whose_owner_is,
}

const ANN: &str = "users/ann@example.org";
const BOB: &str = "users/bob@example.org";

/// A control plane on a database, called with the administrator's bearer.
struct Teams {
    control: Control,
}

impl Teams {
    async fn start(database: &Database) -> Self {
        let url = database.url().to_owned();
        let control = Control::start_with(|config| config.database_url = Some(url.into())).await;
        Self { control }
    }

    fn teams(&self) -> TeamServiceClient<tonic::transport::Channel> {
        TeamServiceClient::new(self.control.channel.clone())
    }

    fn roles(&self) -> RoleServiceClient<tonic::transport::Channel> {
        RoleServiceClient::new(self.control.channel.clone())
    }

    async fn create_team(&self, id: &str) -> Team {
        let request =
            CreateTeamRequest { team_id: id.to_owned(), team: Some(Team::default()), ..Default::default() };
        let answer = self.teams().create_team(self.control.admin(request)).await.unwrap();
        answer.into_inner().team.unwrap()
    }

    async fn create_role(&self, id: &str, permissions: &[&str]) -> Result<Role, Status> {
        let role = Role {
            permissions: permissions.iter().map(|&name| name.to_owned()).collect(),
            ..Role::default()
        };
        let request = CreateRoleRequest { role_id: id.to_owned(), role: Some(role), ..Default::default() };
        let answer = self.roles().create_role(self.control.admin(request)).await?;
        Ok(answer.into_inner().role.unwrap())
    }

    async fn invite(&self, team: &str, email: &str, member: Member) -> Result<Member, Status> {
        let request =
            InviteMemberRequest { team: team.to_owned(), email: email.to_owned(), member: Some(member) };
        let answer = self.teams().invite_member(self.control.admin(request)).await?.into_inner();
        assert!(answer.link.unwrap().secret.starts_with("tll_"));
        Ok(answer.member.unwrap())
    }

    async fn add(&self, team: &str, who: &str, is_owner: bool, role: &str) -> Result<(Member, i64), Status> {
        let member =
            Member { principal: who.to_owned(), owner: is_owner, role: role.to_owned(), ..Member::default() };
        let request = AddMemberRequest { team: team.to_owned(), member: Some(member) };
        let answer = self.teams().add_member(self.control.admin(request)).await?.into_inner();
        Ok((answer.member.unwrap(), answer.revision))
    }

    async fn remove(&self, team: &str, who: &str) -> Result<i64, Status> {
        let request = RemoveMemberRequest { team: team.to_owned(), principal: who.to_owned(), force: false };
        Ok(self.teams().remove_member(self.control.admin(request)).await?.into_inner().revision)
    }

    async fn members(&self, team: &str) -> Vec<(String, bool, String)> {
        let request = ListMembersRequest { team: team.to_owned(), ..Default::default() };
        let answer = self.teams().list_members(self.control.admin(request)).await.unwrap().into_inner();
        assert_eq!(answer.next_page_token, "");
        answer.members.into_iter().map(|member| (member.principal, member.owner, member.role)).collect()
    }

    async fn status(&self, team: &str) -> TeamStatus {
        let request = GetTeamRequest { name: team.to_owned() };
        let answer = self.teams().get_team(self.control.admin(request)).await.unwrap();
        answer.into_inner().team.unwrap().status.unwrap()
    }

    async fn bind(&self, who: &str, role: &str, team: &str) -> Result<i64, Status> {
        let binding = Some(Binding { role: role.to_owned(), team: team.to_owned() });
        let request = BindRoleRequest { principal: who.to_owned(), binding };
        Ok(self.roles().bind_role(self.control.admin(request)).await?.into_inner().revision)
    }

    async fn unbind(&self, who: &str, role: &str, team: &str) -> Result<i64, Status> {
        let binding = Some(Binding { role: role.to_owned(), team: team.to_owned() });
        let request = UnbindRoleRequest { principal: who.to_owned(), binding };
        Ok(self.roles().unbind_role(self.control.admin(request)).await?.into_inner().revision)
    }

    async fn role_names(&self, request: ListRolesRequest) -> (Vec<String>, String) {
        let answer = self.roles().list_roles(self.control.admin(request)).await.unwrap().into_inner();
        (answer.roles.into_iter().map(|role| role.name).collect(), answer.next_page_token)
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn told(result: Result<impl std::fmt::Debug, Status>) -> (Code, String, String) {
    let status = result.unwrap_err();
    (status.code(), reason(&status), status.message().to_owned())
}

async fn a_team_knows_its_members(database: Database) {
    let teams = Teams::start(&database).await;
    let core = teams.create_team("core").await;
    assert_eq!(core.status, Some(TeamStatus::default()));
    assert_eq!(teams.members("teams/core").await, []);
    let owner = Member { owner: true, ..Member::default() };
    let ann = teams.invite("teams/core", "Ann@Example.org", owner).await.unwrap();
    assert_eq!(
        (ann.principal.as_str(), ann.owner, ann.added_by.as_str()),
        (ANN, true, "system/administrator")
    );
    teams.invite("teams/core", "bob@example.org", Member::default()).await.unwrap();
    let both = [(ANN.to_owned(), true, String::new()), (BOB.to_owned(), false, String::new())];
    assert_eq!(teams.members("teams/core").await, both);
    assert_eq!(
        teams.status("teams/core").await,
        TeamStatus { member_count: 2, owners: vec![ANN.to_owned()] }
    );

    // Adding again changes what they are, and since when they are in it stays.
    let (again, revision) = teams.add("teams/core", ANN, false, "roles/viewer").await.unwrap();
    assert_eq!(
        (again.owner, again.role.as_str(), again.create_time),
        (false, "roles/viewer", ann.create_time)
    );
    let (_, same) = teams.add("teams/core", ANN, false, "roles/viewer").await.unwrap();
    assert_eq!(same, revision, "what does not change takes no revision");

    assert!(teams.remove("teams/core", ANN).await.unwrap() > revision);
    let gone = "users/ann@example.org is not in teams/core".to_owned();
    let expected = (Code::NotFound, "MEMBER_NOT_FOUND".to_owned(), gone);
    assert_eq!(told(teams.remove("teams/core", ANN).await), expected);
    assert_eq!(teams.status("teams/core").await.member_count, 1);
}

async fn members_come_in_pages_by_name(database: Database) {
    let teams = Teams::start(&database).await;
    teams.create_team("core").await;
    for id in ["e", "b", "d", "a", "c"] {
        teams.invite("teams/core", &format!("{id}@example.org"), Member::default()).await.unwrap();
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListMembersRequest { team: "teams/core".to_owned(), page_size: 2, page_token };
        let answer = teams.teams().list_members(teams.control.admin(request)).await.unwrap().into_inner();
        seen.push(
            answer.members.into_iter().map(|member| member.principal[6..7].to_owned()).collect::<String>(),
        );
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["ab", "cd", "e"]);
    let foreign = ListMembersRequest {
        team: "teams/core".to_owned(),
        page_token: "bm9uZQ".to_owned(),
        ..Default::default()
    };
    let refused = teams.teams().list_members(teams.control.admin(foreign)).await;
    assert_eq!(told(refused).0, Code::InvalidArgument);
}

async fn who_is_invited_is_created_once(database: Database) {
    let teams = Teams::start(&database).await;
    teams.create_team("core").await;
    teams.create_team("other").await;
    teams.invite("teams/core", "ann@example.org", Member::default()).await.unwrap();
    let text = "ann@example.org is a user already; AddMember adds them to the team".to_owned();
    let again = teams.invite("teams/other", "ANN@example.org", Member::default()).await;
    assert_eq!(told(again), (Code::AlreadyExists, "RESOURCE_EXISTS".to_owned(), text));
    assert_eq!(teams.members("teams/other").await, []);
    for (email, member) in [
        ("ann", Member::default()),
        ("x@example.org", Member { principal: BOB.to_owned(), ..Member::default() }),
    ] {
        let refused = teams.invite("teams/core", email, member).await;
        assert_eq!(told(refused).0, Code::InvalidArgument, "{email}");
    }
    let gone = teams.invite("teams/gone", "x@example.org", Member::default()).await;
    assert_eq!(told(gone).2, "teams/gone does not exist");
}

async fn a_team_that_is_not_empty_is_deleted_with_force_only(database: Database) {
    let teams = Teams::start(&database).await;
    teams.create_team("core").await;
    teams.invite("teams/core", "ann@example.org", Member::default()).await.unwrap();
    teams.bind(ANN, "roles/viewer", "teams/core").await.unwrap();
    let delete = |force: bool| {
        let request = DeleteTeamRequest { name: "teams/core".to_owned(), force, ..Default::default() };
        let mut client = teams.teams();
        let request = teams.control.admin(request);
        async move { client.delete_team(request).await }
    };
    let text = "teams/core has 1 member and 1 binding; set `force` to delete it with them".to_owned();
    let expected = (Code::FailedPrecondition, "TEAM_NOT_EMPTY".to_owned(), text);
    assert_eq!(told(delete(false).await), expected);
    assert_eq!(teams.status("teams/core").await.member_count, 1);
    delete(true).await.unwrap();
    // Who was in it is not in another of the same name.
    teams.create_team("core").await;
    assert_eq!(teams.members("teams/core").await, []);
    assert_eq!(told(teams.unbind(ANN, "roles/viewer", "teams/core").await).1, "BINDING_NOT_FOUND");
}

async fn built_in_roles_are_there_and_stay_as_they_are(database: Database) {
    let teams = Teams::start(&database).await;
    teams.create_role("builder", &["servers.write"]).await.unwrap();
    let (names, next) = teams.role_names(ListRolesRequest::default()).await;
    let all = ["administrator", "auditor", "builder", "developer", "team-owner", "viewer"];
    assert_eq!((names, next.as_str()), (all.map(|id| format!("roles/{id}")).to_vec(), ""));
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListRolesRequest { page_size: 2, page_token, ..Default::default() };
        let (names, next) = teams.role_names(request).await;
        seen.extend(names);
        page_token = next;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, all.map(|id| format!("roles/{id}")), "pages visit each once");
    let filter = "permissions:\"keys.rotate\"".to_owned();
    let (names, _) = teams.role_names(ListRolesRequest { filter, ..Default::default() }).await;
    assert_eq!(names, ["roles/administrator"]);

    let get = GetRoleRequest { name: "roles/viewer".to_owned() };
    let viewer = teams.roles().get_role(teams.control.admin(get)).await.unwrap().into_inner().role.unwrap();
    assert!(viewer.built_in);
    assert_eq!(viewer.permissions, ["registry.read", "tokens.read", "usage.read"]);

    let update = UpdateRoleRequest {
        role: Some(Role { name: "roles/viewer".to_owned(), title: "x".to_owned(), ..Role::default() }),
        allow_missing: true,
        ..Default::default()
    };
    let delete = DeleteRoleRequest { name: "roles/viewer".to_owned(), force: true, ..Default::default() };
    for refused in [
        told(teams.create_role("viewer", &["servers.write"]).await),
        told(teams.roles().update_role(teams.control.admin(update)).await),
        told(teams.roles().delete_role(teams.control.admin(delete)).await),
    ] {
        assert_eq!(
            (refused.0, refused.1.as_str()),
            (Code::FailedPrecondition, "ROLE_BUILT_IN"),
            "{refused:?}"
        );
    }
}

async fn a_role_is_bound_and_unbound(database: Database) {
    let teams = Teams::start(&database).await;
    teams.create_team("core").await;
    teams.invite("teams/core", "ann@example.org", Member::default()).await.unwrap();
    let bound = teams.bind(ANN, "roles/auditor", "").await.unwrap();
    assert_eq!(teams.bind(ANN, "roles/auditor", "").await.unwrap(), bound, "nothing changes");
    assert!(teams.bind(ANN, "roles/auditor", "teams/core").await.unwrap() > bound);
    let unbound = teams.unbind(ANN, "roles/auditor", "").await.unwrap();
    assert!(unbound > bound);
    let text = "users/ann@example.org does not have roles/auditor everywhere".to_owned();
    let expected = (Code::NotFound, "BINDING_NOT_FOUND".to_owned(), text);
    assert_eq!(told(teams.unbind(ANN, "roles/auditor", "").await), expected);
    teams.unbind(ANN, "roles/auditor", "teams/core").await.unwrap();
}

async fn a_role_that_somebody_has_is_deleted_with_force_only(database: Database) {
    let teams = Teams::start(&database).await;
    teams.create_team("core").await;
    teams.create_role("builder", &["servers.write", "servers.call"]).await.unwrap();
    let builder = Member { role: "roles/builder".to_owned(), ..Member::default() };
    teams.invite("teams/core", "ann@example.org", builder.clone()).await.unwrap();
    let owner = Member { owner: true, ..builder };
    teams.invite("teams/core", "bob@example.org", owner).await.unwrap();
    teams.bind(BOB, "roles/builder", "").await.unwrap();
    let delete = |force: bool| {
        let request = DeleteRoleRequest { name: "roles/builder".to_owned(), force, ..Default::default() };
        let mut client = teams.roles();
        let request = teams.control.admin(request);
        async move { client.delete_role(request).await }
    };
    let text = "roles/builder is the role of 2; set `force` to take it from them".to_owned();
    let expected = (Code::FailedPrecondition, "ROLE_IN_USE".to_owned(), text);
    assert_eq!(told(delete(false).await), expected);
    delete(true).await.unwrap();
    // Nobody is more in the team than they were; an owner stays one.
    assert_eq!(teams.members("teams/core").await, [(BOB.to_owned(), true, String::new())]);
    teams.create_role("builder", &["keys.rotate"]).await.unwrap();
    assert_eq!(told(teams.unbind(BOB, "roles/builder", "").await).1, "BINDING_NOT_FOUND");
}

async fn what_does_not_exist_can_be_given_to_nobody(database: Database) {
    let teams = Teams::start(&database).await;
    teams.create_team("core").await;
    teams.invite("teams/core", "ann@example.org", Member::default()).await.unwrap();
    for refused in [
        told(teams.add("teams/core", "users/gone@example.org", false, "").await),
        told(teams.add("teams/gone", ANN, false, "").await),
        told(teams.bind("users/gone@example.org", "roles/viewer", "").await),
        told(teams.bind(ANN, "roles/viewer", "teams/gone").await),
    ] {
        assert_eq!((refused.0, refused.1.as_str()), (Code::NotFound, "RESOURCE_NOT_FOUND"), "{refused:?}");
    }
    for refused in [
        told(teams.add("teams/core", ANN, false, "roles/gone").await),
        told(teams.add("teams/core", "tokens/laptop", false, "").await),
        told(teams.add("teams/core", "system/administrator", true, "").await),
        told(teams.add("core", ANN, false, "").await),
        told(teams.bind(ANN, "roles/gone", "").await),
        told(teams.bind(ANN, "viewer", "").await),
        told(teams.create_role("odd", &["servers.wirte"]).await),
    ] {
        assert_eq!((refused.0, refused.1.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{refused:?}");
    }
    let wrong = UpdateTeamRequest {
        team: Some(Team {
            name: "teams/core".to_owned(),
            meta: Some(trunkline::common::v1::Meta { owner: ANN.to_owned(), ..Default::default() }),
            ..Team::default()
        }),
        ..Default::default()
    };
    let refused = told(teams.teams().update_team(teams.control.admin(wrong)).await);
    assert_eq!(refused.0, Code::InvalidArgument, "a team is its members': {refused:?}");
}

async fn permissions_are_described(database: Database) {
    let teams = Teams::start(&database).await;
    let request = teams.control.admin(ListPermissionsRequest {});
    let described = teams.roles().list_permissions(request).await.unwrap().into_inner().permissions;
    assert_eq!((described.len(), described[0].name.as_str()), (21, "registry.read"));
    let call = described.iter().find(|found| found.name == "servers.call").unwrap();
    assert_eq!(call.description, "Call virtual servers at edges.");
    let rpcs: usize = described.iter().map(|found| found.rpcs.len()).sum();
    assert!(rpcs > 50, "{rpcs}");
}

async fn nobody_has_rights_who_is_disabled_or_whose_owner_is(database: Database) {
    let teams = Teams::start(&database).await;
    teams.create_team("core").await;
    teams.invite("teams/core", "ann@example.org", Member::default()).await.unwrap();
    teams.create_role("builder", &["servers.write", "keys.rotate"]).await.unwrap();
    teams.bind(ANN, "roles/builder", "").await.unwrap();
    let store = database.open().await;
    let ann = store.principal(ANN).await.unwrap().unwrap();
    let account = Principal {
        uid: "u-ci".to_owned(),
        name: "serviceAccounts/ci".to_owned(),
        email: None,
        owner: ANN.to_owned(),
        state: UserState::Active,
        ..ann.clone()
    };
    let mut tx = store.write().await.unwrap();
    tx.put_principal(&account).await.unwrap();
    let developer = BindingRow { role: "roles/developer".to_owned(), team: String::new() };
    tx.bind(&account.uid, &developer, "").await.unwrap();
    tx.commit().await.unwrap();

    let rights = async |uid: &str| store.rights_of(uid, None).await.unwrap();
    let hers = rights(&ann.uid).await.unwrap();
    let held: Vec<_> = hers.roles().iter().map(|held| (held.role.as_str(), held.team.as_str())).collect();
    assert_eq!(held, [("roles/builder", ""), ("roles/developer", "teams/core")]);
    assert!(
        hers.holds(Permission::KeysRotate) && hers.in_team("teams/core").contains(Permission::ServersCall)
    );
    let cap = Some([Permission::ServersWrite].into_iter().collect());
    let capped = store.rights_of(&ann.uid, cap).await.unwrap().unwrap();
    assert!(capped.holds(Permission::ServersWrite) && !capped.holds(Permission::KeysRotate));
    // No more than she has herself, in the same place.
    let its = rights(&account.uid).await.unwrap();
    assert!(its.holds(Permission::ServersWrite) && !its.holds(Permission::ServersCall));

    database.run("update principals set state = 3 where name like 'users/%'").await;
    assert_eq!((rights(&ann.uid).await, rights(&account.uid).await), (None, None));
    database.run("update principals set state = 2 where name like 'users/%'").await;
    assert!(rights(&account.uid).await.is_some());
    database.run("delete from principals where name like 'users/%'").await;
    assert_eq!((rights(&ann.uid).await, rights(&account.uid).await), (None, None));
    assert_eq!(rights("u-nobody").await, None);
}
