use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use delta::client::{Action, Event};
use delta::server::{self, Session};
use delta::{Item, Snapshot};
use proptest::prelude::*;
use prost::Message as _;
use trunkline::discovery::v1::{Edge, StreamResourcesRequest, StreamResourcesResponse};
use trunkline::edge::v1::{StreamType, Token};

use super::*;
use crate::snapshot::{Budget, PageLimits};

/// The version of a token that no edge can use.
const BAD: u8 = 4;

fn token(name: &str, version: u8) -> Item {
    let uid = if version == BAD { String::new() } else { format!("u{version}-{name}") };
    let message = Token { name: name.into(), uid, ..Default::default() };
    Item::new(StreamType::Token, name, &format!("v{version}"), 0, message.encode_to_vec())
}

/// A control plane's session, the edge, and what is on its way between them.
struct Play {
    snapshot: Snapshot<StreamType>,
    tokens: BTreeMap<String, u8>,
    session: Session<StreamType>,
    edge: Subscriber,
    to_edge: VecDeque<StreamResourcesResponse>,
    to_control_plane: VecDeque<StreamResourcesRequest>,
    in_force: BTreeSet<(String, String)>,
}

impl Play {
    fn new() -> Play {
        let builder = Builder::new(PageLimits::default(), Budget::default());
        let mut play = Play {
            snapshot: Snapshot::default(),
            tokens: BTreeMap::new(),
            session: Session::new("", Arc::default()),
            edge: Subscriber::new(builder, 0),
            to_edge: VecDeque::new(),
            to_control_plane: VecDeque::new(),
            in_force: BTreeSet::new(),
        };
        play.reconnect();
        play
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(name, version) => self.change(format!("tokens/{name}"), Some(*version)),
            Step::Remove(name) => self.change(format!("tokens/{name}"), None),
            Step::ToEdge => self.deliver_to_edge(),
            Step::ToControlPlane => self.deliver_to_control_plane(),
            Step::Quiet => self.edge(Event::Quiet),
            Step::Reconnect => self.reconnect(),
        }
    }

    fn change(&mut self, name: String, version: Option<u8>) {
        self.snapshot.revision += 1;
        let items = Arc::make_mut(&mut self.snapshot.items[StreamType::Token]);
        match version {
            Some(version) => {
                items.insert(name.as_str().into(), token(&name, version).into());
                self.tokens.insert(name, version);
            }
            None => {
                items.remove(name.as_str());
                self.tokens.remove(&name);
            }
        }
        self.control_plane(server::Event::Snapshot(Arc::new(self.snapshot.clone())));
    }

    fn control_plane(&mut self, event: server::Event<StreamType>) {
        for action in self.session.on(event) {
            if let server::Action::Send(response) = action {
                let mut encoded = Vec::new();
                response.encode(&mut encoded);
                self.to_edge.push_back(StreamResourcesResponse::decode(encoded.as_slice()).unwrap());
            }
        }
    }

    fn edge(&mut self, event: Event) {
        for action in self.edge.on(event) {
            match action {
                Action::Send(request) => self.to_control_plane.push_back(request),
                Action::Publish(compiled) => {
                    let tokens = compiled.snapshot.tokens.values();
                    self.in_force = tokens.map(|t| (t.name.to_string(), t.uid.to_string())).collect();
                }
                _ => {}
            }
        }
    }

    fn reconnect(&mut self) {
        self.to_edge.clear();
        self.to_control_plane.clear();
        self.edge(Event::Disconnected);
        self.session = Session::new("", Arc::new(self.snapshot.clone()));
        self.edge(Event::Connected(Edge::default()));
    }

    fn deliver_to_edge(&mut self) {
        if let Some(response) = self.to_edge.pop_front() {
            self.edge(Event::Received(response));
        }
    }

    fn deliver_to_control_plane(&mut self) {
        if let Some(request) = self.to_control_plane.pop_front() {
            self.control_plane(server::Event::Request(request));
        }
    }

    fn finish(&mut self) {
        for _ in 0..50 {
            self.deliver_to_control_plane();
            self.deliver_to_edge();
            self.edge(Event::Quiet);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(char, u8),
    Remove(char),
    ToEdge,
    ToControlPlane,
    Quiet,
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = proptest::char::range('a', 'd');
    let step = prop_oneof![
        3 => (name.clone(), 1..=BAD).prop_map(|(name, version)| Step::Put(name, version)),
        1 => name.prop_map(Step::Remove),
        4 => Just(Step::ToEdge),
        4 => Just(Step::ToControlPlane),
        3 => Just(Step::Quiet),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Both halves of the stream with the edge's own sink: what the registry holds is in force, or refused.
    #[test]
    fn the_builder_follows_the_registry(steps in steps()) {
        let mut play = Play::new();
        steps.iter().for_each(|step| play.step(step));
        play.finish();
        for (name, version) in play.tokens.iter().filter(|(_, version)| **version != BAD) {
            prop_assert!(play.in_force.contains(&(name.clone(), format!("u{version}-{name}"))), "{name} is not in force");
        }
        // What is in force beside that is the last good version of something that is refused.
        for (name, _) in &play.in_force {
            prop_assert!(play.tokens.contains_key(name), "{name} is gone and still in force");
        }
        let refused: BTreeSet<String> = play.edge.sink().refused().into_iter().map(|r| r.name).collect();
        let bad = play.tokens.iter().filter(|(_, version)| **version == BAD).map(|(name, _)| name.clone());
        prop_assert_eq!(refused, bad.collect::<BTreeSet<_>>());
    }
}
