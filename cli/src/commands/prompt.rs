//! `mcpctl prompt SERVER [NAME [key=value…]]`: gets a prompt of a server through the edge, or lists them.

use mcp::json::{self, JsonError, quote};
use mcp::method::Method;
use serde_json::{Map, Value};

use crate::client::caller::Wanted;
use crate::client::conversation::Conversation;
use crate::client::media::{MediaFlags, MediaPrinter};
use crate::client::session::{EdgeSession, SessionFlags};
use crate::client::{answer, signature};
use crate::commands::Invocation;
use crate::commands::call::render::{self, ContentPart};
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
    media: MediaFlags,
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
    let mut conversation = Conversation::beside(&spinner);
    let result = session.request("prompts/get", &params, &[], &mut conversation).await;
    drop(spinner);
    let (result, printer) = (result?, MediaPrinter::new(&args.media, name));
    let parts = messages(&result);
    if invocation.format().is_for_people() {
        return render::print(&parts, &printer);
    }
    answer::print(invocation, &result, str::to_owned)?;
    render::save(&parts, &printer)
}

async fn list(invocation: &Invocation, args: &Args) -> Result {
    let session = EdgeSession::open(invocation, &args.server, &args.session, Wanted::Anything).await?;
    let definitions = session.list_if_offered(Method::PromptsList, MAX_PROMPTS).await?;
    session.mcp.close().await;
    if definitions.is_empty() {
        output::eprint(format!(
            "server {} has no prompts that {} may get",
            session.server.name, session.caller
        ));
    }
    let name = |definition: &str| {
        let [name] = json::members(definition, ["name"]).unwrap_or_default();
        signature::text(name)
    };
    answer::print_list(invocation, &definitions, name, signature::prompt)
}

/// Renders the messages of a prompt, each below who says it.
fn messages(result: &str) -> Vec<ContentPart> {
    let [messages] = json::members(result, ["messages"]).unwrap_or_default();
    let mut parts = Vec::new();
    let read = json::each_element(messages.unwrap_or("[]"), |raw| {
        let [role, content] = json::members(raw, ["role", "content"]).unwrap_or_default();
        let apart = if parts.is_empty() { "" } else { "\n" };
        let role = signature::text(role);
        parts.push(ContentPart::Text(format!("{apart}{}:", printable::line(&role))));
        parts.push(render::part(content.unwrap_or("{}")));
        Ok::<(), JsonError>(())
    });
    match read {
        Ok(()) => parts,
        Err(_) => vec![ContentPart::Text(printable::json(result).into_owned())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_who_speaks() {
        let result = r#"{"messages":[{"role":"user","content":{"type":"text","text":"Review this."}},
            {"role":"assistant","content":{"type":"image","mimeType":"image/png","data":"AAAA"}}]}"#;
        let parts = messages(result);
        let texts = parts.iter().filter_map(|part| match part {
            ContentPart::Text(text) => Some(text.as_str()),
            ContentPart::Medium(_) => None,
        });
        assert_eq!(texts.collect::<Vec<_>>().join("\n"), "user:\nReview this.\n\nassistant:");
        assert!(matches!(parts.last(), Some(ContentPart::Medium(_))), "{parts:?}");
    }
}
