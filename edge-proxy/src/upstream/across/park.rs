//! Questions of a legacy upstream in the middle of a modern client's call: the call is parked, its answer says what is
//! asked, and the client's next call brings the answers and goes on with it.
//!
//! Where the upstream numbers its events the stream is closed, and whoever has the answers resumes it, at any edge. Else
//! it is held open here, and what the client brings is delivered here.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use mcp::error as codes;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::json;
use mcp::method::Method;
use tokio::time::Instant;

use super::hold::hold;
use super::parked::{Asked, Belongs, Parked, Way, digest};
use super::questions::{Question, refusal};
use crate::clock::now;
use crate::error::Fault;
use crate::held::Holding;
use crate::observe::Entered;
use crate::session::capabilities::{Capabilities, Need};
use crate::upstream::upstream_stream::UpstreamStream;
use crate::upstream::session_messages;
use crate::upstream::translation::{UpstreamEra, Translation};
use crate::usage::Outcome;
use crate::worker::Worker;

/// How long further questions are waited for, so that a client is asked all of them at once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Longest `requestState` that is given to a client; what would be longer is held here.
const MAX_STATE: usize = 48 << 10;
/// How much longer than its parked calls a session with an upstream is kept.
const GRACE: Duration = Duration::from_secs(60);
/// How long a client may take to visit the URLs that a call needs before it begins.
const AGAIN: Duration = Duration::from_secs(3_600);

/// The questions of one call.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Questions {
    /// Those that are not answered yet.
    pub(super) open: Vec<Asked>,
    /// How many there were.
    pub(super) asked: u32,
    /// The raw ids of those that were answered.
    pub(super) answered: Vec<Box<str>>,
    /// When the client is to be told of the newest.
    due: Option<Instant>,
}

impl Questions {
    /// Those of a call that goes on.
    pub(super) fn of(parked: &Parked) -> Self {
        Self { open: parked.open.clone(), asked: parked.asked, answered: parked.answered.clone(), due: None }
    }

    /// One more, unless it is known: upstreams repeat what they said last.
    pub(in crate::upstream) fn add(&mut self, question: Question) {
        let open = self.open.iter().any(|asked| asked.question.id == question.id);
        if open || self.answered.contains(&question.id) {
            return;
        }
        self.asked = self.asked.saturating_add(1);
        self.open.push(Asked { number: self.asked, question });
        self.due.get_or_insert_with(|| Instant::now() + DEBOUNCE);
    }

    /// When the client is to be told.
    pub(in crate::upstream) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The client is to be told at once of what is open.
    pub(super) fn ask_now(&mut self) {
        self.due = Some(Instant::now());
    }

    /// The client has been told of all.
    pub(super) fn told(&mut self) {
        self.due = None;
    }

    /// Takes the question that is answered under this key.
    pub(super) fn take(&mut self, key: &str) -> Option<Asked> {
        let at = self.open.iter().position(|asked| asked.key() == key)?;
        let asked = self.open.remove(at);
        self.answered.push(asked.question.id.clone());
        Some(asked)
    }
}

/// Parks the call of a stream; returns its answer, which asks the client.
pub(in crate::upstream) fn park(stream: &mut UpstreamStream) -> Result<Bytes, Fault> {
    let worker = Rc::clone(&stream.worker);
    let shared = &worker.shared;
    let lifetime = shared.limits.parked_call_lifetime;
    let full = shared.metrics.parked_calls.get() >= shared.limits.max_parked_calls as i64;
    let holding = if full { None } else { shared.peers.held().hold() };
    let Some(holding) = holding else {
        refuse(&worker, &stream.translation, &stream.questions.open);
        return Err(Fault::Crowded);
    };
    let counted = shared.metrics.parked_calls.enter();
    stream.questions.told();
    let mut parked = Parked::of(&stream.translation, &stream.questions, lifetime);
    parked.place = Some(holding.place());
    if let Some(way) = way_on(stream) {
        parked.way = way;
        let state = seal(&stream.translation, &parked)?;
        if state.len() <= MAX_STATE {
            stream.close();
            if parked.way == Way::Task {
                // Else what is asked next may be told on this stream.
                session_messages::stop_reading(&worker, &stream.translation);
            }
            keep(&stream.translation, lifetime);
            let watch = look_after(worker, stream.translation.clone(), parked.open.clone(), holding, counted);
            tokio::task::spawn_local(watch);
            return Ok(asking(&stream.translation.id, &parked.open, &state));
        }
    }
    parked.way = Way::Held;
    let (open, _) = (std::mem::take(&mut parked.open), std::mem::take(&mut parked.answered));
    let state = seal(&stream.translation, &parked)?;
    let answer = asking(&stream.translation.id, &open, &state);
    tokio::task::spawn_local(hold(stream.take_rest(), holding, counted));
    Ok(answer)
}

/// How any edge goes on with a call, if any can. A session that is a connection is here alone.
fn way_on(stream: &UpstreamStream) -> Option<Way> {
    let UpstreamEra::Legacy { session, .. } = &stream.translation.upstream_era else { return None };
    if stream.translation.awaited_task().is_some() && session.headers().is_some() {
        return Some(Way::Task);
    }
    stream.last_event_id().map(|event| Way::Event(event.as_bytes().into()))
}

impl Parked {
    /// A call that waits, of which nobody looks after yet.
    pub(super) fn of(translation: &Translation, questions: &Questions, lifetime: Duration) -> Self {
        let (session, number) = match &translation.upstream_era {
            UpstreamEra::Legacy { session, number, .. } => (Some(session), *number),
            UpstreamEra::Modern { .. } => (None, 0),
        };
        let header = |name: &str| {
            let value = session.and_then(|session| session.headers()?.get(name));
            value.map_or(b"".as_slice(), HeaderValue::as_bytes).into()
        };
        Self {
            expires: now() + lifetime.as_secs().max(1),
            upstream: translation.upstream.id.clone(),
            session: header(SESSION_ID),
            version: header(PROTOCOL_VERSION),
            number: translation.progress_token(number),
            task: translation.awaited_task().unwrap_or_default().into(),
            way: Way::Again,
            place: None,
            open: questions.open.clone(),
            asked: questions.asked,
            answered: questions.answered.clone(),
        }
    }
}

/// The `requestState` of a call that is parked.
pub(super) fn seal(translation: &Translation, parked: &Parked) -> Result<String, Fault> {
    let arguments = translation.modern_client().and_then(|modern_client| modern_client.arguments.as_deref());
    let arguments = arguments.and_then(|raw| std::str::from_utf8(raw).ok());
    let belongs = Belongs {
        owner: translation.owner(),
        method: translation.method,
        exposed: translation.exposed(),
        digest: &digest(arguments),
    };
    parked.seal(&translation.trust, belongs).map_err(|error| Fault::Malformed(error.to_string()))
}

/// The answer that asks a client, in the words of the modern era.
pub(super) fn asking(id: &[u8], open: &[Asked], state: &str) -> Bytes {
    let id = String::from_utf8_lossy(id);
    let questions: Vec<String> = open.iter().map(question).collect();
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{{}}},"requestState":{}}}}}"#,
        questions.join(","),
        json::quote(state),
    )
    .into()
}

/// One member of `inputRequests`. The modern era gives elicitations no ids.
fn question(asked: &Asked) -> String {
    let Question { method, params, .. } = &asked.question;
    let without = json::set_members(params, &[("elicitationId", None)]);
    let params = without.as_deref().unwrap_or(params);
    format!(r#"{}:{{"method":"{method}","params":{params}}}"#, json::quote(&asked.key()))
}

/// What an upstream is told to one of its questions.
pub(super) fn answer(asked: &Asked, response: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{response}}}"#, asked.question.id).into()
}

/// Tells the upstream that nobody will answer.
pub(super) fn refuse(worker: &Rc<Worker>, translation: &Translation, open: &[Asked]) {
    for Asked { question, .. } in open {
        session_messages::send(worker, translation, refusal(question.method.as_str(), &question.id));
    }
}

/// Keeps the session at the upstream for as long as a call is parked in it.
fn keep(translation: &Translation, lifetime: Duration) {
    if let UpstreamEra::Legacy { session, .. } = &translation.upstream_era {
        session.keep_for(lifetime + GRACE);
    }
}

/// Waits for a client that may come back to any edge. One that never does must not leave the upstream waiting.
async fn look_after(
    worker: Rc<Worker>,
    translation: Translation,
    open: Vec<Asked>,
    mut holding: Holding,
    _counted: Entered,
) {
    let lifetime = worker.shared.limits.parked_call_lifetime;
    if tokio::time::timeout(lifetime, holding.next()).await.is_err() {
        refuse(&worker, &translation, &open);
    }
}

/// The error of a legacy upstream that wants URLs visited before it begins, as a modern client is told it: it is asked,
/// and its next call is made anew.
pub(super) fn visit_first(translation: &Translation, error: &str) -> Result<(Bytes, Outcome), Fault> {
    let questions = translation.modern_client().and_then(|modern_client| url_questions(error, modern_client.capabilities));
    let Some(questions) = questions else {
        let id = std::str::from_utf8(&translation.id).ok();
        let needed = r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#;
        let text = "missing required client capability";
        return Ok((codes::render(id, codes::MISSING_CAPABILITY, text, Some(needed)), Outcome::ClientError));
    };
    let parked = Parked::of(translation, &questions, AGAIN);
    let state = seal(translation, &parked)?;
    Ok((asking(&translation.id, &parked.open, &state), Outcome::Ok))
}

fn url_questions(error: &str, declared: Capabilities) -> Option<Questions> {
    let [data] = json::members(error, ["data"]).ok()?;
    let [elicitations] = json::members(data?, ["elicitations"]).ok()?;
    let mut questions = Questions::default();
    json::each_element::<json::JsonError>(elicitations?, |params| {
        let params = json::set_members(params, &[("mode", Some(r#""url""#))])?;
        questions.asked += 1;
        let question = Question { id: "".into(), method: Method::ElicitationCreate, params: params.into() };
        questions.open.push(Asked { number: questions.asked, question });
        Ok(())
    })
    .ok()?;
    (declared.cover(Need::Url) && !questions.open.is_empty()).then_some(questions)
}
