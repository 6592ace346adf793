//! Calls upstreams. Here are its only doors: each takes a permit, and leads to the room of the upstream's kind.
//!
//! It must not know how the client is spoken to.

mod answer_stream;
mod call;
mod connect;
mod context;
mod mcp;
mod place;
mod quirk_sink;

use std::rc::Rc;
use std::sync::Arc;

use ::mcp::revision::Era;

pub use self::answer_stream::AnswerStream;
use self::call::CallError;
pub use self::call::{Call, CallResponse};
pub use self::context::{Context, Environment};
pub use self::mcp::{
    ExclusiveSessions, Resumption, ServerRequestId, SessionCommand, SessionLosses, SubscriptionNotice,
    SubscriptionTargets, Task, UpstreamSubscription, poll_interval, task_without,
};
pub use self::place::Places;
use crate::collections::byte_queue::Sender;
use crate::error::Failure;
use crate::identity::Principal;
use crate::policy::{Permit, SharedPermit};
use crate::session::HandleOwner;
use crate::snapshot::{Server, Trust, UpstreamKind};
use crate::transport::Message;

/// Makes a call.
pub async fn call(call: Call<'_>) -> Result<CallResponse, Failure> {
    let (context, upstream) = (call.context, Arc::clone(&call.permit.entry().upstream));
    let is_masked = call.permit.masks().is_some();
    let answered = match &upstream.kind {
        UpstreamKind::Mcp(mcp) => self::mcp::call(call, mcp).await,
    };
    answered.map_err(|error| match error {
        CallError::Upstream(fault) => {
            if let Some(counted) = fault.counts_as() {
                context.environment.metrics.upstream_fault(counted).inc();
            }
            Failure::upstream(&upstream.id, if is_masked { fault.unquoted() } else { fault })
        }
        CallError::Client(failure) => failure,
    })
}

/// A caller that resumes the stream of its call.
pub struct ResumingCaller<'a> {
    /// The keys that handles are sealed with.
    pub trust: &'a Arc<Trust>,
    pub server: &'a Arc<Server>,
    pub principal: &'a Arc<Principal>,
    pub permit: Permit,
    /// The same, for what goes on after the request.
    pub active: SharedPermit,
}

/// Resumes the stream of a call. `None` where its target now leads to another upstream.
pub fn resume(
    context: &Rc<Context>,
    resumption: &Resumption,
    caller: ResumingCaller<'_>,
) -> Option<AnswerStream> {
    match &caller.permit.entry().upstream.kind {
        UpstreamKind::Mcp(_) => self::mcp::resume(context, resumption, caller),
    }
}

/// Subscribes to targets, which permits were added for, in an era that their upstream speaks.
pub(crate) fn subscribe(
    context: &Rc<Context>,
    era: Era,
    targets: &SubscriptionTargets,
    notices: Sender<SubscriptionNotice>,
) -> UpstreamSubscription {
    match &targets.upstream().kind {
        UpstreamKind::Mcp(mcp) => self::mcp::subscribe(context, mcp, era, targets, notices),
    }
}

/// Returns the upstream's own URI for one that the client knows.
pub type OwnUri<'a> = &'a dyn Fn(&str) -> Option<Box<str>>;

/// Delivers a client's response to the upstream whose request it answers. The permit is for the call that the request
/// was made in; `own_uri` returns the upstream's own URI for one that the client knows, where the server renames any.
pub async fn deliver_response(
    context: &Rc<Context>,
    trust: &Trust,
    owner: HandleOwner<'_>,
    message: &Message<'_>,
    request: ServerRequestId,
    permit: &Permit,
    own_uri: Option<OwnUri<'_>>,
) -> Result<(), Failure> {
    match &permit.entry().upstream.kind {
        UpstreamKind::Mcp(_) => {
            self::mcp::deliver_response(context, trust, owner, message, request, permit, own_uri).await
        }
    }
}
