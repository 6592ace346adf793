//! Calls whose stream cannot be resumed: held open until their client brings answers, to whichever edge, or time is up.
//!
//! It must not know how answers travel from edge to edge.

use bytes::Bytes;
use mcp::message::{Envelope, span};
use mcp::splice::Splice;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::park::{self, asking, refuse};
use super::parked::{Parked, Way};
use crate::error::{Asked, Failure, Fault};
use crate::held::{Delivery, Holding};
use crate::observe::Entered;
use crate::session::{Level, seal};
use crate::upstream::upstream_stream::{Received, UpstreamStream};
use crate::upstream::session_messages;
use crate::upstream::translation::UpstreamEra;

/// What a client brings to the holder of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResumeInput {
    /// The raw id of its new request.
    pub id: Bytes,
    /// The raw progress token of its new request.
    pub progress_token: Option<Bytes>,
    /// The log messages that it wants to see now.
    pub level: Option<Level>,
    /// Its answers, by key, raw.
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
            level: Level::parse(std::str::from_utf8(level).ok()?),
            answers: pairs.collect::<Option<_>>().filter(|_| rest.is_empty())?,
        })
    }
}

/// Holds a call until its client has its answer, or has not come back for too long.
pub(super) async fn hold(mut stream: UpstreamStream, mut holding: Holding, _counted: Entered) {
    let lifetime = stream.worker.shared.limits.parked_call_lifetime;
    let mut early = None;
    loop {
        stream.set_timeout(lifetime * 2);
        let until = Instant::now() + lifetime;
        let delivery = tokio::select! {
            delivery = holding.next() => delivery,
            () = tokio::time::sleep_until(until) => {
                refuse(&stream.worker, &stream.translation, &stream.questions.open);
                return;
            }
            never = listen(&mut stream, &mut early) => match never {},
        };
        if !Visit::of(&mut stream, &holding, delivery, early.take()).await {
            return;
        }
    }
}

/// Reads on while no client is there. What comes in between is nobody's; the answer is kept.
async fn listen(stream: &mut UpstreamStream, early: &mut Option<Bytes>) -> std::convert::Infallible {
    while early.is_none() {
        match stream.receive().await {
            Ok(Received::Event(event)) if stream.has_response() => *early = Some(event.data),
            Ok(Received::Event(_)) => {}
            Ok(Received::ServerRequests) => stream.questions.told(),
            Ok(Received::HandedOver) => *early = Some(error(stream, Fault::Interrupted)),
            Err(fault) => *early = Some(error(stream, fault)),
        }
    }
    std::future::pending().await
}

fn error(stream: &UpstreamStream, fault: Fault) -> Bytes {
    let translation = &stream.translation;
    let asked = Asked { id: Some(translation.id.clone()), era: mcp::revision::Era::Modern };
    Failure::upstream(&translation.upstream.id, fault).message(&asked)
}

/// A client that has come back.
struct Visit<'a> {
    stream: &'a mut UpstreamStream,
    place: crate::held::Place,
    client: mpsc::Sender<Bytes>,
}

impl<'a> Visit<'a> {
    /// Goes on with the call for a client; returns whether it must be held on.
    async fn of(stream: &'a mut UpstreamStream, holding: &Holding, delivery: Delivery, early: Option<Bytes>) -> bool {
        let (Some(client), Some(input)) = (delivery.answers, ResumeInput::decode(&delivery.message)) else {
            return early.is_none();
        };
        stream.translation.id = input.id;
        if let UpstreamEra::Legacy { progress_token, modern_client: Some(modern_client), .. } = &mut stream.translation.upstream_era {
            *progress_token = input.progress_token;
            modern_client.level = input.level;
        }
        let mut visit = Self { stream, place: holding.place(), client };
        visit.go_on(input.answers, early).await
    }

    async fn go_on(&mut self, answers: Vec<(String, String)>, early: Option<Bytes>) -> bool {
        if let Some(last) = early {
            self.say(renamed(&last, &self.stream.translation.id)).await;
            return false;
        }
        if !self.answer(answers).await {
            let lost = error(self.stream, Fault::Lost { retryable: false });
            self.say(lost).await;
            return false;
        }
        if !self.stream.questions.open.is_empty() {
            return self.ask().await;
        }
        let timeout = self.stream.translation.response_timeout();
        self.stream.set_timeout(timeout);
        loop {
            let received = tokio::select! {
                received = self.stream.receive() => received,
                // A modern client that hangs up has cancelled.
                () = self.client.closed() => return false,
            };
            match received {
                Ok(Received::Event(event)) => {
                    self.say(event.data).await;
                    if self.stream.has_response() {
                        return false;
                    }
                }
                Ok(Received::ServerRequests) => return self.ask().await,
                Ok(Received::HandedOver) => {
                    let broken = error(self.stream, Fault::Interrupted);
                    self.say(broken).await;
                    return false;
                }
                Err(fault) => {
                    let broken = error(self.stream, fault);
                    self.say(broken).await;
                    return false;
                }
            }
        }
    }

    /// Brings answers to the upstream; what nobody asked is left out.
    async fn answer(&mut self, answers: Vec<(String, String)>) -> bool {
        for (key, response) in answers {
            let Some(asked) = self.stream.questions.take(&key) else { continue };
            let body = park::answer(&asked, &response);
            let told = session_messages::send_confirmed(&self.stream.worker, &self.stream.translation, body).await;
            if told.is_err() {
                return false;
            }
        }
        true
    }

    /// Asks what is still open.
    async fn ask(&mut self) -> bool {
        let UpstreamStream { translation, questions, worker, .. } = &mut *self.stream;
        questions.told();
        let lifetime = worker.shared.limits.parked_call_lifetime;
        let mut parked = Parked::of(translation, questions, lifetime);
        (parked.way, parked.place) = (Way::Held, Some(self.place.clone()));
        // The holder knows them.
        (parked.open, parked.answered) = (Vec::new(), Vec::new());
        match park::seal(translation, &parked) {
            Ok(state) => {
                let question = asking(&translation.id, &questions.open, &state);
                self.say(question).await;
                true
            }
            Err(_) => false,
        }
    }

    async fn say(&self, message: Bytes) {
        // A client that has gone hears nothing; that it has gone is seen where it matters.
        let _: Result<(), _> = self.client.send(message).await;
    }
}

/// A response under another id.
fn renamed(message: &Bytes, id: &Bytes) -> Bytes {
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
        fn what_a_client_brings_arrives(id: String, token: Option<u64>, answers: Vec<(String, String)>, junk: Vec<u8>) {
            let progress_token = token.map(|token| Bytes::from(token.to_string()));
            let level = Level::parse("\"error\"");
            let input = ResumeInput { id: id.into(), progress_token, level, answers };
            prop_assert_eq!(ResumeInput::decode(&input.encode()), Some(input));
            let _: Option<ResumeInput> = ResumeInput::decode(&junk.into());
        }
    }
}
