//! `mcpctl call SERVER TOOL [key=value…]`: calls a tool through the edge with a saved token.

pub mod arguments;
pub mod render;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use mcp::client::{ClientError, ClientInfo, Endpoint, Reach, Session as Mcp, Transport};
use mcp::json;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use serde_json::{Value, json};

use crate::commands::Invocation;
use crate::context::Context;
use crate::error::{Error, Exit, Result};
use crate::kinds::short_name;
use crate::output::progress::Spinner;
use crate::output::{self, Format};
use crate::reflection;

const MAX_TOOLS: usize = 100_000;

/// Arguments of `call`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    /// Name of the tool as clients see it, or the upstream's own name if it is unique on the server
    tool: String,
    /// Argument as KEY=VALUE, typed by the tool's schema, or as KEY:=JSON; repeatable
    #[arg(value_name = "KEY=VALUE", conflicts_with = "json")]
    pairs: Vec<String>,
    /// All arguments as a JSON object, @FILE, or @- for stdin
    #[arg(long = "args", value_name = "JSON|@FILE")]
    json: Option<String>,
    /// Saved token to use [default: the first that may call the server]
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// Era of the protocol to speak
    #[arg(long, value_enum, default_value = "legacy")]
    era: CallEra,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CallEra {
    /// 2025-11-25 and earlier.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

/// Runs `call`.
pub async fn run(invocation: &Invocation, args: Args) -> Result<u8> {
    let context = invocation.context()?;
    let server = args.server.strip_prefix("servers/").unwrap_or(&args.server);
    let edge = context.edge_url()?.to_owned();
    let explain = |error: ClientError| explain(error, server, &edge);
    let endpoint = endpoint(invocation, &context, server, args.token.as_deref())?;
    let revision = match args.era {
        CallEra::Legacy => Revision::LATEST_LEGACY,
        CallEra::Modern => Revision::LATEST,
    };
    let info = ClientInfo { name: "mcpctl".into(), version: env!("CARGO_PKG_VERSION").into() };
    let spinner = Spinner::start(format!("calling {}", args.tool));
    let mcp = Mcp::open(&endpoint, Transport::StreamableHttp, revision, info).await.map_err(explain)?;
    let tools = mcp.list_all(Method::ToolsList, MAX_TOOLS).await.map_err(explain)?;
    let definition = find(invocation, &tools, server, &args.tool).await?;
    let [name, schema] = json::members(definition, ["name", "inputSchema"]).unwrap_or_default();
    let schema = schema.unwrap_or("{}");
    let arguments = arguments::read(&args.pairs, args.json.as_deref(), schema)?;
    let params = format!(
        r#"{{"name":{},"arguments":{arguments},"_meta":{{"progressToken":"mcpctl"}}}}"#,
        name.unwrap_or("\"\"")
    );
    let mirrored = match revision.era() {
        Era::Modern => {
            mcp::header::mirrored_params(schema).map_err(|error| Error::failure(error.to_string()))?
        }
        Era::Legacy => Vec::new(),
    };
    let on_notification = |method: &str, params: Option<&str>| render::notification(&spinner, method, params);
    let result = mcp.request_streaming("tools/call", &params, &mirrored, on_notification).await;
    mcp.close().await;
    drop(spinner);
    print_result(invocation, &result.map_err(explain)?)
}

fn print_result(invocation: &Invocation, result: &str) -> Result<u8> {
    match invocation.format() {
        // Printed as the server wrote it, so that no number is rounded and no key moves.
        Format::Json => output::print(&printable::json(result))?,
        Format::Yaml => output::print(&output::yaml(&value(result)?)?)?,
        Format::Table | Format::Name => output::print_content(&render::result(result))?,
    }
    let [is_error] = json::members(result, ["isError"]).unwrap_or_default();
    if is_error == Some("true") {
        output::eprint("the tool reported an error");
        return Ok(Exit::ToolError as u8);
    }
    Ok(0)
}

fn value(result: &str) -> Result<Value> {
    serde_json::from_str(result)
        .map_err(|error| Error::failure(format!("the result is not printed as YAML: {error}; use -o json")))
}

/// Builds the endpoint of a server with the bearer of a saved token.
fn endpoint(
    invocation: &Invocation,
    context: &Context,
    server: &str,
    token: Option<&str>,
) -> Result<Endpoint> {
    let url = context.server_url(server)?;
    let url = url.parse().map_err(|error| Error::usage(format!("invalid edge URL {url}: {error}")))?;
    let (_, token) = context.token_for(server, token)?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.bearer.expose())).map_err(|_| {
        Error::usage("the saved bearer contains characters that are not allowed in an HTTP header")
    })?;
    bearer.set_sensitive(true);
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
    Ok(Endpoint {
        url,
        headers,
        timeout: invocation.timeout.unwrap_or(Duration::from_secs(60)),
        reach: Reach::System,
    })
}

/// Finds the definition of the tool by its exposed name, or else by its upstream's name.
async fn find<'a>(invocation: &Invocation, tools: &'a [String], server: &str, word: &str) -> Result<&'a str> {
    let named =
        |wanted: &str| tools.iter().map(String::as_str).find(|tool| name_of(tool).as_deref() == Some(wanted));
    if let Some(tool) = named(word) {
        return Ok(tool);
    }
    let candidates = exposed_names(invocation, server, word).await;
    let found: Vec<_> = candidates.iter().filter_map(|name| named(name)).collect();
    match found.as_slice() {
        [tool] => Ok(tool),
        [] => {
            let names = listed(tools.iter().filter_map(|tool| name_of(tool)).take(20), ", ");
            let there = if names.is_empty() { "none" } else { &names };
            Err(Error::not_found(format!(
                "server {server} has no tool {word} that this token may call; available: {there}"
            )))
        }
        several => {
            let names = listed(several.iter().filter_map(|tool| name_of(tool)), " or ");
            Err(Error::usage(format!("tool name {word} is ambiguous; use {names}")))
        }
    }
}

fn name_of(tool: &str) -> Option<String> {
    let [name] = json::members(tool, ["name"]).ok()?;
    Some(json::string(name?).ok()?.into_owned())
}

/// Returns names of tools as a part of one line.
fn listed(tools: impl Iterator<Item = String>, separator: &str) -> String {
    let names: Vec<_> = tools.map(|name| printable::line(&name).into_owned()).collect();
    names.join(separator)
}

/// Returns the exposed names of tools that their upstream calls `own`. Needs the admin token; without it the list is empty.
async fn exposed_names(invocation: &Invocation, server: &str, own: &str) -> Vec<String> {
    let request = json!({ "name": format!("servers/{server}") });
    let asked = async {
        let client = invocation.client().await?;
        client.call("trunkline.registry.v1.ServerService/ListServerEntries", request).await
    };
    let Ok(answer) = asked.await else { return Vec::new() };
    let is_own = |target: &str| short_name(target).split_once('/').is_some_and(|(_, name)| name == own);
    let entries = reflection::submessages(&answer, "entries").into_iter();
    let entries = entries.filter(|entry| reflection::text(entry, "kind") == "tool");
    let entries = entries.filter(|entry| is_own(&reflection::text(entry, "target")));
    entries.map(|entry| reflection::text(&entry, "exposed_name")).collect()
}

fn explain(error: ClientError, server: &str, edge: &str) -> Error {
    match error {
        ClientError::Unauthorized { .. } => Error::new(
            Exit::Refused,
            format!(
                "the edge at {edge} rejected the token; a new token reaches every edge within a second; run \
                 `mcpctl get tokens` to see whether it is revoked or expired"
            ),
        ),
        ClientError::Unreachable(why) => Error::new(
            Exit::Unavailable,
            format!("the edge at {edge} is unreachable: {why}; check that it is running"),
        ),
        ClientError::Timeout(after) => Error::new(
            Exit::Unavailable,
            format!("the edge at {edge} did not respond within {after:?}; retry, or raise --timeout"),
        ),
        ClientError::Http { status: 404, .. } | ClientError::Rpc { status: 404, .. } => {
            Error::not_found(format!(
                "server {server} does not exist or this token may not call it; check with `mcpctl get servers` and `mcpctl get tokens`"
            ))
        }
        other => Error::failure(other.to_string()),
    }
}
