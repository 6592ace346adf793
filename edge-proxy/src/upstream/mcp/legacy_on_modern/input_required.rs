//! The loop of a call at a modern upstream that requires input: its requests, such as elicitations, are sent to the
//! legacy client on the stream of the call, and the call is made again with the responses.
//!
//! It must not know how the client's responses arrive.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method as Verb};
use mcp::border::events::{Take, take};
use mcp::json::{self, JsonError};
use mcp::message::Envelope;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::translator::{LegacyOnModern, TranslatedModern};
use crate::error::{ErrorContext, Fault};
use crate::fleet::Waiter;
use crate::session::capabilities::{Capabilities, ClientFeature};
use crate::upstream::Context;
use crate::upstream::connect::{HttpPool, Retry};
use crate::upstream::mcp::channel::ChannelPool;
use crate::upstream::mcp::incoming::{self, Awaited, ResponsePlace, SkippedMessages};
use crate::upstream::mcp::input_requests::{InputRequired, feature};
use crate::upstream::mcp::message_source::{MessageSource, RawResponse};
use crate::upstream::mcp::relayed_stream::RelayedMessage;
use crate::upstream::mcp::response::{self, OpenedMessage, OpenedResponse};
use crate::upstream::mcp::rewrite::requests;
use crate::upstream::mcp::server_requests::{self, ReplyTo};
use crate::upstream::mcp::translator::CallContext;
use crate::upstream::mcp::without_client::drain_in_background;
use crate::upstream::place::Place;
use crate::usage::Outcome;

/// Times that an upstream may require input in one call.
const MAX_ROUNDS: usize = 10;
/// The fault of a call that has no waiter for its client's responses.
const NO_WAITER: Fault = Fault::TooManyParkedCalls { of_token: false };
/// Wait before a retry without input.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// The call of a legacy client, with everything that it takes to make it again.
pub(super) struct InputLoop {
    pub context: Rc<Context>,
    pub http_pool: Rc<HttpPool>,
    /// The connections to the upstream, where calls share those.
    pub channels: Option<Rc<ChannelPool>>,
    /// Whether the client wants log messages.
    pub wants_logs: bool,
    pub headers: HeaderMap,
    /// The request for the upstream.
    pub body: Bytes,
    pub retry: Retry,
    pub translator: LegacyOnModern,
    /// The client's revision and capabilities.
    pub revision: Revision,
    pub capabilities: Capabilities,
    /// Whether the client reads a stream on which it can be sent requests.
    pub accepts_events: bool,
    /// The waiter for the client's responses, once it was sent a request.
    pub waiter: Option<(Waiter, Place)>,
    /// Requests that the client was sent.
    pub requests_sent: u32,
}

/// The result of one request to the upstream.
enum Step {
    Response(Bytes, Outcome),
    InputRequired(InputRequired),
}

impl InputLoop {
    /// Makes the call until it has a response.
    pub(super) async fn run(&mut self, client: &mpsc::Sender<RelayedMessage>) -> (Bytes, Outcome) {
        let fault = match self.run_rounds(client).await {
            Ok(answer) => return answer,
            Err(fault) => fault,
        };
        if let Some(counted) = fault.counts_as() {
            self.context.environment.metrics.upstream_fault(counted).inc();
        }
        self.failure_response(fault)
    }

    async fn run_rounds(&mut self, client: &mpsc::Sender<RelayedMessage>) -> Result<(Bytes, Outcome), Fault> {
        for _ in 0..MAX_ROUNDS {
            let response = self.send().await?;
            match self.read_step(response, client).await? {
                Step::Response(message, outcome) => return Ok((message, outcome)),
                Step::InputRequired(input) => self.prepare_request(input, client).await?,
            }
        }
        Err(Fault::InputUnavailable(format!("it asked for input {MAX_ROUNDS} times")))
    }

    /// Sends the request.
    async fn send(&self) -> Result<RawResponse, Fault> {
        let timeout = self.translator.call.upstream.request_timeout;
        let Some(channels) = &self.channels else {
            let (headers, body) = (self.headers.clone(), self.body.clone());
            let response = self.http_pool.send(&Verb::POST, headers, body, self.retry, timeout).await?;
            return Ok(RawResponse::Http(response));
        };
        let number = self.translator.number;
        let body = requests::on_channel(&self.body, number);
        let body = body.map_err(|error| Fault::Malformed(error.to_string()))?;
        let messages = channels.call_modern(number, &body, self.retry, self.wants_logs).await?;
        Ok(RawResponse::Channel(messages))
    }

    /// Reads the response to one request; messages before it go to the client.
    async fn read_step(
        &mut self,
        response: RawResponse,
        client: &mpsc::Sender<RelayedMessage>,
    ) -> Result<Step, Fault> {
        let opened = match response {
            RawResponse::Http(response) => {
                response::open(&self.context, response).await.map_err(|none| none.fault)?
            }
            RawResponse::Channel(messages) => OpenedResponse::Events(MessageSource::Channel(messages)),
        };
        let mut source = match opened {
            OpenedResponse::Events(source) => source,
            OpenedResponse::Message(OpenedMessage { body, place, .. }) => {
                let mut skipped = SkippedMessages::default();
                let step = self.next_step(body, place, &mut skipped, client).await?;
                return step.ok_or_else(|| match skipped.ended() {
                    Fault::Interrupted => Fault::Malformed("a message that is not a response".to_owned()),
                    fault => fault,
                });
            }
        };
        let (mut skipped, place) = (SkippedMessages::default(), source.place());
        while let Some(event) = source.next().await? {
            match take(&event) {
                Take::Message(_) => {}
                Take::Nothing => continue,
                Take::Odd(quirk) => {
                    self.http_pool.quirks.note_event(quirk, &event);
                    continue;
                }
            }
            if let Some(step) = self.next_step(event.data, place, &mut skipped, client).await? {
                drain_in_background(source);
                return Ok(step);
            }
        }
        if let Some(unnamed) = skipped.take_unnamed()
            && let Some(step) = self.next_step(unnamed, place, &mut skipped, client).await?
        {
            return Ok(step);
        }
        Err(skipped.ended())
    }

    async fn next_step(
        &mut self,
        mut message: Bytes,
        place: ResponsePlace,
        skipped: &mut SkippedMessages,
        client: &mpsc::Sender<RelayedMessage>,
    ) -> Result<Option<Step>, Fault> {
        let translated = match self.translator.translate(&message) {
            Ok(translated) => translated,
            Err(fault) => {
                let own = self.translator.number.to_string();
                let awaited = Awaited { own: &own, place, quirks: &self.http_pool.quirks };
                let translate = |message: &Bytes| self.translator.translate(message);
                let translated = skipped.reconsider(&mut message, fault, &awaited, translate)?;
                translated.unwrap_or(TranslatedModern::Ignore)
            }
        };
        incoming::note_odd(&self.context, &self.translator.call, &message)?;
        Ok(match translated {
            TranslatedModern::Response(message, outcome) => Some(Step::Response(message, outcome)),
            TranslatedModern::InputRequired(input) => Some(Step::InputRequired(input)),
            TranslatedModern::Forward(message) => {
                // A client that has gone does not read it.
                let _: Result<(), _> = client.send(RelayedMessage { message, is_final: false }).await;
                None
            }
            TranslatedModern::Ignore => None,
        })
    }

    /// Builds the next request with the input that the upstream requires.
    async fn prepare_request(
        &mut self,
        input: InputRequired,
        client: &mpsc::Sender<RelayedMessage>,
    ) -> Result<(), Fault> {
        let malformed = |error: JsonError| Fault::Malformed(error.to_string());
        let InputRequired { requests, state } = &input;
        let responses = match requests.as_deref().map(utf8).transpose()? {
            Some(requests) => Some(self.ask_client(requests, client).await?),
            None if state.is_some() => {
                tokio::time::sleep(RETRY_DELAY).await;
                None
            }
            None => return Err(Fault::Malformed("it requests input but does not say which".to_owned())),
        };
        let number = self.context.mcp.next_request_id();
        self.translator.number = number;
        let state = state.as_deref().map(utf8).transpose()?;
        self.body =
            requests::with_input(&self.body, number, responses.as_deref(), state).map_err(malformed)?;
        Ok(())
    }

    /// Sends an upstream's requests to the client; returns `inputResponses`.
    async fn ask_client(
        &mut self,
        requests: &str,
        client: &mpsc::Sender<RelayedMessage>,
    ) -> Result<String, Fault> {
        let mut members = Vec::new();
        json::each_member(requests, |key, request| {
            members.push((key, json::members(request, ["method", "params"])?));
            Ok(())
        })
        .map_err(|error| Fault::Malformed(error.to_string()))?;
        let mut pending = BTreeMap::new();
        for (key, [method, params]) in members {
            let method = method.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
            let params = params.unwrap_or("{}");
            let feature = feature(&method, params).filter(|feature| self.capabilities.cover(*feature));
            let feature = feature.ok_or_else(|| {
                Fault::InputUnavailable(format!("{method}, which the client does not declare"))
            })?;
            if !self.accepts_events {
                return Err(Fault::InputUnavailable(format!(
                    "{method}, because the client accepts no stream"
                )));
            }
            let request = self.server_request(&method, params, feature)?;
            let sent = client.send(RelayedMessage { message: request, is_final: false }).await;
            sent.map_err(|_| {
                Fault::InputUnavailable(format!("{method}, because the client has disconnected"))
            })?;
            pending.insert(self.requests_sent, (key, feature));
        }
        self.await_responses(pending).await
    }

    /// Builds a server request, under an id that leads its response back here.
    fn server_request(&mut self, method: &str, params: &str, feature: ClientFeature) -> Result<Bytes, Fault> {
        let environment = &self.context.environment;
        if self.waiter.is_none() {
            let principal = &self.translator.call.principal;
            self.waiter = Some(Place::parked(environment, principal)?);
        }
        let Some((waiter, _)) = &self.waiter else { return Err(NO_WAITER) };
        self.requests_sent += 1;
        let LegacyOnModern { call, session_id, permit, .. } = &self.translator;
        let reply_to = ReplyTo::Held(waiter.address());
        let id = server_requests::seal(
            &call.trust,
            call.owner(),
            session_id,
            permit,
            &reply_to,
            &self.requests_sent.to_string(),
        )
        .map_err(|error| Fault::Malformed(error.to_string()))?;
        let params_with_id =
            (feature == ClientFeature::Url && self.revision >= Revision::V2025_11_25).then(|| {
                let id = json::quote(&uuid::Uuid::new_v4().to_string());
                json::set_members(params, &[("elicitationId", Some(&id))])
            });
        let params_with_id =
            params_with_id.transpose().map_err(|error| Fault::Malformed(error.to_string()))?;
        let params = params_with_id.as_deref().unwrap_or(params);
        Ok(format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{params}}}"#).into())
    }

    /// Waits for the client's responses to these requests.
    async fn await_responses(
        &mut self,
        mut pending: BTreeMap<u32, (&str, ClientFeature)>,
    ) -> Result<String, Fault> {
        let until = Instant::now() + self.context.environment.limits.parked_call_lifetime;
        let mut responses = Vec::new();
        while !pending.is_empty() {
            let Some((waiter, _)) = &mut self.waiter else { return Err(NO_WAITER) };
            let delivery = tokio::time::timeout_at(until, waiter.next()).await;
            let delivery =
                delivery.map_err(|_| Fault::InputUnavailable("it did not respond in time".to_owned()))?;
            let Ok(answer) = Envelope::parse(&delivery.message) else { continue };
            let number = answer.id.and_then(|id| id.parse().ok());
            let Some((key, feature)) = number.and_then(|number| pending.remove(&number)) else { continue };
            responses.push(format!("{key}:{}", input_response(&answer, feature)?));
        }
        Ok(format!("{{{}}}", responses.join(",")))
    }

    /// Returns the response to a call that cannot be finished.
    fn failure_response(&self, fault: Fault) -> (Bytes, Outcome) {
        let CallContext { id, method, .. } = &self.translator.call;
        let outcome = if matches!(fault, Fault::InputUnavailable(_) | Fault::TooManyParkedCalls { .. }) {
            Outcome::ToolError
        } else {
            Outcome::UpstreamError
        };
        let failure = self.translator.call.failure(fault.clone());
        if *method == Method::ToolsCall && matches!(fault, Fault::InputUnavailable(_)) {
            let text = json::quote(&failure.to_string());
            let result = format!(r#"{{"content":[{{"type":"text","text":{text}}}],"isError":true}}"#);
            let id = String::from_utf8_lossy(id);
            return (format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into(), outcome);
        }
        (failure.message(&ErrorContext { id: Some(id.clone()), era: Era::Legacy }), outcome)
    }
}

/// Translates a client's response to a request. An error cancels, where the request can be cancelled.
fn input_response(answer: &Envelope<'_>, feature: ClientFeature) -> Result<String, Fault> {
    match (answer.result, feature) {
        (Some(result), _) => Ok(result.to_owned()),
        (None, ClientFeature::Form | ClientFeature::Url) => Ok(r#"{"action":"cancel"}"#.to_owned()),
        (None, _) => {
            let [text] = json::members(answer.error.unwrap_or("{}"), ["message"]).unwrap_or_default();
            let text = text.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
            Err(Fault::InputUnavailable(format!("it responded: {text}")))
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| Fault::Malformed(error.to_string()))
}
