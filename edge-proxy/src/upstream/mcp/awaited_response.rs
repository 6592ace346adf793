//! The response to a call whose head has not come, though the upstream has sent messages beside it: servers that answer in JSON
//! ask their client on the stream of the session, and respond to the call after that.
//!
//! It must not know what the messages say.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::message_source::{MessageSource, RawResponse};
use super::response::{OpenedResponse, open};
use super::session::{ServerMessages, SessionPool, UpstreamSession};
use crate::error::Fault;
use crate::upstream::Context;
use crate::upstream::connect::Retry;

/// The response to a request, and the session that it was made in.
type Answered = Result<(RawResponse, Rc<UpstreamSession>), Fault>;

/// A response whose head has not come.
pub(in crate::upstream) struct AwaitedResponse(
    Option<LocalBoxFuture<'static, Result<OpenedResponse, Fault>>>,
);

/// What came first of a call.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum FirstOfCall {
    /// The head of its response.
    Response(RawResponse, Rc<UpstreamSession>),
    /// A message on the server stream.
    ServerMessage(AwaitedResponse, Rc<UpstreamSession>),
}

/// Makes the call of this number in the session of a pool. Returns when the head of the response comes, or a message on the
/// server stream, which is then the next one there.
pub(super) async fn call(
    context: &Rc<Context>,
    pool: &Rc<SessionPool>,
    (number, body): (u64, &Bytes),
    retry: Retry,
    server_messages: Option<&mut ServerMessages>,
) -> Result<FirstOfCall, Fault> {
    let Some(server_messages) = server_messages else {
        let (response, session) = pool.call(number, body, retry).await?;
        return Ok(FirstOfCall::Response(response, session));
    };
    Box::pin(async {
        let (called, body) = (Rc::clone(pool), body.clone());
        let mut answered: LocalBoxFuture<'static, Answered> =
            Box::pin(async move { called.call(number, &body, retry).await });
        let message = tokio::select! {
            biased;
            answered = &mut answered => {
                let (response, session) = answered?;
                return Ok(FirstOfCall::Response(response, session));
            }
            message = server_messages.next() => message,
        };
        server_messages.put_back(message);
        Ok(match pool.current() {
            Some(session) => FirstOfCall::ServerMessage(AwaitedResponse::new(context, answered), session),
            None => {
                let (response, session) = answered.await?;
                FirstOfCall::Response(response, session)
            }
        })
    })
    .await
}

impl FirstOfCall {
    /// The session that the call is made in.
    pub(super) fn session(&self) -> Rc<UpstreamSession> {
        match self {
            Self::Response(_, session) | Self::ServerMessage(_, session) => Rc::clone(session),
        }
    }
}

impl AwaitedResponse {
    fn new(context: &Rc<Context>, answered: LocalBoxFuture<'static, Answered>) -> Self {
        let context = Rc::clone(context);
        Self(Some(Box::pin(async move {
            match answered.await?.0 {
                RawResponse::Http(response) => {
                    open(&context, response).await.map_err(|no_response| no_response.fault)
                }
                RawResponse::Channel(messages) => {
                    Ok(OpenedResponse::Events(MessageSource::Channel(messages)))
                }
            }
        })))
    }

    /// Returns what the response carries, when its head has come; `None` after that. Cancel safe.
    pub(super) async fn opened(&mut self) -> Result<Option<OpenedResponse>, Fault> {
        let Some(opening) = &mut self.0 else { return Ok(None) };
        let opened = opening.await;
        self.0 = None;
        opened.map(Some)
    }
}
