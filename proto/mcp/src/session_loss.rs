//! Whether a server has forgotten a session, told from how it refuses a call and then a ping.
//!
//! Servers say it in many ways, and say the same words for other reasons. What a ping is refused with, too, is not about
//! the call. It must not know how sessions are kept, nor how a call is repeated.

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
        let (words, names_session) = (hash(code, text), names_session(text));
        Self { status, code, words, names_session, has_number: false }
    }

    /// Whether the server broke, perhaps while it worked: then it may say the same of everything, for a while.
    #[must_use]
    pub fn is_breakdown(&self) -> bool {
        self.status >= 500 || self.code == Some(INTERNAL_ERROR)
    }

    /// Whether it says what the protocol says of a session that is gone: 404, and not of what the request asked for.
    #[must_use]
    pub fn is_of_protocol(&self) -> bool {
        self.status == 404 && (self.names_session || !self.has_number)
    }
}

impl Ping {
    /// How it was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Answered | Self::Failed => None,
        }
    }

    /// The end of a ping that was refused.
    #[must_use]
    pub fn of(refusal: Refusal) -> Self {
        match refusal.code {
            Some(METHOD_NOT_FOUND) => Self::Answered,
            _ => Self::Refused(refusal),
        }
    }
}

/// Whether a refusal may mean that the session is lost: then a ping tells. Results and time-outs are no refusals.
#[cold]
#[must_use]
pub fn suspicious(refusal: &Refusal) -> bool {
    match refusal.code {
        Some(PARSE_ERROR | METHOD_NOT_FOUND | URL_ELICITATION_REQUIRED) => false,
        Some(_) if refusal.status < 300 => true,
        _ => refusal.status >= 400 && refusal.status != 429,
    }
}

/// What a refused call and the ping after it tell of the session.
#[cold]
#[must_use]
pub fn verdict(call: &Refusal, ping: &Ping) -> Verdict {
    match ping {
        Ping::Answered => Verdict::Alive,
        Ping::Failed => Verdict::Unknown,
        // The same words for another request are not about the request. They may be about what became of it, all the same: a
        // bridge whose command died says "Connection closed" of this call and of all that follow.
        Ping::Refused(ping) if (ping.status, ping.words) == (call.status, call.words) => {
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
