//! `mcpctl revoke token NAME`.

use serde_json::json;

use crate::commands::{Session, rollout};
use crate::contract;
use crate::error::{Error, Result};
use crate::nouns::{Noun, short_name};
use crate::output;

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What: token
    #[arg(value_parser = ["token", "tokens", "tok"], hide_possible_values = true)]
    noun: String,
    /// Which
    name: String,
    /// Wait until every edge has acknowledged it
    #[arg(long)]
    wait: bool,
}

/// Runs `revoke`.
pub async fn run(session: &Session, args: Args) -> Result {
    let noun = Noun::of_word(&args.noun);
    let name = noun.full_name(&args.name)?;
    let client = session.client().await?;
    let answer = client.call(&noun.method("Revoke"), json!({ "name": name })).await?;
    let token =
        contract::part(&answer, "token").ok_or_else(|| Error::failure("the answer holds no token"))?;
    session.store.forget_token(&short_name(&name))?;
    match session.format {
        Some(format) => output::out(&output::resources(noun, std::slice::from_ref(&token), true, format)?)?,
        None => output::out(&format!("{name} revoked"))?,
    }
    if !args.wait {
        return Ok(());
    }
    let meta =
        contract::part(&token, "meta").ok_or_else(|| Error::failure("the answer holds no revision"))?;
    rollout::wait(session, &client, contract::number(&meta, "revision")).await
}
