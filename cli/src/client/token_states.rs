//! Which saved tokens are over, for whoever has an admin token: the context file does not know.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::Map;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::caller::claims;
use crate::commands::Invocation;
use crate::commands::get::all_pages;
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

/// Asks which saved tokens are over.
pub async fn ended(client: &ControlClient, context: &Context) -> Result<Ended> {
    if context.tokens.is_empty() {
        return Ok(Ended::new());
    }
    let request = Map::from_iter([("pageSize".to_owned(), 1_000.into())]);
    let tokens = all_pages(client, Kind::from_word("token"), request).await?;
    let end = |(name, saved): (&String, &SavedToken)| Some((name.clone(), end(name, saved, &tokens)?));
    Ok(context.tokens.iter().filter_map(end).collect())
}

/// How a saved token came to its end; `None` if it has not.
fn end(name: &str, saved: &SavedToken, tokens: &[DynamicMessage]) -> Option<String> {
    let claims = claims(&saved.bearer).unwrap_or_default();
    let full = claims["sub"].as_str().map_or_else(|| format!("tokens/{name}"), str::to_owned);
    let Some(token) = tokens.iter().find(|token| reflection::text(token, "name") == full) else {
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

/// Leaves out the tokens that are over of those that may call a server, and says so. One that was named stays.
pub async fn without_ended(
    invocation: &Invocation,
    mut context: Context,
    server: &str,
    named: Option<&str>,
) -> Context {
    for (name, end) in asked(invocation, &context).await.unwrap_or_default() {
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
    context
}

/// Asks where that can be done soon.
async fn asked(invocation: &Invocation, context: &Context) -> Option<Ended> {
    context.control_bearer().ok()??;
    let patience = invocation.timeout().min(PATIENCE);
    let answer = async { ended(&ControlClient::connect(context, patience).await.ok()?, context).await.ok() };
    tokio::time::timeout(patience, answer).await.ok()?
}
