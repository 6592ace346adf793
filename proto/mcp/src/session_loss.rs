//! Whether a server has forgotten a session, told from how a call and then a ping fail.
//!
//! Servers say it in many ways, and say the same words for other reasons; some say nothing. What a ping is refused with, too, is
//! not about the call. It must not know how sessions are kept, nor how a call is repeated.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::error::{INTERNAL_ERROR, METHOD_NOT_FOUND, PARSE_ERROR, URL_ELICITATION_REQUIRED};
use crate::json;
use crate::message::Envelope;

/// How a server refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code of the JSON-RPC error, if it is one.
    pub code: Option<i64>,
    /// A hash of what it says, without numbers and ids.
    pub words: u64,
    /// Whether it says that the session is not known: who says so has not looked at what the request asks for.
    pub names_session: bool,
    /// Whether it has the id of the request, which clients number, in whatever form: it may come from what handled the request.
    /// What refuses sessions before a request is read answers without an id.
    pub has_number: bool,
}

/// How a call ended that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a refusal.
    Refused(Refusal),
    /// With what is no answer of the protocol: nothing at all, a page, a redirect that leads elsewhere, a connection that is cut.
    /// Whether it ran is not known.
    Unanswered,
}

/// How the ping ended that was sent in the session of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// With a result, or with -32601: many servers have no ping.
    Answered,
    /// With a refusal.
    Refused(Refusal),
    /// With what is no answer of the protocol.
    Unanswered,
    /// Not in time.
    Failed,
    /// It could not be sent.
    Unsent,
}

/// What a call that failed and the ping after it tell of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is alive: the refusal was about the call.
    Alive,
    /// It is lost.
    Lost {
        /// Whether the call cannot have run, so that it may be repeated in another session.
        untouched: bool,
    },
    /// The call says that it is lost, and the ping does not say otherwise: another session is worth a try, and the refusal of
    /// what may not run twice stands.
    PerhapsLost,
    /// Nobody can tell: the refusal stands.
    Unknown,
}

impl Refusal {
    /// A refusal with `status` and a body that is a JSON-RPC message or a text.
    #[cold]
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let refusal = match Envelope::look(body) {
            Ok(Envelope { error: Some(error), .. }) => Self::of_error(status, error),
            _ => Self::saying(status, None, &text),
        };
        Self { has_number: has_number(&text), ..refusal }
    }

    /// A refusal by a JSON-RPC error, given raw, that was answered with `status`.
    #[cold]
    #[must_use]
    pub fn of_error(status: u16, error: &str) -> Self {
        let [code, message] = json::members(error, ["code", "message"]).unwrap_or_default();
        let code = code.and_then(|code| code.parse().ok());
        let message = message.and_then(|message| json::string(message).ok()).unwrap_or_default();
        Self::saying(status, code, &message)
    }

    fn saying(status: u16, code: Option<i64>, text: &str) -> Self {
        // Many servers name the method that they do not have: it differs between requests that are refused alike.
        let compared = if code == Some(METHOD_NOT_FOUND) { "" } else { text };
        let (words, names_session) = (hash(code, compared), names_session(text));
        Self { status, code, words, names_session, has_number: false }
    }

    /// Whether the server broke, perhaps while it worked: then it may say the same of everything, for a while.
    #[must_use]
    pub fn is_breakdown(&self) -> bool {
        self.status >= 500 || self.code == Some(INTERNAL_ERROR)
    }

    /// Whether another says the same.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.status, self.words) == (other.status, other.words)
    }

    /// Whether it says that there is no such method, with a status that says that there is nothing at all. A router that does not
    /// know the session says so of every method.
    fn has_no_method(&self) -> bool {
        self.code == Some(METHOD_NOT_FOUND) && is_error(self.status)
    }

    /// Whether it says what the protocol says of a session that is gone: 404, and not of what the request asked for.
    #[must_use]
    pub fn is_of_protocol(&self) -> bool {
        self.status == 404 && (self.names_session || !self.has_number)
    }
}

impl Ending {
    /// The end of a call that was answered with `status`, which is no success, and a body that is a JSON-RPC message or a text. A
    /// redirect that is not followed refuses nothing.
    #[cold]
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let refusal = Refusal::read(status, body);
        if refusal.code.is_none() && status < 400 { Self::Unanswered } else { Self::Refused(refusal) }
    }

    /// How it was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unanswered => None,
        }
    }

    /// Whether it may mean that the session is lost: then a ping tells. Results and time-outs are no such ends.
    #[cold]
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.refusal().is_none_or(suspicious)
    }

    /// What it and the ping after it tell of the session.
    #[cold]
    #[must_use]
    pub fn verdict(&self, ping: &Ping) -> Verdict {
        match (self, ping) {
            (Self::Refused(refusal), _) => verdict(refusal, ping),
            // What has no session for any method would have said so of the call.
            (Self::Unanswered, Ping::Refused(said)) if said.code == Some(METHOD_NOT_FOUND) => Verdict::Alive,
            (Self::Unanswered, Ping::Unanswered | Ping::Refused(_)) => Verdict::Lost { untouched: false },
            (Self::Unanswered, Ping::Answered) => Verdict::Alive,
            (Self::Unanswered, Ping::Failed | Ping::Unsent) => Verdict::Unknown,
        }
    }

    /// Whether a session in which a ping ends with `of_new` is no better than the one in which the call ended so and the ping with
    /// `ping`. A refusal must be another one; where nothing was said, the ping must be answered.
    #[cold]
    #[must_use]
    pub fn is_no_better(&self, ping: &Ping, of_new: &Ping) -> bool {
        let alike = |said: &Refusal| of_new.refusal().is_some_and(|new| new.is_like(said));
        let said_before = [self.refusal(), ping.refusal()];
        let is_of_server = match of_new {
            Ping::Answered => true,
            Ping::Refused(new) => new.code == Some(METHOD_NOT_FOUND),
            Ping::Unanswered | Ping::Failed | Ping::Unsent => false,
        };
        said_before.into_iter().flatten().any(alike) || *self == Self::Unanswered && !is_of_server
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "HTTP {}", refusal.status),
            Self::Unanswered => f.write_str("no answer"),
        }
    }
}

impl Ping {
    /// How it was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Answered | Self::Unanswered | Self::Failed | Self::Unsent => None,
        }
    }

    /// The end of a ping that was refused. A server that has no ping has answered it, unless it says so with a status by which a
    /// session may be refused as well.
    #[must_use]
    pub fn of(refusal: Refusal) -> Self {
        match refusal.code {
            Some(METHOD_NOT_FOUND) if !refusal.has_no_method() => Self::Answered,
            _ => Self::Refused(refusal),
        }
    }

    /// The end of a ping that was answered with `status` and this body.
    #[cold]
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let is_success = (200..300).contains(&status);
        match Envelope::look(body) {
            Ok(envelope) if is_success && envelope.error.is_none() => Self::Answered,
            Err(_) if is_success => Self::Unanswered,
            _ => match Ending::read(status, body) {
                Ending::Refused(refusal) => Self::of(refusal),
                Ending::Unanswered => Self::Unanswered,
            },
        }
    }
}

/// Whether a refusal may mean that the session is lost: then a ping tells.
#[cold]
#[must_use]
pub fn suspicious(refusal: &Refusal) -> bool {
    match refusal.code {
        Some(METHOD_NOT_FOUND) => refusal.has_no_method(),
        Some(PARSE_ERROR | URL_ELICITATION_REQUIRED) => false,
        Some(_) if refusal.status < 300 => true,
        _ => is_error(refusal.status),
    }
}

/// Whether a status refuses a request. That it comes too soon is said of no session.
fn is_error(status: u16) -> bool {
    status >= 400 && status != 429
}

/// What a refused call and the ping after it tell of the session.
#[cold]
#[must_use]
pub fn verdict(call: &Refusal, ping: &Ping) -> Verdict {
    match ping {
        Ping::Answered => Verdict::Alive,
        Ping::Unanswered | Ping::Failed | Ping::Unsent => Verdict::Unknown,
        // It has no ping, and has looked at what the call asks for.
        Ping::Refused(ping) if ping.has_no_method() && !call.has_no_method() => Verdict::Alive,
        // The same words for another request are not about the request. They may be about what became of it, all the same: a
        // bridge whose command died says "Connection closed" of this call and of all that follow.
        Ping::Refused(ping) if ping.is_like(call) => {
            Verdict::Lost { untouched: !call.is_breakdown() && (call.is_of_protocol() || call.names_session) }
        }
        Ping::Refused(ping) if ping.is_of_protocol() || ping.names_session => {
            Verdict::Lost { untouched: false }
        }
        // Servers without pings refuse them in their own words. With a status of success, a tool may speak of a session of its own.
        Ping::Refused(_) if call.status >= 400 && call.names_session => Verdict::PerhapsLost,
        Ping::Refused(_) => Verdict::Unknown,
    }
}

/// Whether a text is a message with a number for an id, a list or events of such.
fn has_number(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let in_object = |raw: &str| {
        let id = json::members(raw, ["id"]).ok().and_then(|[id]| id);
        id.is_some_and(|id| id.trim_matches('"').parse::<f64>().is_ok())
    };
    match text.bytes().next() {
        Some(b'{') => in_object(text),
        Some(b'[') => {
            let mut found = false;
            let read = json::each_element(text, |element| {
                found |= element.starts_with('{') && in_object(element);
                Ok::<_, json::JsonError>(())
            });
            read.is_ok() && found
        }
        _ => text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .any(|data| in_object(data.trim_start())),
    }
}

/// Whether a text says that a session is not known, or was not begun. That one has ended may be what became of the call.
fn names_session(text: &str) -> bool {
    const UNKNOWN: [&str; 11] = [
        "not found",
        "not known",
        "unknown",
        "not recognized",
        "invalid",
        "missing",
        "no valid",
        "no session",
        "no transport",
        "does not exist",
        "required",
    ];
    const NOT_BEGUN: [&str; 5] = [
        "not initialized",
        "not been initialized",
        "initialize request",
        "expect initialize",
        "before initialization",
    ];
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    says(&NOT_BEGUN) || text.contains("session") && says(&UNKNOWN)
}

/// Hashes a code and a text, without its digits and its ids: they differ between two requests that are refused alike.
fn hash(code: Option<i64>, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    code.hash(&mut hasher);
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '-').filter(|word| !is_id(word)) {
        word.hash(&mut hasher);
    }
    hasher.finish()
}

/// A word that is a number, or a hexadecimal id such as a UUID.
fn is_id(word: &str) -> bool {
    let hexadecimal = word.len() >= 6 && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    hexadecimal || word.bytes().all(|b| b.is_ascii_digit())
}
