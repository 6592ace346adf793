//! The buckets that edges may ask for: each is a limit of a token that is in force, or a part of one.
//!
//! It must not know what is leased.

use std::collections::HashMap;
use std::sync::Arc;

use access::limit::{Limit, Per};
use tokio::sync::Mutex;
use trunkline::identity::v1::Token;

use crate::clock;
use crate::store::{Row, Store, StoreError};

/// Longest name of a bucket, in bytes: that of a target may have 2,048.
const MAX_BUCKET: usize = 2_560;

/// The limits of the tokens of the registry, as far as they have any.
#[derive(Debug)]
pub(super) struct LimitBuckets {
    store: Store,
    known: Mutex<Known>,
}

/// The limits of tokens by uid, up to a revision.
#[derive(Debug, Default)]
struct Known {
    revision: i64,
    tokens: HashMap<String, Arc<LimitedToken>>,
}

/// The limits of one token.
#[derive(Debug, Default, PartialEq, Eq)]
struct LimitedToken {
    expire_us: Option<i64>,
    /// By id.
    limits: HashMap<String, Limit>,
}

impl LimitBuckets {
    /// Those of this registry.
    pub(super) fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The limits of these buckets, in their order; `None` for what is no bucket.
    pub(super) async fn limits(&self, buckets: &[&str]) -> Result<Vec<Option<Limit>>, StoreError> {
        let mut known = self.known.lock().await;
        let newest = *self.store.revisions().borrow();
        if known.revision < newest {
            let rows = self.store.tokens_since(known.revision).await?;
            rows.iter().for_each(|row| known.take(row));
            known.revision = newest;
        }
        Ok(buckets.iter().map(|bucket| known.limit(bucket)).collect())
    }
}

impl Known {
    fn take(&mut self, row: &Row) {
        let limited = match row.message::<Token>() {
            Ok(token) if !row.deleted && token.revoke_time.is_none() => LimitedToken::of(&token),
            _ => LimitedToken::default(),
        };
        if limited.limits.is_empty() {
            self.tokens.remove(&row.uid);
        } else {
            self.tokens.insert(row.uid.clone(), Arc::new(limited));
        }
    }

    /// Finds the limit that a bucket is of: `{token uid}/{limit id}/{server id}/{exposed target}`.
    fn limit(&self, bucket: &str) -> Option<Limit> {
        let mut parts = bucket.splitn(4, '/');
        let [token, id, server, target] = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let token = self.tokens.get(token).filter(|_| bucket.len() <= MAX_BUCKET)?;
        let is_over = token.expire_us.is_some_and(|end| end <= clock::now_us());
        let limit = token.limits.get(id).filter(|_| !is_over)?;
        let is_server = |text: &str| !text.is_empty() && text != "-";
        let fits = match limit.per {
            Per::All => (server, target) == ("-", "-"),
            Per::Server => is_server(server) && target == "-",
            Per::Tool => is_server(server) && !target.is_empty(),
        };
        fits.then_some(*limit)
    }
}

impl LimitedToken {
    fn of(token: &Token) -> Self {
        let conditions = token.conditions.clone().unwrap_or_default();
        let read = |kind: &'static str, read: fn(&str) -> Option<Limit>, texts: Vec<String>| {
            let limits = texts.into_iter().enumerate();
            limits.filter_map(move |(number, text)| Some((format!("{kind}{number}"), read(&text)?)))
        };
        let rates = read("r", |text| Limit::rate(text).ok(), conditions.rates);
        let quotas = read("q", |text| Limit::quota(text).ok(), conditions.quotas);
        let expire_us = token.expire_time.as_ref().map(clock::micros);
        Self { expire_us, limits: rates.chain(quotas).collect() }
    }
}

#[cfg(test)]
mod tests {
    use trunkline::identity::v1::Conditions;

    use super::*;

    #[test]
    fn only_limits_of_tokens_are_buckets() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let conditions = Conditions {
            rates: texts(&["5/s", "odd", "7/min per server"]),
            quotas: texts(&["9/day per tool"]),
            ..Conditions::default()
        };
        let token = Token { conditions: Some(conditions), ..Token::default() };
        let mut known = Known::default();
        known.tokens.insert("u".to_owned(), Arc::new(LimitedToken::of(&token)));
        let over = Token { expire_time: Some(clock::timestamp(1)), ..token };
        known.tokens.insert("over".to_owned(), Arc::new(LimitedToken::of(&over)));
        let calls = |bucket: &str| known.limit(bucket).map(|limit| limit.calls);
        assert_eq!(calls("u/r0/-/-"), Some(5));
        assert_eq!(calls("u/r2/dev/-"), Some(7));
        assert_eq!(calls("u/q0/dev/a"), Some(9));
        assert_eq!(calls("u/q0/dev/file:///a/b"), Some(9));
        let foreign = [
            "",
            "u",
            "u/r0",
            "u/r0/-",
            "u/r0/dev/-",
            "u/r0/-/a",
            "u/r1/-/-",
            "u/r2/-/-",
            "u/r2/dev/a",
            "u/r3/-/-",
            "u/q0/-/-",
            "u/q0/dev/",
            "u/q1/dev/a",
            "v/r0/-/-",
            "over/r0/-/-",
            "/r0/-/-",
        ];
        for foreign in foreign {
            assert_eq!(calls(foreign), None, "{foreign}");
        }
        assert_eq!(calls(&format!("u/q0/dev/{}", "x".repeat(MAX_BUCKET))), None);
    }
}
