//! `mcpctl get NOUN [NAME…]`.

use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::Session;
use crate::contract;
use crate::error::{Error, Result};
use crate::nouns::Noun;
use crate::output::{self, Format};
use crate::rpc::Client;

const PAGE: i32 = 1_000;
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What: upstreams, servers, tools, resources, prompts, tokens, edges
    #[arg(value_parser = Noun::parser(), hide_possible_values = true)]
    noun: &'static Noun,
    /// Which; all where none is named. Of tools, resources and prompts: UPSTREAM/NAME, or UPSTREAM for all of it
    names: Vec<String>,
    /// Only those that match, such as 'labels.team = "core" AND NOT disabled'
    #[arg(long)]
    filter: Option<String>,
    /// In which order: name, revision or create_time, each with " desc" or not
    #[arg(long)]
    order_by: Option<String>,
    /// Go on, and show what changes
    #[arg(short, long)]
    watch: bool,
}

/// Runs `get`.
pub async fn run(session: &Session, args: Args) -> Result {
    let client = session.client().await?;
    let single = args.names.len() == 1 && !is_upstream(args.noun, &args.names[0]);
    let items = fetch(&client, &args).await?;
    output::out(&output::resources(args.noun, &items, single, session.format())?)?;
    if args.watch {
        return watch(session, &client, &args, items).await;
    }
    if items.is_empty() && session.format() == Format::Table {
        output::say(format!("no {}", args.noun.plural));
    }
    Ok(())
}

/// Shows what changes, until somebody ends it.
async fn watch(session: &Session, client: &Client, args: &Args, mut seen: Vec<DynamicMessage>) -> Result {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let now = fetch(client, args).await?;
        let changed: Vec<_> = now.iter().filter(|item| !seen.contains(item)).cloned().collect();
        for gone in seen.iter().filter(|old| !now.iter().any(|item| name(item) == name(old))) {
            output::say(format!("{} is gone", name(gone)));
        }
        if !changed.is_empty() {
            let text = output::resources(args.noun, &changed, false, session.format())?;
            output::out(&without_titles(text, session))?;
        }
        seen = now;
    }
}

fn name(item: &DynamicMessage) -> String {
    contract::text(item, "name")
}

fn without_titles(text: String, session: &Session) -> String {
    if session.format() != Format::Table {
        return text;
    }
    text.lines().skip(1).map(|line| format!("{line}\n")).collect()
}

/// Whether a word means all of an upstream's catalogue.
fn is_upstream(noun: &Noun, word: &str) -> bool {
    noun.catalogued && !word.strip_prefix("upstreams/").unwrap_or(word).contains('/')
}

async fn fetch(client: &Client, args: &Args) -> Result<Vec<DynamicMessage>> {
    if args.names.is_empty() {
        return list(client, args, "-").await;
    }
    let mut items = Vec::new();
    for word in &args.names {
        if is_upstream(args.noun, word) {
            items.extend(list(client, args, word.strip_prefix("upstreams/").unwrap_or(word)).await?);
        } else if args.filter.is_some() || args.order_by.is_some() {
            return Err(Error::usage("--filter and --order-by select from a list: leave the name out"));
        } else {
            items.push(one(client, args.noun, word).await?);
        }
    }
    Ok(items)
}

async fn list(client: &Client, args: &Args, upstream: &str) -> Result<Vec<DynamicMessage>> {
    let mut request = Map::new();
    request.insert("pageSize".into(), PAGE.into());
    request.extend(args.filter.iter().map(|filter| ("filter".to_owned(), filter.clone().into())));
    request.extend(args.order_by.iter().map(|order| ("orderBy".to_owned(), order.clone().into())));
    if args.noun.catalogued {
        request.insert("parent".into(), format!("upstreams/{upstream}").into());
    }
    all_pages(client, args.noun, request).await
}

/// Everything of a list, over all its pages.
pub async fn all_pages(
    client: &Client,
    noun: &Noun,
    mut request: Map<String, Value>,
) -> Result<Vec<DynamicMessage>> {
    let mut items = Vec::new();
    loop {
        let page = client.call(&noun.method("List"), Value::Object(request.clone())).await?;
        items.extend(contract::parts(&page, noun.plural));
        let next = contract::text(&page, "next_page_token");
        if next.is_empty() {
            return Ok(items);
        }
        request.insert("pageToken".into(), next.into());
    }
}

/// One resource, by what a person calls it.
pub async fn one(client: &Client, noun: &Noun, word: &str) -> Result<DynamicMessage> {
    let name = noun.full_name(word)?;
    let answer = client.call(&noun.method("Get"), json!({ "name": name })).await?;
    contract::part(&answer, noun.singular)
        .ok_or_else(|| Error::not_found(format!("{name}: the answer is empty")))
}
