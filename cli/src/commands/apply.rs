//! `mcpctl apply` and `mcpctl diff`: what files want, against what is.

use std::path::PathBuf;

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::commands::{Session, create, rollout};
use crate::contract;
use crate::error::{Error, Exit, Result};
use crate::manifest::{self, Resource};
use crate::nouns::Noun;
use crate::output::{self, Format};
use crate::rpc::Client;

/// What both read.
#[derive(Debug, clap::Args)]
struct Source {
    /// A file, a folder (with everything in it), or - for stdin; may be repeated
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// Also delete what was applied in the same set before and is missing now
    #[arg(long)]
    prune: bool,
    /// The set that these resources belong to [default: default]
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
}

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
    /// Wait until every edge has acknowledged it, at most for --timeout [default: 60s]
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Do not keep bearers of new tokens in the context file
    #[arg(long)]
    no_save: bool,
}

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    #[command(flatten)]
    source: Source,
}

/// Runs `apply`.
pub async fn run(session: &Session, args: Args) -> Result {
    let client = session.client().await?;
    let answer = send(&client, &args.source, args.dry_run).await?;
    let revision = contract::number(&answer, "revision");
    let changes = contract::parts(&answer, "changes");
    match session.format {
        Some(format @ (Format::Json | Format::Yaml)) => output::out(&output::message(&answer, format)?)?,
        Some(Format::Name) => {
            output::out(&changes.iter().map(|c| contract::text(c, "name") + "\n").collect::<String>())?
        }
        _ => output::out(&plan(&changes))?,
    }
    if args.dry_run {
        output::say("nothing was stored (--dry-run)");
        return Ok(());
    }
    keep_bearers(session, &changes, args.no_save)?;
    output::say(format!("revision {revision}"));
    if args.wait { rollout::wait(session, &client, revision).await } else { Ok(()) }
}

/// Runs `diff`: 0 same, 1 different, 2 trouble.
pub async fn diff(session: &Session, args: DiffArgs) -> Result<u8> {
    let trouble = |error: Error| Error::new(Exit::Usage, error.to_string());
    let client = session.client().await.map_err(trouble)?;
    let answer = send(&client, &args.source, true).await.map_err(trouble)?;
    let mut text = String::new();
    for change in contract::parts(&answer, "changes") {
        text.push_str(&unified(&change).map_err(trouble)?);
    }
    output::out(&text).map_err(trouble)?;
    Ok(u8::from(!text.is_empty()))
}

async fn send(client: &Client, source: &Source, validate_only: bool) -> Result<DynamicMessage> {
    let resources = manifest::load(&source.files)?;
    if resources.is_empty() && !source.prune {
        return Err(Error::usage("the files hold no resource"));
    }
    let request = json!({
        "manifests": resources.iter().map(wrap).collect::<Vec<_>>(),
        "applySet": source.set.as_deref().unwrap_or_default(),
        "prune": source.prune,
        "validateOnly": validate_only,
    });
    client.call("trunkline.admin.v1.BulkService/ApplyResources", request).await
}

fn wrap(resource: &Resource) -> Value {
    // Files hold only kinds that a manifest has a field for.
    json!({ resource.noun.manifest.unwrap_or_default(): contract::to_json(&resource.message) })
}

/// One line a change.
fn plan(changes: &[DynamicMessage]) -> String {
    let line = |change: &DynamicMessage| {
        let action =
            contract::enumeration(change, "action").trim_start_matches("CHANGE_ACTION_").to_lowercase();
        let sign = match action.as_str() {
            "created" => '+',
            "updated" => '~',
            "deleted" => '-',
            _ => ' ',
        };
        format!("{sign} {} {action}\n", contract::text(change, "name"))
    };
    changes.iter().map(line).collect()
}

fn keep_bearers(session: &Session, changes: &[DynamicMessage], no_save: bool) -> Result {
    for change in changes {
        let bearer = contract::text(change, "bearer");
        let token = contract::part(change, "after").and_then(|after| contract::part(&after, "token"));
        let Some(token) = token.filter(|_| !bearer.is_empty()) else { continue };
        if session.format.is_none_or(|format| matches!(format, Format::Table | Format::Name)) {
            output::say(format!("{}: bearer, shown once: {bearer}", contract::text(change, "name")));
        }
        if !no_save {
            create::save_token(session, &token, &bearer)?;
        }
    }
    Ok(())
}

/// A change as a unified diff of files; nothing where nothing changes.
fn unified(change: &DynamicMessage) -> Result<String> {
    let name = contract::text(change, "name");
    let (before, after) = (side(change, "before", &name)?, side(change, "after", &name)?);
    if before == after {
        return Ok(String::new());
    }
    let heads = [("now", &before), ("wanted", &after)].map(|(head, text)| match text.is_empty() {
        true => "/dev/null".to_owned(),
        false => format!("{head}/{name}"),
    });
    let diff = similar::TextDiff::from_lines(&before, &after);
    Ok(diff.unified_diff().context_radius(3).header(&heads[0], &heads[1]).to_string())
}

fn side(change: &DynamicMessage, field: &str, name: &str) -> Result<String> {
    let noun =
        Noun::of_name(name).ok_or_else(|| Error::failure(format!("{name} is of no kind known here")))?;
    let resource = contract::part(change, field)
        .and_then(|manifest| contract::part(&manifest, noun.manifest.unwrap_or_default()));
    match resource {
        Some(resource) => output::yaml(&manifest::wanted(noun, &resource)),
        None => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(json: Value) -> DynamicMessage {
        contract::from_json(contract::message("trunkline.admin.v1.Change"), json).unwrap()
    }

    #[test]
    fn a_plan_and_its_diff() {
        let server = |title: &str, revision: i64| json!({"server": {"name": "servers/dev", "title": title, "meta": {"revision": revision}, "tools": [{"match": "time/*"}]}});
        let updated = change(json!({"name": "servers/dev", "action": "CHANGE_ACTION_UPDATED",
            "before": server("Old", 1), "after": server("New", 2)}));
        let created = change(
            json!({"name": "servers/dev", "action": "CHANGE_ACTION_CREATED", "after": server("New", 2)}),
        );
        let same = change(json!({"name": "servers/dev", "action": "CHANGE_ACTION_UNCHANGED",
            "before": server("New", 1), "after": server("New", 2)}));
        let all = [updated, created, same];
        insta::assert_snapshot!(plan(&all));
        insta::assert_snapshot!(all.iter().map(|c| unified(c).unwrap()).collect::<Vec<_>>().join("=====\n"));
    }
}
