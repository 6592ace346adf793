//! `mcpctl describe KIND NAME`: shows a resource to people, and what belongs to it.

pub(super) mod catalogue;
mod edge;
mod entry;
mod facts;
mod join_token;
mod person;
mod rules;
mod scope;
mod server;
mod team;
mod token;
mod upstream;

use prost_reflect::DynamicMessage;
use time::OffsetDateTime;

use self::facts::Facts;
use crate::commands::{Invocation, get};
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::Kind;
use crate::output::sections::{self, Section};
use crate::output::{self, Format, Found, Printer};
use crate::selection::Selection;

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstream, server, tool, resource, prompt, token, team, role, edge, join-token, user or service-account;
    /// or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    kind: String,
    /// Names of resources
    names: Vec<String>,
}

/// Runs `describe`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let resources = Selection::parse(&args.kind, &args.names)?.resources()?;
    let client = invocation.client().await?;
    let mut items = Vec::new();
    for (kind, name) in resources {
        items.push((kind, get::one(&client, kind, &name).await?));
    }
    let format = invocation.format();
    if !matches!(format, Format::Table | Format::Wide) {
        return print_documents(items, format);
    }
    let mut texts = Vec::new();
    for (kind, item) in &items {
        let sections = describe(invocation, &client, kind, item).await?;
        texts.push(sections::render(&sections, sections::width()));
    }
    output::print(&texts.join("\n\n"))
}

/// The team of a resource, if it has one that exists for the caller.
async fn team_of(client: &ControlClient, facts: &Facts) -> Option<Facts> {
    let (kind, name) = (Kind::from_word("team"), facts.text("meta.team"));
    let team = if name.is_empty() { None } else { get::one(client, kind, &name).await.ok() };
    team.map(|team| Facts::new(kind, &team, OffsetDateTime::now_utc()))
}

/// Prints the documents alone, as `get` does.
fn print_documents(items: Vec<(&'static Kind, DynamicMessage)>, format: &Format) -> Result {
    let is_single = items.len() == 1;
    let found: Vec<_> = items.into_iter().map(|(kind, item)| Found { kind, items: vec![item] }).collect();
    output::print(&Printer::new(format.clone(), true).render(&found, is_single)?)
}

async fn describe(
    invocation: &Invocation,
    client: &ControlClient,
    kind: &Kind,
    item: &DynamicMessage,
) -> Result<Vec<Section>> {
    let facts = Facts::new(kind, item, OffsetDateTime::now_utc());
    Ok(match kind.name {
        "Upstream" => {
            let mut sections = upstream::sections(&facts);
            sections.extend(catalogue::of_upstream(client, &facts).await?);
            sections.extend(upstream::history(&facts));
            sections
        }
        "Server" => {
            let url = invocation.context()?.server_url(&facts.id()).unwrap_or_default();
            let team = team_of(client, &facts).await;
            let mut sections = server::sections(&facts, &url, team.as_ref());
            sections.extend(catalogue::of_server(client, &facts).await?);
            sections
        }
        "Token" => {
            let mut sections = token::sections(&facts);
            sections.extend(scope::sections(client, &facts).await?);
            sections
        }
        "Team" => team::sections(&facts),
        "Role" => team::of_role(&facts),
        "Edge" => edge::sections(&facts),
        "JoinToken" => join_token::sections(&facts),
        "User" | "ServiceAccount" => person::sections(&facts),
        _ => entry::sections(kind, &facts),
    })
}
