//! What a change takes away is said: members that select nothing, rights of tokens that match nothing any more, fields that a
//! file resets, and secrets that another credential replaces.

use serde_json::json;

use crate::support::fake::{Fake, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::WIDE;
use crate::verbs::{json, told};

/// A server `lab` with `mine/plus` and `mine/add`, and tokens that may use some of it.
async fn start(store: Store) -> (Gateway, Fake) {
    let gateway = Gateway::start(store, 1).await;
    let upstream = Fake::start(&format!("[{},{}]", tool("add"), tool("plus")), |_, _| Vec::new()).await;
    gateway.ctl(&format!("create upstream mine --url {}", upstream.url())).await;
    gateway.ctl("create server lab --tool mine/plus=sum --tool mine/add").await;
    for (name, tools) in [("ci", "--tool sum"), ("ci2", "--tool sum --tool mine_a*"), ("all", "")] {
        gateway.ctl(&format!("create token {name} --server lab {tools} --no-save --no-wait")).await;
    }
    (gateway, upstream)
}

async fn ctl(gateway: &Gateway, line: &str) -> (String, String, i32) {
    told(&gateway.try_ctl(&line.split_whitespace().collect::<Vec<_>>()).await)
}

/// A text with single blanks: how it is aligned is no matter here.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn write(gateway: &Gateway, name: &str, text: &str) {
    std::fs::write(gateway.folder().join(name), text).unwrap();
}

const LAB: &str = "kind: Server\nname: lab\ntools:\n- {match: mine/plus, alias: total}\n- {match: mine/add}\n- {match: mine/adds}\n";
const LOST: &str = "warning: tokens/ci: tools `sum` matches nothing on its servers any more\n\
                    warning: tokens/ci2: tools `sum` matches nothing on its servers any more\n";
const ACCESS: &str = "access: tokens/all loses sum, gains total on lab\naccess: tokens/ci loses sum on lab\naccess: tokens/ci2 loses sum on lab\n";
const UNRESOLVED: &str = "warning: servers/lab: mine/adds matches nothing in the catalogue\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_says_what_it_changes_and_whom_that_costs_something_on_sqlite() {
    an_apply_says_what_it_changes_and_whom_that_costs_something(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_says_what_it_changes_and_whom_that_costs_something_on_postgres() {
    an_apply_says_what_it_changes_and_whom_that_costs_something(Store::Postgres).await;
}

async fn an_apply_says_what_it_changes_and_whom_that_costs_something(store: Store) {
    let (gateway, _upstream) = start(store).await;
    gateway.ctl("update server lab --title Lab").await;
    write(&gateway, "lab.yaml", LAB);
    let fields =
        "    title: Lab (removed)\n    tools[0].alias: sum -> total\n    tools[2].match: mine/adds (new)\n";
    let dry = ctl(&gateway, "apply -f lab.yaml --dry-run").await;
    let said = format!("{fields}{ACCESS}{UNRESOLVED}nothing was stored (dry run)\n");
    assert_eq!(dry, ("~ servers/lab updated\n".into(), said, 0));
    let (_, said, code) = ctl(&gateway, "diff -f lab.yaml").await;
    assert_eq!((said, code), (format!("{ACCESS}{UNRESOLVED}"), 1));
    let (printed, said, code) = ctl(&gateway, "apply -f lab.yaml").await;
    assert_eq!((printed.as_str(), code), ("~ servers/lab updated\n", 0));
    assert!(said.starts_with(&format!("{fields}{ACCESS}{UNRESOLVED}{LOST}revision ")), "{said}");

    // What is so already takes nothing from anybody; what selects nothing still does not.
    let (printed, said, _) = ctl(&gateway, "apply -f lab.yaml").await;
    assert_eq!(printed, "  servers/lab unchanged\n");
    assert!(said.starts_with(&format!("{UNRESOLVED}revision ")), "{said}");

    assert_eq!(json(&gateway, "get token ci2").await["unmatched"], json!(["tools: sum"]));
    let filtered = gateway.ctl_args(&["get", "tokens", "--filter", "unmatched: sum", "-o", "name"]).await;
    assert_eq!(filtered, "tokens/ci\ntokens/ci2\n");
    let table = gateway.ctl("get tokens").await;
    assert!(table.lines().next().unwrap().ends_with("MATCH NOTHING"), "{table}");
    let described = gateway.ctl("describe token ci").await;
    assert!(squeezed(&described).contains("Matches nothing: tools: sum"), "{described}");
    let doctor = squeezed(&gateway.ctl("doctor --no-clients").await);
    for token in ["ci", "ci2"] {
        let line = format!(
            "warn tokens {token}: tools `sum` matches nothing on its servers -> run `mcpctl describe token {token}`"
        );
        assert!(doctor.contains(&line), "{doctor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_says_what_matches_nothing_any_more() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    let members = "--tool mine/plus=total --tool mine/add --tool mine/adds";
    let (printed, said, code) = ctl(&gateway, &format!("update server lab {members}")).await;
    assert_eq!((printed.as_str(), code), ("servers/lab updated\n", 0));
    assert_eq!(
        said,
        format!(
            "  tools[0].alias: sum -> total\n  tools[2].match: mine/adds (new)\n{ACCESS}{UNRESOLVED}{LOST}"
        )
    );
    // Nobody loses anything by a title.
    let (_, said, _) = ctl(&gateway, "update server lab --title Lab").await;
    assert_eq!(said, format!("  title: Lab (new)\n{UNRESOLVED}"));
    let (_, said, _) = ctl(&gateway, "update token ci --tool total --tool plus --yes").await;
    assert!(said.ends_with("\nwarning: tokens/ci: tools `plus` matches nothing on its servers\n"), "{said}");
    let (_, said, _) = ctl(&gateway, "create token new --server lab --tool plsu --no-save --no-wait").await;
    assert!(said.ends_with("\nwarning: tokens/new: tools `plsu` matches nothing on its servers\n"), "{said}");
    let (_, said, _) = ctl(&gateway, "update upstream mine --disabled").await;
    assert!(
        said.ends_with("warning: tokens/ci: tools `total` matches nothing on its servers any more\nwarning: tokens/ci2: tools `mine_a*` matches nothing on its servers any more\n"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_imported_yet_is_no_mistake() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let file = "kind: Upstream\nname: away\nhttp: {url: 'http://127.0.0.1:1/mcp'}\n---\nkind: Server\nname: lab\n\
                tools: [{match: away/x}]\n---\nkind: Token\nname: ci\nscope: {servers: [servers/lab], tools: [away_x]}\n";
    write(&gateway, "all.yaml", file);
    let (printed, said, code) = ctl(&gateway, "apply -f all.yaml").await;
    let bearer =
        printed.strip_prefix("+ upstreams/away created\n+ servers/lab created\n+ tokens/ci created\n");
    let bearer = bearer.unwrap_or_else(|| panic!("{printed}"));
    assert!(bearer.starts_with("ey") && bearer.lines().count() == 1 && code == 0, "{printed}");
    let saved = gateway.folder().join("mcpctl.yaml");
    let expected = format!(
        "tokens/ci created. Its bearer is shown only once:\nThe bearer is saved in {} for `call`, `connect` and `client-config`.\n\
         revision ",
        saved.display()
    );
    assert!(said.starts_with(&expected), "{said}");
    assert!(json(&gateway, "get token ci").await["unmatched"].is_null());
    // Programs find it where it was.
    write(&gateway, "one.yaml", "kind: Token\nname: one\nscope: {servers: ['*'], tools: ['*']}\n");
    let (printed, said, _) = ctl(&gateway, "apply -f one.yaml --no-save -o name").await;
    assert_eq!(printed, "tokens/one\n");
    assert!(
        said.starts_with("bearer of tokens/one (shown only once): ey") && !said.contains("saved"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_given_shown_and_taken_away_in_one_spelling() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    let tools = async || json(&gateway, "get server lab").await["tools"].clone();
    assert_eq!(tools().await, json!([{ "match": "mine/plus", "alias": "sum" }, { "match": "mine/add" }]));
    let described = gateway.ctl("describe server lab").await;
    assert!(squeezed(&described).contains("Members Tools: mine/plus=sum mine/add"), "{described}");
    // Who names it again keeps its alias.
    gateway.ctl("update server lab --tool mine/plus --tool mine/add=a").await;
    let both = json!([{ "match": "mine/plus", "alias": "sum" }, { "match": "mine/add", "alias": "a" }]);
    assert_eq!(tools().await, both);
    let (_, said, code) = ctl(&gateway, "update server lab --tool mine/add").await;
    assert!(
        said.starts_with("- tools: mine/plus=sum\nerror: this takes 1 entry out of servers/lab") && code == 2,
        "{said}"
    );
    gateway.ctl("update server lab --tool mine/plus= --tool mine/add=").await;
    assert_eq!(tools().await, json!([{ "match": "mine/plus" }, { "match": "mine/add" }]));
    for (words, why) in [
        (
            "mine/add as plus",
            "--tool 'mine/add as plus' matches nothing; to have mine/add named plus, write --tool mine/add=plus",
        ),
        (
            "mine/*=x",
            "--tool 'mine/*=x' names many x; only one can have that name, so write it out without `*`",
        ),
    ] {
        let output = gateway.try_ctl(&["update", "server", "lab", "--tool", words]).await;
        assert_eq!(told(&output), (String::new(), format!("error: {why}\n"), 2));
    }
    write(&gateway, "as.yaml", "kind: Server\nname: lab\ntools: [{match: mine/add as plus}]\n");
    let (_, said, code) = ctl(&gateway, "apply -f as.yaml").await;
    let why = "says ` as plus`, which is no part of a name; write `mine/add`, and `plus` into `alias`";
    assert!(said.contains(why) && code == 2, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_another_kind_asks_before_it_takes_the_place_of_secrets() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway
        .ctl("create upstream a --url http://127.0.0.1:1/mcp --header X-A=1 --header X-B=2 --no-wait")
        .await;
    let kind = async || {
        let credential = json(&gateway, "get upstream a").await["credential"].clone();
        credential.as_object().unwrap().keys().find(|key| *key != "version").cloned().unwrap()
    };
    let asked = "- credential: header X-A\n- credential: header X-B\nerror: this replaces the credential of upstreams/a, and what \
                 it has now cannot be read back, and nobody can be asked here; nothing was changed; add --yes to confirm\n";
    let replaced = ctl(&gateway, "update upstream a --bearer s3cret").await;
    assert_eq!(replaced, (String::new(), asked.into(), 2));
    assert_eq!(kind().await, "headers");
    let (printed, _, code) = ctl(&gateway, "update upstream a --bearer s3cret --dry-run").await;
    assert_eq!((printed.as_str(), code), ("upstreams/a updated (dry run)\n", 0));
    let mut terminal = gateway.terminal(&["update", "upstream", "a", "--bearer", "s3cret"], WIDE, &[]);
    terminal.wait_for("continue? [y/N]").await;
    terminal.type_line("y");
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
    assert_eq!(kind().await, "bearer");
    // A new secret in the place of the old one is what is meant.
    gateway.ctl("update upstream a --bearer another").await;
    gateway.ctl("update upstream a --basic eve:s3cret --yes").await;
    assert_eq!(kind().await, "basic");
    let (_, said, code) = ctl(&gateway, "update upstream a --clear credential").await;
    let asked = "- credential: user eve and the password\nerror: this takes the credential of upstreams/a away, and it cannot be read back, and \
                 nobody can be asked here; nothing was changed; add --yes to confirm\n";
    assert_eq!((said.as_str(), code), (asked, 2));
    assert_eq!(kind().await, "basic");
    gateway.ctl("update upstream a --clear credential --yes").await;
    assert!(json(&gateway, "get upstream a").await["credential"].is_null());
}
