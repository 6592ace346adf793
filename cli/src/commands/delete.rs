//! `mcpctl delete KIND NAME…`: deletes resources.

use serde_json::{Map, Value};

use crate::commands::Invocation;
use crate::error::Result;
use crate::kinds::{Kind, short_name};
use crate::output;
use crate::reflection;

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstream, server, tool, resource, prompt, token, edge or join-token
    #[arg(value_parser = Kind::parser(), hide_possible_values = true)]
    kind: &'static Kind,
    /// Names of the resources
    #[arg(required = true)]
    names: Vec<String>,
    /// Delete even if other resources refer to it
    #[arg(long)]
    force: bool,
    /// Delete only if the resource still has this etag
    #[arg(long)]
    etag: Option<String>,
    /// Validate without deleting anything
    #[arg(long)]
    dry_run: bool,
}

/// Runs `delete`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let client = invocation.client().await?;
    for word in &args.names {
        let name = args.kind.full_name(word)?;
        let mut request = Map::from_iter([("name".to_owned(), Value::from(name.clone()))]);
        for (flag, given) in [("force", args.force), ("validateOnly", args.dry_run)] {
            if given {
                request.insert(flag.into(), true.into());
            }
        }
        request.extend(args.etag.iter().map(|etag| ("etag".to_owned(), etag.clone().into())));
        let answer = client.call(&args.kind.method("Delete"), Value::Object(request)).await?;
        if args.dry_run {
            output::print(&format!("{name} deleted (dry run)"))?;
            continue;
        }
        if args.kind.name == "Token" {
            invocation.context_file.forget_token(&short_name(&name))?;
        }
        output::print(&format!("{name} deleted"))?;
        if reflection::number(&answer, "revision") > 0 {
            output::eprint(format!("revision {}", reflection::number(&answer, "revision")));
        }
    }
    Ok(())
}
