//! Sets of `apply` can be seen, what moves between them is said, and `diff` fails where `apply` would be refused.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Store};

/// What a command printed, what it said, and how it ended.
fn told(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

async fn ctl(gateway: &Gateway, line: &str) -> (String, String, i32) {
    told(&gateway.try_ctl(&line.split_whitespace().collect::<Vec<_>>()).await)
}

async fn get(gateway: &Gateway, line: &str) -> Value {
    serde_json::from_str(&gateway.ctl(&format!("get {line} -o json")).await).unwrap()
}

fn upstream(id: &str, title: &str) -> String {
    format!(
        "kind: Upstream\nname: {id}\ntitle: {title}\nhttp: {{url: 'http://127.0.0.1:1/mcp'}}\ndisabled: true\n"
    )
}

/// A file of upstreams that are asked for nothing.
fn write(gateway: &Gateway, file: &str, upstreams: &[(&str, &str)]) {
    let documents: Vec<_> = upstreams.iter().map(|(id, title)| upstream(id, title)).collect();
    std::fs::write(gateway.folder().join(file), documents.join("---\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_are_seen_and_moves_are_said_on_sqlite() {
    sets_are_seen_and_moves_are_said(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_are_seen_and_moves_are_said_on_postgres() {
    sets_are_seen_and_moves_are_said(Store::Postgres).await;
}

async fn sets_are_seen_and_moves_are_said(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    assert_eq!(
        ctl(&gateway, "get sets").await,
        ("NAME  RESOURCES  CHANGED\n".into(), "no sets found; `mcpctl apply` makes them\n".into(), 0)
    );
    write(&gateway, "team.yaml", &[("a", "A"), ("b", "B"), ("c", "C")]);
    gateway.ctl("apply -f team.yaml --set one").await;
    gateway.ctl("create upstream own --url http://127.0.0.1:1/mcp --disabled").await;

    let sets = get(&gateway, "sets").await;
    assert_eq!(
        (&sets[0]["name"], &sets[0]["count"], sets.as_array().unwrap().len()),
        (&json!("one"), &json!("3"), 1)
    );
    assert_eq!(gateway.ctl("get sets one -o name").await, "one\n");
    assert_eq!(
        ctl(&gateway, "get sets on").await,
        (
            String::new(),
            "error: set on does not exist; did you mean one?; run `mcpctl get sets` to list what exists\n"
                .into(),
            3
        )
    );
    assert_eq!(ctl(&gateway, "get sets -w").await.1, "error: --watch does not apply to sets; leave it out\n");
    let before = get(&gateway, "upstream a").await;
    assert_eq!(before["meta"]["applySet"], "one");
    assert_eq!(get(&gateway, "upstream own").await["meta"]["applySet"], Value::Null);
    let wide = gateway.ctl("get upstreams -o wide").await;
    assert!(wide.lines().next().unwrap().contains("  SET  "), "{wide}");
    assert!(gateway.ctl("describe upstream a").await.contains("Apply set: "), "a line of its own");
    let listed =
        gateway.ctl_args(&["get", "upstreams", "-o", "name", "--filter", "meta.apply_set = \"one\""]).await;
    assert_eq!(listed, "upstreams/a\nupstreams/b\nupstreams/c\n");

    write(&gateway, "team.yaml", &[("a", "A"), ("b", "New")]);
    let refused = "set one has applied upstreams/a, upstreams/b; add --set one to change them there, or add --take-over to move them to set two";
    let (printed, said, code) = ctl(&gateway, "diff -f team.yaml --set two").await;
    assert!(printed.contains("-title: B\n+title: New\n"), "{printed}");
    assert_eq!((said, code), (format!("error: `mcpctl apply` would refuse this: {refused}\n"), 2));
    let (_, said, code) = ctl(&gateway, "apply -f team.yaml --set two").await;
    assert_eq!((said, code), (format!("error: {refused}\n"), 6));
    let (printed, said, code) = ctl(&gateway, "diff -f team.yaml --set two --take-over").await;
    assert!(printed.contains("+title: New\n"), "{printed}");
    assert_eq!(
        (said.as_str(), code),
        ("upstreams/a moves from set one\nupstreams/b moves from set one\n", 1)
    );
    let moved = "~ upstreams/a moved from set one\n~ upstreams/b updated, moved from set one\n";
    assert_eq!(gateway.ctl("apply -f team.yaml --set two --take-over --dry-run").await, moved);
    assert_eq!(gateway.ctl("apply -f team.yaml --set two --take-over").await, moved);
    // A move alone is no write.
    let after = get(&gateway, "upstream a").await;
    assert_eq!(after["meta"]["applySet"], "two");
    for field in ["etag", "revision", "updateTime"] {
        assert_eq!(after["meta"][field], before["meta"][field], "{field}");
    }
    // What `get` gives is a file; a set in it is what was observed.
    std::fs::write(gateway.folder().join("a.yaml"), gateway.ctl("get upstream a -o yaml").await).unwrap();
    assert_eq!(gateway.ctl("apply -f a.yaml --set two").await, "  upstreams/a unchanged\n");
    assert_eq!(gateway.ctl("diff -f a.yaml --set two").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_cannot_go_on_says_what_can_be_done() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    write(&gateway, "team.yaml", &[("a", "A"), ("b", "B")]);
    gateway.ctl("apply -f team.yaml --set one").await;
    for server in 0..12 {
        gateway.ctl(&format!("create server s{server:02} --tool b/*")).await;
    }
    write(&gateway, "team.yaml", &[("a", "A")]);
    let many = "servers/s00, servers/s01, servers/s02, servers/s03, servers/s04, servers/s05, servers/s06, servers/s07, \
                servers/s08, servers/s09 and 2 more";
    let stuck = format!(
        "upstreams/b is used by {many}, so that prune leaves it alone; let what uses it refer to the new name if it was renamed, or \
         else change or delete that first, or run `mcpctl delete upstream b --force`\n"
    );
    for line in ["--force", ""] {
        let (_, said, code) =
            ctl(&gateway, &format!("apply -f team.yaml --set one --prune --yes {line}")).await;
        assert_eq!((said, code), (format!("error: {stuck}"), 6));
    }
    // What else would change is told.
    write(&gateway, "team.yaml", &[("a", "New")]);
    let (printed, said, code) = ctl(&gateway, "diff -f team.yaml --set one --prune").await;
    assert_eq!((said, code), (format!("error: `mcpctl apply` would refuse this: {stuck}"), 2));
    assert!(printed.contains("-title: A\n+title: New\n") && !printed.contains("upstreams/b"), "{printed}");
    write(&gateway, "team.yaml", &[("a", "A")]);
    gateway.ctl("delete upstream b --force").await;
    assert_eq!(gateway.ctl("apply -f team.yaml --set one --prune --yes").await, "  upstreams/a unchanged\n");

    write(&gateway, "team.yaml", &[("c", "C")]);
    gateway.ctl("apply -f team.yaml --set one").await;
    write(&gateway, "team.yaml", &[("d", "D")]);
    let (printed, said, code) = ctl(&gateway, "diff -f team.yaml --set one --prune").await;
    assert!(printed.contains("--- current/upstreams/a\n+++ /dev/null\n"), "{printed}");
    assert_eq!(
        (said.as_str(), code),
        (
            "error: `mcpctl apply` would refuse this: prune would delete 2 of the 2 resources of set one: upstreams/a, upstreams/c; \
             add --force to delete them anyway\n",
            2
        )
    );
    let (_, said, code) = ctl(&gateway, "diff -f team.yaml --set one --prune --force").await;
    assert_eq!((said.as_str(), code), ("", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_what_is_gone_says_so() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create upstream a --url http://127.0.0.1:1/mcp --disabled").await;
    std::fs::write(gateway.folder().join("a.yaml"), gateway.ctl("get upstream a -o yaml").await).unwrap();
    gateway.ctl("delete upstream a").await;
    let (_, said, code) = ctl(&gateway, "apply -f a.yaml").await;
    let place = said.split(": upstreams/a ").next().unwrap_or_default();
    assert!(place.starts_with("error: a.yaml:"), "{said}");
    assert_eq!(
        (said.as_str(), code),
        (
            &*format!(
                "{place}: upstreams/a does not exist any more; take its `meta.etag` out to create it anew\n"
            ),
            6
        )
    );

    let one = |number: usize| format!("- {{kind: Server, name: s{number}}}\n");
    let many = (0..10_001).map(one).collect::<String>();
    std::fs::write(gateway.folder().join("many.yaml"), many).unwrap();
    let (_, said, code) = ctl(&gateway, "apply -f many.yaml").await;
    assert_eq!(
        (said.as_str(), code),
        (
            "error: the files contain 10001 resources, and at most 10000 are taken at once; give parts of them, such as one folder \
             after the other (to prune, each with a --set of its own)\n",
            2
        )
    );
}

const REVOKED: &str = "tokens/laptop is revoked for good; to have a token of this name, run `mcpctl delete token laptop` first\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_said_to_stay_revoked_on_sqlite() {
    a_revoked_token_is_said_to_stay_revoked(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_said_to_stay_revoked_on_postgres() {
    a_revoked_token_is_said_to_stay_revoked(Store::Postgres).await;
}

async fn a_revoked_token_is_said_to_stay_revoked(store: Store) {
    let gateway = Gateway::start(store, 1).await;
    gateway.ctl("create server dev").await;
    for token in ["laptop", "other", "short"] {
        gateway.ctl(&format!("create token {token} --server dev --no-save --no-wait")).await;
    }
    let file = gateway.ctl("export tokens").await;
    std::fs::write(gateway.folder().join("tokens.yaml"), file).unwrap();
    gateway.ctl("revoke token laptop").await;
    gateway.ctl("update token short --expires 2020-01-01T00:00:00Z").await;

    let (printed, said, code) = ctl(&gateway, "apply -f tokens.yaml --no-save").await;
    assert!(printed.contains("  tokens/laptop unchanged\n"), "{printed}");
    let of_files = REVOKED.trim_end();
    assert!(
        said.contains(&format!("warning: {of_files}, or take it out of the files\n")) && code == 0,
        "{said}"
    );
    // Its time was taken out again by the file.
    gateway.ctl("update token short --expires 2020-01-01T00:00:00Z").await;
    let (_, said, code) = ctl(&gateway, "create token laptop --server dev").await;
    assert_eq!((said.as_str(), code), (&*format!("error: {REVOKED}"), 6));
    let (_, said, code) = ctl(&gateway, "create token other --server dev").await;
    assert_eq!(
        (said.as_str(), code),
        ("error: tokens/other already exists; change it with `mcpctl update` or `mcpctl apply`\n", 6)
    );
    let (printed, said, code) = ctl(&gateway, "update token laptop --expires 90d").await;
    assert_eq!((printed.as_str(), code), ("tokens/laptop updated\n", 0));
    assert!(said.ends_with(&format!("warning: {REVOKED}")), "{said}");

    let (printed, said, code) = ctl(&gateway, "export tokens").await;
    assert_eq!(printed.matches("name: ").count(), 1, "{printed}");
    assert!(printed.contains("name: tokens/other\n"), "{printed}");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("exported 1 resource at revision "), "{said}");
    assert_eq!(
        (lines[1..].join("\n").as_str(), code),
        (
            "left out 2 tokens that nobody can use any more, since applying them elsewhere would bring them back: tokens/laptop, \
             tokens/short",
            0
        )
    );
    let (_, said, code) = ctl(&gateway, "export edges").await;
    assert!(said.contains("invalid value 'edges'") && code == 2, "{said}");
}
