//! `mcpctl import` against a gateway: what is good in a host's file arrives and works, nothing that exists is touched unasked,
//! and everything else is named.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::fake::{Fake, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{NARROW, WIDE};

const FILE: &str = r#"{
    "mcpServers": {
        "My Files": {"url": "http://127.0.0.1:1/a"},
        "my-files": {"url": "http://127.0.0.1:1/b"},
        "scheme": {"url": "ftp://127.0.0.1/mcp"},
        "host": {"url": "http://127.0.0.1:1/mcp", "headers": {"Host": "s3cret"}},
        "gone": {"command": "no-such-command-here"},
        "text": "s3cret",
        "off": {"url": "http://127.0.0.1:1/mcp", "enabled": false},
        "remote": {"command": "npx", "args": ["mcp-remote", "http://127.0.0.1:1/mcp", "--header", "X-Key:${KEY_OF_ITS_OWN}"], "env": {"KEY_OF_ITS_OWN": "s3cret"}},
        "zoo": {"url": "http://127.0.0.1:1/z", "cwd": "/x"}
    },
    "projects": {"/p": {"mcpServers": {"project": {"httpUrl": "http://127.0.0.1:1/p"}}}}
}"#;

#[tokio::test]
async fn what_is_refused_takes_no_other_server_of_the_file_along() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let upstream = working().await;
    let text = FILE.replace("http://127.0.0.1:1/a", &upstream.url());
    write(&gateway, "claude.json", &text);
    let output = gateway.try_ctl(&["import", "claude.json", "--expose"]).await;
    let (said, talk, code) = outcome(&output);
    assert_eq!((said.as_str(), code), ("upstreams/my-files imported\n", 1), "{talk}");
    for said in [
        "server my-files: skipped: its id would be my-files, which \"My Files\" in `mcpServers` has already",
        "server scheme: skipped: ",
        "server host: skipped: ",
        "server gone: skipped: command not found",
        "server text: skipped: it is a text",
        "server off: left out, since it is disabled",
        "server zoo: `cwd` is not taken along",
        "server zoo: stored as upstream zoo, but it does not work: zoo is unreachable: ",
        "my-files is ready: 1 tool, 0 resources, 0 prompts",
        "not imported: my-files, text, host, scheme, gone; stored, but not working: remote, zoo, project",
    ] {
        assert!(talk.contains(said), "says nothing of {said:?}: {talk}");
    }
    assert!(!talk.contains("s3cret"), "{talk}");
    let stored = gateway.ctl("get upstreams -o name").await;
    let names: Vec<_> = stored.split_whitespace().filter_map(|name| name.rsplit('/').next()).collect();
    assert_eq!(names, ["my-files", "project", "remote", "zoo"]);
    assert_eq!(shown(&gateway, "my-files").await["http"]["url"], upstream.url());
    // The header of the bridge has become the credential of the upstream.
    assert_eq!(shown(&gateway, "remote").await["credential"]["headers"]["headers"], json!({"X-Key": ""}));

    let again = gateway.try_ctl(&["import", "claude.json", "--only", "zoo", "--only", "none"]).await;
    let (said, talk, code) = outcome(&again);
    assert_eq!((said.as_str(), code), ("upstreams/zoo unchanged\n", 1));
    assert!(talk.contains("server none: skipped: there is none of this name"), "{talk}");
}

async fn working() -> Fake {
    Fake::start(&format!("[{}]", tool("echo")), |_, _| Vec::new()).await
}

fn write(gateway: &Gateway, name: &str, text: &str) {
    std::fs::write(gateway.folder().join(name), text).unwrap();
}

fn outcome(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

async fn shown(gateway: &Gateway, name: &str) -> Value {
    serde_json::from_str(&gateway.ctl_args(&["get", "upstream", name, "-o", "json"]).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_exists_is_touched_unasked_on_sqlite() {
    nothing_that_exists_is_touched_unasked(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_exists_is_touched_unasked_on_postgres() {
    nothing_that_exists_is_touched_unasked(Store::Postgres).await;
}

async fn nothing_that_exists_is_touched_unasked(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    let (first, second) = (working().await, working().await);
    let file = |url: &str, key: &str| {
        json!({"mcpServers": {"time": {"url": url, "headers": {"X-Key": key}}}}).to_string()
    };
    write(&gateway, "a.json", &file(&first.url(), "k1"));
    assert_eq!(gateway.ctl("import a.json").await, "upstreams/time imported\n");
    assert_eq!(gateway.ctl("import a.json").await, "upstreams/time unchanged\n");
    let etag = shown(&gateway, "time").await["meta"]["etag"].clone();

    write(&gateway, "b.json", &file(&second.url(), "k2"));
    let skipped = outcome(&gateway.try_ctl(&["import", "b.json"]).await);
    assert_eq!(
        skipped,
        (
            String::new(),
            "server time: skipped: upstreams/time exists; --replace to change it\nerror: not imported: time\n".to_owned(),
            1
        )
    );
    let (said, talk, code) = outcome(&gateway.try_ctl(&["import", "b.json", "--replace"]).await);
    assert_eq!((said.as_str(), code), ("", 2), "{talk}");
    for line in [
        &format!("-  url: {}", first.url()),
        &format!("+  url: {}", second.url()),
        "-  secret: (as stored)",
        "+  secret: (changed)",
        "error: this changes 1 resource, and nobody can be asked here; nothing was changed; add --yes to confirm",
    ] {
        assert!(talk.contains(line), "says nothing of {line:?}: {talk}");
    }
    assert!(!talk.contains("k1") && !talk.contains("k2"), "{talk}");
    assert_eq!(gateway.ctl("import b.json --replace --dry-run").await, "upstreams/time imported (dry run)\n");
    assert_eq!(shown(&gateway, "time").await["meta"]["etag"], etag);

    let mut terminal = gateway.terminal(&["import", "b.json", "--replace"], WIDE, &[]);
    terminal.wait_for("this changes 1 resource; continue? [y/N]").await;
    terminal.type_line("n");
    assert_eq!(terminal.ended().await, 1);
    assert_eq!(shown(&gateway, "time").await["meta"]["etag"], etag);
    assert_eq!(gateway.ctl("import b.json --replace --yes").await, "upstreams/time replaced\n");
    assert_eq!(shown(&gateway, "time").await["http"]["url"], second.url());

    write(&gateway, "dead.json", r#"{"mcpServers": {"dead": {"url": "http://127.0.0.1:1/mcp"}}}"#);
    assert_eq!(
        gateway.ctl("import dead.json --no-wait").await,
        "upstreams/dead stored; whether it works is not known yet\n"
    );
    // That it is the same does not say that it works.
    gateway.ctl("wait upstream dead --for state=unreachable").await;
    let (said, talk, code) = outcome(&gateway.try_ctl(&["import", "dead.json"]).await);
    assert_eq!((said.as_str(), code), ("upstreams/dead unchanged\n", 0));
    assert!(
        talk.starts_with("dead is unreachable: ") && talk.contains("`mcpctl refresh upstream dead`"),
        "{talk}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_asks_for_is_asked_for() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let upstream = working().await;
    let file = json!({
        "inputs": [
            {"type": "promptString", "id": "tok", "description": "Token", "password": true},
            {"type": "pickString", "id": "zone", "description": "Zone", "options": ["north", "south"], "default": "south"}
        ],
        "servers": {
            "a": {"url": upstream.url(), "headers": {"X-Key": "${input:tok}", "X-Zone": "${input:zone}"}},
            "b": {"url": upstream.url(), "headers": {"X-Key": "${input:tok}"}}
        }
    });
    write(&gateway, "mcp.json", &file.to_string());
    let (said, talk, code) = outcome(&gateway.try_ctl(&["import", "mcp.json"]).await);
    assert_eq!((said.as_str(), code), ("", 1));
    assert!(
        talk.contains("server a: skipped: ${input:tok}, ${input:zone} is asked for on a terminal"),
        "{talk}"
    );

    let mut terminal = gateway.terminal(&["import", "mcp.json"], NARROW, &[]);
    terminal.wait_for("Token").await;
    terminal.type_line("s3cret-value");
    terminal.wait_for("Zone").await;
    terminal.type_line("nroth");
    terminal.wait_for("nroth is none of them").await;
    terminal.type_line("");
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
    let screen = terminal.raw();
    assert!(screen.contains("upstreams/a imported") && screen.contains("upstreams/b imported"), "{screen}");
    assert!(!screen.contains("s3cret-value"), "{screen}");
    let asked = upstream.received("tools/list");
    let heads = |name: &str, value: &str| {
        asked.iter().filter(|r| r.head.to_lowercase().contains(&format!("{name}: {value}"))).count()
    };
    assert!(heads("x-key", "s3cret-value") > 1 && heads("x-zone", "south") > 0, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_codex_is_read() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let upstream = working().await;
    let text = format!(
        "model = \"x\" # mine\n\n[mcp_servers.docs]\nurl = \"{}\"\nhttp_headers = {{ X-Key = \"k1\" }}\n\n\
         [mcp_servers.off]\nurl = \"http://127.0.0.1:1/mcp\"\nenabled = false\n\n[mcp_servers.own]\ncommand = \"true\"\nargs = [\"-x\"]\n",
        upstream.url()
    );
    write(&gateway, "config.toml", &text);
    let (said, talk, code) = outcome(&gateway.try_ctl(&["import", "config.toml"]).await);
    assert_eq!(
        (said.as_str(), code),
        ("upstreams/docs imported\nmcpctl expose --register own -- true -x\n", 0),
        "{talk}"
    );
    assert!(talk.contains("server off: left out, since it is disabled"), "{talk}");
    write(&gateway, "config.toml", "[mcp_servers.docs]\nurl = \"s3cret\n");
    let (_, talk, code) = outcome(&gateway.try_ctl(&["import", "config.toml"]).await);
    assert!(
        code == 2 && talk.starts_with("error: config.toml: invalid TOML: ") && talk.contains("line 2"),
        "{talk}"
    );
    assert!(!talk.contains("s3cret"), "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_points_elsewhere_is_not_taken_over() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let elsewhere = working().await;
    gateway.ctl(&format!("create upstream time --url {}", elsewhere.url())).await;
    let server = crate::support::root().join("cli/tests/bridges/stdio_server.py");
    let command = ["--", "python3", server.to_str().unwrap()];
    let exposed = |options: &[&'static str]| {
        let arguments: Vec<&str> =
            ["expose", "--register"].iter().chain(options).chain(&command).copied().collect();
        arguments
    };
    let (_, talk, code) = outcome(&gateway.try_ctl(&exposed(&["time"])).await);
    assert!(
        talk.contains(&format!(
            "error: upstreams/time exists and points to {}; add --replace",
            elsewhere.url()
        )),
        "{talk}"
    );
    assert_eq!(code, 6);
    let (_, talk, code) = outcome(&gateway.try_ctl(&exposed(&["time", "--replace"])).await);
    assert!(talk.contains("this points upstreams/time to ") && talk.contains("add --yes"), "{talk}");
    assert_eq!(code, 2);
    assert_eq!(shown(&gateway, "time").await["http"]["url"], elsewhere.url());

    // From then on it is that of this host, whatever its port.
    let mut last = Value::Null;
    for options in [&["time", "--replace", "--yes"][..], &["time"]] {
        let before = last.clone();
        let mut child = gateway.spawn_ctl(&exposed(options));
        last = eventually("it points to the command", PATIENCE, || async {
            let upstream = shown(&gateway, "time").await;
            let url = upstream["http"]["url"].clone();
            let is_there =
                url != before && url != elsewhere.url().as_str() && upstream["status"]["state"] == "ready";
            if is_there { Ok(url) } else { Err(upstream.to_string()) }
        })
        .await;
        child.start_kill().unwrap();
        child.wait().await.unwrap();
    }
}
