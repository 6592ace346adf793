//! Ids of requests, compared by what they denote. It must not know which requests are open.

use std::borrow::Cow;

use crate::json;

/// How an id is spelled that denotes what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// As it was sent.
    Exact,
    /// In another way: as a text, with a fraction of zeros, with an exponent, or with escapes.
    Other,
}

/// How the raw id `raw` spells `number`; `None` when it denotes something else.
#[inline]
#[must_use]
pub fn denotes(raw: &str, number: u64) -> Option<Spelling> {
    if raw.parse() == Ok(number) {
        return Some(Spelling::Exact);
    }
    denotes_otherwise(raw, number)
}

#[cold]
fn denotes_otherwise(raw: &str, number: u64) -> Option<Spelling> {
    (denoted(raw)? == Denoted::Integer(number.into())).then_some(Spelling::Other)
}

/// How the raw id `raw` spells `own`, another raw id; `None` when they denote different things.
#[inline]
#[must_use]
pub fn same(raw: &str, own: &str) -> Option<Spelling> {
    if raw == own { Some(Spelling::Exact) } else { same_otherwise(raw, own) }
}

#[cold]
fn same_otherwise(raw: &str, own: &str) -> Option<Spelling> {
    (denoted(raw)? == denoted(own)?).then_some(Spelling::Other)
}

/// The one of `open`, each with its raw id, that `raw` names: the one that is spelled so, or the only one that denotes the same.
pub fn find<'a, T>(raw: &str, open: impl Iterator<Item = (&'a str, T)> + Clone) -> Option<T> {
    if let Some((_, exact)) = open.clone().find(|(own, _)| *own == raw) {
        return Some(exact);
    }
    let mut alike = open.filter(|(own, _)| same(raw, own).is_some());
    let (_, found) = alike.next()?;
    alike.next().is_none().then_some(found)
}

/// What an id stands for.
#[derive(PartialEq)]
enum Denoted<'a> {
    Integer(i128),
    Text(Cow<'a, str>),
}

fn denoted(raw: &str) -> Option<Denoted<'_>> {
    if !raw.starts_with('"') {
        return integer(raw).map(Denoted::Integer);
    }
    let text = json::string(raw).ok()?;
    Some(integer(&text).map_or(Denoted::Text(text), Denoted::Integer))
}

/// The integer that a JSON number denotes; `None` for fractions, for what is no number, and past 128 bits.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        None => (digits, 0),
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        None => (mantissa, "0"),
        Some(parts) => parts,
    };
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) || whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let scale = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let zeros = significant.len() - significant.trim_end_matches('0').len();
    let (significant, scale) = match usize::try_from(-i64::from(scale)) {
        Ok(places) if places > zeros => return None,
        Ok(places) => (&significant[..significant.len() - places], 0),
        Err(_) => (significant, u32::try_from(scale).ok()?),
    };
    significant.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(scale)?)?.checked_mul(sign)
}

/// The number that a raw id denotes, however it is spelled.
#[cold]
#[must_use]
pub fn number(raw: &str) -> Option<u64> {
    match denoted(raw)? {
        Denoted::Integer(integer) => u64::try_from(integer).ok(),
        Denoted::Text(_) => None,
    }
}

/// The code that a raw value denotes which is no integer as it stands: `"-32000"`, `-32e3`.
#[cold]
pub(super) fn code(raw: &str) -> Option<i64> {
    match denoted(raw)? {
        Denoted::Integer(integer) => i64::try_from(integer).ok().filter(|code| code.unsigned_abs() < 1 << 53),
        Denoted::Text(_) => None,
    }
}

/// The number of the request that bytes were the answer to which cannot be read as a message: they have its `id`, and a
/// `result` or an `error`. One look tells it for all requests that are open.
#[cold]
#[must_use]
pub fn claimed(source: &[u8]) -> Option<u64> {
    let (mut named, mut answers) = (None, false);
    for (key, value) in Members::of(source) {
        if key == b"id" {
            let raw = value.and_then(|value| std::str::from_utf8(value).ok());
            named = raw.and_then(number).or(named);
        }
        answers |= matches!(key, b"result" | b"error");
    }
    named.filter(|_| answers)
}

/// Whose message it is of which only the ends are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The answer to the request of this number.
    Answer(u64),
    /// A request or a notification.
    NoAnswer,
    /// That cannot be told.
    Unknown,
}

/// Whose message it is of which only the first and the last bytes are there. An id is taken from its beginning, or from its very
/// end: what stands before the last brace is a member of the message itself.
#[cold]
#[must_use]
pub fn claim_of_ends(first: &[u8], last: &[u8]) -> Claim {
    // A batch has several.
    if !first.trim_ascii_start().starts_with(b"{") {
        return Claim::Unknown;
    }
    let (mut named, mut answers) = (None, false);
    for (key, value) in Members::of(first) {
        match key {
            b"method" => return Claim::NoAnswer,
            b"result" | b"error" => answers = true,
            b"id" => named = value.and_then(|value| std::str::from_utf8(value).ok()).and_then(number),
            _ => {}
        }
    }
    match named.or_else(|| number_at_end(last)) {
        Some(number) if answers => Claim::Answer(number),
        _ => Claim::Unknown,
    }
}

/// The number that the id of a message denotes which ends so, with nothing after it but its version.
fn number_at_end(last: &[u8]) -> Option<u64> {
    let members = last.trim_ascii_end().strip_suffix(b"}")?;
    let id = memchr::memmem::rfind(members, br#""id""#)?;
    let rest = members[id + 4..].trim_ascii_start().strip_prefix(b":")?;
    let text = std::str::from_utf8(rest).ok()?;
    let (raw, version) = text.split_once(',').unwrap_or((text, ""));
    let version: String = version.split_ascii_whitespace().collect();
    let is_last = version.is_empty() || version == r#""jsonrpc":"2.0""#;
    number(raw.trim_ascii()).filter(|_| is_last)
}

/// The raw id of a message of which only the start is there; `None` when it has none there, or one that is no id.
#[cold]
#[must_use]
pub fn id_in_prefix(start: &[u8]) -> Option<&str> {
    let (_, value) = Members::of(start).find(|(key, _)| *key == b"id")?;
    let raw = std::str::from_utf8(value?).ok()?;
    denoted(raw).map(|_| raw)
}

/// The raw id of a request that cannot be read; `None` when it may be a response, or has no id or several.
#[cold]
#[must_use]
pub fn id_of_unreadable(source: &[u8]) -> Option<&str> {
    let (mut id, mut asks) = (None, false);
    for (key, value) in Members::of(source) {
        let says_something = value != Some(b"null");
        match key {
            b"id" if id.is_some() => return None,
            b"id" => id = Some(std::str::from_utf8(value?).ok()?),
            b"method" => asks |= says_something,
            b"result" | b"error" if says_something => return None,
            _ => {}
        }
    }
    id.filter(|raw| asks && denoted(raw).is_some())
}

/// The members of the first object in bytes that may be anything, as far as they can be told. A value that is cut off is
/// `None`. Keys are without their quotes, and raw.
struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    fn of(source: &'a [u8]) -> Self {
        let start = memchr::memchr(b'{', source).map_or(source.len(), |brace| brace + 1);
        Self { rest: &source[start..] }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Takes what is next, up to `length`.
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// Takes a value; `None` when its end is not there.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.space();
        let length = match self.rest.first()? {
            b'"' => string_length(self.rest),
            b'{' | b'[' => container_length(self.rest),
            _ => self.rest.iter().position(|b| matches!(b, b',' | b'}' | b']') || b.is_ascii_whitespace()),
        };
        let Some(length) = length else {
            self.rest = &[];
            return None;
        };
        Some(self.take(length))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.rest.iter().position(|b| matches!(b, b'"' | b'{' | b'[' | b'}'))?;
            self.take(start);
            match self.rest[0] {
                b'"' => {}
                b'}' => return None,
                // Where a key should be: stepped over whole, so that what is in it is not taken for a member.
                _ => {
                    let length = container_length(self.rest)?;
                    self.take(length);
                    continue;
                }
            }
            let length = string_length(self.rest)?;
            let key = self.take(length);
            self.space();
            if self.rest.first() == Some(&b':') {
                self.take(1);
                return Some((&key[1..key.len() - 1], self.value()));
            }
        }
    }
}

/// The length of the string at the start, quotes included; `None` when it does not end.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The length of the array or object at the start; `None` when it does not end.
fn container_length(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => at += string_length(&bytes[at..])? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}
