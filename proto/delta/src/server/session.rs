//! One client's stream as a state machine: an event in, actions out.
//!
//! It must not know how responses travel, or how a snapshot is made.

use std::cmp::Ordering;
use std::sync::Arc;

use trunkline::TypeTable;
use trunkline::discovery::v1::{EdgeRefusal, Refusal, StreamResourcesRequest, StreamResourcesResponse};

use super::response::OutgoingResponse;
use super::substream::{Changes, MAX_REASONS, RefusedResource, Substream};
use crate::{ByType, Snapshot};

/// The memory for what a client alone causes to be kept, in bytes: what it claims to hold and the registry does not have, and
/// names that it asks for. A client of 100,000 resources that were all replaced while it was away stays within it.
const MAX_CLIENT_BYTES: usize = 32 << 20;

/// An input of a session.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and taken one at a time, never kept")]
pub enum Event<T> {
    /// The client says something.
    Request(StreamResourcesRequest),
    /// The registry moved.
    Snapshot(Arc<Snapshot<T>>),
    /// It is time for a sign of life.
    Heartbeat,
    /// This server is about to stop.
    Drain,
}

/// An output of a session.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send this. `send_time` is left for the sender to fill in.
    Send(OutgoingResponse),
    /// The client stands here now.
    Progress(Progress),
    /// End the stream.
    Close,
    /// End the stream with an error: the client claims to hold, or asks for, more than is kept for it.
    Refuse {
        /// The maximum, in bytes.
        max_bytes: usize,
    },
}

/// A client's progress.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Everything of the snapshot at this revision was sent, or needed no sending.
    pub sent: i64,
    /// Everything of the snapshot at this revision was answered, by acceptance or refusal.
    pub answered: i64,
    /// Everything of the snapshot at this revision was answered, and nothing that this revision itself made is refused: what
    /// is refused for longer does not hold back what came after it.
    pub acked: i64,
    /// The resources that are refused at present, by type and name: the 100 that changed last.
    pub refusals: Vec<EdgeRefusal>,
}

/// One stream.
#[derive(Debug)]
pub struct Session<T> {
    stream: String,
    next_nonce: u64,
    snapshot: Arc<Snapshot<T>>,
    substreams: ByType<T, Substream>,
    progress: Progress,
    announced: bool,
}

impl<T: TypeTable> Session<T> {
    /// Begins a stream. `stream` makes its nonces different from those of others.
    pub fn new(stream: impl Into<String>, snapshot: Arc<Snapshot<T>>) -> Self {
        Self {
            stream: stream.into(),
            next_nonce: 0,
            snapshot,
            substreams: ByType::default(),
            progress: Progress::default(),
            announced: false,
        }
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event<T>) -> Vec<Action> {
        match event {
            Event::Request(request) => self.on_request(request),
            Event::Snapshot(snapshot) => self.on_snapshot(snapshot),
            Event::Heartbeat if self.is_pending() => Vec::new(),
            Event::Heartbeat => vec![Action::Send(self.heartbeat(false))],
            Event::Drain => vec![Action::Send(self.heartbeat(true)), Action::Close],
        }
    }

    fn on_request(&mut self, request: StreamResourcesRequest) -> Vec<Action> {
        // A type that only a newer client knows has nothing to send, and is no error.
        let Some(kind) = T::parse(&request.type_url) else { return Vec::new() };
        let registry = &self.snapshot.items[kind];
        let substream = &mut self.substreams[kind];
        let claims_more = request.subscribe.is_empty() && !request.initial_versions.is_empty();
        substream.claim(request.initial_versions, registry);
        if claims_more && !substream.opened {
            return self.refuse_too_much().into_iter().collect();
        }
        substream.opened = true;
        substream.set_target(registry);
        substream.subscribe(&request.subscribe, &request.unsubscribe);
        if let Some(refuse) = self.refuse_too_much() {
            return vec![refuse];
        }
        let refusals: Vec<_> =
            request.refusals.into_iter().map(|refusal| (refusal.name, refusal.reason)).collect();
        let substream = &mut self.substreams[kind];
        // An answer with another nonce than the last is to a response that no longer counts.
        let is_answer = substream.acknowledge(&request.response_nonce, &refusals);
        if !is_answer || !request.subscribe.is_empty() || !request.unsubscribe.is_empty() {
            substream.compare();
        }
        self.push()
    }

    /// Refuses a client for which too much is kept.
    fn refuse_too_much(&self) -> Option<Action> {
        let bytes: usize = self.substreams.values().map(Substream::client_bytes).sum();
        (bytes > MAX_CLIENT_BYTES).then_some(Action::Refuse { max_bytes: MAX_CLIENT_BYTES })
    }

    fn on_snapshot(&mut self, snapshot: Arc<Snapshot<T>>) -> Vec<Action> {
        for &kind in T::ALL {
            if self.substreams[kind].opened {
                self.substreams[kind].set_target(&snapshot.items[kind]);
            }
        }
        self.snapshot = snapshot;
        self.push()
    }

    /// Sends what may be sent: additions in push order, then removals in reverse.
    fn push(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.push_additions(&mut actions);
        self.push_removals(&mut actions);
        self.report(&mut actions);
        actions
    }

    /// A type waits while one before it has something left to send: what it leads to goes first.
    fn push_additions(&mut self, actions: &mut Vec<Action>) {
        for &kind in T::ALL {
            self.send(kind, true, kind.is_removed_at_once(), actions);
            if self.substreams[kind].additions_pending() {
                break;
            }
        }
        for kind in removal_order::<T>().filter(|kind| kind.is_removed_at_once()) {
            self.send(kind, false, true, actions);
        }
    }

    /// Nothing is taken away while additions that may replace it are unsent or unanswered, nor before the
    /// client has said what it holds of everything.
    fn push_removals(&mut self, actions: &mut Vec<Action>) {
        let adding = |substream: &Substream| substream.additions_pending() || substream.additions_in_flight();
        if !self.is_opened() || self.substreams.values().any(adding) {
            return;
        }
        for kind in removal_order() {
            self.send(kind, false, true, actions);
            if self.substreams[kind].removals_pending() {
                break;
            }
        }
    }

    fn send(&mut self, kind: T, additions: bool, removals: bool, actions: &mut Vec<Action>) {
        let nonce = format!("{}.{}", self.stream, self.next_nonce);
        if let Some(changes) = self.substreams[kind].next_changes(&nonce, additions, removals) {
            self.next_nonce += 1;
            actions.push(Action::Send(self.response(kind, nonce, changes)));
        }
    }

    fn response(&self, kind: T, nonce: String, changes: Changes) -> OutgoingResponse {
        let head = StreamResourcesResponse {
            type_url: kind.url().to_owned(),
            removed: changes.removed.iter().map(ToString::to_string).collect(),
            nonce,
            revision: self.snapshot.revision,
            ..Default::default()
        };
        OutgoingResponse::new(head, changes.resources.into_iter().map(|(_, item)| item).collect())
    }

    fn heartbeat(&self, draining: bool) -> OutgoingResponse {
        let revision = self.snapshot.revision;
        let head = StreamResourcesResponse { revision, draining, ..Default::default() };
        OutgoingResponse::new(head, Vec::new())
    }

    /// Tells whether the client has said what it holds of everything, and has answered everything that it was sent and should
    /// be sent.
    pub fn is_settled(&self) -> bool {
        self.is_opened() && self.substreams.values().all(Substream::is_answered)
    }

    fn is_pending(&self) -> bool {
        self.substreams.values().any(Substream::is_pending)
    }

    /// Clients subscribe in push order, so one that has spoken of the last type has spoken of all that it will.
    fn is_opened(&self) -> bool {
        T::ALL.last().is_some_and(|&last| self.substreams[last].opened)
    }

    /// Says where the client stands, when that changed.
    fn report(&mut self, actions: &mut Vec<Action>) {
        let mut progress = Progress { refusals: self.refusals(), ..self.progress.clone() };
        if self.is_opened() {
            let revision = self.snapshot.revision;
            if !self.is_pending() {
                progress.sent = revision;
            }
            if self.substreams.values().all(Substream::is_answered) {
                progress.answered = revision;
                if progress.refusals.iter().all(|refusal| refusal.revision < revision) {
                    progress.acked = revision;
                }
                // The first time, so that a client which holds everything already learns that it does.
                if !std::mem::replace(&mut self.announced, true) {
                    actions.push(Action::Send(self.heartbeat(false)));
                }
            }
        }
        if progress != self.progress {
            self.progress = progress.clone();
            actions.push(Action::Progress(progress));
        }
    }

    fn refusals(&self) -> Vec<EdgeRefusal> {
        let of_type = |kind: T| {
            self.substreams[kind].refusals().iter().map(move |(name, refused)| (kind, name, refused))
        };
        let mut refusals: Vec<_> = T::ALL.iter().copied().flat_map(of_type).collect();
        if refusals.len() > MAX_REASONS {
            let mut revisions: Vec<i64> = refusals.iter().map(|(_, _, refused)| refused.revision).collect();
            revisions.sort_unstable_by_key(|revision| std::cmp::Reverse(*revision));
            let oldest = revisions[MAX_REASONS - 1];
            let newer = revisions.iter().filter(|revision| **revision > oldest).count();
            let mut room = MAX_REASONS - newer;
            refusals.retain(|(_, _, refused)| match refused.revision.cmp(&oldest) {
                Ordering::Less => false,
                Ordering::Equal => {
                    let fits = room > 0;
                    room = room.saturating_sub(1);
                    fits
                }
                Ordering::Greater => true,
            });
        }
        let refusal = |(kind, name, refused): (T, &Arc<str>, &RefusedResource)| EdgeRefusal {
            type_url: kind.url().to_owned(),
            refusal: Some(Refusal { name: name.to_string(), reason: refused.reason.clone() }),
            resource_version: refused.version.to_string(),
            revision: refused.revision,
        };
        refusals.into_iter().map(refusal).collect()
    }
}

fn removal_order<T: TypeTable>() -> impl Iterator<Item = T> {
    T::ALL.iter().rev().copied()
}
