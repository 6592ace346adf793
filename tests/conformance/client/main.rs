//! A client that does what the client half of the public MCP conformance suite wants to see, on rmcp.
//!
//! `conformance-client URL` lists everything, calls every tool, reads and gets, and answers whatever it is asked with the
//! defaults. The suite tells it the revision to speak and the calls to make through its own environment variables;
//! `CONFORMANCE_BEARER` holds a bearer to present. It knows nothing of a gateway.

mod answers;
mod sample;

use std::env;

use anyhow::Context as _;
use rmcp::model::{
    CallToolRequestParams, GetPromptRequestParams, ProtocolVersion, ReadResourceRequestParams, Tool,
};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde::Deserialize;
use serde_json::Value;

use crate::answers::Obliging;

type Client = RunningService<RoleClient, Obliging>;

/// What the suite wants a client to do, where listing and calling everything is not enough.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wishes {
    tool_calls: Vec<CallToolRequestParams>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = env::args().next_back().context("usage: conformance-client URL")?;
    let wishes = env::var("MCP_CONFORMANCE_CONTEXT").ok();
    let wishes: Wishes = wishes.map_or_else(|| Ok(Wishes::default()), |json| serde_json::from_str(&json))?;
    let client = connect(&url).await?;
    let tools = client.list_all_tools().await.unwrap_or_default();
    for call in calls(&tools, wishes) {
        let name = call.name.clone();
        report(&name, client.call_tool(call).await);
    }
    visit_resources(&client).await;
    visit_prompts(&client).await;
    client.cancel().await?;
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(url);
    config.auth_header = env::var("CONFORMANCE_BEARER").ok();
    let revision = env::var("MCP_CONFORMANCE_PROTOCOL_VERSION").unwrap_or_default();
    let lifecycle = if revision.as_str() >= "2026-07-28" {
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
    } else {
        ClientLifecycleMode::Initialize
    };
    let transport = StreamableHttpClientTransport::from_config(config);
    Ok(Obliging.serve_with_lifecycle(transport, lifecycle).await?)
}

fn calls(tools: &[Tool], wishes: Wishes) -> Vec<CallToolRequestParams> {
    if !wishes.tool_calls.is_empty() {
        return wishes.tool_calls;
    }
    let call = |tool: &Tool| {
        let arguments = sample::arguments(&tool.input_schema, &other_schema(tools, tool));
        CallToolRequestParams::new(tool.name.clone()).with_arguments(arguments)
    };
    tools.iter().map(call).collect()
}

/// For a tool that takes a schema: the one of another tool, as it was listed.
fn other_schema(tools: &[Tool], tool: &Tool) -> Value {
    let other = tools.iter().find(|other| other.name != tool.name);
    other.map_or(Value::Null, |other| Value::Object(other.input_schema.as_ref().clone()))
}

async fn visit_resources(client: &Client) {
    for resource in client.list_all_resources().await.unwrap_or_default() {
        let read = client.read_resource(ReadResourceRequestParams::new(resource.uri.clone())).await;
        report(&resource.uri, read);
    }
}

async fn visit_prompts(client: &Client) {
    for prompt in client.list_all_prompts().await.unwrap_or_default() {
        let names = prompt.arguments.iter().flatten().map(|argument| argument.name.clone());
        let arguments = names.map(|name| (name, Value::from("sample"))).collect();
        let get = GetPromptRequestParams::new(prompt.name.clone()).with_arguments(arguments);
        report(&prompt.name, client.get_prompt(get).await);
    }
}

/// A refusal is for the suite to judge: it goes on with the next.
fn report<T>(what: &str, outcome: Result<T, rmcp::ServiceError>) {
    if let Err(error) = outcome {
        eprintln!("{what}: {error}");
    }
}
