//! Lists of any kind of resource: filtered after a keyset scan, so that every page costs what it holds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;

use super::Registry;
use super::roles::with_built_in;
use super::rpc::Call;
use crate::auth::vault::Sealed;
use crate::domain::filter::Filter;
use crate::domain::page::{self, MAX_PAGE_BYTES, Order, PageToken};
use crate::domain::{Kind, KindRules, Violations, names, reflect};
use crate::error::Error;
use crate::store::{Page, Row};

/// The context that page tokens are sealed in.
const CONTEXT: &str = "page token";
/// The number of rows that are read at a time.
const CHUNK: i64 = 500;

/// A list request.
pub(super) struct List<'a> {
    /// `None` for kinds without parents.
    pub(super) parent: Option<&'a str>,
    pub(super) page_size: i32,
    pub(super) page_token: &'a str,
    pub(super) filter: &'a str,
    pub(super) order_by: &'a str,
}

/// A list request that was understood.
struct Plan {
    filter: Filter,
    size: usize,
    query_hash: Vec<u8>,
    page: Page,
}

impl Call<'_> {
    /// A page of what exists for the caller, and the token of the next one; empty at the end.
    pub(super) async fn list<K: KindRules>(&self, list: &List<'_>) -> Result<(Vec<K>, String), Error> {
        let mut plan = self.plan::<K>(list)?;
        let known = self.known::<K>().await?;
        // It costs more than most filters, so that it is left to what passes them.
        let evaluate_first = plan.filter.mentions(K::COMPUTED);
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut last: Option<(i64, String)> = None;
        loop {
            let rows = self.registry.store().page(&plan.page).await?;
            let read = rows.last().filter(|_| rows.len() as i64 == plan.page.limit);
            let read = read.map(|row| place(plan.page.order, row));
            for row in &with_built_in(&plan.page, rows) {
                let mut message: K = row.message()?;
                if evaluate_first {
                    message.evaluate(&known.around());
                }
                if !passes(&plan.filter, &message) {
                    if evaluate_first {
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
                if !evaluate_first {
                    message.evaluate(&known.around());
                }
                // One may take a while, and a page has a thousand.
                tokio::task::yield_now().await;
                let size = message.encoded_len();
                if let Some((value, name)) = &last
                    && (found.len() == plan.size || bytes + size > MAX_PAGE_BYTES)
                {
                    return Ok((found, self.registry.seal(plan.query_hash, *value, name)?));
                }
                bytes += size;
                last = Some(place(plan.page.order, row));
                found.push(message);
            }
            match read {
                Some(place) => plan.page.after = Some(place),
                None => return Ok((found, String::new())),
            }
        }
    }

    fn plan<K: KindRules>(&self, list: &List<'_>) -> Result<Plan, Error> {
        let mut violations = Violations::default();
        let size = page::size(list.page_size).map_err(|error| violations.add("page_size", error));
        let order = page::order(list.order_by).map_err(|error| violations.add("order_by", error));
        let filter = Filter::parse(list.filter, &reflect::descriptor::<K>())
            .map_err(|wrong| violations.extend_under("", wrong));
        let parent = parent(list.parent).map_err(|error| violations.add("parent", error));
        let query_hash = page::query_hash(
            K::KIND,
            list.parent.unwrap_or_default(),
            list.filter,
            list.order_by,
            &self.caller.uid,
        );
        let after = self.registry.open(list.page_token, &query_hash);
        let after = after.map_err(|error| violations.add("page_token", error));
        let (Ok(size), Ok((order, descending)), Ok(filter), Ok(parent), Ok(after)) =
            (size, order, filter, parent, after)
        else {
            return Err(Error::invalid(violations));
        };
        // One more than a page shows whether there is another; a filter may need to look at many.
        let limit = if filter.is_empty() { i64::try_from(size + 1).unwrap_or(CHUNK) } else { CHUNK };
        let labels = filter.labels();
        let viewer = self.viewer(K::KIND);
        let page = Page { kind: K::KIND, parent, order, descending, after, viewer, labels, limit };
        Ok(Plan { filter, size, query_hash, page })
    }
}

impl Registry {
    pub(super) fn seal(&self, query_hash: Vec<u8>, value: i64, name: &str) -> Result<String, Error> {
        let token = PageToken { query_hash, value, name: name.to_owned() };
        let sealed = self.inner.vault.seal(CONTEXT, &token.encode_to_vec()).map_err(Error::internal)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed.as_bytes()))
    }

    pub(super) fn open(&self, token: &str, query_hash: &[u8]) -> Result<Option<(i64, String)>, &'static str> {
        if token.is_empty() {
            return Ok(None);
        }
        let foreign = "was not issued by this registry";
        let sealed = URL_SAFE_NO_PAD.decode(token).map_err(|_| foreign)?;
        let plain = self.inner.vault.open(CONTEXT, &Sealed::from_bytes(sealed)).map_err(|_| foreign)?;
        let token = PageToken::decode(plain.as_slice()).map_err(|_| foreign)?;
        if token.query_hash != query_hash {
            return Err(
                "belongs to another request: caller, parent, filter and order_by must be the same for all pages",
            );
        }
        Ok(Some((token.value, token.name)))
    }
}

/// `None` is every parent.
fn parent(wanted: Option<&str>) -> Result<Option<String>, String> {
    match wanted {
        None | Some("upstreams/-") => Ok(None),
        Some(parent) => names::parse(Kind::Upstream, parent)
            .map(|_| Some(parent.to_owned()))
            .map_err(|error| error.to_string()),
    }
}

fn passes<K: KindRules>(filter: &Filter, message: &K) -> bool {
    if filter.is_empty() {
        return true;
    }
    let mut texts = message.search();
    texts.push(message.name());
    filter.matches(&reflect::dynamic(message), &texts)
}

/// Where a row stands in an order.
pub(super) fn place(order: Order, row: &Row) -> (i64, String) {
    let value = match order {
        Order::Name => 0,
        Order::Revision => row.revision,
        Order::CreateTime => row.create_us,
    };
    (value, row.name.clone())
}
