//! What is missing from snapshots, told once: while it stays so, the next snapshot says nothing new. It must not know what makes it so.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::snapshot::build::MissingReference;

/// What was missing from the snapshot before.
#[derive(Debug, Default)]
pub struct MissingLog(Mutex<BTreeSet<MissingReference>>);

impl MissingLog {
    /// Logs what is missing now and was not before.
    pub(super) fn tell(&self, missing: &[MissingReference]) {
        for MissingReference { from, to } in self.news(missing) {
            match to {
                Some(to) => {
                    tracing::warn!(%from, %to, "left out an entry whose target is not in the snapshot");
                }
                None => tracing::warn!(
                    upstream = %from,
                    "an upstream is not called: the control plane has not read the secret of its credential; `mcpctl describe \
                     upstream` says why"
                ),
            }
        }
    }

    fn news<'a>(&self, missing: &'a [MissingReference]) -> Vec<&'a MissingReference> {
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = missing.iter().filter(|one| !before.contains(one)).collect();
        *before = missing.iter().cloned().collect();
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_missing_is_told_once_and_what_is_missing_again_again() {
        let log = MissingLog::default();
        let secret = MissingReference { from: "upstreams/a".into(), to: None };
        let entry = MissingReference { from: "servers/s".into(), to: Some("upstreams/b/tools/t".into()) };
        let news = |missing: &[&MissingReference]| {
            let missing: Vec<_> = missing.iter().map(|one| (*one).clone()).collect();
            log.news(&missing).len()
        };
        assert_eq!(news(&[&secret]), 1);
        assert_eq!(news(&[&secret, &entry]), 1);
        assert_eq!(news(&[&secret, &entry]), 0);
        assert_eq!(news(&[&entry]), 0);
        assert_eq!(news(&[&entry, &secret]), 1, "it was there meanwhile");
    }
}
