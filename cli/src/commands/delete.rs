//! `mcpctl delete KIND NAME…` and `mcpctl delete -f FILE`: deletes resources, all of them or none.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::commands::Invocation;
use crate::confirm::{self, confirm, needs_yes};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::{Kind, short_name};
use crate::manifest;
use crate::output;
use crate::reflection;

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstream, server, tool, resource, prompt, token, edge or join-token
    #[arg(value_parser = Kind::parser(), hide_possible_values = true, required_unless_present = "files")]
    kind: Option<&'static Kind>,
    /// Names of the resources; where one does not exist, none is deleted
    #[arg(required_unless_present = "files")]
    names: Vec<String>,
    /// Delete the resources that are in a file, a folder (recursive), or stdin (-); repeatable
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", conflicts_with_all = ["kind", "names", "etag"])]
    files: Vec<PathBuf>,
    /// Delete even if other resources refer to it
    #[arg(long)]
    force: bool,
    /// Delete only if the resource still has this etag
    #[arg(long)]
    etag: Option<String>,
    /// Validate without deleting anything
    #[arg(long)]
    dry_run: bool,
    /// Delete what is in files without a question
    #[arg(short, long)]
    yes: bool,
}

/// A resource that is to be deleted.
type Named = (&'static Kind, String);

/// Runs `delete`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let targets = targets(&args)?;
    let client = invocation.client().await?;
    if !args.files.is_empty() && !args.dry_run {
        // Whoever is asked should be asked about what can be deleted.
        send(&client, &targets, &args, true).await?;
        confirm_files(&targets, &args)?;
    }
    let revision = send(&client, &targets, &args, args.dry_run).await?;
    for (kind, name) in &targets {
        if args.dry_run {
            output::print(&format!("{name} deleted (dry run)"))?;
            continue;
        }
        if kind.name == "Token" {
            invocation.forget_bearer(&short_name(name));
        }
        output::print(&format!("{name} deleted"))?;
    }
    if revision > 0 && !args.dry_run {
        output::eprint(format!("revision {revision}"));
    }
    Ok(())
}

fn targets(args: &Args) -> Result<Vec<Named>> {
    let Some(kind) = args.kind else {
        let resources = manifest::load(&args.files)?;
        if resources.is_empty() {
            return Err(Error::usage("the files contain no resources"));
        }
        return Ok(resources.into_iter().map(|resource| (resource.kind, resource.name)).collect());
    };
    if args.etag.is_some() && args.names.len() > 1 {
        return Err(Error::usage("--etag is the state of one resource; delete one at a time with it"));
    }
    let mut targets: Vec<Named> = Vec::new();
    for word in &args.names {
        let name = kind.full_name(word)?;
        if !targets.iter().any(|(_, known)| *known == name) {
            targets.push((kind, name));
        }
    }
    Ok(targets)
}

fn confirm_files(targets: &[Named], args: &Args) -> Result {
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
    // Files hold only kinds that have a field in a manifest.
    if let Some(kind) = args.kind.filter(|kind| kind.manifest.is_none()) {
        return send_each(client, kind, targets, args, validate_only).await.map(|()| 0);
    }
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

/// Edges and join tokens are no resources of the registry: what could fail is looked at before the first is deleted.
async fn send_each(
    client: &ControlClient,
    kind: &Kind,
    targets: &[Named],
    args: &Args,
    validate_only: bool,
) -> Result {
    for (flag, given) in [("--force", args.force), ("--etag", args.etag.is_some())] {
        if given {
            let plural = kind.plural.replace('-', " ");
            return Err(Error::usage(format!("{flag} has no meaning for {plural}; leave it out")));
        }
    }
    let rounds: &[bool] = if validate_only { &[true] } else { &[true, false] };
    for validate_only in rounds {
        for (_, name) in targets {
            let request = json!({ "name": name, "validateOnly": validate_only });
            client.call(&kind.method("Delete"), request).await?;
        }
    }
    Ok(())
}
