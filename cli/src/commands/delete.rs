//! `mcpctl delete NOUN NAME…`.

use serde_json::{Map, Value};

use crate::commands::Session;
use crate::contract;
use crate::error::Result;
use crate::nouns::{Noun, short_name};
use crate::output;

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What: upstream, server, tool, resource, prompt, token, edge
    #[arg(value_parser = Noun::parser(), hide_possible_values = true)]
    noun: &'static Noun,
    /// Which
    #[arg(required = true)]
    names: Vec<String>,
    /// Delete it although others refer to it
    #[arg(long)]
    force: bool,
    /// Refuse unless it still has this etag
    #[arg(long)]
    etag: Option<String>,
    /// Check everything, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs `delete`.
pub async fn run(session: &Session, args: Args) -> Result {
    let client = session.client().await?;
    for word in &args.names {
        let name = args.noun.full_name(word)?;
        let mut request = Map::from_iter([("name".to_owned(), Value::from(name.clone()))]);
        for (flag, given) in [("force", args.force), ("validateOnly", args.dry_run)] {
            if given {
                request.insert(flag.into(), true.into());
            }
        }
        request.extend(args.etag.iter().map(|etag| ("etag".to_owned(), etag.clone().into())));
        let answer = client.call(&args.noun.method("Delete"), Value::Object(request)).await?;
        if args.dry_run {
            output::out(&format!("{name} can be deleted (--dry-run)"))?;
            continue;
        }
        if args.noun.kind == "Token" {
            session.store.forget_token(&short_name(&name))?;
        }
        output::out(&format!("{name} deleted"))?;
        if contract::number(&answer, "revision") > 0 {
            output::say(format!("revision {}", contract::number(&answer, "revision")));
        }
    }
    Ok(())
}
