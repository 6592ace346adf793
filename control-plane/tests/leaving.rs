//! What is left to who leaves, and to what they made: nothing, unless somebody says so; and what somebody is told of others. On both
//! databases.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/api.rs"]
mod api;
#[macro_use]
#[path = "support/database.rs"]
mod database;

use api::Api;
use database::Database;
use http::StatusCode;
use serde_json::{Value, json};
use trunkline::common::v1::{Meta, Visibility};
use trunkline::registry::v1::{Tool, Upstream};

const TEAM: &str = "identity.v1.TeamService";
const ROLE: &str = "identity.v1.RoleService";
const TOKEN: &str = "identity.v1.TokenService";
const USER: &str = "identity.v1.UserService";
const SESSION: &str = "identity.v1.SessionService";
const ACCOUNT: &str = "identity.v1.ServiceAccountService";
const SERVER: &str = "registry.v1.ServerService";
const DENIED: &str = "PERMISSION_DENIED";
const NOT_FOUND: &str = "RESOURCE_NOT_FOUND";

suite!(
    a_service_account_has_no_more_than_who_answers_for_it_has_now,
    the_owner_of_a_team_sees_and_stops_whatever_has_a_role_in_it,
    who_is_removed_from_a_team_has_no_role_there_either,
    what_a_deleted_user_knows_ends_unless_somebody_says_otherwise,
    principals_are_made_where_tokens_may_be_issued,
    the_last_owner_of_a_team_leaves_only_by_force,
    a_limited_key_is_told_nothing_of_its_person,
    who_was_invited_by_somebody_else_is_given_nothing_until_they_are_confirmed,
    nobody_is_told_of_teams_that_they_do_not_see,
    a_permission_to_read_counts_where_it_is_held,
    a_server_of_who_left_the_team_has_nothing_of_it,
    a_name_that_others_still_use_is_not_taken_over,
    members_that_take_too_long_to_be_compared_are_refused,
);

/// A control plane with the teams a and b; Ann owns a, Oli owns b, and Eve is a member of a.
struct House {
    api: Api,
    database: Database,
    ann: String,
    oli: String,
    eve: String,
}

impl House {
    async fn start(database: &Database) -> Self {
        let url = database.url().to_owned();
        let api = Api::start_with(|config| config.database_url = Some(url.into())).await;
        for team in ["a", "b"] {
            admin(&api, TEAM, "CreateTeam", json!({"teamId": team, "team": {}})).await;
        }
        let [ann, oli, eve] = [user(&api, "ann").await, user(&api, "oli").await, user(&api, "eve").await];
        join(&api, "a", "ann", true, "").await;
        join(&api, "b", "oli", true, "").await;
        join(&api, "a", "eve", false, "").await;
        Self { api, database: database.clone(), ann, oli, eve }
    }

    async fn ok(&self, bearer: &str, service: &str, method: &str, body: Value) -> Value {
        ok(&self.api, bearer, service, method, body).await
    }

    async fn fails(&self, bearer: &str, service: &str, method: &str, body: Value) -> String {
        let (status, answer) = call(&self.api, bearer, service, method, body).await;
        assert_ne!(status, StatusCode::OK, "{method}: {answer}");
        answer["details"][0]["reason"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn admin(&self, service: &str, method: &str, body: Value) -> Value {
        admin(&self.api, service, method, body).await
    }

    /// A service account of who holds a key, with a role in a team, and a key of it.
    async fn account(&self, of: &str, id: &str, role: &str, team: &str) -> String {
        let bindings = json!([{"role": format!("roles/{role}"), "team": format!("teams/{team}")}]);
        let body = json!({"serviceAccountId": id, "serviceAccount": {"bindings": bindings}});
        self.ok(of, ACCOUNT, "CreateServiceAccount", body).await;
        self.key(of, &format!("serviceAccounts/{id}"), "").await
    }

    async fn key(&self, of: &str, parent: &str, role: &str) -> String {
        let body = json!({"parent": parent, "role": role});
        self.ok(of, ACCOUNT, "CreateApiKey", body).await["secret"].as_str().unwrap().to_owned()
    }

    /// The teams in which somebody holds something.
    async fn places(&self, bearer: &str) -> Vec<String> {
        let caller = self.ok(bearer, SESSION, "GetCaller", json!({})).await;
        let teams = caller["teamPermissions"].as_array().cloned().unwrap_or_default();
        let teams = teams.iter().filter(|team| team["permissions"].is_array());
        teams.map(|team| team["team"].as_str().unwrap().to_owned()).collect()
    }

    async fn remove(&self, bearer: &str, team: &str, who: &str) -> Value {
        let body = json!({"team": format!("teams/{team}"), "principal": who});
        self.ok(bearer, TEAM, "RemoveMember", body).await
    }
}

async fn call(api: &Api, bearer: &str, service: &str, method: &str, body: Value) -> (StatusCode, Value) {
    api.raw_as(&format!("Bearer {bearer}"), &format!("{service}/{method}"), &body.to_string()).await
}

async fn ok(api: &Api, bearer: &str, service: &str, method: &str, body: Value) -> Value {
    let (status, answer) = call(api, bearer, service, method, body).await;
    assert_eq!(status, StatusCode::OK, "{method}: {answer}");
    answer
}

async fn admin(api: &Api, service: &str, method: &str, body: Value) -> Value {
    ok(api, &api.admin, service, method, body).await
}

fn name(id: &str) -> String {
    format!("users/{id}@example.org")
}

/// Creates a user. Returns a key of theirs.
async fn user(api: &Api, id: &str) -> String {
    let body = json!({"user": {"email": format!("{id}@example.org")}});
    admin(api, USER, "CreateUser", body).await;
    let made = admin(api, ACCOUNT, "CreateApiKey", json!({"parent": name(id)})).await;
    made["secret"].as_str().unwrap().to_owned()
}

async fn join(api: &Api, team: &str, id: &str, is_owner: bool, role: &str) {
    let member = json!({"principal": name(id), "owner": is_owner, "role": role});
    admin(api, TEAM, "AddMember", json!({"team": format!("teams/{team}"), "member": member})).await;
}

async fn a_service_account_has_no_more_than_who_answers_for_it_has_now(database: Database) {
    let house = House::start(&database).await;
    let server = json!({"serverId": "s", "server": {"meta": {"team": "teams/a"}}});
    house.admin(SERVER, "CreateServer", server).await;
    let key = house.account(&house.eve, "esb", "developer", "a").await;
    assert_eq!(house.places(&key).await, ["teams/a"]);
    house.ok(&key, SERVER, "GetServer", json!({"name": "servers/s"})).await;
    let token = json!({"tokenId": "t", "token": {"scope": {"servers": ["servers/s"], "tools": ["*"]}}});
    house.ok(&key, TOKEN, "CreateToken", token).await;

    house.remove(&house.ann, "a", &name("eve")).await;
    assert_eq!(house.places(&key).await, [""; 0]);
    for (service, method, body) in [
        (SERVER, "GetServer", json!({"name": "servers/s"})),
        (TOKEN, "CreateToken", json!({"tokenId": "u", "token": {"meta": {"team": "teams/a"}}})),
    ] {
        assert_eq!(house.fails(&key, service, method, body).await, DENIED, "{method}");
    }
    // Back in the team, both are what they were.
    join(&house.api, "a", "eve", false, "").await;
    assert_eq!(house.places(&key).await, ["teams/a"]);
    // One of the installation has what it was given, whoever leaves.
    let own = house.account(&house.api.admin, "ci", "developer", "a").await;
    house.remove(&house.ann, "a", &name("eve")).await;
    assert_eq!(house.places(&own).await, ["teams/a"]);
}

async fn the_owner_of_a_team_sees_and_stops_whatever_has_a_role_in_it(database: Database) {
    let house = House::start(&database).await;
    let key = house.account(&house.eve, "esb", "developer", "a").await;
    let members = house.ok(&house.ann, TEAM, "ListMembers", json!({"team": "teams/a"})).await;
    let shown: Vec<_> = members["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| json!([member["principal"], member["owner"], member["role"], member["bound"]]))
        .collect();
    assert_eq!(
        shown,
        [
            json!(["serviceAccounts/esb", null, "roles/developer", true]),
            json!([name("ann"), true, null, null]),
            json!([name("eve"), null, null, null]),
        ]
    );
    let page = json!({"team": "teams/a", "pageSize": 1});
    let first = house.ok(&house.ann, TEAM, "ListMembers", page).await;
    let next = json!({"team": "teams/a", "pageSize": 2, "pageToken": first["nextPageToken"]});
    let next = house.ok(&house.ann, TEAM, "ListMembers", next).await;
    assert_eq!((next["members"].as_array().unwrap().len(), next.get("nextPageToken")), (2, None));

    let account = "serviceAccounts/esb";
    house.ok(&house.ann, ACCOUNT, "GetServiceAccount", json!({"name": account})).await;
    assert_eq!(
        house.fails(&house.oli, ACCOUNT, "GetServiceAccount", json!({"name": account})).await,
        NOT_FOUND
    );
    // To stop it is all that they may.
    let update = |fields: Value, mask: &str| json!({"serviceAccount": fields, "updateMask": mask});
    for (fields, mask) in [
        (json!({"name": account, "title": "x"}), "title"),
        (json!({"name": account, "owner": name("ann")}), "owner"),
        (json!({"name": account, "title": "x", "disabled": true}), "title,disabled"),
    ] {
        let reason = house.fails(&house.ann, ACCOUNT, "UpdateServiceAccount", update(fields, mask)).await;
        assert_eq!(reason, DENIED, "{mask}");
    }
    assert_eq!(
        house.fails(&house.ann, ACCOUNT, "DeleteServiceAccount", json!({"name": account})).await,
        DENIED
    );
    assert_eq!(house.fails(&house.ann, ACCOUNT, "CreateApiKey", json!({"parent": account})).await, DENIED);
    let keys = house.ok(&house.ann, ACCOUNT, "ListApiKeys", json!({"parent": account})).await;
    let revoked = json!({"name": keys["apiKeys"][0]["name"]});
    house.ok(&house.ann, ACCOUNT, "RevokeApiKey", revoked).await;
    let (status, _) = call(&house.api, &key, SESSION, "GetCaller", json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let disabled = update(json!({"name": account, "disabled": true}), "disabled");
    house.ok(&house.ann, ACCOUNT, "UpdateServiceAccount", disabled).await;
    let enabled = update(json!({"name": account, "disabled": false}), "disabled");
    assert_eq!(house.fails(&house.ann, ACCOUNT, "UpdateServiceAccount", enabled).await, DENIED);
    // Out of the team it is nothing to them any more.
    house.remove(&house.ann, "a", account).await;
    assert_eq!(
        house.fails(&house.ann, ACCOUNT, "GetServiceAccount", json!({"name": account})).await,
        NOT_FOUND
    );
}

async fn who_is_removed_from_a_team_has_no_role_there_either(database: Database) {
    let house = House::start(&database).await;
    let bind = |id: &str, role: &str| json!({"principal": name(id), "binding": {"role": format!("roles/{role}"), "team": "teams/a"}});
    house.admin(ROLE, "BindRole", bind("eve", "viewer")).await;
    house.remove(&house.ann, "a", &name("eve")).await;
    assert_eq!(house.places(&house.eve).await, [""; 0]);
    let again = json!({"team": "teams/a", "principal": name("eve")});
    assert_eq!(house.fails(&house.ann, TEAM, "RemoveMember", again).await, "MEMBER_NOT_FOUND");
    // Who was given a role there and is not in it is removed in the same way.
    house.admin(ROLE, "BindRole", bind("oli", "developer")).await;
    house.remove(&house.ann, "a", &name("oli")).await;
    assert_eq!(house.places(&house.oli).await, ["teams/b"]);
    // More than they have nobody takes from anybody.
    house.admin(ROLE, "BindRole", bind("eve", "administrator")).await;
    let more = json!({"team": "teams/a", "principal": name("eve")});
    assert_eq!(house.fails(&house.ann, TEAM, "RemoveMember", more).await, "NOT_YOURS_TO_GIVE");
}

async fn what_a_deleted_user_knows_ends_unless_somebody_says_otherwise(database: Database) {
    let house = House::start(&database).await;
    house
        .admin(SERVER, "CreateServer", json!({"serverId": "s", "server": {"meta": {"team": "teams/a"}}}))
        .await;
    for (id, keeps) in [("joe", false), ("kay", true)] {
        let key = user(&house.api, id).await;
        join(&house.api, "a", id, false, "").await;
        let account = house.account(&key, &format!("{id}-ci"), "developer", "a").await;
        let token =
            |of: &str| json!({"tokenId": format!("{of}-t"), "token": {"scope": {"servers": ["servers/s"]}}});
        house.ok(&key, TOKEN, "CreateToken", token(id)).await;
        house.ok(&account, TOKEN, "CreateToken", token(&format!("{id}-ci"))).await;
        let body = json!({"name": name(id), "transferTo": name("ann"), "keepBearers": keeps});
        let deleted = house.admin(USER, "DeleteUser", body).await;
        let expected =
            [format!("tokens/{id}-t"), format!("serviceAccounts/{id}-ci"), format!("tokens/{id}-ci-t")];
        let kept = if keeps { json!(expected) } else { Value::Null };
        assert_eq!(deleted["kept"], kept);
        let (status, _) = call(&house.api, &account, SESSION, "GetCaller", json!({})).await;
        assert_eq!(status == StatusCode::OK, keeps);
        for of in [id.to_owned(), format!("{id}-ci")] {
            let token = house.admin(TOKEN, "GetToken", json!({"name": format!("tokens/{of}-t")})).await;
            assert_eq!(token["token"]["revokeTime"].is_null(), keeps, "{token}");
        }
    }
}

async fn principals_are_made_where_tokens_may_be_issued(database: Database) {
    let house = House::start(&database).await;
    let permissions = json!(["registry.read", "servers.call"]);
    house
        .admin(ROLE, "CreateRole", json!({"roleId": "justcall", "role": {"permissions": permissions}}))
        .await;
    let rob = user(&house.api, "rob").await;
    join(&house.api, "a", "rob", false, "roles/justcall").await;
    join(&house.api, "b", "rob", false, "").await;
    let create = |account: Value| json!({"serviceAccountId": "x", "serviceAccount": account});
    let bound = |role: &str, team: &str| json!({"bindings": [{"role": format!("roles/{role}"), "team": format!("teams/{team}")}]});
    for account in [json!({"team": "teams/a"}), bound("justcall", "a")] {
        let reason = house.fails(&rob, ACCOUNT, "CreateServiceAccount", create(account.clone())).await;
        assert_eq!(reason, DENIED, "{account}");
    }
    // A team that they do not see is told in the words of one that there is not.
    for field in ["team", "bindings"] {
        let told = async |team: &str| {
            let account = if field == "team" {
                json!({"team": team})
            } else {
                json!({"bindings": [{"role": "roles/viewer", "team": team}]})
            };
            let (_, answer) =
                call(&house.api, &house.oli, ACCOUNT, "CreateServiceAccount", create(account)).await;
            answer["details"][1].to_string().replace(team, "T")
        };
        assert_eq!(told("teams/a").await, told("teams/z").await, "{field}");
    }
    // So are people.
    let told = async |id: &str| {
        let account = json!({"owner": name(id)});
        let (_, answer) =
            call(&house.api, &house.oli, ACCOUNT, "CreateServiceAccount", create(account)).await;
        answer.to_string().replace(id, "ID")
    };
    assert_eq!(told("eve").await, told("xyz").await);
    house.ok(&rob, ACCOUNT, "CreateServiceAccount", create(json!({"team": "teams/b"}))).await;
}

async fn the_last_owner_of_a_team_leaves_only_by_force(database: Database) {
    let house = House::start(&database).await;
    let leave = |force: bool| json!({"team": "teams/a", "principal": name("ann"), "force": force});
    assert_eq!(house.fails(&house.ann, TEAM, "RemoveMember", leave(false)).await, "LAST_OWNER");
    join(&house.api, "a", "oli", true, "").await;
    house.ok(&house.ann, TEAM, "RemoveMember", leave(false)).await;
    let last = json!({"team": "teams/a", "principal": name("oli"), "force": true});
    house.admin(TEAM, "RemoveMember", last).await;
}

async fn a_limited_key_is_told_nothing_of_its_person(database: Database) {
    let house = House::start(&database).await;
    let key = house.key(&house.eve, &name("eve"), "roles/developer").await;
    let account = house.account(&house.eve, "esb", "developer", "a").await;
    let limited = "KEY_IS_LIMITED";
    assert_eq!(house.fails(&key, SESSION, "ListSessions", json!({})).await, limited);
    let all = json!({"name": format!("{}/sessions/-", name("eve"))});
    assert_eq!(house.fails(&key, SESSION, "RevokeSession", all.clone()).await, limited);
    let delete = json!({"name": "serviceAccounts/esb"});
    assert_eq!(house.fails(&key, ACCOUNT, "DeleteServiceAccount", delete.clone()).await, NOT_FOUND);
    house.ok(&key, SESSION, "GetCaller", json!({})).await;
    house.ok(&account, SESSION, "GetCaller", json!({})).await;
    // One that is not limited is the person.
    house.ok(&house.eve, SESSION, "RevokeSession", all).await;
    house.ok(&house.eve, ACCOUNT, "DeleteServiceAccount", delete).await;
}

async fn who_was_invited_by_somebody_else_is_given_nothing_until_they_are_confirmed(database: Database) {
    let house = House::start(&database).await;
    let redeem = async |link: &Value| {
        let body = json!({"secret": link["secret"], "password": "correct horse battery"});
        ok(&house.api, "", SESSION, "RedeemLink", body).await
    };
    let invite = json!({"team": "teams/b", "email": "boss@example.org"});
    // A link that was lost is made again, by who made it.
    house.ok(&house.oli, TEAM, "InviteMember", invite.clone()).await;
    let invited = house.ok(&house.oli, TEAM, "InviteMember", invite.clone()).await;
    let others = json!({"team": "teams/a", "email": "boss@example.org"});
    assert_eq!(house.fails(&house.ann, TEAM, "InviteMember", others).await, "RESOURCE_EXISTS");
    redeem(&invited["link"]).await;
    let boss = async || house.admin(USER, "GetUser", json!({"name": name("boss")})).await["user"].clone();
    assert_eq!(house.fails(&house.oli, TEAM, "InviteMember", invite).await, "RESOURCE_EXISTS");
    let shown = boss().await;
    assert_eq!((&shown["state"], &shown["invitedBy"]), (&json!("USER_STATE_ACTIVE"), &json!(name("oli"))));
    let bind = json!({"principal": name("boss"), "binding": {"role": "roles/administrator"}});
    assert_eq!(house.fails(&house.api.admin, ROLE, "BindRole", bind.clone()).await, "NOT_CONFIRMED");
    let add = json!({"team": "teams/a", "member": {"principal": name("boss")}});
    assert_eq!(house.fails(&house.ann, TEAM, "AddMember", add.clone()).await, "NOT_CONFIRMED");
    // Who invited them goes on in their own team.
    let own = json!({"team": "teams/b", "member": {"principal": name("boss"), "role": "roles/viewer"}});
    house.ok(&house.oli, TEAM, "AddMember", own).await;
    let reset = house.admin(USER, "ResetPassword", json!({"name": name("boss")})).await;
    assert_eq!(house.fails(&house.api.admin, ROLE, "BindRole", bind.clone()).await, "NOT_CONFIRMED");
    redeem(&reset["link"]).await;
    assert_eq!(boss().await.get("invitedBy"), None);
    house.admin(ROLE, "BindRole", bind).await;
    house.ok(&house.ann, TEAM, "AddMember", add).await;
}

async fn nobody_is_told_of_teams_that_they_do_not_see(database: Database) {
    let house = House::start(&database).await;
    join(&house.api, "b", "eve", false, "").await;
    let bind = json!({"principal": name("eve"), "binding": {"role": "roles/viewer", "team": "teams/b"}});
    house.admin(ROLE, "BindRole", bind).await;
    let eve = async |bearer: &str| {
        house.ok(bearer, USER, "GetUser", json!({"name": name("eve")})).await["user"].clone()
    };
    let seen = eve(&house.ann).await;
    assert_eq!((&seen["teams"], seen.get("bindings")), (&json!(["teams/a"]), None));
    let seen = eve(&house.api.admin).await;
    assert_eq!(seen["teams"], json!(["teams/a", "teams/b"]));
    assert_eq!(seen["bindings"].as_array().unwrap().len(), 1);
}

async fn a_permission_to_read_counts_where_it_is_held(database: Database) {
    let house = House::start(&database).await;
    let permissions = json!(["registry.read", "servers.call"]);
    house.admin(ROLE, "CreateRole", json!({"roleId": "caller", "role": {"permissions": permissions}})).await;
    let bob = user(&house.api, "bob").await;
    join(&house.api, "a", "bob", false, "roles/caller").await;
    join(&house.api, "b", "bob", false, "").await;
    for team in ["a", "b"] {
        let meta = json!({"team": format!("teams/{team}"), "visibility": "VISIBILITY_TEAM"});
        let token = json!({"tokenId": team, "token": {"meta": meta}});
        house.admin(TOKEN, "CreateToken", token).await;
        let server = json!({"serverId": team, "server": {"meta": {"team": format!("teams/{team}")}}});
        house.admin(SERVER, "CreateServer", server).await;
    }
    let tokens = house.ok(&bob, TOKEN, "ListTokens", json!({})).await;
    let names: Vec<_> =
        tokens["tokens"].as_array().unwrap().iter().map(|token| token["name"].clone()).collect();
    assert_eq!(names, ["tokens/b"]);
    house.ok(&bob, TOKEN, "GetToken", json!({"name": "tokens/b"})).await;
    assert_eq!(house.fails(&bob, TOKEN, "GetToken", json!({"name": "tokens/a"})).await, NOT_FOUND);
    // What they may read in both they see in both.
    let servers = house.ok(&bob, SERVER, "ListServers", json!({})).await;
    assert_eq!(servers["servers"].as_array().unwrap().len(), 2);
}

async fn a_server_of_who_left_the_team_has_nothing_of_it(database: Database) {
    let house = House::start(&database).await;
    join(&house.api, "b", "eve", false, "").await;
    let store = house.database.open().await;
    let mut tx = store.write().await.unwrap();
    let (team, visibility) = ("teams/a".to_owned(), Visibility::Team.into());
    let meta = Some(Meta { team, visibility, ..Meta::default() });
    tx.put(&Upstream { name: "upstreams/up".to_owned(), meta, ..Upstream::default() }, None, None)
        .await
        .unwrap();
    tx.put(&Tool { name: "upstreams/up/tools/x".to_owned(), ..Tool::default() }, None, None).await.unwrap();
    tx.commit().await.unwrap();
    let meta = json!({"owner": name("eve"), "team": "teams/a", "visibility": "VISIBILITY_PRIVATE"});
    let server = json!({"meta": meta, "tools": [{"match": "up/*"}]});
    house.ok(&house.eve, SERVER, "CreateServer", json!({"serverId": "bp", "server": server})).await;
    let count = async || {
        let server = house.ok(&house.eve, SERVER, "GetServer", json!({"name": "servers/bp"})).await;
        server["server"]["status"]["toolCount"].as_i64().unwrap_or_default()
    };
    assert_eq!(count().await, 1);
    house.remove(&house.ann, "a", &name("eve")).await;
    assert_eq!(count().await, 0);
    // Nor by what she writes into it now.
    let server = json!({"name": "servers/bp", "tools": [{"match": "up/x"}, {"match": "*/*"}]});
    let update = json!({"server": server, "updateMask": "tools"});
    house.ok(&house.eve, SERVER, "UpdateServer", update).await;
    assert_eq!(count().await, 0);
    join(&house.api, "a", "eve", false, "").await;
    assert_eq!(count().await, 1);
}

async fn a_name_that_others_still_use_is_not_taken_over(database: Database) {
    const UPSTREAM: &str = "registry.v1.UpstreamService";
    let house = House::start(&database).await;
    let upstream = |id: &str| {
        let upstream = json!({"disabled": true, "http": {"url": "http://127.0.0.1:1/mcp"}});
        json!({"upstreamId": id, "upstream": upstream, "noWait": true})
    };
    let server = |id: &str, tools: Value| json!({"serverId": id, "server": {"tools": tools}});
    house.admin(UPSTREAM, "CreateUpstream", upstream("corp")).await;
    house.admin(SERVER, "CreateServer", server("corps", json!([{"match": "corp/*"}]))).await;
    let token = json!({"tokenId": "t", "token": {"scope": {"servers": ["servers/corps"]}}});
    house.admin(TOKEN, "CreateToken", token).await;
    house.admin(UPSTREAM, "DeleteUpstream", json!({"name": "upstreams/corp", "force": true})).await;
    let taken = "NAME_STILL_USED";
    assert_eq!(house.fails(&house.eve, UPSTREAM, "CreateUpstream", upstream("corp")).await, taken);
    house.ok(&house.eve, UPSTREAM, "CreateUpstream", upstream("other")).await;
    // Whoever may change the server says by it that it is meant.
    house.admin(UPSTREAM, "CreateUpstream", upstream("corp")).await;
    // The same of a server that tokens of others name.
    house.admin(SERVER, "DeleteServer", json!({"name": "servers/corps", "force": true})).await;
    assert_eq!(house.fails(&house.eve, SERVER, "CreateServer", server("corps", json!([]))).await, taken);
    house.admin(SERVER, "CreateServer", server("corps", json!([]))).await;
}

async fn members_that_take_too_long_to_be_compared_are_refused(database: Database) {
    let house = House::start(&database).await;
    let store = house.database.open().await;
    let mut tx = store.write().await.unwrap();
    tx.put(&Upstream { name: "upstreams/big".to_owned(), ..Upstream::default() }, None, None).await.unwrap();
    for number in 0..2_000 {
        let name = format!("upstreams/big/tools/{number:0100}");
        tx.put(&Tool { name, ..Tool::default() }, None, None).await.unwrap();
    }
    tx.commit().await.unwrap();
    let greedy = |count: usize| -> Vec<Value> {
        (0..count).map(|number| json!({"match": format!("big/{}x{number}", "*0".repeat(15))})).collect()
    };
    let create = |id: &str, tools: Vec<Value>, validate: bool| json!({"serverId": id, "server": {"tools": tools}, "validateOnly": validate});
    for validate in [true, false] {
        let body = create("s", greedy(40), validate);
        assert_eq!(house.fails(&house.api.admin, SERVER, "CreateServer", body).await, "TOO_MUCH_TO_MATCH");
    }
    house.admin(SERVER, "CreateServer", create("s", greedy(4), false)).await;
    let server = json!({"name": "servers/s", "tools": greedy(40)});
    let update = json!({"server": server, "updateMask": "tools"});
    assert_eq!(house.fails(&house.api.admin, SERVER, "UpdateServer", update).await, "TOO_MUCH_TO_MATCH");
    // Many that are small are too much as well, in one write.
    let servers =
        (0..30).map(|id| json!({"server": {"name": format!("servers/s{id}"), "tools": greedy(15)}}));
    let apply = json!({"manifests": servers.collect::<Vec<_>>()});
    let reason = house.fails(&house.api.admin, "admin.v1.BulkService", "ApplyResources", apply).await;
    assert_eq!(reason, "TOO_MUCH_TO_MATCH");
}
