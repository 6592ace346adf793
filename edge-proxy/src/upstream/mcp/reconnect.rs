//! Resuming an upstream's stream: the position, the time, and the request. It must not know what the stream carries.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, StatusCode};
use mcp::sse::Event;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::Fault;
use crate::upstream::connect::HttpResponse;
use crate::upstream::connect::{HttpPool, Retry};

/// Attempts in a row without a message in between.
const MAX_ATTEMPTS: u32 = 10;
/// Longest id of an event, in bytes; a stream with longer ones is not resumed.
pub(super) const MAX_EVENT_ID: usize = 4 << 10;
const DEFAULT_RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// Longest wait for an upstream to see that the stream before is closed; some refuse another until then.
const CONFLICT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after the first conflict. Each later one is twice as long.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);
/// The bytes of a refusal that are read, so that its connection can be used again.
const MAX_REFUSAL: usize = 64 << 10;

/// The position and the time at which a stream that broke off is resumed.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    last_event_id: Option<HeaderValue>,
    retry: Option<Duration>,
    attempts: u32,
    due: Option<Instant>,
}

/// Requests a stream, again and again for a while where the upstream refuses it as a conflict.
pub(super) async fn request_stream(
    http_pool: &Rc<HttpPool>,
    headers: &HeaderMap,
    limit: Duration,
) -> Result<HttpResponse, Fault> {
    let until = Instant::now() + CONFLICT_TIMEOUT;
    let mut pause = CONFLICT_PAUSE;
    loop {
        let get = http_pool.send(&Verb::GET, headers.clone(), Bytes::new(), Retry::Safe, limit);
        let response = get.await?;
        if response.status != StatusCode::CONFLICT || Instant::now() + pause > until {
            return Ok(response);
        }
        let _refusal = response.collect(MAX_REFUSAL).await;
        sleep(pause).await;
        pause *= 2;
    }
}

impl Reconnect {
    /// Resumes after this event at once: a client has waited already.
    pub(super) fn at_once(last_event_id: HeaderValue) -> Self {
        Self { last_event_id: Some(last_event_id), retry: Some(Duration::ZERO), ..Self::default() }
    }

    /// Notes the id and the retry delay of an event.
    pub(super) fn note(&mut self, event: &Event) {
        if let Some(id) = &event.id {
            let kept = HeaderValue::from_bytes(id).ok();
            self.last_event_id = kept.filter(|id| !id.is_empty() && id.len() <= MAX_EVENT_ID);
        }
        if let Some(retry) = event.retry {
            self.retry = Some(Duration::from_millis(retry).min(MAX_RETRY));
        }
    }

    /// Notes that a message came.
    pub(super) fn succeeded(&mut self) {
        self.attempts = 0;
    }

    /// The id of the last event.
    pub(super) fn last_event_id(&self) -> Option<&HeaderValue> {
        self.last_event_id.as_ref()
    }

    /// Whether another attempt may be made.
    pub(super) fn is_allowed(&self) -> bool {
        self.last_event_id.is_some() && self.attempts < MAX_ATTEMPTS
    }

    /// Waits until the next attempt is due. Cancel safe: the next wait is for the rest of the time.
    pub(super) async fn wait(&mut self) {
        let retry = self.retry.filter(|retry| !retry.is_zero() || self.attempts == 0);
        let due = *self.due.get_or_insert_with(|| Instant::now() + retry.unwrap_or(DEFAULT_RETRY));
        sleep_until(due).await;
        self.due = None;
        self.attempts += 1;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_interrupted_wait_goes_on_from_where_it_was() {
        let mut reconnect = Reconnect::at_once(HeaderValue::from_static("7"));
        reconnect.note(&Event { retry: Some(200), ..Event::default() });
        let mut polls = 0;
        while timeout(Duration::from_millis(20), reconnect.wait()).await.is_err() {
            polls += 1;
            assert!(polls < 1_000, "it never comes");
        }
        assert!(polls > 0);
    }

    #[tokio::test]
    async fn attempts_in_a_row_are_bounded() {
        let mut reconnect = Reconnect::at_once(HeaderValue::from_static("7"));
        reconnect.note(&Event { retry: Some(1), ..Event::default() });
        for _ in 0..MAX_ATTEMPTS {
            assert!(reconnect.is_allowed());
            reconnect.wait().await;
        }
        assert!(!reconnect.is_allowed());
        reconnect.succeeded();
        assert!(reconnect.is_allowed());
        reconnect.note(&Event { id: Some(bytes::Bytes::new()), ..Event::default() });
        assert!(!reconnect.is_allowed(), "an empty id takes the place away");
    }
}
