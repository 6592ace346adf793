//! `mcpctl apply` and `mcpctl diff`: compare files with the registry, and apply them.

mod gains;
mod plan;
mod refused;

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::warnings::{self, Rights, When};
use crate::commands::{Invocation, create, revoked, rollout, sets};
use crate::confirm::{self, confirm, needs_yes};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::manifest::{self, Resource};
use crate::output::{self, Format};
use crate::reflection;
use crate::suggest::nearest;

/// The set of resources that name none.
const DEFAULT_SET: &str = "default";
/// Lines about fields that change, of all resources together.
const MAX_FIELDS: usize = 200;
/// What keeps resources from being applied that are right in themselves, until a flag says that it is meant.
const GUARDS: [&str; 2] = ["OTHER_SET", "PRUNE_TOO_MUCH"];

/// The arguments that both share.
#[derive(Debug, clap::Args)]
struct ManifestArgs {
    /// File, folder (recursive), pattern such as 'team/*.yaml', or - for stdin; repeatable
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// Delete resources that were applied in the same set before and are missing now
    #[arg(long)]
    prune: bool,
    /// Set that these resources belong to [default: default]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    set: Option<String>,
    /// Prune even if that deletes more than half of the set
    #[arg(long, requires = "prune")]
    force: bool,
    /// Take resources over that belong to another set, or that were not applied before and are the same already
    #[arg(long)]
    take_over: bool,
}

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Show the changes without storing them
    #[arg(long)]
    dry_run: bool,
    /// Wait until every edge has acknowledged the revision, for at most --timeout [default: 60s]
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Do not save the bearers of new tokens in the context file
    #[arg(long)]
    no_save: bool,
    /// Prune without a question
    #[arg(short, long)]
    yes: bool,
}

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
}

/// Runs `apply`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let client = invocation.client().await?;
    let resources = resources(&args.manifests)?;
    let mut request = request(&args.manifests, &resources, args.dry_run);
    warn_of_new_set(&client, args.manifests.set.as_deref()).await;
    if args.manifests.prune && !args.dry_run && !args.yes {
        agree_to_prune(&client, &args, &resources, &mut request).await?;
    }
    let rights = if args.dry_run { Rights::default() } else { Rights::read(&client).await };
    let answer = send(&client, &resources, request).await?;
    let revision = reflection::number(&answer, "revision");
    let changes = reflection::submessages(&answer, "changes");
    // Before anything is printed, which may fail.
    let new = if args.dry_run { Vec::new() } else { NewToken::save_all(invocation, &changes, args.no_save) };
    if !args.dry_run {
        tokens_of(&changes).for_each(|(_, token)| create::refresh_token(invocation, &token));
    }
    let printed = print_changes(invocation.format.as_ref(), &answer, &changes, args.dry_run);
    NewToken::show_all(invocation, &new, printed.is_ok());
    printed.map_err(|error| if args.dry_run { error } else { stored(revision, &error) })?;
    let is_for_people = invocation.format.as_ref().is_none_or(Format::is_for_people);
    if is_for_people && (args.dry_run || gains::is_worth_saying(&answer)) {
        gains::lines(&answer).iter().for_each(output::eprint);
    }
    warn(&client, &changes, &rights, if args.dry_run { When::Then } else { When::Now }).await;
    if args.dry_run {
        output::eprint("nothing was stored (dry run)");
        return Ok(());
    }
    output::eprint(format!("revision {revision}"));
    if args.wait {
        return rollout::wait(invocation, &client, revision).await;
    }
    if !new.is_empty() {
        rollout::wait_briefly(invocation, &client, revision, "a new bearer").await;
    }
    Ok(())
}

/// The error where changes cannot be printed: whoever reads it must not take them for undone.
fn stored(revision: i64, error: &Error) -> Error {
    Error::failure(format!("the changes are stored, at revision {revision}, but cannot be printed: {error}"))
}

/// Prints what was done, in the requested format or a line each.
fn print_changes(
    format: Option<&Format>,
    answer: &DynamicMessage,
    changes: &[DynamicMessage],
    dry_run: bool,
) -> Result {
    match format {
        Some(format @ (Format::Json | Format::Yaml | Format::Template(_))) => {
            output::print(&output::message(answer, format, String::new)?)
        }
        Some(format @ Format::Columns(_)) => {
            let changes: Vec<_> = changes.iter().map(reflection::to_queried_json).collect();
            output::print(&output::value(&changes, format, String::new)?)
        }
        Some(Format::Name) => output::print(
            &changes.iter().map(|c| output::name_line(&reflection::text(c, "name"))).collect::<String>(),
        ),
        _ => print_lines(changes, dry_run),
    }
}

/// Prints a line for each change, and as `update` does the fields that it changes: beneath, and as messages.
fn print_lines(changes: &[DynamicMessage], dry_run: bool) -> Result {
    let (mut lines, mut left, mut untold) = (String::new(), MAX_FIELDS, 0);
    for change in changes {
        lines.push_str(&plan::line(change));
        let fields = plan::fields(change);
        if fields.is_empty() {
            continue;
        }
        if fields.len() > left {
            (left, untold) = (0, untold + 1);
            continue;
        }
        left -= fields.len();
        output::print(&std::mem::take(&mut lines))?;
        fields.iter().for_each(|field| output::eprint(format!("    {field}")));
    }
    output::print(&lines)?;
    if untold > 0 {
        let more = if dry_run { "; `mcpctl diff` shows them" } else { "" };
        output::eprint(format!("what else changed in {} is not listed{more}", confirm::resources(untold)));
    }
    Ok(())
}

/// Warns of what the changes leave without effect.
async fn warn(client: &ControlClient, changes: &[DynamicMessage], rights: &Rights, when: When) {
    let of_kind = |word: &str| {
        let kind = Kind::from_word(word);
        let states = changes.iter().map(|change| plan::states(kind, change));
        states.filter_map(|[before, after]| Some((before, after?))).collect::<Vec<_>>()
    };
    let (servers, tokens) = (of_kind("server"), of_kind("token"));
    tokens.iter().for_each(|(_, token)| revoked::warn_in_files(token));
    let servers: Vec<_> = servers.into_iter().map(|(_, server)| server).collect();
    warnings::of_servers(client, &servers).await;
    warnings::of_tokens(&tokens);
    warnings::of_protection(Kind::from_word("token"), &tokens, when);
    warnings::of_protection(Kind::from_word("upstream"), &of_kind("upstream"), when);
    let teams: Vec<_> = of_kind("team").into_iter().map(|(_, team)| team).collect();
    warnings::of_teams(&teams);
    let told = tokens.iter().map(|(_, token)| reflection::text(token, "name")).collect();
    if changes.iter().any(|change| reflection::enum_word(change, "action") != "unchanged") {
        rights.warn_of_lost(client, &told).await;
    }
}

/// Runs `diff`. Exits with 0 (no difference), 1 (differences) or 2 (error).
pub async fn diff(invocation: &Invocation, args: DiffArgs) -> Result<u8> {
    let trouble = |error: Error| Error::new(Exit::Usage, error.to_string());
    let client = invocation.client().await.map_err(trouble)?;
    let resources = resources(&args.manifests).map_err(trouble)?;
    let request = request(&args.manifests, &resources, true);
    warn_of_new_set(&client, args.manifests.set.as_deref()).await;
    let (answer, refused) = try_out(&client, &resources, request).await.map_err(trouble)?;
    let changes = reflection::submessages(&answer, "changes");
    let text = plan::unified_diff(&changes).map_err(trouble)?;
    output::print(&text).map_err(trouble)?;
    gains::lines(&answer).iter().for_each(output::eprint);
    warn(&client, &changes, &Rights::default(), When::Then).await;
    if let Some(error) = refused {
        return Err(trouble(Error::usage(format!("`mcpctl apply` would refuse this: {error}"))));
    }
    let moves: Vec<_> = changes.iter().filter_map(plan::moved).collect();
    moves.iter().for_each(output::eprint);
    Ok(u8::from(!text.is_empty() || !moves.is_empty()))
}

/// Asks what would change. That is shown also where it may not be applied as it is, with the error that says why.
async fn try_out(
    client: &ControlClient,
    resources: &[Resource],
    mut request: Map<String, Value>,
) -> Result<(DynamicMessage, Option<Error>)> {
    let mut refused = None;
    loop {
        match send(client, resources, request.clone()).await {
            Err(error) if relax(&mut request, &error) => drop(refused.get_or_insert(error)),
            answer => return Ok((answer?, refused)),
        }
    }
}

/// Who would gain and who would lose something if resources of a kind were as these, line by line. It is a hint: what cannot be asked is
/// not said.
pub async fn gains_of(client: &ControlClient, kind: &Kind, resources: &[DynamicMessage]) -> Vec<String> {
    let Some(field) = kind.manifest else { return Vec::new() };
    let manifests = resources.iter().map(|resource| {
        let mut manifest = reflection::to_json(resource);
        // That of what is not stored is none that there is.
        manifest["meta"]["etag"] = Value::Null;
        json!({ field: manifest })
    });
    let manifests: Vec<Value> = manifests.collect();
    let request = json!({ "manifests": manifests, "validateOnly": true, "takeOver": true, "withAccessChanges": true,
        "exactOwnership": true });
    let answer = client.call("trunkline.admin.v1.BulkService/ApplyResources", request).await;
    answer.map(|answer| gains::lines(&answer)).unwrap_or_default()
}

/// Takes what an error is about out of a request that is only tried. Returns whether there was anything.
fn relax(request: &mut Map<String, Value>, error: &Error) -> bool {
    let reason = error.refusal.as_ref().map(|refusal| refusal.reason.as_str()).unwrap_or_default();
    let relaxed: &[(&str, bool)] = match reason {
        reason if GUARDS.contains(&reason) => &[("force", true), ("takeOver", true)],
        // What is used cannot be pruned; what else changes can be told.
        "RESOURCE_REFERENCED" => &[("prune", false)],
        _ => &[],
    };
    let is_new = relaxed.iter().any(|(field, value)| request.get(*field) != Some(&Value::Bool(*value)));
    request.extend(relaxed.iter().map(|(field, value)| ((*field).to_owned(), (*value).into())));
    is_new
}

fn resources(source: &ManifestArgs) -> Result<Vec<Resource>> {
    let resources = manifest::load(&source.files)?;
    if resources.is_empty() {
        return Err(Error::usage(match source.prune {
            true => {
                "the files contain no resources, so that --prune would delete the whole set; run `mcpctl delete` to delete resources"
            }
            false => "the files contain no resources",
        }));
    }
    Ok(resources)
}

fn request(source: &ManifestArgs, resources: &[Resource], validate_only: bool) -> Map<String, Value> {
    let manifests: Vec<Value> = resources.iter().map(manifest_json).collect();
    let set = source.set.as_deref().unwrap_or_default();
    let fields = [("manifests", manifests.into()), ("applySet", set.into()), ("prune", source.prune.into())];
    let flags = [
        ("validateOnly", validate_only),
        ("force", source.force),
        ("takeOver", source.take_over),
        ("withAccessChanges", true),
    ];
    let flags = flags.map(|(flag, given)| (flag, Value::Bool(given)));
    fields.into_iter().chain(flags).map(|(field, value)| (field.to_owned(), value)).collect()
}

/// Sends it. What is refused is named by its place in the files.
async fn send(
    client: &ControlClient,
    resources: &[Resource],
    request: Map<String, Value>,
) -> Result<DynamicMessage> {
    let answer = client.call("trunkline.admin.v1.BulkService/ApplyResources", Value::Object(request)).await;
    answer.map_err(|error| refused::in_files(error, resources))
}

/// Shows what a prune would delete, and asks. After that it deletes nothing else.
async fn agree_to_prune(
    client: &ControlClient,
    args: &Args,
    resources: &[Resource],
    request: &mut Map<String, Value>,
) -> Result {
    let mut trial = request.clone();
    trial.insert("validateOnly".into(), true.into());
    trial.remove("withAccessChanges");
    let plan = reflection::submessages(&send(client, resources, trial).await?, "changes");
    let leaving: Vec<String> = plan
        .iter()
        .filter(|change| reflection::enum_word(change, "action") == "deleted")
        .map(|change| reflection::text(change, "name"))
        .collect();
    if leaving.is_empty() {
        request.insert("prune".into(), false.into());
        return Ok(());
    }
    leaving.iter().for_each(|name| output::eprint(format!("- {name}")));
    let set = args.manifests.set.as_deref().unwrap_or(DEFAULT_SET);
    let what = format!("this deletes {} of set {set}", confirm::resources(leaving.len()));
    if args.manifests.files.iter().any(|path| path.as_os_str() == "-") {
        return Err(needs_yes(&what));
    }
    confirm(&what, false)?;
    request.insert("pruneOnly".into(), leaving.into());
    Ok(())
}

/// Names the set that was probably meant where there is none of that name. It is only a hint: sets begin like this.
async fn warn_of_new_set(client: &ControlClient, set: Option<&str>) {
    let Some(set) = set else { return };
    let Ok(known) = sets::all(client).await else { return };
    let known: Vec<String> = known.iter().map(|set| reflection::text(set, "name")).collect();
    if known.iter().any(|name| name == set) {
        return;
    }
    if let Some(near) = nearest(set, known.iter().map(String::as_str)) {
        output::eprint(format!("warning: set {set} is new; did you mean --set {near}?"));
    }
}

fn manifest_json(resource: &Resource) -> Value {
    // Files hold only kinds that have a field in a manifest.
    json!({ resource.kind.manifest.unwrap_or_default(): reflection::to_json(&resource.message) })
}

/// The tokens as they are after the changes.
fn tokens_of(changes: &[DynamicMessage]) -> impl Iterator<Item = (&DynamicMessage, DynamicMessage)> {
    changes.iter().filter_map(|change| {
        let after = reflection::submessage(change, "after")?;
        Some((change, reflection::submessage(&after, "token")?))
    })
}

/// A token that was created, with its bearer.
struct NewToken {
    name: String,
    bearer: String,
    is_saved: bool,
}

impl NewToken {
    /// Saves the bearers of new tokens. Returns those tokens.
    fn save_all(invocation: &Invocation, changes: &[DynamicMessage], no_save: bool) -> Vec<Self> {
        let new = tokens_of(changes).filter_map(|(change, token)| {
            let bearer = reflection::text(change, "bearer");
            if bearer.is_empty() {
                return None;
            }
            let is_saved = !no_save && create::save_token(invocation, &token, &bearer);
            Some(Self { name: reflection::text(change, "name"), bearer, is_saved })
        });
        new.collect()
    }

    /// Shows the bearers, as `create token` does, and says where they are saved. `is_printed`: the changes are.
    fn show_all(invocation: &Invocation, new: &[Self], is_printed: bool) {
        new.iter().for_each(|token| token.show(invocation.format.as_ref(), is_printed));
        match new.iter().filter(|token| token.is_saved).count() {
            0 => {}
            1 => create::say_saved(invocation, "bearer is"),
            _ => create::say_saved(invocation, "bearers are"),
        }
    }

    /// Shows its bearer, unless that stands in what was printed. What nobody kept is shown in any case.
    fn show(&self, format: Option<&Format>, is_printed: bool) {
        let Self { name, bearer, is_saved } = self;
        let is_shown = match format {
            _ if !is_printed => false,
            None | Some(Format::Table | Format::Wide) => create::show_bearer(name, bearer).is_ok(),
            Some(format) => !format.is_for_people(),
        };
        if !is_shown && (is_printed || !is_saved) {
            output::eprint(format!("bearer of {name} (shown only once): {bearer}"));
        }
    }
}
