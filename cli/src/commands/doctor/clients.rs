//! What a client would see: a session with each saved bearer at each edge, and what is listed there.

use std::time::{Duration, Instant};

use mcp::client::ClientError;
use mcp::error::METHOD_NOT_FOUND;
use mcp::method::Method;

use super::check::{Check, Outcome};
use crate::client::acceptance::Acceptance;
use crate::client::caller::{Caller, CallerFlags, Wanted, callers};
use crate::client::session::EdgeServer;
use crate::client::token_states::Ended;
use crate::client::unmet::Unmet;
use crate::commands::Invocation;
use crate::context::Context;
use crate::error::Error;
use crate::parse;

const CLIENTS: &str = "clients";
/// Time for each response.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sessions that are opened at most.
const MAX_SESSIONS: usize = 40;
/// What to look at where the error says nothing of that.
const AT_TOKENS: &str = "run `mcpctl get servers` and `mcpctl get tokens`";
/// The same where there is no control plane.
const AT_GIVER: &str = "ask whoever gave you the bearer";
/// What is asked for where no server is known. It need not exist.
const ANY_SERVER: &str = "doctor";
const MAX_ITEMS: usize = 100_000;

/// What is known before anybody is called.
pub(super) struct Survey {
    /// The URLs under which clients reach the edges, as those believe.
    pub(super) edges: Vec<String>,
    /// The names of all servers, as far as they are known.
    pub(super) servers: Vec<String>,
    /// The saved tokens that are over.
    pub(super) ended: Ended,
    /// Whether an edge is at the URL of the context. If not, that is said already.
    pub(super) is_there: bool,
}

/// Opens the sessions that the saved bearers are for. The edges say themselves where they are reached, which need not be so from
/// here: what fails there alone is only told.
pub(super) async fn checks(invocation: &Invocation, context: &Context, known: &Survey) -> Vec<Check> {
    let Some(edge) = &context.edge else { return Vec::new() };
    let mut checks: Vec<_> = of_environment(context).await.into_iter().collect();
    if context.tokens.is_empty() && !checks.is_empty() {
        return checks;
    }
    if context.tokens.is_empty() {
        let advice = match context.control {
            Some(_) => "run `mcpctl create token NAME --server SERVER`, or `mcpctl config set-bearer NAME`",
            None => "ask for a bearer, and save it with `mcpctl config set-bearer`",
        };
        return vec![Check::warn(CLIENTS, "no bearer is saved, so nothing was called", advice)];
    }
    let is_other = |other: &&String| other.trim_end_matches('/') != edge.trim_end_matches('/');
    let mut places: Vec<_> = known.is_there.then(|| (edge.clone(), true)).into_iter().collect();
    places.extend(known.edges.iter().filter(is_other).map(|edge| (edge.clone(), false)));
    let has_others = known.ended.len() < context.tokens.len();
    checks.extend(known.ended.iter().map(|(name, end)| over(name, end, has_others)));
    let mut sessions = Vec::new();
    for (name, token) in context.tokens.iter().filter(|(name, _)| !known.ended.contains_key(*name)) {
        let all = token.servers.iter().any(|server| server == "*");
        let wanted = if all { &known.servers[..] } else { &token.servers[..] };
        let mut wanted: Vec<_> = wanted.iter().map(|server| Some(server.as_str())).collect();
        if wanted.is_empty() {
            wanted.push(None);
        }
        for server in wanted {
            sessions.extend(places.iter().map(|place| (name, server, place)));
        }
    }
    let left_out = sessions.len().saturating_sub(MAX_SESSIONS);
    for (token, server, (edge, is_named)) in sessions.into_iter().take(MAX_SESSIONS) {
        let context = Context { edge: Some(edge.clone()), ..context.clone() };
        checks.push(client(invocation, &context, token, server, *is_named).await);
    }
    if left_out > 0 {
        checks.push(Check::ok(CLIENTS, format!("{left_out} more were not tried")));
    }
    checks
}

/// What an edge makes of the bearer in a variable, which counts before those that are saved.
async fn of_environment(context: &Context) -> Option<Check> {
    match Caller::of_environment() {
        Ok(caller) => {
            let caller = caller?;
            Some(accepted(context, &caller, &caller.to_string(), true).await)
        }
        Err(error) => Some(Check::error(CLIENTS, error, AT_GIVER)),
    }
}

/// An error at an edge. Where a condition of a token does not hold here and now, nothing is out of order.
fn failed(error: &ClientError, told: Error, advice: &str) -> Check {
    match Unmet::of(error).is_some_and(|unmet| unmet.is_of_condition()) {
        true => as_ordered(told, advice),
        false => Check::error(CLIENTS, told, advice),
    }
}

/// A condition that does not hold here and now.
fn as_ordered(told: Error, advice: &str) -> Check {
    Check { outcome: Outcome::Warn, ..Check::error(CLIENTS, told, advice) }
}

/// A saved bearer that no edge takes any more, which is passed over where there are others.
fn over(token: &str, end: &str, has_others: bool) -> Check {
    let text = format!("saved token {token} {end}");
    let advice = format!(
        "run `mcpctl create token NAME --server SERVER` where it is still needed, and forget it with `mcpctl config \
         delete-bearer {token}`"
    );
    if has_others { Check::warn(CLIENTS, text, advice) } else { Check::fail(CLIENTS, text, advice) }
}

async fn client(
    invocation: &Invocation,
    context: &Context,
    token: &str,
    server: Option<&str>,
    is_named: bool,
) -> Check {
    let at_giver = if context.control.is_some() { AT_TOKENS } else { AT_GIVER };
    let flags = CallerFlags { token: Some(token.to_owned()), ..CallerFlags::default() };
    let (file, asked) = (invocation.context_file.path(), server.unwrap_or(ANY_SERVER));
    let found = callers(context, file, asked, Wanted::Anything, &flags);
    let prepared = found.and_then(|found| Ok((found, EdgeServer::of(context, asked, PATIENCE)?)));
    let (found, place) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Check::error(CLIENTS, error, at_giver),
    };
    let Some(caller) = found.first() else { return Check::error(CLIENTS, "nobody may call", at_giver) };
    let Some(server) = server else {
        return accepted(context, caller, &format!("token {token}"), is_named).await;
    };
    let (edge, started) = (&place.edge, Instant::now());
    match seen(&place, caller).await {
        Ok(seen) => {
            let took = started.elapsed().as_millis();
            let text = format!("server {server} at {edge} with token {token}: {}, in {took} ms", seen.text());
            match seen.is_nothing() {
                false => Check::ok(CLIENTS, text),
                true => Check::warn(CLIENTS, text, nothing(context, server, token)),
            }
        }
        Err(ClientError::Unreachable(why)) if !is_named => elsewhere(edge, &why),
        Err(error) => {
            let told = place.diagnosed(error.clone(), caller).await;
            failed(&error, told, at_giver)
        }
    }
}

/// What an edge makes of a bearer for every server, where none is known to call.
async fn accepted(context: &Context, caller: &Caller, whose: &str, is_named: bool) -> Check {
    let edge = context.edge.as_deref().unwrap_or_default();
    let at_giver = if context.control.is_some() { AT_TOKENS } else { AT_GIVER };
    match Acceptance::at(context, ANY_SERVER, caller, PATIENCE).await {
        Acceptance::Opened | Acceptance::Hidden => {
            let text = format!("the edge at {edge} accepts {whose}; no server is known here to call with it");
            Check::ok(CLIENTS, text)
        }
        Acceptance::Unmet(error) => as_ordered(error, at_giver),
        Acceptance::Rejected(error) => Check::error(CLIENTS, error, at_giver),
        Acceptance::Unknown(error) if is_named => Check::error(CLIENTS, error, at_giver),
        Acceptance::Unknown(error) => elsewhere(edge, &error.to_string()),
    }
}

/// An edge that is not where it says, as seen from here.
fn elsewhere(edge: &str, why: &str) -> Check {
    Check::warn(
        CLIENTS,
        format!("an edge says that it is at {edge}, which is not reached from here: {why}"),
        "nothing, if clients come through a load balancer; else start the edge with --advertise-address",
    )
}

/// What to look at where a client gets nothing.
fn nothing(context: &Context, server: &str, token: &str) -> String {
    if context.control.is_none() {
        return format!("ask whoever gave you token {token} what it may use");
    }
    format!(
        "run `mcpctl describe server {server}` to see what it exposes, and `mcpctl describe token {token}` to see what of that \
         the token may use"
    )
}

/// What is listed to a client.
struct Seen([(usize, &'static str); 3]);

impl Seen {
    fn is_nothing(&self) -> bool {
        self.0.iter().all(|(count, _)| *count == 0)
    }

    fn text(&self) -> String {
        let counts = self.0.iter().map(|(count, what)| parse::counted(*count, what));
        counts.collect::<Vec<_>>().join(", ")
    }
}

/// Counts what is listed.
async fn seen(server: &EdgeServer, caller: &Caller) -> Result<Seen, ClientError> {
    let authorization = caller.authorization().map_err(|error| ClientError::Protocol(error.to_string()))?;
    let session = server.open(authorization, "{}").await?;
    let mut seen = Seen([(0, "tool"), (0, "resource"), (0, "prompt")]);
    let methods = [Method::ToolsList, Method::ResourcesList, Method::PromptsList];
    for (method, (count, _)) in methods.into_iter().zip(&mut seen.0) {
        *count = match session.list_all(method, MAX_ITEMS).await {
            Ok(items) => items.len(),
            Err(ClientError::Unsupported | ClientError::Rpc { code: METHOD_NOT_FOUND, .. }) => 0,
            Err(error) => return Err(error),
        };
    }
    session.close().await;
    Ok(seen)
}
