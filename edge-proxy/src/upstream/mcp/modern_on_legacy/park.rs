//! Parks a modern client's call while a legacy upstream requires input: its response carries the requests, and the
//! client's next call carries the input and resumes it.
//!
//! Where the upstream's events have ids the stream is closed, and any edge resumes it. Else it is held open here, and
//! the input is delivered here.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mcp::error as codes;
use mcp::json;
use mcp::method::Method;
use tokio::time::Instant;

use super::ModernOnLegacy;
use super::held_open::hold_open;
use super::parked_call::{CallBinding, ParkedCall, PendingRequest, ResumeBy};
use crate::error::Fault;
use crate::fleet::Waiter;
use crate::os::clock::now;
use crate::session::capabilities::{Capabilities, ClientFeature};
use crate::upstream::Context;
use crate::upstream::mcp::arguments::arguments_digest;
use crate::upstream::mcp::input_requests::{ServerRequest, refusal};
use crate::upstream::mcp::translator::Translator as _;
use crate::upstream::mcp::upstream_stream::UpstreamStream;
use crate::upstream::mcp::{malformed, session_messages};
use crate::upstream::place::Place;
use crate::usage::Outcome;

/// Wait for further requests, so that a client is sent all of them at once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Server requests of one call.
const MAX_REQUESTS: usize = 256;
/// Longest `requestState` for a client; a call with a longer one is held open here.
const MAX_STATE: usize = 48 << 10;
/// Time for which a session is kept longer than its parked calls.
const SESSION_GRACE: Duration = Duration::from_secs(60);
/// Longest time for a client to visit the URLs that a call requires before it begins.
const URL_VISIT_LIFETIME: Duration = Duration::from_secs(3_600);

/// The server requests of one call that wait for the client's input.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingRequests {
    /// Those without a response.
    pub(super) requests: Vec<PendingRequest>,
    /// The number of all that were made.
    pub(super) total: u32,
    /// The raw ids of those with a response.
    pub(super) answered: Vec<Box<str>>,
    /// The time at which the client is to be sent the newest.
    ask_at: Option<Instant>,
    /// The bytes of params that may wait.
    max_bytes: usize,
}

impl PendingRequests {
    /// None yet. The params of those that wait for the client have at most so many bytes together.
    pub(super) fn within(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// Restores those of a parked call.
    pub(super) fn restored(self, parked: &ParkedCall) -> Self {
        Self {
            requests: parked.pending.clone(),
            total: parked.total,
            answered: parked.answered.clone(),
            ask_at: None,
            max_bytes: self.max_bytes,
        }
    }

    /// Adds a request, unless it is known: upstreams repeat their last messages on a resumed stream. Returns false if there is
    /// no room for it.
    pub(super) fn add(&mut self, request: ServerRequest) -> bool {
        let known = self.requests.iter().any(|pending| pending.request.id == request.id);
        if known || self.answered.contains(&request.id) {
            return true;
        }
        let bytes = self.requests.iter().map(|pending| pending.request.params.len()).sum::<usize>();
        if self.requests.len() + self.answered.len() >= MAX_REQUESTS
            || bytes.saturating_add(request.params.len()) > self.max_bytes
        {
            return false;
        }
        self.total = self.total.saturating_add(1);
        self.requests.push(PendingRequest { number: self.total, request });
        self.ask_at.get_or_insert_with(|| Instant::now() + DEBOUNCE);
        true
    }

    /// The time at which the client is to be sent them.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Sends the client the open requests at once.
    pub(super) fn ask_now(&mut self) {
        self.ask_at = Some(Instant::now());
    }

    /// Notes that the client was sent all of them.
    pub(super) fn mark_asked(&mut self) {
        self.ask_at = None;
    }

    /// Takes the request that is answered under this key.
    pub(super) fn take(&mut self, key: &str) -> Option<PendingRequest> {
        let at = self.requests.iter().position(|pending| pending.key() == key)?;
        let pending = self.requests.remove(at);
        self.answered.push(pending.request.id.clone());
        Some(pending)
    }
}

/// Parks the call of a stream; returns its response, which asks the client for input.
pub(super) fn park(stream: &mut UpstreamStream<ModernOnLegacy>) -> Result<Bytes, Fault> {
    let context = Rc::clone(&stream.context);
    let environment = &context.environment;
    let lifetime = environment.limits.parked_call_lifetime;
    let admitted = Place::parked(environment, &stream.translator.call.principal);
    let (waiter, place) = admitted.inspect_err(|_| {
        refuse_all(&context, &stream.translator, &stream.translator.pending.requests);
    })?;
    let translator = &mut stream.translator;
    translator.pending.mark_asked();
    let mut parked = ParkedCall::of(translator, &translator.pending, lifetime);
    parked.held_at = Some(waiter.address());
    if let Some(resume_by) = resume_method(stream) {
        parked.resume_by = resume_by;
        let state = seal(&stream.translator, &parked)?;
        if state.len() <= MAX_STATE {
            stream.close();
            if parked.resume_by == ResumeBy::Task {
                // Else the next request may be sent on this stream.
                let ModernOnLegacy { call, in_session, .. } = &stream.translator;
                session_messages::stop_reading(&context, &call.upstream, in_session);
            }
            stream.translator.in_session.session.keep_for(lifetime + SESSION_GRACE);
            let release =
                wait_for_client(context, stream.translator.clone(), parked.pending.clone(), waiter, place);
            tokio::task::spawn_local(release);
            return Ok(input_required_response(&stream.translator.call.id, &parked.pending, &state));
        }
    }
    parked.resume_by = ResumeBy::Held;
    let (requests, _) = (std::mem::take(&mut parked.pending), std::mem::take(&mut parked.answered));
    let state = seal(&stream.translator, &parked)?;
    let answer = input_required_response(&stream.translator.call.id, &requests, &state);
    tokio::task::spawn_local(hold_open(stream.take_rest(), waiter, place));
    Ok(answer)
}

/// Returns how any edge resumes the call, if any can. A session that is a connection exists here alone.
fn resume_method(stream: &UpstreamStream<ModernOnLegacy>) -> Option<ResumeBy> {
    let translator = &stream.translator;
    if translator.awaited_task().is_some() && translator.in_session.session.headers().is_some() {
        return Some(ResumeBy::Task);
    }
    stream.last_event_id().map(|event| ResumeBy::Event(event.as_bytes().into()))
}

impl ParkedCall {
    /// Describes a parked call, without a waiter.
    pub(super) fn of(translator: &ModernOnLegacy, pending: &PendingRequests, lifetime: Duration) -> Self {
        let session = &translator.in_session.session;
        Self {
            expires: now() + lifetime.as_secs().max(1),
            upstream: translator.call.upstream.id.clone(),
            session: session.address().into(),
            version: session.version().into(),
            number: translator.progress_token(),
            task: translator.awaited_task().unwrap_or_default().into(),
            resume_by: ResumeBy::NewCall,
            held_at: None,
            pending: pending.requests.clone(),
            total: pending.total,
            answered: pending.answered.clone(),
        }
    }
}

/// Seals the `requestState` of a parked call.
pub(super) fn seal(translator: &ModernOnLegacy, parked: &ParkedCall) -> Result<String, Fault> {
    let ModernOnLegacy { call, client, .. } = translator;
    let arguments = client.arguments.as_deref().and_then(|raw| std::str::from_utf8(raw).ok());
    let binding = CallBinding {
        owner: call.owner(),
        method: call.method,
        exposed: &client.exposed,
        original: call.active.original(),
        digest: &arguments_digest(arguments),
    };
    let state = parked.seal(&call.trust, binding).map_err(malformed)?;
    call.request_state(&client.exposed, state).map_err(malformed)
}

/// Builds the response that asks a modern client for input.
pub(super) fn input_required_response(id: &[u8], requests: &[PendingRequest], state: &str) -> Bytes {
    let id = String::from_utf8_lossy(id);
    let pending: Vec<String> = requests.iter().map(input_request).collect();
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{{}}},"requestState":{}}}}}"#,
        pending.join(","),
        json::quote(state),
    )
    .into()
}

/// Builds one member of `inputRequests`. The modern era gives elicitations no ids.
fn input_request(pending: &PendingRequest) -> String {
    let ServerRequest { method, params, .. } = &pending.request;
    let without = json::set_members(params, &[("elicitationId", None)]);
    let params = without.as_deref().unwrap_or(params);
    format!(r#"{}:{{"method":"{method}","params":{params}}}"#, json::quote(&pending.key()))
}

/// Builds the response to an upstream's request.
pub(super) fn response_to(pending: &PendingRequest, response: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{response}}}"#, pending.request.id).into()
}

/// Refuses all requests that the client will not answer.
pub(super) fn refuse_all(context: &Rc<Context>, translator: &ModernOnLegacy, requests: &[PendingRequest]) {
    let refused =
        requests.iter().map(|pending| refusal(pending.request.method.as_str(), &pending.request.id));
    let (call, session) = (&translator.call, &translator.in_session.session);
    session_messages::reply_to_all(context, &call.upstream, session, refused.collect());
}

/// Waits for a client that may resume the call at any edge. One that never does, or no longer may, must not leave the
/// upstream waiting.
async fn wait_for_client(
    context: Rc<Context>,
    translator: ModernOnLegacy,
    requests: Vec<PendingRequest>,
    mut waiter: Waiter,
    _place: Place,
) {
    let permit = translator.call.active.hold();
    tokio::select! {
        biased;
        _ = waiter.next() => {}
        _ = permit.withdrawn() => translator.cancel(&context, session_messages::WITHDRAWN),
        () = tokio::time::sleep(context.environment.limits.parked_call_lifetime) => {
            refuse_all(&context, &translator, &requests);
        }
    }
}

/// Translates the error of a legacy upstream that requires URLs to be visited first: the client is asked to, and its
/// next call is made anew.
pub(super) fn url_elicitation_required(
    translator: &ModernOnLegacy,
    error: &str,
) -> Result<(Bytes, Outcome), Fault> {
    let ModernOnLegacy { call, client, .. } = translator;
    let Some(pending) = url_elicitations(error, client.capabilities) else {
        let id = std::str::from_utf8(&call.id).ok();
        let needed = r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#;
        let text = "missing required client capability";
        return Ok((codes::render(id, codes::MISSING_CAPABILITY, text, Some(needed)), Outcome::ClientError));
    };
    let parked = ParkedCall::of(translator, &pending, URL_VISIT_LIFETIME);
    let state = seal(translator, &parked)?;
    Ok((input_required_response(&call.id, &parked.pending, &state), Outcome::Ok))
}

fn url_elicitations(error: &str, declared: Capabilities) -> Option<PendingRequests> {
    let [data] = json::members(error, ["data"]).ok()?;
    let [elicitations] = json::members(data?, ["elicitations"]).ok()?;
    let mut pending = PendingRequests::default();
    json::each_element::<json::JsonError>(elicitations?, |params| {
        let params = json::set_members(params, &[("mode", Some(r#""url""#))])?;
        pending.total += 1;
        let request =
            ServerRequest { id: "".into(), method: Method::ElicitationCreate, params: params.into() };
        pending.requests.push(PendingRequest { number: pending.total, request });
        Ok(())
    })
    .ok()?;
    (declared.cover(ClientFeature::Url) && !pending.requests.is_empty()).then_some(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_wait_for_the_client_are_bounded_in_number_and_bytes() {
        let request = |number: usize, bytes: usize| ServerRequest {
            id: number.to_string().into(),
            method: Method::ElicitationCreate,
            params: "x".repeat(bytes).into(),
        };
        let mut pending = PendingRequests::within(1_000);
        assert!(pending.add(request(0, 600)));
        assert!(!pending.add(request(1, 600)), "there is no room for its bytes");
        assert!(pending.add(request(0, 600)), "it is known");
        assert!((2..=MAX_REQUESTS).all(|number| pending.add(request(number, 1))));
        assert!(!pending.add(request(MAX_REQUESTS + 1, 1)), "there are too many");
        // Those that were answered are kept as well.
        let key = pending.requests[0].key();
        assert!(pending.take(&key).is_some());
        assert!(!pending.add(request(MAX_REQUESTS + 2, 1)));
    }
}
