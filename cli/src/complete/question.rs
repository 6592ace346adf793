//! What is asked of a gateway to complete a command line, and the answer: soon, or none.

use std::time::Duration;

use mcp::json;
use mcp::method::Method;
use serde_json::{Map, Value};

use super::Known;
use super::cache::CachedAnswer;
use crate::client::caller::{CallerFlags, Wanted, callers};
use crate::client::session::EdgeServer;
use crate::client::signature;
use crate::client::standing::exposed_as;
use crate::commands::Invocation;
use crate::commands::get::all_pages;
use crate::commands::sets;
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::{Kind, short_name};
use crate::parse;
use crate::reflection;

/// Longest wait for an answer: nobody waits longer for a key.
pub(super) const LIMIT: Duration = Duration::from_millis(800);
/// More are no help to whoever types.
const MAX_ITEMS: usize = 10_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// The names of a kind.
    Names(&'static str),
    /// The entries of an upstream.
    Entries { kind: &'static str, upstream: String },
    /// The names under which a server exposes entries.
    Exposed { server: String, kind: &'static str },
    /// What a server offers its callers.
    Offers { server: String, offered: Offered },
    /// The arguments of one of those.
    Arguments { server: String, offered: Offered, name: String },
    /// The sets that were applied.
    Sets,
}

/// What servers offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    Tools,
    Resources,
    Prompts,
}

/// Returns the answer; nothing, if there is none soon.
pub(super) fn answer(invocation: &Invocation, question: &Question) -> Vec<Known> {
    let Ok(contexts) = invocation.context_file.read() else { return Vec::new() };
    let context = invocation.context_file.current_name(&contexts).unwrap_or_default();
    let file = invocation.context_file.path().to_string_lossy().into_owned();
    let cached = CachedAnswer::to(&[&file, &context, &format!("{question:?}")]);
    if let Some(known) = cached.read() {
        return known;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let asked = runtime.block_on(async { tokio::time::timeout(LIMIT, ask(invocation, question)).await });
    // A name that is still looked up must not be waited for.
    runtime.shutdown_background();
    let Ok(Ok(found)) = asked else { return Vec::new() };
    cached.write(&found);
    found
}

async fn ask(invocation: &Invocation, question: &Question) -> Result<Vec<Known>> {
    match question {
        Question::Names(kind) => names(&invocation.client().await?, Kind::from_word(kind), None).await,
        Question::Entries { kind, upstream } => {
            names(&invocation.client().await?, Kind::from_word(kind), Some(upstream)).await
        }
        Question::Exposed { server, kind } => exposed(&invocation.client().await?, server, kind).await,
        Question::Sets => sets(&invocation.client().await?).await,
        Question::Offers { server, offered } => {
            let definitions = definitions(invocation, server, *offered).await?;
            Ok(definitions.iter().map(|definition| described(definition, *offered)).collect())
        }
        Question::Arguments { server, offered, name } => {
            let definitions = definitions(invocation, server, *offered).await?;
            let named = definitions.iter().find(|definition| described(definition, *offered).0 == *name);
            Ok(named.map(|definition| arguments(definition)).unwrap_or_default())
        }
    }
}

async fn names(client: &ControlClient, kind: &Kind, upstream: Option<&String>) -> Result<Vec<Known>> {
    let mut request = Map::from_iter([("pageSize".to_owned(), Value::from(1_000))]);
    if let Some(upstream) = upstream {
        request.insert("parent".into(), format!("upstreams/{upstream}").into());
    }
    let items = all_pages(client, kind, request).await?;
    Ok(items.iter().map(|item| (short_name(&reflection::text(item, "name")), String::new())).collect())
}

async fn exposed(client: &ControlClient, server: &str, kind: &str) -> Result<Vec<Known>> {
    let entries = exposed_as(client, server).await?.into_iter();
    let of_kind = entries.filter(|entry| reflection::text(entry, "kind") == kind);
    Ok(of_kind.map(|entry| (reflection::text(&entry, "exposed_name"), String::new())).collect())
}

async fn sets(client: &ControlClient) -> Result<Vec<Known>> {
    let sets = sets::all(client).await?.into_iter();
    Ok(sets
        .map(|set| {
            let count = reflection::number(&set, "count");
            (reflection::text(&set, "name"), parse::counted(count, "resource"))
        })
        .collect())
}

/// The definitions that a server offers whoever would call it.
async fn definitions(invocation: &Invocation, server: &str, offered: Offered) -> Result<Vec<String>> {
    let (context, flags) = (invocation.context()?, CallerFlags::default());
    let file = invocation.context_file.path();
    let found = callers(&context, file, server, Wanted::Anything, &flags)?;
    let server = EdgeServer::of(&context, server, LIMIT)?;
    let Some(caller) = found.first() else { return Ok(Vec::new()) };
    let Ok(session) = server.open(caller.authorization()?, "{}").await else { return Ok(Vec::new()) };
    let methods: &[Method] = match offered {
        Offered::Tools => &[Method::ToolsList],
        Offered::Resources => &[Method::ResourcesList, Method::ResourcesTemplatesList],
        Offered::Prompts => &[Method::PromptsList],
    };
    let mut definitions = Vec::new();
    for method in methods {
        definitions.extend(session.list(*method, MAX_ITEMS).await.entries);
    }
    session.close().await;
    Ok(definitions)
}

/// The name of a definition, and what it is.
fn described(definition: &str, offered: Offered) -> Known {
    let members = ["name", "uri", "uriTemplate", "description"];
    let [name, uri, template, description] = json::members(definition, members).unwrap_or_default();
    let value = if offered == Offered::Resources { uri.or(template) } else { name };
    (signature::text(value), signature::first_line(description))
}

/// The arguments of a tool or a prompt, each with `=`, and those of which the values are known with each of them.
fn arguments(definition: &str) -> Vec<Known> {
    let [schema, arguments] = json::members(definition, ["inputSchema", "arguments"]).unwrap_or_default();
    let read =
        |raw: Option<&str>| raw.and_then(|raw| serde_json::from_str::<Value>(raw).ok()).unwrap_or_default();
    let (schema, arguments) = (read(schema), read(arguments));
    let of_prompt = arguments.as_array().into_iter().flatten();
    let of_prompt = of_prompt.filter_map(|argument| Some((argument["name"].as_str()?.to_owned(), argument)));
    let of_tool = schema["properties"].as_object().into_iter().flatten();
    let of_tool = of_tool.map(|(name, property)| (name.clone(), property));
    of_prompt.chain(of_tool).flat_map(|(name, argument)| values(&name, argument)).collect()
}

fn values(name: &str, argument: &Value) -> Vec<Known> {
    let help = argument["description"].as_str().unwrap_or_default().lines().next().unwrap_or_default();
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let named: Vec<_> = argument["enum"].as_array().into_iter().flatten().map(plain).collect();
    let named = match argument["type"].as_str() {
        Some("boolean") => vec!["true".to_owned(), "false".to_owned()],
        _ if named.is_empty() => vec![String::new()],
        _ => named,
    };
    named.into_iter().map(|value| (format!("{name}={value}"), help.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_completed_up_to_their_values() {
        let tool = r#"{"name":"t","inputSchema":{"properties":{"zone":{"type":"string","description":"Where.\nMore."},
            "deep":{"type":"boolean"},"mode":{"enum":["a","b"]}}}}"#;
        let values: Vec<_> = arguments(tool).into_iter().map(|(value, _)| value).collect();
        assert_eq!(values, ["deep=true", "deep=false", "mode=a", "mode=b", "zone="]);
        let prompt = r#"{"name":"p","arguments":[{"name":"code","required":true,"description":"What."}]}"#;
        assert_eq!(arguments(prompt), [("code=".to_owned(), "What.".to_owned())]);
    }

    #[test]
    fn definitions_are_known_by_their_names_or_uris() {
        let both = r#"{"name":"n","uri":"file:///a","description":"One.\nTwo."}"#;
        assert_eq!(described(both, Offered::Tools), ("n".to_owned(), "One.".to_owned()));
        assert_eq!(described(both, Offered::Resources).0, "file:///a");
    }
}
