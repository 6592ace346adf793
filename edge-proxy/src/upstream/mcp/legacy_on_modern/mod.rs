//! Calls of legacy clients at modern upstreams: each request carries what the session knows of the client.
//!
//! A task of its own makes the call: a legacy client that hangs up has not cancelled.

mod input_required;
mod translator;

use std::rc::Rc;

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use tokio::sync::{Notify, mpsc};

use self::input_required::InputLoop;
use self::translator::LegacyOnModern;
use crate::session::Conversation;
use crate::upstream::call::CallResponse;
use crate::upstream::call::{CallError, record_outcome};
use crate::upstream::mcp::McpCall;
use crate::upstream::mcp::in_flight::InFlightGuard;
use crate::upstream::mcp::relayed_stream::{RelaySource, RelayedMessage, RelayedStream};
use crate::upstream::mcp::rewrite::{content, requests};
use crate::upstream::mcp::translator::CallContext;
use crate::upstream::mcp::{same_modern, unreadable, without_client};
use crate::usage::{Account, Outcome};

/// Messages that wait for the client; each may be as large as an event.
const MAX_QUEUED: usize = 1;

/// Makes a call, as often as the upstream requires input.
pub(super) async fn call(
    mut call: McpCall<'_>,
    conversation: &Rc<Conversation>,
) -> Result<CallResponse, CallError> {
    let mut account = call.account.take();
    let input_loop = record_outcome(prepare(&call, conversation), &mut account)?;
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    let stop = Rc::new(Notify::new());
    let guard = InFlightGuard::with_stop(
        call.context,
        input_loop.translator.number,
        conversation.session_id,
        call.id(),
        Rc::clone(&stop),
    );
    tokio::task::spawn_local(run_in_background(input_loop, sender, stop, guard, account));
    let mut source = RelaySource::Task(receiver);
    let first = source.next().await;
    if let Some(RelayedMessage { message, is_final: true }) = first {
        return Ok(CallResponse::Json { status: StatusCode::OK, body: message });
    }
    let upstream = &call.permit.entry().upstream;
    let relayed = RelayedStream::new(call.context, upstream, call.id(), source, first, None);
    Ok(CallResponse::Events(Box::new(relayed).into()))
}

/// Runs the loop until there is a response, unless it is cancelled or, without a client that reads, must end.
async fn run_in_background(
    mut input_loop: InputLoop,
    client: mpsc::Sender<RelayedMessage>,
    stop: Rc<Notify>,
    _guard: InFlightGuard,
    account: Option<Account>,
) {
    let (context, permit) = (Rc::clone(&input_loop.context), input_loop.translator.call.active.clone());
    let left_for_good = async {
        client.closed().await;
        without_client::must_end(&context, &permit).await;
    };
    let (message, outcome) = tokio::select! {
        answered = input_loop.run(&client) => answered,
        // Dropping the loop closes the upstream's stream, which cancels the call there.
        () = stop.notified() => return,
        () = left_for_good => return,
    };
    if let Some(mut account) = account {
        account.ended(if client.is_closed() { Outcome::Cancelled } else { outcome }, message.len());
    }
    // A client that has gone does not read it.
    let _: Result<(), _> = client.send(RelayedMessage { message, is_final: true }).await;
}

fn prepare(call: &McpCall<'_>, conversation: &Rc<Conversation>) -> Result<InputLoop, CallError> {
    let upstream = &call.permit.entry().upstream;
    let number = call.context.mcp.next_request_id();
    let level = call.context.mcp.level(&conversation.session_id);
    let body = requests::to_modern(call, conversation, level.as_deref(), number).map_err(unreadable)?;
    let http_pool = call.context.http_pool(upstream)?;
    let headers = same_modern::headers(call, http_pool.headers.clone()).map_err(CallError::Client)?;
    let on_channel = call.upstream.transport.is_channel();
    let channels = on_channel.then(|| call.context.modern_channels(upstream, call.upstream)).transpose()?;
    let translator = LegacyOnModern {
        call: CallContext::of(call),
        session_id: conversation.session_id,
        permit: call.permit.clone(),
        exposed: call.named.exposed.as_ref().into(),
        progress_token: call.message.params.progress_token.map(|raw| call.message.slice(raw)),
        outdated: content::outdated(conversation.revision),
        number,
        on_channel,
    };
    Ok(InputLoop {
        context: Rc::clone(call.context),
        http_pool,
        channels,
        wants_logs: level.is_some(),
        headers,
        body,
        retry: call.retry(),
        translator,
        revision: conversation.revision,
        capabilities: conversation.capabilities.within(conversation.revision),
        accepts_events: accepts_events(call.headers),
        waiter: None,
        requests_sent: 0,
    })
}

/// Whether a client can be asked during its call: one that accepts JSON alone cannot.
fn accepts_events(headers: Option<&HeaderMap>) -> bool {
    let accepts = headers.and_then(|headers| headers.get(ACCEPT)).and_then(|value| value.to_str().ok());
    accepts.is_none_or(|accepts| accepts.contains(mcp::header::EVENT_STREAM) || accepts.contains("*/*"))
}
