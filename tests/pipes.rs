//! Pipes, files and many resources at once, as people do them who live in kubectl.

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::support::gateway::{Gateway, Store};
use crate::verbs::{json, told};

/// Runs `mcpctl` in pipes.
async fn ctl(gateway: &Gateway, line: &str) -> (String, String, i32) {
    told(&gateway.try_ctl(&line.split_whitespace().collect::<Vec<_>>()).await)
}

/// Runs `mcpctl` with a text on its standard input. Returns what it printed.
async fn piped(gateway: &Gateway, line: &str, text: &str) -> String {
    let mut child = gateway.spawn_ctl(&line.split_whitespace().collect::<Vec<_>>());
    child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    told(&child.wait_with_output().await.unwrap()).0
}

fn write(gateway: &Gateway, file: &str, text: &str) {
    std::fs::write(gateway.folder().join(file), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_jq_prints_is_applied() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    for server in ["a", "b"] {
        gateway.ctl(&format!("create server {server} --title Old --label team=core --label env=prod")).await;
    }
    let listed = json(&gateway, "get servers").await;
    let each =
        |one: &dyn Fn(&Value) -> String| listed.as_array().unwrap().iter().map(one).collect::<String>();
    let (pretty, short) = (each(&|server| format!("{server:#}\n")), each(&|server| format!("{server}\n")));
    let unchanged = "  servers/a unchanged\n  servers/b unchanged\n";
    assert_eq!(piped(&gateway, "apply -f -", &pretty).await, unchanged);
    assert_eq!(
        piped(&gateway, "apply -f -", &short.replace("Old", "New")).await,
        unchanged.replace("  s", "~ s").replace("unchanged", "updated")
    );
    write(&gateway, "servers.json", &short.replace("\"title\"", "\"titel\""));
    let (_, said, code) = ctl(&gateway, "apply -f servers.json").await;
    let wrong = |line| {
        format!(
            "servers.json:{line}: document {line}: Server: unknown field `titel`; did you mean `title`?\n"
        )
    };
    assert_eq!((said, code), (format!("error: {}  {}", wrong(1), wrong(2)), 2));
    assert_eq!(piped(&gateway, "delete -f - --yes", &pretty).await, "servers/a deleted\nservers/b deleted\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_created_on_sqlite() {
    a_copy_is_created(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_created_on_postgres() {
    a_copy_is_created(Store::Postgres).await;
}

async fn a_copy_is_created(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    gateway.ctl("create server dev --title One").await;
    gateway.ctl("create token t-1 --server dev --no-save --no-wait").await;
    let server = gateway.ctl("get server dev -o yaml").await;
    let renamed =
        |text: &str| text.replace("servers/dev", "servers/copy").replace("tokens/t-1", "tokens/t-2");
    let token = renamed(&gateway.ctl("get token t-1 -o yaml").await);
    write(&gateway, "copy.yaml", &format!("{}---\n{token}", renamed(&server)));
    let created = "+ servers/copy created\n+ tokens/t-2 created\n";
    assert_eq!(gateway.ctl("apply -f copy.yaml --dry-run").await, created);
    // Its bearer is shown below.
    let printed = gateway.ctl("apply -f copy.yaml --no-save").await;
    assert!(printed.starts_with(created), "{printed}");
    let unchanged = "  servers/copy unchanged\n  tokens/t-2 unchanged\n";
    assert_eq!(gateway.ctl("apply -f copy.yaml --no-save").await, unchanged, "it may be applied again");

    // Over what is there already it would be taken for something else.
    write(&gateway, "over.yaml", &renamed(&server).replace("title: One", "title: Two"));
    let (_, said, code) = ctl(&gateway, "apply -f over.yaml").await;
    assert!(
        said.ends_with(
            ": servers/copy exists already, and this file was fetched from another resource; take its `meta.etag` out to write over \
             servers/copy, or give another name\n"
        ),
        "{said}"
    );
    assert_eq!((code, &json(&gateway, "get server copy").await["title"]), (6, &"One".into()));
    // A lost race is one as before.
    gateway.ctl("update server dev --title Two").await;
    write(&gateway, "dev.yaml", &server.replace("title: One", "title: Three"));
    let (_, said, code) = ctl(&gateway, "apply -f dev.yaml").await;
    assert!(said.contains("servers/dev was changed since this file was fetched") && code == 6, "{said}");
    // What was made anew under its name is another resource, too.
    gateway.ctl("delete server dev --force").await;
    let (_, said, code) = ctl(&gateway, "apply -f dev.yaml").await;
    assert!(said.contains("servers/dev does not exist any more") && code == 6, "{said}");
    gateway.ctl("create server dev").await;
    let (_, said, code) = ctl(&gateway, "apply -f dev.yaml").await;
    assert!(said.contains("servers/dev exists already") && code == 6, "{said}");

    let other = Gateway::start(Store::Sqlite, 0).await;
    write(&other, "dev.yaml", &server);
    assert_eq!(other.ctl("apply -f dev.yaml").await, "+ servers/dev created\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_have_their_default_are_found() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server off --disabled").await;
    gateway.ctl("create server on --title On").await;
    for (line, printed) in [
        (
            "wait server on --for jsonpath={.status.toolCount}=0",
            "servers/on jsonpath={.status.toolCount}=0\n",
        ),
        ("wait server on --for jsonpath={.disabled}=false -o name", "servers/on\n"),
        ("get servers -o jsonpath={.items[?(@.disabled==false)].name}", "servers/on\n"),
        ("get servers -o jsonpath={.items[?(@.disabled)].name}", "servers/off\n"),
        ("get servers -o jsonpath={.items[?(!@.disabled)].name}", "servers/on\n"),
        ("get servers -o jsonpath={.status.toolCount}:{.disabled}", "0:true\n0:false\n"),
        (
            "get servers -o custom-columns=OFF:.disabled,TITLE:.title",
            "OFF    TITLE\ntrue   <none>\nfalse  On\n",
        ),
        ("describe server on -o jsonpath={.disabled}", "false\n"),
    ] {
        assert_eq!(gateway.ctl(line).await, printed, "{line}");
    }
    let (_, said, code) = ctl(&gateway, "wait server on --for jsonpath={.disabled} --timeout 0s").await;
    assert!(said.ends_with(": servers/on has no such field\n") && code == 7, "{said}");
    assert_eq!(json(&gateway, "get server on").await.get("disabled"), None, "documents are short");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teardown_can_be_repeated() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    write(&gateway, "team.yaml", "- {kind: Server, name: a}\n- {kind: Server, name: b}\n");
    gateway.ctl("apply -f team.yaml").await;
    gateway.ctl("delete server a").await;
    let (_, said, code) = ctl(&gateway, "delete -f team.yaml --yes").await;
    assert!(said.starts_with("error: servers/a does not exist") && code == 3, "{said}");
    let teardown = "delete -f team.yaml --yes --ignore-not-found";
    let (printed, _, code) = ctl(&gateway, teardown).await;
    assert_eq!((printed.as_str(), code), ("servers/b deleted\n", 0));
    let nothing = (String::new(), "nothing of it exists; nothing was deleted\n".to_owned(), 0);
    for line in
        [teardown, "delete join-token x --ignore-not-found", "delete server/a token/b --ignore-not-found"]
    {
        assert_eq!(ctl(&gateway, line).await, nothing, "{line}");
    }
    gateway.ctl("create server c").await;
    assert_eq!(gateway.ctl("get servers a c -o name --ignore-not-found").await, "servers/c\n");
    for format in ["", "-o json"] {
        let told = ctl(&gateway, &format!("get server a --ignore-not-found {format}")).await;
        assert_eq!(told, (String::new(), String::new(), 0), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_files_or_selected_is_waited_for() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    write(
        &gateway,
        "team.yaml",
        "- {kind: Server, name: a, meta: {labels: {team: core}}}\n- {kind: Server, name: b}\n",
    );
    let wait = gateway.spawn_ctl(&["wait", "-f", "team.yaml", "--for", "synced"]);
    gateway.ctl("apply -f team.yaml").await;
    let printed = told(&wait.wait_with_output().await.unwrap()).0;
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["servers/a synced", "servers/b synced"]);
    for (line, printed) in [
        ("-l team=core --for state=empty", "servers/a state=empty\n"),
        ("--all --for state=empty", "servers/a state=empty\nservers/b state=empty\n"),
        ("-l team=none --for deleted", ""),
    ] {
        assert_eq!(ctl(&gateway, &format!("wait servers {line}")).await, (printed.into(), String::new(), 0));
    }
    for (line, why, code) in [
        (
            "servers -l team=none --for synced",
            "nothing is selected; what does not exist yet is waited for by name, or with -f",
            3,
        ),
        ("servers --for synced", "name the servers to wait for, or add --selector or --all", 2),
        ("server a --all --for synced", "--all selects among all; omit the names, or --all", 2),
    ] {
        let told = ctl(&gateway, &format!("wait {line}")).await;
        assert_eq!(told, (String::new(), format!("error: {why}\n"), code), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_updated_at_once() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    for (server, team) in [("a", "core"), ("b", "core"), ("c", "web")] {
        gateway.ctl(&format!("create server {server} --label team={team}")).await;
    }
    // As `xargs` appends names.
    let names = gateway.ctl("get servers -l team=core -o name").await;
    let names = names.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = ctl(&gateway, &format!("update --label tier=1 {names}")).await;
    let new = |name: &str| format!("  servers/{name}: meta.labels.tier: 1 (new)\n");
    assert_eq!(told, ("servers/a updated\nservers/b updated\n".into(), new("a") + &new("b"), 0));
    assert_eq!(
        gateway.ctl("get servers -L team,tier --show-labels --no-headers").await.matches("core").count(),
        4,
        "each label is in a column of its own and in that of all"
    );
    let updated = gateway.ctl("update server -l team=core --disabled -o json").await;
    let updated: Value = serde_json::from_str(&updated).unwrap();
    assert_eq!(updated.as_array().unwrap().len(), 2);
    for (line, said, code) in [
        ("server a b --title T", "--title is of one resource alone; update one at a time with it", 2),
        (
            "server a b --disabled --etag x",
            "--etag is of one resource alone; update one at a time with it",
            2,
        ),
        ("server a --disabled false", "false is taken for a name here; write --disabled=false", 2),
        (
            "server a upstreams/b --disabled",
            "upstreams/b is one of the upstreams, and no server; name resources of one kind at a time",
            2,
        ),
        ("server --disabled", "NAME is required; run `mcpctl update server --help` for how it is used", 2),
    ] {
        let told = ctl(&gateway, &format!("update {line}")).await;
        assert_eq!(told, (String::new(), format!("error: {said}\n"), code), "{line}");
    }
    // Where one does not exist, none is changed.
    let (printed, said, code) = ctl(&gateway, "update server c nosuch --disabled").await;
    assert!(said.starts_with("error: servers/nosuch does not exist"), "{said}");
    assert_eq!((printed.as_str(), code), ("", 3));
    assert!(json(&gateway, "get server c").await["disabled"].is_null());
    gateway.ctl("update server a b --disabled=false").await;
    assert!(json(&gateway, "get server a").await["disabled"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_tells_what_it_replaced_and_nothing_else() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server dev").await;
    let lines: Vec<_> = (0..8).map(|number| format!("update server dev --label c{number}=1")).collect();
    let all = futures_util::future::join_all(lines.iter().map(|line| ctl(&gateway, line))).await;
    for (number, told) in all.into_iter().enumerate() {
        let said = format!("  meta.labels.c{number}: 1 (new)\n");
        assert_eq!(told, ("servers/dev updated\n".into(), said, 0), "{number}");
    }
    assert_eq!(json(&gateway, "get server dev").await["meta"]["labels"].as_object().unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_revoked_at_once() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.ctl("create server dev").await;
    for token in ["a", "b", "c"] {
        gateway.ctl(&format!("create token {token} --server dev --no-save --no-wait")).await;
    }
    let (printed, said, code) = ctl(&gateway, "revoke tokens/a nosuch tokens/b").await;
    assert_eq!((printed.as_str(), code), ("tokens/a revoked\ntokens/b revoked\n", 3));
    assert!(said.contains("error: tokens/nosuch does not exist"), "{said}");
    assert_eq!(gateway.ctl("get tokens -o jsonpath={.state}").await, "revoked\nrevoked\nvalid\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_and_cannot_be_printed_is_said() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    write(&gateway, "dev.yaml", "kind: Server\nname: dev\n");
    let mut command = std::process::Command::new(crate::support::binary("mcpctl"));
    command.args(["apply", "-f", "dev.yaml"]).current_dir(gateway.folder());
    command.env("MCPCTL_CONFIG", gateway.context());
    let output = command.stdout(std::fs::File::create("/dev/full").unwrap()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: the changes are stored, at revision "), "{said}");
    assert!(said.contains(", but cannot be printed: No space left on device"), "{said}");
    assert_eq!(gateway.ctl("get servers -o name").await, "servers/dev\n");
}
