//! `mcpctl describe KIND NAME`: shows a resource and what belongs to it.

use serde_json::{Map, json};

use crate::commands::{Invocation, get};
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::{Kind, short_name};
use crate::output::{self, Format, table};
use crate::reflection;
use crate::selection::Selection;

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstream, server, tool, resource, prompt, token, edge or join-token; or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    kind: String,
    /// Name of the resource
    name: Option<String>,
}

/// Runs `describe`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let (kind, name) = Selection::parse(&args.kind, args.name.as_slice())?.one()?;
    let client = invocation.client().await?;
    let item = get::one(&client, kind, &name).await?;
    if let Some(format) = invocation.format.filter(|format| *format != Format::Table) {
        return output::print(&output::resources(kind, &[item], true, format)?);
    }
    output::print(&output::yaml(&reflection::readable_document(kind.name, &item))?)?;
    match kind.name {
        "Server" => entries(&client, &name).await,
        "Upstream" => catalogue(&client, &name).await,
        _ => Ok(()),
    }
}

/// Prints the entries of a server and their targets.
async fn entries(client: &ControlClient, name: &str) -> Result {
    let answer =
        client.call("trunkline.registry.v1.ServerService/ListServerEntries", json!({ "name": name })).await?;
    let entries = reflection::submessages(&answer, "entries");
    let rows = entries.iter().map(|entry| {
        let target = short_name(&reflection::text(entry, "target"));
        vec![reflection::text(entry, "kind"), reflection::text(entry, "exposed_name"), target]
    });
    let titles = ["KIND", "EXPOSED AS", "TARGET"].map(str::to_owned).to_vec();
    output::print(&format!("\n{}", table::render_rows(titles, rows)))
}

/// Prints the catalogue of an upstream.
async fn catalogue(client: &ControlClient, name: &str) -> Result {
    for kind in ["tools", "resources", "prompts"].map(Kind::from_word) {
        let request = Map::from_iter([("parent".to_owned(), name.into())]);
        let items = get::all_pages(client, kind, request).await?;
        if !items.is_empty() {
            output::print(&format!("\n{}\n", kind.plural))?;
            output::print(&output::resources(kind, &items, false, Format::Table)?)?;
        }
    }
    Ok(())
}
