//! Who gains and who loses what by an apply, over a socket and on both databases: by every kind of resource, told to those who see it.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/api.rs"]
mod api;

use api::Api;
use database::Database;
use http::StatusCode;
use serde_json::{Value, json};

suite! {
    every_kind_of_change_says_who_gains_and_who_loses,
    what_is_stored_says_the_same_and_what_is_not_asked_for_is_not_said,
    what_is_left_out_stays_or_is_taken_away_as_it_is_asked_for,
    what_rules_decide_call_by_call_from_now_on_is_told_with_them,
    a_rule_that_is_taken_away_is_told_as_a_gain,
    everybody_is_told_of_those_whom_they_see_and_how_many_others_there_are,
}

const APPLY: &str = "admin.v1.BulkService/ApplyResources";
const ACCOUNTS: &str = "identity.v1.ServiceAccountService";
const BOTH: &str = "git_read git_write";

/// A server `dev` of the team `core` with the tools `git_read` and `git_write`. It may be called by `tokens/laptop`, by bob and eve as
/// members of the team, and by `serviceAccounts/robot`, which has the role `caller` in it; `serviceAccounts/out` may call servers
/// everywhere, and is in no team.
struct Office {
    api: Api,
}

impl Office {
    async fn open(database: &Database) -> Self {
        let url = database.url().to_owned();
        let api = Api::start_with(|config| config.database_url = Some(url.into())).await;
        let office = Self { api };
        office.api.upstream("git").await;
        for tool in ["read", "write"] {
            office.api.tool("git", tool).await;
        }
        let caller =
            json!({"role": {"name": "roles/caller", "permissions": ["registry.read", "servers.call"]}});
        let team = json!({"team": {"name": "teams/core"}});
        office
            .apply(json!([
                upstream(json!({})),
                caller,
                team,
                dev(json!([{"match": "git/*"}])),
                laptop(json!({}))
            ]))
            .await;
        for email in ["bob@example.org", "eve@example.org"] {
            office.api.ok("identity.v1.UserService/CreateUser", json!({"user": {"email": email}})).await;
            office.join(&format!("users/{email}"), "").await;
        }
        office.account("robot", None).await;
        office.join("serviceAccounts/robot", "roles/caller").await;
        office.account("out", Some("roles/developer")).await;
        office
    }

    /// A service account with a role everywhere, or none. Answers the `authorization` of a key of it.
    async fn account(&self, id: &str, role: Option<&str>) -> String {
        let bindings: Vec<Value> = role.map(|role| json!({"role": role})).into_iter().collect();
        let account = json!({"serviceAccountId": id, "serviceAccount": {"bindings": bindings}});
        self.api.ok(&format!("{ACCOUNTS}/CreateServiceAccount"), account).await;
        let parent = json!({"parent": format!("serviceAccounts/{id}")});
        let key = self.api.raw(&format!("{ACCOUNTS}/CreateApiKey"), &parent.to_string()).await.1;
        format!("Bearer {}", key["secret"].as_str().unwrap())
    }

    async fn join(&self, who: &str, role: &str) {
        let member = json!({"team": "teams/core", "member": {"principal": who, "role": role}});
        self.api.ok("identity.v1.TeamService/AddMember", member).await;
    }

    async fn apply(&self, manifests: Value) {
        self.api.ok(APPLY, json!({ "manifests": manifests })).await;
    }

    /// What a change would say to somebody.
    async fn asked(&self, asker: &str, manifests: Value) -> Value {
        let request = json!({"manifests": manifests, "validateOnly": true, "withAccessChanges": true});
        let (status, answer) = self.api.raw_as(asker, APPLY, &request.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    async fn told(&self, manifest: Value) -> Vec<String> {
        let answer = self.asked(&format!("Bearer {}", self.api.admin), json!([manifest])).await;
        assert!(answer["accessChangesUnseen"].is_null() && answer["accessChangesCut"].is_null(), "{answer}");
        lines(&answer)
    }
}

fn lines(answer: &Value) -> Vec<String> {
    let names = |list: &Value| {
        let names = list.as_array().into_iter().flatten().map(|thing| {
            assert_eq!(thing["kind"], "tool");
            thing["name"].as_str().unwrap()
        });
        names.collect::<Vec<_>>().join(" ")
    };
    let line = |change: &Value| {
        let people = change["people"].as_i64().map(|people| format!(" ({people})")).unwrap_or_default();
        let (who, at) = (change["principal"].as_str().unwrap(), change["server"].as_str().unwrap());
        format!("{who}{people} {at} +[{}] -[{}]", names(&change["gained"]), names(&change["lost"]))
    };
    answer["accessChanges"].as_array().into_iter().flatten().map(line).collect()
}

fn upstream(more: Value) -> Value {
    let mut upstream = json!({"name": "upstreams/git", "http": {"url": "http://127.0.0.1:1/mcp"}, "meta": {"visibility": "VISIBILITY_PUBLIC"}});
    upstream.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "upstream": upstream })
}

fn dev(tools: Value) -> Value {
    server(tools, json!({"team": "teams/core", "visibility": "VISIBILITY_TEAM"}))
}

fn server(tools: Value, meta: Value) -> Value {
    json!({"server": {"name": "servers/dev", "meta": meta, "tools": tools}})
}

fn laptop(more: Value) -> Value {
    let mut token = json!({"name": "tokens/laptop", "scope": {"servers": ["servers/dev"], "tools": ["*"]}});
    token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "token": token })
}

/// What all of them lose who may call `dev`.
fn everybody_loses(lost: &str) -> Vec<String> {
    let all = ["serviceAccounts/robot", "teams/core (2)", "tokens/laptop"];
    all.iter().map(|who| format!("{who} servers/dev +[] -[{lost}]")).collect()
}

async fn every_kind_of_change_says_who_gains_and_who_loses(database: Database) {
    let office = Office::open(&database).await;
    let all = || json!([{"match": "git/*"}]);
    let of_laptop = |moves: &str| vec![format!("tokens/laptop servers/dev {moves}")];

    // Servers: members, whose they are, and whether they are there.
    assert_eq!(office.told(dev(json!([{"match": "git/read"}]))).await, everybody_loses("git_write"));
    let public = json!({"team": "teams/core", "visibility": "VISIBILITY_PUBLIC"});
    let out = format!("serviceAccounts/out servers/dev +[{BOTH}] -[]");
    assert_eq!(office.told(server(all(), public)).await, [out]);
    let bobs =
        json!({"owner": "users/bob@example.org", "team": "teams/core", "visibility": "VISIBILITY_PRIVATE"});
    let lost = ["serviceAccounts/robot", "users/eve@example.org"]
        .map(|who| format!("{who} servers/dev +[] -[{BOTH}]"));
    assert_eq!(
        office.told(server(all(), bobs)).await,
        lost,
        "bob keeps what is his own, and so does the token"
    );
    let mut disabled = dev(all());
    disabled["server"]["disabled"] = true.into();
    assert_eq!(office.told(disabled).await, everybody_loses(BOTH));
    let renamed = office.told(dev(json!([{"match": "git/*"}, {"match": "git/x", "alias": "y"}]))).await;
    assert_eq!(renamed, Vec::<String>::new(), "what selects nothing gives nothing");

    // Upstreams and their tools.
    assert_eq!(office.told(upstream(json!({"disabled": true}))).await, everybody_loses(BOTH));
    let private = json!({"meta": {"owner": "users/bob@example.org", "visibility": "VISIBILITY_PRIVATE"}});
    assert_eq!(office.told(upstream(private)).await, everybody_loses(BOTH));
    let shared = json!({"meta": {"team": "teams/core", "visibility": "VISIBILITY_TEAM"}});
    assert_eq!(office.told(upstream(shared)).await, Vec::<String>::new());
    let definition = json!({"name": "write", "inputSchema": {"type": "object"}}).to_string();
    let tool = json!({"name": "upstreams/git/tools/write", "definitionJson": definition, "disabled": true});
    assert_eq!(office.told(json!({ "tool": tool })).await, everybody_loses("git_write"));

    // Tokens: scopes, methods and whose they are.
    let narrow = json!({"scope": {"servers": ["servers/dev"], "tools": ["git_r*"]}});
    assert_eq!(office.told(laptop(narrow)).await, of_laptop("+[] -[git_write]"));
    assert_eq!(
        office.told(laptop(json!({"scope": {"tools": ["*"]}}))).await,
        of_laptop(&format!("+[] -[{BOTH}]"))
    );
    let methods = json!({"conditions": {"methods": ["prompts/*"]}});
    assert_eq!(office.told(laptop(methods)).await, of_laptop(&format!("+[] -[{BOTH}]")));
    let from = json!({"conditions": {"from": ["10.0.0.0/8"]}, "purpose": "of the laptop"});
    assert_eq!(office.told(laptop(from)).await, Vec::<String>::new());
    let new = json!({"token": {"name": "tokens/new", "scope": {"servers": ["*"], "tools": ["git_read"]}}});
    assert_eq!(office.told(new).await, ["tokens/new servers/dev +[git_read] -[]"]);

    // What teams and roles give.
    let team = json!({"team": {"name": "teams/core", "scope": {"tools": ["git_read"]}}});
    let lost =
        ["serviceAccounts/robot", "teams/core (2)"].map(|who| format!("{who} servers/dev +[] -[git_write]"));
    assert_eq!(office.told(team).await, lost);
    let role = json!({"role": {"name": "roles/caller", "permissions": ["registry.read"]}});
    assert_eq!(office.told(role).await, [format!("serviceAccounts/robot servers/dev +[] -[{BOTH}]")]);

    // Where nothing changes, nothing is said.
    for same in
        [dev(all()), upstream(json!({})), laptop(json!({})), laptop(json!({"purpose": "of the laptop"}))]
    {
        assert_eq!(office.told(same).await, Vec::<String>::new());
    }
}

async fn what_is_stored_says_the_same_and_what_is_not_asked_for_is_not_said(database: Database) {
    let office = Office::open(&database).await;
    let less = json!({"manifests": [dev(json!([{"match": "git/read"}]))], "withAccessChanges": true});
    let (status, answer) = office.api.raw(APPLY, &less.to_string()).await;
    assert_eq!((status, lines(&answer)), (StatusCode::OK, everybody_loses("git_write")));
    let (_, again) = office.api.raw(APPLY, &less.to_string()).await;
    assert!(again["accessChanges"].is_null(), "it is stored: {again}");
    let all = json!({"manifests": [dev(json!([{"match": "git/*"}]))]});
    let (status, answer) = office.api.raw(APPLY, &all.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer["accessChanges"].is_null() && answer["accessChangesUnseen"].is_null(), "{answer}");
}

async fn what_is_left_out_stays_or_is_taken_away_as_it_is_asked_for(database: Database) {
    let office = Office::open(&database).await;
    let asked = async |exact: bool| {
        let request = json!({"manifests": [server(json!([{"match": "git/*"}]), json!({}))], "validateOnly": true,
            "withAccessChanges": true, "exactOwnership": exact});
        let (status, answer) = office.api.raw(APPLY, &request.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    };
    assert!(asked(false).await["accessChanges"].is_null());
    let answer = asked(true).await;
    for who in ["serviceAccounts/robot", "teams/core (2)"] {
        assert!(lines(&answer).contains(&format!("{who} servers/dev +[] -[{BOTH}]")), "{answer}");
    }
    assert!(!answer["accessChanges"].to_string().contains("tokens/laptop"), "{answer}");
}

async fn what_rules_decide_call_by_call_from_now_on_is_told_with_them(database: Database) {
    let office = Office::open(&database).await;
    let mut late = dev(json!([{"match": "git/*"}]));
    late["server"]["rules"] = json!([{"id": "late", "effect": "deny", "tools": ["git_write"],
        "when": "now.getHours(\"Europe/Berlin\") < 8"}]);
    let answer = office.asked(&format!("Bearer {}", office.api.admin), json!([late])).await;
    assert_eq!(
        lines(&answer),
        ["serviceAccounts/robot", "teams/core (2)", "tokens/laptop"]
            .map(|who| format!("{who} servers/dev +[] -[]"))
    );
    let ruled = json!([{"kind": "tool", "name": "git_write", "rules": ["servers/dev/rules/late"]}]);
    assert_eq!(
        (&answer["accessChanges"][0]["ruled"], &answer["accessChanges"][0]["ruledCount"]),
        (&ruled, &json!(1))
    );
}

async fn a_rule_that_is_taken_away_is_told_as_a_gain(database: Database) {
    let office = Office::open(&database).await;
    let ruled = |rules: Value| {
        let mut server = dev(json!([{"match": "git/*"}]));
        server["server"]["rules"] = rules;
        server
    };
    let deletes = json!({"id": "deletes", "effect": "approve", "tools": ["git_write"]});
    let emails = |fields: Value| json!({"id": "emails", "effect": "mask", "fields": fields});
    office.apply(json!([ruled(json!([deletes, emails(json!(["email", "name"]))]))])).await;
    let asked = async |rules: Value| {
        let answer = office.asked(&format!("Bearer {}", office.api.admin), json!([ruled(rules)])).await;
        let who: Vec<_> = answer["accessChanges"].as_array().into_iter().flatten().collect();
        assert!(who.iter().all(|change| change["loosened"] == who[0]["loosened"]), "{answer}");
        assert_eq!(who.len(), 3, "{answer}");
        (who[0]["loosened"].clone(), who[0]["loosenedCount"].clone())
    };
    let tools =
        |names: &[&str]| names.iter().map(|name| json!({"kind": "tool", "name": name})).collect::<Vec<_>>();
    let gone = json!({"rule": "servers/dev/rules/deletes", "effect": "approve", "targets": tools(&["git_write"]), "targetCount": 1});
    let mask = |changed: bool| {
        let mut mask = json!({"rule": "servers/dev/rules/emails", "effect": "mask", "targets": tools(&["git_read", "git_write"]), "targetCount": 2});
        if changed {
            mask["changed"] = true.into();
        }
        mask
    };
    assert_eq!(asked(json!([])).await, (json!([gone, mask(false)]), json!(2)));
    assert_eq!(asked(json!([deletes, emails(json!(["email"]))])).await, (json!([mask(true)]), json!(1)));
}

async fn everybody_is_told_of_those_whom_they_see_and_how_many_others_there_are(database: Database) {
    let office = Office::open(&database).await;
    let less = || json!([dev(json!([{"match": "git/read"}]))]);
    let owner = office.account("owner", None).await;
    office.join("serviceAccounts/owner", "roles/team-owner").await;
    let developer = office.account("developer", None).await;
    office.join("serviceAccounts/developer", "").await;
    let loses = |who: &str| format!("{who} servers/dev +[] -[git_write]");

    // Who looks after a team sees its members, and not the token of the installation.
    let answer = office.asked(&owner, less()).await;
    let members =
        ["serviceAccounts/developer", "serviceAccounts/owner", "serviceAccounts/robot", "teams/core (2)"];
    assert_eq!(lines(&answer), members.map(loses));
    assert_eq!(answer["accessChangesUnseen"], 1);
    assert!(!answer.to_string().contains("laptop"), "{answer}");

    // A developer sees themselves: bob, eve, the two other accounts and the token are counted.
    let answer = office.asked(&developer, less()).await;
    assert_eq!(lines(&answer), [loses("serviceAccounts/developer")]);
    assert_eq!(
        (&answer["accessChangesUnseen"], &answer["accessChangesUnseenLosing"]),
        (&json!(5), &json!(5))
    );
    assert!(answer["accessChangesUnseenGaining"].is_null(), "{answer}");
    for hidden in ["laptop", "users/bob", "users/eve", "robot"] {
        assert!(!answer.to_string().contains(hidden), "{answer}");
    }

    // A server that does not exist for them is not named to who changes an upstream below it.
    let meta = json!({"owner": "users/bob@example.org", "visibility": "VISIBILITY_PRIVATE"});
    let bobs = json!({"server": {"name": "servers/bobs", "meta": meta, "tools": [{"match": "git/*"}]}});
    let given = upstream(json!({"meta": {"team": "teams/core", "visibility": "VISIBILITY_PUBLIC"}}));
    office.apply(json!([bobs, given])).await;
    let off = upstream(
        json!({"meta": {"team": "teams/core", "visibility": "VISIBILITY_PUBLIC"}, "disabled": true}),
    );
    let answer = office.asked(&owner, json!([off])).await;
    assert!(!answer.to_string().contains("servers/bobs"), "{answer}");
    assert_eq!(lines(&answer), members.map(|who| format!("{who} servers/dev +[] -[{BOTH}]")));
}
