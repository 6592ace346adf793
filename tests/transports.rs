//! Upstreams of every transport, served by SDKs other than ours: registered, listed, called, asked back, and heard of
//! changes.

use serde_json::{Value, json};
use std::process::Command;

use crate::support::gateway::{Gateway, Store};
use crate::support::process::Process;
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually, free_port, root, tool};

/// A server on a port of its own.
async fn serve(name: &str, mut command: Command, port: u16, gateway: &Gateway) -> Process {
    command.env("PORT", port.to_string());
    let mut process = Process::start(name, command, gateway.folder());
    eventually(name, PATIENCE, || {
        process.assert_alive();
        let connect = tokio::net::TcpStream::connect(("127.0.0.1", port));
        async move { connect.await.map(drop).map_err(|error| error.to_string()) }
    })
    .await;
    process
}

fn python(script: &str, port: u16) -> Command {
    let mut python = Command::new(tool("python/bin/python"));
    python.arg(root().join("tests/servers").join(script)).arg(port.to_string());
    python
}

/// A server `dev` of everything that an upstream offers, and a client that can be asked for forms.
async fn open(gateway: &Gateway, url: &str, transport: &str) -> Client {
    let said = gateway.ctl(&format!("probe {url}")).await;
    assert!(said.contains(&format!("transport  {transport}\n")), "{said}");
    let how = format!("tried      {transport:<15}  initialize       ok");
    assert!(said.contains(&how), "{said}");
    gateway.ctl(&format!("create upstream old --url {url}")).await;
    gateway.admin.create_server("dev", &["old/*"]).await;
    let bearer = gateway.admin.create_token("laptop", "dev", &["*"]).await;
    gateway.admin.settled().await;
    Client::open_with(&gateway.url(0, "dev"), &bearer, r#"{"elicitation":{}}"#).await.unwrap()
}

async fn text(client: &Client, tool: &str, arguments: &str) -> String {
    let answer = client.call(tool, arguments).await.unwrap().json();
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_server_over_http_and_sse() {
    let (gateway, port) = (Gateway::start(Store::Sqlite, 2).await, free_port());
    let _server = serve("sse-python", python("sse_server.py", port), port, &gateway).await;
    let client = open(&gateway, &format!("http://127.0.0.1:{port}/sse"), "http+sse").await;
    assert_eq!(client.tools().await.unwrap(), ["echo", "ask", "count"]);
    assert_eq!(text(&client, "echo", r#"{"text":"grüße 😀"}"#).await, "grüße 😀");
    assert_eq!(text(&client, "count", "{}").await, "counted");
    // The answer may come to another edge than the one that asked.
    for edge in 0..2 {
        let there = client.at(&gateway.url(edge, "dev"));
        let answer = json!({"action": "accept", "content": {"name": "Ada"}});
        let answer = asked(&client, &there, "ask", &answer).await;
        assert_eq!(answer["result"]["content"][0]["text"], "accept: Ada", "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_server_over_http_and_sse() {
    let (gateway, port) = (Gateway::start(Store::Sqlite, 1).await, free_port());
    let mut node = Command::new("node");
    node.arg(tool("node/node_modules/@modelcontextprotocol/server-everything/dist/index.js")).arg("sse");
    let _server = serve("sse-everything", node, port, &gateway).await;
    let client = open(&gateway, &format!("http://127.0.0.1:{port}/sse"), "http+sse").await;
    assert!(text(&client, "get-sum", r#"{"a":2,"b":3}"#).await.contains('5'));
    let long = text(&client, "trigger-long-running-operation", r#"{"duration":1,"steps":2}"#).await;
    assert!(long.contains("completed"), "{long}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_over_websocket() {
    let (gateway, port) = (Gateway::start(Store::Sqlite, 1).await, free_port());
    let _server = serve("ws-python", python("ws_server.py", port), port, &gateway).await;
    let client = open(&gateway, &format!("ws://127.0.0.1:{port}/"), "websocket").await;
    assert_eq!(client.tools().await.unwrap(), ["ask", "echo", "era", "grow"]);
    assert_eq!(text(&client, "echo", r#"{"text":"grüße 😀"}"#).await, "grüße 😀");
    let answer = asked(&client, &client, "ask", &json!({"action": "decline"})).await;
    assert_eq!(answer["result"]["content"][0]["text"], r#"{"action": "decline"}"#, "{answer}");
    text(&client, "grow", "{}").await;
    eventually("the new tool is listed", PATIENCE, || async {
        let tools = client.tools().await?;
        if tools.iter().any(|tool| tool == "grown") { Ok(()) } else { Err(format!("{tools:?}")) }
    })
    .await;
    assert_eq!(text(&client, "grown", "{}").await, "grown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_over_websocket_is_spoken_to_in_the_era_that_it_speaks() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let mut servers = Vec::new();
    for (eras, to_legacy, to_modern) in
        [("both", "legacy", "modern"), ("modern", "modern", "modern"), ("strict", "legacy", "legacy")]
    {
        let port = free_port();
        let mut command = python("ws_server.py", port);
        command.arg(eras);
        servers.push(serve(&format!("ws-{eras}"), command, port, &gateway).await);
        gateway.ctl(&format!("create upstream {eras} --url ws://127.0.0.1:{port}/")).await;
        gateway.admin.create_server(eras, &[&format!("{eras}/*")]).await;
        let bearer = gateway.admin.create_token(&format!("token-{eras}"), eras, &["*"]).await;
        gateway.admin.settled().await;
        let url = gateway.url(0, eras);
        let legacy = eventually("a legacy client is served", PATIENCE, || Client::open(&url, &bearer)).await;
        assert_eq!(text(&legacy, "era", "{}").await, to_legacy, "{eras}");
        assert_eq!(legacy.tools().await.unwrap(), ["ask", "echo", "era", "grow"]);
        let modern = Client::new(&url, &bearer);
        assert_eq!(text(&modern, "era", "{}").await, to_modern, "{eras}");
        text(&legacy, "grow", "{}").await;
        eventually("the new tool is listed", PATIENCE, || async {
            let tools = legacy.tools().await?;
            if tools.iter().any(|tool| tool == "grown") { Ok(()) } else { Err(format!("{tools:?}")) }
        })
        .await;
    }
}

/// Makes a call, answers `there` what it is asked `with` this, and returns the call's own answer.
async fn asked(client: &Client, there: &Client, tool: &str, with: &Value) -> Value {
    let mut stream = client.stream(tool, "{}").await.unwrap();
    loop {
        let message = stream.next().await.unwrap();
        if message["method"].is_null() {
            return message;
        }
        if message["id"].is_string() {
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": with});
            assert_eq!(there.post(&answer.to_string(), &[]).await.unwrap().status, 202);
        }
    }
}
