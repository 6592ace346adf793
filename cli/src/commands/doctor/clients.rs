//! What a client would see: a session with each saved bearer at each edge, and what is listed there.

use std::time::{Duration, Instant};

use mcp::client::ClientError;
use mcp::error::METHOD_NOT_FOUND;
use mcp::method::Method;

use super::check::Check;
use crate::client::caller::{Caller, CallerFlags, Wanted, callers};
use crate::client::session::EdgeServer;
use crate::commands::Invocation;
use crate::context::Context;

const CLIENTS: &str = "clients";
/// Time for each response.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sessions that are opened at most.
const MAX_SESSIONS: usize = 40;
const MAX_ITEMS: usize = 100_000;

/// Opens the sessions that the saved bearers are for. The edges say themselves where they are reached, which need not be so from
/// here: what fails there alone is only told.
pub(super) async fn checks(
    invocation: &Invocation,
    context: &Context,
    edges: &[String],
    servers: &[String],
) -> Vec<Check> {
    let Some(edge) = &context.edge else { return Vec::new() };
    if context.tokens.is_empty() {
        return vec![Check::warn(
            CLIENTS,
            "no bearer is saved, so nothing was called",
            "run `mcpctl create token NAME --server SERVER`, or `mcpctl config set-bearer NAME`",
        )];
    }
    let is_other = |other: &&String| other.trim_end_matches('/') != edge.trim_end_matches('/');
    let mut places = vec![(edge.clone(), true)];
    places.extend(edges.iter().filter(is_other).map(|edge| (edge.clone(), false)));
    let mut sessions = Vec::new();
    for (name, token) in &context.tokens {
        let all = token.servers.iter().any(|server| server == "*");
        let wanted = if all { servers } else { &token.servers[..] };
        for server in wanted {
            sessions.extend(places.iter().map(|place| (name, server, place)));
        }
    }
    let left_out = sessions.len().saturating_sub(MAX_SESSIONS);
    let mut checks = Vec::new();
    for (token, server, (edge, is_named)) in sessions.into_iter().take(MAX_SESSIONS) {
        let context = Context { edge: Some(edge.clone()), ..context.clone() };
        checks.push(client(invocation, &context, token, server, *is_named).await);
    }
    if left_out > 0 {
        checks.push(Check::ok(CLIENTS, format!("{left_out} more were not tried")));
    }
    checks
}

async fn client(
    invocation: &Invocation,
    context: &Context,
    token: &str,
    server: &str,
    is_named: bool,
) -> Check {
    let edge = context.edge.clone().unwrap_or_default();
    let flags = CallerFlags { token: Some(token.to_owned()), ..CallerFlags::default() };
    let found = callers(context, invocation.context_file.path(), server, Wanted::Anything, &flags);
    let prepared = found.and_then(|found| Ok((found, EdgeServer::of(context, server, PATIENCE)?)));
    let (found, place) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Check::error(CLIENTS, error),
    };
    let Some(caller) = found.first() else { return Check::error(CLIENTS, "nobody may call") };
    let started = Instant::now();
    match seen(&place, caller).await {
        Ok(seen) => {
            let took = started.elapsed().as_millis();
            Check::ok(CLIENTS, format!("server {server} at {edge} with token {token}: {seen}, in {took} ms"))
        }
        Err(ClientError::Unreachable(why)) if !is_named => Check::warn(
            CLIENTS,
            format!("an edge says that it is at {edge}, which is not reached from here: {why}"),
            "nothing, if clients come through a load balancer; else start the edge with --advertise-address",
        ),
        Err(error) => Check::error(CLIENTS, place.diagnosed(error, caller).await),
    }
}

/// Counts what is listed.
async fn seen(server: &EdgeServer, caller: &Caller) -> Result<String, ClientError> {
    let authorization = caller.authorization().map_err(|error| ClientError::Protocol(error.to_string()))?;
    let session = server.open(authorization, "{}").await?;
    let mut counts = Vec::new();
    for (method, what) in
        [(Method::ToolsList, "tools"), (Method::ResourcesList, "resources"), (Method::PromptsList, "prompts")]
    {
        let count = match session.list_all(method, MAX_ITEMS).await {
            Ok(items) => items.len(),
            Err(ClientError::Unsupported | ClientError::Rpc { code: METHOD_NOT_FOUND, .. }) => 0,
            Err(error) => return Err(error),
        };
        counts.push(format!("{count} {what}"));
    }
    session.close().await;
    Ok(counts.join(", "))
}
