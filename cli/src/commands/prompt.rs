//! `mcpctl prompt SERVER [NAME [key=value…]]`: gets a prompt of a server through the edge, or lists them.

use mcp::json::{self, JsonError, quote};
use mcp::method::Method;
use serde_json::{Map, Value};

use crate::client::caller::Wanted;
use crate::client::session::{EdgeSession, SessionFlags};
use crate::client::{answer, signature};
use crate::commands::Invocation;
use crate::commands::call::render;
use crate::error::Result;
use crate::output;
use crate::output::progress::Spinner;
use crate::parse;

const MAX_PROMPTS: usize = 100_000;

/// Arguments of `prompt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    /// Name of the prompt as clients see it [default: list all]
    name: Option<String>,
    /// Argument of the prompt; repeatable
    #[arg(value_name = "KEY=VALUE", value_parser = parse::pair)]
    pairs: Vec<(String, String)>,
    #[command(flatten)]
    session: SessionFlags,
}

/// Runs `prompt`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let Some(name) = &args.name else { return list(invocation, &args).await };
    let spinner = Spinner::start(format!("getting {name}"));
    let session = EdgeSession::open(invocation, &args.server, &args.session, Wanted::Prompt(name)).await?;
    let pairs = args.pairs.iter().map(|(key, value)| (key.clone(), value.clone().into()));
    let arguments = Value::Object(pairs.collect::<Map<_, _>>());
    let params = format!(r#"{{"name":{},"arguments":{arguments}}}"#, quote(name));
    let result = session.request("prompts/get", &params).await;
    drop(spinner);
    answer::print(invocation, &result?, messages)
}

async fn list(invocation: &Invocation, args: &Args) -> Result {
    let session = EdgeSession::open(invocation, &args.server, &args.session, Wanted::Anything).await?;
    let definitions = session.list_if_offered(Method::PromptsList, MAX_PROMPTS).await?;
    session.mcp.close().await;
    if definitions.is_empty() {
        output::eprint(format!("server {} has no prompts that {} may get", session.server, session.caller));
    }
    let name = |definition: &str| {
        let [name] = json::members(definition, ["name"]).unwrap_or_default();
        signature::text(name)
    };
    answer::print_list(invocation, &definitions, name, signature::prompt)
}

/// Renders the messages of a prompt, each below who says it.
fn messages(result: &str) -> String {
    let [messages] = json::members(result, ["messages"]).unwrap_or_default();
    let mut lines = Vec::new();
    let read = json::each_element(messages.unwrap_or("[]"), |raw| {
        let [role, content] = json::members(raw, ["role", "content"]).unwrap_or_default();
        let role = signature::text(role);
        lines.push(format!("{}:\n{}", printable::line(&role), render::block(content.unwrap_or("{}"))));
        Ok::<(), JsonError>(())
    });
    match read {
        Ok(()) => lines.join("\n\n"),
        Err(_) => printable::json(result).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[test]
    fn messages_say_who_speaks() {
        let result = r#"{"messages":[{"role":"user","content":{"type":"text","text":"Review this."}},
            {"role":"assistant","content":{"type":"image","mimeType":"image/png","data":"AAAA"}}]}"#;
        assert_eq!(
            messages(result),
            "user:\nReview this.\n\nassistant:\n[image image/png, about 3 bytes; use -o json to print it]"
        );
    }
}
