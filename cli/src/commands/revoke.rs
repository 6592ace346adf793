//! `mcpctl revoke token NAME`: revokes a token; `mcpctl revoke join-token NAME`: no edge enrols with it any more.

use prost_reflect::DynamicMessage;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::{Invocation, get, rollout};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::{Kind, short_name};
use crate::output;
use crate::parse::short_duration;
use crate::reflection;

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: token or join-token; or KIND/NAME
    #[arg(value_parser = ["token", "tokens", "tok", "join-token", "join-tokens"], hide_possible_values = true)]
    kind: String,
    /// Name of the token
    name: String,
    /// Wait until every edge has acknowledged the revision; not for join tokens, which edges do not know
    #[arg(long)]
    wait: bool,
}

/// Runs `revoke`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let kind = Kind::from_word(&args.kind);
    let name = kind.full_name(&args.name)?;
    let client = invocation.client().await?;
    if kind.name == "JoinToken" {
        return revoke_join_token(&client, kind, &name, args.wait).await;
    }
    // Who asks for what does not exist is told so by the next call.
    let before = get::one(&client, kind, &args.name).await.ok();
    let answer = client.call(&kind.method("Revoke"), json!({ "name": name })).await?;
    let token = reflection::submessage(&answer, "token")
        .ok_or_else(|| Error::failure("the response contains no token"))?;
    invocation.forget_bearer(&short_name(&name));
    match &invocation.format {
        Some(format) => output::print(&output::resources(kind, std::slice::from_ref(&token), true, format)?)?,
        None => output::print(&format!("{name} {}", done(before.as_ref())))?,
    }
    let meta = reflection::submessage(&token, "meta")
        .ok_or_else(|| Error::failure("the response contains no revision"))?;
    let revision = reflection::number(&meta, "revision");
    if args.wait {
        rollout::wait(invocation, &client, revision).await?;
    }
    rollout::wait_for_revocation(invocation, &client, revision).await;
    Ok(())
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
async fn revoke_join_token(client: &ControlClient, kind: &Kind, name: &str, wait: bool) -> Result {
    if wait {
        return Err(Error::usage("--wait has no meaning for join tokens; leave it out"));
    }
    client.call(&kind.method("Delete"), json!({ "name": name })).await?;
    output::print(&format!("{name} revoked"))
}
