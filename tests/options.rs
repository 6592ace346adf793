//! Options that no other journey turns: each is proved by what it changes, from the command line to the wire.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::support::fake::{Fake, Step, header, json, stream_head, tool, write};
use crate::support::gateway::{Gateway, Store};
use crate::support::process::Process;
use crate::support::wire::{Client, LEGACY};
use crate::support::{PATIENCE, eventually, free_port, tool as installed};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// A server `dev` before an upstream with a tool `echo`, which says what it was sent with, and one that never answers.
async fn before(gateway: &Gateway, more: &str) -> (Fake, String) {
    let tools = format!("[{},{}]", tool("echo"), tool("endless"));
    let upstream = Fake::start(&tools, |name, request| match name {
        "endless" => vec![stream_head(), Step::Wait(PATIENCE)],
        _ => {
            let sent = header(&request.head, "authorization").unwrap_or("nothing").to_owned();
            let id = crate::support::fake::id(request);
            let text = serde_json::to_string(&sent).unwrap();
            vec![json(200, &format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":{text}}}]}}}}"#
            ))]
        }
    })
    .await;
    gateway.ctl(&format!("create upstream fake --url {}{more}", upstream.url())).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("client", "dev", &["*"]).await;
    gateway.admin.settled().await;
    (upstream, bearer)
}

async fn sent(client: &Client) -> String {
    let answer = client.call("echo", "{}").await.unwrap().json();
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_answers_to_the_names_it_was_given_and_logs_as_it_was_told() {
    let options = [
        "--allowed-host",
        "mcp.example",
        "--allowed-origin",
        "https://app.example",
        "--advertise-address",
        "https://mcp.example",
        "--log-format",
        "json",
    ];
    let gateway = Gateway::start_with(Store::Sqlite, 1, &options).await;
    let (_upstream, bearer) = before(&gateway, "").await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let under = async |name: &str, value: &str| {
        let answer = client.post(LIST, &[(name, value)]).await.unwrap();
        let allowed = answer.headers.get("access-control-allow-origin");
        (answer.status, allowed.map(|origin| origin.to_str().unwrap().to_owned()))
    };
    assert_eq!(under("host", "mcp.example").await, (200, None));
    assert_eq!(under("host", "other.example").await, (403, None));
    assert_eq!(under("origin", "https://app.example").await, (200, Some("https://app.example".to_owned())));
    assert_eq!(under("origin", "https://other.example").await, (403, None));

    let edges: Value = serde_json::from_str(&gateway.ctl("get edges -o json").await).unwrap();
    let edge = if edges.is_array() { &edges[0] } else { &edges };
    assert!(edge.to_string().contains(r#""clientAddress":"https://mcp.example""#), "{edge}");
    let log = gateway.edge(0).output();
    assert!(!log.is_empty());
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
}

/// A legacy server that opens a session for whoever asks, and lets it be ended.
async fn sessionful() -> Fake {
    let sessions = AtomicUsize::new(0);
    Fake::scripted(&format!("[{}]", tool("echo")), move |request| {
        let id = crate::support::fake::id(request);
        let result = |result: &str, more: &str| {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            let length = body.len();
            vec![write(&format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n{body}"
            ))]
        };
        let said = |method: &str| request.body.contains(&format!(r#""method":"{method}""#));
        if request.head.starts_with("DELETE") {
            return Some(vec![write("HTTP/1.1 204 No Content\r\n\r\n")]);
        }
        if said("server/discover") {
            return Some(vec![json(400, "")]);
        }
        if said("initialize") {
            let hello = format!(
                r#"{{"protocolVersion":"{LEGACY}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s","version":"1"}}}}"#
            );
            let session = sessions.fetch_add(1, Ordering::Relaxed);
            return Some(result(&hello, &format!("mcp-session-id: session-{session}\r\n")));
        }
        said("tools/call").then(|| result(r#"{"content":[{"type":"text","text":"hello"}]}"#, ""))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_when_their_time_is_over_on_both_sides() {
    let gateway =
        Gateway::start_with(Store::Sqlite, 1, &["--session-lifetime", "8", "--upstream-session-idle", "1"])
            .await;
    let upstream = sessionful().await;
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("client", "dev", &["*"]).await;
    gateway.admin.settled().await;

    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let opened = upstream.received("initialize").len();
    assert_eq!(sent(&client).await, "hello");
    assert_eq!(upstream.received("initialize").len(), opened + 1);
    eventually("the client's session is over", PATIENCE, || async {
        let answer = client.post(LIST, &[]).await?;
        if answer.status == 404 { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
    // By default it would be kept for the next caller, for ten minutes.
    let call = upstream.received("tools/call").pop().unwrap();
    let session = header(&call.head, "mcp-session-id").unwrap();
    eventually("the session with the upstream is ended", PATIENCE, || async {
        if upstream.ended(session) { Ok(()) } else { Err(session.to_owned()) }
    })
    .await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    assert_eq!(sent(&client).await, "hello");
    let call = upstream.received("tools/call").pop().unwrap();
    assert_ne!(header(&call.head, "mcp-session-id"), Some(session));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_as_patient_as_it_was_told() {
    let mut gateway = Gateway::start_with(Store::Sqlite, 1, &["--drain-timeout", "1"]).await;
    let (upstream, bearer) = before(&gateway, "").await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let call = tokio::spawn(async move { client.call("endless", "{}").await });
    eventually("the call arrives", PATIENCE, || async {
        upstream.received("tools/call").pop().map(drop).ok_or_else(String::new)
    })
    .await;
    // It would wait for 20 s, and then for as long as the test lets it.
    gateway.stop_edge(0);
    let said = std::fs::read_to_string(gateway.folder().join("edge0.log")).unwrap();
    assert!(said.contains("draining patience=1s"), "{said}");
    assert!(said.contains("calls were interrupted because they took longer than --drain-timeout"), "{said}");
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_on_disk_opens_with_its_key_only() {
    let key = |byte: u8| STANDARD.encode([byte; 32]);
    let (ours, other) = (key(1), key(2));
    let mut gateway = Gateway::start_with(Store::Sqlite, 1, &["--snapshot-key", &ours]).await;
    let (_upstream, bearer) = before(&gateway, "").await;
    gateway.on_disk(0).await;
    gateway.kill_control();

    gateway.kill_edge(0);
    let copy = gateway.folder().join("edge0/snapshot");
    let kept = std::fs::read(&copy).unwrap();
    gateway.configure_edge(0, &["--snapshot-key", &other]);
    gateway.start_edge(0).await;
    assert_eq!(reqwest::get(gateway.ready_url(0)).await.unwrap().status(), 503);

    gateway.kill_edge(0);
    std::fs::write(&copy, kept).unwrap();
    gateway.configure_edge(0, &["--snapshot-key", &ours]);
    gateway.start_edge(0).await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    assert_eq!(sent(&client).await, "nothing");
}

/// What a bearer says of itself.
fn claims(bearer: &str) -> Value {
    let payload = bearer.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_changes_its_master_key_and_names_its_issuer() {
    let key = |byte: u8| STANDARD.encode([byte; 32]);
    let (first, second, third) = (key(1), key(2), key(3));
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.stop_control();
    std::fs::remove_dir_all(gateway.folder().join("control")).unwrap();
    let options = ["--token-issuer", "acme", "--trust-max-age", "2"];
    gateway.configure_control(&options, &[("TRUNKLINE_MASTER_KEY", &first)]);
    gateway.start_control().await;
    gateway.add_edge(&[]).await;
    std::fs::write(gateway.folder().join("secret"), "s3cret\n").unwrap();
    let (_upstream, bearer) = before(&gateway, " --bearer-file secret").await;
    assert_eq!(claims(&bearer)["iss"], "acme");
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    assert_eq!(sent(&client).await, "Bearer s3cret");
    let numbers = reqwest::get(gateway.metrics_url(0)).await.unwrap().text().await.unwrap();
    let remaining = numbers.lines().find_map(|l| l.strip_prefix("trunkline_edge_trust_remaining_seconds "));
    let remaining: i64 = remaining.unwrap().parse().unwrap();
    assert!((3_600..=7_200).contains(&remaining), "{remaining}");

    // From the first key to the second, and then without the first.
    let both = [("TRUNKLINE_MASTER_KEY", second.as_str()), ("TRUNKLINE_PREVIOUS_MASTER_KEY", &first)];
    for environment in [&both[..], &both[..1]] {
        gateway.stop_control();
        gateway.configure_control(&options, environment);
        gateway.start_control().await;
        gateway.all_connected().await;
        gateway.ctl("update upstream fake --title changed").await;
        gateway.admin.settled().await;
        assert_eq!(sent(&client).await, "Bearer s3cret");
    }
    gateway.stop_control();
    gateway.configure_control(&options, &[("TRUNKLINE_MASTER_KEY", &third)]);
    let said = gateway.refused_control();
    assert!(said.contains("master key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_counters_grow_as_old_as_they_may() {
    let mut gateway = Gateway::start(Store::Sqlite, 1).await;
    let (_upstream, bearer) = before(&gateway, "").await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    sent(&client).await;
    let counted = async |gateway: &Gateway| gateway.ctl("usage --since 240h -o json").await.contains("echo");
    eventually("the call is counted", PATIENCE, || async {
        if counted(&gateway).await { Ok(()) } else { Err(String::new()) }
    })
    .await;
    let keys = async |gateway: &Gateway| {
        let url = format!(
            "http://{}/trunkline.identity.v1.SigningKeyService/ListSigningKeys",
            gateway.control_address()
        );
        let request = reqwest::Client::new().post(url).bearer_auth(gateway.admin_token());
        let answer = request.header("content-type", "application/json").body("{}").send().await.unwrap();
        answer.json::<Value>().await.unwrap()["signingKeys"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(keys(&gateway).await, 1);

    // Everything is two days older. That is nothing yet…
    gateway.stop_control();
    let days = 2 * 86_400 * 1_000_000_i64;
    let age = format!(
        "import sqlite3; d = sqlite3.connect('control/registry.db'); \
         d.execute('update keys set create_us = create_us - {days}, active_us = active_us - {days}'); \
         d.execute('update usage_sums set minute_us = minute_us - {days}'); d.commit()"
    );
    let aged = Command::new(installed("python/bin/python"))
        .args(["-c", &age])
        .current_dir(gateway.folder())
        .status();
    assert!(aged.unwrap().success());
    gateway.start_control().await;
    gateway.all_connected().await;
    assert!(counted(&gateway).await);
    assert_eq!(keys(&gateway).await, 1);
    // …until a day is too old.
    gateway.stop_control();
    let day = ["--signing-key-rotation", "1", "--sealing-key-rotation", "1", "--usage-retention", "1"];
    gateway.configure_control(&day, &[]);
    gateway.start_control().await;
    gateway.all_connected().await;
    eventually("there is a new key, and the call is forgotten", PATIENCE, || async {
        let found = (keys(&gateway).await, counted(&gateway).await);
        if found == (2, false) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    // What was issued before holds.
    eventually("the bearer is good", PATIENCE, || async {
        let answer = client.post(LIST, &[]).await?;
        if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_tell_each_other_over_redis() {
    let redis = std::env::var("TEST_REDIS_URL").expect("run `make test`, or `tests/services.sh cargo test`");
    let mut gateway = Gateway::start(Store::Postgres, 0).await;
    gateway.stop_control();
    gateway.configure_control(&["--redis-url", &redis], &[]);
    gateway.start_control().await;
    let ask = |arguments: &[&str]| {
        let output = Command::new("redis-cli").args(["-u", &redis]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    eventually("it listens", PATIENCE, || async {
        let listening = ask(&["PUBSUB", "CHANNELS", "trunkline:revision"]);
        if listening.contains("trunkline:revision") { Ok(()) } else { Err(listening) }
    })
    .await;
    // Whoever else listens hears of a revision as soon as there is one.
    let heard = tempfile::NamedTempFile::new().unwrap();
    let mut listener = Command::new("redis-cli")
        .args(["-u", &redis, "SUBSCRIBE", "trunkline:revision"])
        .stdout(heard.reopen().unwrap())
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(heard.path()).unwrap();
    eventually("the listener listens", PATIENCE, || async {
        if read().contains("subscribe") { Ok(()) } else { Err(read()) }
    })
    .await;
    gateway.ctl("create upstream none --url http://127.0.0.1:1/mcp --no-wait").await;
    let told = eventually("the revision is told", PATIENCE, || async {
        if read().contains("message") { Ok(()) } else { Err(read()) }
    });
    told.await;
    listener.kill().unwrap();
    listener.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_lost_is_named_once_and_so_is_its_return() {
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.stop_control();
    let port = free_port();
    let lost = format!("Redis is lost (--redis-url, 127.0.0.1:{port}: ");
    let said = async |gateway: &Gateway, lines: [usize; 2]| {
        eventually("the log says so", PATIENCE, || async {
            let said = gateway.control_said();
            let found = [lost.as_str(), "Redis is back"].map(|part| said.matches(part).count());
            if found == lines { Ok(()) } else { Err(said) }
        })
        .await;
    };
    gateway.configure_control(&["--redis-url", &format!("redis://:s3cret@127.0.0.1:{port}/")], &[]);
    gateway.start_control().await;
    said(&gateway, [1, 0]).await;
    let redis = || {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", "s3cret"]);
        command.args(["--save", "", "--appendonly", "no"]).current_dir(gateway.folder());
        Process::start("redis", command, gateway.folder())
    };
    let mut running = redis();
    said(&gateway, [1, 1]).await;
    running.kill();
    said(&gateway, [2, 1]).await;
    let _running = redis();
    said(&gateway, [2, 2]).await;
    assert!(!gateway.control_said().contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_and_sends_what_it_was_told_to() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.ctl("create upstream ghost --url http://127.0.0.1:1/mcp --dry-run").await;
    let missing = gateway.try_ctl(&["get", "upstream", "ghost"]).await;
    assert_eq!(missing.status.code(), Some(3));

    let (_upstream, bearer) = before(&gateway, " --basic ada:p4ss").await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    assert_eq!(sent(&client).await, format!("Basic {}", STANDARD.encode("ada:p4ss")));

    let shown = gateway.ctl("create token laptop --server dev").await;
    let bearer = shown.lines().find(|line| line.starts_with("eyJ")).unwrap().trim().to_owned();
    let config = "client-config dev --for python --token laptop";
    assert!(!gateway.ctl(config).await.contains(&bearer));
    assert!(gateway.ctl(&format!("{config} --show-bearer")).await.contains(&bearer));
    let never = gateway.ctl("create token forgotten --server dev --no-save").await;
    assert!(never.contains("eyJ"), "{never}");
    let context = std::fs::read_to_string(gateway.folder().join("mcpctl.yaml")).unwrap();
    assert!(context.contains("laptop") && !context.contains("forgotten"), "{context}");
}
