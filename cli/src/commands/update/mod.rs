//! `mcpctl update KIND NAME… …`: changes the fields that flags name, and no others.

mod change;
mod kept;

use std::collections::BTreeSet;

use clap::Subcommand;
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value};

use self::change::{UpdateBody, UpdateChange};
use crate::commands::changes::changes;
use crate::commands::fields::{EntryFlags, Fields, ServerFlags, UpstreamFlags};
use crate::commands::get::{self, Query};
use crate::commands::team_fields::{RoleFlags, TeamFlags};
use crate::commands::token_fields::TokenFlags;
use crate::commands::users::{self, ServiceAccountChanges, UserChanges};
use crate::commands::warnings::{self, Rights, When};
use crate::commands::{Invocation, create, revoked};
use crate::confirm::confirm;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::{self, Format};
use crate::parse;
use crate::reflection;
use crate::selection::{self, Selection};
use crate::selector::Selector;
use crate::suggest::nearest;

/// The fields that are not the same for several, and the flags that set them.
const ONE_ALONE: [(&str, &str); 5] = [
    ("http", "--url"),
    ("title", "--title"),
    ("description", "--description"),
    ("instructions", "--instructions"),
    ("definitionJson", "--definition"),
];

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    target: Target,
    /// Validate without storing anything
    #[arg(long, global = true)]
    dry_run: bool,
    /// Update only if the resource still has this etag
    #[arg(long, global = true)]
    etag: Option<String>,
    /// Clear a field, such as credential, description, tools or meta.labels.team; repeatable
    #[arg(long, global = true, value_name = "FIELD")]
    clear: Vec<String>,
    /// Replace lists and clear credentials and conditions without a question where that takes something away
    #[arg(short, long, global = true)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum Target {
    /// Update upstreams
    #[command(visible_alias = "upstreams")]
    Upstream {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        flags: UpstreamFlags,
    },
    /// Update virtual servers; each given list of members replaces the old one, and members stay as they are that are in both
    #[command(visible_alias = "servers")]
    Server {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        flags: ServerFlags,
    },
    /// Update tokens; their bearers stay valid, and their scope changes on every edge
    #[command(visible_alias = "tokens")]
    Token {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        flags: TokenFlags,
    },
    /// Update teams; what their members may call changes on every edge
    #[command(visible_alias = "teams")]
    Team {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        flags: TeamFlags,
    },
    /// Update roles; a given list of permissions replaces the old one, for all who have the role
    #[command(visible_alias = "roles")]
    Role {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        flags: RoleFlags,
    },
    /// Update tools of the catalogue
    #[command(visible_alias = "tools")]
    Tool(Entry),
    /// Update resources of the catalogue
    #[command(visible_alias = "resources")]
    Resource(Entry),
    /// Update prompts of the catalogue
    #[command(visible_alias = "prompts")]
    Prompt(Entry),
    /// Update a user
    #[command(visible_alias = "users")]
    User(UserChanges),
    /// Update a service account
    #[command(visible_aliases = ["service-accounts", "sa"])]
    ServiceAccount(ServiceAccountChanges),
}

/// What is updated.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Which {
    /// Names, as UPSTREAM/NAME for tools, resources and prompts; what is of one alone, such as its title, is set for one at a time
    #[arg(value_name = "NAME", required_unless_present = "selector")]
    names: Vec<String>,
    /// Update all that have these labels, such as 'team=core,env!=x,!y,k in (a,b)'
    #[arg(short = 'l', long, value_parser = Selector::parse, conflicts_with = "names")]
    selector: Option<Selector>,
}

#[derive(Debug, clap::Args)]
struct Entry {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    flags: EntryFlags,
}

/// Runs `update`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    if matches!(args.target, Target::User(_) | Target::ServiceAccount(_))
        && (args.dry_run || !args.clear.is_empty())
    {
        let text = "--dry-run and --clear are not for users and service accounts; leave them out";
        return Err(Error::usage(text));
    }
    let (kind, which, fields) = match args.target {
        Target::User(changes) => return users::update_user(invocation, changes, args.etag).await,
        Target::ServiceAccount(changes) => {
            return users::update_service_account(invocation, changes, args.etag).await;
        }
        target => fields_of(target)?,
    };
    check_names(&which.names, &fields.body)?;
    let names: Vec<String> =
        which.names.iter().map(|word| selection::name_of(kind, word)).collect::<Result<_>>()?;
    let (body, mask) = body_and_mask(kind, fields, &args.clear)?;
    let client = invocation.client().await?;
    let resources = match &which.selector {
        Some(selector) => selected(&client, kind, selector).await?,
        None => named(&client, kind, &names).await?,
    };
    if resources.is_empty() {
        output::eprint("nothing is selected; nothing was updated");
        return Ok(());
    }
    let is_single = which.selector.is_none() && resources.len() == 1;
    if !is_single {
        refuse_for_several(&body, args.etag.is_some())?;
    }
    let change = UpdateChange { client: &client, kind, body, mask, etag: args.etag };
    let rights = match args.dry_run {
        false => prepare(&change, &resources, args.yes).await?,
        true => Rights::default(),
    };
    let is_for_people = invocation.format.as_ref().is_none_or(Format::is_for_people);
    let gains = if is_for_people { change.gains(&resources, args.dry_run).await } else { Vec::new() };
    let mut states = Vec::new();
    for resource in resources {
        let changed = change.apply(resource, args.dry_run).await?;
        report_one(invocation, kind, &changed, args.dry_run, is_single)?;
        states.push(changed);
    }
    if let Some(format) = &invocation.format {
        let updated: Vec<_> = states.iter().map(|[_, after]| after.clone()).collect();
        output::print(&output::resources(kind, &updated, is_single, format)?)?;
    }
    if args.dry_run {
        warnings::of_protection(kind, &in_pairs(&states), When::Then);
    }
    gains.iter().for_each(output::eprint);
    warn(&client, kind, &states, &rights).await;
    Ok(())
}

/// States before and after, as warnings take them.
fn in_pairs(states: &[[DynamicMessage; 2]]) -> Vec<(Option<DynamicMessage>, DynamicMessage)> {
    states.iter().map(|[before, after]| (Some(before.clone()), after.clone())).collect()
}

/// Asks about what would be lost, and looks at what could fail, before the first of several is changed. Returns what tokens may
/// use before that.
async fn prepare(change: &UpdateChange<'_>, resources: &[DynamicMessage], yes: bool) -> Result<Rights> {
    for resource in resources {
        let changed = change.of(resource)?;
        agree_to_lose(&reflection::text(resource, "name"), &changed, yes)?;
    }
    for resource in resources.iter().filter(|_| resources.len() > 1) {
        change.apply(resource.clone(), true).await?;
    }
    Ok(Rights::before(change.client, change.kind, Some(&change.mask)).await)
}

/// Warns of what an update leaves without effect: of the resources, as they were before and are then, and of tokens.
pub async fn warn(client: &ControlClient, kind: &Kind, states: &[[DynamicMessage; 2]], rights: &Rights) {
    let after = || states.iter().map(|[_, after]| after.clone());
    match kind.name {
        "Server" => warnings::of_servers(client, &after().collect::<Vec<_>>()).await,
        "Token" => {
            after().for_each(|token| revoked::warn(&token));
            warnings::of_tokens(&in_pairs(states));
        }
        "Team" => warnings::of_teams(&after().collect::<Vec<_>>()),
        _ => {}
    }
    rights.warn_of_lost(client, &BTreeSet::new()).await;
}

/// Says what became of a resource, and what changed.
fn report_one(
    invocation: &Invocation,
    kind: &Kind,
    [before, after]: &[DynamicMessage; 2],
    dry_run: bool,
    is_single: bool,
) -> Result {
    let name = reflection::text(after, "name");
    let changes = changes(kind, before, after);
    if invocation.format.is_none() {
        let done = if changes.is_empty() { "unchanged" } else { "updated" };
        output::print(&format!("{name} {done}{}", if dry_run { " (dry run)" } else { "" }))?;
    }
    say_changes(&changes, &if is_single { String::new() } else { format!("{name}: ") });
    if kind.name == "Token" && !dry_run {
        create::refresh_token(invocation, after);
    }
    Ok(())
}

/// Says what changed. `of`: of which resource, if there are several.
fn say_changes(changes: &[String], of: &str) {
    changes.iter().for_each(|change| output::eprint(format!("  {of}{change}")));
}

/// Fetches all that are named. Where one does not exist, none is changed.
async fn named(client: &ControlClient, kind: &Kind, names: &[String]) -> Result<Vec<DynamicMessage>> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match get::one(client, kind, name).await {
            Err(error) if error.exit == Exit::NotFound => missing.push(error),
            resource => found.push(resource?),
        }
    }
    let Some(last) = missing.pop() else { return Ok(found) };
    missing.iter().for_each(output::eprint_error);
    Err(last)
}

async fn selected(client: &ControlClient, kind: &Kind, selector: &Selector) -> Result<Vec<DynamicMessage>> {
    let query = Query { selector: Some(selector.clone()), ..Query::default() };
    let found = get::select(client, &Selection::parse(kind.plural, &[])?, &query).await?;
    Ok(found.into_iter().flat_map(|group| group.items).collect())
}

fn fields_of(target: Target) -> Result<(&'static Kind, Which, Fields)> {
    let (kind, which, fields) = match target {
        Target::Upstream { which, flags } => ("upstream", which, flags.fields()?),
        Target::Server { which, flags } => ("server", which, flags.fields()?),
        Target::Token { which, flags } => ("token", which, flags.fields()),
        Target::Team { which, flags } => ("team", which, flags.fields()),
        Target::Role { which, flags } => ("role", which, flags.fields()),
        Target::Tool(entry) => ("tool", entry.which, entry.flags.fields()?),
        Target::Resource(entry) => ("resource", entry.which, entry.flags.fields()?),
        Target::Prompt(entry) => ("prompt", entry.which, entry.flags.fields()?),
        Target::User(_) | Target::ServiceAccount(_) => {
            return Err(Error::usage("users and service accounts are updated one at a time"));
        }
    };
    Ok((Kind::from_word(kind), which, fields))
}

/// Finds out that a word is no name, but the value of a flag that wants it behind `=`.
fn check_names(words: &[String], body: &Map<String, Value>) -> Result {
    let flags = [("nameStyle", "--unprefixed"), ("disabled", "--disabled")];
    let flag = flags.iter().find(|(field, _)| body.contains_key(*field)).map(|(_, flag)| flag);
    let value = words.iter().skip(1).find(|word| ["true", "false"].contains(&word.as_str()));
    match (flag, value) {
        (Some(flag), Some(value)) => {
            Err(Error::usage(format!("{value} is taken for a name here; write {flag}={value}")))
        }
        _ => Ok(()),
    }
}

/// Refuses what is of one resource alone.
fn refuse_for_several(body: &Map<String, Value>, has_etag: bool) -> Result {
    let given = ONE_ALONE.iter().find(|(field, _)| body.contains_key(*field)).map(|(_, flag)| *flag);
    match given.or(has_etag.then_some("--etag")) {
        Some(flag) => {
            Err(Error::usage(format!("{flag} is of one resource alone; update one at a time with it")))
        }
        None => Ok(()),
    }
}

/// What is to be set, and the paths of all that changes.
fn body_and_mask(kind: &Kind, fields: Fields, clear: &[String]) -> Result<(Map<String, Value>, Vec<String>)> {
    let Fields { body, mut mask, removed } = fields;
    name_each_label(&body, &mut mask);
    mask.extend(removed);
    for path in clear {
        mask.push(cleared(kind, path, &mask)?);
    }
    match mask.is_empty() {
        true => Err(Error::usage(format!(
            "no changes given; run `mcpctl update {} --help` for the flags",
            kind.singular
        ))),
        false => Ok((body, mask)),
    }
}

/// Says what a replaced list, a credential or the conditions of a token have no more, and asks.
fn agree_to_lose(name: &str, changed: &UpdateBody, yes: bool) -> Result {
    let UpdateBody { lost, secrets, fallen, .. } = changed;
    lost.iter().chain(secrets).chain(&fallen.lines).for_each(|line| output::eprint(format!("- {line}")));
    if !secrets.is_empty() {
        let what = match changed.is_cleared {
            true => format!("this takes the credential of {name} away, and it cannot be read back"),
            false => {
                format!("this replaces the credential of {name}, and what it has now cannot be read back")
            }
        };
        confirm(&what, yes)?;
    }
    if let Some(ways) = fallen.in_words() {
        confirm(&format!("this lets {name} be used {ways}"), yes)?;
    }
    if lost.is_empty() {
        return Ok(());
    }
    let them = if lost.len() == 1 { "it" } else { "them" };
    confirm(
        &format!("this takes {} out of {name} (to keep {them}, give {them} too)", in_words(lost.len())),
        yes,
    )
}

fn in_words(count: usize) -> String {
    parse::counted(count, "entry")
}

/// Labels that are given are added to the others, as `kubectl label` does; `--clear meta.labels` takes those away.
fn name_each_label(body: &Map<String, Value>, mask: &mut Vec<String>) {
    let Some(at) = mask.iter().position(|path| path == "meta.labels") else { return };
    mask.remove(at);
    let labels = body.get("meta").and_then(|meta| meta["labels"].as_object());
    mask.extend(labels.into_iter().flatten().map(|(key, _)| format!("meta.labels.{key}")));
}

/// Checks a field that is to be cleared. Returns its path in the spelling of the mask.
fn cleared(kind: &Kind, path: &str, set: &[String]) -> Result<String> {
    let (mut message, mut spelled) = (Some(reflection::message(kind.message)), Vec::<String>::new());
    let mut rest = Some(path);
    while let Some(text) = rest {
        let (name, after) = text.split_once('.').map_or((text, None), |(name, after)| (name, Some(after)));
        let Some(descriptor) = message.take() else {
            return Err(Error::usage(format!("`{path}` is no field that can be cleared")));
        };
        let known: Vec<_> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
        // Also as options are written: `not-before`.
        let field = descriptor.get_field_by_json_name(name);
        let field = field.or_else(|| descriptor.get_field_by_name(&name.replace('-', "_")));
        let field = field.ok_or_else(|| {
            let near = nearest(name, known.iter().map(String::as_str));
            let whole = |near: &str| [&spelled[..], &[near.to_owned()]].concat().join(".");
            let hint = near.map(|near| format!("; did you mean {}?", whole(near))).unwrap_or_default();
            Error::usage(format!("`{path}` is no field of {}{hint}", kind.plural))
        })?;
        spelled.push(field.json_name().to_owned());
        rest = after;
        if field.is_map() {
            // The rest is a key, dots and all.
            spelled.extend(rest.take().map(str::to_owned));
        } else if !field.is_list() {
            message = field.kind().as_message().cloned();
        }
    }
    let spelled = spelled.join(".");
    let is_set = |set: &String| *set == spelled || set.starts_with(&format!("{spelled}."));
    match set.iter().any(is_set) {
        true => Err(Error::usage(format!("`{spelled}` cannot be set and cleared at once"))),
        false => Ok(spelled),
    }
}

/// Sends an update. Returns the resource as it is then.
pub async fn send(client: &ControlClient, kind: &Kind, request: Value) -> Result<DynamicMessage> {
    let answer = client.call(&kind.method("Update"), request).await?;
    reflection::submessage(&answer, kind.singular)
        .ok_or_else(|| Error::failure(format!("the response contains no {}", kind.singular)))
}

/// Prints the resource in the requested format, or else a line with its name; and what changed.
pub fn report(
    invocation: &Invocation,
    kind: &Kind,
    [before, after]: [&DynamicMessage; 2],
    done: &str,
) -> Result {
    match &invocation.format {
        Some(format) => output::print(&output::resources(kind, std::slice::from_ref(after), true, format)?)?,
        None => output::print(&format!("{} {done}", reflection::text(after, "name")))?,
    }
    say_changes(&changes(kind, before, after), "");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_cleared_is_one_of_the_kind() {
        let check = |kind: &str, path: &str, set: &[&str]| {
            let set: Vec<_> = set.iter().map(|path| (*path).to_owned()).collect();
            cleared(Kind::from_word(kind), path, &set).map_err(|error| error.to_string())
        };
        for (kind, path, spelled) in [
            ("upstream", "credential", "credential"),
            ("upstream", "request_timeout", "requestTimeout"),
            ("server", "meta.labels.a.b/c", "meta.labels.a.b/c"),
            ("server", "tools", "tools"),
            ("token", "scope.tools", "scope.tools"),
            ("token", "conditions.not-before", "conditions.notBefore"),
        ] {
            assert_eq!(check(kind, path, &["title"]), Ok(spelled.to_owned()));
        }
        for (kind, path, said) in [
            ("upstream", "titel", "`titel` is no field of upstreams; did you mean title?"),
            (
                "token",
                "conditions.windos",
                "`conditions.windos` is no field of tokens; did you mean conditions.windows?",
            ),
            ("upstream", "title.x", "`title.x` is no field that can be cleared"),
            ("server", "tools.match", "`tools.match` is no field that can be cleared"),
            ("server", "title", "`title` cannot be set and cleared at once"),
            ("server", "meta", "`meta` cannot be set and cleared at once"),
        ] {
            assert_eq!(check(kind, path, &["title", "meta.labels"]), Err(said.to_owned()));
        }
    }
}
