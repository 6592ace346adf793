//! JSON text looked into and edited without being re-written: every byte that is not touched stays as it was.
//!
//! It must not know the protocol.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::message::span;
use crate::scan::Scanner;

/// An error in JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("byte {at}: expected {expected}")]
    Syntax {
        /// Where, in bytes from the start of the text.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// Arrays and objects nest more than 1,024 deep.
    #[error("byte {at}: nested more than 1024 deep")]
    Depth {
        /// Where, in bytes from the start of the text.
        at: usize,
    },
    /// A member that was asked for is there twice, so that readers could disagree on it.
    #[error("member {0:?} is repeated")]
    Repeated(String),
    /// A member differs in case only from one that is read, so that readers who ignore case could disagree on it.
    #[error("member {found:?} differs from {member:?} in case only")]
    Variant {
        /// The member as it is spelled.
        found: String,
        /// The member that it could be taken for.
        member: String,
    },
    /// An escape names half of a surrogate pair.
    #[error("a string contains half of a surrogate pair")]
    Surrogate,
}

/// The raw text of the top-level members `keys` of `object`; `None` for those that are absent.
///
/// # Errors
/// When `object` is not one JSON object, or has one of the wanted members twice.
#[inline]
pub fn members<'a, const N: usize>(
    object: &'a str,
    keys: [&str; N],
) -> Result<[Option<&'a str>; N], JsonError> {
    find(object, keys, |_| Ok(()))
}

/// The same as [`members`], for what others are to read after it was checked here: a member that differs in case only from
/// one of `keys`, or from one of `others` that are read elsewhere, is refused.
///
/// # Errors
/// As those of [`members`], or [`JsonError::Variant`].
#[inline]
pub fn exact_members<'a, const N: usize>(
    object: &'a str,
    keys: [&str; N],
    others: &[&str],
) -> Result<[Option<&'a str>; N], JsonError> {
    find(object, keys, |found| match variant_of(found, &keys).or_else(|| variant_of(found, others)) {
        None => Ok(()),
        Some(member) => Err(JsonError::Variant { found: found.to_owned(), member: member.to_owned() }),
    })
}

#[inline]
fn find<'a, const N: usize>(
    object: &'a str,
    keys: [&str; N],
    mut unknown: impl FnMut(&str) -> Result<(), JsonError>,
) -> Result<[Option<&'a str>; N], JsonError> {
    let mut found = [None; N];
    each_member(object, |raw, value| {
        let key = key_text(raw);
        let Some(wanted) = keys.iter().position(|k| *k == key) else {
            return unknown(&key);
        };
        match found[wanted].replace(value) {
            None => Ok(()),
            Some(_) => Err(JsonError::Repeated(key.into_owned())),
        }
    })?;
    Ok(found)
}

/// Returns the one of `names` that readers who ignore case take `key` for, though it is spelled otherwise. Go's
/// `encoding/json` is such a reader, and takes the long s and the Kelvin sign for letters, too.
#[must_use]
pub fn variant_of<'n>(key: &str, names: &[&'n str]) -> Option<&'n str> {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    let alike = |name: &&&str| **name != key && name.chars().map(fold).eq(key.chars().map(fold));
    names.iter().find(alike).copied()
}

/// Calls `visit` with every key (raw, quotes included) and value (raw) of `object`, in order.
///
/// # Errors
/// When `object` is not one JSON object, or `visit` says so.
pub fn each_member<'a>(
    object: &'a str,
    visit: impl FnMut(&'a str, &'a str) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(object);
    scanner.space();
    scanner.object(visit)?;
    scanner.end().map_err(|stop| scanner.error(stop))
}

/// Calls `visit` with every element (raw) of `array`, in order.
///
/// # Errors
/// When `array` is not one JSON array, or `visit` says so.
pub fn each_element<'a, E: From<JsonError>>(
    array: &'a str,
    visit: impl FnMut(&'a str) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner::new(array);
    scanner.space();
    scanner.array(visit)?;
    Ok(scanner.end().map_err(|stop| scanner.error(stop))?)
}

/// Decodes a raw JSON string.
///
/// # Errors
/// When `raw` is not one JSON string, or holds half of a surrogate pair, which UTF-8 cannot say.
pub fn string(raw: &str) -> Result<Cow<'_, str>, JsonError> {
    let mut scanner = Scanner::new(raw);
    scanner.space();
    let start = scanner.at() + 1;
    scanner.string().map_err(|stop| scanner.error(stop))?;
    let inner = &raw[start..scanner.at() - 1];
    scanner.end().map_err(|stop| scanner.error(stop))?;
    unescape(inner).ok_or(JsonError::Surrogate)
}

/// JSON text with `\ufffd` in the place of every escape that names half of a surrogate pair, as browsers, Go and Rust read it;
/// `None` where there is none. Python's SDK refuses a whole message for one.
#[must_use]
pub fn without_halves(json: &str) -> Option<String> {
    let mut escapes = memchr::memmem::find_iter(json.as_bytes(), br"\u").map(|at| &json[at + 2..]);
    // Escapes of other characters are common.
    escapes.any(|digits| digits.starts_with(['d', 'D'])).then(|| replace_halves(json)).flatten()
}

#[cold]
fn replace_halves(json: &str) -> Option<String> {
    let (mut mended, mut kept, mut at) = (String::new(), 0, 0);
    // In JSON text, a backslash is in a string, and begins an escape.
    while let Some(found) = memchr::memchr(b'\\', &json.as_bytes()[at..]) {
        let escape = at + found;
        let (is_half, length) = match (code_unit(json, escape), code_unit(json, escape + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (false, 12),
            (Some(0xd800..=0xdfff), _) => (true, 6),
            _ => (false, 2),
        };
        at = (escape + length).min(json.len());
        if is_half {
            mended.extend([&json[kept..escape], r"\ufffd"]);
            kept = at;
        }
    }
    (kept > 0).then(|| mended + &json[kept..])
}

/// The UTF-16 code unit that the escape at a place names, if it names one.
fn code_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(r"\u")?;
    u16::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Text as a JSON string, quotes included.
#[must_use]
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `object` with some members replaced in place, added at its end (`Some`) or taken out (`None`).
///
/// New values must be JSON text. Every other byte stays as it was.
///
/// # Errors
/// When `object` is not one JSON object, or has one of the edited members twice.
pub fn set_members(object: &str, edits: &[(&str, Option<&str>)]) -> Result<String, JsonError> {
    let mut editor = Editor::new(object, edits);
    each_member(object, |key, value| editor.member(key, value))?;
    editor.finish(object)
}

/// So many edits are looked through for each member; more are looked up.
const FEW_EDITS: usize = 16;

/// The state of [`set_members`] between two members.
struct Editor<'e> {
    edits: &'e [(&'e str, Option<&'e str>)],
    /// The positions of many edits by their keys; empty where they are few.
    index: HashMap<&'e str, usize>,
    /// Keys that were compared with one.
    #[cfg(test)]
    compared: usize,
    done: Vec<bool>,
    source: &'e str,
    out: String,
    /// What stands before the first member: the brace and white space.
    opening: &'e str,
    /// Where the member before ended in the source.
    previous_end: usize,
    /// Whether a member was seen, and whether one was kept.
    seen: bool,
    kept: bool,
}

impl<'e> Editor<'e> {
    fn new(source: &'e str, edits: &'e [(&'e str, Option<&'e str>)]) -> Self {
        let growth: usize = edits.iter().map(|(key, value)| key.len() + value.map_or(0, str::len) + 8).sum();
        let mut index = HashMap::new();
        if edits.len() > FEW_EDITS {
            edits.iter().enumerate().for_each(|(at, (key, _))| {
                index.entry(*key).or_insert(at);
            });
        }
        Self {
            edits,
            index,
            #[cfg(test)]
            compared: 0,
            done: vec![false; edits.len()],
            source,
            out: String::with_capacity(source.len() + growth),
            opening: "",
            previous_end: 0,
            seen: false,
            kept: false,
        }
    }

    fn member(&mut self, key: &str, value: &str) -> Result<(), JsonError> {
        let key_start = span(self.source.as_bytes(), key).start;
        let value_span = span(self.source.as_bytes(), value);
        let before = &self.source[self.previous_end..key_start];
        if !self.seen {
            self.opening = before;
            self.seen = true;
        }
        self.previous_end = value_span.end;
        let replacement = match self.edit(key)? {
            Some(None) => return Ok(()),
            Some(Some(new)) => new,
            None => value,
        };
        // The separator that stands before a member goes with it, except that the first one kept opens the object.
        self.out.push_str(if self.kept { before } else { self.opening });
        self.out.push_str(&self.source[key_start..value_span.start]);
        self.out.push_str(replacement);
        self.kept = true;
        Ok(())
    }

    /// The edit for this key, at most once.
    fn edit(&mut self, raw_key: &str) -> Result<Option<Option<&'e str>>, JsonError> {
        let key = key_text(raw_key);
        let Some(at) = self.position(&key) else {
            return Ok(None);
        };
        if std::mem::replace(&mut self.done[at], true) {
            return Err(JsonError::Repeated(key.into_owned()));
        }
        Ok(Some(self.edits[at].1))
    }

    fn position(&mut self, key: &str) -> Option<usize> {
        if !self.index.is_empty() {
            #[cfg(test)]
            {
                self.compared += 1;
            }
            return self.index.get(key).copied();
        }
        #[cfg(test)]
        {
            self.compared += self.edits.len();
        }
        self.edits.iter().position(|(k, _)| *k == key)
    }

    fn finish(mut self, object: &str) -> Result<String, JsonError> {
        if !self.kept {
            let opening = if self.seen { self.opening } else { brace(object) };
            self.out.push_str(opening);
        }
        for (&(key, value), done) in self.edits.iter().zip(&self.done) {
            let (Some(value), false) = (value, done) else {
                continue;
            };
            if std::mem::replace(&mut self.kept, true) {
                self.out.push(',');
            }
            self.out.push_str(&quote(key));
            self.out.push(':');
            self.out.push_str(value);
        }
        let rest = if self.seen { &object[self.previous_end..] } else { &object[brace(object).len()..] };
        self.out.push_str(rest);
        Ok(self.out)
    }
}

/// An object's text up to and with its opening brace.
fn brace(object: &str) -> &str {
    let end = object.find('{').map_or(0, |at| at + 1);
    &object[..end]
}

/// Decodes a raw string whose grammar was checked.
pub(crate) fn checked_string(raw: &str) -> Option<Cow<'_, str>> {
    unescape(&raw[1..raw.len() - 1])
}

/// Decodes a raw key. One that UTF-8 cannot hold keeps its escapes: it equals no name that is looked for.
pub(crate) fn key_text(raw: &str) -> Cow<'_, str> {
    checked_string(raw).unwrap_or(Cow::Borrowed(raw))
}

/// Takes the escapes out of the inside of a string whose grammar was checked.
fn unescape(inner: &str) -> Option<Cow<'_, str>> {
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else {
        return Some(Cow::Borrowed(inner));
    };
    let mut out = String::with_capacity(inner.len());
    let (plain, mut rest) = inner.split_at(first);
    out.push_str(plain);
    while !rest.is_empty() {
        let (character, length) = escaped(rest)?;
        out.push(character);
        rest = &rest[length..];
        let next = memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        out.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Some(Cow::Owned(out))
}

/// The character that an escape at the start of `text` stands for, and the escape's length.
fn escaped(text: &str) -> Option<(char, usize)> {
    let simple = match text.as_bytes().get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return escaped_unicode(text),
        other => char::from(*other),
    };
    Some((simple, 2))
}

fn escaped_unicode(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u32::from_str_radix(text.get(at..at + 4)?, 16).ok();
    let first = unit(2)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = text.get(6..8).filter(|u| *u == "\\u").and_then(|_| unit(8))?;
    let pair = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    let character = char::decode_utf16(pair).next()?.ok()?;
    Some((character, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The work of editing grows with the members and the edits, and not with the product of both.
    #[test]
    fn many_edits_take_one_pass() {
        for count in [1, FEW_EDITS, FEW_EDITS + 1, 2_000] {
            let keys: Vec<String> = (0..count).map(|n| format!("k{n}")).collect();
            let members: Vec<String> = keys.iter().map(|key| format!("\"{key}\":true")).collect();
            let object = format!("{{{}}}", members.join(","));
            let edits: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (&**key, Some("{}"))).collect();
            let mut editor = Editor::new(&object, &edits);
            each_member(&object, |key, value| editor.member(key, value)).unwrap();
            assert!(editor.compared <= FEW_EDITS * count, "{} for {count}", editor.compared);
            assert_eq!(editor.finish(&object).unwrap(), object.replace("true", "{}"));
        }
    }
}
