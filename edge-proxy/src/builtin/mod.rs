//! What the edge answers by itself, from the snapshot: handshakes, lists, pings, levels, ends of sessions.
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

use crate::error::Failure;
use crate::respond::Reply;
use crate::scene::{Came, Scene};
use crate::session::capabilities::Capabilities;
use crate::session::{Conversation, Level, MAX_URI_BYTES, MAX_URIS, Session, event};
use crate::transport::Message;
use crate::upstream::SessionCommand;
use crate::usage::Outcome;
use crate::{clock, route};

/// Answers a request that leads to no upstream.
pub async fn answer(
    scene: &Scene<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
) -> Result<Reply, Failure> {
    let mut account = scene.account(method.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let id = message.envelope.id.unwrap_or("null");
    let reply = match (method, session) {
        (Method::Initialize, Session::Opening) => initialize(scene, message, id)?,
        (Method::ServerDiscover, _) => discover(scene, id),
        (Method::Ping, _) => result(id, "{}"),
        (Method::ResourcesSubscribe, Session::Legacy(conversation)) => {
            subscribe(scene, conversation, message, id).await?
        }
        (Method::ResourcesUnsubscribe, Session::Legacy(conversation)) => {
            unsubscribe(scene, conversation, message, id).await?
        }
        (Method::LoggingSetLevel, Session::Legacy(conversation)) => {
            set_level(scene, conversation, message, id).await?
        }
        _ => list::page(scene, session.era(), message, method)?,
    };
    account.ended(Outcome::Ok, reply.length());
    Ok(reply)
}

/// Takes a notification. All that matters here is which call is no longer wanted; any edge may have it.
pub async fn notification(
    scene: &Scene<'_>,
    session: &Session,
    message: &Message<'_>,
) -> Result<Reply, Failure> {
    if let (Session::Legacy(conversation), Some(Method::Cancelled)) = (session, message.method) {
        let [id] = json::members(message.envelope.params.unwrap_or("{}"), ["requestId"])
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        if let Some(id) = id {
            let (shared, at) = (&scene.worker.shared, span(message.body, id));
            let told = event::cancelled(&conversation.jti, message.body, &at);
            shared.order(&SessionCommand::Cancel {
                jti: conversation.jti,
                id: message.slice(id),
                notification: message.body.clone(),
                at,
            });
            tell(scene, told).await;
        }
    }
    Ok(Reply::Accepted)
}

/// Ends a session, on every edge that can be reached.
pub async fn end(scene: &Scene<'_>, conversation: &Conversation) -> Reply {
    let shared = &scene.worker.shared;
    shared.end(conversation.jti, conversation.expires);
    tell(scene, event::ended(&conversation.jti, conversation.expires)).await;
    Reply::Done
}

/// Tells the other edges, unless the session is a connection, which this edge has.
async fn tell(scene: &Scene<'_>, event: SessionEvent) {
    if let Came::Alone(_) = scene.came {
        scene.worker.shared.peers.tell(event).await;
    }
}

fn result(id: &str, result: &str) -> Reply {
    Reply::json([format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into()])
}

fn initialize(scene: &Scene<'_>, message: &Message<'_>, id: &str) -> Result<Reply, Failure> {
    let malformed =
        |_| Failure::params("params of initialize must have protocolVersion, capabilities and clientInfo");
    let params = message.envelope.params.unwrap_or("{}");
    let [version, declared, client] =
        json::members(params, ["protocolVersion", "capabilities", "clientInfo"]).map_err(malformed)?;
    let version = json::string(version.unwrap_or("\"\"")).map_err(malformed)?;
    let revision = Revision::negotiate_legacy(&version);
    let declared = Capabilities::of_client(declared.unwrap_or("{}")).map_err(malformed)?;
    let lifetime = scene.worker.shared.limits.session_lifetime.as_secs();
    let begun = Conversation::begin(revision, declared, &client_name(client), scene.now, lifetime);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"{revision}","capabilities":{},"serverInfo":{}{}}}}}"#,
        capabilities::of_view(scene.view, revision),
        scene.server_info(),
        instructions(scene),
    );
    let session = match scene.came {
        Came::Alone(_) => Some(session_id(scene, &begun)?),
        Came::On(session) => {
            session.begin(begun)?;
            None
        }
    };
    Ok(Reply::Json { status: StatusCode::OK, parts: [Bytes::from(body)].into(), session })
}

/// What later requests of the conversation bring along, each to whichever edge it meets.
fn session_id(scene: &Scene<'_>, conversation: &Conversation) -> Result<HeaderValue, Failure> {
    let internal = |error: &dyn std::fmt::Display| Failure::Internal(error.to_string());
    let owner = scene.owner();
    let sealed = conversation.seal(&scene.snapshot.trust, owner.server, owner.token);
    HeaderValue::try_from(sealed.map_err(|error| internal(&error))?).map_err(|error| internal(&error))
}

fn client_name(info: Option<&str>) -> String {
    let [name, version] =
        info.and_then(|info| json::members(info, ["name", "version"]).ok()).unwrap_or_default();
    let text =
        |raw: Option<&str>| raw.and_then(|raw| json::string(raw).ok()).unwrap_or_default().into_owned();
    format!("{}/{}", text(name), text(version))
}

fn discover(scene: &Scene<'_>, id: &str) -> Reply {
    let body = format!(
        r#"{{"resultType":"complete","supportedVersions":{},"capabilities":{}{},"ttlMs":0,"cacheScope":"private","_meta":{{"{}":{}}}}}"#,
        Revision::modern_json(),
        capabilities::of_view(scene.view, Revision::LATEST),
        instructions(scene),
        meta::SERVER_INFO,
        scene.server_info(),
    );
    result(id, &body)
}

fn instructions(scene: &Scene<'_>) -> String {
    let text = &scene.view.server.instructions;
    if text.is_empty() { String::new() } else { format!(r#","instructions":{}"#, json::quote(text)) }
}

/// Remembers that a session wants to hear of a resource, wherever its GET stream is, which does the rest.
async fn subscribe(
    scene: &Scene<'_>,
    conversation: &Conversation,
    message: &Message<'_>,
    id: &str,
) -> Result<Reply, Failure> {
    let named = route::named(Method::ResourcesRead, message)?;
    if named.exposed.len() > MAX_URI_BYTES {
        return Err(Failure::params(format!("the URI is too long; the maximum is {MAX_URI_BYTES} bytes")));
    }
    let permit = listen::permit(scene.view, &named.exposed).ok_or_else(|| named.unknown())?;
    if capabilities::told_in(&permit.entry().upstream, Era::Legacy).is_none() {
        return Err(Failure::params("the upstream does not announce changes of this resource"));
    }
    let change =
        scene.worker.shared.subscriptions.change(conversation, &named.exposed, true, clock::now_us());
    let change = change.ok_or_else(|| {
        Failure::params(format!("too many subscriptions; the maximum for a session is {MAX_URIS}"))
    })?;
    tell(scene, event::subscription_changed(&conversation.jti, conversation.expires, &change)).await;
    Ok(result(id, "{}"))
}

async fn unsubscribe(
    scene: &Scene<'_>,
    conversation: &Conversation,
    message: &Message<'_>,
    id: &str,
) -> Result<Reply, Failure> {
    let uri = route::named(Method::ResourcesRead, message)?.exposed;
    let change = scene.worker.shared.subscriptions.change(conversation, &uri, false, clock::now_us());
    // Where there was no room to remember it, nothing was subscribed to either.
    if let Some(change) = change {
        tell(scene, event::subscription_changed(&conversation.jti, conversation.expires, &change)).await;
    }
    Ok(result(id, "{}"))
}

/// A level for all upstream sessions that this conversation's calls use, or will use, on any edge.
async fn set_level(
    scene: &Scene<'_>,
    conversation: &Rc<Conversation>,
    message: &Message<'_>,
    id: &str,
) -> Result<Reply, Failure> {
    let [level] = json::members(message.envelope.params.unwrap_or("{}"), ["level"])
        .map_err(|error| Failure::params(error.to_string()))?;
    let level = level.filter(|raw| Level::parse(raw).is_some());
    let level = level.ok_or_else(|| Failure::params("params.level is not a log level"))?;
    let upstreams: Vec<_> =
        scene.view.upstreams().iter().filter(|upstream| upstream.logs()).cloned().collect();
    let shared = &scene.worker.shared;
    let said_us = shared.levels.next(&conversation.jti, clock::now_us());
    let told = event::level_set(conversation, upstreams.iter().map(|up| &*up.id), level.as_bytes(), said_us);
    shared.order(&SessionCommand::SetLevel {
        upstreams,
        conversation: Arc::new(Conversation::clone(conversation)),
        level: message.slice(level),
    });
    shared.levels.set(conversation, told.clone(), said_us, scene.now);
    tell(scene, told).await;
    Ok(result(id, "{}"))
}
