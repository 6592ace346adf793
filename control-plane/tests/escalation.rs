//! Nobody gives what they do not have: every way to more than one has, tried by who has less, and refused; beside each, what they may do.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/desk.rs"]
mod desk;

use std::sync::Arc;

use desk::{Desk, holder, renamed, somebody};
use serde_json::{Value, json};
use trunkline::common::v1::Permission;
use trunkline_control_plane::rights::Rights;

const APPLY: &str = "admin.v1.BulkService/ApplyResources";
const CREATE_TOKEN: &str = "identity.v1.TokenService/CreateToken";
const UPDATE_TOKEN: &str = "identity.v1.TokenService/UpdateToken";
const CREATE_SERVER: &str = "registry.v1.ServerService/CreateServer";
const UPDATE_SERVER: &str = "registry.v1.ServerService/UpdateServer";
const GET_SERVER: &str = "registry.v1.ServerService/GetServer";
const DENIED: &str = "PERMISSION_DENIED";
const UNKNOWN: &str = "REFERENCE_NOT_FOUND";

/// Ann is a developer of a, bob the owner of b; both teams have a server, and there is one of the installation.
async fn start() -> (Desk, Arc<Rights>, Arc<Rights>) {
    let desk = Desk::open().await;
    desk.users(&["ann", "bob"]).await;
    let manifests = json!({"manifests": [
        {"team": {"name": "teams/a"}},
        {"team": {"name": "teams/b", "scope": {"servers": ["servers/lent"], "tools": ["*"]}}},
        {"server": {"name": "servers/a", "meta": {"team": "teams/a"}}},
        {"server": {"name": "servers/b", "meta": {"team": "teams/b"}}},
        {"server": {"name": "servers/ann", "meta": {"owner": "users/ann"}}},
        {"server": {"name": "servers/old"}},
        {"server": {"name": "servers/lent"}},
        {"server": {"name": "servers/public", "meta": {"visibility": "VISIBILITY_PUBLIC"}}},
    ]});
    desk.ok(&Rights::administrator(), APPLY, manifests).await;
    let ann = somebody("ann", &[("developer", "teams/a")], &["teams/a"]);
    (desk, ann, somebody("bob", &[("team-owner", "teams/b")], &["teams/b"]))
}

fn token(id: &str, servers: &[&str]) -> Value {
    json!({"tokenId": id, "token": {"scope": {"servers": servers, "tools": ["*"]}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reaches_no_further_than_who_writes_it() {
    let (desk, ann, bob) = start().await;
    // They see what is their team's, and may call and issue elsewhere only.
    let vic = somebody("ann", &[("viewer", "teams/a"), ("developer", "teams/b")], &["teams/a", "teams/b"]);
    for (number, (who, servers, reason)) in [
        (&ann, vec!["servers/a"], "OK"),
        (&ann, vec!["servers/ann", "servers/public"], "OK"),
        (&ann, vec![], "OK"),
        (&ann, vec!["*"], DENIED),
        (&ann, vec!["servers/b"], UNKNOWN),
        (&ann, vec!["servers/old"], UNKNOWN),
        (&ann, vec!["servers/gone"], UNKNOWN),
        (&ann, vec!["servers/a", "servers/b"], UNKNOWN),
        (&vic, vec!["servers/a"], DENIED),
        (&bob, vec!["servers/b", "servers/lent"], "OK"),
        (&bob, vec!["servers/a"], UNKNOWN),
        (&bob, vec!["*"], DENIED),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("t{number}");
        let call = async |rpc: &str, body: Value| desk.call(who, desk::Transport::Grpc, rpc, &body).await;
        let created = call(CREATE_TOKEN, token(&id, &servers)).await;
        assert_eq!(created.reason, reason, "{servers:?}: {}", created.body);
        // The same by an update of one that is allowed, and by a file.
        let other = format!("u{number}");
        assert_eq!(call(CREATE_TOKEN, token(&other, &[])).await.reason, "OK");
        let name = format!("tokens/{other}");
        let scope = json!({"servers": servers, "tools": ["*"]});
        let update = json!({"token": {"name": name, "scope": scope}, "updateMask": "scope"});
        assert_eq!(call(UPDATE_TOKEN, update).await.reason, reason, "{servers:?}");
        let file = json!({"manifests": [{"token": {"name": format!("tokens/f{number}"), "scope": scope}}]});
        assert_eq!(call(APPLY, file).await.reason, reason, "{servers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_callable_and_what_does_not_exist_are_refused_in_the_same_words() {
    let (desk, ann, _) = start().await;
    let hidden = desk.fails(&ann, CREATE_TOKEN, token("t", &["servers/old"]), UNKNOWN).await;
    let gone = desk.fails(&ann, CREATE_TOKEN, token("t", &["servers/xxx"]), UNKNOWN).await;
    assert_eq!(hidden, renamed(&gone, "servers/xxx", "servers/old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_somebody_else_widened_does_not_grow_by_who_may_not() {
    let (desk, ann, _) = start().await;
    let body = json!({"tokenId": "t", "token": {"meta": {"owner": "users/ann"}, "scope": {"servers": ["*"], "tools": ["a_*"]}}});
    desk.ok(&Rights::administrator(), CREATE_TOKEN, body).await;
    let update = |tools: Value| json!({"token": {"name": "tokens/t", "scope": {"servers": ["*"], "tools": tools}}, "updateMask": "scope"});
    desk.fails(&ann, UPDATE_TOKEN, update(json!(["a_*", "b_*"])), DENIED).await;
    desk.ok(&ann, UPDATE_TOKEN, update(json!([]))).await;
    let text = json!({"token": {"name": "tokens/t", "description": "d"}, "updateMask": "description"});
    desk.ok(&ann, UPDATE_TOKEN, text).await;
    // What has no owner and no team has no bounds at edges.
    for mask in ["meta.owner", "meta.owner,meta.team"] {
        let give_up = json!({"token": {"name": "tokens/t", "meta": {}}, "updateMask": mask});
        desk.fails(&ann, UPDATE_TOKEN, give_up, DENIED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_lends_its_members_what_its_owner_may_call() {
    let (desk, _, bob) = start().await;
    let scope = |server: &str| json!({"manifests": [{"team": {"name": "teams/b", "scope": {"servers": [server], "tools": ["*"]}}}]});
    for (server, reason) in [
        ("servers/b", "OK"),
        // It may be hidden tomorrow, and a team has no owner whose rights bound it.
        ("servers/public", DENIED),
        ("servers/a", UNKNOWN),
        ("servers/old", UNKNOWN),
        ("*", DENIED),
    ] {
        let answer = desk.call(&bob, desk::Transport::Grpc, APPLY, &scope(server)).await;
        assert_eq!(answer.reason, reason, "{server}: {}", answer.body);
    }
    let other = json!({"manifests": [{"team": {"name": "teams/a", "title": "mine"}}]});
    desk.fails(&bob, APPLY, other, "RESOURCE_EXISTS").await;
    let new = json!({"manifests": [{"team": {"name": "teams/c"}}]});
    desk.fails(&bob, APPLY, new, DENIED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_makes_is_theirs_or_their_teams() {
    let (desk, ann, _) = start().await;
    let create = |id: &str, meta: Value| json!({"serverId": id, "server": {"meta": meta}});
    let meta = async |id: &str, meta: Value| {
        let created = desk.ok(&ann, CREATE_SERVER, create(id, meta)).await;
        let meta = &created["server"]["meta"];
        [&meta["owner"], &meta["team"], &meta["visibility"]]
            .map(|text| text.as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(meta("mine", json!({})).await, ["users/ann", "", ""]);
    assert_eq!(meta("ours", json!({"team": "teams/a"})).await, ["", "teams/a", ""]);
    let both = json!({"owner": "users/ann", "team": "teams/a", "visibility": "VISIBILITY_TEAM"});
    assert_eq!(meta("both", both).await, ["users/ann", "teams/a", "VISIBILITY_TEAM"]);
    for (meta, reason) in [
        (json!({"owner": "users/bob"}), DENIED),
        (json!({"team": "teams/b"}), DENIED),
        (json!({"visibility": "VISIBILITY_PUBLIC"}), DENIED),
        (json!({"team": "teams/a", "visibility": "VISIBILITY_PRIVATE"}), DENIED),
        (json!({"visibility": "VISIBILITY_TEAM"}), "INVALID_FIELD"),
        (json!({"owner": "tokens/t"}), "INVALID_FIELD"),
    ] {
        for (rpc, body) in [
            (CREATE_SERVER, create("x", meta.clone())),
            (UPDATE_SERVER, json!({"server": {"name": "servers/x", "meta": meta}, "allowMissing": true})),
            (APPLY, json!({"manifests": [{"server": {"name": "servers/x", "meta": meta}}]})),
        ] {
            desk.fails(&ann, rpc, body, reason).await;
        }
    }
    // A file that says nothing of it leaves it as it is, and so does who applies it.
    desk.ok(&ann, APPLY, json!({"manifests": [{"server": {"name": "servers/mine", "title": "t"}}]})).await;
    desk.ok(&Rights::administrator(), APPLY, json!({"manifests": [{"server": {"name": "servers/mine"}}]}))
        .await;
    let kept = desk.ok(&ann, GET_SERVER, json!({"name": "servers/mine"})).await;
    assert_eq!(kept["server"]["meta"]["owner"], "users/ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn things_change_hands_by_who_may_give_and_take_them() {
    let (desk, ann, bob) = start().await;
    let administrator = Rights::administrator();
    let update = |name: &str, meta: Value, mask: &str| json!({"server": {"name": name, "meta": meta}, "updateMask": mask});
    for (who, name, meta, mask, reason) in [
        (&ann, "servers/a", json!({"owner": "users/ann"}), "meta.owner", DENIED),
        (&ann, "servers/a", json!({"team": "teams/b"}), "meta.team", DENIED),
        (&ann, "servers/a", json!({}), "meta.team", DENIED),
        (&ann, "servers/a", json!({"visibility": "VISIBILITY_PUBLIC"}), "meta.visibility", DENIED),
        (&ann, "servers/a", json!({"visibility": "VISIBILITY_PRIVATE"}), "meta.visibility", DENIED),
        (&ann, "servers/ann", json!({"owner": "users/bob"}), "meta.owner", DENIED),
        (&ann, "servers/ann", json!({"team": "teams/b"}), "meta.team", DENIED),
        (&ann, "servers/ann", json!({"team": "teams/a"}), "meta.owner,meta.team", "OK"),
        (&bob, "servers/a", json!({"team": "teams/b"}), "meta.team", "RESOURCE_NOT_FOUND"),
        (&bob, "servers/public", json!({"team": "teams/b"}), "meta.team", DENIED),
        (&bob, "servers/b", json!({"visibility": "VISIBILITY_PUBLIC"}), "meta.visibility", "OK"),
        (&bob, "servers/b", json!({}), "meta.visibility", "OK"),
        (&administrator, "servers/old", json!({"owner": "users/eve"}), "meta.owner", "REFERENCE_NOT_FOUND"),
        (&administrator, "servers/old", json!({"team": "teams/x"}), "meta.team", "REFERENCE_NOT_FOUND"),
        (&administrator, "servers/old", json!({"owner": "users/bob"}), "meta.owner", "OK"),
    ] {
        let answer =
            desk.call(who, desk::Transport::Grpc, UPDATE_SERVER, &update(name, meta.clone(), mask)).await;
        assert_eq!(answer.reason, reason, "{} {name} {meta} {mask}: {}", who.name, answer.body);
    }
    let seen = desk.call(&bob, desk::Transport::Grpc, GET_SERVER, &json!({"name": "servers/old"})).await;
    assert_eq!(seen.reason, "OK", "it is theirs now");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_teams_and_roles_have_no_owner_of_their_own() {
    let (desk, _, _) = start().await;
    let administrator = Rights::administrator();
    let upstream = json!({"upstream": {"name": "upstreams/u", "disabled": true, "http": {"url": "http://127.0.0.1:1/mcp"}}});
    desk.ok(&administrator, APPLY, json!({"manifests": [upstream]})).await;
    let definition = json!({"name": "t", "inputSchema": {"type": "object"}}).to_string();
    let meta = json!({"owner": "users/ann"});
    for manifest in [
        json!({"tool": {"name": "upstreams/u/tools/t", "definitionJson": definition, "meta": meta}}),
        json!({"team": {"name": "teams/c", "meta": meta}}),
        json!({"role": {"name": "roles/c", "meta": meta}}),
    ] {
        desk.fails(&administrator, APPLY, json!({"manifests": [manifest]}), "INVALID_FIELD").await;
    }
}

/// A role that makes tokens for everything is not one that calls everything.
#[tokio::test(flavor = "multi_thread")]
async fn who_sees_everything_gives_only_what_they_hold() {
    let (desk, _, _) = start().await;
    let clerk =
        holder("ann", &[Permission::RegistryAll, Permission::TokensIssue, Permission::ServersWrite], &[]);
    desk.fails(&clerk, CREATE_TOKEN, token("t", &["*"]), DENIED).await;
    desk.fails(&clerk, CREATE_TOKEN, token("t", &["servers/old"]), DENIED).await;
    desk.ok(&clerk, CREATE_TOKEN, token("t", &["servers/ann"])).await;
    let publish = json!({"serverId": "p", "server": {"meta": {"visibility": "VISIBILITY_PUBLIC"}}});
    desk.fails(&clerk, CREATE_SERVER, publish, DENIED).await;
}

/// Everything that can be selected from, by servers of everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_selects_from_what_its_owner_or_team_may_use() {
    let (desk, ann, _) = start().await;
    let administrator = Rights::administrator();
    desk.run("insert into memberships (team, uid, is_owner, role, created, added_by) values ('teams/a', 'uid-ann', 0, '', 0, '')")
        .await;
    let mut manifests = Vec::new();
    for (id, meta) in [
        ("mine", json!({"owner": "users/ann"})),
        ("others", json!({"owner": "users/bob"})),
        ("ours", json!({"team": "teams/a"})),
        ("theirs", json!({"team": "teams/b"})),
        ("public", json!({"owner": "users/bob", "visibility": "VISIBILITY_PUBLIC"})),
        ("old", json!({})),
    ] {
        let mut meta = meta;
        meta["labels"] = json!({"x": "y"});
        manifests.push(json!({"upstream": {"name": format!("upstreams/{id}"), "meta": meta, "http": {"url": "http://127.0.0.1:1/mcp"}}}));
        let definition = json!({"name": "t", "inputSchema": {"type": "object"}}).to_string();
        manifests
            .push(json!({"tool": {"name": format!("upstreams/{id}/tools/t"), "definitionJson": definition}}));
    }
    desk.ok(&administrator, APPLY, json!({"manifests": manifests})).await;
    let exposed = async |id: &str, meta: Value| -> Vec<String> {
        let all = json!([{"match": "*/*", "labels": {"x": "y"}}]);
        desk.ok(
            &administrator,
            CREATE_SERVER,
            json!({"serverId": id, "server": {"meta": meta, "tools": all}}),
        )
        .await;
        let name = json!({"name": format!("servers/{id}")});
        let listed = desk.ok(&administrator, "registry.v1.ServerService/ListServerEntries", name).await;
        let entries = listed["entries"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["exposedName"].as_str().unwrap().to_owned()).collect()
    };
    let shared = json!({"owner": "users/ann", "team": "teams/a", "visibility": "VISIBILITY_TEAM"});
    let private = json!({"owner": "users/ann", "team": "teams/a", "visibility": "VISIBILITY_PRIVATE"});
    let common = ["old_t", "public_t"];
    assert_eq!(exposed("s1", json!({})).await, common, "nobody gets into it by making something");
    assert_eq!(exposed("s2", json!({"owner": "users/ann"})).await, ["mine_t", "public_t"]);
    assert_eq!(exposed("s3", json!({"team": "teams/a"})).await, ["ours_t", "public_t"]);
    assert_eq!(
        exposed("s4", shared.clone()).await,
        ["ours_t", "public_t"],
        "others of the team write it, too"
    );
    assert_eq!(exposed("s5", private).await, ["mine_t", "ours_t", "public_t"]);

    let server = |meta: &Value, upstream: &str| {
        json!({"serverId": "s6", "validateOnly": true,
        "server": {"meta": meta, "tools": [{"match": format!("{upstream}/t")}]}})
    };
    for (who, meta, upstream, reason) in [
        (&ann, json!({}), "mine", "OK"),
        (&ann, json!({}), "public", "OK"),
        (&ann, json!({}), "ours", "UPSTREAM_NOT_USABLE"),
        (&ann, json!({"team": "teams/a"}), "ours", "OK"),
        (&ann, shared, "mine", "OK"),
        (&ann, json!({"team": "teams/a"}), "mine", "UPSTREAM_NOT_USABLE"),
        (&ann, json!({}), "others", "REFERENCE_NOT_FOUND"),
        (&ann, json!({}), "theirs", "REFERENCE_NOT_FOUND"),
        (&ann, json!({}), "old", "REFERENCE_NOT_FOUND"),
        (&administrator, json!({"owner": "users/ann"}), "theirs", "UPSTREAM_NOT_USABLE"),
        (&administrator, json!({}), "theirs", "OK"),
    ] {
        let answer = desk.call(who, desk::Transport::Grpc, CREATE_SERVER, &server(&meta, upstream)).await;
        assert_eq!(answer.reason, reason, "{} {meta} {upstream}: {}", who.name, answer.body);
    }
    // What is taken back from a server is not exposed any more.
    let hide = json!({"upstream": {"name": "upstreams/public", "meta": {"visibility": "VISIBILITY_PRIVATE"}}, "updateMask": "meta.visibility"});
    desk.ok(&administrator, "registry.v1.UpstreamService/UpdateUpstream", hide).await;
    let listed =
        desk.ok(&ann, "registry.v1.ServerService/ListServerEntries", json!({"name": "servers/s3"})).await;
    assert_eq!(listed["entries"].as_array().unwrap().len(), 1, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_owns_a_server_does_not_take_it_from_under_the_rules_of_its_team() {
    let (desk, ann, _) = start().await;
    let administrator = Rights::administrator();
    let team = |rules: Value| json!({"team": {"name": "teams/a", "rules": rules}});
    let mine = json!({"server": {"name": "servers/mine", "meta": {"owner": "users/ann", "team": "teams/a"}}});
    let rules = json!([{"id": "no", "effect": "RULE_EFFECT_DENY", "tools": ["x"]}]);
    desk.ok(&administrator, APPLY, json!({"manifests": [team(rules), mine]})).await;
    let leave = json!({
        "server": {"name": "servers/mine", "meta": {"owner": "users/ann", "visibility": "VISIBILITY_PRIVATE"}},
        "updateMask": "meta.team,meta.visibility",
    });
    let told = desk.fails(&ann, UPDATE_SERVER, leave.clone(), DENIED).await;
    assert!(told.to_string().contains("teams.write"), "{told}");
    desk.ok(&administrator, APPLY, json!({"manifests": [team(json!([]))]})).await;
    desk.ok(&ann, UPDATE_SERVER, leave).await;
}

/// A rule that names what servers of a team expose is not escaped from by another name; one that names tools of upstreams holds anyway.
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_a_server_of_a_team_names_nothing_out_of_its_rules() {
    let (desk, ann, _) = start().await;
    let administrator = Rights::administrator();
    desk.run("insert into memberships (team, uid, is_owner, role, created, added_by) values ('teams/a', 'uid-ann', 0, '', 0, '')")
        .await;
    let definition = json!({"name": "write", "inputSchema": {"type": "object"}}).to_string();
    let team = |rules: Value| json!({"team": {"name": "teams/a", "rules": rules}});
    let manifests = json!({"manifests": [
        {"upstream": {"name": "upstreams/up", "meta": {"team": "teams/a"}, "http": {"url": "http://127.0.0.1:1/mcp"}}},
        {"tool": {"name": "upstreams/up/tools/write", "definitionJson": definition}},
        {"server": {"name": "servers/a", "meta": {"team": "teams/a"}, "tools": [{"match": "up/write"}]}},
    ]});
    desk.ok(&administrator, APPLY, manifests).await;
    let named = |alias: &str| {
        json!({"server": {"name": "servers/a", "tools": [{"match": "up/write", "alias": alias}]},
            "updateMask": "tools", "validateOnly": true})
    };
    let unprefixed = json!({"server": {"name": "servers/a", "nameStyle": "NAME_STYLE_UNPREFIXED"}, "updateMask": "nameStyle", "validateOnly": true});
    for (rule, escapes) in [
        (json!({"tools": ["up_write"]}), true),
        (json!({"when": "tool.name.endsWith('_write')"}), true),
        (json!({"tools": ["up/write"]}), false),
        (json!({"tools": ["other"]}), false),
        (json!({}), false),
    ] {
        let mut rule = rule;
        (rule["id"], rule["effect"]) = ("no".into(), "RULE_EFFECT_DENY".into());
        desk.ok(&administrator, APPLY, json!({"manifests": [team(json!([rule]))]})).await;
        for write in [named("wr"), unprefixed.clone()] {
            if escapes {
                let told = desk.fails(&ann, UPDATE_SERVER, write.clone(), DENIED).await.to_string();
                assert!(told.contains("the rule no of teams/a is about up_write and not about wr"), "{told}");
            } else {
                desk.ok(&ann, UPDATE_SERVER, write.clone()).await;
            }
            // Who writes the rules may.
            desk.ok(&administrator, UPDATE_SERVER, write).await;
        }
        desk.ok(&ann, UPDATE_SERVER, named("up_write")).await;
    }
}
