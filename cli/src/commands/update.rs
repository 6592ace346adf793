//! `mcpctl update KIND NAME …`: changes the fields that flags name, and no others.

use clap::Subcommand;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::commands::changes::changes;
use crate::commands::fields::{EntryFlags, Fields, ServerFlags, TokenFlags, UpstreamFlags};
use crate::commands::{Invocation, get};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::output;
use crate::reflection;

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
}

#[derive(Debug, Subcommand)]
enum Target {
    /// Update an upstream
    #[command(visible_alias = "upstreams")]
    Upstream {
        /// Id of the upstream
        name: String,
        #[command(flatten)]
        flags: UpstreamFlags,
    },
    /// Update a virtual server; each given list of members replaces the old one
    #[command(visible_alias = "servers")]
    Server {
        /// Id of the server
        name: String,
        #[command(flatten)]
        flags: ServerFlags,
    },
    /// Update a token; its bearer stays valid, and its scope changes on every edge
    #[command(visible_alias = "tokens")]
    Token {
        /// Id of the token
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
            "no changes given; run `mcpctl update {} --help` for the flags",
            kind.singular
        )));
    }
    body.insert("name".into(), kind.full_name(&name)?.into());
    if let Some(etag) = args.etag {
        let meta = body.entry("meta").or_insert_with(|| json!({}));
        meta["etag"] = etag.into();
    }
    let request = json!({ kind.singular: body, "updateMask": mask.join(","), "validateOnly": args.dry_run });
    let client = invocation.client().await?;
    let before = get::one(&client, kind, &name).await?;
    let after = send(&client, kind, request).await?;
    report(invocation, kind, [&before, &after], if args.dry_run { "updated (dry run)" } else { "updated" })
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
    match invocation.format {
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
