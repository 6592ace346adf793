//! Reads lists over all their pages, within bounds. What came before something went wrong is kept.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use tokio::time::timeout;

use super::error::ClientError;
use super::http::HttpClient;
use super::rpc::RpcClient;
use crate::json::{self, JsonError};
use crate::method::Method;
use crate::quirk::Quirk;

/// Pages of a list.
const MAX_PAGES: usize = 1_000;
/// Pages in a row that have entries, but none that no page before had: the server begins anew.
const MAX_REPEATED_PAGES: usize = 4;
/// Bytes of all definitions and cursors of a list together.
const MAX_LIST_BYTES: usize = 64 << 20;
/// Bytes of a cursor.
const MAX_CURSOR_BYTES: usize = 64 << 10;
/// The longest time that all pages of a list may take together, in units of what one request may take.
const MAX_TIMEOUTS: u32 = 10;
/// A cursor that many servers write for "no more", and that leads on at others. Raw.
const EMPTY_CURSOR: &str = r#""""#;
/// Cursors, raw, that may all be meant so: if the server refuses what it wrote, it was none.
const DOUBTFUL_CURSORS: [&str; 5] = [EMPTY_CURSOR, "0", "-1", r#""null""#, r#""undefined""#];

/// A list, as far as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The definitions, raw, each as the server wrote it.
    pub entries: Vec<String>,
    /// Why there are no more than those. `None`: the list was read to its end.
    pub trouble: Option<ClientError>,
}

/// A list that is being read.
struct Reading<'a> {
    http: &'a HttpClient,
    method: &'static str,
    /// The member of the result that has the entries.
    member: &'static str,
    max_items: usize,
    bytes: usize,
    entries: Vec<String>,
    /// The entries of the pages before.
    known: Met,
    /// The cursors that were followed.
    followed: Met,
    /// The pages in a row, up to the last one, that brought nothing new.
    repeated: usize,
}

/// One page.
struct Page<'a> {
    /// The list, a raw JSON array.
    entries: Cow<'a, str>,
    /// Where it goes on, raw.
    next: Option<&'a str>,
}

/// Texts that were met, as hashes under a key that no server knows.
#[derive(Default)]
struct Met {
    key: RandomState,
    hashes: HashSet<u64>,
}

/// Reads a list.
pub(super) async fn all(rpc: &RpcClient, method: Method, max_items: usize) -> Listing {
    let Some(member) = method.list_member() else {
        let trouble = ClientError::Protocol(format!("{method} does not list anything"));
        return Listing { entries: Vec::new(), trouble: Some(trouble) };
    };
    let longest = rpc.http.endpoint.timeout * MAX_TIMEOUTS;
    let mut reading = Reading {
        http: &rpc.http,
        method: method.as_str(),
        member,
        max_items,
        bytes: 0,
        entries: Vec::new(),
        known: Met::default(),
        followed: Met::default(),
        repeated: 0,
    };
    let read = timeout(longest, reading.pages(rpc)).await;
    let trouble = read.unwrap_or(Err(ClientError::Timeout(longest))).err();
    Listing { entries: reading.entries, trouble }
}

impl Met {
    /// Adds a text. Returns whether it is new.
    fn add(&mut self, text: &str) -> bool {
        self.hashes.insert(self.key.hash_one(text))
    }

    fn contains(&self, text: &str) -> bool {
        self.hashes.contains(&self.key.hash_one(text))
    }
}

impl Reading<'_> {
    async fn pages(&mut self, rpc: &RpcClient) -> Result<(), ClientError> {
        let mut params = "{}".to_owned();
        let mut at_doubtful_cursor = false;
        for _ in 0..MAX_PAGES {
            let result = match rpc.call(self.method, &params).await {
                // It was no cursor, however that is refused.
                Err(
                    ClientError::Rpc { .. }
                    | ClientError::Http { .. }
                    | ClientError::SessionLost { refused_with: Some(_) },
                ) if at_doubtful_cursor => {
                    self.note_loop();
                    return Ok(());
                }
                result => result?,
            };
            let page = self.page(&result)?;
            let brought = self.take(&page.entries)?;
            let Some(cursor) = page.next else { return Ok(()) };
            self.count_cursor(cursor)?;
            at_doubtful_cursor = DOUBTFUL_CURSORS.contains(&cursor);
            if !self.leads_on(cursor, &brought)? {
                self.note_loop();
                return Ok(());
            }
            params = format!(r#"{{"cursor":{cursor}}}"#);
        }
        Err(self.too_many(MAX_PAGES, "pages"))
    }

    /// Reads a page. A list that is null, `{}` or missing is meant to be empty.
    fn page<'r>(&self, result: &'r str) -> Result<Page<'r>, ClientError> {
        let nothing = Page { entries: Cow::Borrowed("[]"), next: None };
        if matches!(result, "null") || is_empty(result, ('[', ']')) {
            self.note_shape(result);
            return Ok(nothing);
        }
        if !result.starts_with('{') {
            return Err(ClientError::Protocol(format!(
                "the result is {} instead of an object",
                word(result)
            )));
        }
        let [entries, next, is_error] = json::members(result, [self.member, "nextCursor", "isError"])?;
        if entries.is_none() && is_error == Some("true") {
            let says = self.http.sanitize(result);
            return Err(ClientError::Protocol(format!("the result says that it is an error: {says}")));
        }
        let next = next.filter(|raw| !self.is_no_cursor(raw));
        match entries {
            Some(entries) if entries.starts_with('[') => {
                let inner = sole_list(entries);
                if inner.is_some() {
                    self.note_shape(entries);
                }
                Ok(Page { entries: Cow::Borrowed(inner.unwrap_or(entries)), next })
            }
            Some(entries) if entries == "null" || is_empty(entries, ('{', '}')) => {
                self.note_shape(result);
                Ok(Page { next, ..nothing })
            }
            None => {
                self.note_shape(result);
                Ok(Page { next, ..nothing })
            }
            Some(object) if let Some(entries) = entries_in(object, self.member) => {
                self.note_shape(object);
                Ok(Page { entries: Cow::Owned(entries), next })
            }
            Some(other) => {
                let (member, word) = (self.member, word(other));
                Err(ClientError::Protocol(format!("{member:?} is {word} instead of a list")))
            }
        }
    }

    /// Whether a raw `nextCursor` says that there is none.
    fn is_no_cursor(&self, raw: &str) -> bool {
        let says_none = raw == "false" || is_empty(raw, ('[', ']')) || is_empty(raw, ('{', '}'));
        if says_none {
            let says = || format!("{} returned nextCursor {raw}", self.method);
            self.http.quirks.note(Quirk::NullMembers, says);
        }
        says_none || raw == "null"
    }

    /// Takes the entries of a page, but for those that a page before had. Returns how many it has, and how many of them
    /// are new.
    fn take(&mut self, entries: &str) -> Result<(usize, usize), ClientError> {
        let mut page = Vec::new();
        json::each_element(entries, |raw| {
            page.push(raw);
            Ok::<_, JsonError>(())
        })?;
        let new: Vec<&str> = page.iter().copied().filter(|raw| !self.known.contains(raw)).collect();
        for raw in &new {
            self.known.add(raw);
        }
        for raw in &new {
            self.add(raw)?;
        }
        Ok((page.len(), new.len()))
    }

    /// Whether to follow a cursor, after a page of so many entries, of which so many were new.
    fn leads_on(&mut self, cursor: &str, (entries, new): &(usize, usize)) -> Result<bool, ClientError> {
        let only_known = *entries > 0 && *new == 0;
        match (only_known, *new) {
            (true, _) => self.repeated += 1,
            (false, 0) => {}
            (false, _) => self.repeated = 0,
        }
        let followed = !self.followed.add(cursor);
        if followed && !only_known && cursor != EMPTY_CURSOR {
            return Err(ClientError::CursorLoop { method: self.method });
        }
        Ok(!followed && self.repeated < MAX_REPEATED_PAGES)
    }

    fn add(&mut self, raw: &str) -> Result<(), ClientError> {
        if self.entries.len() == self.max_items {
            return Err(self.too_many(self.max_items, "entries"));
        }
        self.count_bytes(raw)?;
        self.entries.push(raw.to_owned());
        Ok(())
    }

    /// Counts a cursor, raw.
    fn count_cursor(&mut self, raw: &str) -> Result<(), ClientError> {
        let (name, bytes) = (self.method, raw.len());
        if bytes > MAX_CURSOR_BYTES {
            return Err(ClientError::Protocol(format!(
                "{name} returned a cursor of {bytes} bytes; the maximum is {MAX_CURSOR_BYTES}"
            )));
        }
        self.count_bytes(raw)
    }

    fn count_bytes(&mut self, raw: &str) -> Result<(), ClientError> {
        self.bytes += raw.len();
        if self.bytes > MAX_LIST_BYTES { Err(self.too_many(MAX_LIST_BYTES, "bytes")) } else { Ok(()) }
    }

    fn too_many(&self, limit: usize, unit: &'static str) -> ClientError {
        ClientError::TooMany { method: self.method, limit, unit }
    }

    fn note_shape(&self, result: &str) {
        let says = || format!("{} returned {}", self.method, self.http.sanitize(result));
        self.http.quirks.note(Quirk::ListShape, says);
    }

    fn note_loop(&self) {
        self.http.quirks.note(Quirk::PagingLoops, || self.method.to_owned());
    }
}

/// The list that is the only element of a list, given raw.
fn sole_list(raw: &str) -> Option<&str> {
    raw[1..].trim_ascii_start().starts_with('[').then_some(())?;
    let mut elements = Vec::new();
    json::each_element(raw, |element| {
        elements.push(element);
        Ok::<_, JsonError>(())
    })
    .ok()?;
    let [inner] = *elements else { return None };
    Some(inner)
}

/// The entries of a list, as a raw list, that is an object instead: one entry, or a map of them, as PHP writes a list with gaps.
/// `None` where not every value is an entry.
fn entries_in(object: &str, list: &str) -> Option<String> {
    let identity = match list {
        "resources" => "uri",
        "resourceTemplates" => "uriTemplate",
        _ => "name",
    };
    let is_entry =
        |raw: &str| matches!(json::members(raw, [identity]), Ok([Some(known)]) if known.starts_with('"'));
    if is_entry(object) {
        return Some(format!("[{object}]"));
    }
    let mut entries = Vec::new();
    json::each_member(object, |_, value| {
        entries.push(value);
        Ok(())
    })
    .ok()?;
    entries.iter().all(|entry| is_entry(entry)).then(|| format!("[{}]", entries.join(",")))
}

/// Whether a raw value is an array or an object without anything in it.
fn is_empty(raw: &str, (open, close): (char, char)) -> bool {
    let inner = raw.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

/// What a raw value is, in a word.
fn word(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}
