//! One edge's stream as a state machine: an event in, actions out.
//!
//! It does no IO, reads no clock and must not know gRPC transport, the registry or other edges.

use std::sync::Arc;

use prost_types::Any;
use trunkline::TypeTable as _;
use trunkline::discovery::v1::{
    EdgeRefusal, Refusal, StreamResourcesRequest, StreamResourcesResponse, VersionedResource,
};
use trunkline::edge::v1::StreamType;

use super::substream::{Load, Substream};
use crate::snapshot::content::{Snapshot, TYPES};

/// An input of a session.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and taken one at a time, never kept")]
pub enum Event {
    /// The edge says something.
    Request(StreamResourcesRequest),
    /// The registry moved.
    Snapshot(Arc<Snapshot>),
    /// It is time for a sign of life.
    Heartbeat,
    /// This control plane is about to stop.
    Drain,
}

/// An output of a session.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send this. `send_time` is left for the sender to fill in.
    Send(StreamResourcesResponse),
    /// The edge stands here now.
    Progress(Progress),
    /// End the stream.
    Close,
}

/// An edge's progress.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Everything of the snapshot at this revision was sent, or needed no sending.
    pub sent: i64,
    /// Everything of the snapshot at this revision was answered, by acceptance or refusal.
    pub answered: i64,
    /// Everything of the snapshot at this revision was accepted.
    pub acked: i64,
    /// The resources that are refused at present.
    pub refusals: Vec<EdgeRefusal>,
}

/// One stream.
#[derive(Debug)]
pub struct Session {
    stream: String,
    next_nonce: u64,
    snapshot: Arc<Snapshot>,
    types: [Substream; TYPES],
    progress: Progress,
    announced: bool,
}

impl Session {
    /// Begins a stream. `stream` makes its nonces different from those of others.
    pub fn new(stream: impl Into<String>, snapshot: Arc<Snapshot>) -> Self {
        Self {
            stream: stream.into(),
            next_nonce: 0,
            snapshot,
            types: Default::default(),
            progress: Progress::default(),
            announced: false,
        }
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Request(request) => self.on_request(request),
            Event::Snapshot(snapshot) => self.on_snapshot(snapshot),
            Event::Heartbeat if self.types.iter().any(unsent) => Vec::new(),
            Event::Heartbeat => vec![Action::Send(self.heartbeat(false))],
            Event::Drain => vec![Action::Send(self.heartbeat(true)), Action::Close],
        }
    }

    fn on_request(&mut self, request: StreamResourcesRequest) -> Vec<Action> {
        // A type that only a newer edge knows has nothing to send, and is no error.
        let Some(kind) = StreamType::parse(&request.type_url) else { return Vec::new() };
        let target = self.snapshot.items(kind).clone();
        let substream = &mut self.types[kind.index()];
        substream.open(request.initial_versions.into_iter());
        substream.subscribe(request.subscribe, &request.unsubscribe);
        let refusals: Vec<_> =
            request.refusals.into_iter().map(|refusal| (refusal.name, refusal.reason)).collect();
        substream.set_target(&target);
        // An answer with another nonce than the last is to a response that no longer counts.
        if !substream.answer(&request.response_nonce, &refusals) {
            substream.compare();
        }
        self.push()
    }

    fn on_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Vec<Action> {
        for (&kind, substream) in StreamType::ALL.iter().zip(&mut self.types) {
            if substream.opened {
                substream.set_target(snapshot.items(kind));
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
        for &kind in StreamType::ALL {
            self.send(kind, true, kind.is_removed_at_once(), actions);
            if self.types[kind.index()].additions_pending() {
                break;
            }
        }
        for kind in removal_order().filter(|kind| kind.is_removed_at_once()) {
            self.send(kind, false, true, actions);
        }
    }

    /// Nothing is taken away while additions that may replace it are unsent or unanswered, nor before the
    /// edge has said what it holds of everything.
    fn push_removals(&mut self, actions: &mut Vec<Action>) {
        if !self.complete()
            || self
                .types
                .iter()
                .any(|substream| substream.additions_pending() || substream.additions_in_flight())
        {
            return;
        }
        for kind in removal_order() {
            self.send(kind, false, true, actions);
            if self.types[kind.index()].removals_wait() {
                break;
            }
        }
    }

    fn send(&mut self, kind: StreamType, adds: bool, removals: bool, actions: &mut Vec<Action>) {
        let nonce = format!("{}.{}", self.stream, self.next_nonce);
        if let Some(load) = self.types[kind.index()].load(&nonce, adds, removals) {
            self.next_nonce += 1;
            actions.push(Action::Send(self.response(kind, nonce, load)));
        }
    }

    fn response(&self, kind: StreamType, nonce: String, load: Load) -> StreamResourcesResponse {
        let resources = load.resources.into_iter().map(|(name, item)| VersionedResource {
            name: name.to_string(),
            version: item.version.to_string(),
            body: Some(Any { type_url: kind.url().to_owned(), value: item.body.clone() }),
        });
        StreamResourcesResponse {
            type_url: kind.url().to_owned(),
            resources: resources.collect(),
            removed: load.removed.iter().map(ToString::to_string).collect(),
            nonce,
            revision: self.snapshot.revision,
            ..Default::default()
        }
    }

    fn heartbeat(&self, draining: bool) -> StreamResourcesResponse {
        StreamResourcesResponse { revision: self.snapshot.revision, draining, ..Default::default() }
    }

    /// Edges subscribe in push order, so one that has spoken of servers has spoken of all that it will.
    fn complete(&self) -> bool {
        self.types[StreamType::Server.index()].opened
    }

    /// Says where the edge stands, when that changed.
    fn report(&mut self, actions: &mut Vec<Action>) {
        let mut progress = Progress { refusals: self.refusals(), ..self.progress.clone() };
        if self.complete() {
            let revision = self.snapshot.revision;
            if !self.types.iter().any(unsent) {
                progress.sent = revision;
            }
            if self.types.iter().all(Substream::settled) {
                progress.answered = revision;
                if progress.refusals.is_empty() {
                    progress.acked = revision;
                }
                // The first time, so that an edge which holds everything already learns that it does.
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
        let of_type = |kind: StreamType| {
            self.types[kind.index()].refusals().iter().map(move |(name, refused)| EdgeRefusal {
                type_url: kind.url().to_owned(),
                refusal: Some(Refusal { name: name.to_string(), reason: refused.reason.clone() }),
                resource_version: refused.version.to_string(),
            })
        };
        StreamType::ALL.iter().copied().flat_map(of_type).collect()
    }
}

fn removal_order() -> impl Iterator<Item = StreamType> {
    StreamType::ALL.iter().rev().copied()
}

fn unsent(substream: &Substream) -> bool {
    substream.additions_pending() || substream.removals_wait()
}
