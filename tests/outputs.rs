//! What `mcpctl` prints: names that it reads again, tables that fit, templates, and changes as they happen; on terminals and
//! in pipes.

use std::process::Command;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::support::fake::Fake;
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{NARROW, WIDE};
use crate::support::{PATIENCE, binary, root};

const TEXT: &str = "It answers with a sentence longer than forty columns.";

/// A gateway with two upstreams that have labels, one with a catalogue, a server and a token.
async fn gateway(store: Store) -> (Gateway, Fake) {
    let gateway = Gateway::start(store, 1).await;
    let tool = |name: &str| {
        format!(r#"{{"name":"{name}","description":"{TEXT}","inputSchema":{{"type":"object"}}}}"#)
    };
    let fake = Fake::start(&format!("[{},{}]", tool("now"), tool("a/b")), |_, _| Vec::new()).await;
    gateway.ctl(&format!("create upstream fake --url {}", fake.url())).await;
    for (name, labels) in [("docs", "--label team=core --label env=prod"), ("time", "--label team=web")] {
        gateway
            .ctl(&format!("create upstream {name} --url http://127.0.0.1:1/{name} --disabled {labels}"))
            .await;
    }
    gateway.ctl("create server dev --tool fake/*").await;
    gateway.ctl("create token laptop --server dev --no-save --no-wait").await;
    (gateway, fake)
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// What a command said that was refused.
async fn refused(gateway: &Gateway, arguments: &[&str], code: i32) -> String {
    let output = gateway.try_ctl(arguments).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_read_again_on_sqlite() {
    what_is_printed_is_read_again(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_read_again_on_postgres() {
    what_is_printed_is_read_again(Store::Postgres).await;
}

async fn what_is_printed_is_read_again(store: Store) {
    let (gateway, _fake) = gateway(store).await;
    let mut all = Vec::new();
    for kind in ["upstreams", "servers", "tools", "tokens", "edges", "join-tokens"] {
        let names = gateway.ctl(&format!("get {kind} -o name")).await;
        assert!(!names.is_empty(), "{kind}");
        for name in names.lines() {
            let (_, id) = name.split_once('/').unwrap();
            for words in [vec!["get", name], vec!["get", kind, name], vec!["get", &format!("{kind}/{id}")]] {
                // `tools/fake/now` is short for `upstreams/fake/tools/now`.
                if words[1].starts_with("tools/") {
                    continue;
                }
                let again = gateway.ctl_args(&[words.as_slice(), &["-o", "name"]].concat()).await;
                assert_eq!(again.trim_end(), name, "{words:?}");
            }
            assert!(!gateway.ctl_args(&["describe", name]).await.is_empty(), "{name}");
            all.push(name.to_owned());
        }
        for short in gateway.ctl(&format!("get {kind} --no-headers")).await.lines() {
            let short = short.split("  ").next().unwrap();
            let name = gateway.ctl_args(&["get", &format!("{kind}/{short}"), "-o", "name"]).await;
            assert!(all.contains(&name.trim_end().to_owned()), "{short}: {name}");
        }
    }
    // Several at once, and everything.
    let everything: Vec<_> = all.iter().map(String::as_str).collect();
    let again = gateway.ctl_args(&[&["get"], everything.as_slice(), &["-o", "name"]].concat()).await;
    assert_eq!(lines(&again), everything);
    let names = gateway.ctl("get all -o name").await;
    assert_eq!(
        lines(&names),
        everything.into_iter().filter(|name| !name.contains("/tools/")).collect::<Vec<_>>()
    );
    let table = gateway.ctl("get all").await;
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    for name in names.lines() {
        assert!(table.lines().any(|line| first(line) == name), "{name}: {table}");
    }
    let documents: Value = serde_json::from_str(&gateway.ctl("get upstreams,servers -o json").await).unwrap();
    let kinds: Vec<_> = documents.as_array().unwrap().iter().map(|document| &document["kind"]).collect();
    assert_eq!(kinds, ["Upstream", "Upstream", "Upstream", "Server"]);
    names_that_do_not_exist(&gateway).await;
}

async fn names_that_do_not_exist(gateway: &Gateway) {
    assert_eq!(
        refused(gateway, &["get", "upstreams/tmie"], 3).await,
        "error: upstreams/tmie does not exist; did you mean time?\n"
    );
    assert_eq!(
        refused(gateway, &["get", "upsteams"], 2).await,
        "error: unknown kind \"upsteams\"; expected upstreams, servers, tools, resources, prompts, tokens, teams, roles, edges, \
         join-tokens, users, service-accounts, sets, members, api-keys, sessions, or all; did you mean upstreams?\n"
    );
    let said = refused(gateway, &["get", "upstreams", "-o", "custom-columns=A:.htp.url"], 2).await;
    assert_eq!(said, "error: -o custom-columns: Upstream has no field htp; did you mean http?\n");
    let said = refused(gateway, &["get", "upstreams", "--sort-by", ".meta.created"], 2).await;
    assert!(said.starts_with("error: --sort-by: Meta has no field created"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_select_on_sqlite() {
    labels_select(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_select_on_postgres() {
    labels_select(Store::Postgres).await;
}

async fn labels_select(store: Store) {
    let (gateway, _fake) = gateway(store).await;
    for (selector, expected) in [
        ("team=core", &["upstreams/docs"][..]),
        ("team==core,env=prod", &["upstreams/docs"]),
        ("team=core,env=dev", &[]),
        ("team in (core, web)", &["upstreams/docs", "upstreams/time"]),
        ("team notin (core)", &["upstreams/fake", "upstreams/time"]),
        ("team!=web", &["upstreams/docs", "upstreams/fake"]),
        ("!team", &["upstreams/fake"]),
        ("team,!env", &["upstreams/time"]),
    ] {
        let names = gateway.ctl_args(&["get", "upstreams", "-l", selector, "-o", "name"]).await;
        assert_eq!(lines(&names), expected, "{selector}");
    }
    let both = ["get", "up", "-l", "team", "--filter", "http.url:docs OR env:x", "-o", "name"];
    assert_eq!(refused(&gateway, &both, 2).await.lines().count(), 1);
    let both = ["get", "up", "-l", "team", "--filter", "http.url:docs", "-o", "name"];
    assert_eq!(gateway.ctl_args(&both).await, "upstreams/docs\n");
    assert_eq!(gateway.ctl("get all -l team=core -o name").await, "upstreams/docs\n");
    assert_eq!(
        refused(&gateway, &["get", "edges", "-l", "team=core"], 2).await,
        "error: --selector does not apply to edges; leave it out\n"
    );
    assert_eq!(
        refused(&gateway, &["get", "upstreams/docs", "-l", "team=core"], 2).await,
        "error: --selector applies to lists; omit the name\n"
    );
    let sorted = gateway.ctl("get upstreams --sort-by {.meta.create_time} -o name").await;
    assert_eq!(lines(&sorted), ["upstreams/fake", "upstreams/docs", "upstreams/time"]);
    sweeps_ask(&gateway).await;
}

async fn sweeps_ask(gateway: &Gateway) {
    assert_eq!(
        refused(gateway, &["delete", "upstreams", "-l", "team=core"], 2).await,
        "- upstreams/docs\nerror: this deletes 1 resource, and nobody can be asked here; nothing was changed; \
         add --yes to confirm\n"
    );
    assert_eq!(
        refused(gateway, &["delete", "upstreams"], 2).await,
        "error: name the upstreams to delete, or select them by --selector or --all\n"
    );
    assert_eq!(
        refused(gateway, &["delete", "upstreams/docs", "--all"], 2).await,
        "error: --all selects among all; omit the names, or --all\n"
    );
    let mut terminal = gateway.terminal(&["delete", "upstreams", "-l", "team=core"], WIDE, &[]);
    terminal.wait_for("this deletes 1 resource; continue? [y/N]").await;
    terminal.type_line("n");
    assert_eq!(terminal.ended().await, 1);
    assert!(terminal.screen().contains("nothing was changed"), "{}", terminal.screen());
    assert_eq!(gateway.ctl("get upstreams -l team=core -o name").await, "upstreams/docs\n");
    assert_eq!(gateway.ctl("delete upstreams -l team=core --yes -o name").await, "upstreams/docs\n");
    assert_eq!(gateway.ctl("delete tokens --all --yes").await, "tokens/laptop deleted\n");
    assert_eq!(gateway.ctl("delete tokens --all --yes").await, "");
    assert_eq!(
        gateway.ctl("delete upstreams/time servers/dev").await,
        "upstreams/time deleted\nservers/dev deleted\n"
    );
    assert_eq!(gateway.ctl("get upstreams,servers -o name").await, "upstreams/fake\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_fit_the_terminal_and_are_whole_in_pipes() {
    let (gateway, _fake) = gateway(Store::Sqlite).await;
    let piped = gateway.ctl("get tools").await;
    assert!(piped.lines().skip(1).all(|line| line.ends_with(TEXT)), "{piped}");
    for environment in [&[][..], &[("NO_COLOR", "1")]] {
        let mut wide = gateway.terminal(&["get", "tools"], WIDE, environment);
        assert_eq!(wide.ended().await, 0);
        assert_eq!(wide.screen(), piped.trim_end());
        let mut narrow = gateway.terminal(&["get", "tools"], NARROW, environment);
        assert_eq!(narrow.ended().await, 0);
        let written = narrow.raw().replace("\r\n", "\n");
        assert!(!written.contains('\u{1b}'), "{written:?}");
        assert_eq!(written.lines().count(), piped.lines().count(), "{written}");
        for (line, whole) in written.lines().zip(piped.lines()).skip(1) {
            let name = whole.split(' ').next().unwrap();
            assert!(line.starts_with(&format!("{name} ")) && line.ends_with('…'), "{line:?}");
            assert!(line.chars().count() <= 40, "{line:?}");
        }
    }
    let bare = gateway.ctl("get tools --no-headers").await;
    assert_eq!(bare.lines().count() + 1, piped.lines().count(), "{bare}");
    let wide = gateway.ctl("get upstreams -o wide").await;
    assert!(wide.lines().next().unwrap().contains("LABELS") && wide.contains("env=prod,team=core"), "{wide}");
}

/// `mcpctl get … -w`, and the lines that it prints.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(gateway: &Gateway, arguments: &[&str]) -> Self {
        let mut child = gateway.spawn_ctl(&[&["get", "servers", "-w"], arguments].concat());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn next(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_keeps_its_columns_and_tells_what_is_gone() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server first").await;
    let mut table = Watch::start(&gateway, &[]);
    let mut json = Watch::start(&gateway, &["-o", "json"]);
    let mut yaml = Watch::start(&gateway, &["-o", "yaml"]);
    let mut path = Watch::start(&gateway, &["-o", "jsonpath={.name} {.title} {.deleted}"]);
    let titles = table.next().await;
    let at = titles.find("TITLE").unwrap();
    assert!(titles.starts_with("NAME") && table.next().await.starts_with("first"), "{titles}");
    let document = |line: String| -> Value { serde_json::from_str(&line).unwrap() };
    assert_eq!(document(json.next().await)["name"], "servers/first");
    assert_eq!(
        [yaml.next().await, yaml.next().await, yaml.next().await],
        ["---", "kind: Server", "name: servers/first"]
    );
    assert_eq!(path.next().await, "servers/first  ");

    gateway.ctl_args(&["update", "server", "first", "--title", "A title"]).await;
    let row = table.next().await;
    assert_eq!(row.find("A title"), Some(at), "{titles}\n{row}");
    assert_eq!(document(json.next().await)["title"], "A title");
    assert_eq!(path.next().await, "servers/first A title ");

    gateway.ctl("delete server first").await;
    assert_eq!(json.next().await, r#"{"kind":"Server","name":"servers/first","deleted":true}"#);
    assert_eq!(path.next().await, "servers/first  true");
    let mut said = yaml.next().await;
    while !said.starts_with("deleted") {
        said = yaml.next().await;
    }
    assert_eq!(said, "deleted: true");

    // Nobody reads any more: it ends though nothing changes, and that is no error.
    let Watch { mut child, lines } = table;
    drop(lines);
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    let said = refused(&gateway, &["get", "servers,tokens", "-w"], 2).await;
    assert!(said.starts_with("error: --watch shows one kind in a table"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_document_print_what_it_says() {
    let (gateway, _fake) = gateway(Store::Sqlite).await;
    gateway.ctl("delete upstream fake --force").await;
    let document = std::fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let section = document.split("## Outputs of mcpctl\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let console = section.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let programs = binary("mcpctl").parent().unwrap().to_owned();
    let mut count = 0;
    for example in console.split("$ ").filter(|example| !example.is_empty()) {
        let (line, expected) = example.split_once('\n').unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-c", line]).env("MCPCTL_CONFIG", gateway.context());
        let path = std::env::var("PATH").unwrap();
        shell.env("PATH", format!("{}:{path}", programs.display()));
        let output = shell.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, expected, "{line}");
        count += 1;
    }
    assert!(count >= 8, "{count} examples");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_every_format_or_refuses_it() {
    let (gateway, _fake) = gateway(Store::Sqlite).await;
    std::fs::write(gateway.folder().join("a.yaml"), "kind: Server\nname: dev2\n").unwrap();
    let formats = [
        "table",
        "wide",
        "json",
        "yaml",
        "name",
        "jsonpath={.name}",
        "go-template={{.name}}",
        "custom-columns=A:.name",
    ];
    for line in [
        "get upstreams",
        "describe server dev",
        "usage",
        "top",
        "explain",
        "explain upstream",
        "probe fake",
        "export",
        "apply -f a.yaml --dry-run",
        "config get-contexts",
        "config view",
        "config current-context",
        "config use-context test",
        "version",
        "diff -f a.yaml",
        "create server x --dry-run",
        "update server dev --title x --dry-run",
        "delete token laptop --dry-run",
        "create join-token --dry-run",
        "refresh upstream fake",
        "options",
    ] {
        for format in formats {
            let arguments: Vec<_> = line.split(' ').chain(["-o", format]).collect();
            let output = gateway.try_ctl(&arguments).await;
            let said = String::from_utf8(output.stderr).unwrap();
            match output.status.code() {
                Some(0) => {}
                Some(2) => assert!(said.contains("-o") && said.lines().count() == 1, "{arguments:?}: {said}"),
                code => panic!("{arguments:?}: {code:?} {said}"),
            }
            if format == "json" && output.status.success() {
                let document = serde_json::from_slice::<Value>(&output.stdout);
                document.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            }
        }
    }
    for (format, said) in [
        ("jsonpath={.a[}", "`[` is not closed at character 4 of the template"),
        ("go-template={{if .a}}{{end}}", "`if .a` is not supported"),
        ("yml", "custom-columns; did you mean yaml?"),
        ("jsonpath", "it takes a value, as in -o jsonpath='{.meta.uid}'"),
    ] {
        let refusal = refused(&gateway, &["get", "upstreams", "-o", format], 2).await;
        assert!(refusal.contains(said), "{refusal}");
    }
}
