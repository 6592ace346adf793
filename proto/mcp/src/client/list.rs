//! Reads lists over all their pages, within bounds.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use tokio::time::timeout;

use super::error::ClientError;
use super::rpc::RpcClient;
use crate::json::{self, quote};
use crate::method::Method;

/// Pages of a list.
const MAX_PAGES: usize = 1_000;
/// Bytes of all definitions and cursors of a list together.
const MAX_LIST_BYTES: usize = 64 << 20;
/// Bytes of a cursor.
const MAX_CURSOR_BYTES: usize = 4 << 10;
/// The longest time that all pages of a list may take together, in units of what one request may take.
const MAX_TIMEOUTS: u32 = 10;

/// The definitions of a list, raw, bounded.
struct Definitions {
    method: &'static str,
    max_items: usize,
    bytes: usize,
    items: Vec<String>,
}

/// The cursors that were followed, as hashes under a key that no server knows: enough to see a loop.
#[derive(Default)]
struct Followed {
    key: RandomState,
    hashes: HashSet<u64>,
}

pub(super) async fn all(
    rpc: &RpcClient,
    method: Method,
    max_items: usize,
) -> Result<Vec<String>, ClientError> {
    let longest = rpc.http.endpoint.timeout * MAX_TIMEOUTS;
    timeout(longest, pages(rpc, method, max_items)).await.unwrap_or(Err(ClientError::Timeout(longest)))
}

async fn pages(rpc: &RpcClient, method: Method, max_items: usize) -> Result<Vec<String>, ClientError> {
    let name = method.as_str();
    let member = method
        .list_member()
        .ok_or_else(|| ClientError::Protocol(format!("{name} does not list anything")))?;
    let mut found = Definitions { method: name, max_items, bytes: 0, items: Vec::new() };
    let mut followed = Followed::default();
    let mut params = "{}".to_owned();
    for _ in 0..MAX_PAGES {
        let result = rpc.call(name, &params).await?;
        let [page, next] = json::members(&result, [member, "nextCursor"])?;
        let page = page.ok_or_else(|| ClientError::Protocol(format!("{name}: no member {member:?}")))?;
        json::each_element(page, |raw| found.add(raw))?;
        let Some(cursor) = next.filter(|raw| *raw != "null") else {
            return Ok(found.items);
        };
        found.count_cursor(cursor)?;
        let cursor = json::string(cursor)?;
        params = format!(r#"{{"cursor":{}}}"#, quote(&cursor));
        if !followed.add(&cursor) {
            return Err(ClientError::CursorLoop { method: name });
        }
    }
    Err(found.too_many(MAX_PAGES, "pages"))
}

impl Followed {
    /// Adds a cursor. Returns whether it is new.
    fn add(&mut self, cursor: &str) -> bool {
        self.hashes.insert(self.key.hash_one(cursor))
    }
}

impl Definitions {
    fn add(&mut self, raw: &str) -> Result<(), ClientError> {
        if self.items.len() == self.max_items {
            return Err(self.too_many(self.max_items, "entries"));
        }
        self.count_bytes(raw)?;
        self.items.push(raw.to_owned());
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
}
