//! `mcpctl connect`: a host on stdio, and a server over HTTP that restarts.

use mcpctl::bridge::connect::{self, OwnedBearer, Target};
use mcpctl::context::Secret;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf,
    WriteHalf,
};
use tokio::task::JoinHandle;

use crate::support::{call, expose, expose_at};

struct Host {
    input: WriteHalf<DuplexStream>,
    output: Lines<BufReader<ReadHalf<DuplexStream>>>,
    bridge: JoinHandle<()>,
}

impl Host {
    fn start(url: &str) -> Self {
        let (host, bridge) = tokio::io::duplex(1 << 20);
        let (source, sink) = tokio::io::split(bridge);
        let target = Target {
            url: url.parse().unwrap(),
            bearers: vec![OwnedBearer {
                secret: Secret::new("bearer"),
                whose: "token laptop".into(),
                renewed: None,
            }],
            tls: mcp::client::TlsMaterial::default(),
        };
        let bridge = tokio::spawn(async move { connect::run(target, source, sink).await.unwrap() });
        let (output, input) = tokio::io::split(host);
        Self { input, output: BufReader::new(output).lines(), bridge }
    }

    async fn send(&mut self, message: Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(std::time::Duration::from_secs(60), self.output.next_line()).await;
        serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
    }

    async fn initialize(&mut self) {
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "h", "version": "1"}});
        self.send(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
        assert_eq!(self.next().await["result"]["serverInfo"]["name"], "fixture");
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_progress_and_questions_pass_both_ways() {
    let running = expose(&[]).await;
    let mut host = Host::start(&running.url().unwrap());
    host.initialize().await;
    host.send(call(json!("c"), "count", json!({"progressToken": "t"}))).await;
    for step in 0..3 {
        let notice = host.next().await;
        assert_eq!(
            (&notice["params"]["progressToken"], &notice["params"]["progress"]),
            (&json!("t"), &json!(step))
        );
    }
    assert_eq!(host.next().await["result"]["content"][0]["text"], "counted");

    host.send(call(json!(2), "ask", json!({}))).await;
    assert_eq!(host.next().await["method"], "elicitation/create");
    host.send(json!({"jsonrpc": "2.0", "id": "ask", "result": {"action": "decline"}})).await;
    assert!(host.next().await["result"]["content"][0]["text"].as_str().unwrap().contains("decline"));

    host.send(json!([])).await;
    assert_eq!(host.next().await["error"]["code"], -32600);
    // What cannot be read is answered under its id, so that nobody waits for it.
    host.send(json!({"jsonrpc": "1.0", "id": "odd", "method": "ping"})).await;
    let refused = host.next().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("odd"), &json!(-32600)));
    host.send(json!({"jsonrpc": "2.0", "id": 3, "method": "no/such"})).await;
    assert_eq!(host.next().await["error"]["code"], -32601);
    // Closing stdin ends the bridge, and the outstanding response still arrives.
    host.send(call(json!(4), "pid", json!({}))).await;
    host.input.shutdown().await.unwrap();
    assert_eq!(host.next().await["id"], 4);
    host.bridge.await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_other_side_goes_unnoticed() {
    let running = expose(&[]).await;
    let (port, url) = (running.address.unwrap().port(), running.url().unwrap());
    let mut host = Host::start(&url);
    host.initialize().await;
    host.send(call(json!(1), "pid", json!({}))).await;
    let before = host.next().await;
    running.stop().await;

    // Sent while nobody is there: it waits. What the bridge answers by itself shows that it has read it.
    host.send(call(json!(2), "pid", json!({}))).await;
    host.send(json!([])).await;
    while host.next().await["error"]["code"] != -32600 {}
    let running = expose_at(port, &[]).await;
    let mut after = host.next().await;
    while after["method"] == "notifications/tools/list_changed" {
        after = host.next().await;
    }
    assert_eq!(after["id"], 2, "{after}");
    assert_ne!(after["result"], before["result"]);
    host.input.shutdown().await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_host_needs_no_session_and_cancels_by_closing() {
    let running = expose(&["--modern"]).await;
    let mut host = Host::start(&running.url().unwrap());
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    host.send(list).await;
    assert_eq!(host.next().await["result"]["tools"][0]["name"], "count");
    let mut long = meta.clone();
    long["progressToken"] = json!("t");
    host.send(call(json!("long"), "sleep", long)).await;
    assert_eq!(host.next().await["params"]["progressToken"], "t", "it has not begun");
    host.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "long", "_meta": meta}})).await;
    host.send(call(json!(2), "pid", meta)).await;
    assert_eq!(host.next().await["id"], 2);
    // The cancelled call gets no response, and nothing waits for it.
    host.input.shutdown().await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), host.bridge).await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_writes_over_several_lines_is_read_and_what_is_no_message_is_quoted() {
    let running = expose(&[]).await;
    let mut host = Host::start(&running.url().unwrap());
    host.initialize().await;
    let pretty = |id: u64| serde_json::to_string_pretty(&call(json!(id), "pid", json!({}))).unwrap();
    let lines = format!("\u{feff}\r\n\r\n\u{feff}{}\r\n", pretty(1).replace('\n', "\r\n"));
    host.input.write_all(lines.as_bytes()).await.unwrap();
    let answer = host.next().await;
    assert!(answer["id"] == 1 && answer["result"]["content"][0]["text"].is_string(), "{answer}");

    // What is no message is answered at once, under its id where it has one, and nothing else is lost.
    let ping = r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#;
    for (lines, id, code, said) in [
        ("hello\n", Value::Null, -32700, "hello"),
        ("{\"id\":2,\"method\":\"\u{1}\"}\n", json!(2), -32700, r"\u{1}"),
        (&format!("{{\n\"method\": \"cut\",\n{ping}\n"), Value::Null, -32700, "cut"),
        ("{\n\"jsonrpc\": \"1.0\", \"id\": 4, \"method\": \"ping\"\n}\n", json!(4), -32600, "1.0"),
    ] {
        host.input.write_all(lines.as_bytes()).await.unwrap();
        let refused = host.next().await;
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains("it says \"") && message.contains(said), "{lines}: {message}");
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&id, &json!(code)), "{lines}: {refused}");
        if lines.contains(ping) {
            assert_eq!(host.next().await, json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
        }
    }
    // The end of stdin cuts off what was under way.
    host.input.write_all(b"{\n\"id\": 5, \"method\": \"ping\"").await.unwrap();
    host.input.shutdown().await.unwrap();
    let refused = host.next().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(5), &json!(-32700)), "{refused}");
    host.bridge.await.unwrap();
    running.stop().await;
}

/// Starts a server that breaks the first of two connections after the request, and responds on the second.
async fn breaks_off_once() -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        for breaks in [true, false] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"}") {
                let count = stream.read_buf(&mut seen).await.unwrap();
                assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
            }
            if !breaks {
                let body = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n";
                let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (url, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_reads_are_sent_again_when_a_connection_broke() {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let (url, serving) = breaks_off_once().await;
    let mut host = Host::start(&url);
    host.send(list).await;
    assert_eq!(host.next().await["result"], json!({"tools": []}));
    serving.await.unwrap();
    host.input.shutdown().await.unwrap();

    let (url, serving) = breaks_off_once().await;
    let mut host = Host::start(&url);
    host.send(call(json!(2), "pid", meta)).await;
    let refused = host.next().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!(-31_011)), "{refused}");
    serving.abort();
    host.input.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_under_its_id() {
    let running = expose(&[]).await;
    let mut host = Host::start(&running.url().unwrap());
    host.initialize().await;
    let filler = vec![b' '; 1 << 20];
    for start in [
        r#"{"jsonrpc":"2.0","id":"large","method":"tools/call","params":{"#,
        r#"{"jsonrpc":"2.0","params":{"#,
    ] {
        host.input.write_all(start.as_bytes()).await.unwrap();
        for _ in 0..64 {
            host.input.write_all(&filler).await.unwrap();
        }
        host.input.write_all(b"}}\n").await.unwrap();
        let refusal = host.next().await;
        let id = if start.contains("large") { json!("large") } else { Value::Null };
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&id, &json!(-32600)), "{refusal}");
        assert!(refusal["error"]["message"].as_str().unwrap().contains("larger than"), "{refusal}");
    }
    host.send(call(json!(1), "cafe", json!({}))).await;
    assert_eq!(host.next().await["result"]["content"][0]["text"], "café");
    host.input.shutdown().await.unwrap();
    host.bridge.await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_plainly_understood_is_answered() {
    let running = expose(&[]).await;
    let mut host = Host::start(&running.url().unwrap());
    host.initialize().await;
    host.input
        .write_all(b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":[]}\n")
        .await
        .unwrap();
    assert!(host.next().await["result"]["tools"].is_array());
    host.input.shutdown().await.unwrap();
    host.bridge.await.unwrap();
    running.stop().await;
}

/// An edge that refuses whoever asks, as one does where a condition of the token does not hold.
async fn closed_edge() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/servers/dev/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-31012,"message":"this token may not be used at this time","data":{"reason":"outside_time_window"}}}"#;
        let answer = format!(
            "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nretry-after: 60\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        while let Ok((mut stream, _)) = listener.accept().await {
            // The whole request in one piece: it is small, and this machine is near.
            let mut request = vec![0; 64 << 10];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_does_not_hold_is_told_in_the_words_of_the_edge() {
    let mut host = Host::start(&closed_edge().await);
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "h", "version": "1"}});
    host.send(json!({"jsonrpc": "2.0", "id": "first", "method": "initialize", "params": params})).await;
    let error = json!({"code": -31012, "message": "this token may not be used at this time",
        "data": {"reason": "outside_time_window", "retry_after_ms": 60_000}});
    assert_eq!(host.next().await, json!({"jsonrpc": "2.0", "id": "first", "error": error}));
}
