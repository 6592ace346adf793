//! A call that a rule holds back, from the rule to the call: at two edges, decided with `mcpctl`, on both databases.

use serde_json::Value;

use crate::support::fake::{Fake, id, json};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually};
use crate::verbs::told;

const RULES: &str = "  - id: drops
    effect: approve
    tools: [files_drop]
    when: args.path.startsWith(\"/srv/\")
    reason: drops on /srv are looked at
";

/// A gateway of two edges with a server `dev`, whose tool `files_drop` is held back below /srv, and a client at each edge.
async fn start(store: Store) -> (Gateway, Fake, [Client; 2]) {
    let options = ["--approval-url", "https://trunkline.example.org"];
    let mut gateway = Gateway::start(store, 2).await;
    gateway.configure_control(&options, &[]);
    gateway.stop_control();
    gateway.start_control().await;
    gateway.all_connected().await;
    let schema = r#"{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}"#;
    let tools = format!(r#"[{{"name":"drop","description":"Drops.","inputSchema":{schema}}}]"#);
    let upstream = Fake::start(&tools, |_, request| {
        let result = r#"{"content":[{"type":"text","text":"dropped"}],"isError":false}"#;
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))]
    })
    .await;
    gateway.ctl(&format!("create upstream files --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool files/*").await;
    let bearer = gateway.admin.create_token("ci", "dev", &["*"]).await;
    let file = gateway.folder().join("dev.yaml");
    std::fs::write(&file, format!("kind: Server\nname: dev\ntools:\n  - match: files/*\nrules:\n{RULES}"))
        .unwrap();
    gateway.ctl_args(&["apply", "--take-over", "-f", file.to_str().unwrap()]).await;
    gateway.admin.settled().await;
    let first = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let second = first.at(&gateway.url(1, "dev"));
    (gateway, upstream, [first, second])
}

async fn call(client: &Client, path: &str) -> Value {
    client.call("files_drop", &format!(r#"{{"path":"{path}"}}"#)).await.unwrap().json()
}

fn is_made(answer: &Value) -> bool {
    answer["result"]["content"][0]["text"] == "dropped"
}

/// The approval that a call waits for.
fn waits_for(answer: &Value) -> String {
    let (code, data) = (&answer["error"]["code"], &answer["error"]["data"]);
    assert_eq!((code.as_i64(), data["reason"].as_str()), (Some(-31012), Some("approval_needed")), "{answer}");
    let name = data["approval"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert_eq!(data["url"], format!("https://trunkline.example.org/{name}"), "{answer}");
    name
}

async fn a_call_waits_for_somebody_else(store: Store) {
    let (gateway, upstream, [first, second]) = start(store).await;
    assert!(is_made(&call(&first, "/tmp/a").await), "what the rule is not about is made");
    eventually("both edges have the rule", PATIENCE, || async {
        for client in [&first, &second] {
            let answer = call(client, "/srv/warm").await;
            if is_made(&answer) {
                return Err(answer.to_string());
            }
        }
        Ok(())
    })
    .await;
    let made = upstream.received("tools/call").len();
    let name = waits_for(&call(&first, "/srv/a").await);
    assert_eq!(waits_for(&call(&second, "/srv/a").await), name, "it waits at every edge");
    let id = name.strip_prefix("approvals/").unwrap();

    let (listed, _, _) = told(&gateway.try_ctl(&["approvals", "list", "--server", "dev"]).await);
    let row = listed.lines().find(|line| line.starts_with(&id[..10])).unwrap_or_else(|| panic!("{listed}"));
    assert!(
        row.contains("tokens/ci") && row.contains("dev/files_drop") && row.contains(r#"{"path":"/srv/a"}"#),
        "{row}"
    );
    let shown = gateway.ctl_args(&["approvals", "show", &id[..10]]).await;
    assert!(shown.contains("drops on /srv are looked at") && shown.contains("path: /srv/a"), "{shown}");
    let approved = gateway.ctl_args(&["approvals", "approve", &id[..10]]).await;
    assert!(
        approved.starts_with(&format!("{name} approved: tokens/ci may call files_drop at servers/dev once")),
        "{approved}"
    );
    let again = gateway.ctl_args(&["approvals", "approve", &name, "--comment", "again"]).await;
    assert_eq!(again, approved, "who says it again has said it");

    let (one, other) = tokio::join!(call(&first, "/srv/a"), call(&second, "/srv/a"));
    let made_now = [&one, &other].into_iter().filter(|answer| is_made(answer)).count();
    assert_eq!(made_now, 1, "{one} {other}");
    assert_eq!(upstream.received("tools/call").len(), made + 1, "the upstream saw it once");
    let next = waits_for(if is_made(&one) { &other } else { &one });
    assert_ne!(next, name);

    gateway.ctl_args(&["approvals", "deny", &next, "--comment", "still in use"]).await;
    for client in [&first, &second] {
        let denied = call(client, "/srv/a").await;
        assert_eq!(denied["error"]["data"]["reason"], "approval_denied", "{denied}");
        assert!(denied["error"]["message"].as_str().unwrap().contains("still in use"), "{denied}");
    }
    let (_, said, code) = told(&gateway.try_ctl(&["approvals", "approve", &next]).await);
    assert!(code != 0 && said.contains("is denied already"), "{said}");
    let states = gateway.ctl_args(&["approvals", "list", "--state", "all", "-o", "json"]).await;
    for state in ["used", "denied", "pending"] {
        assert!(states.contains(&format!("\"state\": \"{state}\"")), "{states}");
    }
    let audit = gateway.ctl_args(&["audit", "--resource", &name]).await;
    assert_eq!(audit.lines().count(), 4, "titles, asked, approved, used: {audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_rule_holds_back_is_made_once_somebody_else_approves_it() {
    for store in [Store::Sqlite, Store::Postgres] {
        a_call_waits_for_somebody_else(store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_control_plane_nothing_is_made_that_waits_for_approval() {
    let (mut gateway, upstream, [first, _]) = start(Store::Sqlite).await;
    eventually("the edge has the rule", PATIENCE, || async {
        let answer = call(&first, "/srv/a").await;
        if is_made(&answer) { Err(answer.to_string()) } else { Ok(()) }
    })
    .await;
    let name = waits_for(&call(&first, "/srv/a").await);
    gateway.ctl_args(&["approvals", "approve", &name]).await;
    gateway.kill_control();
    let made = upstream.received("tools/call").len();
    let refused = call(&first, "/srv/a").await;
    assert_eq!(refused["error"]["data"]["reason"], "approval_needed", "{refused}");
    assert_eq!(upstream.received("tools/call").len(), made);
    assert!(is_made(&call(&first, "/tmp/a").await), "other calls need none");
    gateway.start_control().await;
    eventually("the approval is good once there is one again", PATIENCE, || async {
        let answer = call(&first, "/srv/a").await;
        if is_made(&answer) { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
}
