//! What valid tokens name in their scopes, and no server exposes.

use prost_reflect::DynamicMessage;
use serde_json::Map;

use super::check::Check;
use crate::commands::{get, warnings};
use crate::control_client::ControlClient;
use crate::kinds::{Kind, short_name};
use crate::reflection;

const TOKENS: &str = "tokens";
/// More tokens than this are counted.
const MAX_CHECKS: usize = 10;

/// Looks for entries that match nothing.
pub(super) async fn checks(client: &ControlClient) -> Vec<Check> {
    let request = Map::from_iter([("pageSize".to_owned(), 1_000.into())]);
    let tokens = get::all_pages(client, Kind::from_word("token"), request).await.unwrap_or_default();
    let found: Vec<Check> = tokens.iter().filter_map(check).collect();
    let more = found.len().saturating_sub(MAX_CHECKS);
    let rest = (more > 0).then(|| {
        let text = format!("{more} more name what no server exposes");
        Check::warn(TOKENS, text, "run `mcpctl get tokens`, which lists that under MATCH NOTHING")
    });
    found.into_iter().take(MAX_CHECKS).chain(rest).collect()
}

fn check(token: &DynamicMessage) -> Option<Check> {
    let unmatched = reflection::texts(token, "unmatched");
    let (verb, name) = (
        if unmatched.len() == 1 { "matches" } else { "match" },
        short_name(&reflection::text(token, "name")),
    );
    (!unmatched.is_empty()).then(|| {
        Check::warn(
            TOKENS,
            format!("{name}: {} {verb} nothing on its servers", warnings::in_words(&unmatched)),
            format!(
                "run `mcpctl describe token {name}` to see what it may use, and `mcpctl edit token {name}` to name what clients see"
            ),
        )
    })
}
