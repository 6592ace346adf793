//! What an upstream offers, and what a virtual server exposes of it.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::DynamicMessage;
use serde_json::{Map, json};
use time::OffsetDateTime;

use super::facts::Facts;
use crate::client::signature;
use crate::commands::get;
use crate::commands::last_uses::LastUses;
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::{Kind, short_name};
use crate::output::sections::Section;
use crate::reflection;

/// The kinds of a catalogue, and their titles.
const KINDS: [(&str, &str); 3] = [("tools", "Tools"), ("resources", "Resources"), ("prompts", "Prompts")];

/// The catalogue of an upstream, with signatures.
pub(super) async fn of_upstream(client: &ControlClient, facts: &Facts) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for (word, title) in KINDS {
        let kind = Kind::from_word(word);
        let entries = list(client, kind, &facts.text("name")).await?;
        let mut section = Section::new(format!("{title} ({})", entries.len()));
        for entry in &entries {
            let (line, description) = written(kind, entry, None);
            section.item(format!("{line}{}", trouble(entry)), description);
        }
        sections.push(section);
    }
    Ok(sections)
}

/// What a server exposes, under the names that clients see.
pub(super) async fn of_server(client: &ControlClient, facts: &Facts) -> Result<Vec<Section>> {
    let server = facts.text("name");
    let exposed = exposed(client, &server).await?;
    let uses = LastUses::hint(client, Some(&server)).await;
    let used = |target: &str| {
        let told = uses.as_ref().map(|uses| uses.told(&server, target, OffsetDateTime::now_utc()));
        told.map(|told| format!("  (last used: {told})")).unwrap_or_default()
    };
    let mut sections = Vec::new();
    for (word, title) in KINDS {
        let kind = Kind::from_word(word);
        let exposed: Vec<_> = exposed.iter().filter(|entry| entry.list == word).collect();
        let upstreams: BTreeSet<_> = exposed.iter().filter_map(|entry| entry.upstream()).collect();
        let mut definitions = BTreeMap::new();
        for upstream in upstreams {
            let entries = list(client, kind, &format!("upstreams/{upstream}")).await?;
            definitions.extend(entries.into_iter().map(|entry| (reflection::text(&entry, "name"), entry)));
        }
        let mut section = Section::new(format!("{title} ({})", exposed.len()));
        for entry in exposed {
            let (line, description) = match definitions.get(&entry.target) {
                Some(definition) => written(kind, definition, Some(&entry.name)),
                None => (entry.name.clone(), String::new()),
            };
            let (target, used) = (short_name(&entry.target), used(&entry.target));
            section.item(line, format!("{target}{used}\n{description}"));
        }
        sections.push(section);
    }
    Ok(sections)
}

/// One thing that a server exposes.
pub(in crate::commands) struct Exposed {
    /// `tools`, `resources` or `prompts`.
    pub(in crate::commands) list: &'static str,
    /// The name or URI that clients see.
    pub(in crate::commands) name: String,
    /// The entry of the catalogue.
    pub(in crate::commands) target: String,
}

impl Exposed {
    fn upstream(&self) -> Option<&str> {
        self.target.split('/').nth(1)
    }
}

/// Everything that a server exposes.
pub(in crate::commands) async fn exposed(client: &ControlClient, server: &str) -> Result<Vec<Exposed>> {
    let method = "trunkline.registry.v1.ServerService/ListServerEntries";
    let answer = client.call(method, json!({ "name": server })).await?;
    let exposed = |entry: &DynamicMessage| Exposed {
        list: match reflection::text(entry, "kind").as_str() {
            "tool" => "tools",
            "prompt" => "prompts",
            _ => "resources",
        },
        name: reflection::text(entry, "exposed_name"),
        target: reflection::text(entry, "target"),
    };
    Ok(reflection::submessages(&answer, "entries").iter().map(exposed).collect())
}

async fn list(client: &ControlClient, kind: &Kind, upstream: &str) -> Result<Vec<DynamicMessage>> {
    get::all_pages(client, kind, Map::from_iter([("parent".to_owned(), upstream.into())])).await
}

/// An entry as clients may use it, under its own name or another one, and the beginning of its description.
fn written(kind: &Kind, entry: &DynamicMessage, name: Option<&str>) -> (String, String) {
    let definition = reflection::text(entry, "definition_json");
    let own = short_name(&reflection::text(entry, "name"));
    let own = own.split_once('/').map_or(own.as_str(), |(_, own)| own);
    let name = name.unwrap_or(own);
    match kind.name {
        "Tool" => signature::tool_as(&definition, name),
        "Prompt" => signature::prompt_as(&definition, name),
        _ => {
            let texts = ["title", "description"].map(|field| reflection::text(entry, field));
            let [title, description] =
                texts.map(|text| text.trim().lines().next().unwrap_or_default().to_owned());
            (name.to_owned(), if description.is_empty() { title } else { description })
        }
    }
}

/// Why clients do not get it.
fn trouble(entry: &DynamicMessage) -> String {
    let state = reflection::enum_word(entry, "state");
    match state.as_str() {
        "" | "unspecified" | "ready" => String::new(),
        state => format!("  ({state})"),
    }
}
