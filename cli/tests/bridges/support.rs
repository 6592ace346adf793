//! A stdio server to expose, and a raw HTTP client for it.

use std::path::Path;
use std::time::Duration;

use mcpctl::bridge::child::Program;
use mcpctl::bridge::expose::{self, Eras, Running, Settings};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

/// Returns the path of the fixture's script.
pub(crate) fn script() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bridges/stdio_server.py").display().to_string()
}

/// Builds the fixture's program with these arguments, with the real binary as its reaper.
pub(crate) fn program(arguments: &[&str]) -> Program {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut command = vec!["python3".to_owned(), "-u".to_owned(), script()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let mut program = Program::new(command.into_iter().map(Into::into).collect(), Some("fixture".into()));
    program.reaper = env!("CARGO_BIN_EXE_mcpctl").into();
    program
}

pub(crate) async fn expose(arguments: &[&str]) -> Running {
    expose_at(0, arguments).await
}

pub(crate) async fn expose_at(port: u16, arguments: &[&str]) -> Running {
    let running = expose::start(program(arguments), settings(port)).await.unwrap();
    running.ready().await.unwrap();
    running
}

pub(crate) fn settings(port: u16) -> Settings {
    Settings {
        listen: Some(([127, 0, 0, 1], port).into()),
        hosts: vec!["bridge.example".into()],
        origins: vec!["https://app.example".into()],
        restart: true,
        start_timeout: Duration::from_secs(30),
        eras: Eras::Auto,
        env_from_headers: Vec::new(),
    }
}

/// A client with a session.
pub(crate) struct McpClient {
    pub(crate) http: Client,
    pub(crate) url: String,
    pub(crate) session: String,
}

impl McpClient {
    pub(crate) async fn open(url: &str, capabilities: Value) -> Self {
        Self::open_in("2025-11-25", url, capabilities).await
    }

    pub(crate) async fn open_in(revision: &str, url: &str, capabilities: Value) -> Self {
        let http = Client::new();
        let params = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}});
        let request = json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params});
        let response = post(&http, url, &request.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let text = response.text().await.unwrap();
        assert!(text.contains("\"id\":\"hello\"") && text.contains("12345678901234567890123"), "{text}");
        Self { http, url: url.to_owned(), session }
    }

    pub(crate) fn post(&self, message: &Value) -> RequestBuilder {
        post(&self.http, &self.url, &message.to_string()).header("mcp-session-id", &self.session)
    }

    pub(crate) async fn call(&self, id: Value, tool: &str, meta: Value) -> Response {
        self.post(&call(id, tool, meta)).send().await.unwrap()
    }
}

pub(crate) fn call(id: Value, tool: &str, meta: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {}, "_meta": meta}})
}

pub(crate) fn post(http: &Client, url: &str, body: &str) -> RequestBuilder {
    http.post(url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(body.to_owned())
}

/// Parses the messages of a finished stream.
pub(crate) fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}
