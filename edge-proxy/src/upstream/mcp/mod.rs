//! Upstreams that speak MCP: both eras, over every transport, and the translation of their messages.
//!
//! It must not know how the client is spoken to.

mod arguments;
mod awaited_response;
mod call_tasks;
mod channel;
mod detached;
mod event_stream;
mod in_flight;
mod incoming;
mod input_requests;
mod legacy_on_modern;
mod message_source;
mod modern_on_legacy;
mod outcome;
mod reconnect;
mod relayed_stream;
mod repeat;
mod reply_queue;
mod response;
mod rewrite;
mod route;
mod same_legacy;
mod same_modern;
mod server_requests;
mod session;
mod session_messages;
mod state;
mod subscription;
mod task;
mod translator;
mod upstream_stream;
mod without_client;

use std::fmt::Display;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use mcp::header::{ACCEPT_BOTH, JSON};
use mcp::json::JsonError;
use mcp::message::Envelope;

pub use self::in_flight::SessionCommand;
pub(super) use self::modern_on_legacy::ModernOnLegacy;
pub(super) use self::relayed_stream::RelayedStream;
pub use self::rewrite::masks::task_without;
use self::rewrite::own_uris;
use self::route::{Path, route};
pub use self::same_legacy::Resumption;
pub(super) use self::same_legacy::{SameLegacy, resume};
pub(super) use self::same_modern::SameModern;
pub use self::server_requests::ServerRequestId;
pub(super) use self::server_requests::deliver_response;
pub use self::session::{ExclusiveSessions, SessionLosses};
pub(super) use self::state::State;
pub(super) use self::subscription::subscribe;
pub use self::subscription::{SubscriptionNotice, SubscriptionTargets, UpstreamSubscription};
pub use self::task::{Task, poll_interval};
pub(super) use self::upstream_stream::UpstreamStream;
use super::call::{Call, CallError, CallResponse, record_outcome};
use crate::error::{ErrorContext, Failure, Fault};
use crate::route::NamedTarget;
use crate::snapshot::McpUpstream;
use crate::transport::Message;

/// Longest text of an upstream that is kept for a call or a session, such as the id of a request, a task or a session, in
/// bytes.
const MAX_KEPT: usize = 1_024;

/// A call at an MCP upstream.
struct McpCall<'a> {
    call: Call<'a>,
    upstream: &'a McpUpstream,
}

impl<'a> Deref for McpCall<'a> {
    type Target = Call<'a>;

    fn deref(&self) -> &Call<'a> {
        &self.call
    }
}

impl DerefMut for McpCall<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.call
    }
}

/// Returns the headers of every request.
pub(super) fn request_headers() -> [(HeaderName, HeaderValue); 3] {
    [
        (CONTENT_TYPE, HeaderValue::from_static(JSON)),
        (ACCEPT, HeaderValue::from_static(ACCEPT_BOTH)),
        // Without it every coding is welcome (RFC 9110 section 12.5.3).
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    ]
}

/// Makes a call, with the upstream's own URIs where the client hands on what it knows by other names.
pub(super) async fn call(call: Call<'_>, upstream: &McpUpstream) -> Result<CallResponse, CallError> {
    if call.server.renames_uris {
        let mut uris = call.active.readable();
        let body = own_uris::in_request(call.message, call.method, |uri| uris.own(uri));
        drop(uris);
        if let Some(body) = body {
            return Box::pin(call_with(call, &body, upstream)).await;
        }
    }
    call_in_era(call, upstream).await
}

/// Makes a call with another body than the client's, which names the same target.
#[cold]
async fn call_with(call: Call<'_>, body: &Bytes, upstream: &McpUpstream) -> Result<CallResponse, CallError> {
    let envelope = Envelope::parse(body).map_err(malformed)?;
    let mut error_context = ErrorContext { id: None, era: call.session.era() };
    let message = Message::new(body, envelope, &mut error_context).map_err(CallError::Client)?;
    let raw = call.method.target().member().and_then(|member| match member {
        "uri" => message.params.uri,
        _ => message.params.name,
    });
    let raw = raw.unwrap_or(call.named.raw);
    let named = NamedTarget { kind: call.named.kind, exposed: call.named.exposed.clone(), raw };
    call_in_era(Call { message: &message, named: &named, ..call }, upstream).await
}

/// Makes a call, in the era of the upstream that suits the client's best, or in that of the task that it concerns.
async fn call_in_era(call: Call<'_>, upstream: &McpUpstream) -> Result<CallResponse, CallError> {
    let session = call.session;
    let era = match &call.task {
        None => upstream.side_for(session.era()),
        Some((task, _)) => Some(task.era()).filter(|era| upstream.speaks(*era)),
    };
    let path = era.and_then(|era| route(session, era, call.task.is_some()));
    let mut call = McpCall { call, upstream };
    match path {
        Some(Path::SameLegacy(conversation)) => same_legacy::call(call, conversation).await,
        Some(Path::SameModern) => same_modern::call(call).await,
        Some(Path::LegacyOnModern(conversation)) => legacy_on_modern::call(call, conversation).await,
        Some(Path::ModernOnLegacy) => modern_on_legacy::call(call).await,
        Some(Path::ModernAboutLegacyTask) => Box::pin(modern_on_legacy::call_about_task(call)).await,
        None => record_outcome(Err(Fault::Era(session.era()).into()), &mut call.account),
    }
}

/// Returns the fault of a message that cannot be parsed or translated.
fn malformed(error: impl Display) -> Fault {
    Fault::Malformed(error.to_string())
}

/// Returns the error of params that cannot be parsed.
fn unreadable(error: JsonError) -> CallError {
    CallError::Client(Failure::params(format!("params: {error}")))
}
