//! What somebody meets who is new here: protection that would fall in silence, tokens that do not fit, and all that a developer does
//! without seeing edges or people.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::people::{PASSWORD, Person};
use crate::support::PATIENCE;
use crate::support::fake::{self, Fake, tool};
use crate::support::gateway::{Gateway, Store};
use crate::verbs::{json as get_json, told};

async fn ctl(gateway: &Gateway, line: &str) -> (String, String, i32) {
    told(&gateway.try_ctl(&line.split(' ').collect::<Vec<_>>()).await)
}

fn said(text: impl Into<String>, talk: impl Into<String>, code: i32) -> (String, String, i32) {
    (text.into(), talk.into(), code)
}

/// A server `dev` before an upstream whose tool says hello.
async fn with_server(store: Store) -> (Gateway, Fake) {
    let gateway = Gateway::start(store, 1).await;
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, request| {
        let body = r#"{"content":[{"type":"text","text":"hello"}]}"#;
        vec![fake::json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{body}}}"#, fake::id(request)))]
    })
    .await;
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool fake/*").await;
    (gateway, upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn protection_does_not_fall_in_silence() {
    let (gateway, _upstream) = with_server(Store::Sqlite).await;
    gateway
        .ctl_args(&[
            "create",
            "token",
            "t1",
            "--server",
            "dev",
            "--from",
            "10.0.0.0/8",
            "--window",
            "daily 08:00-18:00 UTC",
            "--no-save",
        ])
        .await;
    let lost = "- conditions.from: 10.0.0.0/8\n- conditions.windows: daily 08:00-18:00 UTC\n";
    let asked = "error: this lets tokens/t1 be used from everywhere, at any time, and nobody can be asked here; nothing was changed; \
                 add --yes to confirm\n";
    let cleared = ctl(&gateway, "update token t1 --clear conditions").await;
    assert_eq!(cleared, said("", format!("{lost}{asked}"), 2));
    let conditions = json!({ "from": ["10.0.0.0/8"], "windows": ["daily 08:00-18:00 UTC"] });
    assert_eq!(get_json(&gateway, "get token t1").await["conditions"], conditions);

    // A file of before, which says nothing of conditions.
    let file = "kind: Token\nname: t1\nscope: {servers: [servers/dev], tools: ['*'], resources: ['*'], prompts: ['*']}\n";
    std::fs::write(gateway.folder().join("t1.yaml"), file).unwrap();
    let warned = |when: &str| format!("warning: tokens/t1 may {when} be used from everywhere, at any time\n");
    let (_, talk, code) = ctl(&gateway, "apply -f t1.yaml --dry-run").await;
    assert!(talk.contains(&warned("then")) && code == 0, "{talk}");
    let (_, talk, code) = ctl(&gateway, "diff -f t1.yaml").await;
    assert!(talk.contains(&warned("then")) && code == 1, "{talk}");
    let (_, talk, code) = ctl(&gateway, "apply -f t1.yaml").await;
    assert!(talk.contains(&warned("now")) && code == 0, "{talk}");
    assert_eq!(get_json(&gateway, "get token t1").await["conditions"], Value::Null);
    let (_, talk, _) = ctl(&gateway, "apply -f t1.yaml").await;
    assert!(!talk.contains("warning"), "{talk}");
    gateway.ctl("update token t1 --quota 5/hour").await;
    let (_, talk, code) = ctl(&gateway, "update token t1 --clear conditions.quotas --yes").await;
    assert_eq!((talk.lines().next(), code), (Some("- conditions.quotas: 5/hour"), 0), "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_added_to_a_team_takes_nothing_away() {
    let (gateway, _upstream) = with_server(Store::Sqlite).await;
    gateway.ctl("create team core").await;
    let added = ctl(&gateway, "update team core --server dev").await;
    let fields = "  scope.prompts[0]: * (new)\n  scope.resources[0]: * (new)\n  scope.servers[0]: servers/dev (new)\n  \
                  scope.tools[0]: * (new)\n";
    assert_eq!(added, said("teams/core updated\n", fields, 0));
    // What has a scope already is changed as it is said.
    ctl(&gateway, "update team core --tool fake_*").await;
    let scope = get_json(&gateway, "get team core").await["scope"].clone();
    let expected =
        json!({ "servers": ["servers/dev"], "tools": ["fake_*"], "resources": ["*"], "prompts": ["*"] });
    assert_eq!(scope, expected);
    let file = "kind: Team\nname: core\nscope: {servers: [servers/dev]}\n";
    std::fs::write(gateway.folder().join("core.yaml"), file).unwrap();
    let (_, talk, code) = ctl(&gateway, "apply -f core.yaml --take-over").await;
    let warning = "warning: teams/core: its scope lists no tools, resources or prompts, so that its members may use nothing; * stands \
                   for all\n";
    assert!(talk.contains(warning) && code == 0, "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_a_condition_binds_is_chosen_by_name_alone() {
    let (gateway, _upstream) = with_server(Store::Sqlite).await;
    gateway.ctl("create token ci --server dev --from 192.0.2.0/24").await;
    gateway.ctl("create token laptop --server dev").await;
    // It was made first, and is passed over.
    let (shown, talk, code) = ctl(&gateway, "call dev fake_echo").await;
    assert_eq!((shown.as_str(), code), ("hello\n", 0), "{talk}");
    assert!(talk.contains("this token may not be used from this address (address_not_allowed); "), "{talk}");
    assert!(talk.starts_with("token ci: this token") && talk.contains("; trying token laptop\n"), "{talk}");
    let (_, talk, code) = ctl(&gateway, "call dev fake_echo --token ci").await;
    let edge = gateway.edge_address(0);
    assert!(
        talk.starts_with(&format!("error: the edge at http://{edge} refused token ci (saved in ")),
        "{talk}"
    );
    assert_eq!(code, 4);

    connects_with_the_next(&gateway).await;
    let (_, talk, _) = ctl(&gateway, "client-config dev --for cursor").await;
    assert!(talk.contains("config get-bearer laptop") && !talk.contains("warning"), "{talk}");
    let warning = "warning: token ci may be used only from 192.0.2.0/24; --token names another\n";
    let (_, talk, _) = ctl(&gateway, "client-config dev --for cursor --token ci").await;
    assert!(talk.starts_with(warning), "{talk}");
    // A host that runs `mcpctl connect` is told which it is, where that would take another one.
    let (shown, _, _) = ctl(&gateway, "client-config dev --for claude-desktop").await;
    assert!(shown.contains(r#""--token""#) && shown.contains(r#""laptop""#), "{shown}");
    gateway.ctl("config delete-bearer laptop --yes").await;
    let (_, talk, _) = ctl(&gateway, "client-config dev --for cursor").await;
    assert!(talk.starts_with(warning), "{talk}");
}

/// A host on stdio is served as `call` is.
async fn connects_with_the_next(gateway: &Gateway) {
    let mut host = gateway.spawn_ctl(&["connect", "dev"]);
    let mut input = host.stdin.take().unwrap();
    let params =
        r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}"#;
    let hello = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
    input.write_all(format!("{hello}\n").as_bytes()).await.unwrap();
    let mut answers = BufReader::new(host.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, answers.next_line()).await.unwrap().unwrap().unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert!(answer["result"].is_object(), "{answer}");
    drop(input);
    assert!(tokio::time::timeout(PATIENCE, host.wait()).await.unwrap().unwrap().success());
}

/// Somebody who develops in team `core`, and nothing else.
async fn developer<'a>(gateway: &'a Gateway, name: &str) -> Person<'a> {
    let link = gateway.ctl(&format!("create user {name}@example.org --team core")).await;
    let person = Person::new(gateway, name).await;
    person.ok(&format!("login --link {}", link.trim()), PASSWORD).await;
    person
}

async fn run(person: &Person<'_>, line: &str) -> (String, String, i32) {
    told(&person.run(&line.split(' ').collect::<Vec<_>>(), "").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developer_waits_for_edges_that_are_not_theirs_to_see() {
    let (gateway, upstream) = with_server(Store::Sqlite).await;
    gateway.ctl("create team core").await;
    let bob = developer(&gateway, "bob").await;
    bob.ok(&format!("create upstream own --url {} --team core", upstream.url()), "").await;
    bob.ok("create server lab --tool own/* --team core", "").await;
    let (_, talk, code) = run(&bob, "get edges").await;
    assert_eq!(code, 4, "{talk}");
    let file = "kind: Token\nname: cy\nmeta: {team: teams/core}\nscope: {servers: [servers/lab], tools: ['*'], resources: ['*'], prompts: ['*']}\n";
    std::fs::write(gateway.folder().join("cy.yaml"), file).unwrap();
    let (shown, talk, code) = run(&bob, "apply -f cy.yaml --wait --no-save").await;
    assert!(shown.starts_with("+ tokens/cy created\n") && code == 0, "{shown}{talk}");
    assert!(talk.lines().any(|line| line.starts_with("1 edge acknowledged after ")), "{talk}");
    assert_eq!(run(&bob, "wait token cy --for synced").await, said("tokens/cy synced\n", "", 0));
    let (shown, talk, code) = run(&bob, "revoke token cy --wait").await;
    assert_eq!((shown.as_str(), code), ("tokens/cy revoked\n", 0), "{talk}");
    assert!(!talk.contains("fleet.read"), "{talk}");
    let (_, talk, code) = run(&bob, "create token mine --server lab").await;
    assert!(code == 0 && !talk.contains("warning") && !talk.contains("fleet"), "{talk}");

    // Of everything, they get what is theirs to see.
    let (shown, talk, code) = run(&bob, "get all -o name").await;
    assert_eq!(
        (shown.as_str(), code),
        ("upstreams/own\nservers/lab\ntokens/cy\ntokens/mine\nteams/core\n", 0),
        "{talk}"
    );
    let (_, talk, code) = run(&bob, "doctor").await;
    assert_eq!(code, 0, "{talk}");
    let (shown, _, code) = run(&bob, "get all --filter meta.team=\"teams/core\" -o name").await;
    assert_eq!(code, 0);
    assert!(shown.contains("servers/lab\n") && !shown.contains("teams/core"), "{shown}");

    // A name that somebody else has taken is told from one of their own.
    gateway.ctl("create server hidden --visibility private").await;
    let taken = run(&bob, "create server hidden --tool own/*").await;
    assert_eq!(taken, said("", "error: the name hidden is taken; choose another one\n", 6));
    let (_, talk, _) = run(&bob, "create server lab --tool own/*").await;
    assert!(talk.starts_with("error: servers/lab already exists; change it with `mcpctl update`"), "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_token_is_given_a_command_that_needs_none() {
    let (gateway, upstream) = with_server(Store::Sqlite).await;
    gateway.ctl("create team core").await;
    let bob = developer(&gateway, "bob").await;
    bob.ok(&format!("create upstream own --url {} --team core", upstream.url()), "").await;
    bob.ok("create server lab --tool own/* --team core", "").await;
    let (shown, talk, code) = run(&bob, "client-config lab --for cursor").await;
    assert_eq!(code, 0, "{talk}");
    let entry: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(entry["mcpServers"]["lab"]["args"], json!(["connect", "lab"]), "{shown}");
    assert!(talk.contains("No saved token may call the server: ") && !talk.contains("get-bearer"), "{talk}");
    let (_, talk, code) = run(&bob, "client-config lab --for cursor --via http").await;
    assert!(
        talk.contains("or have a host that runs commands run `mcpctl connect lab`, which calls as you"),
        "{talk}"
    );
    assert_eq!(code, 3);
    // What a team may call is not always what its members may see.
    gateway.ctl("update team core --server dev").await;
    gateway.admin.settled().await;
    let (shown, talk, code) = run(&bob, "client-config dev --for cursor").await;
    assert!(shown.contains(r#""connect""#) && code == 0, "{talk}");
    let (_, talk, code) = run(&bob, "client-config dve --for cursor").await;
    assert!(talk.starts_with("error: server dve does not exist") && code == 3, "{talk}");
    bob.ok("logout", "").await;
    let (_, talk, code) = run(&bob, "call lab own_echo").await;
    assert!(talk.contains("; sign in with `mcpctl login`, create one with "), "{talk}");
    assert_eq!(code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_people_are_named_at_once_and_by_their_addresses() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create team core").await;
    let (links, talk, code) =
        ctl(&gateway, "create user ann@example.org bob@example.org ann@example.org").await;
    assert_eq!(links.lines().filter(|line| line.starts_with("tll_")).count(), 2, "{links}");
    assert!(
        talk.contains("users/ann@example.org created. ") && talk.contains("users/bob@example.org created. "),
        "{talk}"
    );
    assert_eq!(code, 6);
    assert_eq!(
        ctl(&gateway, "add member core ann@example.org bob@example.org").await,
        said(
            "users/ann@example.org is a member of teams/core\nusers/bob@example.org is a member of teams/core\n",
            "",
            0
        )
    );
    let bound = ctl(&gateway, "bind role viewer ann@example.org bob@example.org").await;
    assert_eq!(
        bound,
        said(
            "users/ann@example.org has viewer everywhere\nusers/bob@example.org has viewer everywhere\n",
            "",
            0
        )
    );

    // Who has another address is found by it, and keeps the name.
    gateway.ctl("update user ann@example.org --email ann@example.net").await;
    let (shown, talk, code) = ctl(&gateway, "unbind role viewer Ann@example.net").await;
    assert_eq!(
        (shown.as_str(), code),
        ("users/ann@example.org no longer has viewer everywhere\n", 0),
        "{talk}"
    );
    assert_eq!(get_json(&gateway, "get user ann@example.net").await["name"], "users/ann@example.org");
    assert_eq!(
        ctl(&gateway, "disable user ann@example.net bob@example.org").await,
        said("users/ann@example.org disabled\nusers/bob@example.org disabled\n", "", 0)
    );
    let (shown, talk, code) = ctl(&gateway, "remove member core ann@example.net bob@example.org").await;
    let removed =
        "users/ann@example.org removed from teams/core\nusers/bob@example.org removed from teams/core\n";
    assert_eq!((shown.as_str(), code), (removed, 0), "{talk}");
    gateway.ctl("delete user ann@example.net").await;
    let (_, talk, code) = ctl(&gateway, "get user ann@example.org").await;
    assert_eq!(code, 3, "{talk}");

    // Keys are named by whose they are, one or all.
    gateway.ctl("create service-account ci").await;
    for _ in 0..3 {
        gateway.ctl("create api-key ci --expires 30d").await;
    }
    let keys = get_json(&gateway, "get api-keys ci").await;
    let name = keys[0]["name"].as_str().unwrap();
    let short = name.replace("serviceAccounts/", "").replace("/keys/", "/");
    assert_eq!(
        ctl(&gateway, &format!("revoke api-key {short}")).await,
        said(format!("{name} revoked\n"), "", 0)
    );
    let (shown, talk, code) = ctl(&gateway, "revoke api-key ci/-").await;
    assert_eq!((shown.lines().count(), code), (2, 0), "{shown}{talk}");
    let past = ctl(&gateway, "create api-key ci --expires 2020-01-31").await;
    assert_eq!(past, said("", "error: --expires is in the past\n", 2));
    let empty = "error: --permission is required: a permission that the role holds; `mcpctl access permissions` lists them\n";
    assert_eq!(ctl(&gateway, "create role nothing").await, said("", empty, 2));
}
