//! A legacy client's call at a modern upstream, which is told in each request what the session knows of the client.

use std::rc::Rc;
use std::sync::Arc;

use http::Method as Verb;

use super::{requests, unreadable};
use crate::session::Conversation;
use crate::upstream::call::{Call, Missed, settle};
use crate::upstream::modern;
use crate::upstream::receive::{Answer, receive};
use crate::upstream::source::Answered;
use crate::upstream::translate::{LegacyGuest, Side, Tasks, Translation};

/// Makes a call on a channel of its own.
pub(in crate::upstream) async fn call(
    mut call: Call<'_>,
    conversation: &Rc<Conversation>,
) -> Result<Answer, Missed> {
    let mut account = call.account.take();
    let answered = async {
        let upstream = Arc::clone(&call.permit.entry().upstream);
        let number = call.worker.upstreams.number();
        let level = call.worker.upstreams.level(&conversation.jti);
        let body = requests::to_modern(&call, conversation, level.as_deref(), number).map_err(unreadable)?;
        let endpoint = call.worker.upstreams.endpoint(&upstream)?;
        let headers = modern::headers(&call, endpoint.headers.clone()).map_err(Missed::Client)?;
        let reply =
            endpoint.send(&Verb::POST, headers, body, call.repeat(), upstream.request_timeout).await?;
        let translation = Translation {
            trust: Arc::clone(call.trust),
            server: Arc::clone(call.server),
            token: Arc::clone(call.token),
            upstream,
            method: call.method,
            id: call.id(),
            uri_prefix: call.permit.entry().uri_prefix.clone(),
            side: Side::Modern {
                exposed: call.named.exposed.as_ref().into(),
                tasks: Tasks::None,
                guest: Some(LegacyGuest { number }),
            },
        };
        Ok(receive(call.worker, Answered::Reply(reply), translation, &mut account, None).await?)
    }
    .await;
    settle(answered, &mut account)
}
