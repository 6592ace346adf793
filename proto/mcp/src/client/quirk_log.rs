//! The quirks of a server that were met, each with what was met first. It must not know what is done about them.

use std::sync::{Mutex, PoisonError};

use crate::quirk::Quirk;

/// A quirk of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuirkNote {
    /// The quirk.
    pub quirk: Quirk,
    /// What was met first, short and without secrets. Empty where the name says everything.
    pub first: String,
}

/// The quirks that were met.
#[derive(Debug, Default)]
pub(super) struct QuirkLog(Mutex<Vec<QuirkNote>>);

impl QuirkLog {
    /// Notes a quirk; `first` is only asked the first time.
    pub(super) fn note(&self, quirk: Quirk, first: impl FnOnce() -> String) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.iter().all(|note| note.quirk != quirk) {
            notes.push(QuirkNote { quirk, first: first() });
        }
    }

    /// Returns what was noted, by name.
    pub(super) fn notes(&self) -> Vec<QuirkNote> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        notes.sort_by_key(|note| note.quirk.as_str());
        notes
    }
}
