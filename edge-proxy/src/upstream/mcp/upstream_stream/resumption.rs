//! Streams of calls that are resumed: after an interruption, or by the client that has brought the upstream's input. It must
//! not know who resumes them.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use mcp::border::Media;
use mcp::header::LAST_EVENT_ID;

use super::{Received, ResponsePlace, UpstreamStream};
use crate::error::Fault;
use crate::upstream::Context;
use crate::upstream::mcp::message_source::MessageSource;
use crate::upstream::mcp::reconnect::{self, Reconnect};
use crate::upstream::mcp::translator::Translator;

/// Longest wait for the first event of a resumed stream.
const RESUME_TIMEOUT: Duration = Duration::from_millis(100);
/// Longest wait for the response of a call that has ended before: the upstream has it, or will never send it.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(5);
/// Events that are taken from a resumed stream before it is read.
const MAX_REPLAYED: usize = 256;

impl<T: Translator> UpstreamStream<T> {
    /// Resumes a stream after the event that the upstream knows as `from`.
    pub(in crate::upstream::mcp) fn resumed(context: &Rc<Context>, translator: T, from: HeaderValue) -> Self {
        let mut stream = Self::new(context, None, translator, None);
        stream.reconnect = Reconnect::at_once(from);
        stream.opened = true;
        stream
    }

    /// Waits briefly for the first event of a resumed stream, and takes those that came with it. Some servers lose messages
    /// to a stream between the request for it and its start.
    pub(in crate::upstream::mcp) async fn confirm_resumed(&mut self) -> Result<(), Fault> {
        let mut patience = RESUME_TIMEOUT;
        let max_bytes = self.context.environment.limits.max_event_bytes;
        for _ in 0..MAX_REPLAYED {
            if self.queued.iter().map(|event| event.data.len()).sum::<usize>() > max_bytes {
                return Ok(());
            }
            let Some(source) = &mut self.source else { return Ok(()) };
            match tokio::time::timeout(patience, source.next()).await {
                Err(_) => return Ok(()),
                Ok(Ok(Some(event))) => {
                    let event = self.translate_event(event)?;
                    self.queued.extend(event);
                    self.send_reply().await?;
                }
                // The next read asks for it again.
                Ok(Ok(None) | Err(Fault::Interrupted)) => self.source = None,
                Ok(Err(fault)) => return Err(fault),
            }
            patience = Duration::ZERO;
        }
        Ok(())
    }

    /// Waits until the upstream has sent the response of a call that has ended once more, with what comes before it.
    ///
    /// # Errors
    /// If it keeps no events, and so sends nothing.
    pub(in crate::upstream::mcp) async fn await_replay(&mut self) -> Result<(), Fault> {
        let replayed = tokio::time::timeout(REPLAY_TIMEOUT, self.take_replay()).await;
        replayed.unwrap_or(Err(Fault::Interrupted)).inspect_err(|_| self.close())
    }

    async fn take_replay(&mut self) -> Result<(), Fault> {
        while !self.done && self.queued.len() < MAX_REPLAYED {
            match self.receive().await? {
                Received::Event(event) => self.queued.push_back(event),
                Received::ServerRequests | Received::HandedOver => return Err(Fault::Interrupted),
            }
        }
        Ok(())
    }

    /// Resumes a stream that the upstream closed.
    pub(in crate::upstream::mcp) async fn reconnect_now(&mut self) -> Result<(), Fault> {
        self.reconnect.wait().await;
        let headers = self.translator.in_session().and_then(|call| call.session.headers());
        let (Some(headers), Some(from)) = (headers, self.reconnect.last_event_id()) else {
            return Err(Fault::Interrupted);
        };
        let mut headers = headers.clone();
        headers.insert(LAST_EVENT_ID, from.clone());
        let http_pool = self.context.http_pool(&self.translator.call().upstream)?;
        let limit = self.translator.response_timeout();
        let mut response = reconnect::request_stream(&http_pool, &headers, limit).await?;
        if response.status != StatusCode::OK || response.media().await? != Some(Media::Events) {
            return Err(Fault::Interrupted);
        }
        self.source =
            Some(MessageSource::event_stream(response, self.context.environment.limits.max_event_bytes));
        self.place = ResponsePlace::Shared;
        Ok(())
    }
}
