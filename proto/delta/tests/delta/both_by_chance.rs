//! A session and a subscriber, and between them a stream that chance decides about.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use delta::Snapshot;
use delta::client::{self, Subscriber};
use delta::server::{self, Progress, Session};
use proptest::prelude::*;
use trunkline::TypeTable as _;
use trunkline::discovery::v1::{Edge, StreamResourcesRequest, StreamResourcesResponse};

use crate::library::{Kind, item, read};
use crate::map_sink::MapSink;

#[derive(Debug, Clone)]
enum Step {
    Put(Kind, &'static str, &'static str),
    Remove(Kind, &'static str),
    ToClient,
    ToServer,
    Quiet,
    Drop,
    Duplicate,
    Reorder,
    Reconnect,
}

impl Step {
    /// Tells whether a stream over gRPC may do this.
    fn is_faithful(&self) -> bool {
        !matches!(self, Step::Drop | Step::Duplicate | Step::Reorder)
    }
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || prop::sample::select(Kind::ALL);
    let name = || prop::sample::select(&["a", "b", "c"][..]);
    let body = prop::sample::select(&["1", "2", "3", "!4", "!5"][..]);
    prop_oneof![
        4 => (kind(), name(), body).prop_map(|(kind, name, body)| Step::Put(kind, name, body)),
        1 => (kind(), name()).prop_map(|(kind, name)| Step::Remove(kind, name)),
        4 => Just(Step::ToClient),
        4 => Just(Step::ToServer),
        3 => Just(Step::Quiet),
        1 => Just(Step::Drop),
        1 => Just(Step::Duplicate),
        1 => Just(Step::Reorder),
        1 => Just(Step::Reconnect),
    ]
}

/// Both halves, and what is on its way between them.
struct Play {
    snapshot: Snapshot<Kind>,
    session: Session<Kind>,
    progress: Progress,
    subscriber: Subscriber<MapSink>,
    published: BTreeMap<(Kind, String), String>,
    ready: usize,
    to_client: VecDeque<StreamResourcesResponse>,
    to_server: VecDeque<StreamResourcesRequest>,
}

impl Play {
    fn new() -> Play {
        let snapshot = Snapshot::default();
        let mut play = Play {
            session: Session::new("", Arc::new(snapshot.clone())),
            snapshot,
            progress: Progress::default(),
            subscriber: Subscriber::new(MapSink::default(), 0),
            published: BTreeMap::new(),
            ready: 0,
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
        };
        play.reconnect();
        play
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(kind, name, body) => self.change(*kind, name, Some(body)),
            Step::Remove(kind, name) => self.change(*kind, name, None),
            Step::ToClient => self.deliver_to_client(),
            Step::ToServer => self.deliver_to_server(),
            Step::Quiet => self.client(client::Event::Quiet),
            // On one stream gRPC loses and repeats nothing; a server that does so must not confuse a client for ever.
            Step::Drop => drop(self.to_client.pop_front()),
            Step::Duplicate => self.to_client.extend(self.to_client.front().cloned()),
            Step::Reorder => self.to_client.rotate_left(1.min(self.to_client.len())),
            Step::Reconnect => self.reconnect(),
        }
    }

    fn change(&mut self, kind: Kind, name: &str, body: Option<&str>) {
        self.snapshot.revision += 1;
        let items = Arc::make_mut(&mut self.snapshot.items[kind]);
        match body {
            Some(body) => {
                let item = item(kind, name, self.snapshot.revision, body);
                if items.get(name).is_none_or(|before| **before != item) {
                    items.insert(name.into(), item.into());
                }
            }
            None => drop(items.remove(name)),
        }
        self.server(server::Event::Snapshot(Arc::new(self.snapshot.clone())));
    }

    fn server(&mut self, event: server::Event<Kind>) {
        for action in self.session.on(event) {
            match action {
                server::Action::Send(response) => self.to_client.push_back(read(&response)),
                server::Action::Progress(progress) => self.progress = progress,
                server::Action::Close | server::Action::Refuse { .. } => {
                    unreachable!("nobody drains, and nothing is large")
                }
            }
        }
    }

    fn client(&mut self, event: client::Event) {
        let mut published = false;
        for action in self.subscriber.on(event) {
            match action {
                client::Action::Send(request) => {
                    assert!(request.response_nonce.is_empty() || published, "an early acknowledgement");
                    self.to_server.push_back(request);
                }
                client::Action::Publish(compiled) => {
                    published = true;
                    self.published = compiled.bodies;
                }
                client::Action::Ready => self.ready += 1,
                _ => {}
            }
        }
    }

    fn reconnect(&mut self) {
        self.to_client.clear();
        self.to_server.clear();
        self.client(client::Event::Disconnected);
        self.session = Session::new(self.snapshot.revision.to_string(), Arc::new(self.snapshot.clone()));
        self.progress = Progress::default();
        self.client(client::Event::Connected(Edge::default()));
    }

    fn deliver_to_client(&mut self) {
        if let Some(response) = self.to_client.pop_front() {
            self.client(client::Event::Received(response));
        }
    }

    fn deliver_to_server(&mut self) {
        if let Some(request) = self.to_server.pop_front() {
            self.server(server::Event::Request(request));
        }
    }

    /// Delivers everything until nobody has anything to say.
    fn finish(&mut self) {
        for _ in 0..200 {
            self.deliver_to_server();
            self.deliver_to_client();
            self.client(client::Event::Quiet);
        }
        assert!(self.to_client.is_empty() && self.to_server.is_empty(), "it never ends");
    }

    fn check(&self) {
        let (mut bad, mut is_newest_bad) = (BTreeSet::new(), false);
        for &kind in Kind::ALL {
            for (name, item) in self.snapshot.items[kind].iter() {
                let (key, body) =
                    ((kind, name.to_string()), String::from_utf8(item.body().to_vec()).unwrap());
                match body.starts_with('!') {
                    true => {
                        bad.insert(key);
                        is_newest_bad |= item.revision == self.snapshot.revision;
                    }
                    false => assert_eq!(self.published.get(&key), Some(&body), "{key:?} is not in force"),
                }
            }
        }
        // What is in force beside that is the last good version of something that is refused.
        for (kind, name) in self.published.keys() {
            let exists = self.snapshot.items[*kind].contains_key(name.as_str());
            assert!(exists, "{kind:?} {name} is gone and still in force");
        }
        assert_eq!(self.subscriber.sink().refused, bad, "what the client refuses");
        assert_eq!(self.reported(), bad, "what the server knows to be refused");
        let Progress { answered, acked, .. } = self.progress;
        assert_eq!((answered, self.ready), (self.snapshot.revision, 1));
        assert_eq!(acked == answered, !is_newest_bad);
    }

    fn reported(&self) -> BTreeSet<(Kind, String)> {
        let refusals = self.progress.refusals.iter();
        let key = |(url, name): (&str, &str)| (Kind::parse(url).unwrap(), name.to_owned());
        refusals.map(|of| key((&of.type_url, &of.refusal.as_ref().unwrap().name))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever went wrong before, one good stream brings both together.
    #[test]
    fn a_good_stream_after_bad_ones_brings_both_together(steps in prop::collection::vec(step(), 0..60)) {
        let mut play = Play::new();
        steps.iter().for_each(|step| play.step(step));
        play.reconnect();
        play.finish();
        play.check();
    }

    /// A stream that loses nothing brings both together at any time.
    #[test]
    fn a_faithful_stream_keeps_both_together(steps in prop::collection::vec(step(), 0..60)) {
        let mut play = Play::new();
        steps.iter().filter(|step| step.is_faithful()).for_each(|step| play.step(step));
        play.finish();
        play.check();
    }
}

/// What becomes of a client's refusals while the registry goes through `bodies`; `None` removes the book.
fn refused_after(bodies: &[Option<&str>]) -> BTreeSet<(Kind, String)> {
    let mut play = Play::new();
    play.finish();
    for body in bodies {
        play.change(Kind::Book, "a", *body);
        play.finish();
    }
    play.check();
    play.subscriber.sink().refused.clone()
}

#[test]
fn a_refusal_ends_at_the_client_when_the_registry_returns_to_what_it_holds() {
    assert_eq!(refused_after(&[Some("1"), Some("!2")]).len(), 1);
    assert_eq!(refused_after(&[Some("1"), Some("!2"), Some("1")]), BTreeSet::new());
}

#[test]
fn a_refusal_ends_at_the_client_when_its_resource_is_gone() {
    assert_eq!(refused_after(&[Some("!1"), None]), BTreeSet::new());
    assert_eq!(refused_after(&[Some("1"), Some("!2"), None]), BTreeSet::new());
}
