//! `mcpctl update NOUN NAME …`: only what is named by a flag changes.

use clap::Subcommand;
use serde_json::json;

use crate::commands::Session;
use crate::commands::fields::{EntryFlags, Fields, ServerFlags, TokenFlags, UpstreamFlags};
use crate::contract;
use crate::error::{Error, Result};
use crate::nouns::Noun;
use crate::output;

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// Check everything, and store nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// Refuse unless the resource still has this etag
    #[arg(long, global = true)]
    etag: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
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
pub async fn run(session: &Session, args: Args) -> Result {
    let (noun, name, fields) = match args.what {
        What::Upstream { name, flags } => ("upstream", name, flags.fields()?),
        What::Server { name, flags } => ("server", name, flags.fields()),
        What::Token { name, flags } => ("token", name, flags.fields()),
        What::Tool(entry) => ("tool", entry.name, entry.flags.fields()?),
        What::Resource(entry) => ("resource", entry.name, entry.flags.fields()?),
        What::Prompt(entry) => ("prompt", entry.name, entry.flags.fields()?),
    };
    let noun = Noun::of_word(noun);
    let Fields { mut body, mask } = fields;
    if mask.is_empty() {
        return Err(Error::usage(format!(
            "nothing to change: `mcpctl update {} --help` lists the flags",
            noun.singular
        )));
    }
    body.insert("name".into(), noun.full_name(&name)?.into());
    if let Some(etag) = args.etag {
        let meta = body.entry("meta").or_insert_with(|| json!({}));
        meta["etag"] = etag.into();
    }
    let request = json!({ noun.singular: body, "updateMask": mask.join(","), "validateOnly": args.dry_run });
    let answer = session.client().await?.call(&noun.method("Update"), request).await?;
    let item = contract::part(&answer, noun.singular)
        .ok_or_else(|| Error::failure(format!("the answer holds no {}", noun.singular)))?;
    let done = if args.dry_run { "valid, not updated (--dry-run)" } else { "updated" };
    match session.format {
        Some(format) => output::out(&output::resources(noun, &[item], true, format)?),
        None => output::out(&format!("{} {done}", contract::text(&item, "name"))),
    }
}
