//! Decodes a text of which nobody says how it is encoded, and remembers where each byte comes from.

use std::ops::Range;

/// The number of times that a text is decoded.
const MAX_LAYERS: usize = 4;

/// A text that was decoded some times, or never.
pub(super) struct Decoded {
    bytes: Vec<u8>,
    /// Where each byte comes from in the text.
    sources: Vec<(u32, u32)>,
}

/// Returns `text` as it is, and then decoded once, twice, and so on, as long as there is something to decode.
pub(super) fn layers(text: &[u8]) -> impl Iterator<Item = Decoded> {
    let sources = (0..).zip(1..).take(text.len()).collect();
    let first = Decoded { bytes: text.to_vec(), sources };
    std::iter::successors(Some(first), Decoded::decode).take(1 + MAX_LAYERS)
}

impl Decoded {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns where in the text some bytes come from.
    pub(super) fn source(&self, range: Range<usize>) -> Range<usize> {
        let sources = &self.sources[range];
        let start = sources.first().map_or(0, |(start, _)| *start);
        let end = sources.last().map_or(start, |(_, end)| *end);
        start as usize..end as usize
    }

    /// Decodes it once more; `None` if there is nothing to decode.
    fn decode(&self) -> Option<Self> {
        if !self.bytes.iter().any(|byte| matches!(byte, b'%' | b'\\' | b'&')) {
            return None;
        }
        let mut next = Self { bytes: Vec::new(), sources: Vec::new() };
        let mut at = 0;
        while at < self.bytes.len() {
            let (length, decoded) = escape(&self.bytes[at..]).unwrap_or((1, vec![self.bytes[at]]));
            let Range { start, end } = self.source(at..at + length);
            // Parts of a text are far smaller than 4 GiB.
            let source = (start as u32, end as u32);
            next.sources.extend(decoded.iter().map(|_| source));
            next.bytes.extend(decoded);
            at += length;
        }
        (next.bytes != self.bytes).then_some(next)
    }
}

/// Reads the escape that `text` begins with. Returns its length, and what it stands for.
fn escape(text: &[u8]) -> Option<(usize, Vec<u8>)> {
    match text {
        [b'%', digits @ ..] => Some((3, vec![u8::try_from(number(digits.get(..2)?, 16)?).ok()?])),
        [b'\\', rest @ ..] => backslash(rest).map(|(length, decoded)| (1 + length, decoded)),
        [b'&', rest @ ..] => entity(rest).map(|(length, decoded)| (1 + length, decoded)),
        _ => None,
    }
}

/// Reads what follows a backslash, in JSON (RFC 8259 §7) and in most languages.
fn backslash(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let one = |byte: u8| Some((1, vec![byte]));
    match rest {
        [b'n', ..] => one(b'\n'),
        [b'r', ..] => one(b'\r'),
        [b't', ..] => one(b'\t'),
        [b'b', ..] => one(8),
        [b'f', ..] => one(12),
        [byte @ (b'"' | b'\'' | b'\\' | b'/'), ..] => one(*byte),
        [b'x', digits @ ..] => Some((3, vec![u8::try_from(number(digits.get(..2)?, 16)?).ok()?])),
        [b'u', b'{', braced @ ..] => {
            let end = braced.iter().take(9).position(|byte| *byte == b'}')?;
            Some((3 + end, utf8(number(&braced[..end], 16)?)?))
        }
        [b'u', digits @ ..] => unit(digits),
        _ => None,
    }
}

/// Reads the digits of a UTF-16 unit, and the unit that follows a surrogate.
fn unit(digits: &[u8]) -> Option<(usize, Vec<u8>)> {
    let first = number(digits.get(..4)?, 16)?;
    if let Some(decoded) = utf8(first) {
        return Some((5, decoded));
    }
    let second = number(digits[4..].strip_prefix(b"\\u")?.get(..4)?, 16)?;
    let units = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    let decoded = char::decode_utf16(units).next()?.ok()?;
    Some((11, decoded.to_string().into_bytes()))
}

/// Reads what follows an ampersand in HTML: the characters that pages escape, and numbers.
fn entity(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let end = rest.iter().take(10).position(|byte| *byte == b';')?;
    let decoded = match &rest[..end] {
        b"amp" => vec![b'&'],
        b"lt" => vec![b'<'],
        b"gt" => vec![b'>'],
        b"quot" => vec![b'"'],
        b"apos" => vec![b'\''],
        [b'#', b'x' | b'X', digits @ ..] => utf8(number(digits, 16)?)?,
        [b'#', digits @ ..] => utf8(number(digits, 10)?)?,
        _ => return None,
    };
    Some((end + 1, decoded))
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| is_digit(&byte)))?;
    u32::from_str_radix(digits, radix).ok()
}

fn utf8(code: u32) -> Option<Vec<u8>> {
    Some(char::from_u32(code)?.to_string().into_bytes())
}
