//! `mcpctl get KIND [NAME…]`: lists resources.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::commands::api_keys::Belonging;
use crate::commands::last_uses::LastUses;
use crate::commands::watching::{self, Absence};
use crate::commands::{Invocation, people, sets, teams};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::{Kind, short_name};
use crate::output::path::FieldPath;
use crate::output::{self, Format, Found, Printer};
use crate::parse;
use crate::reflection;
use crate::selection::{Selected, Selection, is_upstream, with_lists};
use crate::selector::Selector;

const PAGE: i32 = 1_000;
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// What is listed beside the kinds.
const LISTS: [&str; 4] = [sets::WORD, "members", "api-keys", "sessions"];

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstreams, servers, tools, resources, prompts, tokens, teams, roles, edges, join-tokens, users or
    /// service-accounts; several, separated by commas; all; KIND/NAME; sets, which are those of `apply`; members, which are those of
    /// one team; or api-keys or sessions, with whose they are as names
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
    /// Any field to sort by, such as .meta.createTime, with numbers and times as such
    #[arg(long, value_name = "PATH", value_parser = sort_path)]
    sort_by: Option<FieldPath>,
    /// Succeed where names do not exist, and print what does
    #[arg(long)]
    ignore_not_found: bool,
    /// Add a column with all labels to tables
    #[arg(long)]
    show_labels: bool,
    /// Add a column with the value of a label to tables, such as team; repeatable, or with commas
    #[arg(short = 'L', long = "label-columns", value_name = "KEY", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Print tables without their titles
    #[arg(long)]
    no_headers: bool,
    /// Keep running and print changes, for --timeout if that is given: rows in the same columns, or a document each
    #[arg(short, long)]
    watch: bool,
}

impl Args {
    /// Refuses what sets, members, API keys and sessions do not have.
    fn check_for_plain(&self, what: &str) -> Result {
        let given = [
            ("--filter", self.filter.is_some()),
            ("--selector", self.selector.is_some()),
            ("--order-by", self.order_by.is_some()),
            ("--sort-by", self.sort_by.is_some()),
            ("--watch", self.watch),
            ("--show-labels", self.show_labels),
            ("--label-columns", !self.label_columns.is_empty()),
            ("--ignore-not-found", self.ignore_not_found),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Error::usage(format!("{flag} does not apply to {what}; leave it out"))),
            None => Ok(()),
        }
    }
}

/// Reads a path, also in braces as kubectl has it.
fn sort_path(text: &str) -> std::result::Result<FieldPath, String> {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    FieldPath::parse(inner).map_err(|error| error.to_string())
}

/// What lists are narrowed to.
#[derive(Debug, Default)]
pub struct Query {
    pub filter: Option<String>,
    pub selector: Option<Selector>,
    pub order_by: Option<String>,
    /// Whether it is about everything: what the caller may not list is left out, and so is what nobody made.
    pub is_of_all: bool,
}

/// Runs `get`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    if sets::are_meant(&args.kind) {
        args.check_for_plain(sets::WORD)?;
        return sets::show(invocation, &args.names, !args.no_headers).await;
    }
    if teams::are_meant(&args.kind) {
        args.check_for_plain("members")?;
        return teams::show_members(invocation, &args.names, !args.no_headers).await;
    }
    if let Some(belonging) = Belonging::of_word(&args.kind) {
        args.check_for_plain(&args.kind)?;
        return belonging.show(invocation, &args.names, !args.no_headers).await;
    }
    let selection = Selection::parse(&args.kind, &args.names);
    let selection = selection.map_err(|error| with_lists(error, &LISTS))?;
    let is_of_all = selection.is_all();
    let is_narrowed = args.filter.is_some() || args.order_by.is_some();
    let selection = selection.with_people(|kind| !is_narrowed || has_filter(kind));
    let format = invocation.format();
    let mut listing = Listing {
        client: invocation.client().await?,
        query: Query { filter: args.filter, selector: args.selector, order_by: args.order_by, is_of_all },
        sort_by: args.sort_by,
        printer: Printer::new(format.clone(), !args.no_headers)
            .with_labels(args.show_labels, args.label_columns),
        selection,
        ignore_not_found: args.ignore_not_found,
    };
    listing.check(format, args.watch)?;
    if args.watch {
        return listing.watch(invocation).await;
    }
    listing.add_last_uses(format).await;
    listing.show(format).await
}

/// What is listed, and how it is printed.
struct Listing {
    client: ControlClient,
    selection: Selection,
    query: Query,
    sort_by: Option<FieldPath>,
    printer: Printer,
    ignore_not_found: bool,
}

impl Listing {
    /// Refuses what could not be printed as it is meant.
    fn check(&self, format: &Format, watch: bool) -> Result {
        for kind in self.selection.groups().iter().map(|group| group.kind) {
            let message = reflection::message(kind.message);
            let sorted = self.sort_by.iter().map(|path| ("--sort-by", path));
            let shown = match format {
                Format::Columns(columns) => columns.as_slice(),
                _ => &[],
            };
            for (flag, path) in sorted.chain(shown.iter().map(|column| ("-o custom-columns", &column.path))) {
                path.check(&message).map_err(|error| Error::usage(format!("{flag}: {error}")))?;
            }
        }
        let is_table = matches!(format, Format::Table | Format::Wide);
        if watch && is_table && self.selection.groups().len() > 1 {
            return Err(Error::usage(
                "--watch shows one kind in a table; name one, or add -o name, json, yaml or jsonpath",
            ));
        }
        Ok(())
    }

    /// Adds when servers were last used to a wide table of them.
    async fn add_last_uses(&mut self, format: &Format) {
        let is_of_servers = self.selection.groups().iter().all(|group| group.kind.name == "Server");
        if !is_of_servers || !matches!(format, Format::Wide) {
            return;
        }
        if let Some(uses) = LastUses::hint(&self.client, None).await {
            let now = OffsetDateTime::now_utc();
            let whole = uses.all().filter(|(_, target, _)| target.is_empty());
            let cells = whole.map(|(server, _, time)| (server.to_owned(), parse::short_duration(now - time)));
            self.printer.add_beside("LAST USED", cells.collect());
        }
    }

    /// Prints what is there, and tells what is not.
    async fn show(&self, format: &Format) -> Result {
        let mut missing = Vec::new();
        let found = self.fetch(Some(&mut missing)).await?;
        let is_absent = !missing.is_empty();
        if self.ignore_not_found {
            missing.clear();
        }
        let is_empty = found.iter().all(|group| group.items.is_empty());
        if !is_empty || !is_absent {
            output::print(&self.printer.render(&found, self.selection.is_single())?)?;
        }
        if let Some(last) = missing.pop() {
            missing.iter().for_each(output::eprint_error);
            return Err(last);
        }
        let is_table = matches!(format, Format::Table | Format::Wide | Format::Columns(_));
        if is_table && is_empty && !is_absent {
            let kinds: Vec<_> = found.iter().map(|group| group.kind.words()).collect();
            output::eprint(format!("no {} found", kinds.join(", ")));
        }
        Ok(())
    }

    /// `missing` gets the errors of names that do not exist; without it the first is returned.
    async fn fetch(&self, missing: Option<&mut Vec<Error>>) -> Result<Vec<Found>> {
        let mut ignored = Vec::new();
        let missing = missing.or_else(|| self.ignore_not_found.then_some(&mut ignored));
        let mut found = select_present(&self.client, &self.selection, &self.query, missing).await?;
        if let Some(path) = &self.sort_by {
            found.iter_mut().for_each(|group| output::sort(&mut group.items, path));
        }
        Ok(found)
    }

    /// Prints what is there, and then changes until the process is stopped, its time is over or nobody reads any more.
    async fn watch(&mut self, invocation: &Invocation) -> Result {
        let seen = self.fetch(None).await?;
        for group in &seen {
            if !output::print_while_open(&self.printer.render_changes(group)?)? {
                return Ok(());
            }
        }
        watching::until_over(invocation, self.follow(seen)).await
    }

    async fn follow(&mut self, mut seen: Vec<Found>) -> Result {
        let mut absence = Absence::default();
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let Some(now) = absence.pass(self.fetch(None).await)? else { continue };
            for (old, new) in seen.iter().zip(&now) {
                if !self.print_changes(old, new)? {
                    return Ok(());
                }
            }
            seen = now;
        }
    }

    /// Whether something is to be seen of a resource that was not seen before.
    fn is_news(&self, seen: &Found, item: &DynamicMessage) -> bool {
        match seen.items.iter().find(|known| name(known) == name(item)) {
            Some(known) => known != item && self.printer.shows_change(seen.kind, [known, item]),
            None => true,
        }
    }

    /// Returns whether anybody still reads.
    fn print_changes(&mut self, old: &Found, new: &Found) -> Result<bool> {
        for gone in old.items.iter().filter(|old| !new.items.iter().any(|item| name(item) == name(old))) {
            let name = name(gone);
            match self.printer.render_deletion(old.kind, &name)? {
                Some(text) if !output::print_while_open(&text)? => return Ok(false),
                Some(_) => {}
                None => output::eprint(format!("{name} is no longer listed")),
            }
        }
        let items: Vec<_> = new.items.iter().filter(|item| self.is_news(old, item)).cloned().collect();
        if items.is_empty() {
            return Ok(true);
        }
        output::print_while_open(&self.printer.render_changes(&Found { kind: new.kind, items })?)
    }
}

fn name(item: &DynamicMessage) -> String {
    reflection::text(item, "name")
}

/// Fetches what is selected, by kind.
pub async fn select(client: &ControlClient, selection: &Selection, query: &Query) -> Result<Vec<Found>> {
    select_present(client, selection, query, None).await
}

async fn select_present(
    client: &ControlClient,
    selection: &Selection,
    query: &Query,
    mut missing: Option<&mut Vec<Error>>,
) -> Result<Vec<Found>> {
    query.check(selection)?;
    let (mut found, mut denied) = (Vec::new(), Vec::new());
    for group in selection.groups() {
        let items = match fetch(client, group, query, missing.as_deref_mut()).await {
            // Of everything, whoever asks gets what they may see.
            Err(error) if error.is_denied() && (query.is_of_all || selection.is_all()) => {
                denied.push(error);
                Vec::new()
            }
            Ok(items) if query.is_of_all => items.into_iter().filter(is_made).collect(),
            items => items?,
        };
        found.push(Found { kind: group.kind, items });
    }
    match denied.pop() {
        Some(error) if denied.len() + 1 == found.len() => Err(error),
        _ => Ok(found),
    }
}

/// Whether somebody made it: roles that are built in are everywhere.
fn is_made(item: &DynamicMessage) -> bool {
    item.get_field_by_name("built_in").is_none_or(|field| field.as_bool() != Some(true))
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

async fn fetch(
    client: &ControlClient,
    group: &Selected,
    query: &Query,
    mut missing: Option<&mut Vec<Error>>,
) -> Result<Vec<DynamicMessage>> {
    if group.names.is_empty() {
        return list(client, group.kind, query, "-").await;
    }
    let mut items = Vec::new();
    for word in &group.names {
        if !is_upstream(group.kind, word) {
            match (one(client, group.kind, word).await, missing.as_deref_mut()) {
                (Err(error), Some(missing)) if error.exit == Exit::NotFound => missing.push(error),
                (item, _) => items.push(item?),
            }
            continue;
        }
        let upstream = word.strip_prefix("upstreams/").unwrap_or(word);
        let listed = list(client, group.kind, query, upstream).await?;
        if listed.is_empty() && upstream != "-" {
            // An upstream without entries and one that does not exist are not the same.
            if let Err(error) = one(client, Kind::from_word("upstream"), upstream).await {
                return Err(no_upstream(client, group.kind, upstream, error).await);
            }
        }
        items.extend(listed);
    }
    Ok(items)
}

/// The error where a word is that of no upstream: it may be the name of an entry, without its upstream.
async fn no_upstream(client: &ControlClient, kind: &Kind, word: &str, error: Error) -> Error {
    if error.exit != Exit::NotFound {
        return error;
    }
    let entries = list(client, kind, &Query::default(), "-").await.unwrap_or_default();
    let names = entries.iter().map(|entry| short_name(&name(entry)));
    let meant: Vec<_> =
        names.filter(|name| name.split_once('/').is_some_and(|(_, own)| own == word)).collect();
    if meant.is_empty() {
        return error;
    }
    let (kind, meant) = (kind.words(), printable::line(&meant.join(" or ")).into_owned());
    Error::not_found(format!("{word} is no upstream; {kind} are named UPSTREAM/NAME; did you mean {meant}?"))
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
    let mut name = kind.full_name(word)?;
    if kind.name == "User" {
        name = name.to_lowercase();
    }
    let answer = match client.call(&kind.method("Get"), json!({ "name": name })).await {
        Err(error) => match people::by_address(client, &name, &error).await {
            Some(name) => client.call(&kind.method("Get"), json!({ "name": name })).await?,
            None => return Err(error),
        },
        Ok(answer) => answer,
    };
    reflection::submessage(&answer, &kind.field())
        .ok_or_else(|| Error::not_found(format!("{name}: the response is empty")))
}
