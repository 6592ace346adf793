//! The session of one host at the edge: what is kept of it, its stream, and how it is reopened with the host's own `initialize` when
//! the edge no longer knows it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use mcp::header::{ACCEPT_BOTH, EVENT_STREAM, JSON, SESSION_ID};
use mcp::json;
use mcp::message::Envelope;
use reqwest::Response;

use crate::bridge::connect::attempts::{FIRST_DELAY, Failure, failure, longer};
use crate::bridge::connect::connection::Connection;
use crate::bridge::connect::headers::is_modern;
use crate::bridge::connect::relay::first_message;
use crate::output::eprint;

/// What is known of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Session {
    /// The host's `initialize`. `None` until it is sent, and in the modern era.
    pub(super) initialize: Option<Bytes>,
    pub(super) id: Option<HeaderValue>,
    pub(super) version: Option<HeaderValue>,
    /// Number of sessions opened so far. A request that lost its session compares it to see whether another request has
    /// reopened it.
    pub(super) generation: u64,
}

impl Connection {
    /// Reopens the session, unless another request has just done so.
    pub(super) async fn reopen(self: &Arc<Self>, lost: u64) -> std::result::Result<(), Failure> {
        let _opening = self.opening.lock().await;
        let Session { initialize, generation, .. } = self.session().clone();
        if generation != lost {
            return Ok(());
        }
        let line = initialize.ok_or(Failure::SessionLost)?;
        (self.session().id, self.session().version) = (None, None);
        let request =
            self.request(Method::POST).header(header::CONTENT_TYPE, JSON).header(header::ACCEPT, ACCEPT_BOTH);
        let response = request.body(line).send().await.map_err(failure)?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        self.record_session(&response);
        let result = first_message(response).await?;
        let answer = Envelope::parse(&result).map_err(|error| Failure::Final(error.to_string()))?;
        self.record_version(answer.result);
        let done = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let request =
            self.request(Method::POST).header(header::CONTENT_TYPE, JSON).header(header::ACCEPT, ACCEPT_BOTH);
        request.body(done).send().await.map_err(failure)?;
        self.session().generation += 1;
        eprint("the edge no longer knew the session; the session was reopened");
        for notice in list_changed(answer.result) {
            self.send_to_host(notice).await;
        }
        Ok(())
    }

    pub(super) fn record_session(&self, response: &Response) {
        self.session().id = response.headers().get(SESSION_ID).cloned();
    }

    fn record_version(&self, result: Option<&str>) {
        let version =
            result.and_then(|result| json::members(result, ["protocolVersion"]).ok().and_then(|[raw]| raw));
        let version =
            version.and_then(|raw| json::string(raw).ok()).and_then(|text| HeaderValue::from_str(&text).ok());
        self.session().version = version;
    }

    /// Records what later requests need from a response.
    pub(super) fn record_answer(&self, answer: &Envelope<'_>, message: &Envelope<'_>) {
        match message.method.as_deref() {
            Some("initialize") => {
                self.record_version(answer.result);
                self.session().generation += 1;
            }
            Some("tools/list") if is_modern(message) => self.tools.learn(answer.result),
            _ => {}
        }
    }

    /// Relays the server's own stream (GET) for as long as the session lasts.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut delay = FIRST_DELAY;
        while !self.closing.is_cancelled() {
            let generation = self.session().generation;
            let request = self.request(Method::GET).header(header::ACCEPT, EVENT_STREAM);
            match request.send().await {
                Ok(response) if response.status().is_success() => {
                    delay = FIRST_DELAY;
                    self.relay_stream(response).await;
                }
                Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                    let _ = self.reopen(generation).await;
                }
                // The edge has no such stream, or another client holds it.
                Ok(response) if response.status().is_client_error() => return,
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => delay = longer(delay),
                () = self.closing.cancelled() => return,
            }
        }
    }
}

/// Builds `list_changed` notifications for the kinds of lists whose changes the edge announces.
fn list_changed(result: Option<&str>) -> Vec<Bytes> {
    let capabilities =
        result.and_then(|result| json::members(result, ["capabilities"]).ok().and_then(|[raw]| raw));
    let kinds = ["tools", "resources", "prompts"];
    let offered = capabilities.and_then(|raw| json::members(raw, kinds).ok()).unwrap_or_default();
    let announces = |offer: Option<&str>| {
        let told = offer.and_then(|offer| json::members(offer, ["listChanged"]).ok().and_then(|[raw]| raw));
        told == Some("true")
    };
    let notice =
        |kind| Bytes::from(format!(r#"{{"jsonrpc":"2.0","method":"notifications/{kind}/list_changed"}}"#));
    kinds
        .into_iter()
        .zip(offered)
        .filter(|(_, offer)| announces(*offer))
        .map(|(kind, _)| notice(kind))
        .collect()
}
