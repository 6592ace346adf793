//! Messages that are written over several lines, as people and pretty-printers do. It must not know who writes them, nor
//! what a message is about.

use bytes::{Bytes, BytesMut};
use mcp::border::without_mark;

/// Most bytes of a message over several lines.
const MAX_BYTES: usize = 1 << 20;
/// Most lines of such a message.
const MAX_LINES: usize = 10_000;

/// The lines so far of a message over several lines, if one has begun.
#[derive(Debug, Default)]
pub struct JoinedLines(Option<Joined>);

/// What a line is that is no message by itself.
#[derive(Debug, PartialEq, Eq)]
pub enum JoinedLine {
    /// It belongs to no message over several lines.
    Apart,
    /// It is a part of one whose end is not here yet, or blank.
    Part,
    /// It is the last of one: all of them, which may be a message, or more than a message may have.
    Last(Bytes),
}

impl JoinedLines {
    /// Takes a line that is no message by itself. A message over several lines begins with a bracket alone.
    pub fn push(&mut self, line: &[u8]) -> JoinedLine {
        let text = without_mark(line).trim_ascii();
        if text.is_empty() {
            return JoinedLine::Part;
        }
        if self.0.is_none() && !matches!(text, b"{" | b"[") {
            return JoinedLine::Apart;
        }
        let joined = self.0.get_or_insert_default();
        joined.push(line);
        if !joined.is_whole() && !joined.is_full() {
            return JoinedLine::Part;
        }
        self.take().map_or(JoinedLine::Part, JoinedLine::Last)
    }

    /// Returns the lines so far: no message, since one has come whole or nothing more comes.
    pub fn take(&mut self) -> Option<Bytes> {
        self.0.take().map(|joined| joined.text.freeze())
    }
}

#[derive(Debug, Default)]
struct Joined {
    text: BytesMut,
    lines: usize,
    /// Brackets that are open.
    depth: usize,
}

impl Joined {
    fn push(&mut self, line: &[u8]) {
        self.lines += 1;
        self.text.extend_from_slice(line);
        self.text.extend_from_slice(b"\n");
        // A string of JSON has no line breaks, so none is open at the start of a line.
        let (mut in_string, mut escaped) = (false, false);
        for byte in line {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' | b'[' if !in_string => self.depth += 1,
                b'}' | b']' if !in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.depth == 0
    }

    fn is_full(&self) -> bool {
        self.text.len() > MAX_BYTES || self.lines >= MAX_LINES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_joined_until_their_brackets_close() {
        let lines: [&[u8]; 5] =
            [b"\xef\xbb\xbf{", b" \"id\": 1,", b"\xef\xbb\xbf", b" \"result\": {\"a\": \"}\\\"{\"}", b"}"];
        let mut joined = JoinedLines::default();
        for line in &lines[..4] {
            assert_eq!(joined.push(line), JoinedLine::Part);
        }
        let whole = [lines[0], lines[1], lines[3], lines[4], b""].join(&b'\n');
        assert_eq!(joined.push(lines[4]), JoinedLine::Last(whole.into()));
        assert_eq!(joined.take(), None);
        for apart in ["}", "x", "{\"a\":", "[1"] {
            assert_eq!(joined.push(apart.as_bytes()), JoinedLine::Apart);
        }
        assert_eq!((joined.push(b"["), joined.take()), (JoinedLine::Part, Some("[\n".into())));
    }

    #[test]
    fn what_is_joined_is_bounded() {
        let (mut joined, mut lines) = (JoinedLines::default(), 1);
        assert_eq!(joined.push(b"["), JoinedLine::Part);
        while joined.push(b"1,") == JoinedLine::Part {
            lines += 1;
        }
        assert!(lines < MAX_LINES);
        assert_eq!(joined.push(b"["), JoinedLine::Part);
        let large = [vec![b' '; MAX_BYTES], b"1,".to_vec()].concat();
        assert!(matches!(joined.push(&large), JoinedLine::Last(_)));
    }

    proptest! {
        #[test]
        fn whatever_comes_all_of_it_comes_out_again_in_order(
            lines in proptest::collection::vec("[\\[\\]{}\":,a1 ]{0,6}", 0..30),
        ) {
            let (mut joined, mut out, mut all) = (JoinedLines::default(), Vec::new(), Vec::new());
            for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
                all.extend_from_slice(format!("{line}\n").as_bytes());
                match joined.push(line.as_bytes()) {
                    JoinedLine::Apart => out.extend_from_slice(format!("{line}\n").as_bytes()),
                    JoinedLine::Part => {}
                    JoinedLine::Last(whole) => out.extend_from_slice(&whole),
                }
            }
            out.extend(joined.take().into_iter().flatten());
            prop_assert_eq!(out, all);
        }
    }
}
