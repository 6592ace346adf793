//! Watches the enrolments that open streams belong to: ends the streams of an enrolment that has ended, on whichever replica
//! that happened, and the stream of an enrolment that has opened another one for the same purpose here.
//!
//! It must not know what the streams carry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tonic::Code;

use super::authenticate::ended;
use super::enrollment_lookup::EnrollmentLookup;
use crate::auth::credential::EdgeClaims;
use crate::error::Error;
use crate::store::edges::Edges;

/// The interval between reads of the table, the only place where other replicas end enrolments.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The purpose of a stream: an enrolment has one stream for each on a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamPurpose {
    /// Carries resources to the edge.
    Resources,
    /// Carries usage from the edge.
    Usage,
    /// Carries shares of limits to the edge.
    Limits,
    /// Carries what is recorded from the edge.
    Audit,
}

/// The reason that a stream has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    EnrollmentEnded,
    Replaced,
}

/// The enrolments that have open streams here.
#[derive(Debug)]
pub(super) struct EnrollmentWatch {
    edges: Edges,
    lookup: EnrollmentLookup,
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
    purpose: StreamPurpose,
    end: watch::Sender<Option<StreamEnd>>,
}

/// A stream that is watched, until it is dropped.
#[derive(Debug)]
pub(super) struct WatchedStream {
    watch: Arc<EnrollmentWatch>,
    number: u64,
    edge: String,
    end: watch::Receiver<Option<StreamEnd>>,
}

impl EnrollmentWatch {
    /// Watches this table of edges.
    pub(super) fn new(edges: Edges) -> Self {
        Self { lookup: EnrollmentLookup::new(edges.clone()), edges, open: Mutex::default() }
    }

    /// Watches a stream from now on, and ends the one that the enrolment had for this purpose. Fails where the enrolment has
    /// ended.
    pub(super) async fn watch(
        self: &Arc<Self>,
        claims: &EdgeClaims,
        purpose: StreamPurpose,
    ) -> Result<WatchedStream, Error> {
        // Registered before the table is read: an enrolment that ends meanwhile is noticed by one or the other.
        let stream = self.register(claims, purpose);
        if self.is_present(claims).await? { Ok(stream) } else { Err(ended(&claims.sub)) }
    }

    /// Tells whether an enrolment is the present one of an edge.
    pub(super) async fn is_present(&self, claims: &EdgeClaims) -> Result<bool, Error> {
        Ok(self.lookup.present(&claims.sub).await?.is_some_and(|present| present == claims.enrollment))
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

    /// In one step, so that of any number of streams one is left.
    fn register(self: &Arc<Self>, claims: &EdgeClaims, purpose: StreamPurpose) -> WatchedStream {
        let (sender, end) = watch::channel(None);
        let (edge, enrollment) = (claims.sub.clone(), claims.enrollment.clone());
        let stream = OpenStream { edge: edge.clone(), enrollment, purpose, end: sender };
        let mut open = self.open();
        open.end_where(StreamEnd::Replaced, |_, before| {
            before.purpose == purpose && before.edge == stream.edge && before.enrollment == stream.enrollment
        });
        open.next += 1;
        let number = open.next;
        open.streams.insert(number, stream);
        WatchedStream { watch: self.clone(), number, edge, end }
    }

    fn end_where(&self, is_over: impl Fn(u64, &OpenStream) -> bool) {
        self.open().end_where(StreamEnd::EnrollmentEnded, is_over);
    }

    fn open(&self) -> MutexGuard<'_, OpenStreams> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenStreams {
    fn end_where(&self, end: StreamEnd, is_over: impl Fn(u64, &OpenStream) -> bool) {
        for (_, stream) in self.streams.iter().filter(|(number, stream)| is_over(**number, stream)) {
            // The first reason counts.
            stream.end.send_if_modified(|reason| reason.is_none() && reason.replace(end).is_none());
        }
    }
}

impl WatchedStream {
    /// Waits until the stream has to end. Returns the error that says why.
    pub(super) async fn over(&self) -> Error {
        let end = self.end.clone().wait_for(Option::is_some).await.ok().and_then(|end| *end);
        match end {
            Some(StreamEnd::Replaced) => replaced(),
            Some(StreamEnd::EnrollmentEnded) | None => ended(&self.edge),
        }
    }
}

/// The error for a stream in whose place its edge has opened another one.
pub(super) fn replaced() -> Error {
    Error::new(Code::Aborted, "EDGE_REPLACED", "the edge has reconnected")
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        self.watch.open().streams.remove(&self.number);
    }
}
