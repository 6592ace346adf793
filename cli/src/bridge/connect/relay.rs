//! What the edge answers, on its way to the host: single messages, and streams of them.

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{StatusCode, header};
use mcp::header::{EVENT_STREAM, JSON};
use mcp::message::{Envelope, Kind};
use mcp::{json, sse};
use reqwest::Response;
use serde_json::Value;

use crate::bridge::child::MAX_MESSAGE_BYTES;
use crate::bridge::connect::attempts::{Failure, failure};
use crate::bridge::connect::connection::Connection;
use crate::bridge::connect::headers::is_modern;

impl Connection {
    /// Relays the response to a message.
    pub(super) async fn relay(
        &self,
        response: Response,
        message: &Envelope<'_>,
    ) -> std::result::Result<(), Failure> {
        if response.status() == StatusCode::NOT_FOUND && !is_modern(message) && self.session().id.is_some() {
            return Err(Failure::SessionLost);
        }
        let is_events = content_type(&response).starts_with(EVENT_STREAM);
        if response.status() == StatusCode::ACCEPTED || message.kind() != Kind::Request {
            return if response.status().is_success() { Ok(()) } else { Err(self.refusal(response).await) };
        }
        if message.method.as_deref() == Some("initialize") {
            self.record_session(&response);
        }
        if is_events {
            return self.relay_events(response, message).await;
        }
        self.relay_json(response, message).await
    }

    async fn relay_json(
        &self,
        response: Response,
        message: &Envelope<'_>,
    ) -> std::result::Result<(), Failure> {
        let is_json = content_type(&response).starts_with(JSON);
        if !is_json {
            return Err(self.refusal(response).await);
        }
        let (status, retry_after) = (response.status(), retry_after(&response));
        let body = response.bytes().await.map_err(failure)?;
        match Envelope::parse(&body) {
            // Who is refused before the message is read is told so under no id.
            Ok(Envelope { id: None, error: Some(error), .. }) if is_told_on(status) => {
                self.send_to_host(told_on(error, message.id, retry_after)).await;
                Ok(())
            }
            Ok(answer) if answer.id == message.id => {
                self.record_answer(&answer, message);
                self.send_to_host(body.clone()).await;
                Ok(())
            }
            Ok(answer) => Err(Failure::Final(
                error_message(&answer)
                    .unwrap_or_else(|| "the edge sent a response to another request".into()),
            )),
            Err(error) => Err(Failure::Final(format!("cannot parse the edge's response: {error}"))),
        }
    }

    async fn relay_events(
        &self,
        response: Response,
        message: &Envelope<'_>,
    ) -> std::result::Result<(), Failure> {
        let mut decoder = sse::Decoder::new(MAX_MESSAGE_BYTES);
        let mut chunks = response.bytes_stream();
        let broken = || Failure::Final("the connection broke before the response arrived".into());
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk.ok_or_else(broken)?.map_err(|_| broken())?,
                () = self.closing.cancelled(), if message.method.as_deref() == Some("subscriptions/listen") => return Ok(()),
            };
            decoder.push(chunk);
            while let Some(event) = decoder.next().map_err(|error| Failure::Final(error.to_string()))? {
                if self.relay_event(event.data, message).await {
                    return Ok(());
                }
            }
        }
    }

    /// Relays one message of a stream to the host. Returns whether it was the response.
    async fn relay_event(&self, data: Bytes, message: &Envelope<'_>) -> bool {
        let Ok(event) = Envelope::parse(&data) else { return false };
        let is_answer = event.kind() == Kind::Response && event.id == message.id;
        if is_answer {
            self.record_answer(&event, message);
        }
        self.send_to_host(data.clone()).await;
        is_answer
    }

    pub(super) async fn relay_stream(&self, response: Response) {
        let mut decoder = sse::Decoder::new(MAX_MESSAGE_BYTES);
        let mut chunks = response.bytes_stream();
        loop {
            let chunk = tokio::select! {
                Some(Ok(chunk)) = chunks.next() => chunk,
                () = self.closing.cancelled() => return,
                else => return,
            };
            decoder.push(chunk);
            while let Ok(Some(event)) = decoder.next() {
                if Envelope::parse(&event.data).is_ok() {
                    self.send_to_host(event.data).await;
                }
            }
        }
    }

    /// Describes an error response of the edge without any secret of ours.
    pub(super) async fn refusal(&self, response: Response) -> Failure {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        let why = Envelope::parse(&body).ok().as_ref().and_then(error_message);
        let whose = self.bearers.present().whose;
        let hint = match status {
            StatusCode::UNAUTHORIZED => {
                format!("; {whose} is not valid (any more): create another with `mcpctl create token`")
            }
            StatusCode::NOT_FOUND => format!("; check that the server exists and that {whose} may call it"),
            _ => String::new(),
        };
        Failure::Final(format!(
            "the edge responded with {status}{}{hint}",
            why.map_or(String::new(), |why| format!(": {why}"))
        ))
    }
}

/// Whether the error of an edge says more than this program could: a condition or a limit of the token.
fn is_told_on(status: StatusCode) -> bool {
    matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
}

/// When to come again, as a header says it that hosts on stdio do not see.
fn retry_after(response: &Response) -> Option<u64> {
    response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

/// The error of an edge as the response to a message of the host.
fn told_on(error: &str, id: Option<&str>, retry_after: Option<u64>) -> Bytes {
    let mut error: Value = serde_json::from_str(error).unwrap_or_default();
    if let (Some(seconds), Some(data)) = (retry_after, error["data"].as_object_mut()) {
        data.entry("retry_after_ms").or_insert_with(|| seconds.saturating_mul(1_000).into());
    }
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.unwrap_or("null")))
}

fn error_message(answer: &Envelope<'_>) -> Option<String> {
    let [message] = json::members(answer.error?, ["message"]).ok()?;
    Some(json::string(message?).ok()?.into_owned())
}

fn content_type(response: &Response) -> &str {
    response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Reads the response from a JSON body or an event stream.
pub(super) async fn first_message(response: Response) -> std::result::Result<Bytes, Failure> {
    if !content_type(&response).starts_with(EVENT_STREAM) {
        return response.bytes().await.map_err(failure);
    }
    let mut decoder = sse::Decoder::new(MAX_MESSAGE_BYTES);
    let mut chunks = response.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        decoder.push(chunk);
        while let Ok(Some(event)) = decoder.next() {
            if Envelope::parse(&event.data).is_ok_and(|message| message.kind() == Kind::Response) {
                return Ok(event.data);
            }
        }
    }
    Err(Failure::Final("the connection broke before the response arrived".into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_of_the_edge_reaches_the_host_whole() {
        let told = |error: &str, id: Option<&str>| -> Value {
            serde_json::from_slice(&told_on(error, id, Some(3))).unwrap_or_default()
        };
        let error = r#"{"code":-31012,"message":"not now","data":{"reason":"outside_time_window"}}"#;
        let data = json!({ "reason": "outside_time_window", "retry_after_ms": 3000 });
        assert_eq!(
            told(error, Some("7")),
            json!({ "jsonrpc": "2.0", "id": 7, "error": { "code": -31012, "message": "not now", "data": data } })
        );
        // What the edge says more exactly itself stays.
        let said = error.replace(r#""reason""#, r#""retry_after_ms":5,"reason""#);
        assert_eq!(told(&said, None)["error"]["data"]["retry_after_ms"], 5);
        assert!(told(&said, None)["id"].is_null());
    }
}
