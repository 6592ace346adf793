//! Rules of a server, as people write and try them with `mcpctl`; and that edges keep them.

use crate::support::fake::{Fake, id, json};
use crate::support::gateway::{Gateway, Store};
use crate::support::{PATIENCE, eventually};
use crate::verbs::told;

/// A server `dev` with the tools `files_read` and `files_drop`, which answer `done`.
async fn start() -> (Gateway, Fake) {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let tool = |name: &str, hints: &str| {
        let schema = r#"{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}"#;
        format!(
            r#"{{"name":"{name}","description":"A tool.","inputSchema":{schema},"annotations":{{{hints}}}}}"#
        )
    };
    let tools = [tool("read", r#""readOnlyHint":true"#), tool("drop", r#""destructiveHint":true"#)];
    let upstream = Fake::start(&format!("[{}]", tools.join(",")), |_, request| {
        let id = id(request);
        let result = r#"{"resultType":"complete","content":[{"type":"text","text":"done"}],"isError":false}"#;
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))]
    })
    .await;
    gateway.ctl(&format!("create upstream files --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool files/*").await;
    gateway.ctl("create token ci --server dev").await;
    (gateway, upstream)
}

async fn ctl(gateway: &Gateway, words: &[&str]) -> (String, String, i32) {
    told(&gateway.try_ctl(words).await)
}

/// Writes the rules of `dev` by a file.
async fn apply(gateway: &Gateway, rules: &str) -> (String, String, i32) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dev.yaml");
    let text = format!("kind: Server\nname: dev\ntools:\n  - match: files/*\nrules:\n{rules}");
    std::fs::write(&file, text).unwrap();
    ctl(gateway, &["apply", "--take-over", "-f", file.to_str().unwrap()]).await
}

async fn call(gateway: &Gateway, tool: &str, path: &str) -> (String, String, i32) {
    ctl(gateway, &["call", "dev", tool, "--args", &format!("{{\"path\":\"{path}\"}}")]).await
}

const SRV: &str = "  - id: srv
    effect: allow
    tools: [files_read]
    when: args.path.startsWith(\"/srv/\")
    reason: only files below /srv
  - id: no-robots
    effect: deny
    when: tool.destructive && caller.kind == 'token'
";

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_lets_some_arguments_pass_and_refuses_others() {
    let (gateway, _upstream) = start().await;
    eventually("the edge has the server", PATIENCE, || async {
        let (printed, said, _) = call(&gateway, "files_read", "/etc/passwd").await;
        if printed == "done\n" { Ok(()) } else { Err(said) }
    })
    .await;
    let (_, said, code) = apply(&gateway, SRV).await;
    assert_eq!(code, 0, "{said}");
    let loses = "access: tokens/ci loses files_drop on dev\naccess: tokens/ci may use on dev as rules decide: files_read (srv)\n";
    assert!(said.contains(loses), "{said}");
    eventually("the edge refuses", PATIENCE, || async {
        let (printed, said, code) = call(&gateway, "files_read", "/etc/passwd").await;
        let refused = code != 0 && said.contains("only files below /srv");
        if refused { Ok(()) } else { Err(format!("{printed}{said}")) }
    })
    .await;
    assert_eq!(call(&gateway, "files_read", "/srv/a").await.0, "done\n");
    assert_ne!(call(&gateway, "files_drop", "/srv/a").await.2, 0, "for tokens it does not exist");

    let check = |more: &[&str]| {
        let words = [&["access", "check", "--token", "ci", "--server", "dev"], more].concat();
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let gateway = &gateway;
        async move { ctl(gateway, &words.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let (printed, _, code) = check(&["--tool", "files_read", "--args", r#"{"path":"/etc"}"#]).await;
    assert!(printed.starts_with("denied: denied_by_rule"), "{printed}");
    assert!(printed.ends_with("to allow it: mcpctl edit server dev\n"), "{printed}");
    assert_eq!(code, 4);
    let (printed, _, code) = check(&["--tool", "files_read", "--args", r#"{"path":"/srv/a"}"#]).await;
    assert!(printed.starts_with("allowed"), "{printed}");
    assert_eq!(code, 0);
    let (printed, _, code) = check(&["--tool", "files_read"]).await;
    assert!(printed.starts_with("it depends on the arguments"), "{printed}");
    assert_eq!(code, 1, "a script does not take that for allowed");
    let (_, said, code) = check(&["--tool", "files_read", "--args", "{path: 1}"]).await;
    assert!(said.contains("this is no JSON"), "{said}");
    assert_eq!(code, 2);
    let (printed, _, code) = check(&["--tool", "files_drop"]).await;
    assert!(printed.starts_with("denied: denied_by_rule"), "{printed}");
    assert_eq!(code, 4);
    let who = async |path: &str| {
        let arguments = format!(r#"{{"path":"{path}"}}"#);
        ctl(&gateway, &["access", "who-can", "call", "dev/files_read", "--args", &arguments]).await
    };
    let (printed, _, _) = who("/srv/a").await;
    assert!(printed.contains("tokens/ci"), "{printed}");
    assert_eq!(who("/etc/passwd").await.1, "nobody can\n");
    let (printed, _, _) = ctl(&gateway, &["describe", "server", "dev"]).await;
    assert!(printed.contains("srv of files_read: args.path.startsWith(\"/srv/\")"), "{printed}");
}

/// The dangerous direction: each command that takes rules away says who is free of which.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_are_taken_away_are_told_as_gains_by_every_command() {
    let (gateway, _upstream) = start().await;
    eventually("the edge has the server", PATIENCE, || async {
        let (printed, said, _) = call(&gateway, "files_read", "/etc/passwd").await;
        if printed == "done\n" { Ok(()) } else { Err(said) }
    })
    .await;
    let rules = "  - id: drops\n    effect: approve\n    tools: [files_drop]\n    when: args.path != \"/tmp\"\n  - id: no-etc\n    effect: deny\n    when: args.path == \"/etc\"\n";
    assert_eq!(apply(&gateway, rules).await.2, 0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dev.yaml");
    std::fs::write(&file, "kind: Server\nname: dev\ntools:\n  - match: files/*\n").unwrap();
    let file = file.to_str().unwrap();
    let gains = "access: tokens/ci may use on dev without the rule drops (approval): files_drop\n\
                 access: tokens/ci may use on dev without the rule no-etc (deny): files_drop, files_read\n";
    for (words, expected) in [
        (&["diff", "--take-over", "-f", file][..], 1),
        (&["apply", "--take-over", "--dry-run", "-f", file], 0),
        (&["update", "server", "dev", "--clear", "rules", "--dry-run"], 0),
    ] {
        let (_, said, code) = ctl(&gateway, words).await;
        assert!(said.contains(gains) && code == expected, "{words:?} {code} {said}");
        let named = words[0] == "diff" || said.contains("rules: drops, no-etc (removed)\n");
        assert!(named, "{words:?} {said}");
    }
    let without_rules = r"sed -i -e '/^rules:/,/^[^ r-]/{/^rules:/d;/^[ -]/d}'";
    let editor = [("EDITOR", without_rules.to_owned())];
    let (_, said, code) = told(&gateway.try_ctl_in(&["edit", "server", "dev"], &editor).await);
    assert!(said.contains(gains) && code == 0, "{code} {said}");
    assert_eq!(apply(&gateway, rules).await.2, 0);
    let (_, said, code) = ctl(&gateway, &["apply", "--take-over", "-f", file]).await;
    assert!(said.contains(gains) && code == 0, "{code} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_meant_is_refused_by_line_and_column() {
    let (gateway, _upstream) = start().await;
    let rule = |when: &str| format!("  - id: a\n    effect: deny\n    when: {when}\n");
    for (when, expected) in [
        ("args.file == 'x'", "has no argument file; it has path"),
        ("args.path == 5", "line 1, column 11: this is always false: a string is never a number"),
        ("args.path.matches('x')", "line 1, column 11: matches is not supported"),
    ] {
        let (_, said, code) = apply(&gateway, &rule(when)).await;
        assert!(said.contains(expected), "{said}");
        assert_ne!(code, 0);
    }
    let idle = "  - id: idle\n    effect: deny\n    tools: [nothing_*]\n";
    let (_, said, code) = apply(&gateway, idle).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warning: servers/dev: the rule idle covers nothing that it exposes"), "{said}");
}

/// A server `crm` with the tool `crm_find`, which answers with a customer.
async fn start_crm() -> (Gateway, Fake) {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let input = r#"{"type":"object","properties":{"name":{"type":"string"},"all":{"type":"boolean"}},"required":["name"]}"#;
    let output = r#"{"type":"object","properties":{"email":{"type":"string"},"ibans":{"type":"array","items":{"type":"string"}}},"additionalProperties":false}"#;
    let tool = format!(
        r#"[{{"name":"find","description":"Finds.","inputSchema":{input},"outputSchema":{output},"annotations":{{"readOnlyHint":true}}}}]"#
    );
    let upstream = Fake::start(&tool, |_, request| {
        let id = id(request);
        let customer = r#"{"email":"ann@example.org","ibans":["DE1"]}"#;
        let text = format!("{customer:?}");
        let result = format!(
            r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}},{{"type":"text","text":"Ann, ann@example.org"}}],"structuredContent":{customer}}}"#
        );
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))]
    })
    .await;
    gateway.ctl(&format!("create upstream crm --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool crm/*").await;
    gateway.ctl("create token ci --server dev").await;
    (gateway, upstream)
}

async fn apply_to_crm(gateway: &Gateway, rules: &str) -> (String, String, i32) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dev.yaml");
    let text = format!("kind: Server\nname: dev\ntools:\n  - match: crm/*\nrules:\n{rules}");
    std::fs::write(&file, text).unwrap();
    ctl(gateway, &["apply", "--take-over", "-f", file.to_str().unwrap()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_takes_members_away_from_results() {
    let (gateway, _upstream) = start_crm().await;
    let call = || async {
        ctl(&gateway, &["call", "dev", "crm_find", "--args", r#"{"name":"ann"}"#, "-o", "json"]).await
    };
    eventually("the edge has the server", PATIENCE, || async {
        let (printed, said, _) = call().await;
        if printed.contains("ann@example.org") { Ok(()) } else { Err(said) }
    })
    .await;
    let mask = |fields: &str| format!("  - id: personal\n    effect: mask\n    fields: {fields}\n");
    for (fields, expected) in [
        ("[mail]", "fields[0] no result of what it covers has it; tool crm_find has email, ibans"),
        ("[email, '**']", "fields[1] names no member; write which after it, such as `**.email`"),
        ("[]", "fields must name what is masked"),
    ] {
        let (_, said, code) = apply_to_crm(&gateway, &mask(fields)).await;
        assert!(code != 0 && said.contains(expected), "{said}");
    }
    let rules = mask("[email, 'ibans.*']") + "  - id: all\n    effect: deny\n    when: args.all\n";
    let (_, said, code) = apply_to_crm(&gateway, &rules).await;
    assert_eq!(code, 0, "{said}");
    let warned = "warning: servers/dev: the rule all: args.all is optional in crm_find: a call without it is refused; write has(args.all) && …";
    assert!(said.contains(warned), "{said}");
    let (_, said, code) = apply_to_crm(&gateway, &mask("[email, 'ibans.*']")).await;
    assert_eq!((code, said.contains("warning")), (0, false), "{said}");
    eventually("the edge masks", PATIENCE, || async {
        let (printed, said, _) = call().await;
        if printed.contains("[masked]") { Ok(()) } else { Err(format!("{printed}{said}")) }
    })
    .await;
    let (printed, _, code) = call().await;
    let shown: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let masked = serde_json::json!({"email": "[masked]", "ibans": ["[masked]"]});
    assert_eq!((code, &shown["structuredContent"]), (0, &masked), "{printed}");
    let text: serde_json::Value =
        serde_json::from_str(shown["content"][0]["text"].as_str().unwrap()).unwrap();
    let blocks = shown["content"].as_array().map(Vec::len);
    assert_eq!((text, blocks), (masked, Some(1)), "one text stands for all that said the same: {printed}");

    let check = ["access", "check", "--token", "ci", "--server", "dev", "--tool", "crm_find"];
    let (printed, _, code) = ctl(&gateway, &check).await;
    assert!(printed.starts_with("allowed") && printed.contains("masks email, ibans.*"), "{printed}");
    assert_eq!(code, 0);
    let (printed, _, _) = ctl(&gateway, &["describe", "server", "dev"]).await;
    assert!(printed.contains("personal masks email, ibans.*: always"), "{printed}");
    let (printed, _, _) = ctl(&gateway, &["get", "server", "dev", "-o", "yaml"]).await;
    assert!(printed.contains("effect: mask") && printed.contains("- ibans.*"), "{printed}");
}
