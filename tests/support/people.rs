//! People, teams, roles and tokens, as an administrator makes them, and people as they get in. It must not know what any of them may do.

use trunkline::common::v1::{Meta, Visibility};
use trunkline::identity::v1::role_service_client::RoleServiceClient;
use trunkline::identity::v1::service_account_service_client::ServiceAccountServiceClient;
use trunkline::identity::v1::session_service_client::SessionServiceClient;
use trunkline::identity::v1::team_service_client::TeamServiceClient;
use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::user_service_client::UserServiceClient;
use trunkline::identity::v1::{
    AddMemberRequest, BindRoleRequest, Binding, CreateAccessBearerRequest, CreateApiKeyRequest,
    CreateRoleRequest, CreateServiceAccountRequest, CreateTeamRequest, CreateTokenRequest, CreateUserRequest,
    CreateUserResponse, DisableUserRequest, EnableUserRequest, Member, RedeemLinkRequest,
    RemoveMemberRequest, Role, Scope, SignInRequest, Team, Token, UnbindRoleRequest, UpdateRoleRequest,
    UpdateTeamRequest, User,
};
use trunkline::registry::v1::server_service_client::ServerServiceClient;
use trunkline::registry::v1::{CreateServerRequest, Member as ServerMember, NameStyle, Server};

use super::admin::Admin;

const PASSWORD: &str = "nine purple lanterns over a harbour";

/// Somebody who is signed in, or a service account with an API key.
#[derive(Clone)]
pub(crate) struct Person {
    /// `users/…` or `serviceAccounts/…`.
    pub(crate) name: String,
    session: Admin,
}

impl Person {
    /// A bearer for edges, with everything that they have at present.
    pub(crate) async fn bearer(&self) -> String {
        let mut client = SessionServiceClient::new(self.session.authorized());
        let request = CreateAccessBearerRequest::default();
        client.create_access_bearer(request).await.unwrap().into_inner().bearer
    }

    /// The same person, signed in anew with the password.
    pub(crate) async fn sign_in(&self) -> Self {
        let request = SignInRequest {
            email: self.name.trim_start_matches("users/").to_owned(),
            password: PASSWORD.to_owned(),
            ..Default::default()
        };
        let mut client = SessionServiceClient::new(self.session.anonymous());
        let secret = client.sign_in(request).await.unwrap().into_inner().secret;
        Self { name: self.name.clone(), session: self.session.of(&secret) }
    }
}

/// Whose something is, and who else may see it.
pub(crate) fn belongs(owner: &str, team: &str, visibility: Visibility) -> Option<Meta> {
    let (owner, team) = (owner.to_owned(), team.to_owned());
    Some(Meta { owner, team, visibility: visibility.into(), ..Meta::default() })
}

/// A scope of these servers, tools, resources and prompts.
pub(crate) fn scope(lists: [&[&str]; 4]) -> Scope {
    let [servers, tools, resources, prompts] =
        lists.map(|list| list.iter().map(|text| (*text).to_owned()).collect());
    Scope { servers, tools, resources, prompts }
}

fn binding(role: &str, team: &str) -> Binding {
    Binding { role: role.to_owned(), team: team.to_owned() }
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

impl Admin {
    /// A user who has not come yet, with these roles and the teams they have them in.
    pub(crate) async fn invite(&self, id: &str, roles: &[(&str, &str)]) -> CreateUserResponse {
        let email = format!("{id}@example.org");
        let bindings = roles.iter().map(|(role, team)| binding(role, team)).collect();
        let user = User { email, bindings, ..User::default() };
        let request = CreateUserRequest { user: Some(user), ..Default::default() };
        UserServiceClient::new(self.authorized()).create_user(request).await.unwrap().into_inner()
    }

    /// The same who has chosen a password and is signed in.
    pub(crate) async fn sign_up(&self, id: &str, roles: &[(&str, &str)]) -> Person {
        let created = self.invite(id, roles).await;
        let request = RedeemLinkRequest {
            secret: created.link.unwrap().secret,
            password: PASSWORD.to_owned(),
            ..Default::default()
        };
        let mut client = SessionServiceClient::new(self.anonymous());
        let secret = client.redeem_link(request).await.unwrap().into_inner().secret;
        Person { name: created.user.unwrap().name, session: self.of(&secret) }
    }

    /// A service account, and the connection by a key of it.
    pub(crate) async fn create_service_account(&self, id: &str) -> Person {
        let mut client = ServiceAccountServiceClient::new(self.authorized());
        let request = CreateServiceAccountRequest { service_account_id: id.to_owned(), ..Default::default() };
        let account = client.create_service_account(request).await.unwrap().into_inner();
        let name = account.service_account.unwrap().name;
        let request = CreateApiKeyRequest { parent: name.clone(), ..Default::default() };
        let secret = client.create_api_key(request).await.unwrap().into_inner().secret;
        Person { name, session: self.of(&secret) }
    }

    pub(crate) async fn disable(&self, user: &str) {
        let request = DisableUserRequest { name: user.to_owned() };
        UserServiceClient::new(self.authorized()).disable_user(request).await.unwrap();
    }

    pub(crate) async fn enable(&self, user: &str) {
        let request = EnableUserRequest { name: user.to_owned() };
        UserServiceClient::new(self.authorized()).enable_user(request).await.unwrap();
    }

    /// Creates a team. Without a scope its members have all of its own servers.
    pub(crate) async fn create_team(&self, id: &str, scope: Option<Scope>) {
        let team = Team { scope, ..Team::default() };
        let request = CreateTeamRequest { team_id: id.to_owned(), team: Some(team), ..Default::default() };
        TeamServiceClient::new(self.authorized()).create_team(request).await.unwrap();
    }

    /// Replaces what the members of a team have.
    pub(crate) async fn edit_team(&self, team: &str, scope: Option<Scope>) {
        let team = Team { name: team.to_owned(), scope, ..Team::default() };
        let request =
            UpdateTeamRequest { team: Some(team), update_mask: mask(&["scope"]), ..Default::default() };
        TeamServiceClient::new(self.authorized()).update_team(request).await.unwrap();
    }

    /// Puts somebody into a team, with a role; without one they are developers in it.
    pub(crate) async fn add_member(&self, team: &str, principal: &str, role: &str) {
        let member = Member { principal: principal.to_owned(), role: role.to_owned(), ..Member::default() };
        let request = AddMemberRequest { team: team.to_owned(), member: Some(member) };
        TeamServiceClient::new(self.authorized()).add_member(request).await.unwrap();
    }

    pub(crate) async fn remove_member(&self, team: &str, principal: &str) {
        let request =
            RemoveMemberRequest { team: team.to_owned(), principal: principal.to_owned(), force: true };
        TeamServiceClient::new(self.authorized()).remove_member(request).await.unwrap();
    }

    pub(crate) async fn create_role(&self, id: &str, permissions: &[&str]) {
        let role = Role { permissions: owned(permissions), ..Role::default() };
        let request = CreateRoleRequest { role_id: id.to_owned(), role: Some(role), ..Default::default() };
        RoleServiceClient::new(self.authorized()).create_role(request).await.unwrap();
    }

    /// Replaces what a role holds.
    pub(crate) async fn edit_role(&self, role: &str, permissions: &[&str]) {
        let role = Role { name: role.to_owned(), permissions: owned(permissions), ..Role::default() };
        let request =
            UpdateRoleRequest { role: Some(role), update_mask: mask(&["permissions"]), ..Default::default() };
        RoleServiceClient::new(self.authorized()).update_role(request).await.unwrap();
    }

    pub(crate) async fn bind(&self, principal: &str, role: &str, team: &str) {
        let request = BindRoleRequest { principal: principal.to_owned(), binding: Some(binding(role, team)) };
        RoleServiceClient::new(self.authorized()).bind_role(request).await.unwrap();
    }

    pub(crate) async fn unbind(&self, principal: &str, role: &str, team: &str) {
        let request =
            UnbindRoleRequest { principal: principal.to_owned(), binding: Some(binding(role, team)) };
        RoleServiceClient::new(self.authorized()).unbind_role(request).await.unwrap();
    }

    /// Creates a token, and returns its bearer.
    pub(crate) async fn issue(&self, id: &str, token: Token) -> String {
        let request =
            CreateTokenRequest { token_id: id.to_owned(), token: Some(token), ..Default::default() };
        let mut client = TokenServiceClient::new(self.authorized());
        client.create_token(request).await.unwrap().into_inner().bearer
    }

    /// Creates a server of everything that matches, under its own name, that belongs to somebody.
    pub(crate) async fn create_server_of(&self, id: &str, matches: &[&str], meta: Option<Meta>) {
        let members =
            || matches.iter().map(|m| ServerMember { r#match: (*m).to_owned(), ..Default::default() });
        let server = Server {
            meta,
            tools: members().collect(),
            resources: members().collect(),
            prompts: members().collect(),
            name_style: NameStyle::Unprefixed.into(),
            ..Default::default()
        };
        let request =
            CreateServerRequest { server_id: id.to_owned(), server: Some(server), ..Default::default() };
        ServerServiceClient::new(self.authorized()).create_server(request).await.unwrap();
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
