//! The decisions about the stream: an event in, actions out.
//!
//! Resources are accepted as they arrive; a snapshot is compiled when nothing has come for a moment, and only what is
//! published is acknowledged.

use std::collections::BTreeSet;

use trunkline::TypeTable as _;
use trunkline::discovery::v1::{Edge, StreamResourcesRequest, StreamResourcesResponse, VersionedResource};

use super::requests::{answer, subscriptions};
use super::resource::{Candidate, Refusal};
use super::sink::Sink;

/// An event of the stream.
#[derive(Debug)]
pub enum Event {
    /// A stream was opened, on which the client is announced as this.
    Connected(Edge),
    /// A message arrived on it.
    Received(StreamResourcesResponse),
    /// Nothing has arrived for a moment.
    Quiet,
    /// The stream ended.
    Disconnected,
}

/// An action to take, in this order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and taken one at a time, never kept")]
pub enum Action<S: Sink> {
    /// Send this on the stream.
    Send(StreamResourcesRequest),
    /// Put this snapshot in force.
    Publish(S::Compiled),
    /// Note a contact, with the server's time (seconds since the Unix epoch), if it sent one.
    Contact(Option<u64>),
    /// Raise `Quiet` when nothing more has arrived for a moment.
    AwaitQuiet,
    /// Take traffic: the snapshot in force is complete.
    Ready,
    /// Report this refusal.
    Refused(Refusal<S::Kind>),
    /// Leave this server for another one, now.
    Leave,
}

/// The client's end of the stream, over one connection after the other.
#[derive(Debug)]
pub struct Subscriber<S> {
    sink: S,
    /// The answers to the responses that were received, due once their resources are in force.
    answers: Vec<StreamResourcesRequest>,
    revision: i64,
    unpublished: bool,
    /// True if the server has nothing newer than what it sent.
    complete: bool,
    ready: bool,
}

impl<S: Sink> Subscriber<S> {
    /// Creates a client with what `sink` has accepted at `revision`, from a copy on disk or nothing.
    pub fn new(sink: S, revision: i64) -> Self {
        Self { sink, answers: Vec::new(), revision, unpublished: false, complete: false, ready: false }
    }

    /// The accepted and refused resources.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// The revision of the server that was heard last. A registry that was restored has an earlier one than before.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Compiles the accepted resources without any contact: a start from the copy on disk.
    pub fn start_from_accepted(&mut self) -> S::Compiled {
        self.ready = true;
        self.sink.compile(self.revision)
    }

    /// Handles an event.
    pub fn on(&mut self, event: Event) -> Vec<Action<S>> {
        match event {
            Event::Connected(edge) => self.subscribe(edge),
            Event::Received(response) if response.type_url.is_empty() => self.on_heartbeat(&response),
            Event::Received(response) => self.on_changes(response),
            Event::Quiet => self.publish(),
            Event::Disconnected => {
                // Nonces are valid on their stream only. Accepted resources are kept and will be claimed.
                self.answers.clear();
                self.complete = false;
                self.publish()
            }
        }
    }

    /// Claims the accepted resources, type by type in push order. Refused ones are never claimed.
    fn subscribe(&mut self, edge: Edge) -> Vec<Action<S>> {
        self.answers.clear();
        // Unclaimed resources are sent again if they still exist; nobody reports the end of what is not accepted.
        self.sink.forget_refused();
        let mut edge = Some(edge);
        let requests = |&kind: &S::Kind| subscriptions(kind, self.sink.versions(kind), edge.take());
        S::Kind::ALL.iter().flat_map(requests).map(Action::Send).collect()
    }

    fn on_heartbeat(&mut self, response: &StreamResourcesResponse) -> Vec<Action<S>> {
        let mut actions = vec![contact(response)];
        if response.draining {
            actions.push(Action::Leave);
            return actions;
        }
        // What is in force says which revision it is of.
        self.unpublished |= response.revision < self.revision;
        self.revision = response.revision;
        self.complete = true;
        if self.answers.is_empty() && !self.unpublished {
            actions.extend(self.set_ready());
        } else {
            actions.push(Action::AwaitQuiet);
        }
        actions
    }

    fn on_changes(&mut self, response: StreamResourcesResponse) -> Vec<Action<S>> {
        let mut actions = vec![contact(&response)];
        let Some(kind) = S::Kind::parse(&response.type_url) else { return actions };
        self.revision = response.revision;
        let refusals = self.accept(kind, response.resources, &response.removed);
        self.answers.push(answer(response.type_url, response.nonce, &refusals));
        self.unpublished = true;
        actions.extend(refusals.into_iter().map(Action::Refused));
        actions.push(Action::AwaitQuiet);
        actions
    }

    /// Accepts the good resources, and keeps the last good version of the others.
    fn accept(
        &mut self,
        kind: S::Kind,
        resources: Vec<VersionedResource>,
        removed: &[String],
    ) -> Vec<Refusal<S::Kind>> {
        let repeated = repeated_names(&resources, removed);
        let is_single = |name: &String| !repeated.contains(name);
        removed.iter().filter(|name| is_single(name)).for_each(|name| self.sink.remove(kind, name));
        let reason = "the response names it more than once";
        let mut refusals: Vec<_> =
            repeated.iter().map(|name| Refusal::new(kind, name.clone(), reason)).collect();
        for resource in resources.into_iter().filter(|resource| is_single(&resource.name)) {
            let accepted = Candidate::parse(kind, resource).and_then(|candidate| self.sink.accept(candidate));
            refusals.extend(accepted.err());
        }
        refusals
    }

    fn publish(&mut self) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        if std::mem::take(&mut self.unpublished) {
            actions.push(Action::Publish(self.sink.compile(self.revision)));
        }
        actions.extend(self.answers.drain(..).map(Action::Send));
        if self.complete {
            actions.extend(self.set_ready());
        }
        actions
    }

    fn set_ready(&mut self) -> Option<Action<S>> {
        (!std::mem::replace(&mut self.ready, true)).then_some(Action::Ready)
    }
}

fn contact<S: Sink>(response: &StreamResourcesResponse) -> Action<S> {
    Action::Contact(response.send_time.and_then(|time| u64::try_from(time.seconds).ok()))
}

fn repeated_names(resources: &[VersionedResource], removed: &[String]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let names = resources.iter().map(|resource| &resource.name).chain(removed);
    names.filter(|name| !seen.insert(*name)).cloned().collect()
}
