//! What is allowed, and why, over a socket and on both databases: decisions by what edges are sent, and who may ask about whom.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/api.rs"]
mod api;

use access::method::Methods;
use api::Api;
use database::Database;
use http::StatusCode;
use mcp::method::{Form, Method, Sender};
use serde_json::{Value, json};

suite! {
    a_token_is_decided_about_by_what_edges_are_sent,
    a_person_is_decided_about_by_their_teams,
    about_others_ask_those_who_may,
    what_does_not_exist_for_who_asks_is_told_of_nobody,
    a_rule_that_does_not_exist_for_who_asks_is_told_by_what_it_does,
    who_can_is_told_page_by_page,
}

const POLICY: &str = "policy.v1.PolicyService";
const TOKENS: &str = "identity.v1.TokenService";
const TEAMS: &str = "identity.v1.TeamService";
const ACCOUNTS: &str = "identity.v1.ServiceAccountService";

/// A server `dev` with the tools `git_read` and `git_write`, a team `core`, and service accounts with keys.
struct Office {
    api: Api,
}

impl Office {
    async fn open(database: &Database) -> Self {
        let url = database.url().to_owned();
        let api = Api::start_with(|config| config.database_url = Some(url.into())).await;
        let office = Self { api };
        office.api.upstream("git").await;
        let public = json!({"upstream": {"name": "upstreams/git", "meta": {"visibility": "VISIBILITY_PUBLIC"}},
            "updateMask": "meta.visibility"});
        office.api.ok("registry.v1.UpstreamService/UpdateUpstream", public).await;
        for tool in ["read", "write"] {
            office.api.tool("git", tool).await;
        }
        office.api.ok(&format!("{TEAMS}/CreateTeam"), json!({"teamId": "core", "team": {}})).await;
        office
            .api
            .server("dev", json!({"tools": [{"match": "git/*"}], "meta": {"team": "teams/core"}}))
            .await;
        office
    }

    async fn token(&self, id: &str, token: Value) {
        self.api.ok(&format!("{TOKENS}/CreateToken"), json!({"tokenId": id, "token": token})).await;
    }

    /// A service account with a role everywhere, or none. Answers the `authorization` of a key of it.
    async fn account(&self, id: &str, role: Option<&str>) -> String {
        let bindings: Vec<Value> = role.map(|role| json!({"role": role})).into_iter().collect();
        let account = json!({"serviceAccountId": id, "serviceAccount": {"bindings": bindings}});
        self.api.ok(&format!("{ACCOUNTS}/CreateServiceAccount"), account).await;
        let parent = json!({"parent": format!("serviceAccounts/{id}")});
        let key = self.api.ok(&format!("{ACCOUNTS}/CreateApiKey"), parent).await;
        format!("Bearer {}", key["secret"].as_str().unwrap())
    }

    async fn join(&self, team: &str, who: &str, role: &str) {
        let member = json!({"team": format!("teams/{team}"), "member": {"principal": who, "role": role}});
        self.api.ok(&format!("{TEAMS}/AddMember"), member).await;
    }

    fn admin(&self) -> String {
        format!("Bearer {}", self.api.admin)
    }

    /// The decision, once it is by a revision that has all that was written.
    async fn decision(&self, asker: &str, request: Value) -> Value {
        let written = self.revision().await;
        for _ in 0..600 {
            let (status, answer) =
                self.api.raw_as(asker, &format!("{POLICY}/ExplainAccess"), &request.to_string()).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            let decision = answer["decision"].clone();
            if decision["revision"].as_str().unwrap().parse::<i64>().unwrap() >= written {
                return decision;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("revision {written} was not published");
    }

    /// The revision that the registry has.
    async fn revision(&self) -> i64 {
        let (_, server) = self
            .api
            .raw(
                "registry.v1.ServerService/UpdateServer",
                &json!({"server": {"name": "servers/dev", "title": uuid::Uuid::new_v4().to_string()}})
                    .to_string(),
            )
            .await;
        server["server"]["meta"]["revision"].as_str().unwrap().parse().unwrap()
    }

    async fn refused(&self, asker: &str, method: &str, request: Value) -> (StatusCode, Value) {
        let (status, answer) =
            self.api.raw_as(asker, &format!("{POLICY}/{method}"), &request.to_string()).await;
        assert_ne!(status, StatusCode::OK, "{answer}");
        (status, answer)
    }
}

fn call(principal: &str, tool: &str) -> Value {
    json!({"principal": principal, "server": "servers/dev", "target": tool})
}

fn reason(decision: &Value) -> String {
    match decision["allowed"] == true {
        true => "allowed".to_owned(),
        false => decision["reason"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn the_methods_that_conditions_know_are_those_that_clients_send() {
    let of_clients = |method: &&Method| method.form() == Form::Request && method.sender() != Sender::Server;
    let mut sent: Vec<_> = Method::ALL.iter().filter(of_clients).map(|method| method.as_str()).collect();
    let mut known = Methods::KNOWN.to_vec();
    sent.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, sent);
}

async fn a_token_is_decided_about_by_what_edges_are_sent(database: Database) {
    let office = Office::open(&database).await;
    let conditions = json!({"from": ["10.0.0.0/8"], "windows": ["Mon-Fri 08:00-18:00 Europe/Berlin"], "rates": ["5/s"], "methods": ["tools/*"]});
    let scope = json!({"servers": ["servers/dev"], "tools": ["git_read"]});
    office.token("ci", json!({"scope": scope, "conditions": conditions})).await;
    let friday = json!({"from": "10.1.2.3", "time": "2026-12-04T09:00:00Z"});
    let ask = |tool: &str, more: Value| {
        let mut request = call("tokens/ci", tool);
        for part in [&friday, &more] {
            request.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        request
    };
    let admin = office.admin();
    let allowed = office.decision(&admin, ask("git_read", json!({}))).await;
    assert_eq!(allowed["text"], "tokens/ci may use git_read at servers/dev");
    assert_eq!((reason(&allowed), &allowed["limits"]), ("allowed".to_owned(), &json!(["5/s"])));
    let fields: Vec<_> = allowed["grounds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ground| ground["field"].as_str().unwrap())
        .collect();
    let looked_at = [
        "conditions.from[0]",
        "conditions.windows[0]",
        "conditions.methods[0]",
        "scope.servers[0]",
        "tools",
        "scope.tools[0]",
    ];
    assert_eq!(fields, looked_at);

    let saturday = office.decision(&admin, ask("git_read", json!({"time": "2026-12-05T09:00:00Z"}))).await;
    assert_eq!(reason(&saturday), "outside_time_window");
    assert_eq!(
        saturday["remedies"],
        json!([{"resource": "tokens/ci", "field": "conditions.windows[0]", "change": "replace it with Mon-Sat 08:00-18:00 Europe/Berlin",
            "command": "mcpctl update token ci --window 'Mon-Sat 08:00-18:00 Europe/Berlin'"}])
    );
    let last = saturday["grounds"].as_array().unwrap().last().unwrap();
    assert_eq!(
        last,
        &json!({"resource": "tokens/ci", "field": "conditions.windows[0]", "text": "Mon-Fri 08:00-18:00 Europe/Berlin", "note": "Sat 10:00"})
    );
    for (tool, more, expected) in [
        ("git_write", json!({}), "target_not_granted"),
        ("git_gone", json!({}), "unknown_target"),
        ("git_read", json!({"from": "192.0.2.1"}), "address_not_allowed"),
        ("git_read", json!({"from": ""}), "address_not_allowed"),
        ("git_read", json!({"from": "::ffff:10.9.9.9"}), "allowed"),
        ("git_read", json!({"server": "servers/gone"}), "unknown_server"),
        ("", json!({"method": "tools/list"}), "allowed"),
        ("", json!({"method": "prompts/list"}), "method_not_granted"),
        ("git_read", json!({"principal": "tokens/gone"}), "unknown_principal"),
    ] {
        assert_eq!(
            reason(&office.decision(&admin, ask(tool, more.clone())).await),
            expected,
            "{tool} {more}"
        );
    }
    office.api.ok(&format!("{TOKENS}/RevokeToken"), json!({"name": "tokens/ci"})).await;
    let revoked = office.decision(&admin, ask("git_read", json!({}))).await;
    assert_eq!((reason(&revoked), revoked.get("remedies")), ("revoked".to_owned(), None));

    for (request, expected) in [
        (
            json!({"server": "servers/dev", "target": "x"}),
            "principal is required: the administrator's bearer calls no servers",
        ),
        (
            call("laptop", "x"),
            "principal must be `tokens/{token}`, `users/{user}` or `serviceAccounts/{service_account}`",
        ),
        (
            json!({"principal": "tokens/ci", "server": "servers/dev"}),
            "target is required: tools/call names a tool, a prompt or a URI",
        ),
        (ask("x", json!({"method": "tools/list"})), "target must be empty: tools/list names nothing"),
        (
            ask("x", json!({"method": "tool/call"})),
            "method \"tool/call\" is no method of MCP; did you mean tools/call?",
        ),
        (ask("x", json!({"from": "10.0.0.0/8"})), "from must be an address such as 10.1.2.3"),
    ] {
        let (status, answer) = office.refused(&admin, "ExplainAccess", request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer["message"].as_str().unwrap().contains(expected), "{answer}");
    }
}

async fn a_person_is_decided_about_by_their_teams(database: Database) {
    let office = Office::open(&database).await;
    let (admin, bot) = (office.admin(), office.account("bot", Some("roles/viewer")).await);
    let ask = || call("serviceAccounts/bot", "git_read");
    let alone = office.decision(&admin, ask()).await;
    assert_eq!(reason(&alone), "server_not_granted");
    assert_eq!(alone["remedies"][0]["command"], "mcpctl add member core serviceAccounts/bot");
    office.join("core", "serviceAccounts/bot", "").await;
    let member = office.decision(&admin, ask()).await;
    assert_eq!(reason(&member), "allowed");
    assert_eq!(member["grounds"].as_array().unwrap().last().unwrap()["resource"], "teams/core");
    let own = office.decision(&bot, json!({"server": "servers/dev", "target": "git_read"})).await;
    assert_eq!((reason(&own), &own["grounds"]), ("allowed".to_owned(), &member["grounds"]));

    let scope =
        json!({"team": {"name": "teams/core", "scope": {"tools": ["git_write"]}}, "updateMask": "scope"});
    office.api.ok(&format!("{TEAMS}/UpdateTeam"), scope).await;
    let narrowed = office.decision(&admin, ask()).await;
    assert_eq!(reason(&narrowed), "target_not_granted");
    let remove = json!({"team": "teams/core", "principal": "serviceAccounts/bot"});
    office.api.ok(&format!("{TEAMS}/RemoveMember"), remove).await;
    assert_eq!(reason(&office.decision(&admin, ask()).await), "server_not_granted");
    let disable = json!({"serviceAccount": {"name": "serviceAccounts/bot", "disabled": true}, "updateMask": "disabled"});
    office.api.ok(&format!("{ACCOUNTS}/UpdateServiceAccount"), disable).await;
    assert_eq!(reason(&office.decision(&admin, ask()).await), "unknown_principal");
}

async fn about_others_ask_those_who_may(database: Database) {
    let office = Office::open(&database).await;
    office.token("ci", json!({"scope": {"servers": ["servers/dev"], "tools": ["*"]}})).await;
    let (auditor, viewer) = (
        office.account("audit", Some("roles/auditor")).await,
        office.account("view", Some("roles/viewer")).await,
    );
    office.account("other", None).await;
    assert_eq!(reason(&office.decision(&auditor, call("tokens/ci", "git_read")).await), "allowed");
    assert_eq!(
        reason(&office.decision(&auditor, call("serviceAccounts/other", "git_read")).await),
        "server_not_granted"
    );
    // Whether there is such a token, or such a person, makes no difference.
    for who in ["tokens/ci", "tokens/gone", "serviceAccounts/other", "users/nobody@example.org"] {
        let (status, answer) = office.refused(&viewer, "ExplainAccess", call(who, "git_read")).await;
        assert_eq!(
            (status, answer["message"].as_str().unwrap()),
            (StatusCode::FORBIDDEN, "this takes access.explain, which the caller does not have")
        );
    }
    let (status, _) =
        office.refused(&viewer, "WhoCan", json!({"server": "servers/dev", "target": "git_read"})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        reason(&office.decision(&viewer, call("", "git_read")).await),
        "unknown_server",
        "about oneself, but not what one does not see"
    );
}

/// A name that no answer may hold.
const CANARY: &str = "canary";

async fn what_does_not_exist_for_who_asks_is_told_of_nobody(database: Database) {
    let office = Office::open(&database).await;
    office.api.ok(&format!("{TEAMS}/CreateTeam"), json!({"teamId": CANARY, "team": {}})).await;
    office
        .api
        .server(
            &format!("{CANARY}-server"),
            json!({"tools": [{"match": "git/*"}], "meta": {"team": format!("teams/{CANARY}")}}),
        )
        .await;
    office
        .token(&format!("{CANARY}-token"), json!({"scope": {"servers": ["servers/dev"], "tools": ["*"]}}))
        .await;
    // A team owner explains, and sees no more than their team.
    let owner = office.account("owner", None).await;
    office.join("core", "serviceAccounts/owner", "roles/team-owner").await;
    office.account("mate", None).await;
    office.join("core", "serviceAccounts/mate", "").await;
    office.join(CANARY, "serviceAccounts/mate", "").await;
    office.account("stranger", None).await;
    office.join(CANARY, "serviceAccounts/stranger", "").await;

    let unknown =
        |decision: &Value| (reason(decision), decision["text"].as_str().unwrap().replace(CANARY, "x"));
    for (asked, absent) in [
        (
            json!({"principal": "serviceAccounts/mate", "server": format!("servers/{CANARY}-server"), "target": "git_read"}),
            json!({"principal": "serviceAccounts/mate", "server": "servers/x-server", "target": "git_read"}),
        ),
        (call(&format!("tokens/{CANARY}-token"), "git_read"), call("tokens/x-token", "git_read")),
    ] {
        let (hidden, none) = (office.decision(&owner, asked).await, office.decision(&owner, absent).await);
        assert_eq!(unknown(&hidden), unknown(&none));
        assert_eq!(hidden["grounds"].as_array().map(Vec::len), none["grounds"].as_array().map(Vec::len));
        assert_eq!(hidden.get("remedies"), None);
    }
    assert_eq!(
        reason(&office.decision(&owner, call("serviceAccounts/stranger", "git_read")).await),
        "unknown_principal"
    );
    let mate = office.decision(&owner, call("serviceAccounts/mate", "git_read")).await;
    assert_eq!(reason(&mate), "allowed");
    assert!(!mate.to_string().contains(CANARY), "{mate}");
    let (_, holders) = office
        .api
        .raw_as(
            &owner,
            &format!("{POLICY}/WhoCan"),
            &json!({"server": "servers/dev", "target": "git_read"}).to_string(),
        )
        .await;
    assert!(!holders.to_string().contains(CANARY), "{holders}");
    let names: Vec<_> = holders["holders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|holder| holder["principal"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["serviceAccounts/mate", "serviceAccounts/owner"]);
    let (status, _) = office
        .refused(
            &owner,
            "WhoCan",
            json!({"server": format!("servers/{CANARY}-server"), "target": "git_read"}),
        )
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let everything =
        office.decision(&office.admin(), call(&format!("tokens/{CANARY}-token"), "git_read")).await;
    assert_eq!(reason(&everything), "allowed", "and it is there");
}

async fn a_rule_that_does_not_exist_for_who_asks_is_told_by_what_it_does(database: Database) {
    let office = Office::open(&database).await;
    let guests = json!({"teamId": "guests", "team": {"scope": {"servers": ["servers/dev"], "tools": ["*"]}}});
    office.api.ok(&format!("{TEAMS}/CreateTeam"), guests).await;
    let guest = office.account("guest", None).await;
    office.join("guests", "serviceAccounts/guest", "").await;
    let lan = json!({"id": "lan", "effect": "deny", "when": "source.ip.inRange('10.0.0.0/8')"});
    let emails = json!({"id": "emails", "effect": "mask", "fields": ["email"]});
    let update =
        |rules: Value| json!({"server": {"name": "servers/dev", "rules": rules}, "updateMask": "rules"});
    office.api.ok("registry.v1.ServerService/UpdateServer", update(json!([lan, emails]))).await;
    let told = async |from: &str| {
        let mut request = call("", "git_read");
        request["from"] = from.into();
        let decision = office.decision(&guest, request).await;
        let of_rules =
            decision["grounds"].as_array().unwrap().iter().filter(|ground| ground["field"] == "rules");
        let words = |ground: &Value| {
            assert_eq!(ground["text"], "a rule that does not exist for you");
            let note = ground["note"].as_str().unwrap_or_default();
            format!("{} {note}", if ground["holds"] == true { "holds" } else { "refuses" })
        };
        assert!(
            !decision.to_string().contains("lan") && !decision.to_string().contains("email"),
            "{decision}"
        );
        (reason(&decision), of_rules.map(words).collect::<Vec<_>>())
    };
    let masks = "holds masks some of the result".to_owned();
    let depends = "holds it depends on what the request brings".to_owned();
    assert_eq!(told("").await, ("allowed".to_owned(), vec![depends, masks.clone()]));
    assert_eq!(told("192.0.2.1").await, ("allowed".to_owned(), vec!["holds ".to_owned(), masks]));
}

async fn who_can_is_told_page_by_page(database: Database) {
    let office = Office::open(&database).await;
    let scope = json!({"servers": ["servers/dev"], "tools": ["git_*"]});
    office.token("b", json!({"scope": scope, "conditions": {"from": ["10.0.0.0/8"], "windows": ["daily 00:00-00:01 UTC"], "quotas": ["5/hour"]}})).await;
    office.token("a", json!({"scope": scope})).await;
    office.token("c", json!({"scope": {"servers": ["servers/dev"], "tools": ["other"]}})).await;
    office.token("d", json!({"scope": scope, "conditions": {"methods": ["resources/*"]}})).await;
    for id in ["two", "one", "none"] {
        office.account(id, None).await;
    }
    office.join("core", "serviceAccounts/one", "").await;
    office.join("core", "serviceAccounts/two", "roles/team-owner").await;
    office.account("root", Some("roles/administrator")).await;
    let admin = office.admin();
    office.decision(&admin, call("tokens/a", "git_read")).await;

    let expected = [
        json!({"principal": "tokens/a", "through": "tokens/a"}),
        json!({"principal": "tokens/b", "through": "tokens/b", "conditions": ["from 10.0.0.0/8", "daily 00:00-00:01 UTC", "5/hour"]}),
        json!({"principal": "serviceAccounts/one", "through": "teams/core as developer"}),
        json!({"principal": "serviceAccounts/root", "through": "roles/administrator"}),
        json!({"principal": "serviceAccounts/two", "through": "teams/core as team-owner"}),
    ];
    for size in [1, 2, 5, 0] {
        let (mut holders, mut token) = (Vec::new(), String::new());
        loop {
            let request =
                json!({"server": "servers/dev", "target": "git_read", "pageSize": size, "pageToken": token});
            let (status, page) =
                office.api.raw_as(&admin, &format!("{POLICY}/WhoCan"), &request.to_string()).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            holders.extend(page["holders"].as_array().cloned().unwrap_or_default());
            match page["nextPageToken"].as_str().filter(|token| !token.is_empty()) {
                Some(next) => next.clone_into(&mut token),
                None => break,
            }
        }
        assert_eq!(holders, expected, "in pages of {size}");
    }
    let first = json!({"server": "servers/dev", "target": "git_read", "pageSize": 1});
    let (_, page) = office.api.raw_as(&admin, &format!("{POLICY}/WhoCan"), &first.to_string()).await;
    let other = json!({"server": "servers/dev", "target": "git_write", "pageToken": page["nextPageToken"]});
    let (status, _) = office.refused(&admin, "WhoCan", other).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a page of another question");
    let (status, answer) =
        office.refused(&admin, "WhoCan", json!({"server": "servers/dev", "target": "gone"})).await;
    assert_eq!(
        (status, answer["message"].as_str().unwrap()),
        (StatusCode::NOT_FOUND, "servers/dev exposes no gone")
    );
}
