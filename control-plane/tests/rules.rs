//! Rules of servers and teams over a socket and on both databases: what is refused when they are written, and what is decided by them.
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
    what_cannot_be_meant_is_refused_where_it_stands,
    a_schema_that_changes_degrades_the_server_and_edits_go_on,
    rules_of_a_server_and_its_team_decide,
    what_is_not_given_is_left_open_and_what_is_given_is_used,
    a_schema_that_breaks_a_rule_of_a_team_degrades_its_servers,
    a_rule_of_a_team_holds_whatever_its_servers_name_and_say,
}

const SERVERS: &str = "registry.v1.ServerService";
const TEAMS: &str = "identity.v1.TeamService";

fn definition(own: &str, properties: &Value) -> Value {
    let schema = json!({"type": "object", "properties": properties});
    json!({"name": own, "inputSchema": schema})
}

/// A team `core` and its server `dev` with the tools `git_read`, which has a `path` and a `mode`, and `git_write`, which has a `path`.
async fn open(database: &Database) -> Api {
    let url = database.url().to_owned();
    let api = Api::start_with(|config| config.database_url = Some(url.into())).await;
    api.upstream("git").await;
    let (path, mode) = (json!({"type": "string"}), json!({"enum": ["r", "b"]}));
    for (own, properties) in [("read", json!({"path": path, "mode": mode})), ("write", json!({"path": path}))]
    {
        let definition = definition(own, &properties).to_string();
        let body = json!({"parent": "upstreams/git", "toolId": own, "tool": {"definitionJson": definition}});
        api.ok("registry.v1.ToolService/CreateTool", body).await;
    }
    let public = json!({"upstream": {"name": "upstreams/git", "meta": {"visibility": "VISIBILITY_PUBLIC"}},
        "updateMask": "meta.visibility"});
    api.ok("registry.v1.UpstreamService/UpdateUpstream", public).await;
    api.ok(&format!("{TEAMS}/CreateTeam"), json!({"teamId": "core", "team": {}})).await;
    api.server("dev", json!({"tools": [{"match": "git/*"}], "meta": {"team": "teams/core"}})).await;
    api
}

/// Calls a method. Returns the answer as it is, the status of resources included.
async fn whole(api: &Api, method: &str, body: Value) -> Value {
    let (status, answer) = api.raw(method, &body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

fn update(rules: &Value) -> Value {
    json!({"server": {"name": "servers/dev", "rules": rules}, "updateMask": "rules"})
}

fn violation(error: &Value) -> (String, String) {
    let told = &error["details"][1]["fieldViolations"][0];
    let text = |field: &str| told[field].as_str().unwrap_or_default().to_owned();
    (text("field"), text("description"))
}

async fn what_cannot_be_meant_is_refused_where_it_stands(database: Database) {
    let api = open(&database).await;
    let rule = |when: &str| json!({"id": "a", "effect": "RULE_EFFECT_DENY", "when": when});
    let of = |tools: &[&str], when: &str| json!({"id": "a", "effect": "RULE_EFFECT_DENY", "when": when, "tools": tools});
    for (rules, field, text) in [
        (json!([rule(""), rule("")]), "rules[1].id", "repeats `a`; each rule has its own"),
        (json!([{"id": "a"}]), "rules[0].effect", "must be "),
        (json!([rule("args.path = 1")]), "rules[0].when", "line 1, column 11: = is no operator; write =="),
        (
            json!([rule("true\n  && arg.path == 'x'")]),
            "rules[0].when",
            "line 2, column 6: there is no \"arg\"; did you mean args?",
        ),
        (
            json!([rule("args.path.matches('x')")]),
            "rules[0].when",
            "line 1, column 11: matches is not supported; ",
        ),
        (
            json!([rule("args.file == 'x'")]),
            "rules[0].when",
            "line 1, column 6: tool git_read has no argument file; it has mode, path",
        ),
        (
            json!([rule("args.mode == 'r'")]),
            "rules[0].when",
            "line 1, column 6: tool git_write has no argument mode; it has path",
        ),
        (
            json!([of(&["git_read"], "args.mode == 'x'")]),
            "rules[0].when",
            "line 1, column 11: this is always false: it is one of \"r\", \"b\" (tool git_read)",
        ),
        (
            json!([rule("args.path == 5")]),
            "rules[0].when",
            "line 1, column 11: this is always false: a string is never a number (tool git_read)",
        ),
        (
            json!([rule("has(args.file)")]),
            "rules[0].when",
            "line 1, column 1: tool git_read has no argument file; it has mode, path",
        ),
        (
            json!([rule("caller.name == 'users/bob@example.org'")]),
            "rules[0].when",
            "line 1, column 13: this is always false: the name of who calls has no /; write \"bob@example.org\"",
        ),
        (
            json!([rule("'teams/core' in caller.teams")]),
            "rules[0].when",
            "line 1, column 1: this is always false: the id of a team has no /; write \"core\"",
        ),
        (
            json!([rule("method == 'tool/call'")]),
            "rules[0].when",
            "line 1, column 8: this is always false: it is one of \"tools/call\", ",
        ),
        (
            json!([rule("now.getDayOfWeek('Europe/Berlin') in [6, 7]")]),
            "rules[0].when",
            "line 1, column 42: this is never so: it is 0 (Sunday) to 6 (Saturday)",
        ),
        (
            json!([rule("now.getHours('Europe/Berlin') > 24")]),
            "rules[0].when",
            "line 1, column 31: this is always false: it is 0 to 23",
        ),
        (json!([rule("false")]), "rules[0].when", "line 1, column 1: this is always false, "),
        (
            json!([{"id": "a", "effect": "RULE_EFFECT_ALLOW", "methods": ["tools/list"]}]),
            "rules[0].methods[0]",
            "tools/list names nothing ",
        ),
    ] {
        let error = api.fails(&format!("{SERVERS}/UpdateServer"), update(&rules)).await;
        let (found, told) = violation(&error);
        assert_eq!(found, format!("server.{field}"), "{error}");
        assert!(told.starts_with(text), "{told}");
    }
    for effect in ["RULE_EFFECT_HIDE", "hide", "RULE_EFFECT_UNSPECIFIED"] {
        let rules = json!([{"id": "a", "effect": effect}]);
        let (status, answer) = api.raw(&format!("{SERVERS}/UpdateServer"), &update(&rules).to_string()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    let fine = json!([of(&["git_read"], "args.mode == 'r'"), {"id": "b", "effect": "allow", "when": "!has(args.mode) || args.mode == 'r'"}]);
    let server = whole(&api, &format!("{SERVERS}/UpdateServer"), update(&fine)).await;
    assert!(!server["server"]["status"].to_string().contains("rules["), "{server}");
    let nothing = json!([of(&["other_*"], "args.whatever == 1")]);
    let server = whole(&api, &format!("{SERVERS}/UpdateServer"), update(&nothing)).await;
    assert_eq!(server["server"]["status"]["idleRules"], json!(["a"]), "{server}");
    // What an upstream does not have yet it may have later.
    let misspelt = json!([rule("tool.name == 'git_raed'"), {"id": "b", "effect": "deny", "when": "tool.name == 'git_read' && caller.kind == 'user'"}]);
    let server = whole(&api, &format!("{SERVERS}/UpdateServer"), update(&misspelt)).await;
    assert_eq!(server["server"]["status"]["idleRules"], json!(["a"]), "{server}");
    let team =
        json!({"team": {"name": "teams/core", "rules": [rule("args.path = 1")]}, "updateMask": "rules"});
    let error = api.fails(&format!("{TEAMS}/UpdateTeam"), team).await;
    assert_eq!(violation(&error).0, "team.rules[0].when", "{error}");
    let team =
        json!({"team": {"name": "teams/core", "rules": [rule("args.mode == 'r'")]}, "updateMask": "rules"});
    let error = api.fails(&format!("{TEAMS}/UpdateTeam"), team).await;
    let why = "line 1, column 6: tool git_write has no argument mode; it has path (at servers/dev)";
    assert_eq!(violation(&error), ("team.rules[0].when".to_owned(), why.to_owned()));
}

async fn a_schema_that_changes_degrades_the_server_and_edits_go_on(database: Database) {
    let api = open(&database).await;
    let rules = json!([{"id": "srv", "effect": "allow", "when": "args.path.startsWith('/srv/')"}]);
    api.ok(&format!("{SERVERS}/UpdateServer"), update(&rules)).await;
    let changed = definition("write", &json!({"file": {"type": "string"}})).to_string();
    let tool = json!({"tool": {"name": "upstreams/git/tools/write", "definitionJson": changed}, "updateMask": "definitionJson"});
    api.ok("registry.v1.ToolService/UpdateTool", tool).await;
    let server = whole(&api, &format!("{SERVERS}/GetServer"), json!({"name": "servers/dev"})).await;
    let status = &server["server"]["status"];
    assert_eq!(status["state"], "SERVER_STATE_DEGRADED", "{server}");
    // Beside that nobody answers at the address of the upstream.
    let why = "rules[0].when: line 1, column 6: tool git_write has no argument path; it has file";
    assert!(status["reason"].as_str().unwrap().ends_with(why), "{server}");
    // What broke by itself does not stand in the way, and what an edit adds is told.
    let title = json!({"server": {"name": "servers/dev", "title": "Dev"}, "updateMask": "title"});
    api.ok(&format!("{SERVERS}/UpdateServer"), title).await;
    let more = json!([rules[0], {"id": "etc", "effect": "deny", "when": "args.path == '/etc'"}]);
    let error = api.fails(&format!("{SERVERS}/UpdateServer"), update(&more)).await;
    assert_eq!(violation(&error).0, "server.rules[1].when", "{error}");
}

/// The decision, once it is by these rules: their effect is waited for.
async fn decided(api: &Api, arguments: Option<&str>, expected: &str) -> Value {
    let mut request = json!({"principal": "tokens/ci", "server": "servers/dev", "target": "git_write"});
    if let Some(arguments) = arguments {
        request["argumentsJson"] = arguments.into();
        request["hasArguments"] = true.into();
    }
    let mut last = Value::Null;
    for _ in 0..600 {
        let answer = api.ok("policy.v1.PolicyService/ExplainAccess", request.clone()).await;
        last = answer["decision"].clone();
        let depends = ["dependsOnArguments", "dependsOnAddress"].iter().any(|field| last[*field] == true);
        let found = match (last["allowed"] == true, depends) {
            (true, true) => "depends",
            (true, false) => "allowed",
            _ => last["reason"].as_str().unwrap_or_default(),
        };
        if found == expected {
            return last;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{expected} did not come, but {last}");
}

/// Waits until decisions are by this revision.
async fn in_force(api: &Api, revision: i64) {
    let request = json!({"principal": "tokens/ci", "server": "servers/dev", "target": "git_write"});
    for _ in 0..600 {
        let answer = whole(api, "policy.v1.PolicyService/ExplainAccess", request.clone()).await;
        if answer["decision"]["revision"].as_str().unwrap().parse::<i64>().unwrap() >= revision {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("revision {revision} did not come");
}

async fn rules_of_a_server_and_its_team_decide(database: Database) {
    let api = open(&database).await;
    let scope = json!({"servers": ["servers/dev"], "tools": ["*"]});
    api.ok("identity.v1.TokenService/CreateToken", json!({"tokenId": "ci", "token": {"scope": scope}})).await;
    decided(&api, None, "allowed").await;
    let rules = json!([{"id": "srv", "effect": "allow", "when": "args.path.startsWith('/srv/')", "reason": "below /srv"}]);
    api.ok(&format!("{SERVERS}/UpdateServer"), update(&rules)).await;
    decided(&api, None, "depends").await;
    decided(&api, Some(r#"{"path":"/srv/a"}"#), "allowed").await;
    let refused = decided(&api, Some(r#"{"path":"/etc"}"#), "denied_by_rule").await;
    assert_eq!(
        refused["grounds"].as_array().unwrap().last().unwrap(),
        &json!({"resource": "servers/dev", "field": "rules[0]", "text": "allow srv when args.path.startsWith('/srv/')", "note": "below /srv"})
    );
    assert_eq!(refused["remedies"][0]["command"], "mcpctl edit server dev");
    for arguments in ["", "null", "[]", r#"{"path":"/srv/a","path":"/etc"}"#, r#"{"Path":"/srv/a"}"#] {
        decided(&api, Some(arguments), "policy_error").await;
    }
    let holders = json!({"server": "servers/dev", "target": "git_write"});
    let holders = api.ok("policy.v1.PolicyService/WhoCan", holders).await;
    assert_eq!(holders["holders"][0]["conditions"], json!(["rule srv of servers/dev"]), "{holders}");
    let team = |rules: Value| json!({"team": {"name": "teams/core", "rules": rules}, "updateMask": "rules"});
    let all = json!([{"id": "closed", "effect": "deny", "when": "caller.kind == 'token'"}]);
    api.ok(&format!("{TEAMS}/UpdateTeam"), team(all)).await;
    let refused = decided(&api, Some(r#"{"path":"/srv/a"}"#), "denied_by_rule").await;
    assert_eq!(refused["grounds"].as_array().unwrap().last().unwrap()["resource"], "teams/core");
    let holders = json!({"server": "servers/dev", "target": "git_write"});
    let holders = api.ok("policy.v1.PolicyService/WhoCan", holders).await;
    assert!(!holders.to_string().contains("tokens/ci"), "{holders}");
    api.ok(&format!("{TEAMS}/UpdateTeam"), team(json!([]))).await;
    decided(&api, Some(r#"{"path":"/srv/a"}"#), "allowed").await;
    for (arguments, has) in [("{", true), ("{}", false)] {
        let request = json!({"principal": "tokens/ci", "server": "servers/dev", "target": "git_write", "argumentsJson": arguments, "hasArguments": has});
        api.fails("policy.v1.PolicyService/ExplainAccess", request).await;
    }
}

async fn a_schema_that_breaks_a_rule_of_a_team_degrades_its_servers(database: Database) {
    let api = open(&database).await;
    let rules = json!([{"id": "srv", "effect": "deny", "tools": ["git/write"], "when": "args.path.startsWith('/etc/')"}]);
    let team = json!({"team": {"name": "teams/core", "rules": rules}, "updateMask": "rules"});
    api.ok(&format!("{TEAMS}/UpdateTeam"), team.clone()).await;
    let reason = async || {
        let server = whole(&api, &format!("{SERVERS}/GetServer"), json!({"name": "servers/dev"})).await;
        server["server"]["status"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert!(!reason().await.contains("rule"), "{}", reason().await);
    let changed = definition("write", &json!({"file": {"type": "string"}})).to_string();
    let tool = json!({"tool": {"name": "upstreams/git/tools/write", "definitionJson": changed}, "updateMask": "definitionJson"});
    api.ok("registry.v1.ToolService/UpdateTool", tool).await;
    let why =
        "the rule srv of teams/core: line 1, column 6: tool git_write has no argument path; it has file";
    assert!(reason().await.ends_with(why), "{}", reason().await);
    // It does not stand in the way of edits, and is gone with the rule.
    let title = json!({"server": {"name": "servers/dev", "title": "Dev"}, "updateMask": "title"});
    api.ok(&format!("{SERVERS}/UpdateServer"), title).await;
    let none = json!({"team": {"name": "teams/core", "rules": []}, "updateMask": "rules"});
    api.ok(&format!("{TEAMS}/UpdateTeam"), none).await;
    assert!(!reason().await.contains("rule"), "{}", reason().await);
}

async fn a_rule_of_a_team_holds_whatever_its_servers_name_and_say(database: Database) {
    let api = open(&database).await;
    let scope = json!({"servers": ["servers/dev"], "tools": ["*"]});
    api.ok("identity.v1.TokenService/CreateToken", json!({"tokenId": "ci", "token": {"scope": scope}})).await;
    // A tool that reads is exposed under the name of the one that writes.
    let tools = json!([{"match": "git/read", "alias": "git_write", "hints": {"readOnly": true, "destructive": false}}]);
    let server = json!({"server": {"name": "servers/dev", "tools": tools}, "updateMask": "tools"});
    api.ok(&format!("{SERVERS}/UpdateServer"), server).await;
    decided(&api, None, "allowed").await;
    for (rule, expected) in [
        (json!({"tools": ["git/read"]}), "denied_by_rule"),
        (json!({"tools": ["git/write"]}), "allowed"),
        (json!({"tools": ["*/re*"]}), "denied_by_rule"),
        (json!({"tools": ["other/*"]}), "allowed"),
        (json!({"when": "tool.destructive"}), "denied_by_rule"),
        (json!({"when": "tool.read_only"}), "allowed"),
        (json!({"when": "!tool.read_only"}), "denied_by_rule"),
    ] {
        let mut rule = rule;
        (rule["id"], rule["effect"]) = ("a".into(), "deny".into());
        let team = json!({"team": {"name": "teams/core", "rules": [rule]}, "updateMask": "rules"});
        api.ok(&format!("{TEAMS}/UpdateTeam"), team).await;
        decided(&api, None, expected).await;
    }
}

async fn what_is_not_given_is_left_open_and_what_is_given_is_used(database: Database) {
    let api = open(&database).await;
    let scope = json!({"servers": ["servers/dev"], "tools": ["*"]});
    api.ok("identity.v1.TokenService/CreateToken", json!({"tokenId": "ci", "token": {"scope": scope}})).await;
    decided(&api, None, "allowed").await;
    let rules = json!([
        {"id": "lan", "effect": "allow", "tools": ["git_write"], "when": "source.ip.inRange('10.0.0.0/8')"},
        {"id": "night", "effect": "deny", "tools": ["git_write"], "when": "now.getHours('UTC') < 6"},
        {"id": "etc", "effect": "deny", "tools": ["git_write"], "when": "args.path == '/etc'"},
    ]);
    let server = whole(&api, &format!("{SERVERS}/UpdateServer"), update(&rules)).await;
    in_force(&api, server["server"]["meta"]["revision"].as_str().unwrap().parse().unwrap()).await;
    let day = "2026-12-01T12:00:00Z";
    let ask = |fields: &[(&str, Value)]| {
        let mut request = json!({"server": "servers/dev", "target": "git_write"});
        for (field, value) in fields {
            request[*field] = value.clone();
        }
        request
    };
    let given = |from: &str| ("from", json!(from));
    let at = |time: &str| ("time", json!(time));
    let (arguments, has) = (("argumentsJson", json!(r#"{"path":"/srv"}"#)), ("hasArguments", json!(true)));
    // A decision: whether, by which reason, and what of arguments and address it depends on.
    for (fields, expected) in [
        (vec![at(day)], (true, "", true, true)),
        (vec![at(day), arguments.clone(), has.clone()], (true, "", false, true)),
        (vec![at(day), given("10.1.2.3")], (true, "", true, false)),
        (vec![at(day), given("10.1.2.3"), arguments.clone(), has.clone()], (true, "", false, false)),
        (vec![at(day), given("192.0.2.1")], (false, "denied_by_rule", false, false)),
        (vec![at("2026-12-01T03:00:00Z")], (false, "denied_by_rule", false, false)),
    ] {
        let mut request = ask(&fields);
        request["principal"] = "tokens/ci".into();
        let answer = api.ok("policy.v1.PolicyService/ExplainAccess", request).await;
        let decision = &answer["decision"];
        let found = (
            decision["allowed"] == true,
            decision["reason"].as_str().unwrap_or_default(),
            decision["dependsOnArguments"] == true,
            decision["dependsOnAddress"] == true,
        );
        assert_eq!(found, expected, "{fields:?} {answer}");
    }
    // Who can, and when.
    let [lan, night, etc] = ["lan", "night", "etc"].map(|id| format!("rule {id} of servers/dev"));
    for (fields, expected) in [
        (vec![], Some(vec![&lan, &night, &etc])),
        (vec![given("127.0.0.1")], None),
        (vec![given("10.1.2.3")], Some(vec![&night, &etc])),
        (vec![at(day)], Some(vec![&lan, &etc])),
        (vec![at("2026-12-01T03:00:00Z")], None),
        (vec![arguments.clone(), has.clone()], Some(vec![&lan, &night])),
        (vec![at(day), given("10.1.2.3"), arguments, has], Some(vec![])),
    ] {
        let answer = api.ok("policy.v1.PolicyService/WhoCan", ask(&fields)).await;
        let holders = answer["holders"].as_array().cloned().unwrap_or_default();
        let token = holders.iter().find(|holder| holder["principal"] == "tokens/ci");
        let conditions = token.map(|token| token["conditions"].as_array().cloned().unwrap_or_default());
        let expected = expected.map(|rules| rules.into_iter().map(|rule| json!(rule)).collect::<Vec<_>>());
        assert_eq!(conditions, expected, "{fields:?} {answer}");
    }
}
