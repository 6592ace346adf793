//! `mcpctl update KIND NAME …`: changes the fields that flags name, and no others.

use clap::Subcommand;
use serde_json::json;

use crate::commands::Invocation;
use crate::commands::fields::{EntryFlags, Fields, ServerFlags, TokenFlags, UpstreamFlags};
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::output;
use crate::reflection;

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    target: Target,
    /// Check everything, and store nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// Refuse unless the resource still has this etag
    #[arg(long, global = true)]
    etag: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Target {
    /// An upstream
    #[command(visible_alias = "upstreams")]
    Upstream {
        /// Its id
        name: String,
        #[command(flatten)]
        flags: UpstreamFlags,
    },
    /// A virtual server; each list of members that is given replaces the old one
    #[command(visible_alias = "servers")]
    Server {
        /// Its id
        name: String,
        #[command(flatten)]
        flags: ServerFlags,
    },
    /// A token: its bearer stays, what it may do changes on every edge
    #[command(visible_alias = "tokens")]
    Token {
        /// Its id
        name: String,
        #[command(flatten)]
        flags: TokenFlags,
    },
    /// A tool of the catalogue
    #[command(visible_alias = "tools")]
    Tool(Entry),
    /// A resource of the catalogue
    #[command(visible_alias = "resources")]
    Resource(Entry),
    /// A prompt of the catalogue
    #[command(visible_alias = "prompts")]
    Prompt(Entry),
}

#[derive(Debug, clap::Args)]
struct Entry {
    /// UPSTREAM/NAME
    name: String,
    #[command(flatten)]
    flags: EntryFlags,
}

/// Runs `update`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let (kind, name, fields) = match args.target {
        Target::Upstream { name, flags } => ("upstream", name, flags.fields()?),
        Target::Server { name, flags } => ("server", name, flags.fields()),
        Target::Token { name, flags } => ("token", name, flags.fields()),
        Target::Tool(entry) => ("tool", entry.name, entry.flags.fields()?),
        Target::Resource(entry) => ("resource", entry.name, entry.flags.fields()?),
        Target::Prompt(entry) => ("prompt", entry.name, entry.flags.fields()?),
    };
    let kind = Kind::from_word(kind);
    let Fields { mut body, mask } = fields;
    if mask.is_empty() {
        return Err(Error::usage(format!(
            "nothing to change: `mcpctl update {} --help` lists the flags",
            kind.singular
        )));
    }
    body.insert("name".into(), kind.full_name(&name)?.into());
    if let Some(etag) = args.etag {
        let meta = body.entry("meta").or_insert_with(|| json!({}));
        meta["etag"] = etag.into();
    }
    let request = json!({ kind.singular: body, "updateMask": mask.join(","), "validateOnly": args.dry_run });
    let answer = invocation.client().await?.call(&kind.method("Update"), request).await?;
    let item = reflection::submessage(&answer, kind.singular)
        .ok_or_else(|| Error::failure(format!("the answer holds no {}", kind.singular)))?;
    let done = if args.dry_run { "valid, not updated (--dry-run)" } else { "updated" };
    match invocation.format {
        Some(format) => output::print(&output::resources(kind, &[item], true, format)?),
        None => output::print(&format!("{} {done}", reflection::text(&item, "name"))),
    }
}
