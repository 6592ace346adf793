//! `mcpctl update KIND NAME …`: changes the fields that flags name, and no others.

mod kept;

use std::collections::BTreeSet;

use clap::Subcommand;
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::changes::changes;
use crate::commands::fields::{EntryFlags, Fields, ServerFlags, TokenFlags, UpstreamFlags};
use crate::commands::warnings::{self, Rights};
use crate::commands::{Invocation, create, get, revoked};
use crate::confirm::confirm;
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::output;
use crate::parse;
use crate::reflection;
use crate::suggest::did_you_mean;

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
    /// Replace lists and credentials without a question where that takes something away
    #[arg(short, long, global = true)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum Target {
    /// Update an upstream
    #[command(visible_alias = "upstreams")]
    Upstream {
        /// Name of the upstream
        name: String,
        #[command(flatten)]
        flags: UpstreamFlags,
    },
    /// Update a virtual server; each given list of members replaces the old one, and members stay as they are that are in both
    #[command(visible_alias = "servers")]
    Server {
        /// Name of the server
        name: String,
        #[command(flatten)]
        flags: ServerFlags,
    },
    /// Update a token; its bearer stays valid, and its scope changes on every edge
    #[command(visible_alias = "tokens")]
    Token {
        /// Name of the token
        name: String,
        #[command(flatten)]
        flags: TokenFlags,
    },
    /// Update a tool of the catalogue
    #[command(visible_alias = "tools")]
    Tool(Entry),
    /// Update a resource of the catalogue
    #[command(visible_alias = "resources")]
    Resource(Entry),
    /// Update a prompt of the catalogue
    #[command(visible_alias = "prompts")]
    Prompt(Entry),
}

#[derive(Debug, clap::Args)]
struct Entry {
    /// Name, as UPSTREAM/NAME
    name: String,
    #[command(flatten)]
    flags: EntryFlags,
}

/// Runs `update`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let (kind, name, fields) = fields_of(args.target)?;
    let full_name = kind.full_name(&name)?;
    let (mut body, mut mask) = body_and_mask(kind, fields, &args.clear)?;
    body.insert("name".into(), full_name.clone().into());
    let client = invocation.client().await?;
    let before = get::one(&client, kind, &name).await?;
    let known = reflection::to_json(&before);
    kept::keep_headers(&known, &mut body, &mut mask)?;
    let replaced = kept::keep_members(&known, &mut body, &mask);
    let secrets = kept::lost_secrets(&known, &body, &mask);
    if !args.dry_run {
        agree_to_lose(&full_name, &replaced.lost, &secrets, args.yes)?;
    }
    // Nothing else is lost than what was looked at.
    let is_looked_at = replaced.is_any || !secrets.is_empty();
    let seen = is_looked_at.then(|| known["meta"]["etag"].as_str().unwrap_or_default().to_owned());
    only_if(&mut body, args.etag.or(seen));
    let rights = match args.dry_run {
        false => Rights::before(&client, kind, Some(&mask)).await,
        true => Rights::default(),
    };
    let request = json!({ kind.singular: body, "updateMask": mask, "validateOnly": args.dry_run });
    let after = send(&client, kind, request).await.map_err(Error::in_options)?;
    let done = if args.dry_run { "updated (dry run)" } else { "updated" };
    report(invocation, kind, [&before, &after], done)?;
    if kind.name == "Token" && !args.dry_run {
        create::refresh_token(invocation, &after);
    }
    warn(&client, kind, &before, &after, &rights).await;
    Ok(())
}

/// Makes an update fail where the resource has another etag.
fn only_if(body: &mut Map<String, Value>, etag: Option<String>) {
    if let Some(etag) = etag {
        let meta = body.entry("meta").or_insert_with(|| json!({}));
        meta["etag"] = etag.into();
    }
}

/// Warns of what an update leaves without effect: of the resource, and of tokens.
pub async fn warn(
    client: &ControlClient,
    kind: &Kind,
    before: &DynamicMessage,
    after: &DynamicMessage,
    rights: &Rights,
) {
    match kind.name {
        "Server" => warnings::of_servers(client, std::slice::from_ref(after)).await,
        "Token" => {
            revoked::warn(after);
            warnings::of_tokens(&[(Some(before.clone()), after.clone())]);
        }
        _ => {}
    }
    rights.warn_of_lost(client, &BTreeSet::new()).await;
}

fn fields_of(target: Target) -> Result<(&'static Kind, String, Fields)> {
    let (kind, name, fields) = match target {
        Target::Upstream { name, flags } => ("upstream", name, flags.fields()?),
        Target::Server { name, flags } => ("server", name, flags.fields()?),
        Target::Token { name, flags } => ("token", name, flags.fields()),
        Target::Tool(entry) => ("tool", entry.name, entry.flags.fields()?),
        Target::Resource(entry) => ("resource", entry.name, entry.flags.fields()?),
        Target::Prompt(entry) => ("prompt", entry.name, entry.flags.fields()?),
    };
    Ok((Kind::from_word(kind), name, fields))
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

/// Says what a replaced list or credential has no more, and asks.
fn agree_to_lose(name: &str, entries: &[String], secrets: &[String], yes: bool) -> Result {
    entries.iter().chain(secrets).for_each(|line| output::eprint(format!("- {line}")));
    if !secrets.is_empty() {
        let what = format!("this replaces the credential of {name}, and what it has now cannot be read back");
        confirm(&what, yes)?;
    }
    if entries.is_empty() {
        return Ok(());
    }
    let them = if entries.len() == 1 { "it" } else { "them" };
    confirm(
        &format!("this takes {} out of {name} (to keep {them}, give {them} too)", in_words(entries.len())),
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
    let (mut message, mut spelled) = (Some(reflection::message(kind.message)), Vec::new());
    let mut rest = Some(path);
    while let Some(text) = rest {
        let (name, after) = text.split_once('.').map_or((text, None), |(name, after)| (name, Some(after)));
        let Some(descriptor) = message.take() else {
            return Err(Error::usage(format!("`{path}` is no field that can be cleared")));
        };
        let known: Vec<_> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
        let field = descriptor.get_field_by_json_name(name).or_else(|| descriptor.get_field_by_name(name));
        let field = field.ok_or_else(|| {
            let hint = did_you_mean(name, known.iter().map(String::as_str));
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
    let changes = changes(kind, before, after);
    if changes.is_empty() {
        output::eprint("nothing changed: it was so before");
    }
    changes.iter().for_each(|change| output::eprint(format!("  {change}")));
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
        ] {
            assert_eq!(check(kind, path, &["title"]), Ok(spelled.to_owned()));
        }
        for (kind, path, said) in [
            ("upstream", "titel", "`titel` is no field of upstreams; did you mean title?"),
            ("upstream", "title.x", "`title.x` is no field that can be cleared"),
            ("server", "tools.match", "`tools.match` is no field that can be cleared"),
            ("server", "title", "`title` cannot be set and cleared at once"),
            ("server", "meta", "`meta` cannot be set and cleared at once"),
        ] {
            assert_eq!(check(kind, path, &["title", "meta.labels"]), Err(said.to_owned()));
        }
    }
}
