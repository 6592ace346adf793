//! Where the quirks of an upstream are noted, as one worker meets them: each is counted, and the first of its kind logged.
//!
//! It must not know what a quirk is, nor what is done about it.

use std::cell::Cell;
use std::sync::Arc;

use mcp::quirk::{Quirk, Quirks};
use mcp::secrets::Secrets;
use mcp::sse::Event;

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
    pub(in crate::upstream) fn note(&self, quirk: Quirk, says: impl AsRef<[u8]>) {
        self.metrics.upstream_quirk(quirk).inc();
        let mut met = self.met.get();
        let is_first = met.note(quirk);
        self.met.set(met);
        if is_first {
            let (upstream, says) = (&*self.upstream, self.quote(says.as_ref()));
            tracing::info!(upstream, quirk = quirk.as_str(), says, "an upstream {}", quirk.text());
        }
    }

    /// Whether the upstream has shown a quirk at this worker.
    #[inline]
    pub(in crate::upstream) fn has_met(&self, quirk: Quirk) -> bool {
        self.met.get().contains(quirk)
    }

    /// Notes that an event of the upstream showed a quirk, by its type.
    #[cold]
    pub(in crate::upstream) fn note_event(&self, quirk: Quirk, event: &Event) {
        self.note(quirk, event.event.as_deref().unwrap_or_default());
    }

    /// Quotes the beginning of what the upstream sent, for errors and logs: cut, on one line, without secrets.
    #[cold]
    pub(in crate::upstream) fn quote(&self, source: &[u8]) -> Box<str> {
        self.secrets.quote(source, 0)
    }

    /// The secrets that the upstream is called with.
    pub(in crate::upstream) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Notes several, seen in the same text.
    #[cold]
    pub(in crate::upstream) fn note_all(&self, quirks: Quirks, says: &[u8]) {
        for quirk in quirks.iter() {
            self.note(quirk, says);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_is_counted_and_the_first_of_its_kind_logged_without_secrets() {
        let (lines, metrics) = (Lines::default(), Arc::new(Metrics::new()));
        let mut secrets = Secrets::default();
        secrets.add(b"sekret-of-ours");
        let sink = QuirkSink::new("u", secrets, Arc::clone(&metrics));
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(log, || {
            sink.note(Quirk::ForeignEvents, "ping of sekret-of-ours\u{1b}[31m");
            sink.note(Quirk::ForeignEvents, "pong");
            sink.note(Quirk::Redirects, "");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let logged: Vec<&str> = text.lines().collect();
        assert_eq!(logged.len(), 2, "{text}");
        assert!(logged[0].contains("foreign-events") && logged[0].contains("upstream=\"u\""), "{text}");
        assert!(!text.contains("sekret") && !text.contains('\u{1b}') && !text.contains("pong"), "{text}");
        assert!(logged[1].contains("redirects"), "{text}");
        let counts = [Quirk::ForeignEvents, Quirk::Redirects, Quirk::NoDelete];
        assert_eq!(counts.map(|quirk| metrics.upstream_quirk(quirk).get()), [2, 1, 0]);
    }
}
