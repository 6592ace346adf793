//! Secrets that a peer was sent, taken out of what it says: servers like to repeat what they were sent.
//!
//! It must not know who says it, nor where it is shown. A peer that wants to tell a secret can write it in a way that
//! nobody recognises; this is for those that mean no harm.

mod decode;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::HeaderMap;
use url::Url;

use crate::border::excerpt::excerpt;
use decode::Decoded;

/// Shown in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Shorter secrets stay: they are part of too many words, and taking those out would hide nothing.
const MIN_BYTES: usize = 4;
/// Shorter secrets are found as whole words only.
const MIN_PIECE: usize = 6;
/// So many bytes of a secret in a row are taken out, however long it is.
const MAX_PIECE: usize = 12;
/// Ordinary words of a path or of a query are shorter than keys.
const MIN_KEY_IN_URL: usize = 16;
/// The longest excerpt.
const EXCERPT_CHARS: usize = 200;
/// Texts are looked through in parts of this size.
const PART_BYTES: usize = 64 << 10;
/// Bytes of a quoted text that are looked at on either side of the place: no secret that reaches into the quotation is longer.
const AROUND_QUOTE: usize = 32 << 10;

/// Secrets in every form in which they are recognised.
///
/// A secret is found as it was sent, percent-encoded, with escapes of JSON or HTML, in hexadecimal and in base64, also as
/// a part of what is encoded, and with capital letters or small ones. A piece of a secret is enough, from its beginning,
/// its end or its middle: the half of it, but 6 bytes at least and 12 at most. Secrets of 4 and 5 bytes are found as whole
/// words, and shorter ones not at all.
#[derive(Clone, Default)]
pub struct Secrets {
    /// The pieces of secrets, by their length.
    pieces: BTreeMap<usize, HashSet<Piece>>,
    /// What is found as a whole, and whether only where no letter or digit is next to it.
    whole: Vec<(Vec<u8>, bool)>,
}

/// A few bytes, with their number in the highest byte.
type Piece = u128;

/// Says nothing of the secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// Returns the secrets of requests to `url` with `headers`: the values of all headers, passwords of Basic (RFC 7617
    /// §2) in the clear, values of the query, and what looks like a key in the path.
    #[must_use]
    pub fn of_request(url: &Url, headers: &HeaderMap) -> Self {
        let mut secrets = Self::default();
        for value in headers.values() {
            secrets.add_header(value.as_bytes());
        }
        secrets.add_url(url);
        secrets
    }

    /// Adds a secret, in every form.
    pub fn add(&mut self, secret: &[u8]) {
        for layer in decode::layers(secret) {
            self.add_form(layer.bytes());
        }
        self.add_form(&base64_alone(secret));
        for form in base64_within(secret) {
            self.add_form(&form);
        }
        let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.add_form(hexadecimal.as_bytes());
    }

    /// Adds what requests to a URL hold.
    pub fn add_url(&mut self, url: &Url) {
        url.password().into_iter().for_each(|password| self.add(password.as_bytes()));
        let segments = url.path_segments().into_iter().flatten();
        segments.filter(|segment| segment.len() >= MIN_KEY_IN_URL).for_each(|key| self.add(key.as_bytes()));
        for (name, value) in url.query_pairs() {
            self.add(value.as_bytes());
            if value.is_empty() && name.len() >= MIN_KEY_IN_URL {
                self.add(name.as_bytes());
            }
        }
    }

    /// Returns `text` without the secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.pieces.is_empty() && self.whole.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut found = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let end = part_end(text, at);
            let part = &text[at..end];
            let ranges = decode::layers(part.as_bytes()).flat_map(|layer| self.find(&layer));
            found.extend(ranges.map(|range| at + range.start..at + range.end));
            at = end;
        }
        if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(without(text, found)) }
    }

    /// Quotes what a peer sent around the byte `at`, for errors and logs: cut to 80 characters, as a part of one line, with what
    /// does not print escaped, and without the secrets. They are taken out first: a cut within one would leave its beginning.
    #[must_use]
    pub fn quote(&self, source: &[u8], at: usize) -> Box<str> {
        let at = at.min(source.len());
        let near = at.saturating_sub(AROUND_QUOTE)..source.len().min(at + AROUND_QUOTE);
        let text = String::from_utf8_lossy(&source[near.clone()]);
        match self.redact(&text) {
            Cow::Borrowed(_) => excerpt(source, at),
            Cow::Owned(redacted) => {
                let before = String::from_utf8_lossy(&source[near.start..at]);
                excerpt(redacted.as_bytes(), self.redact(&before).len())
            }
        }
    }

    /// Returns the beginning of a text of a peer, to be shown to people: one line of at most 200 characters, safe for a
    /// terminal, without the secrets.
    #[must_use]
    pub fn excerpt(&self, text: &str) -> String {
        self.excerpt_of(text, EXCERPT_CHARS)
    }

    /// The same, of at most so many characters.
    pub(crate) fn excerpt_of(&self, text: &str, most: usize) -> String {
        let text = self.beginning(text);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = printable::line(&line);
        match shown.char_indices().nth(most) {
            Some((end, _)) => format!("{}…", &shown[..end]),
            None if shown.is_empty() => "no text".to_owned(),
            None => shown.into_owned(),
        }
    }

    /// The beginning of a text without the secrets. It is cut after they are taken out, and so far before the end of what was
    /// looked at that no half of one is left.
    fn beginning<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let looked_at = text.floor_char_boundary(PART_BYTES);
        let shown = self.redact(&text[..looked_at]);
        if looked_at == text.len() {
            return shown;
        }
        let end = shown.floor_char_boundary(shown.len().saturating_sub(AROUND_QUOTE));
        match shown {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        }
    }

    /// Adds the value of a header: as a whole, its words, and passwords of Basic in the clear.
    pub fn add_header(&mut self, value: &[u8]) {
        self.add_whole(value);
        let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let rest: Vec<&[u8]> = words.collect();
        if first.eq_ignore_ascii_case(b"basic") {
            rest.iter().for_each(|pair| self.add_basic(pair));
        }
        // The name of a scheme (RFC 9110 §11.1) is no secret.
        let is_scheme =
            !rest.is_empty() && first.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
        for word in rest.into_iter().chain((!is_scheme).then_some(first)) {
            self.add(parameter_value(word));
        }
    }

    fn add_basic(&mut self, encoded: &[u8]) {
        let Ok(pair) = STANDARD.decode(encoded) else { return };
        self.add_whole(&pair);
        if let Some(colon) = pair.iter().position(|byte| *byte == b':') {
            self.add(&pair[colon + 1..]);
        }
    }

    /// Adds a text of which not every piece is a secret.
    fn add_whole(&mut self, text: &[u8]) {
        if text.len() >= MIN_PIECE {
            self.whole.push((fold(text), false));
        }
    }

    fn add_form(&mut self, form: &[u8]) {
        let form = fold(form);
        match form.len() {
            ..MIN_BYTES => {}
            MIN_BYTES..MIN_PIECE => self.whole.push((form, true)),
            length => {
                let size = length.div_ceil(2).clamp(MIN_PIECE, MAX_PIECE);
                self.pieces.entry(size).or_default().extend(form.windows(size).map(piece));
            }
        }
    }

    /// Returns where in the text that was decoded there are secrets.
    fn find(&self, decoded: &Decoded) -> Vec<Range<usize>> {
        let bytes = fold(decoded.bytes());
        let mut found = Vec::new();
        for (&size, pieces) in &self.pieces {
            let here = bytes.windows(size).enumerate().filter(|(_, window)| pieces.contains(&piece(window)));
            found.extend(here.map(|(at, _)| decoded.source(at..at + size)));
        }
        for (secret, is_word) in &self.whole {
            let places = memchr::memmem::find_iter(&bytes, secret).map(|at| at..at + secret.len());
            let places = places.filter(|place| !is_word || stands_alone(&bytes, place));
            found.extend(places.map(|place| decoded.source(place)));
        }
        found
    }
}

/// Writes the letters of a text in lower case, and those of the two alphabets of base64 (RFC 4648 §5), and of a space and
/// its encoding as `+`, as one.
fn fold(text: &[u8]) -> Vec<u8> {
    let fold = |byte: &u8| match byte {
        b' ' | b'-' => b'+',
        b'_' => b'/',
        byte => byte.to_ascii_lowercase(),
    };
    text.iter().map(fold).collect()
}

/// At most [`MAX_PIECE`] bytes.
fn piece(bytes: &[u8]) -> Piece {
    bytes.iter().fold(bytes.len() as Piece, |piece, byte| piece << 8 | Piece::from(*byte))
}

/// Returns the value of a word that is a parameter, as in `key="value"`, and else the word.
fn parameter_value(word: &[u8]) -> &[u8] {
    let is_mark = |byte: &u8| matches!(byte, b'"' | b',' | b';');
    let trim = |mut word: &[u8]| -> usize {
        let all = word.len();
        while word.last().is_some_and(is_mark) {
            word = &word[..word.len() - 1];
        }
        all - word.len()
    };
    let word = &word[..word.len() - trim(word)];
    let Some(equals) = word.iter().position(|byte| *byte == b'=') else { return word };
    let value = &word[equals + 1..];
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    // `=` also fills up base64.
    if value.len() >= MIN_BYTES { value } else { word }
}

/// Returns the base64 of a secret, without what fills it up.
fn base64_alone(secret: &[u8]) -> Vec<u8> {
    STANDARD_NO_PAD.encode(secret).into_bytes()
}

/// Returns what the base64 of every text that holds `secret` holds, for the three places where it may begin.
fn base64_within(secret: &[u8]) -> [Vec<u8>; 3] {
    [(0, 0), (1, 2), (2, 3)].map(|(before, dependent)| {
        let mut text = vec![0; before];
        text.extend(secret);
        let mut encoded = STANDARD_NO_PAD.encode(&text).into_bytes();
        // The last digit depends on what follows, unless it is full.
        if text.len() % 3 != 0 {
            encoded.pop();
        }
        encoded.drain(..dependent.min(encoded.len()));
        encoded
    })
}

fn stands_alone(text: &[u8], place: &Range<usize>) -> bool {
    let before = place.start.checked_sub(1).map(|at| text[at]);
    let neighbours = [before, text.get(place.end).copied()];
    neighbours.into_iter().flatten().all(|byte| !byte.is_ascii_alphanumeric())
}

/// Returns the end of the part of `text` that begins at `start`: before a space, where one is near.
fn part_end(text: &str, start: usize) -> usize {
    let rest = &text[start..];
    if rest.len() <= PART_BYTES {
        return text.len();
    }
    let part = &rest[..rest.floor_char_boundary(PART_BYTES)];
    start + part.rfind(char::is_whitespace).filter(|at| *at > 0).unwrap_or(part.len())
}

/// Writes `text` with [`REDACTED`] in the place of `ranges`; those that touch become one.
fn without(text: &str, mut ranges: Vec<Range<usize>>) -> String {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut out = String::with_capacity(text.len());
    let mut shown = 0;
    for Range { start, end } in ranges {
        let (start, end) = (text.floor_char_boundary(start), text.ceil_char_boundary(end));
        if start > shown || shown == 0 && out.is_empty() {
            out.push_str(&text[shown..start]);
            out.push_str(REDACTED);
        }
        shown = shown.max(end);
    }
    out.push_str(&text[shown..]);
    out
}

#[cfg(test)]
mod tests;
