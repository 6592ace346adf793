//! Parked calls whose stream cannot be resumed: it is held open until the client sends the input, to any edge, or time
//! is up.
//!
//! It must not know how input travels from edge to edge.

use bytes::Bytes;
use mcp::message::{Envelope, span};
use mcp::splice::Splice;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ModernOnLegacy;
use super::park::{self, input_required_response, refuse_all};
use super::parked_call::{ParkedCall, ResumeBy};
use crate::error::{ErrorContext, Fault};
use crate::fleet::{Delivery, Waiter};
use crate::policy::ActivePermit;
use crate::session::{LogLevel, seal};
use crate::upstream::mcp::translator::Translator as _;
use crate::upstream::mcp::upstream_stream::{Received, UpstreamStream};
use crate::upstream::place::Place;

/// The input with which a client resumes its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResumeInput {
    /// The raw id of its new request.
    pub id: Bytes,
    /// The raw progress token of its new request.
    pub progress_token: Option<Bytes>,
    /// The level of log messages that it asks for now.
    pub level: Option<LogLevel>,
    /// Its raw responses, by key.
    pub answers: Vec<(String, String)>,
}

impl ResumeInput {
    pub(super) fn encode(&self) -> Bytes {
        let level = self.level.map(|level| mcp::json::quote(level.as_str())).unwrap_or_default();
        let token = self.progress_token.as_deref().unwrap_or_default();
        let mut parts = vec![&*self.id, token, level.as_bytes()];
        parts.extend(self.answers.iter().flat_map(|(key, answer)| [key.as_bytes(), answer.as_bytes()]));
        seal::join_all(&parts).into()
    }

    fn decode(message: &Bytes) -> Option<Self> {
        let parts = seal::split_all(message)?;
        let ([id, token, level], answers) = parts.split_first_chunk::<3>()?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (pairs, rest) = answers.as_chunks::<2>();
        let pairs = pairs.iter().map(|[key, answer]| Some((text(key)?, text(answer)?)));
        Some(Self {
            id: Bytes::copy_from_slice(id),
            progress_token: (!token.is_empty()).then(|| Bytes::copy_from_slice(token)),
            level: LogLevel::parse(std::str::from_utf8(level).ok()?),
            answers: pairs.collect::<Option<_>>().filter(|_| rest.is_empty())?,
        })
    }
}

/// Holds a call open until its client has the response, has not come back for too long, or may no longer make it.
pub(super) async fn hold_open(mut stream: UpstreamStream<ModernOnLegacy>, mut waiter: Waiter, _place: Place) {
    let lifetime = stream.context.environment.limits.parked_call_lifetime;
    let mut early_response = None;
    let permit = stream.translator.call.active.hold();
    loop {
        stream.set_timeout(lifetime * 2);
        let until = Instant::now() + lifetime;
        let delivery = tokio::select! {
            delivery = waiter.next() => delivery,
            () = tokio::time::sleep_until(until) => {
                let ModernOnLegacy { pending, .. } = &stream.translator;
                refuse_all(&stream.context, &stream.translator, &pending.requests);
                return;
            }
            _ = permit.withdrawn() => return stream.withdraw(),
            never = read_while_waiting(&mut stream, &mut early_response) => match never {},
        };
        if !ResumedCall::serve(&mut stream, &permit, &waiter, delivery, early_response.take()).await {
            return;
        }
    }
}

/// Reads on while no client is connected. Messages meanwhile are dropped; the response is kept.
async fn read_while_waiting(
    stream: &mut UpstreamStream<ModernOnLegacy>,
    early_response: &mut Option<Bytes>,
) -> std::convert::Infallible {
    while early_response.is_none() {
        match stream.receive().await {
            Ok(Received::Event(event)) if stream.has_response() => *early_response = Some(event.data),
            Ok(Received::Event(_)) => {}
            Ok(Received::ServerRequests) => stream.translator.pending.mark_asked(),
            Ok(Received::HandedOver) => *early_response = Some(error_response(stream, Fault::Interrupted)),
            Err(fault) => *early_response = Some(error_response(stream, fault)),
        }
    }
    std::future::pending().await
}

fn error_response(stream: &UpstreamStream<ModernOnLegacy>, fault: Fault) -> Bytes {
    stream.translator.call.failure(fault).message(&error_context(stream))
}

fn error_context(stream: &UpstreamStream<ModernOnLegacy>) -> ErrorContext {
    ErrorContext { id: Some(stream.translator.call.id.clone()), era: mcp::revision::Era::Modern }
}

/// A held call that a client has resumed.
struct ResumedCall<'a> {
    stream: &'a mut UpstreamStream<ModernOnLegacy>,
    permit: &'a ActivePermit,
    held_at: crate::session::WaiterAddress,
    client: mpsc::Sender<Bytes>,
}

impl<'a> ResumedCall<'a> {
    /// Resumes the call for a client; returns whether it must be held further.
    async fn serve(
        stream: &'a mut UpstreamStream<ModernOnLegacy>,
        permit: &'a ActivePermit,
        waiter: &Waiter,
        delivery: Delivery,
        early_response: Option<Bytes>,
    ) -> bool {
        let (Some(client), Some(input)) = (delivery.answers, ResumeInput::decode(&delivery.message)) else {
            return early_response.is_none();
        };
        let ModernOnLegacy { call, in_session, client: modern_client, .. } = &mut stream.translator;
        call.id = input.id;
        call.active.go_on();
        in_session.progress_token = input.progress_token;
        modern_client.level = input.level;
        let mut resumed = Self { stream, permit, held_at: waiter.address(), client };
        resumed.resume(input.answers, early_response).await
    }

    async fn resume(&mut self, answers: Vec<(String, String)>, early_response: Option<Bytes>) -> bool {
        if let Some(last) = early_response {
            self.send(with_id(&last, &self.stream.translator.call.id)).await;
            return false;
        }
        if !self.deliver_answers(answers).await {
            let lost = error_response(self.stream, Fault::Lost { retryable: false });
            self.send(lost).await;
            return false;
        }
        if !self.stream.translator.pending.requests.is_empty() {
            return self.ask_again().await;
        }
        let timeout = self.stream.translator.response_timeout();
        self.stream.set_timeout(timeout);
        loop {
            let received = tokio::select! {
                received = self.stream.receive() => received,
                // A modern client that hangs up has cancelled.
                () = self.client.closed() => return false,
                failure = self.permit.withdrawn() => {
                    self.stream.withdraw();
                    self.send(failure.message(&error_context(self.stream))).await;
                    return false;
                }
            };
            match received {
                Ok(Received::Event(event)) => {
                    self.send(event.data).await;
                    if self.stream.has_response() {
                        return false;
                    }
                }
                Ok(Received::ServerRequests) => return self.ask_again().await,
                Ok(Received::HandedOver) => {
                    let broken = error_response(self.stream, Fault::Interrupted);
                    self.send(broken).await;
                    return false;
                }
                Err(fault) => {
                    let broken = error_response(self.stream, fault);
                    self.send(broken).await;
                    return false;
                }
            }
        }
    }

    /// Delivers responses to the upstream; those to unknown requests are dropped.
    async fn deliver_answers(&mut self, answers: Vec<(String, String)>) -> bool {
        for (key, response) in answers {
            let Some(pending) = self.stream.translator.pending.take(&key) else { continue };
            let body = park::response_to(&pending, &response);
            if self.stream.translator.send_confirmed(&self.stream.context, body).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Asks the client for the input that is still missing.
    async fn ask_again(&mut self) -> bool {
        let translator = &mut self.stream.translator;
        translator.pending.mark_asked();
        let lifetime = self.stream.context.environment.limits.parked_call_lifetime;
        let mut parked = ParkedCall::of(translator, &translator.pending, lifetime);
        (parked.resume_by, parked.held_at) = (ResumeBy::Held, Some(self.held_at.clone()));
        // The waiter knows them.
        (parked.pending, parked.answered) = (Vec::new(), Vec::new());
        match park::seal(translator, &parked) {
            Ok(state) => {
                let ModernOnLegacy { call, pending, .. } = &*translator;
                let request = input_required_response(&call.id, &pending.requests, &state);
                self.send(request).await;
                true
            }
            Err(_) => false,
        }
    }

    async fn send(&self, message: Bytes) {
        // A client that has gone is noticed by the loop in `resume`.
        let _: Result<(), _> = self.client.send(message).await;
    }
}

/// Returns a response under another id.
fn with_id(message: &Bytes, id: &Bytes) -> Bytes {
    let envelope = Envelope::parse(message).ok();
    match envelope.and_then(|envelope| envelope.id) {
        Some(old) => Splice::new().replace(span(message, old), id.clone()).apply(message),
        None => message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn input_survives_encoding(id: String, token: Option<u64>, answers: Vec<(String, String)>, junk: Vec<u8>) {
            let progress_token = token.map(|token| Bytes::from(token.to_string()));
            let level = LogLevel::parse("\"error\"");
            let input = ResumeInput { id: id.into(), progress_token, level, answers };
            prop_assert_eq!(ResumeInput::decode(&input.encode()), Some(input));
            let _: Option<ResumeInput> = ResumeInput::decode(&junk.into());
        }
    }
}
