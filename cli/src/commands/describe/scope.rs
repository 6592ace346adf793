//! What a token may reach at present.

use serde_json::Map;

use super::catalogue::{Exposed, exposed};
use super::facts::{Facts, items, text};
use crate::commands::get;
use crate::control_client::ControlClient;
use crate::error::{Exit, Result};
use crate::kinds::{Kind, short_name};
use crate::output::sections::Section;
use crate::reflection;

/// More servers than this are counted.
const MAX_SERVERS: usize = 20;
/// More names than this are counted.
const MAX_NAMES: usize = 10;

/// What the token may use of each server.
pub(super) async fn sections(client: &ControlClient, facts: &Facts) -> Result<Vec<Section>> {
    let mut section = Section::new("May use");
    if !["revoked", "expired"].contains(&facts.text("state").as_str()) {
        let servers = servers(client, facts).await?;
        for server in servers.iter().take(MAX_SERVERS) {
            let said = match exposed(client, server).await {
                Ok(exposed) => reach(facts, &exposed),
                Err(error) if error.exit == Exit::NotFound => "it does not exist".to_owned(),
                Err(error) => return Err(error),
            };
            section.field(&short_name(server), said);
        }
        if servers.len() > MAX_SERVERS {
            section.item(format!("and {} more servers", servers.len() - MAX_SERVERS), "");
        }
    }
    Ok(vec![section])
}

/// The servers of its scope, by full name.
async fn servers(client: &ControlClient, facts: &Facts) -> Result<Vec<String>> {
    let named: Vec<_> = items(facts.at("scope.servers")).iter().map(text).collect();
    if !named.iter().any(|name| name == "*") {
        return Ok(named);
    }
    let servers = get::all_pages(client, Kind::from_word("servers"), Map::new()).await?;
    Ok(servers.iter().map(|server| reflection::text(server, "name")).collect())
}

/// What the globs of the token match of what a server exposes, a line for each kind that it exposes.
fn reach(facts: &Facts, exposed: &[Exposed]) -> String {
    let lines = ["tools", "resources", "prompts"].into_iter().filter_map(|list| {
        let all: Vec<_> = exposed.iter().filter(|entry| entry.list == list).collect();
        let globs: Vec<_> = items(facts.at(&format!("scope.{list}"))).iter().map(text).collect();
        let may = |entry: &&&Exposed| globs.iter().any(|pattern| glob::matches(pattern, &entry.name));
        let names: Vec<_> = all.iter().filter(may).map(|entry| entry.name.as_str()).collect();
        (!all.is_empty()).then(|| format!("{} of {} {list}{}", names.len(), all.len(), some(&names)))
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { "it exposes nothing".to_owned() } else { lines.join("\n") }
}

fn some(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        names if names.len() <= MAX_NAMES => format!(": {}", names.join(", ")),
        names => format!(": {} and {} more", names[..MAX_NAMES].join(", "), names.len() - MAX_NAMES),
    }
}
