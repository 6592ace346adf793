//! A call that a rule holds back, from the rule to the call: at two edges, decided with `mcpctl`, on both databases.

use serde_json::Value;

use crate::support::fake::{Fake, id, json};
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{Size, WIDE};
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
    let wide = gateway.ctl_args(&["audit", "--resource", &name, "-o", "wide"]).await;
    for (line, outcome) in wide.lines().skip(1).zip(["asked", "approved", "used"]) {
        assert!(line.contains(&format!("  {outcome}  ")), "{wide}");
        assert!(line.ends_with("dev/files_drop by tokens/ci"), "{wide}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_rule_holds_back_is_made_once_somebody_else_approves_it() {
    for store in [Store::Sqlite, Store::Postgres] {
        a_call_waits_for_somebody_else(store).await;
    }
}

/// `mcpctl call` of what is held back, as the token.
async fn held_back() -> (Gateway, Fake) {
    let (gateway, upstream, [first, _]) = start(Store::Sqlite).await;
    eventually("the edge has the rule", PATIENCE, || async {
        let answer = call(&first, "/srv/warm").await;
        if is_made(&answer) { Err(answer.to_string()) } else { Ok(()) }
    })
    .await;
    let bearer = gateway.admin.create_token("deployer", "dev", &["*"]).await;
    std::fs::write(gateway.folder().join("deployer.bearer"), bearer).unwrap();
    gateway.admin.settled().await;
    (gateway, upstream)
}

const ERAS: [&str; 2] = ["legacy", "modern"];

fn call_of<'a>(path: &'a str, era: &'a str) -> [&'a str; 8] {
    ["call", "dev", "files_drop", path, "--bearer-file", "deployer.bearer", "--era", era]
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_without_a_terminal_is_told_once_and_whole_what_to_do() {
    let (gateway, _upstream) = held_back().await;
    for era in ERAS {
        let line = [&call_of("path=/srv/a", era)[..], &["-o", "json"]].concat();
        let (out, said, code) = told(&gateway.try_ctl(&line).await);
        let error: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{said}"));
        let error = &error["error"];
        let data = &error["data"];
        let name = data["approval"].as_str().unwrap_or_else(|| panic!("{out}"));
        let (id, expires) = (name.strip_prefix("approvals/").unwrap(), data["expires"].as_str().unwrap());
        let text = format!(
            "a rule of this server holds this call back until somebody approves it: drops on /srv are looked at; have somebody else who \
             may approve it (an administrator, or an owner of its team) run `mcpctl approvals approve {id}` before {expires}, then make \
             the same call again"
        );
        assert_eq!(
            (error["code"].as_i64(), error["message"].as_str()),
            (Some(-31012), Some(&*text)),
            "{era}"
        );
        let end = format!(" refused the bearer in deployer.bearer: {text} (approval_needed)\n");
        assert!(said.starts_with("error: the edge at ") && said.ends_with(&end), "{era}: {said}");
        assert_eq!((said.matches("holds this call back").count(), code), (1, 4), "{era}: {said}");
    }
    let (_, hint, code) = told(
        &gateway.try_ctl(&["access", "check", "--token", "ci", "--server", "dev", "--tool", "drop"]).await,
    );
    assert_eq!((hint.as_str(), code), ("did you mean files_drop?\n", 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_is_asked_and_what_is_decided() {
    let (gateway, _upstream) = held_back().await;
    let watch = ["approvals", "list", "-w"];
    let table = gateway.terminal(&watch, WIDE, &[]);
    // So wide that a line of JSON is one.
    let lines = gateway.terminal(&[&watch[..], &["-o", "json"]].concat(), Size(24, 2_000), &[]);
    table.wait_for(r#"{"path":"/srv/warm"}  pending"#).await;
    lines.wait_for(r#""state":"pending""#).await;
    let listed = gateway.ctl_args(&["approvals", "list", "-o", "name"]).await;
    gateway.ctl_args(&["approvals", "deny", listed.trim()]).await;
    table.wait_for(r#"{"path":"/srv/warm"}  denied"#).await;
    lines.wait_for(r#""state":"denied""#).await;
    let screen = lines.screen();
    let seen: Vec<Value> = screen.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> = seen.iter().map(|one| (one["name"].as_str(), one["state"].as_str())).collect();
    assert_eq!(states, ["pending", "denied"].map(|state| (Some(listed.trim()), Some(state))), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_at_a_terminal_is_asked_whether_it_is_approved() {
    let (gateway, upstream) = held_back().await;
    for era in ERAS {
        let path = format!("path=/srv/{era}");
        let mut terminal = gateway.terminal(&call_of(&path, era), WIDE, &[]);
        terminal.wait_for("approved? [y/N]").await;
        let listed = gateway.ctl_args(&["approvals", "list", "-o", "json"]).await;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        gateway.ctl_args(&["approvals", "approve", listed[0]["name"].as_str().unwrap()]).await;
        let made = upstream.received("tools/call").len();
        terminal.type_line("y");
        assert_eq!(terminal.ended().await, 0, "{era}: {}", terminal.screen());
        let screen = terminal.screen();
        assert!(screen.ends_with("dropped"), "{era}: {screen}");
        assert!(!screen.contains(".;") && !screen.contains("Enter alone"), "{era}: {screen}");
        assert_eq!(upstream.received("tools/call").len(), made + 1, "{era}");

        let path = format!("path=/srv/not-{era}");
        let mut terminal = gateway.terminal(&call_of(&path, era), WIDE, &[]);
        terminal.wait_for("approved? [y/N]").await;
        terminal.type_line("");
        assert_eq!(terminal.ended().await, 4, "{era}: {}", terminal.screen());
        assert_eq!(upstream.received("tools/call").len(), made + 1, "{era}");
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
