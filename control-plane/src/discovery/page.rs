//! Pages of lists that go by id: a page token is the last id of the page before, sealed.
//!
//! It must not know what is listed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::vault::{Sealed, Vault};
use crate::error::Error;

const PAGE: i64 = 50;
const MAX_PAGE: i64 = 1_000;

/// The pages of one list.
#[derive(Debug, Clone)]
pub struct Pages {
    vault: Arc<Vault>,
    context: &'static str,
}

impl Pages {
    /// The pages of the list that `context` names: tokens of other lists are refused.
    pub fn new(vault: Arc<Vault>, context: &'static str) -> Self {
        Self { vault, context }
    }

    /// Reads how many a page has at most.
    pub fn size(page_size: i32) -> Result<i64, Error> {
        match i64::from(page_size) {
            ..0 => Err(Error::field("page_size", "must not be negative")),
            0 => Ok(PAGE),
            size => Ok(size.min(MAX_PAGE)),
        }
    }

    /// Reads the id that the page begins after. Empty: it is the first page.
    pub fn after(&self, page_token: &str) -> Result<String, Error> {
        let bad = || Error::field("page_token", "was not issued by this list");
        if page_token.is_empty() {
            return Ok(String::new());
        }
        let sealed = URL_SAFE_NO_PAD.decode(page_token).map_err(|_| bad())?;
        let opened = self.vault.open(self.context, &Sealed::from_bytes(sealed)).map_err(|_| bad())?;
        String::from_utf8(opened.to_vec()).map_err(|_| bad())
    }

    /// Cuts what was found, of which there may be one too many, to the page. Returns the token of the next page; empty at the end.
    pub fn cut<T>(&self, found: &mut Vec<T>, size: i64, id: impl Fn(&T) -> &str) -> Result<String, Error> {
        let size = usize::try_from(size).unwrap_or_default();
        if found.len() <= size {
            return Ok(String::new());
        }
        found.truncate(size);
        let Some(last) = found.last() else { return Ok(String::new()) };
        let sealed = self.vault.seal(self.context, id(last).as_bytes()).map_err(Error::internal)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed.as_bytes()))
    }
}
