//! Calls that do not go as they should, as `mcpctl` tells of them: stopped ones, upstreams that do not answer, arguments that the tool
//! cannot mean, and answers that hold more than a terminal shows.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use crate::support::fake::{Fake, Received, Step, id, json};
use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::WIDE;
use crate::support::wire::LEGACY;
use crate::support::{PATIENCE, eventually};

/// The exit code where nobody answered.
const UNAVAILABLE: i32 = 7;
const NOT_FOUND: i32 = 3;
const USAGE: i32 = 2;

const TOOLS: &str = r#"[{"name":"slow","inputSchema":{"type":"object"}},
    {"name":"look","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},
    {"name":"text","inputSchema":{"type":"object"}},
    {"name":"echo","inputSchema":{"type":"object","required":["zone"],"properties":{"zone":{"type":"string"},"count":{"type":"integer"}}}}]"#;

/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(3600);

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
        "tools/call" => match message["params"]["name"].as_str()? {
            "text" => {
                r#"{"content":[{"type":"text","text":"a\ud800b"}],"structuredContent":{"big":12345678901234567890123}}"#
                    .to_owned()
            }
            // As it came.
            "echo" => {
                format!(r#"{{"content":[{{"type":"text","text":{}}}]}}"#, Value::from(arguments(&request.body)))
            }
            _ => return Some(vec![Step::Wait(NEVER)]),
        },
        "resources/list" => r#"{"resources":[{"uri":"file:///a","name":"a"}]}"#.to_owned(),
        "resources/read" => r#"{"contents":[{"uri":"file:///a","text":"a\udc00"}]}"#.to_owned(),
        "resources/templates/list" => r#"{"resourceTemplates":[]}"#.to_owned(),
        "prompts/list" => r#"{"prompts":[{"name":"greet","arguments":[{"name":"who"}]}]}"#.to_owned(),
        "prompts/get" => format!(
            r#"{{"messages":[{{"role":"user","content":{{"type":"text","text":"Greet {}."}}}}]}}"#,
            message["params"]["arguments"]["who"].as_str().unwrap_or_default()
        ),
        _ => return None,
    };
    Some(vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))])
}

/// The arguments of a call, byte for byte.
fn arguments(body: &str) -> &str {
    let (_, rest) = body.split_once(r#""arguments":"#).unwrap();
    &rest[..=rest.find('}').unwrap()]
}

async fn start() -> (Gateway, Fake) {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let upstream = upstream().await;
    gateway.ctl(&format!("create upstream fake --url {} --era legacy", upstream.url())).await;
    gateway.ctl("create server dev --tool fake/* --resource fake/* --prompt fake/*").await;
    gateway.ctl("create token laptop --server dev").await;
    gateway.admin.settled().await;
    (gateway, upstream)
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

async fn try_ctl(gateway: &Gateway, line: &str) -> (i32, String, String) {
    said(&gateway.try_ctl(&line.split_whitespace().collect::<Vec<_>>()).await)
}

/// Waits until the upstream has received so many messages of a method.
async fn receives(upstream: &Fake, method: &str, count: usize) {
    eventually(&format!("{method} arrives"), PATIENCE, || async {
        match upstream.received(method).len() {
            came if came >= count => Ok(()),
            came => Err(format!("{came} of {count}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_stopped_is_cancelled() {
    let (gateway, upstream) = start().await;
    let mut calls = 0;
    for era in ["legacy", "modern"] {
        for (name, number) in [("INT", 2), ("TERM", 15)] {
            let mut call = gateway.spawn_ctl(&["call", "dev", "fake_slow", "--era", era]);
            calls += 1;
            receives(&upstream, "tools/call", calls).await;
            let signal = format!("kill -s {name} {}", call.id().unwrap());
            assert!(std::process::Command::new("sh").args(["-c", &signal]).status().unwrap().success());
            let status = tokio::time::timeout(PATIENCE, call.wait()).await.unwrap().unwrap();
            assert_eq!(status.signal(), Some(number), "{era}: {status}");
            receives(&upstream, "notifications/cancelled", calls).await;
        }
    }
    let mut terminal = gateway.terminal(&["call", "dev", "fake_slow"], WIDE, &[]);
    receives(&upstream, "tools/call", calls + 1).await;
    terminal.type_keys("\u{3}");
    assert_eq!(terminal.ended().await, -1, "{}", terminal.screen());
    receives(&upstream, "notifications/cancelled", calls + 1).await;
}

/// An upstream that answers a call with an error as soon as it is cancelled, as SDKs do.
async fn obedient() -> Fake {
    let told = Arc::new(Notify::new());
    Fake::scripted(TOOLS, move |request| {
        let message: Value = serde_json::from_str(&request.body).unwrap_or_default();
        match message["method"].as_str()? {
            "tools/call" => {
                let error = r#"{"code":0,"message":"Request cancelled"}"#;
                let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id(request));
                Some(vec![Step::Until(Arc::clone(&told)), json(200, &answer)])
            }
            "notifications/cancelled" => {
                told.notify_one();
                None
            }
            _ => None,
        }
    })
    .await
}

/// It is no fault of the upstream, whatever that says to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_stopped_is_counted_as_such() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let (old, new) = (obedient().await, obedient().await);
    for (era, upstream) in [("legacy", &old), ("modern", &new)] {
        gateway.ctl(&format!("create upstream {era} --url {} --era {era}", upstream.url())).await;
    }
    gateway.ctl("create server dev --tool legacy/* --tool modern/*").await;
    gateway.ctl("create token laptop --server dev").await;
    gateway.admin.settled().await;
    for (name, upstream) in [("legacy_slow", &old), ("modern_slow", &new)] {
        for (number, era) in ["legacy", "modern"].into_iter().enumerate() {
            let mut call = gateway.spawn_ctl(&["call", "dev", name, "--era", era]);
            receives(upstream, "tools/call", number + 1).await;
            let signal = format!("kill -s INT {}", call.id().unwrap());
            assert!(std::process::Command::new("sh").args(["-c", &signal]).status().unwrap().success());
            tokio::time::timeout(PATIENCE, call.wait()).await.unwrap().unwrap();
        }
    }
    // Edges report what they counted after a moment.
    eventually("the calls are counted", PATIENCE, || async {
        let usage = gateway.ctl("usage").await;
        let calls = |outcome: &str| -> u64 {
            let cells = usage.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let counted = cells.filter(|cells| cells[2] == "tools/call" && cells[4] == outcome);
            counted.map(|cells| cells[5].parse::<u64>().unwrap()).sum()
        };
        assert_eq!(calls("upstream-error"), 0, "{usage}");
        if calls("cancelled") == 4 { Ok(()) } else { Err(usage) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_answer_is_left_out_or_rounded() {
    let (gateway, _upstream) = start().await;
    assert_eq!(gateway.ctl("call dev fake_text").await, "a\u{fffd}b\n");
    assert_eq!(
        gateway.ctl("call dev fake_text -o yaml").await,
        "content:\n- text: a\u{fffd}b\n  type: text\nstructuredContent:\n  big: 12345678901234567890123\n"
    );
    assert_eq!(gateway.ctl("read dev file:///a").await, "a\u{fffd}\n");
    let sent =
        gateway.ctl_args(&["call", "dev", "echo", "zone:=0.10", "count=12345678901234567890123"]).await;
    assert_eq!(sent, "{\"count\":12345678901234567890123,\"zone\":0.10}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_the_tool_cannot_mean_are_not_sent() {
    let (gateway, upstream) = start().await;
    for (line, part) in [
        ("call dev fake_echo", "the tool requires zone (string);"),
        ("call dev fake_echo zoen=UTC", "the tool has no argument zoen; did you mean zone?"),
        ("call dev fake_echo zone=a zone=b", "zone is given more than once"),
        ("call dev fake_echo --args @- --bearer-file -", "both read stdin"),
        ("call dev fake_echo zone=a --timeout 0s", "nothing responds in no time"),
        ("prompt dev fake_greet who:=5", "arguments of prompts are texts; use who=5"),
    ] {
        let (code, out, talk) = try_ctl(&gateway, line).await;
        assert_eq!((code, out.as_str()), (USAGE, ""), "{line}: {talk}");
        assert!(talk.contains(part), "{line}: {talk}");
    }
    assert!(upstream.received("tools/call").is_empty() && upstream.received("prompts/get").is_empty());
    // What is written as a whole is sent as it is.
    assert_eq!(
        gateway.ctl_args(&["call", "dev", "fake_echo", "--args", r#"{"zoen": 1}"#]).await,
        "{\"zoen\": 1}\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_own_names_work_for_everybody() {
    let (gateway, _upstream) = start().await;
    let edge = gateway.edge_address(0);
    let bearer = gateway.ctl("config get-bearer laptop").await;
    std::fs::write(gateway.folder().join("bearer"), bearer).unwrap();
    // Without the admin token.
    gateway.ctl(&format!("config set-context client --edge http://{edge}")).await;
    gateway.ctl("config set-bearer laptop --file bearer --server dev --context client").await;
    for (line, told) in [
        ("call dev echo zone=a", "{\"zone\":\"a\"}\n"),
        ("read dev file:///a", "a\u{fffd}\n"),
        ("prompt dev greet who=you", "user:\nGreet you.\n"),
    ] {
        assert_eq!(gateway.ctl(&format!("{line} --context client")).await, told);
        assert_eq!(gateway.ctl(line).await, told);
    }
    for (line, told) in [
        ("call dev fake_ehco", "server dev has no tool fake_ehco that token laptop "),
        (
            "call dev fake_ehco",
            " may call; did you mean fake_echo?; available: fake_echo, fake_look, fake_slow, fake_text",
        ),
        ("read dev fake+file:///aa", " may read; did you mean fake+file:///a?; available: fake+file:///a"),
        ("prompt dev fake_grete", " may get; did you mean fake_greet?; available: fake_greet"),
    ] {
        let (code, _, talk) = try_ctl(&gateway, &format!("{line} --context client")).await;
        assert_eq!(code, NOT_FOUND, "{line}: {talk}");
        assert!(talk.contains(told), "{line}: {talk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_answer_is_named() {
    let (gateway, _upstream) = start().await;
    assert!(gateway.ctl("ping dev").await.starts_with("the edge answers for dev in "));
    let doubt = "the tool may have run, so look before you call it again";
    gateway.ctl("update upstream fake --request-timeout 1s").await;
    gateway.admin.settled().await;
    for (tool, is_doubtful) in [("fake_slow", true), ("fake_look", false)] {
        let (code, _, talk) = try_ctl(&gateway, &format!("call dev {tool}")).await;
        assert_eq!(code, UNAVAILABLE, "{talk}");
        assert!(talk.contains("see `mcpctl describe upstream fake`"), "{talk}");
        assert_eq!(talk.contains(doubt), is_doubtful, "{talk}");
    }
    // Nobody listens there.
    gateway.ctl("update upstream fake --url http://127.0.0.1:1/mcp").await;
    let _ = gateway.try_ctl(&["refresh", "upstream", "fake"]).await;
    gateway.admin.settled().await;
    for line in ["call dev fake_echo zone=a", "read dev fake+file:///a", "prompt dev fake_greet who=you"] {
        let (code, _, talk) = try_ctl(&gateway, line).await;
        assert_eq!(code, UNAVAILABLE, "{line}: {talk}");
        assert!(talk.contains("see `mcpctl describe upstream fake`"), "{line}: {talk}");
    }
    let (code, out, talk) = try_ctl(&gateway, "ping dev").await;
    assert!(code == 0 && out.starts_with("the edge answers for dev in "), "{out} {talk}");
    assert_eq!(talk, "warning: server dev is degraded: upstreams/fake is unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_edge_is_gone_is_not_called_harmless() {
    let (gateway, upstream) = start().await;
    let killed = async {
        receives(&upstream, "tools/call", 1).await;
        gateway.signal_edge(0, "KILL");
    };
    let (output, ()) = tokio::join!(gateway.try_ctl(&["call", "dev", "fake_slow"]), killed);
    let (code, out, talk) = said(&output);
    assert_eq!((code, out.as_str()), (UNAVAILABLE, ""), "{talk}");
    assert!(talk.ends_with("; the tool may have run, so look before you call it again"), "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_before_its_upstreams_first_probe_says_so() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    // It takes the connection, and says nothing.
    let silent = Fake::scripted("[]", |_| Some(vec![Step::Wait(NEVER)])).await;
    gateway.ctl(&format!("create upstream fake --url {} --no-wait", silent.url())).await;
    gateway.ctl("create server dev --tool fake/*").await;
    gateway.ctl("create token laptop --server dev").await;
    let (code, _, talk) = try_ctl(&gateway, "call dev now").await;
    assert_eq!(code, NOT_FOUND, "{talk}");
    let told = "available: none; server dev is empty: upstreams/fake is pending; `mcpctl wait server dev --for state=ready` waits for it";
    assert!(talk.ends_with(told), "{talk}");
}
