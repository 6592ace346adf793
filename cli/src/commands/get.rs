//! `mcpctl get KIND [NAME…]`: lists resources.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::output::{self, Format, Found};
use crate::reflection;
use crate::selection::{Selected, Selection, is_upstream};
use crate::selector::Selector;

const PAGE: i32 = 1_000;
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstreams, servers, tools, resources, prompts, tokens, edges or join-tokens; several, separated by
    /// commas; all; or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    kind: String,
    /// Names [default: all]; for tools, resources and prompts UPSTREAM/NAME, or UPSTREAM for its whole catalogue
    names: Vec<String>,
    /// Filter expression, such as 'labels.team = "core" AND NOT disabled'
    #[arg(long)]
    filter: Option<String>,
    /// Labels to select by, such as 'team=core,env!=x,!y,k in (a,b)'
    #[arg(short = 'l', long, value_parser = Selector::parse)]
    selector: Option<Selector>,
    /// Field to sort by: name, revision or create_time, optionally followed by " desc"
    #[arg(long)]
    order_by: Option<String>,
    /// Keep running and print changes
    #[arg(short, long)]
    watch: bool,
}

/// What lists are narrowed to.
#[derive(Debug, Default)]
pub struct Query {
    pub filter: Option<String>,
    pub selector: Option<Selector>,
    pub order_by: Option<String>,
}

/// Runs `get`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let selection = Selection::parse(&args.kind, &args.names)?;
    let query = Query { filter: args.filter, selector: args.selector, order_by: args.order_by };
    let client = invocation.client().await?;
    let found = select(&client, &selection, &query).await?;
    output::print(&output::found(&found, selection.is_single(), invocation.format())?)?;
    if args.watch {
        return watch(invocation, &client, (&selection, &query), found).await;
    }
    if found.iter().all(|group| group.items.is_empty()) && invocation.format() == Format::Table {
        let kinds: Vec<_> = found.iter().map(|group| group.kind.words()).collect();
        output::eprint(format!("no {} found", kinds.join(", ")));
    }
    Ok(())
}

/// Prints changes until the process is stopped.
async fn watch(
    invocation: &Invocation,
    client: &ControlClient,
    (selection, query): (&Selection, &Query),
    mut seen: Vec<Found>,
) -> Result {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let now = select(client, selection, query).await?;
        for (old, new) in seen.iter().zip(&now) {
            let changed: Vec<_> =
                new.items.iter().filter(|item| !old.items.contains(item)).cloned().collect();
            for gone in old.items.iter().filter(|old| !new.items.iter().any(|item| name(item) == name(old))) {
                output::eprint(format!("{} is no longer listed", name(gone)));
            }
            if !changed.is_empty() {
                let text = output::resources(new.kind, &changed, false, invocation.format())?;
                output::print(&without_titles(text, invocation))?;
            }
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

/// Fetches what is selected, by kind.
pub async fn select(client: &ControlClient, selection: &Selection, query: &Query) -> Result<Vec<Found>> {
    query.check(selection)?;
    let mut found = Vec::new();
    for group in selection.groups() {
        found.push(Found { kind: group.kind, items: fetch(client, group, query).await? });
    }
    Ok(found)
}

impl Query {
    /// Refuses what would have no effect.
    fn check(&self, selection: &Selection) -> Result {
        let listed = [
            ("--filter", self.filter.is_some()),
            ("--order-by", self.order_by.is_some()),
            ("--selector", self.selector.is_some()),
        ];
        for (flag, _) in listed.into_iter().filter(|(_, given)| *given) {
            if selection.names_resources() {
                return Err(Error::usage(format!("{flag} applies to lists; omit the name")));
            }
            let mut without =
                selection.groups().iter().map(|group| group.kind).filter(|kind| !has_filter(kind));
            let refuses = match flag {
                // What has no labels passes `!team`, and nothing else.
                "--selector" if selection.groups().len() > 1 => None,
                _ => without.next(),
            };
            if let Some(kind) = refuses {
                return Err(Error::usage(format!("{flag} does not apply to {}; leave it out", kind.words())));
            }
        }
        Ok(())
    }

    /// Writes what the server filters by.
    fn filter(&self) -> Option<String> {
        let selector = self.selector.as_ref().map(Selector::filter);
        match (&self.filter, selector) {
            (Some(filter), Some(selector)) => Some(format!("({filter}) AND {selector}")),
            (filter, selector) => filter.clone().or(selector),
        }
    }
}

/// Whether the list of a kind takes a filter.
fn has_filter(kind: &Kind) -> bool {
    let list = reflection::method(&kind.method("List"));
    list.is_some_and(|method| method.input().get_field_by_name("filter").is_some())
}

async fn fetch(client: &ControlClient, group: &Selected, query: &Query) -> Result<Vec<DynamicMessage>> {
    if group.names.is_empty() {
        return list(client, group.kind, query, "-").await;
    }
    let mut items = Vec::new();
    for word in &group.names {
        if !is_upstream(group.kind, word) {
            items.push(one(client, group.kind, word).await?);
            continue;
        }
        let upstream = word.strip_prefix("upstreams/").unwrap_or(word);
        let listed = list(client, group.kind, query, upstream).await?;
        if listed.is_empty() && upstream != "-" {
            // An upstream without entries and one that does not exist are not the same.
            one(client, Kind::from_word("upstream"), upstream).await?;
        }
        items.extend(listed);
    }
    Ok(items)
}

async fn list(
    client: &ControlClient,
    kind: &Kind,
    query: &Query,
    upstream: &str,
) -> Result<Vec<DynamicMessage>> {
    let mut request = Map::new();
    request.insert("pageSize".into(), PAGE.into());
    if kind.catalogued {
        request.insert("parent".into(), format!("upstreams/{upstream}").into());
    }
    if !has_filter(kind) {
        let passes = query.selector.as_ref().is_none_or(|selector| selector.matches(&BTreeMap::new()));
        return if passes { all_pages(client, kind, request).await } else { Ok(Vec::new()) };
    }
    request.extend(query.filter().map(|filter| ("filter".to_owned(), filter.into())));
    request.extend(query.order_by.iter().map(|order| ("orderBy".to_owned(), order.clone().into())));
    all_pages(client, kind, request).await
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
