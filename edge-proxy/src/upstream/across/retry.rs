//! A modern client that brings answers: to the upstream that waits for them, or to whoever holds its call.

use std::collections::HashMap;
use std::rc::Rc;

use http::{HeaderMap, HeaderValue};
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::json::{self, JsonError};
use tokio::sync::mpsc;

use super::hold::ResumeInput;
use super::park::{self, Questions, asking};
use super::parked::{Asked, Belongs, Parked, Way, digest};
use super::{driven, modern_client, unreadable};
use crate::account::Account;
use crate::error::{Failure, Fault};
use crate::held::{Delivery, Undelivered};
use crate::session::Owner;
use crate::upstream::call::{Call, CallError};
use crate::upstream::upstream_stream::UpstreamStream;
use crate::upstream::session_messages;
use crate::upstream::legacy::UpstreamSession;
use crate::upstream::response::CallResponse;
use crate::upstream::call_tasks::CallTasks;
use crate::upstream::relayed_stream::{RelaySource, RelayedStream};
use crate::upstream::translation::{UpstreamEra, Translation};
use crate::usage::Outcome;

/// Messages of a held call that may wait for its client.
const MAX_WAITING: usize = 16;

/// Goes on with the call that `state`, raw JSON, names.
pub(super) async fn call(
    call: &Call<'_>,
    state: &str,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let params = &call.message.params;
    let belongs = Belongs {
        owner: Owner { server: &call.server.uid, token: &call.token.uid },
        method: call.method,
        exposed: &call.named.exposed,
        digest: &digest(params.arguments),
    };
    let text = json::string(state).map_err(unreadable)?;
    let parked = Parked::open(call.trust, belongs, &text)
        .filter(|parked| parked.upstream == call.permit.entry().upstream.id)
        .ok_or_else(unknown)?;
    let answers = answers(call)?;
    match parked.way {
        Way::Again if parked.open.iter().all(|asked| answers.contains_key(&asked.key())) => {
            modern_client::begin(call, account).await
        }
        Way::Task if parked.open.iter().all(|asked| answers.contains_key(&asked.key())) => {
            follow_task(call, &parked, &answers, account).await
        }
        Way::Again | Way::Task => Ok(ask_again(call, &parked.open, &text, account)),
        Way::Held => deliver(call, &parked, &answers, account).await,
        Way::Event(_) if parked.open.iter().any(|asked| answers.contains_key(&asked.key())) => {
            resume(call, parked, &answers, account).await
        }
        Way::Event(_) => Ok(ask_again(call, &parked.open, &text, account)),
    }
}

fn unknown() -> CallError {
    CallError::Client(Failure::params(
        "params.requestState is not one that was given for this call, or is too old",
    ))
}

/// `inputResponses`, by key. Each is an object.
fn answers<'a>(call: &Call<'a>) -> Result<HashMap<String, &'a str>, CallError> {
    let [responses] = json::members(call.message.envelope.params.unwrap_or("{}"), ["inputResponses"])
        .map_err(unreadable)?;
    let mut answers = HashMap::new();
    json::each_member(responses.unwrap_or("{}"), |key, response| {
        if response.starts_with('{') {
            answers.insert(json::string(key)?.into_owned(), response);
        }
        Ok::<_, JsonError>(())
    })
    .map_err(unreadable)?;
    Ok(answers)
}

/// The same questions once more, for a client that brought no answer.
fn ask_again(call: &Call<'_>, open: &[Asked], state: &str, account: &mut Option<Account>) -> CallResponse {
    let body = asking(&call.id(), open, state);
    if let Some(account) = account {
        account.ended(Outcome::Ok, body.len());
    }
    CallResponse::Json { status: http::StatusCode::OK, body }
}

/// Posts the answers, and waits for the task once more.
async fn follow_task(
    call: &Call<'_>,
    parked: &Parked,
    answers: &HashMap<String, &str>,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let translation = joined(call, parked)?;
    relieve(call, parked);
    for asked in &parked.open {
        let Some(response) = answers.get(&asked.key()) else { continue };
        let told = session_messages::send_confirmed(call.worker, &translation, park::answer(asked, response)).await;
        told.map_err(|fault| lost(call, &fault))?;
    }
    driven::go_on(call, translation, account)
}

/// Whoever looks after a parked call need not any more.
fn relieve(call: &Call<'_>, parked: &Parked) {
    let Some(place) = parked.place.clone() else { return };
    let shared = std::sync::Arc::clone(&call.worker.shared);
    tokio::task::spawn_local(async move {
        let taken = Delivery { message: bytes::Bytes::new(), answers: None };
        if let Err(gone) = shared.peers.deliver(&place, taken).await {
            tracing::debug!(%gone, "nobody looked after a parked call");
        }
    });
}

fn lost(call: &Call<'_>, fault: &Fault) -> CallError {
    tracing::debug!(upstream = %call.permit.entry().upstream.id, %fault, "a parked call is lost");
    CallError::Upstream(Fault::Lost { retryable: call.is_safe() })
}

/// Posts the answers, and resumes the stream of the call where it was left.
async fn resume(
    call: &Call<'_>,
    parked: Parked,
    answers: &HashMap<String, &str>,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let Way::Event(event) = &parked.way else { return Err(unknown()) };
    let event = HeaderValue::from_bytes(event).map_err(|_| unknown())?;
    let worker = call.worker;
    let mut stream = UpstreamStream::resumed(worker, joined(call, &parked)?, event);
    stream.questions = Questions::of(&parked);
    let taken: Vec<_> = answers
        .iter()
        .filter_map(|(key, response)| Some(park::answer(&stream.questions.take(key)?, response)))
        .collect();
    relieve(call, &parked);
    let translation = stream.translation.clone();
    let told = async {
        for body in taken {
            session_messages::send_confirmed(worker, &translation, body).await?;
        }
        Ok(())
    };
    let lost = |fault: Fault| lost(call, &fault);
    if !stream.questions.open.is_empty() {
        told.await.map_err(lost)?;
        stream.account = account.take();
        stream.questions.ask_now();
        return Ok(CallResponse::Events(Box::new(AnswerStream::Upstream(stream))));
    }
    // First the stream, then the answers: what follows on them must find a reader.
    stream.reconnect_now().await.map_err(lost)?;
    stream.confirm_resumed().await.map_err(lost)?;
    told.await.map_err(lost)?;
    stream.attach_account(account.take());
    Ok(CallResponse::Events(Box::new(AnswerStream::Upstream(stream))))
}

/// What the messages of a parked call are on both sides, wherever it was begun.
fn joined(call: &Call<'_>, parked: &Parked) -> Result<Translation, CallError> {
    let upstream = &call.permit.entry().upstream;
    let mut headers: HeaderMap = call.worker.upstreams.http_pool(upstream)?.headers.clone();
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).map_err(|_| unknown());
    headers.insert(PROTOCOL_VERSION, value(&parked.version)?);
    if !parked.session.is_empty() {
        headers.insert(SESSION_ID, value(&parked.session)?);
    }
    let upstream_era = UpstreamEra::Legacy {
        session: Rc::new(UpstreamSession::joined(headers)),
        number: parked.number,
        progress_token: call.message.params.progress_token.map(|raw| call.message.slice(raw)),
        resumable: false,
        requests: Vec::new(),
        modern_client: Some(Box::new(modern_client::modern_client_of(call)?)),
    };
    let mut translation = modern_client::translation(call, upstream_era);
    if !parked.task.is_empty() {
        translation.tasks = CallTasks::awaited(&parked.task, parked.number);
    }
    Ok(translation)
}

/// Brings the answers to whoever holds the call, and passes on what follows.
async fn deliver(
    call: &Call<'_>,
    parked: &Parked,
    answers: &HashMap<String, &str>,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let lost = || CallError::Upstream(Fault::Lost { retryable: call.is_safe() });
    let place = parked.place.as_ref().ok_or_else(unknown)?;
    let modern_client = modern_client::modern_client_of(call)?;
    let input = ResumeInput {
        id: call.id(),
        progress_token: call.message.params.progress_token.map(|raw| call.message.slice(raw)),
        level: modern_client.level,
        answers: answers.iter().map(|(key, answer)| (key.clone(), (*answer).to_owned())).collect(),
    };
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let delivery = Delivery { message: input.encode(), answers: Some(sender) };
    match call.worker.shared.peers.deliver(place, delivery).await {
        Ok(()) => {}
        Err(Undelivered::Gone) => return Err(lost()),
        Err(_) => return Err(CallError::Client(Failure::Overloaded)),
    }
    let mut teller = RelaySource::Waiter(receiver);
    let first = teller.next().await.ok_or_else(lost)?;
    let upstream = &call.permit.entry().upstream;
    let told = RelayedStream::new(call.worker, upstream, call.id(), teller, Some(first), account.take());
    Ok(CallResponse::Events(Box::new(AnswerStream::Relayed(told))))
}
