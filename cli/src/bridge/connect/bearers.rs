//! The bearers that may be presented to an edge: the first that it accepts is kept, so that a host is served by one token.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::context::Secret;
use crate::output::eprint;

/// A bearer, and where it came from.
#[derive(Debug, Clone)]
pub struct OwnedBearer {
    pub secret: Secret,
    /// Whose it is and where it came from, in words.
    pub whose: String,
    /// What takes its place when it is renewed, if it is.
    pub renewed: Option<watch::Receiver<Secret>>,
}

impl OwnedBearer {
    /// As it is now.
    fn current(mut self) -> Self {
        if let Some(renewed) = &self.renewed {
            self.secret = renewed.borrow().clone();
        }
        self
    }
}

/// The bearers, and which of them is presented.
#[derive(Debug)]
pub struct Bearers {
    all: Vec<OwnedBearer>,
    state: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    at: usize,
    /// The edge has accepted it.
    is_settled: bool,
}

impl Bearers {
    /// Begins with the first.
    pub fn new(all: Vec<OwnedBearer>) -> Self {
        Self { all, state: Mutex::default() }
    }

    /// Returns the one that is presented now.
    pub fn present(&self) -> OwnedBearer {
        let at = self.turn();
        let nobody = || OwnedBearer { secret: Secret::default(), whose: "nobody".to_owned(), renewed: None };
        self.all.get(at).cloned().map_or_else(nobody, OwnedBearer::current)
    }

    /// Returns the number of the one that is presented now.
    pub fn turn(&self) -> usize {
        self.state().at
    }

    /// Keeps the one that is presented now: the edge has accepted it.
    pub fn settle(&self) {
        self.state().is_settled = true;
    }

    /// Goes on from one that the edge rejected, for this reason. Returns whether there is another one to present.
    pub fn pass_on(&self, rejected: usize, why: &str) -> bool {
        let mut state = self.state();
        if state.at != rejected {
            // Another request has gone on.
            return true;
        }
        let (Some(old), Some(next)) = (self.all.get(rejected), self.all.get(rejected + 1)) else {
            return false;
        };
        if state.is_settled {
            return false;
        }
        eprint(format!("{} {why}; trying {}", old.whose, next.whose));
        state.at += 1;
        true
    }

    fn state(&self) -> MutexGuard<'_, Turn> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearers(names: &[&str]) -> Bearers {
        let owned = |name: &&str| OwnedBearer {
            secret: Secret::new(*name),
            whose: format!("token {name}"),
            renewed: None,
        };
        Bearers::new(names.iter().map(owned).collect())
    }

    #[test]
    fn each_is_tried_until_one_is_accepted() {
        let bearers = bearers(&["a", "b", "c"]);
        assert!(
            bearers.pass_on(0, "ended") && bearers.pass_on(0, "ended"),
            "two requests were rejected at once"
        );
        assert_eq!(bearers.present().whose, "token b");
        bearers.settle();
        assert!(!bearers.pass_on(1, "ended"), "it was accepted, and has ended since");
        assert_eq!(bearers.present().secret, Secret::new("b"));
    }

    #[test]
    fn one_that_is_renewed_is_presented_as_it_is_now() {
        let (sender, renewed) = watch::channel(Secret::new("first"));
        let whose = "somebody".to_owned();
        let owned = OwnedBearer { secret: Secret::new("first"), whose, renewed: Some(renewed) };
        let bearers = Bearers::new(vec![owned]);
        assert_eq!(bearers.present().secret, Secret::new("first"));
        sender.send_replace(Secret::new("second"));
        assert_eq!(bearers.present().secret, Secret::new("second"));
    }

    #[test]
    fn the_last_is_not_passed_over() {
        let bearers = bearers(&["a", "b"]);
        assert!(bearers.pass_on(0, "ended") && !bearers.pass_on(1, "ended"));
        assert_eq!(bearers.turn(), 1);
    }
}
