//! `mcpctl call SERVER [TOOL [key=value…]]`: calls a tool through the edge, or lists them.

pub mod arguments;
pub mod described;
pub mod render;

use mcp::json;
use mcp::method::Method;
use mcp::revision::Era;
use prost_reflect::DynamicMessage;
use serde_json::json;

use crate::client::caller::Wanted;
use crate::client::conversation::Conversation;
use crate::client::media::{MediaFlags, MediaPrinter};
use crate::client::session::{EdgeSession, SessionFlags};
use crate::client::{answer, signature};
use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::short_name;
use crate::output;
use crate::output::progress::Spinner;
use crate::reflection;
use crate::suggest::did_you_mean;

const MAX_TOOLS: usize = 100_000;

/// Arguments of `call`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Name of the server
    #[arg(required_unless_present = "help")]
    server: Option<String>,
    /// Name of the tool as clients see it, or the upstream's own name if it is unique on the server [default: list all with their
    /// arguments]
    tool: Option<String>,
    /// Argument as KEY=VALUE, typed by the tool's schema, or as KEY:=JSON; repeatable
    #[arg(value_name = "KEY=VALUE", conflicts_with = "json")]
    pairs: Vec<String>,
    /// All arguments as a JSON object, @FILE, or @- for stdin
    #[arg(long = "args", value_name = "JSON|@FILE")]
    json: Option<String>,
    #[command(flatten)]
    media: MediaFlags,
    #[command(flatten)]
    session: SessionFlags,
    /// Print help; after TOOL, what is known of the tool and its arguments
    #[arg(short, long)]
    help: bool,
}

/// Runs `call`.
pub async fn run(invocation: &Invocation, args: Args) -> Result<u8> {
    let (server, tool) = match (&args.server, &args.tool) {
        (Some(server), Some(tool)) => (server, tool),
        (Some(server), None) if !args.help => return list(invocation, server, &args).await,
        _ => return help(),
    };
    let spinner = Spinner::start(format!("calling {tool}"));
    let session = EdgeSession::open(invocation, server, &args.session, Wanted::Tool(tool)).await?;
    let listed = session.mcp.list_all(Method::ToolsList, MAX_TOOLS).await;
    let tools = listed.map_err(|error| session.explain(error))?;
    let definition = find(invocation, &session, &tools, tool).await?;
    if args.help {
        session.mcp.close().await;
        drop(spinner);
        let people = |definition: &str| described::tool(&session.server.name, definition);
        return answer::print(invocation, definition, people).map(|()| 0);
    }
    let [name, schema] = json::members(definition, ["name", "inputSchema"]).unwrap_or_default();
    let schema = schema.unwrap_or("{}");
    let arguments = arguments::read(&args.pairs, args.json.as_deref(), schema)?;
    let params = format!(
        r#"{{"name":{},"arguments":{arguments},"_meta":{{"progressToken":"mcpctl"}}}}"#,
        name.unwrap_or("\"\"")
    );
    let mirrored = match session.server.revision.era() {
        Era::Modern => {
            mcp::header::mirrored_params(schema).map_err(|error| Error::failure(error.to_string()))?
        }
        Era::Legacy => Vec::new(),
    };
    let mut conversation = Conversation::beside(&spinner);
    let result = session.request("tools/call", &params, &mirrored, &mut conversation).await;
    drop(spinner);
    print_result(invocation, &result?, &MediaPrinter::new(&args.media, tool))
}

/// Prints the help of the command itself.
fn help() -> Result<u8> {
    let mut command = crate::args::command();
    command.build();
    let help = command.find_subcommand_mut("call").map(|call| call.render_long_help().to_string());
    output::print(&help.unwrap_or_default())?;
    Ok(0)
}

/// Lists the tools with their signatures.
async fn list(invocation: &Invocation, server: &str, args: &Args) -> Result<u8> {
    let session = EdgeSession::open(invocation, server, &args.session, Wanted::Anything).await?;
    let tools = session.list_if_offered(Method::ToolsList, MAX_TOOLS).await?;
    session.mcp.close().await;
    if tools.is_empty() {
        output::eprint(format!(
            "server {} has no tools that {} may call",
            session.server.name, session.caller
        ));
    }
    let name = |tool: &str| name_of(tool).unwrap_or_default();
    answer::print_list(invocation, &tools, name, signature::tool)?;
    Ok(0)
}

fn print_result(invocation: &Invocation, result: &str, printer: &MediaPrinter<'_>) -> Result<u8> {
    let parts = render::result(result);
    if invocation.format().is_for_people() {
        render::print(&parts, printer)?;
    } else {
        answer::print(invocation, result, str::to_owned)?;
        render::save(&parts, printer)?;
    }
    let [is_error] = json::members(result, ["isError"]).unwrap_or_default();
    if is_error == Some("true") {
        output::eprint("the tool reported an error");
        return Ok(Exit::ToolError as u8);
    }
    Ok(0)
}

/// Finds the definition of the tool by its exposed name, or else by its upstream's name.
async fn find<'a>(
    invocation: &Invocation,
    session: &EdgeSession,
    tools: &'a [String],
    word: &str,
) -> Result<&'a str> {
    let named =
        |wanted: &str| tools.iter().map(String::as_str).find(|tool| name_of(tool).as_deref() == Some(wanted));
    if let Some(tool) = named(word) {
        return Ok(tool);
    }
    let (server, caller) = (&session.server.name, &session.caller);
    let candidates = exposed_names(invocation, server, word).await;
    let found: Vec<_> = candidates.iter().filter_map(|name| named(name)).collect();
    match found.as_slice() {
        [tool] => Ok(tool),
        [] => {
            let names: Vec<_> = tools.iter().filter_map(|tool| name_of(tool)).collect();
            let hint = did_you_mean(word, names.iter().map(String::as_str));
            let names = listed(names.into_iter().take(20), ", ");
            let there = if names.is_empty() { "none" } else { &names };
            Err(Error::not_found(format!(
                "server {server} has no tool {word} that {caller} may call{hint}; available: {there}"
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
    let asked = async { exposed_as(&invocation.client().await?, server).await };
    let Ok(entries) = asked.await else { return Vec::new() };
    let is_own = |target: &str| short_name(target).split_once('/').is_some_and(|(_, name)| name == own);
    let entries = entries.into_iter().filter(|entry| reflection::text(entry, "kind") == "tool");
    let entries = entries.filter(|entry| is_own(&reflection::text(entry, "target")));
    entries.map(|entry| reflection::text(&entry, "exposed_name")).collect()
}

/// Returns what a server exposes, and as what.
pub async fn exposed_as(client: &ControlClient, server: &str) -> Result<Vec<DynamicMessage>> {
    let request = json!({ "name": format!("servers/{server}") });
    let answer = client.call("trunkline.registry.v1.ServerService/ListServerEntries", request).await?;
    Ok(reflection::submessages(&answer, "entries"))
}
