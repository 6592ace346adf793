//! Delivers a client's response to the upstream whose request it answers: an elicitation, a sampling, a list of roots.
//!
//! It must not know how the request reached the client.

use std::rc::Rc;

use mcp::message::span;
use mcp::splice::Splice;

use super::id::{ReplyTo, ServerRequestId};
use crate::error::{Failure, Fault};
use crate::fleet::{Delivery, Undelivered};
use crate::policy::Permit;
use crate::session::HandleOwner;
use crate::snapshot::Trust;
use crate::transport::Message;
use crate::upstream::Context;
use crate::upstream::OwnUri;
use crate::upstream::mcp::rewrite::own_uris;
use crate::upstream::mcp::session::UpstreamSession;
use crate::upstream::mcp::session_messages::post;
use crate::upstream::mcp::task;

/// Delivers a client's response to the upstream whose request it answers, whichever edge relayed the request. The
/// permit is for the call that it was made in, and `own_uri` returns the upstream's own URI for one that the client knows.
pub(in crate::upstream) async fn deliver_response(
    context: &Rc<Context>,
    trust: &Trust,
    owner: HandleOwner<'_>,
    message: &Message<'_>,
    request: ServerRequestId,
    permit: &Permit,
    own_uri: Option<OwnUri<'_>>,
) -> Result<(), Failure> {
    let unknown = Failure::answers_nothing;
    let upstream = &permit.entry().upstream;
    let is_asked = permit.leads_to(&request.upstream, &request.original);
    let raw = message.envelope.id.filter(|_| is_asked).ok_or_else(unknown)?;
    let edits = Splice::new().replace(span(message.body, raw), request.id);
    let edits = match own_uri {
        Some(own_uri) => own_uris::in_response(edits, message.body, message.envelope.result, own_uri),
        None => edits,
    };
    let body = task::of_response(edits, trust, owner, message).apply(message.body);
    let (address, version) = match request.reply_to {
        ReplyTo::Session { address, version } => (address, version),
        ReplyTo::Held(place) => {
            let delivery = Delivery { message: body, answers: None };
            let delivered = context.environment.fleet.deliver(&place, delivery).await;
            return delivered.map_err(|undelivered| match undelivered {
                Undelivered::Gone => unknown(),
                _ => Failure::Overloaded,
            });
        }
    };
    let pool = context.http_pool(upstream).map_err(|fault| Failure::upstream(&upstream.id, fault))?;
    let session = UpstreamSession::at(pool.headers.clone(), &address, &version).ok_or_else(unknown)?;
    let headers = session.headers().cloned().unwrap_or_default();
    post(context, upstream, headers, body).await.map_err(|fault| match fault {
        Fault::Status(_) => unknown(),
        fault => Failure::upstream(&upstream.id, fault),
    })
}
