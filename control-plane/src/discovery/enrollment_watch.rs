//! Watches the enrolments that open streams belong to, and ends the streams of an enrolment that has ended, on whichever replica
//! that happened.
//!
//! It must not know what the streams carry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::auth::credential::EdgeClaims;
use crate::store::edges::Edges;

/// The interval between reads of the table, the only place where other replicas end enrolments.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The enrolments that have open streams here.
#[derive(Debug)]
pub(super) struct EnrollmentWatch {
    edges: Edges,
    open: Mutex<OpenStreams>,
}

#[derive(Debug, Default)]
struct OpenStreams {
    next: u64,
    streams: BTreeMap<u64, OpenStream>,
}

#[derive(Debug)]
struct OpenStream {
    edge: String,
    enrollment: String,
    ended: CancellationToken,
}

/// A stream that is watched, until it is dropped.
#[derive(Debug)]
pub(super) struct WatchedStream {
    watch: Arc<EnrollmentWatch>,
    number: u64,
    ended: CancellationToken,
}

impl EnrollmentWatch {
    /// Watches this table of edges.
    pub(super) fn new(edges: Edges) -> Self {
        Self { edges, open: Mutex::default() }
    }

    /// Watches a stream from now on. `None`: its enrolment has ended already.
    pub(super) async fn watch(self: &Arc<Self>, claims: &EdgeClaims) -> sqlx::Result<Option<WatchedStream>> {
        // Registered before the table is read: an enrolment that ends meanwhile is noticed by one or the other.
        let stream = self.register(claims);
        let row = self.edges.get(&claims.sub).await?;
        Ok(row.is_some_and(|row| row.enrollment.id == claims.enrollment).then_some(stream))
    }

    /// Ends the streams of an edge here, but for those of the enrolment `except`.
    pub(super) fn end(&self, edge: &str, except: Option<&str>) {
        self.end_where(|_, stream| stream.edge == edge && except != Some(stream.enrollment.as_str()));
    }

    /// Ends the streams of enrolments that other replicas have ended, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            // A stream that opens while the table is read may be of an enrolment that began after it was read.
            let Some(newest) = self.open().streams.last_key_value().map(|(number, _)| *number) else {
                continue;
            };
            match self.edges.enrollments().await {
                Ok(present) => self.end_where(|number, stream| {
                    let enrollment = (stream.edge.clone(), stream.enrollment.clone());
                    number <= newest && !present.contains(&enrollment)
                }),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the table of edges; enrolments that ended elsewhere keep their streams");
                }
            }
        }
    }

    fn register(self: &Arc<Self>, claims: &EdgeClaims) -> WatchedStream {
        let ended = CancellationToken::new();
        let stream = OpenStream {
            edge: claims.sub.clone(),
            enrollment: claims.enrollment.clone(),
            ended: ended.clone(),
        };
        let mut open = self.open();
        open.next += 1;
        let number = open.next;
        open.streams.insert(number, stream);
        WatchedStream { watch: self.clone(), number, ended }
    }

    fn end_where(&self, is_over: impl Fn(u64, &OpenStream) -> bool) {
        for (_, stream) in self.open().streams.iter().filter(|(number, stream)| is_over(**number, stream)) {
            stream.ended.cancel();
        }
    }

    fn open(&self) -> MutexGuard<'_, OpenStreams> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchedStream {
    /// Waits until the enrolment ends.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        self.watch.open().streams.remove(&self.number);
    }
}
