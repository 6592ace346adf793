//! Runs the clients of `tests/clients`, and rmcp: each lists, calls, and reports alike. It must not know what
//! the answers should be.

use std::process::Stdio;
use std::time::Duration;

use rmcp::ServiceExt as _;
use rmcp::model::CallToolRequestParams;
use rmcp::service::ServiceError;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longer than the slowest interpreter needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// SDKs that nobody here wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sdk {
    Python,
    FastMcp,
    TypeScript1,
    TypeScript2,
    Rmcp,
    PythonSse,
    TypeScript1Sse,
    TypeScript1WebSocket,
}

impl Sdk {
    pub(crate) const ALL: [Self; 8] = [
        Self::Python,
        Self::FastMcp,
        Self::TypeScript1,
        Self::TypeScript2,
        Self::Rmcp,
        Self::PythonSse,
        Self::TypeScript1Sse,
        Self::TypeScript1WebSocket,
    ];

    /// The transport it uses, and what the path of a server ends with there.
    fn transport(self) -> (&'static str, &'static str) {
        match self {
            Self::PythonSse | Self::TypeScript1Sse => ("sse", "/sse"),
            Self::TypeScript1WebSocket => ("websocket", "/ws"),
            _ => ("http", "/mcp"),
        }
    }
}

/// What a client is to do. `tests/clients/README.md` describes the fields.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Order {
    pub(crate) url: String,
    pub(crate) bearer: String,
    pub(crate) mode: &'static str,
    pub(crate) calls: Vec<Call>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

/// What came of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) protocol: String,
    pub(crate) tools: Vec<String>,
    pub(crate) calls: Vec<Outcome>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) is_error: bool,
    pub(crate) error: Option<Refusal>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: i64,
    pub(crate) message: String,
}

/// Runs one client to its end.
pub(crate) async fn run(sdk: Sdk, order: &Order) -> Report {
    let script = match sdk {
        Sdk::Python | Sdk::PythonSse => "client_mcp.py",
        Sdk::FastMcp => "client_fastmcp.py",
        Sdk::TypeScript1 | Sdk::TypeScript1Sse | Sdk::TypeScript1WebSocket => "client_ts1.mjs",
        Sdk::TypeScript2 => "client_ts2.mjs",
        Sdk::Rmcp => return tokio::time::timeout(LIMIT, run_rmcp(order)).await.unwrap(),
    };
    let (transport, path) = sdk.transport();
    let mut order = serde_json::to_value(order).unwrap();
    order["transport"] = transport.into();
    order["url"] = order["url"].as_str().unwrap().replace("/mcp", path).into();
    let output = script_output(script, &[&order.to_string()]).await;
    serde_json::from_str(&output).unwrap_or_else(|e| panic!("{sdk:?}: {e}: {output}"))
}

/// Runs a script of `tests/clients`, and returns the last line it printed.
pub(crate) async fn script_output(script: &str, arguments: &[&str]) -> String {
    let program = if script.ends_with(".py") { super::tool("python/bin/python") } else { "node".into() };
    let path = super::root().join("tests/clients").join(script);
    let mut command = tokio::process::Command::new(program);
    if script.ends_with(".mjs") {
        // Older versions of Node have it only when asked.
        command.arg("--experimental-websocket");
    }
    command.arg(path).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("HTTP_PROXY").env_remove("http_proxy").env("NO_PROXY", "127.0.0.1");
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{script}: no end within {LIMIT:?}")).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

async fn run_rmcp(order: &Order) -> Report {
    let config =
        StreamableHttpClientTransportConfig::with_uri(order.url.as_str()).auth_header(order.bearer.as_str());
    let client = ().serve(StreamableHttpClientTransport::from_config(config)).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    let mut calls = Vec::new();
    for call in &order.calls {
        let arguments = call.arguments.as_object().cloned().unwrap_or_default();
        let request = CallToolRequestParams::new(call.name.clone()).with_arguments(arguments);
        calls.push(match client.call_tool(request).await {
            Ok(result) => Outcome {
                text: result.content.iter().filter_map(|c| Some(c.as_text()?.text.as_str())).collect(),
                is_error: result.is_error.unwrap_or_default(),
                error: None,
            },
            Err(ServiceError::McpError(error)) => {
                let refusal = Refusal { code: error.code.0.into(), message: error.message.into_owned() };
                Outcome { error: Some(refusal), ..Default::default() }
            }
            Err(error) => panic!("rmcp: {error}"),
        });
    }
    let protocol = client.peer_info().map(|info| info.protocol_version.to_string()).unwrap_or_default();
    client.cancel().await.unwrap();
    Report { protocol, tools: tools.into_iter().map(|tool| tool.name.into_owned()).collect(), calls }
}
