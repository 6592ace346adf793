//! A legacy client's call at a modern upstream, which is told in each request what the session knows of the client.
//!
//! A task of its own carries it on: a legacy client that hangs up has not cancelled.

use std::rc::Rc;
use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use tokio::sync::{Notify, mpsc};

use super::rounds::Rounds;
use super::{requests, unreadable};
use crate::account::Account;
use crate::session::Conversation;
use crate::upstream::call::{Call, CallError, record_outcome};
use crate::upstream::content;
use crate::upstream::in_flight::InFlightGuard;
use crate::upstream::modern;
use crate::upstream::response::CallResponse;
use crate::upstream::call_tasks::CallTasks;
use crate::upstream::relayed_stream::{RelayedMessage, RelaySource, RelayedStream};
use crate::upstream::translation::{LegacyClient, UpstreamEra, Translation};

/// Messages that may wait for the client to read.
const MAX_WAITING: usize = 16;

/// Makes a call on channels of its own, as many as the upstream asks questions.
pub(in crate::upstream) async fn call(
    mut call: Call<'_>,
    conversation: &Rc<Conversation>,
) -> Result<CallResponse, CallError> {
    let mut account = call.account.take();
    let rounds = record_outcome(prepare(&call, conversation), &mut account)?;
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let stop = Rc::new(Notify::new());
    let guard = InFlightGuard::with_stop(call.worker, rounds.number(), conversation.jti, call.id(), Rc::clone(&stop));
    tokio::task::spawn_local(carry_on(rounds, sender, stop, guard, account));
    let mut teller = RelaySource::Task(receiver);
    let first = teller.next().await;
    if let Some(RelayedMessage { message, last: true }) = first {
        return Ok(CallResponse::Json { status: StatusCode::OK, body: message });
    }
    let upstream = &call.permit.entry().upstream;
    let told = RelayedStream::new(call.worker, upstream, call.id(), teller, first, None);
    Ok(CallResponse::Events(Box::new(AnswerStream::Relayed(told))))
}

/// Goes on until there is an answer, whether the client still reads or not, unless it says that it wants none.
async fn carry_on(
    mut rounds: Rounds,
    client: mpsc::Sender<RelayedMessage>,
    stop: Rc<Notify>,
    _guard: InFlightGuard,
    account: Option<Account>,
) {
    let (message, outcome) = tokio::select! {
        answered = rounds.answer(&client) => answered,
        // What is dropped here closes the upstream's stream, which cancels the call there.
        () = stop.notified() => return,
    };
    if let Some(mut account) = account {
        account.ended(outcome, message.len());
    }
    // A client that has gone does not read it.
    let _: Result<(), _> = client.send(RelayedMessage { message, last: true }).await;
}

fn prepare(call: &Call<'_>, conversation: &Rc<Conversation>) -> Result<Rounds, CallError> {
    let upstream = Arc::clone(&call.permit.entry().upstream);
    let number = call.worker.upstreams.number();
    let level = call.worker.upstreams.level(&conversation.jti);
    let body = requests::to_modern(call, conversation, level.as_deref(), number).map_err(unreadable)?;
    let http_pool = call.worker.upstreams.http_pool(&upstream)?;
    let headers = modern::headers(call, http_pool.headers.clone()).map_err(CallError::Client)?;
    let translation = Translation {
        trust: Arc::clone(call.trust),
        server: Arc::clone(call.server),
        token: Arc::clone(call.token),
        permit: call.permit.clone(),
        upstream,
        method: call.method,
        id: call.id(),
        uri_prefix: call.permit.entry().uri_prefix.clone(),
        outdated: content::outdated(conversation.revision),
        tasks: CallTasks::None,
        upstream_era: UpstreamEra::Modern {
            exposed: call.named.exposed.as_ref().into(),
            legacy_client: Some(LegacyClient { number }),
        },
    };
    Ok(Rounds {
        worker: Rc::clone(call.worker),
        http_pool,
        headers,
        body,
        retry: call.retry(),
        translation,
        revision: conversation.revision,
        capabilities: conversation.capabilities.within(conversation.revision),
        reads_events: reads_events(call.headers),
        holding: None,
        asked: 0,
    })
}

/// Whether a client can be asked in the middle of its call: what accepts JSON alone cannot.
fn reads_events(headers: Option<&HeaderMap>) -> bool {
    let accepts = headers.and_then(|headers| headers.get(ACCEPT)).and_then(|value| value.to_str().ok());
    accepts.is_none_or(|accepts| accepts.contains(mcp::header::EVENT_STREAM) || accepts.contains("*/*"))
}
