//! Pages of lists: their sizes, their order, and what a page token says. Sealing it is somebody else's.

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;

use super::Kind;

/// The page size when the caller states none.
pub const DEFAULT_SIZE: usize = 50;
/// The maximum page size.
pub const MAX_SIZE: i32 = 1_000;
/// The maximum size of a page's encoded items, below the default limit of gRPC clients. The first item
/// of a page is always in it.
pub const MAX_PAGE_BYTES: usize = 2 << 20;

/// By what a list is sorted; names break ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By name.
    Name,
    /// By the revision of the last write.
    Revision,
    /// By the time of creation.
    CreateTime,
}

/// The end of a page, and the query and caller it belongs to.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PageToken {
    /// A hash of everything that must not change from page to page.
    #[prost(bytes = "vec", tag = "1")]
    pub query_hash: Vec<u8>,
    /// The value sorted by, of the last item.
    #[prost(int64, tag = "2")]
    pub value: i64,
    /// The name of the last item.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// Reads a page size.
pub fn size(wanted: i32) -> Result<usize, String> {
    match wanted {
        0 => Ok(DEFAULT_SIZE),
        wanted => usize::try_from(wanted.min(MAX_SIZE))
            .map_err(|_| format!("is {wanted}, but must not be negative")),
    }
}

/// Reads `order_by`: the order, and whether it is backwards.
pub fn order(text: &str) -> Result<(Order, bool), String> {
    let mut words = text.split_whitespace();
    let order = match words.next() {
        None | Some("name") => Order::Name,
        Some("revision") => Order::Revision,
        Some("create_time") => Order::CreateTime,
        Some(_) => return Err(format!("is `{text}`, but must be `name`, `revision` or `create_time`")),
    };
    match (words.next(), words.next()) {
        (None, _) | (Some("asc"), None) => Ok((order, false)),
        (Some("desc"), None) => Ok((order, true)),
        _ => Err(format!("is `{text}`, but only `desc` may follow the field")),
    }
}

/// Hashes everything about a query that must not change from page to page.
pub fn query_hash(kind: Kind, parent: &str, filter: &str, order_by: &str, caller: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for part in [kind.as_str(), parent, filter, order_by, caller] {
        text.extend_from_slice(&part.len().to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    digest(&SHA256, &text).as_ref()[..16].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!([0, 1, 1_000, 5_000].map(|wanted| size(wanted).unwrap()), [50, 1, 1_000, 1_000]);
        assert!(size(-1).is_err());
    }

    #[test]
    fn orders() {
        assert_eq!(order(""), Ok((Order::Name, false)));
        assert_eq!(order("create_time desc"), Ok((Order::CreateTime, true)));
        assert!(order("title").is_err() && order("name up").is_err() && order("name desc x").is_err());
    }

    #[test]
    fn queries_differ() {
        assert_ne!(query_hash(Kind::Tool, "a", "b", "", ""), query_hash(Kind::Tool, "ab", "", "", ""));
        assert_ne!(query_hash(Kind::Tool, "a", "", "", "ann"), query_hash(Kind::Tool, "a", "", "", "bob"));
    }
}
