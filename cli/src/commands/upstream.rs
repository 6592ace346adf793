//! What only upstreams can: `mcpctl refresh upstream NAME`, `mcpctl probe URL|NAME`.

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::commands::Session;
use crate::commands::fields::CredentialFlags;
use crate::contract;
use crate::error::{Error, Exit, Result};
use crate::nouns::Noun;
use crate::output::progress::Spinner;
use crate::output::{self, Format};

/// Arguments of `refresh`.
#[derive(Debug, clap::Args)]
pub struct RefreshArgs {
    /// What: upstream
    #[arg(value_parser = ["upstream", "upstreams", "up"], hide_possible_values = true)]
    noun: String,
    /// Which
    name: String,
}

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// The URL of an MCP server, or the name of an upstream
    target: String,
    #[command(flatten)]
    credential: CredentialFlags,
}

/// Runs `refresh`.
pub async fn refresh(session: &Session, args: RefreshArgs) -> Result {
    let noun = Noun::of_word(&args.noun);
    let client = session.client().await?;
    let spinner = Spinner::start(format!("asking {}", args.name));
    let answer = client.call(&noun.method("Refresh"), json!({ "name": noun.full_name(&args.name)? })).await;
    drop(spinner);
    let item = contract::part(&answer?, noun.singular)
        .ok_or_else(|| Error::failure("the answer holds no upstream"))?;
    output::out(&output::resources(noun, std::slice::from_ref(&item), true, session.format())?)?;
    ready(&contract::to_json(&item)["status"], &args.name)
}

/// Runs `probe`.
pub async fn probe(session: &Session, args: ProbeArgs) -> Result {
    let noun = Noun::of_word("upstream");
    let request = if args.target.contains("://") {
        let mut upstream = json!({ "http": { "url": args.target } });
        if let Some(credential) = args.credential.json()? {
            upstream["credential"] = credential;
        }
        json!({ "upstream": upstream })
    } else {
        json!({ "name": noun.full_name(&args.target)? })
    };
    let client = session.client().await?;
    let spinner = Spinner::start(format!("asking {}", args.target));
    let answer = client.call(&noun.method("Probe"), request).await;
    drop(spinner);
    let status =
        contract::part(&answer?, "status").ok_or_else(|| Error::failure("the answer holds no status"))?;
    let format = if session.format() == Format::Json { Format::Json } else { Format::Yaml };
    output::out(&output::message(&status, format)?)?;
    ready(&contract::to_json(&status), &args.target)
}

fn ready(status: &Value, name: &str) -> Result {
    let reason = status["reason"].as_str().unwrap_or("it does not answer");
    match status["state"].as_str() {
        Some("UPSTREAM_STATE_READY") => Ok(()),
        Some("UPSTREAM_STATE_UNAUTHORIZED") => {
            Err(Error::new(Exit::Refused, format!("{name} refuses the credential: {reason}")))
        }
        Some("UPSTREAM_STATE_INCOMPATIBLE") => Err(Error::failure(format!(
            "{name} is no MCP server: {reason}; is the path right, such as /mcp?"
        ))),
        _ => Err(Error::new(Exit::Unavailable, format!("{name} does not answer: {reason}"))),
    }
}

/// Says on stderr how an upstream is, and what to do next.
pub fn tell(upstream: &DynamicMessage) {
    let json = contract::to_json(upstream);
    let (status, name) = (&json["status"], contract::text(upstream, "name"));
    let id = name.trim_start_matches("upstreams/");
    match ready(status, id) {
        Ok(()) => {
            let count = |key: &str| status[key].as_i64().unwrap_or_default();
            let (tools, resources, prompts) =
                (count("toolCount"), count("resourceCount"), count("promptCount"));
            output::say(format!("ready: {tools} tools, {resources} resources, {prompts} prompts"));
        }
        Err(error) => output::say(format!(
            "note: {error}. It is asked again by and by; `mcpctl refresh upstream {id}` asks now"
        )),
    }
}
