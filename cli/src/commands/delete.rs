//! `mcpctl delete KIND NAME…`, `delete KIND --all` and `delete -f FILE`: deletes resources, all of them or none.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::commands::api_keys::Belonging;
use crate::commands::targets::{self, Named};
use crate::commands::{Invocation, get, left_behind, people, rollout};
use crate::confirm::{self, confirm, needs_yes};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::{Kind, short_name};
use crate::output::{self, Format};
use crate::reflection;
use crate::selection::Selection;
use crate::selector::Selector;

/// The name of the kind of edges.
const EDGE: &str = "Edge";

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstream, server, tool, resource, prompt, token, edge, join-token, user or service-account; or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME", required_unless_present = "files")]
    kind: Option<String>,
    /// Names of the resources; where one does not exist, none is deleted, unless --ignore-not-found is given
    names: Vec<String>,
    /// Delete the resources that are in a file, a folder (recursive), or stdin (-); repeatable
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", conflicts_with_all = ["kind", "names", "etag", "all", "selector"])]
    files: Vec<PathBuf>,
    /// Delete all that have these labels, such as 'team=core,env!=x,!y,k in (a,b)'; asks first
    #[arg(short = 'l', long, value_parser = Selector::parse, conflicts_with_all = ["all", "etag"])]
    selector: Option<Selector>,
    /// Delete all of the kind; for tools, resources and prompts of an upstream, if it is named; asks first
    #[arg(long, conflicts_with = "etag")]
    all: bool,
    /// Delete even if other resources refer to it, or, of an edge, while it is connected
    #[arg(long)]
    force: bool,
    /// Delete only if the resource still has this etag
    #[arg(long)]
    etag: Option<String>,
    /// User or service account that gets what a deleted one owns
    #[arg(long, value_name = "PRINCIPAL")]
    transfer_to: Option<String>,
    /// Let go on what a deleted user may know of what is transferred: bearers of tokens, and keys of service accounts
    #[arg(long, requires = "transfer_to")]
    keep_bearers: bool,
    /// Delete those that exist, and succeed also where none does
    #[arg(long)]
    ignore_not_found: bool,
    /// Validate without deleting anything
    #[arg(long)]
    dry_run: bool,
    /// Delete what is in files or selected without a question
    #[arg(short, long)]
    yes: bool,
}

impl Args {
    /// Whether the command line says what is deleted without naming it.
    fn is_sweeping(&self) -> bool {
        !self.files.is_empty() || self.all || self.selector.is_some()
    }
}

/// Runs `delete`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    if let Some(belonging) = args.kind.as_deref().and_then(Belonging::of_word) {
        return Err(belonging.not_deleted());
    }
    let selection = args.kind.as_deref().map(|kind| Selection::parse(kind, &args.names)).transpose()?;
    let named = named(selection.as_ref(), &args)?;
    let format = invocation.format();
    if !format.is_for_people() {
        return Err(Error::usage("delete prints names alone; use -o name, or leave -o out"));
    }
    let client = invocation.client().await?;
    let mut targets = match named {
        Some(named) => as_meant(&client, named).await,
        None => targets::selected(&client, &selection.unwrap_or_default(), args.selector.as_ref()).await?,
    };
    if args.ignore_not_found {
        targets = existing(&client, targets).await?;
    }
    if targets.is_empty() {
        let why = if args.ignore_not_found { "nothing of it exists" } else { "nothing is selected" };
        output::eprint(format!("{why}; nothing was deleted"));
        return Ok(());
    }
    if args.is_sweeping() && !args.dry_run {
        // Whoever is asked should be asked about what can be deleted.
        send(&client, &targets, &args, true).await?;
        confirm_all(&targets, &args)?;
    }
    let revision = send(&client, &targets, &args, args.dry_run).await?;
    report(invocation, &targets, args.dry_run, format)?;
    if revision > 0 && !args.dry_run {
        output::eprint(format!("revision {revision}"));
        if targets.iter().any(|(kind, _)| kind.name == "Token") {
            rollout::wait_for_revocation(invocation, &client, revision).await;
        }
    }
    Ok(())
}

fn report(invocation: &Invocation, targets: &[Named], dry_run: bool, format: &Format) -> Result {
    let done = if dry_run { "deleted (dry run)" } else { "deleted" };
    for (kind, name) in targets {
        if kind.name == "Token" && !dry_run {
            invocation.forget_bearer(&short_name(name));
        }
        match format {
            Format::Name => output::print(&output::name_line(name))?,
            _ => output::print(&format!("{name} {done}"))?,
        }
    }
    Ok(())
}

/// Returns what is named on the command line or in files; `None` if that is to be found out.
fn named(selection: Option<&Selection>, args: &Args) -> Result<Option<Vec<Named>>> {
    let Some(selection) = selection else { return targets::in_files(&args.files).map(Some) };
    if args.all || args.selector.is_some() {
        return targets::check_sweeping(selection, args.all).map(|()| None);
    }
    if let Some(group) = selection.groups().iter().find(|group| group.names.is_empty()) {
        let words = group.kind.words();
        return Err(Error::usage(format!(
            "name the {words} to delete, or select them by --selector or --all"
        )));
    }
    let resources = selection.resources()?;
    if args.etag.is_some() && resources.len() > 1 {
        return Err(Error::usage("--etag is the state of one resource; delete one at a time with it"));
    }
    Ok(Some(resources))
}

/// Names users as they are called, who may be named by their addresses.
async fn as_meant(client: &ControlClient, mut targets: Vec<Named>) -> Vec<Named> {
    for (kind, name) in &mut targets {
        if kind.name == "User" {
            *name = people::meant(client, name).await;
        }
    }
    targets
}

/// Leaves out what does not exist.
async fn existing(client: &ControlClient, targets: Vec<Named>) -> Result<Vec<Named>> {
    let mut existing = Vec::new();
    for (kind, name) in targets {
        match get::one(client, kind, &name).await {
            Err(error) if error.exit == Exit::NotFound => {}
            found => existing.push((kind, found.map(|_| name)?)),
        }
    }
    Ok(existing)
}

fn confirm_all(targets: &[Named], args: &Args) -> Result {
    let what = format!("this deletes {}", confirm::resources(targets.len()));
    if !args.yes {
        targets.iter().for_each(|(_, name)| output::eprint(format!("- {name}")));
        if args.files.iter().any(|path| path.as_os_str() == "-") {
            return Err(needs_yes(&what));
        }
    }
    confirm(&what, args.yes)
}

/// Deletes all of them, or only checks that this is possible. Returns the revision, if it took one.
async fn send(client: &ControlClient, targets: &[Named], args: &Args, validate_only: bool) -> Result<i64> {
    let (registered, others): (Vec<_>, Vec<_>) =
        targets.iter().partition(|(kind, _)| kind.manifest.is_some());
    if !others.is_empty() {
        others.iter().try_for_each(|(kind, _)| refuse_flags(kind, args))?;
        // What could fail is looked at before the first is deleted.
        send_each(client, &others, args, true).await?;
    }
    let mut revision = 0;
    if !registered.is_empty() {
        revision = send_at_once(client, &registered, args, validate_only).await?;
    }
    if !validate_only {
        send_each(client, &others, args, false).await?;
    }
    Ok(revision)
}

/// Edges and join tokens are no resources of the registry.
fn refuse_flags(kind: &Kind, args: &Args) -> Result {
    let forced = args.force && kind.name != EDGE;
    if args.keep_bearers && kind.name != "User" {
        return Err(Error::usage("--keep-bearers is for users; leave it out"));
    }
    if args.transfer_to.is_some() && !is_person(kind) {
        return Err(Error::usage("--transfer-to is for users and service accounts; leave it out"));
    }
    for (flag, given) in [("--force", forced), ("--etag", args.etag.is_some())] {
        if given {
            return Err(Error::usage(format!("{flag} has no meaning for {}; leave it out", kind.words())));
        }
    }
    Ok(())
}

async fn send_at_once(
    client: &ControlClient,
    targets: &[&Named],
    args: &Args,
    validate_only: bool,
) -> Result<i64> {
    let names: Vec<&str> = targets.iter().map(|(_, name)| name.as_str()).collect();
    let etags: Map<String, Value> = args
        .etag
        .iter()
        .flat_map(|etag| names.iter().map(|name| ((*name).to_owned(), etag.clone().into())))
        .collect();
    let request =
        json!({ "names": names, "force": args.force, "validateOnly": validate_only, "etags": etags });
    let answer = client.call("trunkline.admin.v1.BulkService/DeleteResources", request).await?;
    Ok(reflection::number(&answer, "revision"))
}

fn is_person(kind: &Kind) -> bool {
    ["User", "ServiceAccount"].contains(&kind.name)
}

/// Deletes a user or service account, or looks whether it is there: more cannot be found out without doing it.
async fn delete_person(
    client: &ControlClient,
    kind: &Kind,
    name: &str,
    args: &Args,
    validate_only: bool,
) -> Result {
    if validate_only {
        return get::one(client, kind, name).await.map(drop);
    }
    let heir = match args.transfer_to.as_deref() {
        Some(heir) => people::meant(client, heir).await,
        None => String::new(),
    };
    let mut request = json!({ "name": name, "transferTo": heir });
    if args.keep_bearers {
        request["keepBearers"] = true.into();
    }
    let answer = client.call(&kind.method("Delete"), request).await?;
    if kind.name == "User" {
        let kept = reflection::texts(&answer, "kept");
        if !kept.is_empty() {
            let kept = kept.join(", ");
            output::eprint(format!("{kept} go on, and {name} may know their bearers or keys"));
        }
        left_behind::say(client, name, None, &kept).await;
    }
    Ok(())
}

async fn send_each(client: &ControlClient, targets: &[&Named], args: &Args, validate_only: bool) -> Result {
    for (kind, name) in targets {
        if is_person(kind) {
            delete_person(client, kind, name, args, validate_only).await?;
            continue;
        }
        let mut request = json!({ "name": name, "validateOnly": validate_only });
        if kind.name == EDGE {
            request["force"] = args.force.into();
        }
        client.call(&kind.method("Delete"), request).await?;
    }
    Ok(())
}
