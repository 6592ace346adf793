//! How many streams each token holds open. It must not know what flows in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Open streams by the uid of the token.
#[derive(Debug, Default, Clone)]
pub struct Streams(Arc<Mutex<HashMap<Box<str>, usize>>>);

/// One open stream; dropping it makes room for another.
#[derive(Debug)]
pub struct Open {
    streams: Streams,
    token: Box<str>,
}

impl Streams {
    /// Opens one more for a token, unless it holds `limit`.
    pub fn open(&self, token: &str, limit: usize) -> Option<Open> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = streams.entry(token.into()).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Open { streams: self.clone(), token: token.into() })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut streams = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = streams.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_no_more_than_its_share_and_nothing_is_left_behind() {
        let streams = Streams::default();
        let first = streams.open("a", 1).unwrap();
        assert!(streams.open("a", 1).is_none());
        assert!(streams.open("b", 1).is_some());
        drop(first);
        assert!(streams.0.lock().unwrap().is_empty());
        assert!(streams.open("a", 1).is_some());
    }
}
