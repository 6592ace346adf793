//! What the control plane says of a server, for whoever has its admin token: why something is not there that should be.

use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::json;

use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::{Kind, short_name};
use crate::reflection;

/// Time for all of it: it is told beside something else.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns what a question to the control plane comes to; nothing without an admin token, and if there is no answer soon.
async fn asked<T>(
    invocation: &Invocation,
    question: impl AsyncFnOnce(ControlClient) -> Option<T>,
) -> Option<T> {
    let context = invocation.context().ok()?;
    context.control_bearer().ok()??;
    let patience = invocation.timeout().min(PATIENCE);
    let answer = async { question(ControlClient::connect(&context, patience).await.ok()?).await };
    tokio::time::timeout(patience, answer).await.ok()?
}

/// The error where a server does not exist, with the one that was perhaps meant; `None` where it exists, or that is not known.
pub async fn nonexistent(invocation: &Invocation, server: &str) -> Option<Error> {
    let (kind, name) = (Kind::from_word("server"), format!("servers/{server}"));
    let found = asked(invocation, async |client| {
        client.call(&kind.method("Get"), json!({ "name": name })).await.err()
    });
    let error = found.await.filter(|error| error.exit == Exit::NotFound)?;
    Some(Error::not_found(error.to_string().replacen(&name, &format!("server {server}"), 1)))
}

/// Returns an error, or that the server does not exist: who misspells it is not to look for a token.
pub async fn or_nonexistent(invocation: &Invocation, server: &str, error: Error) -> Error {
    match error.exit {
        Exit::NotFound => nonexistent(invocation, server).await.unwrap_or(error),
        _ => error,
    }
}

/// Says why clients do not get all of a server; nothing if they do.
pub async fn trouble(invocation: &Invocation, server: &str) -> Option<String> {
    let name = format!("servers/{server}");
    let kind = Kind::from_word("server");
    let found = asked(invocation, async |client| {
        client.call(&kind.method("Get"), json!({ "name": name })).await.ok()
    });
    let status = reflection::submessage(&reflection::submessage(&found.await?, kind.singular)?, "status")?;
    let (state, reason) = (reflection::enum_word(&status, "state"), reflection::text(&status, "reason"));
    let is_told = !reason.is_empty() && state != "ready";
    let waits = reason.contains(" is pending");
    let hint = if waits {
        format!("; `mcpctl wait server {server} --for state=ready` waits for it")
    } else {
        String::new()
    };
    is_told.then(|| format!("server {server} is {state}: {reason}{hint}"))
}

/// Returns what a server exposes, and as what.
pub async fn exposed_as(client: &ControlClient, server: &str) -> Result<Vec<DynamicMessage>> {
    let request = json!({ "name": format!("servers/{server}") });
    let answer = client.call("trunkline.registry.v1.ServerService/ListServerEntries", request).await?;
    Ok(reflection::submessages(&answer, "entries"))
}

/// Returns the names under which a server exposes what its upstreams call `own`.
pub async fn exposed_names(invocation: &Invocation, server: &str, kind: &str, own: &str) -> Vec<String> {
    let entries = asked(invocation, async |client| exposed_as(&client, server).await.ok());
    let entries = entries.await.unwrap_or_default().into_iter();
    let entries = entries.filter(|entry| reflection::text(entry, "kind") == kind);
    let entries = entries.filter(|entry| is_own(&reflection::text(entry, "target"), own));
    entries.map(|entry| reflection::text(&entry, "exposed_name")).collect()
}

/// Whether this is what its upstream calls `own`.
pub fn is_own(target: &str, own: &str) -> bool {
    short_name(target).split_once('/').is_some_and(|(_, name)| name == own)
}
