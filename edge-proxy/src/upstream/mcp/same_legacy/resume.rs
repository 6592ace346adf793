//! Resumes the stream of a call that a client was reading, here or at another edge. It must not know where its messages
//! come from.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use mcp::method::Method;

use super::SameLegacy;
use super::resumption_token::ResumptionToken;
use crate::route::Target;
use crate::session::capabilities::Capabilities;
use crate::session::{Conversation, HandleOwner, SessionId};
use crate::snapshot::Trust;
use crate::upstream::answer_stream::AnswerStream;
use crate::upstream::mcp::call_tasks::CallTasks;
use crate::upstream::mcp::session::UpstreamSession;
use crate::upstream::mcp::translator::{CallContext, CallInSession};
use crate::upstream::mcp::upstream_stream::UpstreamStream;
use crate::upstream::{Context, ResumingCaller};

/// A stream to resume, as a client's `Last-Event-ID` names it.
pub struct Resumption {
    content: Vec<u8>,
    session_id: SessionId,
    capabilities: Capabilities,
}

impl Resumption {
    /// Opens a `Last-Event-ID`; `None` where no edge gave it to this owner in this session.
    pub fn open(
        trust: &Trust,
        owner: HandleOwner<'_>,
        conversation: &Conversation,
        last_event_id: &str,
    ) -> Option<Self> {
        let Conversation { session_id, capabilities, .. } = *conversation;
        let content = ResumptionToken::open(trust, owner, &session_id, last_event_id)?;
        Some(Self { content, session_id, capabilities })
    }

    /// The target of the call.
    pub fn target(&self) -> Option<Target> {
        let ResumptionToken { kind, exposed, .. } = ResumptionToken::read(&self.content)?;
        Some(Target { kind, exposed: exposed.into() })
    }

    /// What rules judged the arguments of the call by.
    pub fn judged_by(&self) -> Option<u128> {
        ResumptionToken::read(&self.content)?.judged_by
    }

    /// The method of the call.
    pub fn method(&self) -> Option<Method> {
        Some(ResumptionToken::read(&self.content)?.method)
    }

    /// The raw id of the request.
    pub fn id(&self) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(ResumptionToken::read(&self.content)?.id))
    }
}

/// Resumes a stream. `None` where the target now leads to another upstream, or to something else there.
pub(in crate::upstream) fn resume(
    context: &Rc<Context>,
    resumption: &Resumption,
    caller: ResumingCaller<'_>,
) -> Option<AnswerStream> {
    let ResumingCaller { trust, server, principal, permit, active } = caller;
    let from = ResumptionToken::read(&resumption.content)?;
    let upstream = Arc::clone(&permit.entry().upstream);
    if !permit.leads_to(from.upstream, from.original) {
        return None;
    }
    let headers = context.http_pool(&upstream).ok()?.headers.clone();
    let session = Rc::new(UpstreamSession::at(headers, from.session, from.version)?);
    let progress_token =
        (!from.progress_token.is_empty()).then(|| Bytes::copy_from_slice(from.progress_token));
    let call = CallContext {
        trust: Arc::clone(trust),
        server: Arc::clone(server),
        principal: Arc::clone(principal),
        upstream,
        method: from.method,
        id: Bytes::copy_from_slice(from.id),
        uri_prefix: from.uri_prefix.into(),
        active,
        odd: Cell::default(),
    };
    let translator = SameLegacy {
        call,
        session_id: resumption.session_id,
        capabilities: resumption.capabilities,
        in_session: CallInSession { session, number: from.number, progress_token },
        permit,
        // Clients that do not know every block are given no event ids.
        outdated: None,
        // Nor are calls that create or await a task.
        tasks: CallTasks::None,
        resumable: true,
        requests: VecDeque::new(),
    };
    let stream = UpstreamStream::resumed(context, translator, HeaderValue::from_bytes(from.event).ok()?);
    Some(Box::new(stream).into())
}
