//! A stream of HTTP/1 requests whose heads have no line that ends without a carriage return, and say once how long their
//! bodies are.
//!
//! RFC 9112, section 2.2 lets a recipient take a bare line feed as the end of a line, and hyper does. A proxy in front
//! that does not would pass one header on that holds another. Here the server reads a character instead that no parser
//! takes, so that the request gets 400, and then the end of the stream. So it does after a head with both `Content-Length`
//! and `Transfer-Encoding`, which such a proxy may read in another way (RFC 9112, section 6.3: it ought to be handled as an
//! error). It must not know anything else of a request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a line that are kept when its end is still to come. A line that says how long a body is, and is longer, is
/// refused.
const KEPT: usize = 128;
/// What the server reads in the place of the end of the line, before the end of the stream: a character that every parser refuses
/// in a head (RFC 9110, section 5.5), and the end of the head.
const REFUSED: &[u8] = b"\0\r\n\r\n";

/// The fields that say how long a body is.
const FRAMING: [&str; 2] = ["content-length:", "transfer-encoding:"];

/// A stream that a server reads requests from.
#[derive(Debug)]
pub struct StrictLines<S> {
    stream: S,
    scanner: Scanner,
    /// What is left to read of a request that is refused.
    refused: Option<&'static [u8]>,
}

impl<S> StrictLines<S> {
    /// Checks the heads of the requests that `stream` brings.
    pub fn new(stream: S) -> Self {
        Self { stream, scanner: Scanner::default(), refused: None }
    }

    /// Returns the stream.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictLines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            let Some(at) = self.scanner.scan(&buf.filled()[before..]) else { return Poll::Ready(Ok(())) };
            buf.set_filled(before + at);
            self.refused = Some(REFUSED);
        }
        let left = self.refused.unwrap_or_default();
        let (now, later) = left.split_at(left.len().min(buf.remaining()));
        buf.put_slice(now);
        self.refused = Some(later);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictLines<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Finds heads in a stream of requests.
#[derive(Debug, Default)]
struct Scanner {
    part: Part,
    /// The beginning of a line whose end is still to come.
    line: Vec<u8>,
    /// The bytes of that line that have come.
    come: usize,
    /// The last byte, where a line goes on.
    last: u8,
    /// What the head says of its body so far.
    head: Head,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    /// So many bytes of a body.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk, its line end included.
    Chunk(u64),
    Trailers,
    /// A request, or frames of the protocol that the last one changed to.
    AfterUpgrade,
    /// No requests any more: HTTP/2, another protocol, or nothing that will be understood.
    Other,
}

/// A line that must not be read further than to this byte.
struct Refused {
    at: usize,
}

#[derive(Debug, Default)]
struct Head {
    /// Its request line has been read.
    begun: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Scanner {
    /// Takes what arrived. Returns the position of the first byte that the server must not read.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match self.part {
                Part::Other => return None,
                Part::Body(left) => self.skip(left, rest.len(), Part::Body, Part::Head),
                Part::Chunk(left) => self.skip(left, rest.len(), Part::Chunk, Part::ChunkSize),
                Part::AfterUpgrade => self.after_upgrade(rest[0]),
                Part::Head | Part::ChunkSize | Part::Trailers => match self.line(rest) {
                    Ok(taken) => taken,
                    Err(Refused { at: end }) => return Some(at + end),
                },
            };
        }
        None
    }

    fn skip(&mut self, left: u64, available: usize, part: fn(u64) -> Part, next: Part) -> usize {
        let taken = available.min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - taken as u64;
        self.part = if left == 0 { next } else { part(left) };
        taken
    }

    /// Tells a further request from frames of WebSocket: the first byte of a frame is no letter, unless it uses an
    /// extension that nobody agreed on (RFC 6455, section 5.2).
    fn after_upgrade(&mut self, first: u8) -> usize {
        let is_request = first.is_ascii_alphabetic() || first == b'\r' || first == b'\n';
        self.part = if is_request { Part::Head } else { Part::Other };
        0
    }

    /// Takes a line, or what there is of it. Returns the number of bytes.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let Some(end) = memchr(b'\n', bytes) else {
            let room = KEPT.saturating_sub(self.line.len());
            self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
            self.come += bytes.len();
            self.last = bytes.last().copied().unwrap_or(self.last);
            return Ok(bytes.len());
        };
        let before = if end > 0 { bytes[end - 1] } else { self.last };
        if before != b'\r' {
            return Err(Refused { at: end });
        }
        let length = std::mem::take(&mut self.come) + end;
        let mut line = std::mem::take(&mut self.line);
        let line = if length == end {
            &bytes[..end]
        } else {
            line.extend_from_slice(&bytes[..end]);
            &line
        };
        if length > KEPT && self.is_of_framing(line) {
            return Err(Refused { at: end });
        }
        self.end_of_line(line);
        if self.head.length.is_some() && self.head.chunked {
            return Err(Refused { at: end });
        }
        self.last = 0;
        Ok(end + 1)
    }

    /// Returns whether a line says how long a body is.
    fn is_of_framing(&self, line: &[u8]) -> bool {
        self.part == Part::ChunkSize
            || (self.part == Part::Head
                && self.head.begun
                && FRAMING.iter().any(|name| field(line, name).is_some()))
    }

    fn end_of_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.part {
            Part::ChunkSize => self.part = chunk(line),
            Part::Trailers if line.is_empty() => self.part = Part::Head,
            Part::Head if !self.head.begun => {
                // Empty lines before a request are ignored (RFC 9112, section 2.2).
                self.head.begun = !line.is_empty();
                if line.starts_with(b"PRI * HTTP/2") {
                    self.part = Part::Other;
                }
            }
            Part::Head if line.is_empty() => self.end_of_head(),
            Part::Head => self.head.field(line),
            _ => {}
        }
    }

    fn end_of_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.part = match head {
            Head { chunked: true, .. } => Part::ChunkSize,
            Head { length: Some(length @ 1..), .. } => Part::Body(length),
            // Nobody changes the protocol of a request that has a body.
            Head { upgrade: true, .. } => Part::AfterUpgrade,
            Head { .. } => Part::Head,
        };
    }
}

impl Head {
    /// Reads the fields that say how long the body is, and that it may be the last.
    fn field(&mut self, line: &[u8]) {
        let [length, coding] = FRAMING;
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => {
                if let Some(value) = field(line, length) {
                    // What is no number is refused by the parser.
                    self.length = Some(number(value, 10).unwrap_or(0));
                }
            }
            Some(b't') => self.chunked |= field(line, coding).is_some(),
            Some(b'u') => self.upgrade |= field(line, "upgrade:").is_some(),
            _ => {}
        }
    }
}

/// The value of a field, if the line is one of this name, which ends in a colon.
fn field<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
}

/// Reads digits, and nothing else but blanks around them.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok()?.trim();
    let are_digits = digits.bytes().all(|byte| char::from(byte).is_digit(radix));
    are_digits.then(|| u64::from_str_radix(digits, radix).ok())?
}

/// Reads the line before a chunk (RFC 9112, section 7.1).
fn chunk(line: &[u8]) -> Part {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    match number(digits, 16) {
        Some(0) => Part::Trailers,
        // With the line end after the chunk.
        Some(size) => size.checked_add(2).map_or(Part::Other, Part::Chunk),
        None => Part::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    /// The position of the line feed that is refused in a stream that arrives in pieces of `size` bytes.
    fn refused(stream: &[u8], size: usize) -> Option<usize> {
        let (mut scanner, size) = (Scanner::default(), size.max(1));
        let mut pieces = stream.chunks(size).enumerate();
        pieces.find_map(|(number, piece)| scanner.scan(piece).map(|at| number * size + at))
    }

    const GOOD: &str = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 6\r\n\r\n{\n\n}\n\n\
        POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n3;x=y\r\na\nb\r\n00a\r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\nTrailer: x\r\n\r\n\
        GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn bodies_may_have_line_feeds() {
        for size in 1..=GOOD.len() {
            assert_eq!(refused(GOOD.as_bytes(), size), None, "{size}");
        }
    }

    #[test]
    fn a_bare_line_feed_in_a_head_or_before_a_chunk_is_refused() {
        let ends: Vec<usize> = GOOD.match_indices("\r\n").map(|(at, _)| at).collect();
        let mut found = 0;
        for at in &ends {
            let mut bare = GOOD.as_bytes().to_vec();
            bare.remove(*at);
            for size in [1, 7, bare.len()] {
                if let Some(refused) = refused(&bare, size) {
                    found += 1;
                    assert_eq!(refused, *at);
                }
            }
        }
        // The ends of the two chunks are for the decoder to check: then what follows is no size.
        assert_eq!(found, 3 * (ends.len() - 2));
    }

    #[test]
    fn a_body_is_followed_whatever_else_the_head_says() {
        for good in [
            "POST / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\n\n{\n}\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\na5\r\n\n",
            "POST / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 37\r\n\r\nGET / HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            for size in [1, 7, good.len()] {
                assert_eq!(refused(good.as_bytes(), size), None, "{good:?}");
            }
        }
        let after =
            "POST / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\nX: y\r\n\r\n";
        assert_eq!(refused(after.as_bytes(), 9), after.find("\nX"));
    }

    #[test]
    fn a_length_in_a_line_that_is_not_kept_is_refused() {
        let blanks = " ".repeat(200);
        let head = format!("POST / HTTP/1.1\r\nContent-Length:{blanks}5\r\n\r\n");
        for size in [1, 50, 150, head.len()] {
            assert_eq!(refused(head.as_bytes(), size), head.find("5\r\n").map(|at| at + 2), "{size}");
        }
        let long = format!("GET / HTTP/1.1\r\nX:{blanks}5\r\n\r\n");
        assert_eq!(refused(long.as_bytes(), 50), None);
    }

    #[test]
    fn a_head_that_says_twice_how_long_the_body_is_is_refused_where_it_does() {
        for (head, second) in [
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "chunked\r"),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n", "0\r"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nX: y\r\nContent-Length: x\r\n\r\n", "x\r"),
        ] {
            for size in [1, 7, head.len()] {
                let at = head.find(second).map(|at| at + second.len());
                assert_eq!(refused(head.as_bytes(), size), at, "{head:?}");
            }
        }
        let two = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refused(two.as_bytes(), 9), None);
    }

    #[test]
    fn another_protocol_is_left_alone() {
        for other in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\n\n"[..],
            b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\x85\n\n\n\nabc\n",
        ] {
            for size in [1, 5, other.len()] {
                assert_eq!(refused(other, size), None);
            }
        }
    }

    #[tokio::test]
    async fn the_server_reads_a_refused_character_and_the_end() {
        for capacity in [1, 3, 100] {
            let mut stream = StrictLines::new(&b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\nmore"[..]);
            let mut read = Vec::new();
            loop {
                let mut piece = vec![0; capacity];
                match stream.read(&mut piece).await.unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&piece[..count]),
                }
            }
            assert_eq!(String::from_utf8(read).unwrap(), "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", "{capacity}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(stream in "(GET /|[a-z]+: |content-length: [0-9]|transfer-encoding: chunked|[0-9a-f]|\r|\n|\r\n|\r\n\r\n| ){0,60}", size in 1usize..9) {
            prop_assert_eq!(refused(stream.as_bytes(), size), refused(stream.as_bytes(), stream.len()));
        }
    }
}
