//! Requests that the edge answers itself, from the snapshot: handshakes, lists, pings, log levels, ends of sessions.
//!
//! It must not call upstreams.

pub mod capabilities;
mod list;
pub mod listen;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use mcp::json;
use mcp::message::span;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use trunkline::edge::v1::SessionEvent;

use crate::context::{Arrival, RequestContext};
use crate::error::Failure;
use crate::observe::Bound;
use crate::os::clock;
use crate::policy::Arguments;
use crate::respond::Reply;
use crate::session::capabilities::Capabilities;
use crate::session::{
    Conversation, EndedSession, LogLevel, MAX_URI_BYTES, MAX_URIS, NotKept, Session, SessionOwner,
    SubscribingSession, event,
};
use crate::transport::Message;
use crate::upstream::SessionCommand;
use crate::usage::Outcome;
use crate::{policy, route};

/// Responds to a request for which no upstream is called.
pub async fn respond(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
) -> Result<Reply, Failure> {
    let mut account = context.account(method.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let id = message.envelope.id.unwrap_or("null");
    let reply = match (method, session) {
        (Method::Initialize, Session::Opening) => initialize(context, message, id)?,
        (Method::ServerDiscover, _) => discover(context, id),
        (Method::Ping, _) => result(id, "{}"),
        (Method::ResourcesSubscribe, Session::Legacy(conversation)) => {
            subscribe(context, conversation, message, id).await?
        }
        (Method::ResourcesUnsubscribe, Session::Legacy(conversation)) => {
            unsubscribe(context, conversation, message, id).await?
        }
        (Method::LoggingSetLevel, Session::Legacy(conversation)) => {
            set_level(context, conversation, message, id).await?
        }
        _ => list::page(context, session.era(), message, method)?,
    };
    account.ended(Outcome::Ok, reply.length());
    Ok(reply)
}

/// Handles a notification: of a cancelled call, which any edge may have.
pub async fn notification(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
) -> Result<Reply, Failure> {
    if let (Session::Legacy(conversation), Some(Method::Cancelled)) = (session, message.method) {
        let [id] = json::members(message.envelope.params.unwrap_or("{}"), ["requestId"])
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        if let Some(id) = id {
            let (shared, at) = (&context.worker.shared, span(message.body, id));
            let event = event::cancelled(&conversation.session_id, message.body, &at);
            shared.send_to_workers(&SessionCommand::Cancel {
                session_id: conversation.session_id,
                id: message.slice(id),
                notification: message.body.clone(),
                at,
            });
            broadcast(context, event).await;
        }
    }
    Ok(Reply::Accepted)
}

/// Ends a session, on every edge that can be reached.
pub async fn end(context: &RequestContext<'_>, conversation: &Conversation) -> Reply {
    let shared = &context.worker.shared;
    let owner = SessionOwner::of(&context.principal().uid);
    let ended = EndedSession { expires: conversation.expires, owner };
    shared.end(conversation.session_id, ended);
    broadcast(context, event::ended(&conversation.session_id, ended)).await;
    Reply::Done
}

/// Sends an event to the siblings, unless the session is a connection, which only this edge has.
async fn broadcast(context: &RequestContext<'_>, event: SessionEvent) {
    if let Arrival::Request(_) = context.arrival {
        context.worker.shared.environment.fleet.broadcast(event).await;
    }
}

fn result(id: &str, result: &str) -> Reply {
    Reply::json([format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into()])
}

fn initialize(context: &RequestContext<'_>, message: &Message<'_>, id: &str) -> Result<Reply, Failure> {
    let malformed = |_| Failure::params("params of initialize must be an object");
    let params = message.envelope.params.unwrap_or("{}");
    let [version, declared, client] =
        json::members(params, ["protocolVersion", "capabilities", "clientInfo"]).map_err(malformed)?;
    // A version that is no text is none.
    let version = version.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
    let revision = Revision::negotiate_legacy(&version);
    let declared = Capabilities::of_client(declared.unwrap_or("{}"))
        .map_err(|_| Failure::params("params.capabilities must be an object"))?;
    let lifetime = context.worker.shared.environment.limits.session_lifetime.as_secs();
    let conversation = Conversation::begin(revision, declared, &client_name(client), context.now(), lifetime);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"{revision}","capabilities":{},"serverInfo":{}{}}}}}"#,
        capabilities::of_caller(&context.caller, revision),
        context.server_info(),
        instructions(context),
    );
    let session = match context.arrival {
        Arrival::Request(_) => Some(session_header(context, &conversation)?),
        Arrival::Connection(session) => {
            session.begin(conversation)?;
            None
        }
    };
    Ok(Reply::Json { status: StatusCode::OK, parts: [Bytes::from(body)].into(), session })
}

/// Seals the session id that later requests bring along, each to whichever edge it reaches.
fn session_header(context: &RequestContext<'_>, conversation: &Conversation) -> Result<HeaderValue, Failure> {
    let internal = |error: &dyn std::fmt::Display| Failure::Internal(error.to_string());
    let owner = context.owner();
    let sealed = conversation.seal(&context.snapshot.trust, owner.server, owner.principal);
    HeaderValue::try_from(sealed.map_err(|error| internal(&error))?).map_err(|error| internal(&error))
}

fn client_name(info: Option<&str>) -> String {
    let [name, version] =
        info.and_then(|info| json::members(info, ["name", "version"]).ok()).unwrap_or_default();
    let text =
        |raw: Option<&str>| raw.and_then(|raw| json::string(raw).ok()).unwrap_or_default().into_owned();
    format!("{}/{}", text(name), text(version))
}

fn discover(context: &RequestContext<'_>, id: &str) -> Reply {
    let body = format!(
        r#"{{"resultType":"complete","supportedVersions":{},"capabilities":{}{},"ttlMs":0,"cacheScope":"private","_meta":{{"{}":{}}}}}"#,
        Revision::modern_json(),
        capabilities::of_caller(&context.caller, Revision::LATEST),
        instructions(context),
        meta::SERVER_INFO,
        context.server_info(),
    );
    result(id, &body)
}

fn instructions(context: &RequestContext<'_>) -> String {
    let text = &context.server().instructions;
    if text.is_empty() { String::new() } else { format!(r#","instructions":{}"#, json::quote(text)) }
}

/// Subscribes a session to a resource, for its GET stream at whichever edge.
async fn subscribe(
    context: &RequestContext<'_>,
    conversation: &Conversation,
    message: &Message<'_>,
    id: &str,
) -> Result<Reply, Failure> {
    let named = route::named(Method::ResourcesRead, message)?;
    if named.exposed.len() > MAX_URI_BYTES {
        return Err(Failure::params(format!("the URI is too long; the maximum is {MAX_URI_BYTES} bytes")));
    }
    let method = Method::ResourcesSubscribe;
    let permit = policy::check(&context.caller, method, &named, Arguments::Of(None))
        .map_err(|denied| context.refused(method.as_str(), &named, denied).of_target(&named))?;
    if capabilities::update_era(&permit.entry().upstream, Era::Legacy).is_none() {
        return Err(Failure::params("the upstream does not announce changes of this resource"));
    }
    let shared = &context.worker.shared;
    let subscriber = SubscribingSession::new(conversation, &context.principal().uid);
    let change = shared.subscriptions.change(subscriber, &named.exposed, true, clock::now_us());
    let change = change.map_err(|not_kept| match not_kept {
        NotKept::TooManyUris => {
            Failure::params(format!("too many subscriptions; the maximum for a session is {MAX_URIS}"))
        }
        NotKept::NoRoom(no_room) => shared.no_room(Bound::Subscriptions, no_room),
    })?;
    broadcast(context, event::subscription_changed(subscriber, &change)).await;
    Ok(result(id, "{}"))
}

async fn unsubscribe(
    context: &RequestContext<'_>,
    conversation: &Conversation,
    message: &Message<'_>,
    id: &str,
) -> Result<Reply, Failure> {
    let named = route::named(Method::ResourcesRead, message)?;
    let (uri, subscriptions) = (&named.exposed, &context.worker.shared.subscriptions);
    // What nobody can have subscribed to takes no memory. What was subscribed to ends, also without the right to it.
    let unsubscribe = Method::ResourcesUnsubscribe;
    let is_readable = || policy::check(&context.caller, unsubscribe, &named, Arguments::Of(None)).is_ok();
    if uri.len() > MAX_URI_BYTES || !(subscriptions.knows(conversation, uri) || is_readable()) {
        return Ok(result(id, "{}"));
    }
    let subscriber = SubscribingSession::new(conversation, &context.principal().uid);
    let change = subscriptions.change(subscriber, uri, false, clock::now_us());
    // If there was no room to store it, nothing was subscribed to either.
    if let Ok(change) = change {
        broadcast(context, event::subscription_changed(subscriber, &change)).await;
    }
    Ok(result(id, "{}"))
}

/// Sets the level of all upstream sessions that the calls of this conversation use, or will use, on any edge.
async fn set_level(
    context: &RequestContext<'_>,
    conversation: &Rc<Conversation>,
    message: &Message<'_>,
    id: &str,
) -> Result<Reply, Failure> {
    let [level] = json::members(message.envelope.params.unwrap_or("{}"), ["level"])
        .map_err(|error| Failure::params(error.to_string()))?;
    let level = level.filter(|raw| LogLevel::parse(raw).is_some());
    let level = level.ok_or_else(|| Failure::params("params.level is not a log level"))?;
    let upstreams: Vec<_> =
        context.view().upstreams().iter().filter(|upstream| upstream.logs()).cloned().collect();
    let shared = &context.worker.shared;
    let changed_us = shared.levels.next(&conversation.session_id, clock::now_us());
    let owner = SessionOwner::of(&context.principal().uid);
    let ids = upstreams.iter().map(|upstream| &*upstream.id);
    let event = event::level_set(conversation, owner, ids, level.as_bytes(), changed_us);
    shared.send_to_workers(&SessionCommand::SetLevel {
        upstreams,
        conversation: Arc::new(Conversation::clone(conversation)),
        // Kept for the session, and the body is not.
        level: Bytes::copy_from_slice(level.as_bytes()),
    });
    shared.levels.set(conversation, owner, event.clone(), changed_us, context.now());
    broadcast(context, event).await;
    Ok(result(id, "{}"))
}
