//! The clients that may share one session with an upstream. It must not know how sessions are opened.

use mcp::revision::{Era, Revision};

use crate::session::capabilities::Capabilities;
use crate::session::{Conversation, SessionId};
use crate::snapshot::{ConnectionKey, McpUpstream, Upstream};
use crate::upstream::Context;

/// The clients that may share a session with an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct SessionKey {
    /// The connections that it may use.
    pub connection: ConnectionKey,
    /// The capabilities that the clients declared.
    pub capabilities: Capabilities,
    /// The revision that the clients negotiated.
    pub revision: Revision,
    /// The era of the clients.
    pub client: Era,
    /// The only conversation in the session, where messages on the server stream must reach its client.
    pub conversation: Option<SessionId>,
}

impl SessionKey {
    /// The session of a legacy conversation's calls. Log messages and requests on the server stream do not say which call
    /// they belong to, so a conversation that wants the former, or can be sent the latter, shares with no other.
    pub(in crate::upstream) fn of_conversation(
        context: &Context,
        upstream: &Upstream,
        mcp: &McpUpstream,
        conversation: &Conversation,
    ) -> Self {
        let can_be_asked = conversation.capabilities != Capabilities::default();
        let wants_logs = || context.mcp.level(&conversation.session_id).is_some() && mcp.logs();
        // A connection that is a session has one call at a time where that can be asked something.
        let has_server_stream = !mcp.transport.is_channel();
        let exclusive = mcp.legacy_sessionful && (can_be_asked && has_server_stream || wants_logs());
        Self {
            connection: upstream.connection_key,
            capabilities: conversation.capabilities,
            revision: conversation.revision,
            client: Era::Legacy,
            conversation: exclusive.then_some(conversation.session_id),
        }
    }

    /// The connections of the modern era, which has no sessions: every request says who asks, and in which revision.
    pub(in crate::upstream) fn of_modern_connection(upstream: &Upstream) -> Self {
        Self { revision: Revision::LATEST, ..Self::of_modern_clients(upstream, Capabilities::default()) }
    }

    /// The session of modern clients that declare these capabilities: apart from legacy clients, whose log levels last.
    pub(in crate::upstream) fn of_modern_clients(upstream: &Upstream, capabilities: Capabilities) -> Self {
        Self {
            connection: upstream.connection_key,
            capabilities,
            revision: Revision::LATEST_LEGACY,
            client: Era::Modern,
            conversation: None,
        }
    }
}
