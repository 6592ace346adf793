//! Clients that misbehave and upstreams that lie: each gets a precise answer within a bound of time and memory,
//! and nobody else notices.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::PATIENCE;
use crate::support::fake::{Fake, Step, id, json, stream_head, tool, write};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::{Client, LEGACY, MODERN, modern_meta, raw};

/// Bounds that a test can reach.
const LIMITS: [&str; 12] = [
    "--max-body-bytes",
    "65536",
    "--max-header-bytes",
    "16384",
    "--header-timeout",
    "2",
    "--body-timeout",
    "2",
    "--max-event-bytes",
    "1048576",
    "--max-answer-bytes",
    "4194304",
];
const MIB: u64 = 1 << 20;

async fn start(tools: &[&str], script: fn(&str, &str) -> Vec<Step>) -> (Gateway, Fake, String) {
    let definitions: Vec<String> = tools.iter().map(|name| tool(name)).collect();
    let fake =
        Fake::start(&format!("[{}]", definitions.join(",")), move |name, request| script(name, &id(request)))
            .await;
    let gateway = Gateway::start_with(Store::Sqlite, 1, &LIMITS).await;
    let upstream = trunkline::registry::v1::Upstream {
        request_timeout: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
        ..Default::default()
    };
    gateway.admin.create_upstream_with("fake", &fake.url(), upstream).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("t", "dev", &["*"]).await;
    gateway.admin.settled().await;
    (gateway, fake, bearer)
}

fn good(id: &str) -> Vec<Step> {
    let result = r#"{"content":[{"type":"text","text":"fine"}]}"#;
    vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))]
}

async fn assert_undisturbed(bystander: &Client) {
    let answer = bystander.call("good", "{}").await.unwrap();
    assert_eq!(answer.json()["result"]["content"][0]["text"], "fine", "{answer:?}");
}

/// One bad request, and what must come of it.
struct Bad {
    what: &'static str,
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
    status: u16,
    code: Option<i64>,
}

fn bad(what: &'static str, body: impl Into<Vec<u8>>, status: u16, code: Option<i64>) -> Bad {
    Bad { what, body: body.into(), headers: Vec::new(), status, code }
}

impl Bad {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn bad_requests() -> Vec<Bad> {
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let modern =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{}}}}}"#, modern_meta());
    vec![
        bad("not JSON", "{", 400, Some(-32700)),
        bad("empty", "", 400, Some(-32700)),
        bad("not UTF-8", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(), 400, Some(-32700)),
        bad("two messages", format!("{list}{list}"), 400, Some(-32700)),
        bad("a batch in a revision without batches", format!("[{list}]"), 400, Some(-32600)),
        bad("no version of JSON-RPC", r#"{"id":1,"method":"tools/list"}"#, 400, Some(-32600)),
        bad("an id of null", r#"{"jsonrpc":"2.0","id":null,"method":"tools/list"}"#, 400, Some(-32600)),
        bad(
            "an id that is an object",
            r#"{"jsonrpc":"2.0","id":{},"method":"tools/list"}"#,
            400,
            Some(-32600),
        ),
        bad("a method twice", r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#, 400, Some(-32600)),
        bad("too large", vec![b' '; 65_537], 413, None),
        bad("plain text", list, 415, None).with("content-type", "text/plain"),
        bad("a large header", list, 431, None).with("x-large", "x".repeat(20_000)),
        bad("no such revision", list, 400, None).with("mcp-protocol-version", "1999-01-01"),
        bad("no such session", list, 404, None).with("mcp-session-id", "nobody"),
        bad("a foreign origin", list, 403, None).with("origin", "https://evil.example"),
        bad("a bad bearer", list, 401, None).with("authorization", "Bearer nonsense"),
        bad("another scheme", list, 401, None).with("authorization", "Basic bm86bm8="),
        bad("modern without its header", modern.clone(), 400, Some(-32020))
            .with("mcp-protocol-version", LEGACY),
        bad("modern without a method header", modern, 400, Some(-32020)).with("mcp-protocol-version", MODERN),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_precise_answers() {
    let (gateway, _fake, bearer) = start(&["good"], |_, id| good(id)).await;
    let url = gateway.url(0, "dev");
    let client = Client::open(&url, &bearer).await.unwrap();
    let mut wrong = Vec::new();
    for bad in bad_requests() {
        let headers: Vec<(&str, &str)> = bad.headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let answer = client.send(reqwest::Method::POST, bad.body, &headers).await.unwrap();
        let code = serde_json::from_slice::<serde_json::Value>(&answer.body)
            .ok()
            .and_then(|json| json["error"]["code"].as_i64());
        if answer.status != bad.status || (bad.code.is_some() && code != bad.code) {
            wrong.push(format!("{}: expected {} {:?}, got {answer:?}", bad.what, bad.status, bad.code));
        }
        if answer.status == 401 {
            assert!(answer.headers.contains_key("www-authenticate"), "{}: {answer:?}", bad.what);
        }
        assert_undisturbed(&client).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let stranger = Client::new(&gateway.url(0, "nowhere"), &bearer);
    assert_eq!(stranger.post("{}", &[]).await.unwrap().status, 404);
    let put = client.send(reqwest::Method::PUT, Vec::new(), &[]).await.unwrap();
    assert_eq!(put.status, 405, "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_that_is_not_http_is_answered_or_closed() {
    let (gateway, _fake, bearer) = start(&["good"], |_, id| good(id)).await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let address = gateway.edge_address(0);
    for (bytes, status) in [
        (&b"\x16\x03\x01\x00\x05hello"[..], "HTTP/1.1 400"),
        (b"POST /servers/dev/mcp HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", "HTTP/1.1 400"),
        (
            b"POST /servers/dev/mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            "HTTP/1.1 400",
        ),
        (b"POST /servers/dev/mcp HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 4"),
    ] {
        let answer = String::from_utf8_lossy(&raw(address, bytes, PATIENCE).await).into_owned();
        assert!(answer.is_empty() || answer.starts_with(status), "{bytes:?}: {answer}");
    }
    assert_undisturbed(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_half_open_clients_are_let_go() {
    let (gateway, _fake, bearer) = start(&["good"], |_, id| good(id)).await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    assert_undisturbed(&client).await;
    let before = gateway.edge(0).resident();
    let head = format!(
        "POST /servers/dev/mcp HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\n",
        gateway.edge_address(0)
    );
    let mut clients = JoinSet::new();
    for index in 0..200 {
        let address = gateway.edge_address(0).to_owned();
        let (start, drip) = match index % 3 {
            0 => ("POST /servers".to_owned(), true),
            1 => (format!("{head}content-length: 60000\r\n\r\n{{"), true),
            _ => (format!("{head}content-length: 60000\r\n\r\n{{\"jsonrpc\":"), false),
        };
        clients.spawn(async move { until_closed(&address, &start, drip).await });
    }
    // While they are kept, others are answered.
    let (mut answered, mut grown) = (0, 0);
    let kept = tokio::spawn(clients.join_all());
    while !kept.is_finished() {
        assert_undisturbed(&client).await;
        answered += 1;
        grown = grown.max(gateway.edge(0).resident().saturating_sub(before));
    }
    kept.await.unwrap();
    assert!(answered > 1, "a bystander waited for slow clients");
    assert!(grown < 64 * MIB, "200 slow clients cost {} MiB", grown / MIB);
    assert_undisturbed(&client).await;
}

/// Sends a beginning, then a byte every 200 ms or nothing, until the other side has had enough.
async fn until_closed(address: &str, start: &str, drip: bool) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut buffer = [0; 4096];
    loop {
        assert!(begun.elapsed() < PATIENCE, "a slow client was kept for {:?}", begun.elapsed());
        match tokio::time::timeout(Duration::from_millis(200), stream.read(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return,
            Err(_) if drip && stream.write_all(b"x").await.is_err() => return,
            Err(_) => {}
        }
    }
}

/// What each tool of the lying upstream does.
fn lie(name: &str, id: &str) -> Vec<Step> {
    let result = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
    let head = |kind: &str, length: usize| {
        write(&format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"))
    };
    let chunked = |kind: &str| {
        write(&format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"))
    };
    let flood = |text: &str| Step::Flood(format!("1000\r\n{}\r\n", text.repeat(4096)).into_bytes());
    match name {
        "good" => good(id),
        "too_short" => vec![head("application/json", result.len() + 10), write(&result), Step::Close],
        "too_long" => {
            vec![head("application/json", result.len()), write(&result), write("HTTP/1.1 200 lies")]
        }
        "endless_json" => vec![chunked("application/json"), write("1\r\n{\r\n"), flood(" ")],
        "endless_event" => vec![chunked("text/event-stream"), write("6\r\ndata: \r\n"), flood("x")],
        "not_utf8" => vec![head("application/json", 4), Step::Write(b"\"\xff\xfe\"".to_vec())],
        "not_json" => vec![json(200, "<html>")],
        "not_mcp" => {
            vec![write("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\noops")]
        }
        "foreign_id" => vec![json(200, r#"{"jsonrpc":"2.0","id":"another","result":{}}"#)],
        "empty_stream" => vec![stream_head(), Step::Close],
        "cut_event" => vec![stream_head(), write(&format!("data: {}", &result[..20])), Step::Close],
        "silent" => vec![Step::Wait(Duration::from_secs(30))],
        "not_http" => vec![write("220 smtp.example ESMTP\r\n"), Step::Close],
        "server_error" => vec![write("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")],
        _ => vec![Step::Close],
    }
}

const LIES: [&str; 14] = [
    "too_short",
    "too_long",
    "endless_json",
    "endless_event",
    "not_utf8",
    "not_json",
    "not_mcp",
    "foreign_id",
    "empty_stream",
    "cut_event",
    "silent",
    "not_http",
    "server_error",
    "hangs_up",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_lies_harms_nobody_else() {
    let mut tools = LIES.to_vec();
    tools.push("good");
    let (gateway, _fake, bearer) = start(&tools, lie).await;
    let url = gateway.url(0, "dev");
    let bystander = Client::open(&url, &bearer).await.unwrap();
    assert_undisturbed(&bystander).await;
    let before = gateway.edge(0).resident();
    let mut wrong = Vec::new();
    for client in [Client::open(&url, &bearer).await.unwrap(), Client::new(&url, &bearer)] {
        for name in LIES {
            let mut calls = JoinSet::new();
            for _ in 0..4 {
                let client = client.clone();
                calls.spawn(async move { client.call(name, "{}").await });
            }
            assert_undisturbed(&bystander).await;
            // Nobody waits behind a call that is not answered.
            assert!(name != "silent" || calls.try_join_next().is_none(), "a bystander waited for others");
            for answer in calls.join_all().await {
                wrong.extend(judge_lie(name, answer));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let grown = gateway.edge(0).resident().saturating_sub(before);
    assert!(grown < 96 * MIB, "lies cost {} MiB", grown / MIB);
    assert_undisturbed(&bystander).await;
}

/// A call that met a lie ends with an error of ours that says so, or with a connection that breaks where the
/// answer had begun; a surplus is cut off.
fn judge_lie(name: &str, answer: Result<crate::support::wire::Answer, String>) -> Option<String> {
    let answer = match answer {
        Ok(answer) => answer,
        // Its answer was being relayed already: breaking off is the only way to say it.
        Err(_) if matches!(name, "too_short" | "endless_event") => return None,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let Ok(message) = serde_json::from_slice::<serde_json::Value>(&answer.message()) else {
        return Some(format!("{name}: not JSON: {answer:?}"));
    };
    if name == "too_long" && message["result"].is_object() {
        return None;
    }
    let code = message["error"]["code"].as_i64().unwrap_or_default();
    let fine = (-31_999..=-31_000).contains(&code)
        && message["error"]["data"]["reason"].is_string()
        && message["id"] == 1;
    (!fine).then(|| format!("{name}: {} {message}", answer.status))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_repeats_names_is_imported_once_and_reported() {
    let (gateway, _fake, bearer) = start(&["good", "good", ""], |_, id| good(id)).await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    assert_eq!(client.tools().await.unwrap(), ["good"]);
    assert_undisturbed(&client).await;
    let upstream: serde_json::Value =
        serde_json::from_str(&gateway.ctl("get upstream fake -o json").await).unwrap();
    assert!(upstream["status"]["warnings"].to_string().contains("good"), "{upstream}");
}

/// What people write is taken whole or refused with the place and the reason; nothing is half stored.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_people_are_checked() {
    let fake = Fake::start(&format!("[{},{}]", tool("a"), tool("b")), |_, _| vec![Step::Close]).await;
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.admin.create_upstream("one", &fake.url()).await;
    gateway.admin.create_upstream("two", &fake.url()).await;
    let file = gateway.folder().join("bad.yaml");
    for (yaml, parts) in [
        ("kind: Server\nname: servers/dev\ntools: [{mach: one/*}]\n", &["bad.yaml", "mach"][..]),
        ("kind: Server\nname: servers/DEV\n", &["DEV"]),
        ("kind: Serveur\nname: servers/dev\n", &["Serveur"]),
        ("kind: Upstream\nname: upstreams/x\nhttp: {url: 'ftp://x'}\n", &["url"]),
        ("kind: Token\nname: tokens/x\nscope: {servers: [servers/nowhere]}\n", &["servers/nowhere"]),
        ("kind: Token\nname: tokens/x\nexpireTime: tomorrow\n", &["expireTime"]),
        (
            "kind: Server\nname: servers/dev\nnameStyle: NAME_STYLE_UNPREFIXED\ntools: [{match: '*/*'}]\n",
            &["upstreams/one/tools/a", "upstreams/two/tools/a"],
        ),
        // The first is good, the second is not: neither is stored.
        (
            "kind: Server\nname: servers/dev\n---\nkind: Server\nname: servers/other\ntools: [{match: ''}]\n",
            &["match"],
        ),
    ] {
        std::fs::write(&file, yaml).unwrap();
        let output = gateway.try_ctl(&["apply", "-f", file.to_str().unwrap()]).await;
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "was accepted: {yaml}\n{talk}");
        for part in parts {
            assert!(talk.contains(part), "{yaml}\nsays nothing of {part}: {talk}");
        }
    }
    assert_eq!(gateway.ctl("get servers -o name").await.trim(), "");
    assert_eq!(gateway.ctl("get tokens -o name").await.trim(), "");
}
