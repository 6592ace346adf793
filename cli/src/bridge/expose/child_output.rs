//! What a child writes that is no message as it stands: mended where it has one meaning, joined where it is one message
//! over several lines, quoted where it is neither.
//!
//! It must not know clients and calls.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp::border::{Peer, mend};
use mcp::message::{Envelope, EnvelopeError};
use mcp::quirk::{Quirk, Quirks};
use mcp::secrets::Secrets;

use crate::bridge::joined_lines::{JoinedLine, JoinedLines};
use crate::output::eprint;

/// Most lines a second on stderr about what a child writes.
const MAX_COMPLAINTS: u32 = 10;

/// A reader of the lines that are no messages.
#[derive(Debug)]
pub struct OutputReader {
    /// Prefix of the lines that tell quirks; without one they are not told.
    label: Option<String>,
    secrets: Secrets,
    quirks: Quirks,
    joined: JoinedLines,
}

/// What a line is that is no message as it stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Recovered {
    /// It is one, mended, or the last line of one.
    Message(Bytes),
    /// It is a line of a message whose end is not here yet, or blank.
    Partial,
    /// It is none.
    Unreadable(UnreadableOutput),
}

/// Output that is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableOutput {
    /// The output.
    pub source: Bytes,
    /// Why it is none, with an excerpt, without secrets.
    pub said: String,
    /// Nothing that is written so can be read.
    pub is_hopeless: bool,
}

impl UnreadableOutput {
    /// Whether it stands where a message does. After other text it may be a copy for a log, and the message comes yet.
    pub fn is_in_place(&self) -> bool {
        self.source.trim_ascii_start().starts_with(b"{")
    }
}

impl OutputReader {
    /// Creates the reader for a new child.
    pub fn new(label: Option<String>, secrets: Secrets) -> Self {
        Self { label, secrets, quirks: Quirks::default(), joined: JoinedLines::default() }
    }

    /// Notes that a line was a message: what was joined before it is none.
    pub fn on_message(&mut self) {
        drop(self.joined.take());
    }

    /// Reads a line that is no message because of `error`. `open` is the raw id of the only request that the child has not
    /// answered.
    pub fn recover(&mut self, line: &Bytes, error: EnvelopeError, open: Option<&str>) -> Recovered {
        let whole = match self.joined.push(line) {
            JoinedLine::Apart => return self.mended(line, error, open),
            JoinedLine::Part => return Recovered::Partial,
            JoinedLine::Last(whole) => whole,
        };
        let read = match Envelope::parse(&whole) {
            Ok(_) => Recovered::Message(whole),
            Err(error) => self.mended(&whole, error, open),
        };
        if matches!(read, Recovered::Message(_)) {
            self.note(Quirk::PrettyPrinted);
        }
        read
    }

    fn mended(&mut self, source: &Bytes, error: EnvelopeError, open: Option<&str>) -> Recovered {
        match mend(source, error, Peer::Server { open }) {
            Ok(mended) => {
                mended.quirks.iter().for_each(|quirk| self.note(quirk));
                Recovered::Message(mended.message)
            }
            Err(unreadable) => {
                let framing = foreign_framing(source);
                let said = framing.map_or_else(
                    || unreadable.quoted(source, &self.secrets),
                    |framing| format!("{framing}; it says \"{}\"", self.secrets.quote(source, unreadable.at)),
                );
                Recovered::Unreadable(UnreadableOutput {
                    source: source.clone(),
                    said,
                    is_hopeless: framing.is_some(),
                })
            }
        }
    }

    fn note(&mut self, quirk: Quirk) {
        if let Some(label) = &self.label
            && self.quirks.note(quirk)
        {
            eprint(format!("[{label}] quirk {}: the server {}", quirk.as_str(), quirk.text()));
        }
    }
}

/// Names a way to write messages that is not MCP's.
fn foreign_framing(source: &[u8]) -> Option<&'static str> {
    let is_utf16 = source.starts_with(b"\xff\xfe") || source.starts_with(b"\xfe\xff");
    let header = b"content-length:";
    if is_utf16 {
        return Some("it is UTF-16, and MCP is UTF-8");
    }
    source
        .get(..header.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(header))
        .then_some("it frames messages with Content-Length, as LSP does, and MCP has one message a line")
}

/// Keeps lines on stderr about what a child writes to a few a second.
#[derive(Debug, Default)]
pub struct Complaints {
    since: Option<Instant>,
    said: u32,
    unsaid: u32,
}

impl Complaints {
    /// The line to print now about `why`, if any.
    pub fn line(&mut self, why: &str, now: Instant) -> Option<String> {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said == MAX_COMPLAINTS {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(match std::mem::take(&mut self.unsaid) {
            0 => why.to_owned(),
            unsaid => format!("{why} (and {unsaid} lines before that were not shown)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader() -> OutputReader {
        OutputReader::new(None, Secrets::default())
    }

    fn read(reader: &mut OutputReader, line: &[u8]) -> Recovered {
        let line = Bytes::copy_from_slice(line);
        match Envelope::parse(&line) {
            Ok(_) => {
                reader.on_message();
                Recovered::Message(line.clone())
            }
            Err(error) => reader.recover(&line, error, None),
        }
    }

    fn last(lines: &[&str]) -> Recovered {
        let mut reader = reader();
        let mut last = Recovered::Partial;
        for line in lines {
            last = read(&mut reader, line.as_bytes());
        }
        last
    }

    #[test]
    fn lines_are_joined_until_their_brackets_close() {
        let lines = ["{", r#" "jsonrpc": "2.0","#, r#" "id": 1,"#, r#" "result": {"a": "}\"{"}"#, "}"];
        for upto in 1..lines.len() {
            assert_eq!(last(&lines[..upto]), Recovered::Partial);
        }
        let Recovered::Message(message) = last(&lines) else { panic!() };
        assert_eq!(Envelope::parse(&message).unwrap().id, Some("1"));
        // A bracket alone is often no message: what follows is read for itself.
        let message = r#"{"jsonrpc":"2.0","method":"a"}"#;
        assert_eq!(last(&["{", message]), Recovered::Message(message.into()));
        assert_eq!(last(&["{", " a: 1", message, "}"]), last(&["}"]));
        assert!(matches!(last(&["{", " a: 1", "}"]), Recovered::Unreadable(_)));
    }

    #[test]
    fn other_framings_are_named_and_secrets_are_not() {
        let utf16: Vec<u8> = "{\"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf16 = [b"\xff\xfe".as_slice(), &utf16].concat();
        for (line, part, is_hopeless) in [
            (b"Content-Length: 12".as_slice(), "LSP", true),
            (&utf16, "UTF-16", true),
            (b"mcp> {}", "mcp>", false),
            (b"caf\xe9", "UTF-8", false),
        ] {
            let Recovered::Unreadable(unreadable) = read(&mut reader(), line) else { panic!("{line:?}") };
            assert!(
                unreadable.said.contains(part) && unreadable.is_hopeless == is_hopeless,
                "{unreadable:?}"
            );
        }
        let mut secrets = Secrets::default();
        secrets.add_header(b"s3cret-value");
        let mut reader = OutputReader::new(None, secrets);
        let Recovered::Unreadable(unreadable) = read(&mut reader, b"key s3cret-value") else { panic!() };
        assert!(!unreadable.said.contains("s3cret"), "{unreadable:?}");
    }

    #[test]
    fn complaints_are_few_and_the_others_are_counted() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        let said = (0..100).filter(|_| complaints.line("x", now).is_some()).count();
        assert_eq!(said, MAX_COMPLAINTS as usize);
        let later = complaints.line("x", now + Duration::from_secs(1)).unwrap();
        assert_eq!(later, "x (and 90 lines before that were not shown)");
    }

    proptest! {
        #[test]
        fn a_message_is_never_made_of_two(lines in proptest::collection::vec("[\\[\\]{}\":,a1 ]{0,6}", 0..30)) {
            let message = r#"{"jsonrpc":"2.0","method":"a"}"#;
            let mut reader = reader();
            for line in &lines {
                let _ = read(&mut reader, line.as_bytes());
            }
            prop_assert_eq!(read(&mut reader, message.as_bytes()), Recovered::Message(message.into()));
            prop_assert_eq!(reader.joined.take(), None);
        }
    }
}
