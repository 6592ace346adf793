//! `mcpctl get sets [NAME…]`: the sets that resources were applied with.

use prost_reflect::DynamicMessage;
use serde_json::json;
use time::OffsetDateTime;

use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output::table::{Cell, Column, grid};
use crate::output::{self, Format};
use crate::reflection;
use crate::suggest::did_you_mean;

/// What they are called where the kind of resource is given.
pub const WORD: &str = "sets";
/// That word, and others for them.
const WORDS: [&str; 4] = [WORD, "set", "apply-sets", "applysets"];

const COLUMNS: [Column; 3] = [
    Column("NAME", "name", Cell::Text),
    Column("RESOURCES", "count", Cell::Number),
    Column("CHANGED", "updateTime", Cell::Age),
];

/// Whether a word of the command line means sets.
pub fn are_meant(word: &str) -> bool {
    WORDS.contains(&word.to_lowercase().as_str())
}

/// Fetches all of them.
pub async fn all(client: &ControlClient) -> Result<Vec<DynamicMessage>> {
    let answer = client.call("trunkline.admin.v1.BulkService/ListApplySets", json!({})).await?;
    Ok(reflection::submessages(&answer, "apply_sets"))
}

/// Prints those of these names, or all.
pub async fn show(invocation: &Invocation, names: &[String], headers: bool) -> Result {
    let known = all(&invocation.client().await?).await?;
    let chosen = match names {
        [] => known,
        names => names.iter().map(|name| one(&known, name)).collect::<Result<_>>()?,
    };
    let format = invocation.format();
    let lines = || chosen.iter().map(|set| output::name_line(&name(set))).collect::<String>();
    let table = || {
        let columns: Vec<_> = COLUMNS.iter().collect();
        grid(&columns, &chosen, false, OffsetDateTime::now_utc()).render(headers, None)
    };
    output::print(&match (format, chosen.as_slice()) {
        (Format::Name, _) => lines(),
        (format, [one]) if names.len() == 1 => output::message(one, format, table)?,
        (format, _) => {
            let fields: Vec<_> = chosen.iter().map(reflection::fields).collect();
            output::value(&fields, format, table)?
        }
    })?;
    if chosen.is_empty() && matches!(format, Format::Table | Format::Wide) {
        output::eprint("no sets found; `mcpctl apply` makes them");
    }
    Ok(())
}

fn name(set: &DynamicMessage) -> String {
    reflection::text(set, "name")
}

fn one(known: &[DynamicMessage], wanted: &str) -> Result<DynamicMessage> {
    known.iter().find(|set| name(set) == wanted).cloned().ok_or_else(|| {
        let names: Vec<_> = known.iter().map(name).collect();
        let hint = did_you_mean(wanted, names.iter().map(String::as_str));
        Error::not_found(format!(
            "set {wanted} does not exist{hint}; run `mcpctl get sets` to list what exists"
        ))
    })
}
