//! `mcpctl call SERVER [TOOL [key=value…]]`: calls a tool through the edge, or lists them.

pub mod arguments;
pub mod described;
pub mod render;

use mcp::header::MirroredParam;
use mcp::json;
use mcp::method::Method;
use mcp::revision::Era;

use crate::client::caller::Wanted;
use crate::client::media::{MediaFlags, MediaPrinter};
use crate::client::search::{self, Lookup};
use crate::client::session::{EdgeSession, Inquiry, Opening, SessionFlags};
use crate::client::trouble::Repeating;
use crate::client::{answer, approved, signature};
use crate::commands::Invocation;
use crate::error::{Error, Exit, Result};
use crate::output::progress::Spinner;
use crate::output::{self, sections};

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
    /// Argument as KEY=VALUE, typed and checked by the tool's schema, or as KEY:=JSON, sent as it is written; repeatable
    #[arg(value_name = "KEY=VALUE", conflicts_with = "json")]
    pairs: Vec<String>,
    /// All arguments as a JSON object, @FILE, or @- for stdin; sent as they are
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
    if args.json.as_deref() == Some("@-") && args.session.caller.reads_stdin() {
        return Err(Error::usage("--args @- and --bearer-file - both read stdin; give one of them a file"));
    }
    let spinner = Spinner::start(format!("calling {tool}"));
    let opening = Opening::new(invocation, server, &args.session, Wanted::Tool(tool)).await?;
    let look = async |session: &EdgeSession| find(invocation, session, tool).await;
    let (session, definition) = search::find(invocation, opening, look).await?;
    if args.help {
        session.mcp.close().await;
        drop(spinner);
        let people = |definition: &str| described::tool(&session.server.name, definition, sections::width());
        return answer::print(invocation, &definition, people).map(|()| 0);
    }
    let call = ToolCall::of(&session, &definition, &args);
    if call.is_err() {
        session.mcp.close().await;
    }
    let call = call?;
    let result = approved::ask(&session, call.inquiry(), &spinner).await;
    session.mcp.close().await;
    drop(spinner);
    match result {
        Ok(result) => print_result(invocation, &result, &MediaPrinter::new(&args.media, tool)),
        Err(error) => {
            answer::print_error(invocation, &error)?;
            Err(session.told(error, &call.inquiry()))
        }
    }
}

/// A call of a tool.
struct ToolCall {
    params: String,
    mirrored: Vec<MirroredParam>,
    repeating: Repeating,
}

impl ToolCall {
    fn of(session: &EdgeSession, definition: &str, args: &Args) -> Result<Self> {
        let members = json::members(definition, ["name", "inputSchema", "annotations"]);
        let [name, schema, annotations] = members.unwrap_or_default();
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
        Ok(Self { params, mirrored, repeating: repeating(annotations) })
    }

    fn inquiry(&self) -> Inquiry<'_> {
        Inquiry {
            method: Method::ToolsCall,
            params: &self.params,
            mirrored: &self.mirrored,
            repeating: self.repeating,
        }
    }
}

/// What a tool says of being called twice.
fn repeating(annotations: Option<&str>) -> Repeating {
    let hints = json::members(annotations.unwrap_or("{}"), ["readOnlyHint", "idempotentHint"]);
    match hints.unwrap_or_default().contains(&Some("true")) {
        true => Repeating::Harmless,
        false => Repeating::Doubtful,
    }
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

/// Finds the definition of the tool.
async fn find(invocation: &Invocation, session: &EdgeSession, word: &str) -> Result<Lookup<String>> {
    let tools = session.list_if_offered(Method::ToolsList, MAX_TOOLS).await?;
    let names: Vec<_> = tools.iter().map(|tool| name_of(tool).unwrap_or_default()).collect();
    let meant = search::meant(invocation, &session.server.name, Wanted::Tool(word), &names).await?;
    let found = meant.and_then(|meant| names.iter().position(|name| *name == meant));
    Ok(match found.and_then(|at| tools.into_iter().nth(at)) {
        Some(tool) => Lookup::Found(tool),
        None => Lookup::Missing(names),
    })
}

fn name_of(tool: &str) -> Option<String> {
    let [name] = json::members(tool, ["name"]).ok()?;
    signature::readable(name?)
}
