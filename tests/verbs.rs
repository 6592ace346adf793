//! The verbs that people live in: what `wait`, `describe`, `top` and `update` show and do, at a terminal and in pipes.

use std::process::Output;

use serde_json::Value;

use crate::support::fake::{Fake, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{NARROW, WIDE};
use crate::support::{PATIENCE, eventually};

/// What a command printed, what it said, and how it ended.
pub(crate) fn told(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

pub(crate) async fn json(gateway: &Gateway, line: &str) -> Value {
    serde_json::from_str(&gateway.ctl(&format!("{line} -o json")).await).unwrap()
}

/// Runs `mcpctl` in pipes.
async fn ctl(gateway: &Gateway, line: &str) -> (String, String, i32) {
    told(&gateway.try_ctl(&line.split_whitespace().collect::<Vec<_>>()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_what_is_waited_for() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, _| Vec::new()).await;
    // It is waited for before it exists.
    let wait = gateway.spawn_ctl(&["wait", "upstream", "fake", "--for", "state=ready"]);
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    let output = wait.wait_with_output().await.unwrap();
    assert_eq!(told(&output).0, "upstreams/fake state=ready\n");
    gateway.ctl("create server dev --tool fake/*").await;
    for (line, printed) in [
        ("server dev --for synced", "servers/dev synced\n"),
        ("edge e0 --for synced", "edges/e0 synced\n"),
        (
            "upstream fake --for jsonpath={.status.toolCount}=1",
            "upstreams/fake jsonpath={.status.toolCount}=1\n",
        ),
        ("server dev --for revision=1 -o name", "servers/dev\n"),
        ("tools fake/echo --for jsonpath={.toolName}", "upstreams/fake/tools/echo jsonpath={.toolName}\n"),
        ("tokens a b --for deleted", "tokens/a deleted\ntokens/b deleted\n"),
    ] {
        assert_eq!(ctl(&gateway, &format!("wait {line}")).await, (printed.into(), String::new(), 0));
    }

    let wait = gateway.spawn_ctl(&["wait", "server", "dev", "--for=delete"]);
    gateway.ctl("delete server dev").await;
    let output = wait.wait_with_output().await.unwrap();
    assert_eq!(told(&output).0, "servers/dev deleted\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_in_vain_says_what_is_there_instead() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create upstream gone --url http://127.0.0.1:1/mcp").await;
    let (printed, said, code) =
        ctl(&gateway, "wait upstreams gone never --for state=ready --timeout 1s").await;
    assert_eq!((printed.as_str(), code), ("", 7));
    assert!(
        said.starts_with("error: not state=ready within 1s: upstreams/gone is unreachable (")
            && said.ends_with("; upstreams/never does not exist\n"),
        "{said}"
    );
    gateway.ctl("create server dev").await;
    let (_, said, code) = ctl(&gateway, "wait server dev --for synced --timeout 0s").await;
    assert_eq!(code, 7);
    assert!(
        said.starts_with(
            "error: not synced within 0s: servers/dev is not on every edge: no edge is connected"
        ),
        "{said}"
    );
    for (line, why) in [
        (
            "upstream gone --for condition=Ready",
            "resources have a state and no conditions; use state=STATE, deleted,",
        ),
        ("upstream gone --for state=redy", "disabled, pending; did you mean ready?"),
    ] {
        let (_, said, code) = ctl(&gateway, &format!("wait {line}")).await;
        assert!(code == 2 && said.contains(why), "{said}");
    }
}

/// A gateway with an upstream that has a tool with arguments, before a server, before a token.
async fn furnished(store: Store) -> (Gateway, Fake) {
    let gateway = Gateway::start(store, 1).await;
    let schema = r#"{"type":"object","required":["zone"],"properties":{"zone":{"type":"string","description":"A name of the IANA."},"count":{"type":"integer","default":1}}}"#;
    let tools = format!(
        r#"[{{"name":"now","description":"Tells the time,\u001b[2J and where it is told.\nMore.","inputSchema":{schema}}},{}]"#,
        tool("echo")
    );
    let upstream = Fake::start(&tools, |_, request| {
        let id = crate::support::fake::id(request);
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
        vec![crate::support::fake::json(200, &answer)]
    })
    .await;
    let create = format!(
        "create upstream fake --url {} --title Fake --label team=core --bearer s3cret",
        upstream.url()
    );
    gateway.ctl(&create).await;
    gateway.ctl("create server dev --tool fake/*").await;
    gateway.ctl("create token laptop --server dev --tool *now").await;
    (gateway, upstream)
}

/// Whether the parts are in a text, in this order. How far words are apart is not compared.
fn has_in_order(text: &str, parts: &[&str]) {
    let squeezed = |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let text = squeezed(text);
    let mut rest = text.as_str();
    for part in parts.iter().map(|part| squeezed(part)) {
        let Some(at) = rest.find(&part) else { panic!("{part:?} is missing or misplaced:\n{text}") };
        rest = &rest[at + part.len()..];
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_is_for_people() {
    let (gateway, upstream) = furnished(Store::Sqlite).await;
    let described = gateway.ctl("describe upstream fake").await;
    let url = upstream.url();
    has_in_order(
        &described,
        &[
            "Name:             upstreams/fake\nTitle:            Fake\nState:            ready\n",
            &format!("Reached:          {url}\nCredential:       a bearer token (not shown)\n"),
            "Labels:           team=core\nCreated:          ",
            " ago (20",
            "\nProbe\n  Server:     fake 1\n  Transport:  streamable-http\n",
            "\nTools (2)\n  echo()\n      A tool.\n  now(zone: string, [count: integer = 1])\n      Tells the time,\\u{1b}[2J and where it is told.\n",
        ],
    );
    assert!(!described.contains("s3cret") && !described.contains('\u{1b}'), "{described}");
    let described = gateway.ctl("describe servers/dev").await;
    has_in_order(
        &described,
        &[
            &format!("URL:       http://{}/servers/dev/mcp\n", gateway.edge_address(0)),
            "\nMembers\n  Tools:  fake/*\n",
            "\nTools (2)\n  fake_now(zone: string, [count: integer = 1])\n      fake/now  (last used: ",
            ")\n      Tells the time,",
        ],
    );
    has_in_order(
        &gateway.ctl("describe token laptop").await,
        &[
            "Expires:      never\n",
            "\nScope\n  Servers:    servers/dev\n",
            "\nMay use\n  dev:  1 of 2 tools: fake_now\n",
        ],
    );
    has_in_order(
        &gateway.ctl("describe tool fake/now").await,
        &[
            "Signature:    now(zone: string, [count: integer = 1])\n",
            "\nArguments\n  zone: string\n      A name of the IANA.\n  [count: integer = 1]\n",
        ],
    );
    has_in_order(
        &gateway.ctl("describe edge e0").await,
        &["Name:        edges/e0\n", "Connected:   ", "\nRevisions\n", "  Behind:        no\n"],
    );
    let join_token = gateway.ctl("get join-tokens -o name").await;
    has_in_order(
        &gateway.ctl(&format!("describe {join_token}")).await,
        &["Uses:", " of ", "Expires:", "in "],
    );

    // The document alone is for programs.
    assert_eq!(json(&gateway, "describe upstream fake").await["name"], "upstreams/fake");
    std::fs::write(gateway.folder().join("fake.yaml"), gateway.ctl("describe upstream fake -o yaml").await)
        .unwrap();
    assert!(gateway.ctl("diff -f fake.yaml").await.is_empty());

    for (size, columns) in [(NARROW, 40), (WIDE, 200)] {
        // Nothing of it is off the screen, which has few lines: the end of it is what is seen.
        let mut terminal = gateway.terminal(&["describe", "server", "dev"], size, &[]);
        assert_eq!(terminal.ended().await, 0);
        let raw = terminal.raw().replace("\r\n", "\n");
        assert!(raw.lines().all(|line| line.chars().count() <= columns), "{raw}");
        has_in_order(&raw, &["servers/dev", "Tools (2)\n  fake_now(zone: string,", "fake_echo()"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_summed_up_on_sqlite() {
    calls_are_summed_up(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_summed_up_on_postgres() {
    calls_are_summed_up(Store::Postgres).await;
}

async fn calls_are_summed_up(store: Store) {
    let (gateway, _upstream) = furnished(store).await;
    assert!(
        gateway
            .ctl("top")
            .await
            .starts_with("NAME  STATE  CALLS/MIN  ERRORS/MIN  CALLS  ERRORS  MEAN MS\nfake ")
    );
    gateway.admin.settled().await;
    let called = gateway.try_ctl(&["call", "dev", "now", "zone=UTC", "--token", "laptop"]).await;
    assert!(called.status.success(), "{called:?}");
    for (by, name) in [("", "upstreams/fake"), ("servers", "servers/dev"), ("token", "tokens/laptop")] {
        eventually("the call is counted", PATIENCE, || async {
            let rows = json(&gateway, &format!("top {by}")).await;
            let row = &rows[0];
            let is_counted = row["name"] == name && row["calls"].as_i64() >= Some(1);
            if is_counted && row["callsAMinute"].as_f64() > Some(0.0) {
                Ok(())
            } else {
                Err(rows.to_string())
            }
        })
        .await;
    }
    assert!(gateway.ctl("top edges").await.contains("e0 "));
    let mut terminal = gateway.terminal(&["top", "servers", "-w"], NARROW, &[]);
    terminal.wait_for("dev ").await;
    assert!(terminal.raw().starts_with("\u{1b}[H\u{1b}[J"), "{:?}", terminal.raw());
    terminal.type_keys("\u{3}");
    assert_eq!(terminal.ended().await, -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_says_what_it_changed() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server dev --title Old --description x --label team=core --label env=prod").await;
    gateway.ctl("create upstream a --url http://127.0.0.1:1/mcp --bearer s3cret --no-wait").await;
    for (line, printed, said) in [
        ("--title New --dry-run", "servers/dev updated (dry run)\n", "  title: Old -> New\n"),
        (
            "--title New --tool a/*",
            "servers/dev updated\n",
            "  title: Old -> New\n  tools[0].match: a/* (new)\n",
        ),
        ("--title New", "servers/dev unchanged\n", ""),
        (
            "--clear description --clear meta.labels.env",
            "servers/dev updated\n",
            "  description: x (removed)\n  meta.labels.env: prod (removed)\n",
        ),
    ] {
        let told = ctl(&gateway, &format!("update server dev {line}")).await;
        assert_eq!(told, (printed.into(), said.into(), 0), "{line}");
    }
    let (_, said, code) = ctl(&gateway, "update server dev --clear tolls").await;
    assert_eq!((said.as_str(), code), ("error: `tolls` is no field of servers; did you mean tools?\n", 2));

    gateway.ctl("update upstream a --clear credential --yes").await;
    assert!(json(&gateway, "get upstream a").await["credential"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_keeps_the_headers_that_it_does_not_name() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, _| Vec::new()).await;
    let create = format!("create upstream a --url {} --header X-A=one --header X-B=two", upstream.url());
    gateway.ctl(&create).await;
    let sent = async || {
        gateway.ctl("refresh upstream a").await;
        let last = upstream.received("tools/list").pop().unwrap();
        let mut lines: Vec<_> =
            last.head.lines().filter(|line| line.to_lowercase().starts_with("x-")).collect();
        lines.sort_by_key(|line| line.to_lowercase());
        lines.join(" ").to_lowercase()
    };
    assert_eq!(sent().await, "x-a: one x-b: two");
    gateway.ctl("update upstream a --header x-b=three --header X-C=four").await;
    assert_eq!(sent().await, "x-a: one x-b: three x-c: four");
    gateway.ctl("update upstream a --header x-a-").await;
    assert_eq!(sent().await, "x-b: three x-c: four");
    for (line, why) in [
        (
            "update upstream a --header X-B- --header X-C-",
            "no header is left then; use --clear credential to have none",
        ),
        (
            "create upstream b --url http://127.0.0.1:1/mcp --header X-B-",
            "X-B- takes something out, and there is nothing yet; write X-B=VALUE, or run `mcpctl update`",
        ),
        (
            "create server b --label team-",
            "team- takes something out, and there is nothing yet; write team=VALUE, or run `mcpctl update`",
        ),
        (
            "probe http://127.0.0.1:1/mcp --header X-B-",
            "X-B- takes a header out, which only `mcpctl update` can do; write X-B=VALUE",
        ),
    ] {
        assert_eq!(ctl(&gateway, line).await, (String::new(), format!("error: {why}\n"), 2), "{line}");
    }
    assert_eq!(sent().await, "x-b: three x-c: four");
    // Another form takes the place of all of them.
    gateway.ctl("update upstream a --bearer s3cret --yes").await;
    assert_eq!(sent().await, "");
    gateway.ctl("update upstream a --header X-D=five --yes").await;
    assert_eq!(sent().await, "x-d: five");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_takes_members_away_asks() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create upstream a --url http://127.0.0.1:1/mcp --disabled").await;
    let file = "kind: Server\nname: dev\nmeta: {labels: {team: core}}\ntools: [{match: a/x, alias: ax}, {match: a/y}]\n";
    std::fs::write(gateway.folder().join("dev.yaml"), file).unwrap();
    gateway.ctl("apply -f dev.yaml").await;
    let tools = async || json(&gateway, "get server dev").await["tools"].to_string();
    let asked = "- tools: a/y\nerror: this takes 1 entry out of servers/dev (to keep it, give it too), and nobody can be asked here; \
                 nothing was changed; add --yes to confirm\n";
    let narrower = "update server dev --tool a/x --tool a/z";
    assert_eq!(ctl(&gateway, narrower).await, (String::new(), asked.into(), 2));
    assert_eq!(tools().await, r#"[{"alias":"ax","match":"a/x"},{"match":"a/y"}]"#);
    let (_, said, code) = ctl(&gateway, &format!("{narrower} --dry-run")).await;
    assert_eq!((said.as_str(), code), ("  tools[1].match: a/y -> a/z\n", 0));
    gateway.ctl(&format!("{narrower} --yes")).await;
    assert_eq!(tools().await, r#"[{"alias":"ax","match":"a/x"},{"match":"a/z"}]"#);
    // Nothing is lost, and so nobody is asked.
    gateway.ctl("update server dev --tool a/w --tool a/x --tool a/z --label env=prod").await;
    assert_eq!(tools().await, r#"[{"match":"a/w"},{"alias":"ax","match":"a/x"},{"match":"a/z"}]"#);
    let (_, said, _) = ctl(&gateway, "update server dev --label team-").await;
    assert_eq!(said, "  meta.labels.team: core (removed)\n");

    gateway.ctl("create server two").await;
    gateway.ctl("create token t --server dev --server two --no-save --no-wait").await;
    gateway.ctl("update token t --tool a_*").await;
    let (_, said, code) = ctl(&gateway, "update token t --server dev").await;
    assert!(
        said.starts_with("- servers: two\nerror: this takes 1 entry out of tokens/t (to keep it"),
        "{said}"
    );
    assert_eq!(code, 2);
    let mut terminal = gateway.terminal(&["update", "token", "t", "--server", "dev"], WIDE, &[]);
    terminal.wait_for("continue? [y/N]").await;
    terminal.type_line("y");
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
    assert_eq!(json(&gateway, "get token t").await["scope"]["servers"], serde_json::json!(["servers/dev"]));
}
