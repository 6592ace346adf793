//! The decisions about the stream: an event in, actions out.
//!
//! It does no IO and reads no clock. Resources are accepted as they arrive; a snapshot is compiled when nothing has
//! come for a moment, and only what is published is acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::Any;
use trunkline::discovery::v1::{
    Edge, Refusal as WireRefusal, StreamResourcesRequest, StreamResourcesResponse, VersionedResource,
};

use super::super::build::{Builder, Candidate, Compiled, Refusal};
use trunkline::TypeTable as _;
use trunkline::edge::v1::StreamType;

/// An event of the stream.
#[derive(Debug)]
pub enum Event {
    /// A stream was opened.
    Connected,
    /// A message arrived on it.
    Received(StreamResourcesResponse),
    /// Nothing has arrived for a moment.
    Settled,
    /// The stream ended.
    Disconnected,
}

/// An action to take, in this order.
#[derive(Debug)]
pub enum Action {
    /// Send this on the stream.
    Send(StreamResourcesRequest),
    /// Put this snapshot in force.
    Publish(Compiled),
    /// Note a contact, with the control plane's time (seconds since the Unix epoch), if it sent one.
    Contact(Option<u64>),
    /// Raise `Settled` when nothing more has arrived for a moment.
    AwaitSettled,
    /// Take traffic: the snapshot in force is complete.
    Ready,
    /// Report this refusal.
    Refused(Refusal),
    /// Leave this control plane for another one, now.
    Leave,
}

/// The edge's end of the stream.
#[derive(Debug)]
pub struct Machine {
    edge: Edge,
    builder: Builder,
    answers: Vec<Answer>,
    revision: i64,
    unpublished: bool,
    /// True if the control plane has nothing newer than what it sent.
    complete: bool,
    ready: bool,
}

/// The answer to a response, due once its resources are in force.
#[derive(Debug)]
struct Answer {
    type_url: String,
    nonce: String,
    refusals: Vec<Refusal>,
}

impl Machine {
    /// Creates an edge with what `builder` has, from the copy on disk or nothing.
    pub fn new(edge: Edge, builder: Builder, revision: i64) -> Machine {
        Machine {
            edge,
            builder,
            answers: Vec::new(),
            revision,
            unpublished: false,
            complete: false,
            ready: false,
        }
    }

    /// The accepted and refused resources.
    pub fn builder(&self) -> &Builder {
        &self.builder
    }

    /// The newest known revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Sets the address for siblings that the next stream announces.
    pub fn reached_at(&mut self, sibling_address: String) {
        self.edge.sibling_address = sibling_address;
    }

    /// Compiles the accepted resources without any contact: a start from the copy on disk.
    pub fn start_from_accepted(&mut self) -> Compiled {
        self.ready = true;
        self.builder.compile(self.revision)
    }

    /// Handles an event.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Connected => self.subscribe(),
            Event::Received(response) if response.type_url.is_empty() => self.on_heartbeat(&response),
            Event::Received(response) => self.on_changes(response),
            Event::Settled => self.settle(),
            Event::Disconnected => {
                // Nonces are valid on their stream only. Accepted resources are kept and will be claimed.
                self.answers.clear();
                self.complete = false;
                self.settle()
            }
        }
    }

    /// Claims the accepted resources, type by type in push order. Refused ones are never claimed.
    fn subscribe(&mut self) -> Vec<Action> {
        self.answers.clear();
        // Unclaimed resources are sent again if they still exist; nobody reports the end of what is not accepted.
        self.builder.forget_refused();
        let mut edge = Some(self.edge.clone());
        let request = |kind: StreamType| StreamResourcesRequest {
            edge: edge.take(),
            type_url: kind.url().to_owned(),
            subscribe: vec!["*".to_owned()],
            initial_versions: self.versions(kind),
            ..Default::default()
        };
        StreamType::ALL.iter().copied().map(request).map(Action::Send).collect()
    }

    fn versions(&self, kind: StreamType) -> BTreeMap<String, String> {
        self.builder
            .accepted(kind)
            .map(|(name, accepted)| (name.to_owned(), accepted.version.to_string()))
            .collect()
    }

    fn on_heartbeat(&mut self, response: &StreamResourcesResponse) -> Vec<Action> {
        let mut actions = vec![contact(response)];
        if response.draining {
            actions.push(Action::Leave);
            return actions;
        }
        self.revision = self.revision.max(response.revision);
        self.complete = true;
        if self.answers.is_empty() && !self.unpublished {
            actions.extend(self.set_ready());
        } else {
            actions.push(Action::AwaitSettled);
        }
        actions
    }

    fn on_changes(&mut self, response: StreamResourcesResponse) -> Vec<Action> {
        let mut actions = vec![contact(&response)];
        self.revision = self.revision.max(response.revision);
        let Some(kind) = StreamType::parse(&response.type_url) else { return actions };
        let refusals = self.take(kind, response.resources, &response.removed);
        actions.extend(refusals.iter().cloned().map(Action::Refused));
        self.answers.push(Answer { type_url: response.type_url, nonce: response.nonce, refusals });
        self.unpublished = true;
        actions.push(Action::AwaitSettled);
        actions
    }

    /// Accepts the good resources, and keeps the last good version of the others.
    fn take(
        &mut self,
        kind: StreamType,
        resources: Vec<VersionedResource>,
        removed: &[String],
    ) -> Vec<Refusal> {
        let repeated = repeated_names(&resources, removed);
        let mut refusals: Vec<Refusal> = Vec::new();
        for name in &repeated {
            let reason = "the response names it more than once".to_owned();
            refusals.push(Refusal { kind, name: (*name).to_owned(), reason });
        }
        let removals = removed.iter().filter(|name| !repeated.contains(name.as_str()));
        removals.for_each(|name| self.builder.remove(kind, name));
        let repeated: BTreeSet<String> = repeated.into_iter().map(str::to_owned).collect();
        for resource in resources.into_iter().filter(|resource| !repeated.contains(&resource.name)) {
            let taken = candidate(kind, resource).and_then(|candidate| self.builder.put(candidate));
            refusals.extend(taken.err());
        }
        refusals
    }

    fn settle(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if std::mem::take(&mut self.unpublished) {
            actions.push(Action::Publish(self.builder.compile(self.revision)));
        }
        actions.extend(std::mem::take(&mut self.answers).into_iter().map(Answer::into_action));
        if self.complete {
            actions.extend(self.set_ready());
        }
        actions
    }

    fn set_ready(&mut self) -> Option<Action> {
        (!std::mem::replace(&mut self.ready, true)).then_some(Action::Ready)
    }
}

impl Answer {
    fn into_action(self) -> Action {
        let refusal = |refusal: Refusal| WireRefusal { name: refusal.name, reason: refusal.reason };
        Action::Send(StreamResourcesRequest {
            type_url: self.type_url,
            response_nonce: self.nonce,
            refusals: self.refusals.into_iter().map(refusal).collect(),
            ..Default::default()
        })
    }
}

fn contact(response: &StreamResourcesResponse) -> Action {
    Action::Contact(response.send_time.and_then(|time| u64::try_from(time.seconds).ok()))
}

fn repeated_names<'a>(resources: &'a [VersionedResource], removed: &'a [String]) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let names =
        resources.iter().map(|resource| resource.name.as_str()).chain(removed.iter().map(String::as_str));
    names.filter(|name| !seen.insert(*name)).collect()
}

fn candidate(kind: StreamType, resource: VersionedResource) -> Result<Candidate, Refusal> {
    let VersionedResource { name, version, body } = resource;
    let refuse = |name: String, reason: &str| Refusal { kind, name, reason: reason.to_owned() };
    match body {
        None => Err(refuse(name, "it has no body")),
        Some(_) if version.is_empty() => Err(refuse(name, "it has no version")),
        Some(Any { type_url, value }) if StreamType::parse(&type_url) == Some(kind) => {
            Ok(Candidate { kind, name, version, body: value.into() })
        }
        Some(_) => Err(refuse(name, "its body is of another type")),
    }
}
