//! A tool of a legacy upstream that can be called as a task alone, for a modern client that knows nothing of tasks: the
//! task is begun and waited for, and its result is the answer.
//!
//! A task of this worker waits, until the client hangs up, which cancels it. It must not know how a call is parked.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mcp::json;
use mcp::message::Envelope;
use mcp::method::Method;
use mcp::revision::Era;
use tokio::sync::mpsc;

use super::modern_client::{Leaving, modern_client_of, translation};
use super::{requests, unreadable};
use crate::account::Account;
use crate::error::{Asked, Failure, Fault};
use crate::upstream::call::{Call, CallError};
use crate::upstream::upstream_stream::UpstreamStream;
use crate::upstream::http_pool::Retry;
use crate::upstream::legacy::{SessionKey, SessionPool, SessionTransport};
use crate::upstream::message_source::RawResponse;
use crate::upstream::response::{CallResponse, read_response, read_rpc_response};
use crate::upstream::call_tasks::CallTasks;
use crate::upstream::relayed_stream::{RelayedMessage, RelaySource, RelayedStream, outcome_of_response};
use crate::upstream::translation::{ModernClient, UpstreamEra, Translation};
use crate::upstream::{session_messages, task};
use crate::worker::Worker;

/// Messages that may wait for the client to read.
const MAX_WAITING: usize = 16;
/// How often a task is asked about where its server does not say.
const PACE: Duration = Duration::from_secs(1);
/// The bounds of what servers say about that.
const FASTEST: Duration = Duration::from_millis(50);
const SLOWEST: Duration = Duration::from_secs(60);
/// How late the result of a task may be that is over.
const GRACE: Duration = Duration::from_secs(5);
/// How often in a row a server may fail to say how a task stands.
const MAX_MISSES: u32 = 3;
/// How often the result is asked for, where its stream is cut off.
const MAX_ATTEMPTS: usize = 10;

/// A task that a call began.
struct Begun {
    /// Its raw id.
    id: Box<str>,
    /// How long to wait before it is asked about.
    pause: Duration,
}

/// A call that waits for its task.
struct Driver {
    worker: Rc<Worker>,
    pool: Rc<SessionPool>,
    translation: Translation,
    client: mpsc::Sender<RelayedMessage>,
    pause: Duration,
}

/// Calls a tool as a task, and answers with its result.
pub(super) async fn call(
    call: &Call<'_>,
    modern_client: ModernClient,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let worker = call.worker;
    let upstream = &call.permit.entry().upstream;
    let pool = worker.upstreams.session_pool(upstream, SessionKey::of_modern_clients(upstream, modern_client.capabilities))?;
    let number = worker.upstreams.number();
    let body = requests::to_legacy(call, number, Some("{}")).map_err(unreadable)?;
    if let Some(level) = modern_client.level {
        pool.ensure_level(level).await;
    }
    let mut leaving = Leaving { pool: Rc::clone(&pool), number, armed: true };
    let sent = pool.call(number, &body, call.retry()).await;
    leaving.armed = matches!(sent, Err(Fault::Timeout));
    let (answered, session) = sent?;
    let upstream_era = UpstreamEra::Legacy {
        session,
        number,
        progress_token: call.message.params.progress_token.map(|raw| call.message.slice(raw)),
        resumable: false,
        requests: Vec::new(),
        // What is asked before there is a task could not be gone on with.
        modern_client: Some(Box::new(ModernClient { capabilities: Default::default(), ..modern_client.clone() })),
    };
    let mut translation = translation(call, upstream_era);
    let begun = read_response(worker, answered, translation.clone(), &mut None, None).await?;
    if let CallResponse::Json { status, body } = &begun
        && Begun::of(body).is_none()
    {
        if let Some(account) = account {
            account.ended(outcome_of_response(body), body.len());
        }
        return Ok(CallResponse::Json { status: *status, body: body.clone() });
    }
    if let UpstreamEra::Legacy { modern_client: its, .. } = &mut translation.upstream_era {
        *its = Some(Box::new(modern_client));
    }
    Ok(drive(call, pool, translation, Some(begun), account))
}

/// Waits once more for the task of a call that was parked, in whose session its client's answers are.
pub(super) fn go_on(
    call: &Call<'_>,
    translation: Translation,
    account: &mut Option<Account>,
) -> Result<CallResponse, CallError> {
    let upstream = &call.permit.entry().upstream;
    let pool = call.worker.upstreams.session_pool(upstream, SessionKey::of_modern_clients(upstream, modern_client_of(call)?.capabilities))?;
    Ok(drive(call, pool, translation, None, account))
}

/// Lets a task of this worker wait. What was `begun` may be a task or the answer.
fn drive(
    call: &Call<'_>,
    pool: Rc<SessionPool>,
    translation: Translation,
    begun: Option<CallResponse>,
    account: &mut Option<Account>,
) -> CallResponse {
    let (client, receiver) = mpsc::channel(MAX_WAITING);
    let worker = Rc::clone(call.worker);
    let driver = Driver { worker, pool, translation, client, pause: PACE };
    tokio::task::spawn_local(driver.run(begun));
    let (upstream, teller) = (&call.permit.entry().upstream, RelaySource::Task(receiver));
    let told = RelayedStream::new(call.worker, upstream, call.id(), teller, None, account.take());
    CallResponse::Events(Box::new(AnswerStream::Relayed(told)))
}

impl Begun {
    /// The task that a tool's answer says it has begun, if it says so.
    fn of(message: &[u8]) -> Option<Self> {
        let [begun] = json::members(Envelope::parse(message).ok()?.result?, ["task"]).ok()?;
        let [id, pause] = json::members(begun?, ["taskId", "pollInterval"]).ok()?;
        Some(Self { id: id?.into(), pause: pause_of(pause) })
    }
}

fn pause_of(raw: Option<&str>) -> Duration {
    let said = raw.and_then(|raw| raw.parse::<f64>().ok()).filter(|said| said.is_finite() && *said >= 0.0);
    said.map_or(PACE, |said| Duration::from_secs_f64(said.min(1e9) / 1e3).clamp(FASTEST, SLOWEST))
}

/// The stream of an answer, or its one message.
pub(super) fn stream(answer: CallResponse) -> Result<Result<UpstreamStream, Bytes>, Fault> {
    match answer {
        CallResponse::Json { body, .. } => Ok(Err(body)),
        CallResponse::Events(events) => match *events {
            AnswerStream::Upstream(stream) => Ok(Ok(stream)),
            AnswerStream::Relayed(_) => Err(Fault::Interrupted),
        },
    }
}

/// Whether the stream of a result was cut off, which says nothing of the task.
fn is_cut(fault: &Fault) -> bool {
    matches!(fault, Fault::Interrupted | Fault::Timeout | Fault::Connect(_) | Fault::Status(_))
}

impl Driver {
    /// Goes on until there is an answer, or nobody waits for it any more.
    async fn run(mut self, begun: Option<CallResponse>) {
        let client = self.client.clone();
        let ended = tokio::select! {
            ended = tokio::time::timeout(task::LONGEST, self.drive(begun)) => ended.unwrap_or(Err(Fault::Timeout)),
            () = client.closed() => Err(Fault::Interrupted),
        };
        let Err(fault) = ended else { return };
        let why = if client.is_closed() { session_messages::CLIENT_GONE } else { session_messages::TIMED_OUT };
        // What is not begun yet is cancelled with its stream.
        if self.translation.awaited_task().is_some() {
            session_messages::cancel(&self.worker, &self.translation, why);
        }
        if client.is_closed() {
            return;
        }
        if let Some(counted) = fault.counts_as() {
            self.worker.shared.metrics.upstream_fault(counted).inc();
        }
        let asked = Asked { id: Some(self.translation.id.clone()), era: Era::Modern };
        let message = Failure::upstream(&self.translation.upstream.id, fault).message(&asked);
        self.say(message, true).await;
    }

    async fn drive(&mut self, begun: Option<CallResponse>) -> Result<(), Fault> {
        if let Some(begun) = begun {
            let answer = self.begun(begun).await?;
            let Some(begun) = Begun::of(&answer) else {
                self.say(answer, true).await;
                return Ok(());
            };
            self.pause = begun.pause;
            if let UpstreamEra::Legacy { number, .. } = &self.translation.upstream_era {
                self.translation.tasks = CallTasks::awaited(&begun.id, *number);
            }
        }
        let task = self.translation.awaited_task().unwrap_or_default().to_owned();
        for _ in 0..MAX_ATTEMPTS {
            if self.attempt(&task).await? {
                return Ok(());
            }
            self.wait(&task, false).await?;
        }
        Err(Fault::Interrupted)
    }

    /// What the call itself was answered; what was said before goes to the client.
    async fn begun(&self, begun: CallResponse) -> Result<Bytes, Fault> {
        let mut stream = match stream(begun)? {
            Ok(stream) => stream,
            Err(only) => return Ok(only),
        };
        while let Some(said) = stream.next_message().await? {
            if stream.is_finished() {
                return Ok(said);
            }
            self.say(said, false).await;
        }
        Err(Fault::Interrupted)
    }

    /// Asks for the result, and how the task stands meanwhile. Returns whether the client has its answer; if not, the
    /// stream of the result was cut off.
    async fn attempt(&self, task: &str) -> Result<bool, Fault> {
        let result = self.result(task);
        let (mut result, over) = (pin!(result), pin!(self.wait(task, true)));
        let answered = tokio::select! {
            answered = &mut result => answered,
            over = over => {
                over?;
                tokio::time::timeout(GRACE, result).await.unwrap_or(Err(Fault::Timeout))
            }
        };
        match answered {
            Ok(()) => Ok(true),
            Err(fault) if is_cut(&fault) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Asks for the result, which comes when the task is over, and passes on what comes with it.
    async fn result(&self, task: &str) -> Result<(), Fault> {
        let number = self.worker.upstreams.number();
        let mut translation = self.translation.clone();
        if let UpstreamEra::Legacy { number: its, .. } = &mut translation.upstream_era {
            *its = number;
        }
        let answered = self.ask(Method::TasksResult, task, number).await?;
        let answer = read_response(&self.worker, answered, translation, &mut None, None).await?;
        let mut stream = match stream(answer)? {
            Ok(stream) => stream,
            Err(only) => {
                self.say(only, true).await;
                return Ok(());
            }
        };
        while !stream.is_finished() {
            let said = stream.next_message().await.and_then(|said| said.ok_or(Fault::Interrupted));
            // It is the stream alone that is over, not the task.
            let said = said.inspect_err(|_| stream.close())?;
            self.say(said, stream.is_finished()).await;
        }
        Ok(())
    }

    /// Waits until the task is over, or else until it wants something, too.
    async fn wait(&self, task: &str, over: bool) -> Result<(), Fault> {
        let (mut pause, mut misses) = (self.pause, 0);
        loop {
            tokio::time::sleep(pause).await;
            let answer = match self.look(task).await {
                Ok(answer) => answer,
                Err(fault) if is_cut(&fault) && misses < MAX_MISSES => {
                    misses += 1;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            misses = 0;
            // A server that does not know its task any more has lost the call.
            let lost = Fault::Lost { retryable: false };
            let result = Envelope::parse(&answer).ok().and_then(|answer| answer.result).ok_or(lost)?;
            let [status, next] = json::members(result, ["status", "pollInterval"]).unwrap_or_default();
            match status {
                Some(r#""working""#) => {}
                Some(r#""input_required""#) if over => {}
                _ => return Ok(()),
            }
            if next.is_some() {
                pause = pause_of(next);
            }
        }
    }

    /// How the task stands.
    async fn look(&self, task: &str) -> Result<Bytes, Fault> {
        match self.ask(Method::TasksGet, task, self.worker.upstreams.number()).await? {
            RawResponse::Http(response) => read_rpc_response(response).await,
            RawResponse::Channel(mut messages) => messages.response().await,
        }
    }

    /// Asks something about the task, in the session that it was begun in where that is no connection.
    async fn ask(&self, method: Method, task: &str, number: u64) -> Result<RawResponse, Fault> {
        let body = task::request(method, number, task);
        let UpstreamEra::Legacy { session, .. } = &self.translation.upstream_era else { return Err(Fault::Interrupted) };
        match &session.transport {
            SessionTransport::Http(_) => Ok(RawResponse::Http(self.pool.post(session, body, Retry::Safe).await?)),
            SessionTransport::Channel(_) => Ok(self.pool.call(number, &body, Retry::Safe).await?.0),
        }
    }

    async fn say(&self, message: Bytes, last: bool) {
        // That a client has gone is seen where it matters.
        let _: Result<(), _> = self.client.send(RelayedMessage { message, last }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_how_often_to_ask_within_reason() {
        for (said, expected) in [
            (None, PACE),
            (Some("\"soon\""), PACE),
            (Some("-1"), PACE),
            (Some("250"), Duration::from_millis(250)),
            (Some("0"), FASTEST),
            (Some("1e300"), SLOWEST),
        ] {
            assert_eq!(pause_of(said), expected, "{said:?}");
        }
    }

    #[test]
    fn a_task_is_begun_where_the_result_says_so() {
        let message = br#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t","status":"working","pollInterval":100}}}"#;
        let begun = Begun::of(message).unwrap();
        assert_eq!((&*begun.id, begun.pause), (r#""t""#, Duration::from_millis(100)));
        for other in [r#"{"content":[]}"#, r#"{"task":{}}"#, r#"{"task":7}"#] {
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{other}}}"#);
            assert!(Begun::of(message.as_bytes()).is_none(), "{other}");
        }
    }
}
