//! Failures that end a request early: the code, the status and the message of each.
//!
//! The codes are in `Failure::code`: those of JSON-RPC and MCP where they define one, -31xxx with a `data.reason` where
//! the gateway itself refuses. It must not know how a request got here.

mod fault;
mod unapproved;
mod unmet;
mod words;

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use inbound::TooManyConnections;
use inbound::names::NameError;
use mcp::error as codes;
use mcp::json;
use mcp::revision::{Era, Revision};
use mcp::uri::NotCanonical;

pub use self::fault::Fault;
pub use self::unapproved::{PendingApproval, Unapproved, Unmade};
pub use self::unmet::Unmet;
use self::words::{described, limited, reason_of, refused_by_rule, seconds, too_many, versions};
use crate::observe::{Bound, LimitRefusal, Rejection};

/// The facts of a request that an error must echo.
#[derive(Debug, Clone)]
pub struct ErrorContext {
    /// The raw JSON of the request's id.
    pub id: Option<Bytes>,
    /// The era that the answer is written for.
    pub era: Era,
}

impl Default for ErrorContext {
    fn default() -> Self {
        Self { id: None, era: Era::Legacy }
    }
}

/// A failure that ends a request early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// `Host` is not one of ours.
    #[error("this Host is not allowed; see --allowed-host")]
    Host,
    /// `Origin` is not allowed.
    #[error("this Origin is not allowed; see --allowed-origin")]
    Origin,
    /// A header that may occur once occurs several times.
    #[error("the header {0} occurs more than once")]
    RepeatedHeader(&'static str),
    /// No such path.
    #[error("unknown path; servers are at /servers/{{name}}/mcp, /sse and /ws")]
    Path,
    /// No server of this name that the caller may see.
    #[error("unknown server")]
    Server,
    /// A verb that the path does not take.
    #[error("this path supports only {0}")]
    Verb(&'static str),
    /// No bearer, or one that is not valid.
    #[error("{}", if *.presented { "the bearer token is not valid" } else { "a bearer token is required, in the header Authorization: Bearer TOKEN" })]
    Bearer {
        /// True if one was presented.
        presented: bool,
    },
    /// No token names the certificate of the client, or several do.
    #[error(
        "no valid token names the client certificate; name its identity in the certificates of one token, or send a bearer"
    )]
    Certificate,
    /// HTTP Basic where somebody could listen, or from a page.
    #[error("HTTP Basic is taken over TLS or from this machine only, and not from pages of browsers")]
    BasicNotHere,
    /// A bearer in the URL, where it ends up in logs.
    #[error(
        "a bearer must not be in the URL; send it in the Authorization header, or use a ticket in a browser"
    )]
    BearerInUrl,
    /// A ticket that is not ours, expired, or used already.
    #[error("the ticket is not valid; request another")]
    Ticket,
    /// A request for a WebSocket without its headers.
    #[error("this path requires a WebSocket upgrade (version 13)")]
    Upgrade,
    /// A condition of the token does not hold.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// A rule of the server refuses the request.
    #[error("{}", refused_by_rule(told, *undecided))]
    Rule {
        /// What the rule tells whom it refuses; may be empty.
        told: Box<str>,
        /// True if it could not be decided whether the rule refuses it.
        undecided: bool,
    },
    /// A rule of the server holds the call back, and it is not approved.
    #[error("{0}")]
    Unapproved(Box<Unapproved>),
    /// No contact with a control plane for too long.
    #[error("this edge has had no contact with its control plane for longer than bearers may be trusted")]
    TrustStale,
    /// There is no room for what would be recorded of it.
    #[error("this edge cannot record calls at the moment, and lets none in without; try again later")]
    AuditUnavailable,
    /// A body that is not JSON: its content type, safe to print; empty where there is none.
    #[error("the content type must be application/json, and is {}", if .0.is_empty() { "missing" } else { &**.0 })]
    ContentType(Box<str>),
    /// A body that is compressed: its coding, safe to print.
    #[error("the body has the content coding {0}, and must have none")]
    ContentCoding(Box<str>),
    /// A body past the limit.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// A body that did not arrive in time.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// A body that broke off.
    #[error("the body was interrupted")]
    BodyBroken,
    /// There is no memory for a body now.
    #[error("too much memory is in use for bodies at this edge; send it again later")]
    BodyMemory,
    /// The edge has too much in flight.
    #[error("this edge has too many requests in flight")]
    Overloaded,
    /// It takes a while to find out what the token may use.
    #[error("this edge is still working out what this token may use here; send it again in a moment")]
    Pending,
    /// The token holds too many streams.
    #[error("this token has too many open streams")]
    TooManyStreams,
    /// Too much of what tokens share is taken.
    #[error("{}", too_many(*.of, *.of_token))]
    TooMany {
        /// What is shared.
        of: Bound,
        /// True if the token has its share of it; false if nothing is left.
        of_token: bool,
    },
    /// A limit of the token is used up, or cannot be read.
    #[error("{}", limited(*.what, .limit, *.retry_after))]
    Limit {
        /// What is used up.
        what: LimitRefusal,
        /// The limit as the token has it; of one that cannot be read, its id.
        limit: Box<str>,
        /// When there may be more.
        retry_after: Duration,
    },
    /// The client has too much in flight on one connection.
    #[error("this connection has too many requests in flight")]
    TooManyRequests,
    /// The credential holds too many connections.
    #[error(transparent)]
    TooManyConnections(#[from] TooManyConnections),
    /// There are too many tunnels.
    #[error("too many tunnels are open to this upstream or this edge")]
    TooManyTunnels,
    /// No upstream that dials in with this credential.
    #[error("no upstream with this credential dials in here")]
    Tunnel,
    /// The edge is stopping.
    #[error("this edge is stopping")]
    Draining,
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    Parse(String),
    /// JSON, but no acceptable message.
    #[error("{0}")]
    Invalid(String),
    /// `Mcp-Session-Id` is absent.
    #[error(
        "the header Mcp-Session-Id is required; the response to initialize contains it. Clients of HTTP+SSE connect to /sse"
    )]
    SessionMissing,
    /// A stream that belongs to no session. The status tells clients that there is none; most then do without.
    #[error(
        "there is no stream without a session: send initialize to this URL first (POST), then Mcp-Session-Id. Clients of HTTP+SSE connect to /sse"
    )]
    StreamWithoutSession,
    /// The session is unknown, another caller's, or over.
    #[error("unknown session; initialize again without Mcp-Session-Id")]
    SessionUnknown,
    /// A message on a connection whose conversation has not begun.
    #[error("not initialized; send initialize first")]
    NotInitialized,
    /// The connection that a message belongs to is gone, or another caller's.
    #[error("the stream is closed; open it again")]
    Disconnected,
    /// `MCP-Protocol-Version` in a legacy session that names no revision.
    #[error(
        "the header MCP-Protocol-Version is \"{sent}\", which is not supported; this session has {revision}"
    )]
    LegacyVersion {
        /// The header, safe to print.
        sent: Box<str>,
        /// What was negotiated.
        revision: Revision,
    },
    /// The modern era's headers and body do not agree.
    #[error("{0}")]
    Header(String),
    /// The modern era's revision is not supported.
    #[error("unsupported protocol version")]
    Version {
        /// The requested revision.
        requested: String,
    },
    /// The client did not declare an extension that the method belongs to.
    #[error("missing required client capability")]
    Extension(&'static str),
    /// No such method.
    #[error("method not found")]
    Method,
    /// Parameters that cannot be used.
    #[error("{message}")]
    Params {
        /// The problem.
        message: String,
        /// True if the modern era answers HTTP 400.
        bad_request: bool,
    },
    /// No tool or prompt of this name that the caller may use.
    #[error("unknown {kind}: {name}")]
    Unknown {
        /// `tool`, `prompt` or `resource template`.
        kind: &'static str,
        /// As the client spelled it.
        name: String,
    },
    /// No resource of this URI that the caller may read.
    #[error("resource not found{}", described(*problem))]
    Resource {
        /// As the client spelled it.
        uri: String,
        /// The reason for which no template could have produced it.
        problem: Option<NotCanonical>,
    },
    /// The upstream failed.
    #[error("upstream {upstream}: {fault}")]
    Upstream {
        /// The upstream's id.
        upstream: String,
        /// The fault.
        fault: Fault,
    },
    /// An internal error, such as a trust bundle without keys.
    #[error("{0}")]
    Internal(String),
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Host => Self::Host,
            NameError::Origin => Self::Origin,
            NameError::Repeated(header) => Self::RepeatedHeader(header),
            NameError::Upgrade => Self::Invalid(error.to_string()),
        }
    }
}

impl Failure {
    /// The failure of a response that answers no request of ours, or one that its sender may no longer answer.
    pub fn answers_nothing() -> Self {
        Self::Invalid("this response belongs to no request".to_owned())
    }

    /// Makes a failure of bad parameters, answered 200.
    pub fn params(message: impl Into<String>) -> Self {
        Self::Params { message: message.into(), bad_request: false }
    }

    /// Makes a failure of this upstream.
    pub fn upstream(upstream: &str, fault: Fault) -> Self {
        Self::Upstream { upstream: upstream.to_owned(), fault }
    }

    fn code(&self, era: Era) -> i64 {
        match self {
            Self::Bearer { .. } | Self::Certificate | Self::BearerInUrl | Self::Ticket => -31001,
            Self::TrustStale => -31002,
            Self::Host | Self::Origin | Self::RepeatedHeader(_) | Self::BasicNotHere => -31003,
            Self::Path | Self::Server | Self::Tunnel => -31004,
            Self::Verb(_) | Self::Upgrade => -31005,
            Self::ContentType(_) | Self::ContentCoding(_) => -31006,
            Self::BodyTooLarge(_) => -31007,
            Self::BodyTimeout | Self::BodyBroken => -31008,
            Self::Overloaded | Self::TooManyStreams | Self::TooManyRequests | Self::Draining => -31009,
            Self::Pending => -31009,
            Self::TooManyTunnels | Self::TooManyConnections(_) | Self::BodyMemory => -31009,
            Self::AuditUnavailable => -31009,
            Self::TooMany { .. } => -31009,
            Self::Limit { .. } | Self::Unmet(_) | Self::Rule { .. } => -31012,
            Self::Unapproved(unapproved) => unapproved.code(),
            Self::SessionMissing | Self::StreamWithoutSession | Self::SessionUnknown => -31010,
            Self::NotInitialized | Self::Disconnected => -31010,
            Self::LegacyVersion { .. } => codes::INVALID_REQUEST,
            Self::Parse(_) => codes::PARSE_ERROR,
            Self::Invalid(_) => codes::INVALID_REQUEST,
            Self::Header(_) => codes::HEADER_MISMATCH,
            Self::Version { .. } => codes::UNSUPPORTED_VERSION,
            Self::Extension(_) => codes::MISSING_CAPABILITY,
            Self::Method => codes::METHOD_NOT_FOUND,
            Self::Params { .. } | Self::Unknown { .. } => codes::INVALID_PARAMS,
            Self::Resource { .. } if era == Era::Legacy => codes::RESOURCE_NOT_FOUND,
            Self::Resource { .. } => codes::INVALID_PARAMS,
            Self::Upstream { fault, .. } => fault.code(),
            Self::Internal(_) => codes::INTERNAL_ERROR,
        }
    }

    /// The HTTP status of the answer, where the transport has any.
    pub fn status(&self, era: Era) -> StatusCode {
        match self {
            Self::Host | Self::Origin | Self::BasicNotHere | Self::Unmet(_) | Self::Rule { .. } => {
                StatusCode::FORBIDDEN
            }
            Self::Path | Self::Server | Self::Tunnel | Self::SessionUnknown | Self::Disconnected => {
                StatusCode::NOT_FOUND
            }
            Self::Verb(_) | Self::StreamWithoutSession => StatusCode::METHOD_NOT_ALLOWED,
            Self::Upgrade => StatusCode::UPGRADE_REQUIRED,
            Self::Bearer { .. } | Self::Certificate | Self::Ticket => StatusCode::UNAUTHORIZED,
            Self::TrustStale
            | Self::Overloaded
            | Self::Pending
            | Self::BodyMemory
            | Self::Draining
            | Self::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyStreams
            | Self::TooManyRequests
            | Self::TooManyTunnels
            | Self::TooManyConnections(_)
            | Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Limit { what: LimitRefusal::Unusable, .. } => StatusCode::FORBIDDEN,
            Self::Limit { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unapproved(unapproved) => unapproved.status(),
            Self::ContentType(_) | Self::ContentCoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken
            | Self::Parse(_)
            | Self::Invalid(_)
            | Self::SessionMissing
            | Self::NotInitialized
            | Self::BearerInUrl
            | Self::RepeatedHeader(_)
            | Self::LegacyVersion { .. } => StatusCode::BAD_REQUEST,
            Self::Header(_) | Self::Version { .. } | Self::Extension(_) => StatusCode::BAD_REQUEST,
            Self::Params { bad_request: true, .. } if era == Era::Modern => StatusCode::BAD_REQUEST,
            Self::Method if era == Era::Modern => StatusCode::NOT_FOUND,
            Self::Method | Self::Params { .. } | Self::Unknown { .. } => StatusCode::OK,
            Self::Resource { .. } | Self::Upstream { .. } | Self::Internal(_) => StatusCode::OK,
        }
    }

    /// The `data` of the error, as raw JSON.
    fn data(&self) -> Option<String> {
        let reason = |reason: &str| Some(format!(r#"{{"reason":"{reason}"}}"#));
        match self {
            Self::Bearer { presented: true } => reason("bearer_invalid"),
            Self::Bearer { presented: false } => reason("bearer_missing"),
            Self::Certificate => reason("certificate_unknown"),
            Self::BasicNotHere => reason("basic_not_here"),
            Self::BearerInUrl => reason("bearer_in_url"),
            Self::Ticket => reason("ticket_invalid"),
            Self::Upgrade => reason("upgrade_needed"),
            Self::Unmet(unmet) => reason(unmet.reason()),
            Self::Rule { undecided, .. } => {
                reason(if *undecided { "policy_error" } else { "denied_by_rule" })
            }
            Self::Unapproved(unapproved) => Some(unapproved.data()),
            Self::TrustStale => reason("trust_stale"),
            Self::AuditUnavailable => reason("audit_unavailable"),
            Self::Host => reason("host_not_allowed"),
            Self::Origin => reason("origin_not_allowed"),
            Self::RepeatedHeader(_) => reason("repeated_header"),
            Self::Path => reason("path_unknown"),
            Self::Server => reason("server_unknown"),
            Self::Tunnel => reason("tunnel_unknown"),
            Self::TooManyTunnels => reason("too_many_tunnels"),
            Self::TooManyConnections(_) => reason("too_many_connections"),
            Self::Verb(_) => reason("method_not_allowed"),
            Self::ContentType(_) => reason("content_type"),
            Self::ContentCoding(_) => reason("content_coding"),
            Self::BodyTooLarge(_) => reason("body_too_large"),
            Self::BodyTimeout => reason("body_timeout"),
            Self::BodyBroken => reason("body_incomplete"),
            Self::Overloaded | Self::Pending => reason("overloaded"),
            Self::BodyMemory => reason("body_memory"),
            Self::TooManyStreams => reason("too_many_streams"),
            Self::TooManyRequests => reason("too_many_requests"),
            Self::TooMany { of, .. } => reason(reason_of(*of)),
            Self::Limit { what: what @ LimitRefusal::Unusable, .. } => reason(what.as_str()),
            Self::Limit { what, retry_after, .. } => Some(format!(
                r#"{{"reason":"{}","retry_after_ms":{}}}"#,
                what.as_str(),
                retry_after.as_nanos().div_ceil(1_000_000)
            )),
            Self::Draining => reason("draining"),
            Self::SessionMissing | Self::StreamWithoutSession => reason("session_missing"),
            Self::SessionUnknown | Self::Disconnected => reason("session_unknown"),
            Self::NotInitialized => reason("not_initialized"),
            Self::Upstream { upstream, fault: fault @ Fault::Lost { retryable } } => Some(format!(
                r#"{{"reason":"{}","upstream":{},"retryable":{retryable}}}"#,
                fault.reason(),
                json::quote(upstream),
            )),
            Self::Upstream { upstream, fault } => {
                Some(format!(r#"{{"reason":"{}","upstream":{}}}"#, fault.reason(), json::quote(upstream)))
            }
            Self::Resource { uri, .. } => Some(format!(r#"{{"uri":{}}}"#, json::quote(uri))),
            Self::Extension(name) => {
                Some(format!(r#"{{"requiredCapabilities":{{"extensions":{{"{name}":{{}}}}}}}}"#))
            }
            Self::Version { requested } => Some(versions(requested)),
            _ => None,
        }
    }

    /// The label in metrics; `None` for requests that reached a target.
    pub fn counts_as(&self) -> Option<Rejection> {
        Some(match self {
            Self::Host | Self::Origin | Self::RepeatedHeader(_) => Rejection::Origin,
            Self::Path | Self::Server | Self::Tunnel => Rejection::UnknownPath,
            Self::Bearer { .. }
            | Self::Certificate
            | Self::BasicNotHere
            | Self::BearerInUrl
            | Self::Ticket
            | Self::TrustStale => Rejection::Unauthenticated,
            Self::Unmet(_) | Self::Rule { .. } | Self::Unapproved(_) => Rejection::UnmetCondition,
            Self::SessionMissing
            | Self::StreamWithoutSession
            | Self::SessionUnknown
            | Self::NotInitialized
            | Self::Disconnected => Rejection::UnknownSession,
            Self::Verb(_) | Self::ContentType(_) | Self::ContentCoding(_) | Self::Upgrade => {
                Rejection::Unacceptable
            }
            Self::BodyTooLarge(_) => Rejection::BodyTooLarge,
            Self::BodyTimeout | Self::BodyBroken => Rejection::Slow,
            Self::Overloaded | Self::Pending | Self::BodyMemory => Rejection::Overloaded,
            Self::TooManyStreams
            | Self::TooManyRequests
            | Self::TooManyTunnels
            | Self::TooManyConnections(_)
            | Self::TooMany { .. } => Rejection::TooMany,
            Self::Draining => Rejection::Draining,
            Self::Parse(_)
            | Self::Invalid(_)
            | Self::LegacyVersion { .. }
            | Self::Header(_)
            | Self::Version { .. } => Rejection::Malformed,
            _ => return None,
        })
    }

    /// The seconds after which the same request may pass, where that is known.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Limit { what: LimitRefusal::Unusable, .. } => None,
            Self::Limit { retry_after, .. } => Some(seconds(*retry_after).max(1)),
            Self::Unmet(unmet) => unmet.retry_after(),
            _ => None,
        }
    }

    /// Whether nothing was sent to an upstream when it came to this.
    pub fn is_unsent(&self) -> bool {
        let is_unsent =
            |fault: &Fault| matches!(fault, Fault::Connect(_) | Fault::NotAllowed(_) | Fault::Era(_));
        match self {
            Self::Upstream { fault, .. } => is_unsent(fault),
            Self::Params { .. } => true,
            _ => false,
        }
    }

    /// Renders the error as a JSON-RPC message.
    pub fn message(&self, error_context: &ErrorContext) -> Bytes {
        let id = error_context.id.as_deref().and_then(|id| std::str::from_utf8(id).ok());
        codes::render(id, self.code(error_context.era), &self.to_string(), self.data().as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(failure: Failure, era: Era) -> (u16, String) {
        let error_context = ErrorContext { id: Some(Bytes::from_static(b"7")), era };
        let status = failure.status(error_context.era).as_u16();
        (status, String::from_utf8(failure.message(&error_context).to_vec()).unwrap())
    }

    #[test]
    fn a_resource_that_no_template_could_produce_is_told_why() {
        let failure = Failure::Resource { uri: "x:..".to_owned(), problem: Some(NotCanonical::DotSegment) };
        let expected = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"resource not found: the URI has a dot segment, and no template produces such","data":{"uri":"x:.."}}}"#;
        assert_eq!(rendered(failure, Era::Legacy), (200, expected.to_owned()));
    }

    #[test]
    fn a_missing_resource_is_told_in_the_words_of_each_era() {
        let failure = Failure::Resource { uri: "a\"b".to_owned(), problem: None };
        let legacy = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"resource not found","data":{"uri":"a\"b"}}}"#;
        assert_eq!(rendered(failure.clone(), Era::Legacy), (200, legacy.to_owned()));
        let modern = legacy.replace("-32002", "-32602");
        assert_eq!(rendered(failure, Era::Modern), (200, modern));
    }

    #[test]
    fn what_is_supported_instead_is_named() {
        let failure = Failure::Version { requested: "2027-01-01".to_owned() };
        let data = r#"{"supported":["2026-07-28"],"requested":"2027-01-01"}"#;
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":7,"error":{{"code":-32022,"message":"unsupported protocol version","data":{data}}}}}"#
        );
        assert_eq!(rendered(failure, Era::Modern), (400, expected));
    }

    #[test]
    fn a_fault_names_its_reason_and_its_upstream() {
        let failure = Failure::upstream("time", Fault::Timeout);
        let expected = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-31102,"message":"upstream time: no response in time","data":{"reason":"upstream_timeout","upstream":"time"}}}"#;
        assert_eq!(rendered(failure, Era::Legacy), (200, expected.to_owned()));
    }
}
