//! Who calls: which saved token is used where none is named, bearers that were handed over, and what a client can ask for by
//! `mcpctl`. Every error names the bearer and where it came from.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::PATIENCE;
use crate::support::fake::{Fake, Received, Step, id, json, stream_head, write};
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::WIDE;
use crate::support::wire::LEGACY;

/// Between two words of a tool that goes on and on.
const PAUSE: Duration = Duration::from_millis(100);

const TOOLS: &str = r#"[{"name":"now","description":"Tells the time.","inputSchema":{"type":"object","required":["zone"],
    "properties":{"zone":{"type":"string"},"count":{"type":"integer","default":1}}}}]"#;

/// An upstream with a tool, a resource and a prompt.
async fn upstream() -> Fake {
    Fake::scripted(TOOLS, answer).await
}

fn answer(request: &Received) -> Option<Vec<Step>> {
    let message: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let result = match message["method"].as_str()? {
        "initialize" => format!(
            r#"{{"protocolVersion":"{LEGACY}","capabilities":{{"tools":{{}},"resources":{{}},"prompts":{{}}}},"serverInfo":{{"name":"fake","version":"1"}}}}"#
        ),
        "server/discover" => return Some(vec![json(404, "no")]),
        "tools/call" => r#"{"content":[{"type":"text","text":"noon"}]}"#.to_owned(),
        "resources/list" => {
            r#"{"resources":[{"uri":"file:///a","name":"a","description":"The first."},{"uri":"file:///b","name":"b"}]}"#.to_owned()
        }
        "resources/read" if message["params"]["uri"] == "file:///b" => {
            r#"{"contents":[{"uri":"file:///b","mimeType":"image/png","blob":"AAECAw=="}]}"#.to_owned()
        }
        "resources/read" => r#"{"contents":[{"uri":"file:///a","text":"the text"}]}"#.to_owned(),
        "resources/templates/list" => r#"{"resourceTemplates":[]}"#.to_owned(),
        "prompts/list" => r#"{"prompts":[{"name":"greet","arguments":[{"name":"who","required":true}]}]}"#.to_owned(),
        "prompts/get" => format!(
            r#"{{"messages":[{{"role":"user","content":{{"type":"text","text":"Greet {}."}}}}]}}"#,
            message["params"]["arguments"]["who"].as_str().unwrap_or_default()
        ),
        _ => return None,
    };
    Some(vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))])
}

async fn start(store: Store) -> (Gateway, Fake) {
    let gateway = Gateway::start(store, 1).await;
    let upstream = upstream().await;
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool fake/* --resource fake/* --prompt fake/*").await;
    (gateway, upstream)
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

async fn try_ctl(gateway: &Gateway, line: &str) -> (i32, String, String) {
    said(&gateway.try_ctl(&line.split_whitespace().collect::<Vec<_>>()).await)
}

#[tokio::test]
async fn the_first_token_that_was_made_and_may_do_it_is_used() {
    for store in [Store::Sqlite, Store::Postgres] {
        let (gateway, _upstream) = start(store).await;
        for line in [
            "create token narrow --server dev --tool fake_other",
            "create token zlaptop --server dev --tool fake_now --tool fake_later",
            "create token alpha --server dev --tool fake_now",
        ] {
            gateway.ctl(line).await;
        }
        // By its exposed name and by the upstream's own, `narrow` is passed over, and `alpha` was made later.
        for tool in ["fake_now", "now"] {
            assert_eq!(gateway.ctl(&format!("call dev {tool} zone=UTC")).await.trim_end(), "noon");
        }
        let (code, _, talk) = try_ctl(&gateway, "call dev fake_nwo --token zlaptop").await;
        assert_eq!(code, 3, "{talk}");
        assert!(
            talk.contains("that token zlaptop (saved in ") && talk.contains("did you mean fake_now?"),
            "{talk}"
        );
        // Revoked elsewhere, so that it is still in the file: the next one is tried, and that is said.
        gateway.admin.revoke_token("zlaptop").await;
        gateway.admin.settled().await;
        let (code, out, talk) = try_ctl(&gateway, "call dev fake_now zone=UTC").await;
        assert_eq!((code, out.as_str()), (0, "noon"), "{talk}");
        assert!(talk.contains("token zlaptop (saved in ") && talk.contains("trying token alpha"), "{talk}");
        connects_with_the_next(&gateway).await;
        let (code, _, talk) = try_ctl(&gateway, "call dev fake_now --token zlaptop").await;
        assert_eq!(code, 4, "{talk}");
        assert!(talk.contains("rejected token zlaptop (saved in "), "{talk}");
        let (code, _, talk) = try_ctl(&gateway, "call dve fake_now").await;
        assert_eq!(code, 3);
        assert_eq!(talk, "error: server dve does not exist; did you mean dev?");
    }
}

/// A host on stdio is served as `call` is: `zlaptop`, which was made first of those that are left, is over.
async fn connects_with_the_next(gateway: &Gateway) {
    gateway.ctl("delete token narrow").await;
    gateway.admin.settled().await;
    let mut host = gateway.spawn_ctl(&["connect", "dev"]);
    let mut input = host.stdin.take().unwrap();
    let hello = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{{}},"clientInfo":{{"name":"h","version":"1"}}}}}}"#
    );
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"fake_now","arguments":{"zone":"UTC"}}}"#;
    input.write_all(format!("{hello}\n{call}\n").as_bytes()).await.unwrap();
    let mut answers = BufReader::new(host.stdout.take().unwrap()).lines();
    for id in [1, 2] {
        let line = tokio::time::timeout(PATIENCE, answers.next_line()).await.unwrap().unwrap().unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer["id"] == id && answer["result"].is_object(), "{answer}");
    }
    drop(input);
    assert!(tokio::time::timeout(PATIENCE, host.wait()).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn a_bearer_that_was_handed_over_is_used() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    let bearer = gateway.ctl("create token friend --server dev --no-save").await;
    let file = gateway.folder().join("bearer");
    std::fs::write(&file, &bearer).unwrap();
    let (code, _, talk) = try_ctl(&gateway, "call dev fake_now zone=UTC").await;
    assert_eq!(code, 3, "{talk}");
    assert!(talk.contains("--bearer-file") && talk.contains("TRUNKLINE_TOKEN"), "{talk}");
    let call = ["call", "dev", "fake_now", "zone=UTC", "--bearer-file", file.to_str().unwrap()];
    assert_eq!(gateway.ctl_args(&call).await.trim_end(), "noon");
    for variable in ["TRUNKLINE_TOKEN", "TRUNKLINE_BEARER"] {
        let environment = [(variable, bearer.trim().to_owned())];
        let (code, printed, talk) = said(&gateway.try_ctl_in(&call[..4], &environment).await);
        assert_eq!((code, printed.as_str()), (0, "noon"), "{talk}");
    }
    std::fs::write(gateway.folder().join("wrong"), "e30.e30.e30").unwrap();
    let (code, _, talk) = try_ctl(&gateway, "call dev fake_now --bearer-file wrong").await;
    assert_eq!(code, 4);
    assert!(talk.contains("rejected the bearer in wrong;") && !talk.contains("e30."), "{talk}");

    // Asked for on a terminal, and not shown there; its own name is the default.
    let mut terminal = gateway.terminal(&["config", "set-bearer"], WIDE, &[]);
    terminal.wait_for("Bearer:").await;
    terminal.type_line(bearer.trim());
    assert_eq!(terminal.ended().await, 0, "{}", terminal.screen());
    assert!(!terminal.raw().contains(bearer.trim()), "{}", terminal.raw());
    assert!(terminal.screen().contains("bearer of token friend saved in"), "{}", terminal.screen());
    assert_eq!(gateway.ctl("call dev fake_now zone=UTC").await.trim_end(), "noon");
    let (code, _, talk) = try_ctl(&gateway, "config set-bearer friend --file wrong").await;
    assert_eq!(code, 6);
    assert!(talk.contains("add --replace"), "{talk}");
    let mut terminal = gateway.terminal(&["config", "set-bearer", "other"], WIDE, &[]);
    terminal.wait_for("Bearer:").await;
    terminal.type_keys("half\u{3}");
    assert_eq!(terminal.ended().await, 1, "{}", terminal.screen());
    assert!(terminal.screen().contains("cancelled"), "{}", terminal.screen());
}

#[tokio::test]
async fn what_a_client_can_do_can_be_done_here() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    gateway.ctl("create token laptop --server dev").await;
    assert_eq!(
        gateway.ctl("call dev").await,
        "fake_now(zone: string, [count: integer = 1])\n    Tells the time.\n"
    );
    assert_eq!(gateway.ctl("call dev -o name").await, "fake_now\n");
    let listed: Value = serde_json::from_str(&gateway.ctl("call dev -o json").await).unwrap();
    assert_eq!(listed[0]["name"], "fake_now");
    let resources = gateway.ctl("read dev -o name").await;
    let uris: Vec<_> = resources.lines().collect();
    let [first, second] = uris[..] else { panic!("{resources}") };
    assert!(gateway.ctl("read dev").await.contains("a: The first."));
    assert_eq!(gateway.ctl(&format!("read dev {first}")).await, "the text\n");
    let image = gateway.try_ctl(&["read", "dev", second]).await;
    assert_eq!(image.stdout, [0, 1, 2, 3]);
    let mut terminal = gateway.terminal(&["read", "dev", second], WIDE, &[]);
    assert_eq!(terminal.ended().await, 0);
    assert!(terminal.screen().contains("[resource image/png, about 4 bytes;"), "{}", terminal.screen());
    assert_eq!(gateway.ctl("prompt dev").await, "fake_greet(who)\n");
    assert_eq!(gateway.ctl("prompt dev fake_greet who=you").await, "user:\nGreet you.\n");
    for era in ["legacy", "modern"] {
        let pong = gateway.ctl(&format!("ping dev --era {era}")).await;
        assert!(
            pong.starts_with("the edge answers for dev in ") && pong.contains("token laptop (saved in "),
            "{pong}"
        );
    }
    let (code, _, talk) = try_ctl(&gateway, "read dev file:///none").await;
    assert_eq!(code, 3, "{talk}");
    assert!(talk.contains("token laptop (saved in "), "{talk}");
}

#[tokio::test]
async fn a_token_for_every_server_comes_last_and_scopes_may_change() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    gateway.ctl("create server other").await;
    let save = async |name: &str, more: &[&str]| {
        let bearer = gateway.ctl(&format!("create token {name} --server other --no-save")).await;
        std::fs::write(gateway.folder().join("bearer"), bearer).unwrap();
        gateway.try_ctl(&[&["config", "set-bearer", name, "--file", "bearer"], more].concat()).await
    };
    let (code, _, talk) = said(&save("aaa", &[]).await);
    assert!(
        code == 0 && talk.ends_with("for every server; name those that it may call with --server"),
        "{talk}"
    );
    // Neither may call it.
    let (code, _, talk) = said(&save("bbb", &["--server", "dev"]).await);
    assert!(code == 0 && talk.ends_with(" for dev"), "{talk}");
    let (code, _, talk) = try_ctl(&gateway, "ping dev").await;
    assert_eq!(code, 3, "{talk}");
    assert!(
        talk.contains("server dev does not exist or neither token bbb (")
            && talk.contains(" nor token aaa ("),
        "{talk}"
    );

    gateway.ctl("create token narrow --server dev --tool fake_now").await;
    gateway.ctl("create token wide --server dev").await;
    for line in ["ping dev", "call dev fake_now zone=UTC"] {
        let (code, out, talk) = try_ctl(&gateway, line).await;
        assert_eq!((code, talk.as_str()), (0, ""), "{line}: {out}");
    }
    // Changed elsewhere, so that the file says what is no longer so: the next one is asked.
    gateway.admin.edit_token("narrow", "dev", &["fake_other"]).await.unwrap();
    gateway.admin.settled().await;
    let (code, out, talk) = try_ctl(&gateway, "call dev fake_now zone=UTC").await;
    assert_eq!((code, out.as_str()), (0, "noon"), "{talk}");
    assert!(
        talk.contains("token narrow (") && talk.contains("may not call fake_now; using token wide ("),
        "{talk}"
    );
    // Changed here, the file is, too.
    gateway.ctl("update token narrow --tool fake_other").await;
    let (code, out, talk) = try_ctl(&gateway, "call dev fake_now zone=UTC").await;
    assert_eq!((code, out.as_str(), talk.as_str()), (0, "noon", ""));
}

#[tokio::test]
async fn saved_bearers_are_deleted() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    for name in ["one", "two"] {
        gateway.ctl(&format!("create token {name} --server dev")).await;
    }
    for (line, code, part) in [
        ("config delete-bearer oen --yes", 3, "did you mean one?"),
        ("config delete-bearer one", 2, "add --yes to confirm"),
        ("config set-bearer Bad_Name --file bearer", 2, "is no name of a token"),
    ] {
        std::fs::write(gateway.folder().join("bearer"), "e30.e30.e30").unwrap();
        let (found, _, talk) = try_ctl(&gateway, line).await;
        assert_eq!(found, code, "{line}: {talk}");
        assert!(talk.contains(part), "{line}: {talk}");
    }
    let (code, _, talk) = try_ctl(&gateway, "config delete-bearer one two --yes").await;
    assert_eq!(code, 0, "{talk}");
    assert!(talk.contains("bearer of token one deleted from ") && talk.lines().count() == 2, "{talk}");
    assert_eq!(try_ctl(&gateway, "config get-bearer one").await.0, 3);
    // The tokens themselves are there.
    assert_eq!(gateway.ctl("get tokens -o name").await, "tokens/one\ntokens/two\n");
}

/// Who misspells a server is told that, and not to make a token for it.
#[tokio::test]
async fn a_server_that_does_not_exist_is_said_to() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    let meant = "error: server dve does not exist; did you mean dev?";
    let lines =
        ["call dve", "read dve", "prompt dve", "ping dve", "connect dve", "client-config dve --for zed"];
    for line in lines {
        assert_eq!(try_ctl(&gateway, line).await, (3, String::new(), meant.to_owned()), "{line}");
    }
    // Also where a token is for every server, so that an edge is asked first.
    gateway.ctl("create token all --server *").await;
    assert_eq!(try_ctl(&gateway, "call dve fake_now").await, (3, String::new(), meant.to_owned()));
    let (code, _, talk) = try_ctl(&gateway, "client-config dve --for zed").await;
    assert!(
        code == 0 && talk.starts_with("warning: server dve does not exist; did you mean dev?\n"),
        "{talk}"
    );
    let (code, _, talk) = try_ctl(&gateway, "call zoo").await;
    let advice = "error: server zoo does not exist; run `mcpctl get servers` to list what exists";
    assert_eq!((code, talk.as_str()), (3, advice));

    // Without an admin token it is compared with what tokens are saved for.
    gateway.ctl("create token laptop --server dev").await;
    let text = std::fs::read_to_string(gateway.context()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.contains("adminToken")).collect();
    std::fs::write(gateway.context(), lines.join("\n")).unwrap();
    let (code, _, talk) = try_ctl(&gateway, "call dve").await;
    assert!(code == 3 && talk.ends_with("may not call it; did you mean dev?"), "{talk}");
    gateway.ctl("config delete-bearer all --yes").await;
    let (code, _, talk) = try_ctl(&gateway, "call dve").await;
    let end = "may call server dve; did you mean dev?; saved there: laptop (dev)";
    assert!(code == 3 && talk.ends_with(end), "{talk}");
}

#[tokio::test]
async fn a_name_without_its_upstream_is_found() {
    let (gateway, _upstream) = start(Store::Sqlite).await;
    gateway.ctl("create token laptop --server dev").await;
    let (code, _, talk) = try_ctl(&gateway, "call dev nwo").await;
    assert!(code == 3 && talk.contains("; did you mean fake_now?; available: fake_now"), "{talk}");
    assert_eq!(
        try_ctl(&gateway, "get tool now").await,
        (
            3,
            String::new(),
            "error: now is no upstream; tools are named UPSTREAM/NAME; did you mean fake/now?".to_owned()
        )
    );
    gateway.ctl("update upstreams/fake --title T").await;
    gateway.ctl("refresh upstream/fake").await;
    assert_eq!(gateway.ctl("revoke token/laptop").await, "tokens/laptop revoked\n");
}

/// A tool that tells of its progress for ever is not waited for longer than was said.
#[tokio::test]
async fn the_time_that_is_given_is_all_the_time() {
    let tools = r#"[{"name":"chatty","inputSchema":{"type":"object"}}]"#;
    let fake = Fake::start(tools, |_, request| {
        let token = request.body.split_once(r#""progressToken":"#).unwrap().1;
        let token = &token[..token.find(['}', ',']).unwrap()];
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
        );
        let told = [write(&format!("event: message\ndata: {progress}\n\n")), Step::Wait(PAUSE)];
        std::iter::once(stream_head()).chain(told.into_iter().cycle().take(10_000)).collect()
    })
    .await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.ctl(&format!("create upstream fake --url {}", fake.url())).await;
    gateway.ctl("create server dev --tool fake/*").await;
    gateway.ctl("create token laptop --server dev").await;
    let (code, printed, talk) = try_ctl(&gateway, "call dev chatty --timeout 2s").await;
    assert_eq!((code, printed.as_str()), (7, ""), "{talk}");
    assert!(talk.contains(" did not respond within 2s; the tool may have run, "), "{talk}");
}
