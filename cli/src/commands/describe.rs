//! `mcpctl describe NOUN NAME`: the resource, and what belongs to it.

use serde_json::{Map, json};

use crate::commands::{Session, get};
use crate::contract;
use crate::error::Result;
use crate::nouns::{Noun, short_name};
use crate::output::{self, Format, table};
use crate::rpc::Client;

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What: upstream, server, tool, resource, prompt, token, edge
    #[arg(value_parser = Noun::parser(), hide_possible_values = true)]
    noun: &'static Noun,
    /// Which
    name: String,
}

/// Runs `describe`.
pub async fn run(session: &Session, args: Args) -> Result {
    let client = session.client().await?;
    let item = get::one(&client, args.noun, &args.name).await?;
    if let Some(format) = session.format.filter(|format| *format != Format::Table) {
        return output::out(&output::resources(args.noun, &[item], true, format)?);
    }
    output::out(&output::resources(args.noun, std::slice::from_ref(&item), true, Format::Yaml)?)?;
    let name = contract::text(&item, "name");
    match args.noun.kind {
        "Server" => entries(&client, &name).await,
        "Upstream" => catalogue(&client, &name).await,
        _ => Ok(()),
    }
}

/// What a server exposes, and where each leads.
async fn entries(client: &Client, name: &str) -> Result {
    let answer =
        client.call("trunkline.registry.v1.ServerService/ListServerEntries", json!({ "name": name })).await?;
    let entries = contract::parts(&answer, "entries");
    let rows = entries.iter().map(|entry| {
        let target = short_name(&contract::text(entry, "target"));
        vec![contract::text(entry, "kind"), contract::text(entry, "exposed_name"), target]
    });
    let titles = ["KIND", "EXPOSED AS", "LEADS TO"].map(str::to_owned).to_vec();
    output::out(&format!("\n{}", table::lines(titles, rows)))
}

/// What an upstream brought.
async fn catalogue(client: &Client, name: &str) -> Result {
    for noun in ["tools", "resources", "prompts"].map(Noun::of_word) {
        let request = Map::from_iter([("parent".to_owned(), name.into())]);
        let items = get::all_pages(client, noun, request).await?;
        if !items.is_empty() {
            output::out(&format!("\n{}\n", noun.plural))?;
            output::out(&output::resources(noun, &items, false, Format::Table)?)?;
        }
    }
    Ok(())
}
