//! Arguments as bytes: members and items are looked for where they are, and nothing is built. It must not know expressions.
//!
//! Upstreams read the same bytes with other readers. What two readers may take for different things is refused here: members of one name,
//! names that differ only in case, numbers that not every reader keeps, strings that are no Unicode.

use std::borrow::Cow;

use memchr::memchr2;

/// A value, of which lists and objects are not looked into yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    List(&'a [u8]),
    Map(&'a [u8]),
}

/// Why bytes say nothing that can be relied on.
pub(super) type Doubt = &'static str;
type Read<T> = Result<T, Doubt>;

const MALFORMED: Doubt = "the arguments are no JSON";
const TWICE: Doubt = "an object of the arguments has a member twice, or two whose names differ only in case";
const CASE: Doubt = "the arguments have the name in other letters, upper or lower case";
const LARGE: Doubt =
    "a number of the arguments is too large, or has too many digits, to be the same for everyone";
const NO_UNICODE: Doubt = "a string of the arguments is no Unicode";
/// How deep values may be that are gone past.
const MAX_DEPTH: u32 = 128;
/// 2 to the 53, the first whole number that some readers also make of another one. Below it all keep them.
const LIMIT: f64 = 9_007_199_254_740_992.0;

/// Reads a value, with nothing after it.
pub(super) fn value(bytes: &[u8]) -> Read<Json<'_>> {
    let mut scanner = Scanner { bytes, at: 0 };
    let found = scanner.value()?;
    scanner.blank();
    if scanner.at == bytes.len() { read(found) } else { Err(MALFORMED) }
}

/// The member of this name of an object.
pub(super) fn member<'a>(object: &'a [u8], name: &str) -> Read<Option<&'a [u8]>> {
    let mut found = None;
    each(object, b'}', |scanner| {
        let key = scanner.key()?;
        let value = scanner.value()?;
        if key == name {
            return if found.replace(value).is_some() { Err(TWICE) } else { Ok(()) };
        }
        if is_same_but_for_case(&key, name) {
            Err(if found.is_some() { TWICE } else { CASE })
        } else {
            Ok(())
        }
    })?;
    Ok(found)
}

/// The items of a list, if there are no more than so many.
pub(super) fn items(list: &[u8], most: usize) -> Read<Option<Vec<&[u8]>>> {
    let (mut found, mut more) = (Vec::new(), false);
    each(list, b']', |scanner| {
        let value = scanner.value()?;
        more |= found.len() == most;
        if !more {
            found.push(value);
        }
        Ok(())
    })?;
    Ok((!more).then_some(found))
}

/// Goes through what is in brackets.
fn each<'a>(bytes: &'a [u8], end: u8, mut take: impl FnMut(&mut Scanner<'a>) -> Read<()>) -> Read<()> {
    let mut scanner = Scanner { bytes, at: 1 };
    if scanner.sign(end) {
        return Ok(());
    }
    loop {
        take(&mut scanner)?;
        if scanner.sign(end) {
            return Ok(());
        }
        if !scanner.sign(b',') {
            return Err(MALFORMED);
        }
    }
}

/// Case as readers fold it who look for members without it: `ſ` is an `s` for some.
fn is_same_but_for_case(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    let folded = |text: &str| -> String { text.to_uppercase().to_lowercase() };
    folded(a) == folded(b)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn blank(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn sign(&mut self, sign: u8) -> bool {
        self.blank();
        let found = self.peek() == sign;
        self.at += usize::from(found);
        found
    }

    fn key(&mut self) -> Read<Cow<'a, str>> {
        self.blank();
        let text = self.string()?;
        if self.sign(b':') { decoded(text) } else { Err(MALFORMED) }
    }

    /// The bytes of the next value.
    fn value(&mut self) -> Read<&'a [u8]> {
        self.blank();
        let from = self.at;
        match self.peek() {
            b'"' => {
                self.string()?;
            }
            b'{' | b'[' => self.brackets()?,
            _ => {
                let rest = self.bytes.get(from..).unwrap_or_default();
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                self.at += rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        if self.at == from { Err(MALFORMED) } else { Ok(&self.bytes[from..self.at]) }
    }

    /// What stands between two quotes.
    fn string(&mut self) -> Read<&'a [u8]> {
        if self.peek() != b'"' {
            return Err(MALFORMED);
        }
        let from = self.at + 1;
        let mut at = from;
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let sign = memchr2(b'"', b'\\', rest).ok_or(MALFORMED)?;
            // Without an end in between, so that many are looked at in one step.
            if !rest[..sign].iter().fold(true, |plain, byte| plain & (*byte >= 0x20)) {
                return Err(MALFORMED);
            }
            at += sign;
            match rest[sign] {
                b'"' => break,
                _ => at += 2,
            }
        }
        self.at = at + 1;
        Ok(&self.bytes[from..at])
    }

    /// Goes past a list or object, without going down into it.
    fn brackets(&mut self) -> Read<()> {
        let (mut objects, mut depth) = (0_u128, 0_u32);
        loop {
            match self.peek() {
                b'"' => {
                    self.string()?;
                    continue;
                }
                open @ (b'{' | b'[') if depth < MAX_DEPTH => {
                    objects = objects << 1 | u128::from(open == b'{');
                    depth += 1;
                }
                close @ (b'}' | b']') if (objects & 1 == 1) == (close == b'}') => {
                    objects >>= 1;
                    depth -= 1;
                }
                0 | b'{' | b'[' | b'}' | b']' => return Err(MALFORMED),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// What the bytes of one value say.
pub(super) fn read(bytes: &[u8]) -> Read<Json<'_>> {
    match bytes {
        b"null" => Ok(Json::Null),
        b"true" => Ok(Json::Bool(true)),
        b"false" => Ok(Json::Bool(false)),
        [b'{', ..] => Ok(Json::Map(bytes)),
        [b'[', ..] => Ok(Json::List(bytes)),
        [b'"', text @ .., b'"'] => decoded(text).map(Json::Text),
        _ => number(bytes),
    }
}

fn number(bytes: &[u8]) -> Read<Json<'_>> {
    let text = std::str::from_utf8(bytes).map_err(|_| MALFORMED)?;
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_digits = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    let is_number = digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent_digits.is_none_or(digits);
    if !is_number {
        return Err(MALFORMED);
    }
    let found: f64 = text.parse().map_err(|_| MALFORMED)?;
    if found.abs() >= LIMIT {
        return Err(LARGE);
    }
    if fraction.is_none() && exponent.is_none() {
        return text.parse().map(Json::Int).map_err(|_| LARGE);
    }
    let is_kept = Decimal::read(unsigned).is_some_and(|decimal| Some(decimal) == Decimal::of(found.abs()));
    if is_kept { Ok(Json::Double(found)) } else { Err(LARGE) }
}

/// A number as it is spelled, with no zeros around its digits: two are the same number where both parts are.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    digits: String,
    /// The power of ten of the last digit.
    exponent: i64,
}

impl Decimal {
    /// Of the shortest spelling that a double has, which is the one that readers write.
    fn of(number: f64) -> Option<Self> {
        Self::read(&format!("{number:e}"))
    }

    /// Of a number without its sign. `None`: its exponent is beyond all.
    fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = whole.bytes().chain(fraction.bytes());
        let mut digits: String = all.skip_while(|digit| *digit == b'0').map(char::from).collect();
        let length = digits.len();
        digits.truncate(digits.trim_end_matches('0').len());
        if digits.is_empty() {
            return Some(Self { digits, exponent: 0 });
        }
        let zeros = i64::try_from(length - digits.len()).ok()?;
        let behind_point = i64::try_from(fraction.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_sub(behind_point)?.checked_add(zeros)?;
        Some(Self { digits, exponent })
    }
}

/// A string, without its escapes.
fn decoded(raw: &[u8]) -> Read<Cow<'_, str>> {
    let text = std::str::from_utf8(raw).map_err(|_| NO_UNICODE)?;
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut found = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        found.push_str(&rest[..at]);
        let (character, length) = escaped(&rest[at + 1..])?;
        found.push(character);
        rest = &rest[at + 1 + length..];
    }
    found.push_str(rest);
    Ok(Cow::Owned(found))
}

/// What an escape stands for, and how long it is without its backslash.
fn escaped(rest: &str) -> Read<(char, usize)> {
    let simple = match rest.as_bytes().first() {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(sign @ (b'"' | b'\\' | b'/')) => char::from(*sign),
        Some(b'u') => return coded(rest),
        _ => return Err(MALFORMED),
    };
    Ok((simple, 1))
}

fn coded(rest: &str) -> Read<(char, usize)> {
    let first = unit(rest)?;
    if let Some(found) = char::from_u32(first) {
        return Ok((found, 5));
    }
    let second = rest.get(5..).and_then(|rest| rest.strip_prefix('\\'));
    let second = second.filter(|rest| rest.starts_with('u')).map(unit).transpose()?;
    let (high, Some(low)) = (first, second) else { return Err(NO_UNICODE) };
    if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
        return Err(NO_UNICODE);
    }
    let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    char::from_u32(code).map(|found| (found, 11)).ok_or(NO_UNICODE)
}

/// The number after a `u`.
fn unit(rest: &str) -> Read<u32> {
    let digits = rest.get(1..5).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(MALFORMED)
}
