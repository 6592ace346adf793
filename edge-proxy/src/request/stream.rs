//! The streams of a caller: of notifications, of calls that are resumed, and of answers. It must not know what is called.

use mcp::header::{LAST_EVENT_ID, SESSION_ID};
use mcp::revision::Era;

use super::conversation;
use crate::builtin::listen;
use crate::context::{ActiveCall, RequestContext, StreamPermit};
use crate::error::{ErrorContext, Failure};
use crate::policy::Arguments;
use crate::respond::Reply;
use crate::transport::Message;
use crate::{policy, session, upstream};

/// Resumes a call's stream that broke off, or opens the stream of notifications.
pub(super) fn open(context: &RequestContext<'_>) -> Result<Reply, Failure> {
    if !context.headers().is_some_and(|headers| headers.contains_key(SESSION_ID)) {
        return Err(Failure::StreamWithoutSession);
    }
    let conversation = conversation(context)?;
    let last = context.headers().and_then(|headers| headers.get(LAST_EVENT_ID)?.to_str().ok());
    match last.and_then(|id| resume(context, &conversation, id)) {
        Some(reply) => reply,
        None => listen::legacy(context, &conversation),
    }
}

/// Resumes the call's stream that an event id names, if the caller may still make that call.
fn resume(
    context: &RequestContext<'_>,
    conversation: &session::Conversation,
    last_event_id: &str,
) -> Option<Result<Reply, Failure>> {
    let (trust, server) = (&context.snapshot.trust, context.server());
    let resumption = upstream::Resumption::open(trust, context.owner(), conversation, last_event_id)?;
    let (method, target) = (resumption.method()?, resumption.target()?);
    let judged = Arguments::Judged(resumption.judged_by());
    let permit = policy::check(&context.caller, method, &target.named(), judged).ok()?;
    let error_context = ErrorContext { id: Some(resumption.id()?), era: Era::Legacy };
    let stream_permit = match context.stream_permit() {
        Ok(stream_permit) => stream_permit,
        Err(failure) => return Some(Err(failure)),
    };
    let active = ActiveCall::begin(context.worker, context.caller, &permit, error_context);
    let caller = upstream::ResumingCaller {
        trust,
        server,
        principal: context.principal(),
        active: active.share_permit(),
        permit,
    };
    let events = upstream::resume(&context.worker.upstreams, &resumption, caller)?;
    Some(Ok(Reply::Events(Box::new(active.stream(events, stream_permit)))))
}

/// Takes one of the caller's streams for a call that asks for progress, before the call has an effect. Other calls are
/// mostly answered without a stream, and take one when their answer begins as one.
pub(super) fn reserve(
    context: &RequestContext<'_>,
    message: &Message<'_>,
) -> Result<Option<StreamPermit>, Failure> {
    if message.params.progress_token.is_some() { context.stream_permit() } else { Ok(None) }
}

/// Streams the answer to a call, unless the caller holds too many streams. Then the call is stopped.
pub(super) fn reply(
    context: &RequestContext<'_>,
    active: ActiveCall,
    mut events: upstream::AnswerStream,
    reserved: Option<StreamPermit>,
) -> Result<Reply, Failure> {
    // An answer that has come as a whole, as most do, is written at once and keeps nothing open.
    if events.has_response() {
        return Ok(Reply::Events(Box::new(active.stream(events, None))));
    }
    let permit = match reserved {
        Some(reserved) => Ok(Some(reserved)),
        None => context.stream_permit(),
    };
    match permit {
        Ok(permit) => Ok(Reply::Events(Box::new(active.stream(events, permit)))),
        Err(failure) => {
            events.withdraw();
            Err(failure)
        }
    }
}
