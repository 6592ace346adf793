//! `mcpctl get KIND [NAME…]`: lists resources.

use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::output::{self, Format};
use crate::reflection;

const PAGE: i32 = 1_000;
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstreams, servers, tools, resources, prompts, tokens, edges or join-tokens
    #[arg(value_parser = Kind::parser(), hide_possible_values = true)]
    kind: &'static Kind,
    /// Names [default: all]; for tools, resources and prompts UPSTREAM/NAME, or UPSTREAM for its whole catalogue
    names: Vec<String>,
    /// Filter expression, such as 'labels.team = "core" AND NOT disabled'
    #[arg(long)]
    filter: Option<String>,
    /// Field to sort by: name, revision or create_time, optionally followed by " desc"
    #[arg(long)]
    order_by: Option<String>,
    /// Keep running and print changes
    #[arg(short, long)]
    watch: bool,
}

/// Runs `get`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let client = invocation.client().await?;
    let single = args.names.len() == 1 && !is_upstream(args.kind, &args.names[0]);
    let items = fetch(&client, &args).await?;
    output::print(&output::resources(args.kind, &items, single, invocation.format())?)?;
    if args.watch {
        return watch(invocation, &client, &args, items).await;
    }
    if items.is_empty() && invocation.format() == Format::Table {
        output::eprint(format!("no {} found", args.kind.plural.replace('-', " ")));
    }
    Ok(())
}

/// Prints changes until the process is stopped.
async fn watch(
    invocation: &Invocation,
    client: &ControlClient,
    args: &Args,
    mut seen: Vec<DynamicMessage>,
) -> Result {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let now = fetch(client, args).await?;
        let changed: Vec<_> = now.iter().filter(|item| !seen.contains(item)).cloned().collect();
        for gone in seen.iter().filter(|old| !now.iter().any(|item| name(item) == name(old))) {
            output::eprint(format!("{} is no longer listed", name(gone)));
        }
        if !changed.is_empty() {
            let text = output::resources(args.kind, &changed, false, invocation.format())?;
            output::print(&without_titles(text, invocation))?;
        }
        seen = now;
    }
}

fn name(item: &DynamicMessage) -> String {
    reflection::text(item, "name")
}

fn without_titles(text: String, invocation: &Invocation) -> String {
    if invocation.format() != Format::Table {
        return text;
    }
    text.lines().skip(1).map(|line| format!("{line}\n")).collect()
}

/// Returns whether a word names an upstream, and so its whole catalogue.
fn is_upstream(kind: &Kind, word: &str) -> bool {
    kind.catalogued && !word.strip_prefix("upstreams/").unwrap_or(word).contains('/')
}

async fn fetch(client: &ControlClient, args: &Args) -> Result<Vec<DynamicMessage>> {
    if args.names.is_empty() {
        return list(client, args, "-").await;
    }
    let mut items = Vec::new();
    for word in &args.names {
        if is_upstream(args.kind, word) {
            let upstream = word.strip_prefix("upstreams/").unwrap_or(word);
            let listed = list(client, args, upstream).await?;
            if listed.is_empty() && upstream != "-" {
                // An upstream without entries and one that does not exist are not the same.
                one(client, Kind::from_word("upstream"), upstream).await?;
            }
            items.extend(listed);
        } else if args.filter.is_some() || args.order_by.is_some() {
            return Err(Error::usage("--filter and --order-by apply to lists; omit the name"));
        } else {
            items.push(one(client, args.kind, word).await?);
        }
    }
    Ok(items)
}

async fn list(client: &ControlClient, args: &Args, upstream: &str) -> Result<Vec<DynamicMessage>> {
    let mut request = Map::new();
    request.insert("pageSize".into(), PAGE.into());
    request.extend(args.filter.iter().map(|filter| ("filter".to_owned(), filter.clone().into())));
    request.extend(args.order_by.iter().map(|order| ("orderBy".to_owned(), order.clone().into())));
    if args.kind.catalogued {
        request.insert("parent".into(), format!("upstreams/{upstream}").into());
    }
    all_pages(client, args.kind, request).await
}

/// Fetches all pages of a list.
pub async fn all_pages(
    client: &ControlClient,
    kind: &Kind,
    mut request: Map<String, Value>,
) -> Result<Vec<DynamicMessage>> {
    let mut items = Vec::new();
    loop {
        let page = client.call(&kind.method("List"), Value::Object(request.clone())).await?;
        items.extend(reflection::submessages(&page, &kind.list_field()));
        let next = reflection::text(&page, "next_page_token");
        if next.is_empty() {
            return Ok(items);
        }
        request.insert("pageToken".into(), next.into());
    }
}

/// Fetches one resource by its short or full name.
pub async fn one(client: &ControlClient, kind: &Kind, word: &str) -> Result<DynamicMessage> {
    let name = kind.full_name(word)?;
    let answer = client.call(&kind.method("Get"), json!({ "name": name })).await?;
    reflection::submessage(&answer, &kind.field())
        .ok_or_else(|| Error::not_found(format!("{name}: the response is empty")))
}
