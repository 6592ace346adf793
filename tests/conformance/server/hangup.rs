//! Lets a tool end the HTTP response that it is being answered on, as a flaky network would.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use tokio::sync::Notify;

/// Ends the response of the request that carries it.
#[derive(Clone, Default)]
pub(crate) struct Hangup(Arc<Notify>);

impl Hangup {
    pub(crate) fn hang_up(&self) {
        self.0.notify_one();
    }
}

pub(crate) async fn make_response_interruptible(mut request: Request, next: Next) -> Response {
    let hangup = Hangup::default();
    request.extensions_mut().insert(hangup.clone());
    let (head, body) = next.run(request).await.into_parts();
    let ended = async move { hangup.0.notified().await };
    Response::from_parts(head, Body::from_stream(body.into_data_stream().take_until(ended)))
}
