//! Errors of a client, in words that can be shown to people.

use std::time::Duration;

use crate::json::{JsonError, quote};
use crate::revision::Revision;
use crate::session_loss::Refusal;

/// The error of a request to a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The server wants other credentials.
    #[error("HTTP {status}: not authorized{}", challenge(.www_authenticate.as_deref()))]
    Unauthorized {
        /// 401 or 403.
        status: u16,
        /// The server's challenge.
        www_authenticate: Option<String>,
        /// Whether it wants a bearer, and says no more than that.
        wants_bearer: bool,
        /// The error of JSON-RPC in the body, if there is one.
        told: Option<Box<ClientError>>,
    },
    /// An answer that is not MCP.
    #[error("HTTP {status}: {excerpt}")]
    Http {
        /// The status.
        status: u16,
        /// The start of the body, or what was wrong with it.
        excerpt: String,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// A message larger than we read.
    #[error("a message is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The server answered with a JSON-RPC error.
    #[error("error {code}: {message}")]
    Rpc {
        /// Its code.
        code: i64,
        /// Its message.
        message: String,
        /// Its data, raw JSON.
        data: Option<String>,
        /// The HTTP status that it came with.
        status: u16,
    },
    /// The server does not keep to the protocol.
    #[error("violates the protocol: {0}")]
    Protocol(String),
    /// The server offers a revision that is not spoken here.
    #[error("{}", unknown_version(.offered))]
    Version {
        /// Its date, as the server wrote it, safe to print; empty if it named none.
        offered: String,
    },
    /// The server no longer knows the session; open another one.
    #[error("the server no longer knows the session")]
    SessionLost {
        /// How it refused a call, where a ping told that the session is lost.
        refused_with: Option<Box<ClientError>>,
    },
    /// The server answers a POST with the stream of HTTP+SSE, whose URL this is.
    #[error("violates the protocol: answers a POST with the stream of HTTP+SSE")]
    EventStream,
    /// The server does not offer this.
    #[error("the server does not offer this")]
    Unsupported,
    /// The server lets only one listen, and someone else does.
    #[error("another client has the stream of this session open")]
    Busy,
    /// The pages of a list lead back to one that was read already.
    #[error("the server returned the same page of {method} twice")]
    CursorLoop {
        /// The list.
        method: &'static str,
    },
    /// A list is longer than the caller takes.
    #[error("{method} has more than {limit} {unit}")]
    TooMany {
        /// The list.
        method: &'static str,
        /// The limit.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
}

impl ClientError {
    /// A session that is lost, as the protocol says it.
    pub const SESSION_LOST: Self = Self::SessionLost { refused_with: None };

    /// Whether another session is to be opened.
    #[must_use]
    pub fn is_session_lost(&self) -> bool {
        matches!(self, Self::SessionLost { .. })
    }

    /// The refusal that was taken for a lost session, for whoever knows better: servers without pings refuse whatever they do not
    /// know in the same words.
    #[must_use]
    pub fn as_refused(self) -> Self {
        match self {
            Self::SessionLost { refused_with: Some(refused) } => *refused,
            error => error,
        }
    }

    /// The HTTP status that it came with.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Http { status, .. } | Self::Unauthorized { status, .. } | Self::Rpc { status, .. } => {
                Some(*status)
            }
            _ => None,
        }
    }

    /// How the server refused, if that is what it did.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Http { status, excerpt } => Some(Refusal::read(*status, excerpt.as_bytes())),
            Self::Unauthorized { status, www_authenticate, .. } => {
                let text = www_authenticate.as_deref().unwrap_or_default();
                Some(Refusal::read(*status, text.as_bytes()))
            }
            Self::Rpc { code, message, status, .. } => {
                let error = format!(r#"{{"code":{code},"message":{}}}"#, quote(message));
                Some(Refusal { has_number: true, ..Refusal::of_error(*status, &error) })
            }
            _ => None,
        }
    }
}

impl From<JsonError> for ClientError {
    fn from(error: JsonError) -> Self {
        Self::Protocol(format!("a result: {error}"))
    }
}

fn unknown_version(offered: &str) -> String {
    let spoken = format!("this release speaks {} to {}", Revision::ALL[0], Revision::LATEST);
    match offered {
        "" => format!("names no protocol version; {spoken}"),
        offered => {
            format!("offers protocol version {offered:?}, which this release does not speak; {spoken}")
        }
    }
}

fn challenge(www_authenticate: Option<&str>) -> String {
    www_authenticate.map(|text| format!(" ({text})")).unwrap_or_default()
}

/// Why an endpoint is not a server that can be used. Its text is the exact error of the handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The server wants other credentials.
    #[error("HTTP {status}: not authorized{}", challenge(.www_authenticate.as_deref()))]
    Unauthorized {
        /// 401 or 403.
        status: u16,
        /// The server's challenge.
        www_authenticate: Option<String>,
    },
    /// No answer in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The server, or something before it, says that it cannot serve now.
    #[error("HTTP {status}: unavailable: {excerpt}")]
    Unavailable {
        /// 429 or 5xx.
        status: u16,
        /// The start of the body.
        excerpt: String,
    },
    /// Something answers, but not MCP.
    #[error("HTTP {status}: not an MCP server: {excerpt}")]
    NotMcp {
        /// The status.
        status: u16,
        /// The start of the body, or what was wrong with it.
        excerpt: String,
    },
    /// It offers a revision that is not spoken here.
    #[error("{}", unknown_version(.offered))]
    Version {
        /// Its date, as the server wrote it, safe to print; empty if it named none.
        offered: String,
    },
    /// It speaks MCP, but refuses us or does not keep to the protocol.
    #[error("{0}")]
    Protocol(String),
}

impl From<ClientError> for ProbeError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable(reason) => Self::Unreachable(reason),
            ClientError::Timeout(after) => Self::Timeout(after),
            ClientError::Unauthorized { status, www_authenticate, .. } => {
                Self::Unauthorized { status, www_authenticate }
            }
            ClientError::Http { status, excerpt } if is_outage(status) => {
                Self::Unavailable { status, excerpt }
            }
            ClientError::Http { status, excerpt } => Self::NotMcp { status, excerpt },
            ClientError::Version { offered } => Self::Version { offered },
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// Whether a status is transient, and says nothing about the server.
pub(super) fn is_outage(status: u16) -> bool {
    status == 429 || status >= 500
}
