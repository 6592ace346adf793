//! Polls tasks of legacy upstreams for the stream of a modern client, which is notified of what it finds: a legacy server need
//! not announce the status of a task, and does so, if at all, on a stream that many clients share.
//!
//! Each poll is the `tasks/get` that the client could send itself, with its rights. It must not know how tasks of one era are told
//! in the words of the other.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcp::extension;
use mcp::json;
use mcp::message::Envelope;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::tasks::{self, WatchedTask};
use crate::collections::byte_queue;
use crate::context::WorkerState;
use crate::error::ErrorContext;
use crate::identity::Principal;
use crate::policy::{self, Facts};
use crate::route::{NamedTarget, TargetKind};
use crate::session::Session;
use crate::transport::Message;
use crate::upstream::{self, Call, CallResponse, SubscriptionNotice, Task, poll_interval};

/// The longest time for which a task is polled: that for which its session is kept.
const MAX_POLLING: Duration = Duration::from_secs(3_600);
/// The interval after a poll without an answer.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// The client whose stream it is.
#[derive(Clone)]
pub(super) struct Follower {
    pub(super) worker: Rc<WorkerState>,
    pub(super) principal: Arc<Principal>,
    pub(super) address: Option<IpAddr>,
    /// The id and uid of the server.
    pub(super) server: [Box<str>; 2],
}

/// The polling of the tasks of one upstream for one stream, until it is dropped. One request is under way at a time.
pub(super) struct TaskPolling(AbortHandle);

impl Drop for TaskPolling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A task that is polled.
struct PolledTask {
    id: Box<str>,
    task: Task,
    due: Instant,
    /// What was told last: its raw status, and the raw message with it.
    told: Option<[Option<Box<str>>; 2]>,
}

/// What a poll found.
enum Found {
    /// The task stands so; the raw params of its notification.
    Stands(String),
    /// The upstream no longer knows it.
    Unknown,
    /// No answer, or the right to ask is gone for now.
    Nothing,
}

impl TaskPolling {
    /// Polls tasks of one upstream.
    pub(super) fn start<'a>(
        follower: Follower,
        watched: impl Iterator<Item = &'a WatchedTask>,
        notices: byte_queue::Sender<SubscriptionNotice>,
    ) -> Self {
        let now = Instant::now();
        let polled = |WatchedTask { id, task }: &WatchedTask| PolledTask {
            id: id.clone(),
            task: task.clone(),
            due: now,
            told: None,
        };
        let tasks = watched.map(polled).collect();
        Self(tokio::task::spawn_local(poll_all(follower, tasks, notices)).abort_handle())
    }
}

async fn poll_all(
    follower: Follower,
    mut tasks: Vec<PolledTask>,
    notices: byte_queue::Sender<SubscriptionNotice>,
) {
    let end = Instant::now() + MAX_POLLING;
    while let Some(next) = (0..tasks.len()).min_by_key(|at| tasks[*at].due) {
        let polled = &mut tasks[next];
        if polled.due > end {
            return;
        }
        tokio::time::sleep_until(polled.due).await;
        let params = match follower.poll(polled).await {
            Found::Stands(params) => params,
            Found::Unknown => {
                tasks.swap_remove(next);
                continue;
            }
            Found::Nothing => {
                polled.due = Instant::now() + AFTER_FAILURE;
                continue;
            }
        };
        let [status, message, interval] =
            json::members(&params, ["status", "statusMessage", "pollIntervalMs"]).unwrap_or_default();
        polled.due = Instant::now() + poll_interval(interval);
        let stands = [status, message].map(|raw| raw.map(Box::from));
        let is_over = matches!(status, Some(r#""completed""# | r#""failed""# | r#""cancelled""#));
        if polled.told.as_ref() != Some(&stands) {
            polled.told = Some(stands);
            let notice = SubscriptionNotice::Task { id: polled.id.clone(), params: params.into() };
            if notices.send(notice).await.is_err() {
                return;
            }
        }
        if is_over {
            tasks.swap_remove(next);
        }
    }
}

impl Follower {
    /// Asks how a task stands, as its owner would.
    async fn poll(&self, polled: &PolledTask) -> Found {
        let worker = &self.worker;
        let snapshot = worker.shared.environment.current.load_full();
        let facts = Facts { address: self.address, now: worker.now() };
        let server = [&*self.server[0], &*self.server[1]];
        let Ok(caller) = policy::admit_again(&snapshot, &self.principal, server, facts) else {
            return Found::Nothing;
        };
        let Some(permit) = tasks::permit(&caller, Method::SubscriptionsListen, &polled.task) else {
            return Found::Nothing;
        };
        let body = tasks_get(&polled.id);
        let mut error_context = ErrorContext { id: None, era: Era::Modern };
        let message = Envelope::parse(&body).ok();
        let message = message.and_then(|envelope| Message::new(&body, envelope, &mut error_context).ok());
        let (Some(message), Some(raw)) = (message, raw_id(&body)) else { return Found::Nothing };
        let named = NamedTarget { kind: TargetKind::Tool, exposed: (&*polled.task.tool).into(), raw };
        let active = worker.active_permits.hold(caller, &permit);
        let call = Call {
            context: &worker.upstreams,
            trust: &snapshot.trust,
            server: &caller.view().server,
            principal: &self.principal,
            session: &Session::Modern(Revision::LATEST),
            headers: None,
            message: &message,
            method: Method::TasksGet,
            named: &named,
            task: Some((polled.task.clone(), raw)),
            permit,
            active: active.share(),
            // What the edge asks by itself is no call of the client.
            account: None,
        };
        let answer = tokio::select! {
            biased;
            _ = active.withdrawn() => return Found::Nothing,
            answer = upstream::call(call) => answer,
        };
        match answer {
            Ok(CallResponse::Json { body, .. }) => found(&body),
            Ok(CallResponse::Events(_)) => Found::Nothing,
            Err(failure) => {
                tracing::debug!(?failure, "cannot poll a task");
                Found::Nothing
            }
        }
    }
}

fn found(answer: &[u8]) -> Found {
    let Ok(envelope) = Envelope::parse(answer) else { return Found::Nothing };
    match (envelope.result, envelope.error) {
        // The result of a request has a type, the params of a notification have none.
        (Some(result), _) => match json::set_members(result, &[("resultType", None)]) {
            Ok(params) => Found::Stands(params),
            Err(_) => Found::Nothing,
        },
        (None, Some(_)) => Found::Unknown,
        (None, None) => Found::Nothing,
    }
}

/// The request about the task that the client knows by this id.
fn tasks_get(id: &str) -> Bytes {
    let declared = format!(r#"{{"extensions":{{"{}":{{}}}}}}"#, extension::TASKS);
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"{}","params":{{"taskId":{},"_meta":{{"{}":"{}","{}":{declared}}}}}}}"#,
        Method::TasksGet,
        json::quote(id),
        meta::PROTOCOL_VERSION,
        Revision::LATEST.as_str(),
        meta::CLIENT_CAPABILITIES,
    )
    .into()
}

fn raw_id(body: &[u8]) -> Option<&str> {
    let [id] = json::members(Envelope::parse(body).ok()?.params?, ["taskId"]).ok()?;
    id
}
