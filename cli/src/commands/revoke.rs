//! `mcpctl revoke token NAME…`: revokes tokens; `mcpctl revoke join-token NAME…`: no edge enrols with them any more; and API keys and
//! sessions by their full names.

use prost_reflect::DynamicMessage;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::api_keys::Belonging;
use crate::commands::each::told;
use crate::commands::{Invocation, get, rollout};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::{Kind, short_name};
use crate::output;
use crate::parse::short_duration;
use crate::reflection;
use crate::selection;

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: token, join-token, api-key or session; or KIND/NAME
    #[arg(value_parser = ["token", "tokens", "tok", "join-token", "join-tokens", "api-key", "api-keys", "session", "sessions"], hide_possible_values = true)]
    kind: String,
    /// Names; where one does not exist, the others are revoked all the same. An API key is OWNER/KEY, or KEY for one of your own, and
    /// KEY - stands for all; a session is USER/sessions/SESSION, or USER/sessions/- for all
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Wait until every edge has acknowledged the revision; not for join tokens, which edges do not know
    #[arg(long)]
    wait: bool,
}

/// Runs `revoke`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    if let Some(belonging) = Belonging::of_word(&args.kind) {
        if args.wait {
            return Err(Error::usage("--wait has no meaning for API keys and sessions; leave it out"));
        }
        return belonging.revoke(invocation, &args.names).await;
    }
    let kind = Kind::from_word(&args.kind);
    let names: Vec<String> =
        args.names.iter().map(|word| selection::name_of(kind, word)).collect::<Result<_>>()?;
    let client = invocation.client().await?;
    if kind.name == "JoinToken" {
        return revoke_join_tokens(&client, kind, &names, args.wait).await;
    }
    let (mut tokens, mut failed) = (Vec::new(), Vec::new());
    // Who revokes several is in a hurry: a name that is wrong must not keep the others valid.
    for name in &names {
        match revoke_token(invocation, &client, kind, name).await {
            Ok(token) => tokens.push(token),
            Err(error) => failed.push(error),
        }
    }
    if let Some(format) = invocation.format.as_ref().filter(|_| !tokens.is_empty()) {
        output::print(&output::resources(kind, &tokens, names.len() == 1, format)?)?;
    }
    let revision = tokens.iter().filter_map(|token| reflection::submessage(token, "meta"));
    if let Some(revision) = revision.map(|meta| reflection::number(&meta, "revision")).max() {
        if args.wait {
            rollout::wait(invocation, &client, revision).await?;
        }
        rollout::wait_for_revocation(invocation, &client, revision).await;
    }
    told(failed)
}

async fn revoke_token(
    invocation: &Invocation,
    client: &ControlClient,
    kind: &Kind,
    name: &str,
) -> Result<DynamicMessage> {
    // Who asks for what does not exist is told so by the next call.
    let before = get::one(client, kind, name).await.ok();
    let answer = client.call(&kind.method("Revoke"), json!({ "name": name })).await?;
    let token = reflection::submessage(&answer, "token")
        .ok_or_else(|| Error::failure("the response contains no token"))?;
    invocation.forget_bearer(&short_name(name));
    if invocation.format.is_none() {
        output::print(&format!("{name} {}", done(before.as_ref())))?;
    }
    Ok(token)
}

/// What became of a token that was `before`.
fn done(before: Option<&DynamicMessage>) -> String {
    let text = before.and_then(|token| reflection::to_json(token)["revokeTime"].as_str().map(str::to_owned));
    match text.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok()) {
        Some(time) => {
            format!("was revoked already, {} ago", short_duration(OffsetDateTime::now_utc() - time))
        }
        None => "revoked".to_owned(),
    }
}

/// A join token that is revoked is gone: nothing needs to know it any more.
async fn revoke_join_tokens(client: &ControlClient, kind: &Kind, names: &[String], wait: bool) -> Result {
    if wait {
        return Err(Error::usage("--wait has no meaning for join tokens; leave it out"));
    }
    let mut failed = Vec::new();
    for name in names {
        match client.call(&kind.method("Delete"), json!({ "name": name })).await {
            Ok(_) => output::print(&format!("{name} revoked"))?,
            Err(error) => failed.push(error),
        }
    }
    told(failed)
}
