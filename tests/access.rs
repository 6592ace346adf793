//! Who may do what, and why, as people ask with `mcpctl`; and that edges do what they were told.

use crate::support::fake::{Fake, id, json, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::{PATIENCE, eventually};
use crate::verbs::told;

/// A server `dev` with the tools `fake_echo` and `fake_plus`, which answer `done`.
async fn start(store: Store) -> (Gateway, Fake) {
    let gateway = Gateway::start(store, 1).await;
    let upstream = Fake::start(&format!("[{},{}]", tool("echo"), tool("plus")), |_, request| {
        let id = id(request);
        let result = r#"{"resultType":"complete","content":[{"type":"text","text":"done"}],"isError":false}"#;
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))]
    })
    .await;
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool fake/*").await;
    (gateway, upstream)
}

async fn ctl(gateway: &Gateway, words: &[&str]) -> (String, String, i32) {
    told(&gateway.try_ctl(words).await)
}

/// What is decided, once that is by what was written last.
async fn check(gateway: &Gateway, more: &[&str], expected: &str) -> (String, i32) {
    let words = [&["access", "check", "--server", "dev"], more].concat();
    eventually("the decision is by what was written", PATIENCE, || async {
        let (printed, said, code) = ctl(gateway, &words).await;
        if printed.starts_with(expected) { Ok((printed, code)) } else { Err(format!("{printed}{said}")) }
    })
    .await
}

/// The lines without the revision, which is no matter here.
fn without_revision(text: &str) -> String {
    match text.split_once(" (revision ").and_then(|(head, rest)| Some((head, rest.split_once(')')?.1))) {
        Some((head, rest)) => format!("{head}{rest}"),
        None => text.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_what_refuses_and_the_command_that_turns_it_on_sqlite() {
    a_refusal_names_what_refuses_and_the_command_that_turns_it(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_what_refuses_and_the_command_that_turns_it_on_postgres() {
    a_refusal_names_what_refuses_and_the_command_that_turns_it(Store::Postgres).await;
}

async fn a_refusal_names_what_refuses_and_the_command_that_turns_it(store: Store) {
    let (gateway, _upstream) = start(store).await;
    let token = [
        "create",
        "token",
        "ci",
        "--server",
        "dev",
        "--tool",
        "fake_echo",
        "--from",
        "192.0.2.0/24",
        "--method",
        "tools/*",
    ];
    let more =
        ["--window", "daily 00:00-24:00 Europe/Berlin", "--rate", "1000/s", "--purpose", "nightly build"];
    let (_, said, code) = ctl(&gateway, &[token.as_slice(), &more].concat()).await;
    assert_eq!(code, 0, "{said}");
    let here = ["--token", "ci", "--tool", "fake_plus", "--from", "127.0.0.1"];
    let (printed, code) = check(&gateway, &here, "denied: address_not_allowed").await;
    let expected = "denied: address_not_allowed: tokens/ci may not be used from 127.0.0.1
LOOKED AT  FIELD               SAYS          HOLDS
tokens/ci  conditions.from[0]  192.0.2.0/24  no: the client is 127.0.0.1
to allow it: mcpctl update token ci --from 192.0.2.0/24 --from 127.0.0.1 --tool fake_echo --tool fake_plus
";
    assert_eq!((without_revision(&printed).as_str(), code), (expected, 4));
    assert_ne!(ctl(&gateway, &["call", "dev", "fake_echo"]).await.2, 0, "the edge says so, too");

    let command = printed.lines().find_map(|line| line.strip_prefix("to allow it: mcpctl ")).unwrap();
    let (_, said, code) = ctl(&gateway, &command.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(code, 0, "{said}");
    let (printed, code) = check(&gateway, &here, "allowed").await;
    let expected = "allowed: tokens/ci may use fake_plus at servers/dev
LOOKED AT    FIELD                  SAYS                             HOLDS
tokens/ci    conditions.from[1]     127.0.0.1                        yes
tokens/ci    conditions.windows[0]  daily 00:00-24:00 Europe/Berlin  yes
tokens/ci    conditions.methods[0]  tools/*                          yes
tokens/ci    scope.servers[0]       servers/dev                      yes
servers/dev  tools                  fake_plus                        yes
tokens/ci    scope.tools[1]         fake_plus                        yes
as long as these are not used up: 1000/s
";
    assert_eq!((without_revision(&printed).as_str(), code), (expected, 0));
    eventually("the edge lets it in", PATIENCE, || async {
        let (printed, said, _) = ctl(&gateway, &["call", "dev", "fake_plus"]).await;
        if printed == "done\n" { Ok(()) } else { Err(said) }
    })
    .await;

    let (printed, code) = check(&gateway, &[here.as_slice(), &["-o", "json"]].concat(), "{").await;
    let decision: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (decision["allowed"].as_bool(), &decision["limits"], code),
        (Some(true), &serde_json::json!(["1000/s"]), 0)
    );
    let (_, code) = check(
        &gateway,
        &["--token", "ci", "--tool", "nope", "--from", "127.0.0.1"],
        "denied: unknown_target",
    )
    .await;
    assert_eq!(code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_lists_tokens_with_what_must_hold() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    for (name, more) in [
        ("all", &[][..]),
        ("ci", &["--tool", "fake_echo", "--from", "10.0.0.0/8", "--quota", "5/hour"]),
        ("other", &["--tool", "x"]),
    ] {
        let words = [&["create", "token", name, "--server", "dev", "--no-save"], more].concat();
        assert_eq!(ctl(&gateway, &words).await.2, 0);
    }
    check(&gateway, &["--token", "other", "--method", "tools/list"], "allowed").await;
    let expected = "PRINCIPAL   THROUGH     WHEN\ntokens/all  tokens/all  \ntokens/ci   tokens/ci   from 10.0.0.0/8, 5/hour\n";
    let trimmed = |text: &str| text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
    let (printed, _, code) = ctl(&gateway, &["access", "who-can", "call", "dev/fake_echo"]).await;
    assert_eq!((trimmed(&printed), code), (trimmed(expected), 0));
    // A whole server: who may use anything of it, and who sees what it has.
    let whole = async |words: &[&str]| {
        let words = [&["access", "who-can"], words, &["-o", "json"]].concat();
        let (printed, said, code) = ctl(&gateway, &words).await;
        assert_eq!(code, 0, "{said}");
        let answer: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let holders = answer["holders"].as_array().unwrap().iter();
        holders.map(|holder| holder["principal"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(whole(&["call", "dev"]).await, "tokens/all tokens/ci");
    assert_eq!(whole(&["call", "dev", "--from", "192.0.2.1"]).await, "tokens/all");
    assert_eq!(whole(&["call", "dev", "--from", "10.1.2.3", "--at", "2h"]).await, "tokens/all tokens/ci");
    assert_eq!(whole(&["list", "dev"]).await, "tokens/all tokens/ci tokens/other");
    let (printed, said, code) = ctl(&gateway, &["access", "who-can", "get", "dev"]).await;
    assert_eq!((printed.as_str(), said.as_str(), code), ("", "nobody can\n", 0));
    let (printed, said, code) = ctl(&gateway, &["access", "who-can", "call", "dev/nope"]).await;
    assert_eq!((printed.as_str(), code), ("", 3), "{said}");
    assert!(said.starts_with("error: servers/dev exposes no nope"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_says_who_gains_and_who_loses_which_tool_on_sqlite() {
    an_apply_says_who_gains_and_who_loses_which_tool(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_says_who_gains_and_who_loses_which_tool_on_postgres() {
    an_apply_says_who_gains_and_who_loses_which_tool(Store::Postgres).await;
}

async fn an_apply_says_who_gains_and_who_loses_which_tool(store: Store) {
    let (gateway, _upstream) = start(store).await;
    for line in [
        "create token laptop --server dev --no-save --no-wait",
        "update upstream fake --visibility public",
        "create team core",
        "create user ann@example.org --team core",
        "create user bob@example.org --team core",
        "update server dev --team core --visibility team",
    ] {
        let (_, said, code) = ctl(&gateway, &line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(code, 0, "{line}: {said}");
    }
    let server = |tools: &str| {
        format!(
            "kind: Server\nname: dev\nmeta: {{team: teams/core, visibility: VISIBILITY_TEAM}}\ntools: [{tools}]\n"
        )
    };
    let write = |name: &str, text: &str| std::fs::write(gateway.folder().join(name), text).unwrap();
    write("less.yaml", &server("{match: fake/echo}"));
    write("same.yaml", &server("{match: 'fake/*'}"));
    let loses = "access: teams/core (2 people) loses fake_plus on dev\naccess: tokens/laptop loses fake_plus on dev\n";
    let (_, said, code) = ctl(&gateway, &["apply", "-f", "less.yaml", "--dry-run"]).await;
    assert!(code == 0 && said.contains(loses), "{said}");
    let (_, said, code) = ctl(&gateway, &["diff", "-f", "less.yaml"]).await;
    assert_eq!((said.as_str(), code), (loses, 1));
    let update = ["update", "server", "dev", "--tool", "fake/echo", "--dry-run"];
    let (_, said, code) = ctl(&gateway, &update).await;
    assert!(code == 0 && said.contains(loses), "{said}");
    let (_, said, _) = ctl(&gateway, &["apply", "-f", "same.yaml", "--dry-run"]).await;
    assert!(!said.contains("access:"), "{said}");
    let (printed, _, _) = ctl(&gateway, &["apply", "-f", "less.yaml", "--dry-run", "-o", "json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(answer["accessChanges"][0]["principal"], "teams/core");
    assert_eq!(
        answer["accessChanges"][1]["lost"],
        serde_json::json!([{"kind": "tool", "name": "fake_plus"}])
    );

    // What is taken away and what is given is said without being asked for.
    let (_, said, code) = ctl(&gateway, &["apply", "-f", "less.yaml"]).await;
    assert!(code == 0 && said.contains(loses), "{said}");
    let (_, said, code) = ctl(&gateway, &["apply", "-f", "same.yaml"]).await;
    assert!(code == 0 && said.contains("access: tokens/laptop gains fake_plus on dev"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_last_used_when_is_told_of_servers_and_tools() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    assert_eq!(ctl(&gateway, &["create", "token", "laptop", "--server", "dev"]).await.2, 0);
    eventually("the edge lets it in", PATIENCE, || async {
        let (printed, said, _) = ctl(&gateway, &["call", "dev", "fake_echo"]).await;
        if printed == "done\n" { Ok(()) } else { Err(said) }
    })
    .await;
    let names = ["usage", "--unused", "--server", "dev"];
    let unused = eventually("the use is reported", PATIENCE, || async {
        let (printed, said, _) = ctl(&gateway, &names).await;
        if printed.contains("fake_echo") { Err(printed + &said) } else { Ok(printed) }
    })
    .await;
    let row: Vec<_> = unused.lines().nth(1).unwrap_or_default().split_whitespace().take(5).collect();
    assert_eq!(row, ["dev", "tools", "fake_plus", "never", "since"], "{unused}");
    let (printed, _, _) = ctl(&gateway, &["usage", "--last"]).await;
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].starts_with("SERVER") && lines[0].ends_with("LAST USED"), "{printed}");
    assert!(
        lines.iter().any(|line| line.contains("fake/tools/echo") || line.contains("fake/echo")),
        "{printed}"
    );
    let (printed, _, _) = ctl(&gateway, &["describe", "server", "dev"]).await;
    assert!(printed.contains("(last used: never since 20") && printed.contains(" ago)"), "{printed}");
    let (printed, _, _) = ctl(&gateway, &["get", "servers", "-o", "wide"]).await;
    assert!(printed.lines().next().unwrap().ends_with("LAST USED"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_shown_replaced_and_refused_with_what_to_write() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    let words = [
        "create",
        "token",
        "ci",
        "--server",
        "dev",
        "--from",
        "10.0.0.0/8",
        "--window",
        "Mon-Fri 08:00-18:00 Europe/Berlin",
        "--rate",
        "5/s",
        "--purpose",
        "nightly",
        "--no-save",
    ];
    assert_eq!(ctl(&gateway, &words).await.2, 0);
    let (printed, _, _) = ctl(&gateway, &["get", "tokens", "-o", "wide"]).await;
    assert!(printed.contains("from 10.0.0.0/8, Mon-Fri 08:00-18:00 Europe/Berlin, 5/s"), "{printed}");
    let (printed, _, _) = ctl(&gateway, &["describe", "token", "ci"]).await;
    for line in ["Purpose:", "nightly", "Conditions", "From:", "10.0.0.0/8", "Windows:", "Rates:"] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let (_, said, code) = ctl(&gateway, &["update", "token", "ci", "--from", "192.0.2.1"]).await;
    assert_eq!(code, 2, "it asks before it takes something out: {said}");
    assert!(said.contains("- from: 10.0.0.0/8"), "{said}");
    let (_, said, code) = ctl(&gateway, &["update", "token", "ci", "--from", "192.0.2.1", "--yes"]).await;
    assert_eq!(code, 0, "{said}");
    for (words, expected) in [
        (["--from", "10.1.2.3/8"], "write 10.0.0.0/8 for the network"),
        (["--window", "Mon-Fri 08:00-18:00 Europe/Berln"], "did you mean Europe/Berlin?"),
        (["--rate", "0/s"], "write at least 1"),
        (["--quota", "5/s"], "write it among the rates"),
        (["--method", "tool/call"], "did you mean tools/call?"),
    ] {
        let (_, said, code) =
            ctl(&gateway, &[&["update", "token", "ci", "--yes"], words.as_slice()].concat()).await;
        assert!(code == 2 && said.contains(expected) && said.contains(words[0]), "{said}");
    }
    let clear = ["update", "token", "ci", "--clear", "conditions.windows"];
    let (_, said, code) = ctl(&gateway, &clear).await;
    assert!(code == 2 && said.contains("add --yes to confirm"), "{said}");
    let (_, said, code) = ctl(&gateway, &[&clear[..], &["--yes"]].concat()).await;
    assert_eq!(code, 0, "{said}");
    let (_, said, code) = ctl(&gateway, &["access", "check", "--token", "ci", "--server", "dev"]).await;
    assert_eq!(code, 2);
    assert!(said.starts_with("error: nothing is named that could be used; give --tool, "), "{said}");
    let (printed, _, code) = ctl(&gateway, &["access", "permissions"]).await;
    assert!(
        code == 0
            && printed.contains("access.explain")
            && printed.contains("Ask what others may do, and why."),
        "{printed}"
    );
}
