//! Which saved tokens are over, and which are bound by conditions, for whom the control plane lets see tokens: the context file does
//! not know.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::Map;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::caller::claims;
use crate::commands::Invocation;
use crate::commands::get::all_pages;
use crate::commands::protection::bounds;
use crate::context::{Context, SavedToken};
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::Kind;
use crate::output::eprint;
use crate::parse::short_duration;
use crate::reflection;

/// Time to ask.
const PATIENCE: Duration = Duration::from_secs(3);

/// The saved tokens that are over, by the names that they are saved under, and how that came: `expired 67s ago`.
pub type Ended = BTreeMap<String, String>;

/// What is known of the saved tokens, by the names that they are saved under.
#[derive(Debug, Default)]
pub struct SavedStates {
    pub ended: Ended,
    /// Where, when and for what alone those may be used that are bound by conditions.
    pub bound: BTreeMap<String, String>,
}

/// Asks what became of the saved tokens.
pub async fn states(client: &ControlClient, context: &Context) -> Result<SavedStates> {
    let mut states = SavedStates::default();
    if context.tokens.is_empty() {
        return Ok(states);
    }
    let request = Map::from_iter([("pageSize".to_owned(), 1_000.into())]);
    let tokens = all_pages(client, Kind::from_word("token"), request).await?;
    for (name, saved) in &context.tokens {
        if let Some(end) = end(name, saved, &tokens) {
            states.ended.insert(name.clone(), end);
        } else if let Some(token) = of_saved(name, saved, &tokens)
            && let Some(bounds) = bounds(&reflection::to_json(token))
        {
            states.bound.insert(name.clone(), bounds);
        }
    }
    Ok(states)
}

/// The token whose bearer is saved, if it is there under its name.
fn of_saved<'t>(name: &str, saved: &SavedToken, tokens: &'t [DynamicMessage]) -> Option<&'t DynamicMessage> {
    let told = claims(&saved.bearer).and_then(|claims| claims["sub"].as_str().map(str::to_owned));
    let full = told.unwrap_or_else(|| format!("tokens/{name}"));
    tokens.iter().find(|token| reflection::text(token, "name") == full)
}

/// How a saved token came to its end; `None` if it has not.
fn end(name: &str, saved: &SavedToken, tokens: &[DynamicMessage]) -> Option<String> {
    let claims = claims(&saved.bearer).unwrap_or_default();
    let Some(token) = of_saved(name, saved, tokens) else {
        return Some("does not exist any more".to_owned());
    };
    let document = reflection::to_json(token);
    let is_another = claims["jti"].as_str().is_some_and(|uid| document["meta"]["uid"].as_str() != Some(uid));
    if is_another {
        return Some("was deleted, and made anew with another bearer".to_owned());
    }
    let ago = |field: &str| {
        let at = OffsetDateTime::parse(document[field].as_str()?, &Rfc3339).ok()?;
        Some(short_duration(OffsetDateTime::now_utc() - at))
    };
    match reflection::enum_word(token, "state").as_str() {
        "revoked" => Some(format!("was revoked {} ago", ago("revokeTime")?)),
        "expired" => Some(format!("expired {} ago", ago("expireTime")?)),
        "suspended" => Some("is suspended, because its owner is disabled".to_owned()),
        _ => None,
    }
}

/// Leaves out the tokens that are over of those that may call a server, and says so. One that was named stays. Returns also which are
/// bound by conditions, and how.
pub async fn without_ended(
    invocation: &Invocation,
    mut context: Context,
    server: &str,
    named: Option<&str>,
) -> (Context, BTreeMap<String, String>) {
    let states = asked(invocation, &context).await.unwrap_or_default();
    for (name, end) in states.ended {
        let fits = context.tokens.get(&name).is_some_and(|token| token.may_call(server));
        match named {
            Some(named) if named.strip_prefix("tokens/").unwrap_or(named) == name => {
                eprint(format!("warning: token {name} {end}; create another with `mcpctl create token`"));
            }
            Some(_) => {}
            None => {
                context.tokens.remove(&name);
                if fits {
                    eprint(format!("token {name} is left out: it {end}"));
                }
            }
        }
    }
    (context, states.bound)
}

/// Asks where that can be done soon.
async fn asked(invocation: &Invocation, context: &Context) -> Option<SavedStates> {
    context.control_bearer().ok()??;
    let patience = invocation.timeout().min(PATIENCE);
    let answer = async { states(&ControlClient::connect(context, patience).await.ok()?, context).await.ok() };
    tokio::time::timeout(patience, answer).await.ok()?
}
