//! Whether a server has forgotten a session, told from how it refuses a call and then a ping. It must not know how
//! sessions are kept, nor how a call is repeated.

/// How a server refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code of the JSON-RPC error, if it is one.
    pub code: Option<i64>,
    /// A hash of what it says, without ids and numbers.
    pub words: u64,
    /// Whether the error carries the id of the request.
    pub echoed: bool,
}

/// How the ping ended that was sent in the session of a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// With a result, or with -32601: many servers have no ping.
    Answered,
    /// With a refusal.
    Refused(Refusal),
    /// Without an answer.
    Failed,
}

/// What a refused call and the ping after it tell of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is alive: the refusal was about the call.
    Alive,
    /// It is lost.
    Lost {
        /// Whether the call cannot have run, so that it may be repeated in another session.
        untouched: bool,
    },
    /// Nobody can tell: the refusal stands.
    Unknown,
}

impl Refusal {
    /// A refusal with `status` and a body that is a JSON-RPC message or a text; `own` is the raw id of the request.
    #[cold]
    #[must_use]
    pub fn read(status: u16, _body: &[u8], _own: &str) -> Self {
        Self { status, code: None, words: 0, echoed: false }
    }

    /// A refusal by a JSON-RPC error, given raw, that answered with `status`.
    #[cold]
    #[must_use]
    pub fn of_error(status: u16, _error: &str, echoed: bool) -> Self {
        Self { status, code: None, words: 0, echoed }
    }
}

/// Whether a refusal may mean that the session is lost: then a ping tells.
#[cold]
#[must_use]
pub fn suspicious(refusal: &Refusal) -> bool {
    refusal.status == 404
}

/// What a refused call and the ping after it tell of the session.
#[cold]
#[must_use]
pub fn verdict(_call: &Refusal, _ping: &Ping) -> Verdict {
    Verdict::Unknown
}
