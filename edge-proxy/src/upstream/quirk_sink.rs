//! Where the quirks of an upstream are noted, as one worker meets them: each is counted, and the first of its kind logged.
//!
//! It must not know what a quirk is, nor what is done about it.

use std::cell::Cell;
use std::sync::Arc;

use mcp::quirk::{Quirk, Quirks};
use mcp::secrets::Secrets;

use crate::observe::Metrics;

/// The sink of one upstream's quirks at one worker. What meets none pays nothing.
pub(in crate::upstream) struct QuirkSink {
    upstream: Box<str>,
    secrets: Secrets,
    met: Cell<Quirks>,
    metrics: Arc<Metrics>,
}

impl QuirkSink {
    /// Starts with none. `secrets` are those that the upstream is called with.
    pub(in crate::upstream) fn new(upstream: &str, secrets: Secrets, metrics: Arc<Metrics>) -> Self {
        Self { upstream: upstream.into(), secrets, met: Cell::default(), metrics }
    }

    /// Notes that the upstream showed a quirk. `says` is what it was seen in, as the upstream wrote it; it is cut, and freed of
    /// secrets, for the log. Empty where there is nothing to show.
    #[cold]
    pub(in crate::upstream) fn note(&self, quirk: Quirk, says: &str) {
        self.metrics.upstream_quirk(quirk).inc();
        let mut met = self.met.get();
        let is_first = met.note(quirk);
        self.met.set(met);
        if is_first {
            let (upstream, says) = (&*self.upstream, self.excerpt(says));
            tracing::info!(upstream, quirk = quirk.as_str(), says, "an upstream {}", quirk.text());
        }
    }

    /// Returns the beginning of a text of the upstream, for a log: one line, without secrets.
    pub(in crate::upstream) fn excerpt(&self, says: &str) -> String {
        self.secrets.excerpt(says)
    }

    /// Notes several, seen in the same text.
    #[cold]
    pub(in crate::upstream) fn note_all(&self, quirks: Quirks, says: &str) {
        for quirk in quirks.iter() {
            self.note(quirk, says);
        }
    }
}
