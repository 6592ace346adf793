use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use prost::Message as _;
use prost_types::Any;
use trunkline::TypeTable as _;
use trunkline::discovery::v1::{Edge, StreamResourcesRequest, StreamResourcesResponse, VersionedResource};
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::super::build::Builder;
use super::super::{Budget, PageLimits};
use super::*;

fn machine() -> Machine {
    let edge = Edge { id: "e1".into(), ..Default::default() };
    Machine::new(edge, Builder::new(PageLimits::default(), Budget::default()), 0)
}

fn token(name: &str, version: u8) -> VersionedResource {
    // Version 9 is one that no edge can use.
    let uid = if version == 9 { String::new() } else { format!("u{version}-{name}") };
    let message = wire::Token { name: name.into(), uid, ..Default::default() };
    VersionedResource {
        name: name.into(),
        version: format!("v{version}"),
        body: Some(Any { type_url: StreamType::Token.url().to_owned(), value: message.encode_to_vec() }),
    }
}

fn tokens(nonce: &str, resources: Vec<VersionedResource>, removed: &[&str]) -> Event {
    Event::Received(StreamResourcesResponse {
        type_url: StreamType::Token.url().to_owned(),
        resources,
        removed: removed.iter().map(|name| (*name).to_owned()).collect(),
        nonce: nonce.into(),
        revision: 5,
        ..Default::default()
    })
}

fn heartbeat(draining: bool) -> Event {
    Event::Received(StreamResourcesResponse { draining, revision: 5, ..Default::default() })
}

/// A short word for each action.
fn words(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Send(request) if request.response_nonce.is_empty() => {
            format!("subscribe {}", StreamType::parse(&request.type_url).unwrap().name())
        }
        Action::Send(request) if request.refusals.is_empty() => format!("ack {}", request.response_nonce),
        Action::Send(request) => {
            let names: Vec<&str> = request.refusals.iter().map(|r| r.name.as_str()).collect();
            format!("nack {} {}", request.response_nonce, names.join(" "))
        }
        Action::Publish(compiled) => format!("publish {}", compiled.snapshot.revision),
        Action::Contact(_) => "heard".into(),
        Action::AwaitSettled => "await".into(),
        Action::Ready => "ready".into(),
        Action::Refused(refusal) => format!("refused {}", refusal.name),
        Action::Leave => "leave".into(),
    };
    actions.iter().map(word).collect()
}

#[test]
fn it_subscribes_in_push_order_and_says_once_who_it_is() {
    let mut machine = machine();
    let actions = machine.on(Event::Connected);
    let expected: Vec<String> =
        StreamType::ALL.iter().map(|kind| format!("subscribe {}", kind.name())).collect();
    assert_eq!(words(&actions), expected);
    let edges = actions.iter().filter(|a| matches!(a, Action::Send(request) if request.edge.is_some()));
    assert_eq!(edges.count(), 1);
}

#[test]
fn a_burst_is_published_once_and_acknowledged_after_that() {
    let mut machine = machine();
    machine.on(Event::Connected);
    assert_eq!(words(&machine.on(tokens("n1", vec![token("tokens/a", 1)], &[]))), ["heard", "await"]);
    assert_eq!(words(&machine.on(tokens("n2", vec![token("tokens/b", 1)], &[]))), ["heard", "await"]);
    assert_eq!(words(&machine.on(Event::Settled)), ["publish 5", "ack n1", "ack n2"]);
    assert_eq!(words(&machine.on(Event::Settled)), Vec::<String>::new());
}

#[test]
fn it_is_ready_when_the_control_plane_has_nothing_newer_and_all_is_in_force() {
    let mut machine = machine();
    machine.on(Event::Connected);
    machine.on(tokens("n1", vec![token("tokens/a", 1)], &[]));
    assert_eq!(words(&machine.on(heartbeat(false))), ["heard", "await"]);
    assert_eq!(words(&machine.on(Event::Settled)), ["publish 5", "ack n1", "ready"]);
    assert_eq!(words(&machine.on(heartbeat(false))), ["heard"], "once");
}

#[test]
fn an_empty_control_plane_makes_an_edge_ready_too() {
    let mut machine = machine();
    machine.on(Event::Connected);
    assert_eq!(words(&machine.on(heartbeat(false))), ["heard", "ready"]);
}

#[test]
fn what_is_bad_is_refused_by_name_and_what_is_good_is_taken() {
    let mut machine = machine();
    machine.on(Event::Connected);
    let actions = machine.on(tokens("n1", vec![token("tokens/a", 1), token("tokens/b", 9)], &[]));
    assert_eq!(words(&actions), ["heard", "refused tokens/b", "await"]);
    assert_eq!(words(&machine.on(Event::Settled)), ["publish 5", "nack n1 tokens/b"]);

    // The last good version of what is refused later stays, and is what is claimed.
    machine.on(tokens("n2", vec![token("tokens/a", 9)], &[]));
    machine.on(Event::Settled);
    machine.on(Event::Disconnected);
    assert_eq!(claimed(&machine.on(Event::Connected)), [("tokens/a".to_owned(), "v1".to_owned())].into());
}

#[test]
fn what_a_response_names_twice_is_refused() {
    let mut machine = machine();
    machine.on(tokens("n0", vec![token("tokens/b", 1)], &[]));
    let twice = vec![token("tokens/a", 1), token("tokens/a", 2), token("tokens/c", 1)];
    let actions = machine.on(tokens("n1", [twice, vec![token("tokens/b", 2)]].concat(), &["tokens/b"]));
    assert_eq!(words(&actions), ["heard", "refused tokens/a", "refused tokens/b", "await"]);
    let accepted: Vec<&str> = machine.builder().accepted(StreamType::Token).map(|(name, _)| name).collect();
    assert_eq!(accepted, ["tokens/b", "tokens/c"]);
}

#[test]
fn bodies_of_another_type_without_version_or_missing_are_refused() {
    let mut machine = machine();
    let mut other = token("tokens/a", 1);
    other.body.as_mut().unwrap().type_url = StreamType::Server.url().to_owned();
    let unversioned = VersionedResource { version: String::new(), ..token("tokens/b", 1) };
    let missing = VersionedResource { body: None, ..token("tokens/c", 1) };
    let actions = machine.on(tokens("n1", vec![other, unversioned, missing], &[]));
    assert_eq!(
        words(&actions),
        ["heard", "refused tokens/a", "refused tokens/b", "refused tokens/c", "await"]
    );
}

#[test]
fn a_control_plane_that_stops_is_left() {
    let mut machine = machine();
    assert_eq!(words(&machine.on(heartbeat(true))), ["heard", "leave"]);
}

#[test]
fn types_it_does_not_know_pass_by() {
    let mut machine = machine();
    let response = StreamResourcesResponse {
        type_url: "type.googleapis.com/trunkline.edge.v1.Later".into(),
        nonce: "n".into(),
        ..Default::default()
    };
    assert_eq!(words(&machine.on(Event::Received(response))), ["heard"]);
}

#[test]
fn nothing_is_acknowledged_on_another_stream_and_nothing_taken_is_lost() {
    let mut machine = machine();
    machine.on(Event::Connected);
    machine.on(tokens("n1", vec![token("tokens/a", 1)], &[]));
    assert_eq!(words(&machine.on(Event::Disconnected)), ["publish 5"]);
    assert_eq!(claimed(&machine.on(Event::Connected)).len(), 1);
    assert_eq!(words(&machine.on(Event::Settled)), Vec::<String>::new());
}

fn claimed(actions: &[Action]) -> BTreeMap<String, String> {
    let request = actions.iter().find_map(|action| match action {
        Action::Send(request) if request.type_url == StreamType::Token.url() => Some(request),
        _ => None,
    });
    request.expect("a subscription to tokens").initial_versions.clone()
}

/// A small control plane for one type: one response in flight, later changes coalesce.
#[derive(Default)]
struct Model {
    registry: BTreeMap<String, u8>,
    /// The resources that the edge is believed to have, refused versions included so that they are not sent again.
    believed: BTreeMap<String, String>,
    in_flight: Option<(String, BTreeMap<String, Option<String>>)>,
    open: bool,
    nonces: u32,
}

impl Model {
    fn on(&mut self, request: &StreamResourcesRequest) {
        if request.type_url != StreamType::Token.url() {
            return;
        }
        if !request.subscribe.is_empty() {
            self.open = true;
            self.in_flight = None;
            self.believed = request.initial_versions.clone();
        } else if let Some((nonce, sent)) = &self.in_flight
            && *nonce == request.response_nonce
        {
            for (name, version) in sent {
                match version {
                    Some(version) => self.believed.insert(name.clone(), version.clone()),
                    None => self.believed.remove(name),
                };
            }
            self.in_flight = None;
        }
    }

    fn push(&mut self) -> Option<StreamResourcesResponse> {
        if !self.open || self.in_flight.is_some() {
            return None;
        }
        let version = |v: &u8| format!("v{v}");
        let news = self.registry.iter().filter(|(name, v)| self.believed.get(*name) != Some(&version(v)));
        let resources: Vec<VersionedResource> = news.map(|(name, v)| token(name, *v)).collect();
        let removed: Vec<String> =
            self.believed.keys().filter(|name| !self.registry.contains_key(*name)).cloned().collect();
        if resources.is_empty() && removed.is_empty() {
            return None;
        }
        self.nonces += 1;
        let nonce = format!("n{}", self.nonces);
        let sent = resources.iter().map(|r| (r.name.clone(), Some(r.version.clone())));
        let sent = sent.chain(removed.iter().map(|name| (name.clone(), None))).collect();
        self.in_flight = Some((nonce.clone(), sent));
        let type_url = StreamType::Token.url().to_owned();
        Some(StreamResourcesResponse { type_url, resources, removed, nonce, ..Default::default() })
    }
}

/// The edge, the model and what is on its way between them.
struct Play {
    edge: Machine,
    model: Model,
    to_edge: VecDeque<StreamResourcesResponse>,
    to_model: VecDeque<StreamResourcesRequest>,
    published: BTreeSet<String>,
}

impl Play {
    fn new() -> Play {
        let mut play = Play {
            edge: machine(),
            model: Model::default(),
            to_edge: VecDeque::new(),
            to_model: VecDeque::new(),
            published: BTreeSet::new(),
        };
        play.edge(Event::Connected);
        play
    }

    fn edge(&mut self, event: Event) {
        let mut published = false;
        for action in self.edge.on(event) {
            match action {
                Action::Send(request) => {
                    let nonce = &request.response_nonce;
                    assert!(nonce.is_empty() || published, "an early ack");
                    self.to_model.push_back(request);
                }
                Action::Publish(compiled) => {
                    published = true;
                    let names = compiled.snapshot.tokens.values().map(|t| format!("{}={}", t.name, t.uid));
                    self.published = names.collect();
                }
                _ => {}
            }
        }
    }

    fn reconnect(&mut self) {
        self.to_edge.clear();
        self.to_model.clear();
        self.edge(Event::Disconnected);
        self.model.open = false;
        self.edge(Event::Connected);
    }

    fn deliver_to_edge(&mut self) {
        if let Some(response) = self.to_edge.pop_front() {
            self.edge(Event::Received(response));
        }
    }

    fn deliver_to_model(&mut self) {
        if let Some(request) = self.to_model.pop_front() {
            self.model.on(&request);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(name, version) => {
                self.model.registry.insert(format!("tokens/{name}"), *version);
            }
            Step::Remove(name) => {
                self.model.registry.remove(&format!("tokens/{name}"));
            }
            Step::Push => self.to_edge.extend(self.model.push()),
            Step::ToEdge => self.deliver_to_edge(),
            Step::ToModel => self.deliver_to_model(),
            Step::Settle => self.edge(Event::Settled),
            // On one stream gRPC loses and repeats nothing; a peer that does so must not confuse the edge for ever.
            Step::Drop => drop(self.to_edge.pop_front()),
            Step::Duplicate => self.to_edge.extend(self.to_edge.front().cloned()),
            Step::Reorder => self.to_edge.rotate_left(1.min(self.to_edge.len())),
            Step::Reconnect => self.reconnect(),
        }
    }

    /// A new stream on which nothing goes wrong.
    fn calm(&mut self) {
        self.reconnect();
        for _ in 0..20 {
            while !self.to_model.is_empty() {
                self.deliver_to_model();
            }
            self.to_edge.extend(self.model.push());
            self.deliver_to_edge();
            self.edge(Event::Settled);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(char, u8),
    Remove(char),
    Push,
    ToEdge,
    ToModel,
    Settle,
    Drop,
    Duplicate,
    Reorder,
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = proptest::char::range('a', 'd');
    let step = prop_oneof![
        3 => (name.clone(), prop_oneof![4 => 1u8..4, 1 => Just(9u8)]).prop_map(|(name, version)| Step::Put(name, version)),
        1 => name.prop_map(Step::Remove),
        4 => Just(Step::Push),
        4 => Just(Step::ToEdge),
        4 => Just(Step::ToModel),
        3 => Just(Step::Settle),
        1 => Just(Step::Drop),
        1 => Just(Step::Duplicate),
        1 => Just(Step::Reorder),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever went wrong before, one good stream brings edge and control plane together.
    #[test]
    fn it_converges(steps in steps()) {
        let mut play = Play::new();
        for step in &steps {
            play.step(step);
        }
        play.calm();
        let usable = play.model.registry.iter().filter(|(_, version)| **version != 9);
        for (name, version) in usable {
            prop_assert!(play.published.contains(&format!("{name}=u{version}-{name}")), "{name} is not in force");
        }
        // What is in force beside that is the last good version of something that is refused.
        for published in &play.published {
            let name = published.split('=').next().unwrap_or_default();
            prop_assert!(play.model.registry.contains_key(name), "{name} is gone and still in force");
        }
        let refused: BTreeSet<String> = play.edge.builder().refused().into_iter().map(|r| r.name).collect();
        let bad = play.model.registry.iter().filter(|(_, version)| **version == 9).map(|(name, _)| name.clone());
        prop_assert_eq!(refused, bad.collect::<BTreeSet<_>>());
    }
}
