//! Reads lists over all their pages, within bounds.

use std::collections::HashSet;

use super::error::ClientError;
use super::rpc::RpcClient;
use crate::json::{self, quote};
use crate::method::Method;

/// Pages of a list.
const MAX_PAGES: usize = 1_000;
/// Bytes of all definitions of a list together.
const MAX_LIST_BYTES: usize = 64 << 20;

/// The definitions of a list, raw, bounded.
struct Definitions {
    method: &'static str,
    max_items: usize,
    bytes: usize,
    items: Vec<String>,
}

pub(super) async fn all(
    rpc: &RpcClient,
    method: Method,
    max_items: usize,
) -> Result<Vec<String>, ClientError> {
    let name = method.as_str();
    let member = method
        .list_member()
        .ok_or_else(|| ClientError::Protocol(format!("{name} does not list anything")))?;
    let mut found = Definitions { method: name, max_items, bytes: 0, items: Vec::new() };
    let mut seen = HashSet::new();
    let mut params = "{}".to_owned();
    for _ in 0..MAX_PAGES {
        let result = rpc.call(name, &params).await?;
        let [page, next] = json::members(&result, [member, "nextCursor"])?;
        let page = page.ok_or_else(|| ClientError::Protocol(format!("{name}: no member {member:?}")))?;
        json::each_element(page, |raw| found.add(raw))?;
        let Some(cursor) = next.filter(|raw| *raw != "null") else {
            return Ok(found.items);
        };
        let cursor = json::string(cursor)?.into_owned();
        params = format!(r#"{{"cursor":{}}}"#, quote(&cursor));
        if !seen.insert(cursor) {
            return Err(ClientError::CursorLoop { method: name });
        }
    }
    Err(found.too_many(MAX_PAGES, "pages"))
}

impl Definitions {
    fn add(&mut self, raw: &str) -> Result<(), ClientError> {
        self.bytes += raw.len();
        if self.items.len() == self.max_items {
            return Err(self.too_many(self.max_items, "entries"));
        }
        if self.bytes > MAX_LIST_BYTES {
            return Err(self.too_many(MAX_LIST_BYTES, "bytes"));
        }
        self.items.push(raw.to_owned());
        Ok(())
    }

    fn too_many(&self, limit: usize, unit: &'static str) -> ClientError {
        ClientError::TooMany { method: self.method, limit, unit }
    }
}
