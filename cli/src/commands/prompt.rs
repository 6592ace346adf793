//! `mcpctl prompt SERVER [NAME [key=value…]]`: gets a prompt of a server through the edge, or lists them.

use mcp::json::{self, JsonError, quote};
use mcp::method::Method;
use serde_json::{Map, Value};

use crate::client::caller::Wanted;
use crate::client::conversation::Conversation;
use crate::client::media::{MediaFlags, MediaPrinter};
use crate::client::search::{self, Lookup};
use crate::client::session::{EdgeSession, Inquiry, Opening, SessionFlags};
use crate::client::{answer, signature};
use crate::commands::Invocation;
use crate::commands::call::render::{self, ContentPart};
use crate::error::{Error, Result};
use crate::output;
use crate::output::progress::Spinner;
use crate::parse;

const MAX_PROMPTS: usize = 100_000;

/// Arguments of `prompt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    /// Name of the prompt as clients see it, or the upstream's own name if it is unique on the server [default: list all]
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
    let arguments = arguments(&args.pairs)?;
    let opening = Opening::new(invocation, &args.server, &args.session, Wanted::Prompt(name)).await?;
    let look = async |session: &EdgeSession| find(invocation, session, name, &arguments).await;
    let (session, exposed) = search::find(invocation, opening, look).await?;
    let params = format!(r#"{{"name":{},"arguments":{arguments}}}"#, quote(&exposed));
    let mut conversation = Conversation::beside(&spinner);
    let inquiry = Inquiry::reading(Method::PromptsGet, &params);
    let result = session.request(inquiry, &mut conversation).await;
    drop(spinner);
    let (result, printer) = (result?, MediaPrinter::new(&args.media, name));
    let parts = messages(&result);
    if invocation.format().is_for_people() {
        return render::print(&parts, &printer);
    }
    answer::print(invocation, &result, str::to_owned)?;
    render::save(&parts, &printer)
}

/// Finds the name of the prompt that clients see.
async fn find(
    invocation: &Invocation,
    session: &EdgeSession,
    word: &str,
    arguments: &Value,
) -> Result<Lookup<String>> {
    let prompts = session.list_if_offered(Method::PromptsList, MAX_PROMPTS).await?;
    let names: Vec<_> = prompts.iter().map(|prompt| name_of(prompt)).collect();
    let meant = search::meant(invocation, &session.server.name, Wanted::Prompt(word), &names).await?;
    let Some(name) = meant else { return Ok(Lookup::Missing(names)) };
    let definition = prompts.iter().find(|prompt| name_of(prompt) == name);
    definition.map_or(Ok(()), |definition| check_complete(definition, arguments))?;
    Ok(Lookup::Found(name))
}

/// Refuses arguments of which one is missing that the prompt requires.
fn check_complete(definition: &str, given: &Value) -> Result {
    let [declared] = json::members(definition, ["arguments"]).unwrap_or_default();
    let declared: Value = declared.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    let required = declared.as_array().into_iter().flatten().filter(|argument| argument["required"] == true);
    let names = required.filter_map(|argument| argument["name"].as_str());
    let missing: Vec<_> = names.filter(|name| given.get(name).is_none()).collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(Error::usage(format!(
            "the prompt requires {}; give KEY=VALUE for each",
            printable::line(&missing.join(", "))
        ))),
    }
}

fn name_of(definition: &str) -> String {
    let [name] = json::members(definition, ["name"]).unwrap_or_default();
    signature::text(name)
}

/// Reads the arguments, which are texts, into a JSON object. `KEY:="TEXT"` is a text with the escapes of JSON.
fn arguments(pairs: &[(String, String)]) -> Result<Value> {
    let mut arguments = Map::new();
    for (key, text) in pairs {
        let (key, text) = match key.strip_suffix(':') {
            None => (key.as_str(), text.clone()),
            Some(key) => match serde_json::from_str(text) {
                Ok(Value::String(text)) => (key, text),
                _ => {
                    return Err(Error::usage(format!(
                        "{key}: arguments of prompts are texts; use {key}={text}, or {key}:=\"TEXT\" with the escapes of JSON"
                    )));
                }
            },
        };
        if arguments.insert(key.to_owned(), text.into()).is_some() {
            return Err(Error::usage(format!("{key} is given more than once")));
        }
    }
    Ok(Value::Object(arguments))
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
    answer::print_list(invocation, &definitions, name_of, signature::prompt)
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
    fn arguments_are_texts() {
        let read = |pairs: &[&str]| {
            let pairs: Vec<_> = pairs.iter().map(|text| parse::pair(text).unwrap()).collect();
            arguments(&pairs).map(|read| read.to_string()).unwrap_or_else(|error| error.to_string())
        };
        assert_eq!(read(&["who=5", r#"more:="a\nb""#]), r#"{"more":"a\nb","who":"5"}"#);
        assert_eq!(
            read(&["who:=5"]),
            "who: arguments of prompts are texts; use who=5, or who:=\"TEXT\" with the escapes of JSON"
        );
        assert_eq!(read(&["who=a", "who=b"]), "who is given more than once");
    }

    #[test]
    fn what_a_prompt_requires_is_to_be_given() {
        let definition = r#"{"name":"hi","arguments":[{"name":"who","required":true},{"name":"how"},{"name":"when","required":true}]}"#;
        let check = |given| check_complete(definition, &given).map_err(|error| error.to_string());
        assert_eq!(check(serde_json::json!({"who": "", "when": "now"})), Ok(()));
        assert_eq!(
            check(serde_json::json!({"how": "so"})),
            Err("the prompt requires who, when; give KEY=VALUE for each".to_owned())
        );
        assert!(check_complete(r#"{"name":"hi"}"#, &serde_json::json!({})).is_ok());
    }

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
