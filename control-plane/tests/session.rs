//! The session machine against every failure of the catalogue, and against chance.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use trunkline::TypeTable as _;
use trunkline::discovery::v1::{Refusal, StreamResourcesRequest, StreamResourcesResponse};
use trunkline::edge::v1::StreamType;
use trunkline_control_plane::discovery::session::{Action, Event, Progress, Session};
use trunkline_control_plane::snapshot::content::{Item, Items, Snapshot, TYPES};

fn snapshot(revision: i64, items: &[(StreamType, &str, &str)]) -> Arc<Snapshot> {
    let mut types: [Items; TYPES] = Default::default();
    for (kind, name, body) in items {
        types[kind.index()].insert((*name).into(), Item::new(body.as_bytes().to_vec()).into());
    }
    Arc::new(Snapshot::new(revision, types.map(Arc::new)))
}

fn subscribe(kind: StreamType) -> StreamResourcesRequest {
    StreamResourcesRequest {
        type_url: kind.url().to_owned(),
        subscribe: vec!["*".to_owned()],
        ..Default::default()
    }
}

fn ack(response: &StreamResourcesResponse) -> Event {
    Event::Request(StreamResourcesRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    })
}

fn nack(response: &StreamResourcesResponse, name: &str) -> Event {
    Event::Request(StreamResourcesRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        refusals: vec![Refusal { name: name.to_owned(), reason: "no".to_owned() }],
        ..Default::default()
    })
}

fn sent(actions: Vec<Action>) -> Vec<StreamResourcesResponse> {
    let responses = actions.into_iter().filter_map(|action| match action {
        Action::Send(response) if !response.type_url.is_empty() => Some(response),
        _ => None,
    });
    responses.collect()
}

fn progress(actions: &[Action]) -> Option<&Progress> {
    actions.iter().rev().find_map(|action| match action {
        Action::Progress(progress) => Some(progress),
        _ => None,
    })
}

/// `+name` and `-name`, type by type.
fn summary(responses: &[StreamResourcesResponse]) -> Vec<String> {
    let of = |response: &StreamResourcesResponse| {
        let kind = response.type_url.rsplit('.').next().unwrap().to_owned();
        let added = response.resources.iter().map(|resource| format!("+{}", resource.name));
        let removed = response.removed.iter().map(|name| format!("-{name}"));
        format!("{kind} {}", added.chain(removed).collect::<Vec<_>>().join(" "))
    };
    responses.iter().map(of).collect()
}

/// A session whose edge has subscribed to everything and acknowledged all of `start`.
fn settled(start: &Arc<Snapshot>) -> Session {
    let mut session = Session::new("s", start.clone());
    let mut queue: VecDeque<Event> =
        StreamType::ALL.iter().map(|&kind| Event::Request(subscribe(kind))).collect();
    while let Some(event) = queue.pop_front() {
        queue.extend(sent(session.on(event)).iter().map(ack));
    }
    session
}

#[test]
fn additions_go_in_push_order_and_removals_in_reverse_after_the_acks() {
    let old = snapshot(
        1,
        &[(StreamType::Upstream, "u1", "1"), (StreamType::Tool, "t1", "1"), (StreamType::Server, "s", "t1")],
    );
    let new = snapshot(
        2,
        &[(StreamType::Upstream, "u2", "1"), (StreamType::Tool, "t2", "1"), (StreamType::Server, "s", "t2")],
    );
    let mut session = settled(&old);
    let additions = sent(session.on(Event::Snapshot(new)));
    assert_eq!(summary(&additions), ["Upstream +u2", "Tool +t2", "Server +s"]);
    assert_eq!(summary(&sent(session.on(ack(&additions[0])))), [""; 0]);
    assert_eq!(summary(&sent(session.on(ack(&additions[2])))), [""; 0]);
    let removals = sent(session.on(ack(&additions[1])));
    assert_eq!(summary(&removals), ["Tool -t1", "Upstream -u1"]);
}

#[test]
fn a_type_waits_while_one_before_it_has_something_unsent() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1")]));
    let first = sent(session.on(Event::Snapshot(snapshot(2, &[(StreamType::Tool, "t", "2")]))));
    assert_eq!(summary(&first), ["Tool +t"]);
    // The tool is out already, so its next version waits, and so does the server that leads to it.
    let next = snapshot(3, &[(StreamType::Tool, "t", "3"), (StreamType::Server, "s", "t")]);
    assert!(sent(session.on(Event::Snapshot(next))).is_empty());
    assert_eq!(summary(&sent(session.on(ack(&first[0])))), ["Tool +t", "Server +s"]);
}

#[test]
fn changes_coalesce_behind_the_one_response_that_is_out() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1")]));
    let first = sent(session.on(Event::Snapshot(snapshot(2, &[(StreamType::Tool, "t", "2")]))));
    for revision in 3..100 {
        let body = revision.to_string();
        assert!(
            sent(session.on(Event::Snapshot(snapshot(revision, &[(StreamType::Tool, "t", &body)]))))
                .is_empty()
        );
    }
    let last = sent(session.on(ack(&first[0])));
    assert_eq!(summary(&last), ["Tool +t"]);
    assert_eq!(last[0].resources[0].body.as_ref().unwrap().value, b"99");
    assert_eq!(last[0].revision, 99);
}

#[test]
fn a_refused_version_is_not_sent_again_until_it_changes() {
    let mut session = settled(&snapshot(1, &[(StreamType::Server, "s", "1")]));
    let bad = sent(session.on(Event::Snapshot(snapshot(2, &[(StreamType::Server, "s", "bad")]))));
    let actions = session.on(nack(&bad[0], "s"));
    let stand = progress(&actions).unwrap();
    assert_eq!((stand.sent, stand.answered, stand.acked), (2, 2, 1));
    assert_eq!(stand.refusals[0].refusal.as_ref().unwrap().reason, "no");
    assert_eq!(stand.refusals[0].type_url, StreamType::Server.url());
    for revision in 3..10 {
        let same = snapshot(revision, &[(StreamType::Server, "s", "bad"), (StreamType::Tool, "t", "1")]);
        for response in sent(session.on(Event::Snapshot(same))) {
            assert_eq!(summary(std::slice::from_ref(&response)), ["Tool +t"]);
            session.on(ack(&response));
        }
    }
    let good = sent(session.on(Event::Snapshot(snapshot(
        10,
        &[(StreamType::Server, "s", "good"), (StreamType::Tool, "t", "1")],
    ))));
    assert_eq!(summary(&good), ["Server +s"]);
    let actions = session.on(ack(&good[0]));
    let stand = progress(&actions).unwrap();
    assert_eq!((stand.acked, stand.refusals.len()), (10, 0));
}

#[test]
fn a_refusal_ends_when_the_world_returns_to_what_the_edge_holds() {
    let mut session = settled(&snapshot(1, &[(StreamType::Server, "s", "1")]));
    let bad = sent(session.on(Event::Snapshot(snapshot(2, &[(StreamType::Server, "s", "bad")]))));
    session.on(nack(&bad[0], "s"));
    let actions = session.on(Event::Snapshot(snapshot(3, &[(StreamType::Server, "s", "1")])));
    assert_eq!(progress(&actions).unwrap().acked, 3);
    assert!(sent(actions).is_empty());
}

#[test]
fn a_refusal_is_of_what_was_sent_and_not_of_what_is_newest() {
    let mut session = settled(&snapshot(1, &[(StreamType::Server, "s", "1")]));
    let bad = sent(session.on(Event::Snapshot(snapshot(2, &[(StreamType::Server, "s", "bad")]))));
    session.on(Event::Snapshot(snapshot(3, &[(StreamType::Server, "s", "good")])));
    let good = sent(session.on(nack(&bad[0], "s")));
    assert_eq!(good[0].resources[0].body.as_ref().unwrap().value, b"good");
    // The same refusal once more: its nonce no longer counts.
    assert!(sent(session.on(nack(&bad[0], "s"))).is_empty());
    let actions = session.on(ack(&good[0]));
    assert_eq!(progress(&actions).unwrap().acked, 3);
}

#[test]
fn good_parts_of_a_partly_refused_response_count() {
    let mut session = settled(&snapshot(1, &[]));
    let both = snapshot(2, &[(StreamType::Tool, "bad", "1"), (StreamType::Tool, "good", "1")]);
    let sent_both = sent(session.on(Event::Snapshot(both)));
    session.on(nack(&sent_both[0], "bad"));
    let next = snapshot(3, &[(StreamType::Tool, "bad", "2"), (StreamType::Tool, "good", "1")]);
    assert_eq!(summary(&sent(session.on(Event::Snapshot(next)))), ["Tool +bad"]);
}

#[test]
fn nonces_of_another_stream_acknowledge_nothing() {
    let start = snapshot(1, &[(StreamType::Server, "s", "1")]);
    let mut before = Session::new("one", start.clone());
    let old = sent(before.on(Event::Request(subscribe(StreamType::Server))));
    let mut session = Session::new("two", start);
    let out = sent(session.on(Event::Request(subscribe(StreamType::Server))));
    assert!(progress(&session.on(ack(&old[0]))).is_none());
    assert_eq!(progress(&session.on(ack(&out[0]))).unwrap().acked, 1);
}

#[test]
fn reconnecting_sends_only_what_differs() {
    let start = snapshot(
        7,
        &[
            (StreamType::Tool, "same", "1"),
            (StreamType::Tool, "changed", "2"),
            (StreamType::Tool, "new", "1"),
        ],
    );
    let version = |body: &str| Item::new(body.as_bytes().to_vec()).version.to_string();
    let mut request = subscribe(StreamType::Tool);
    request.initial_versions = BTreeMap::from([
        ("same".to_owned(), version("1")),
        ("changed".to_owned(), version("1")),
        ("gone".to_owned(), version("1")),
    ]);
    let mut session = Session::new("s", start);
    let first = sent(session.on(Event::Request(request)));
    assert_eq!(summary(&first), ["Tool +changed +new"]);
    assert!(sent(session.on(ack(&first[0]))).is_empty());
    // Only now does it have said what it holds of everything, and nothing of that leads to what is gone.
    assert_eq!(summary(&sent(session.on(Event::Request(subscribe(StreamType::Server))))), ["Tool -gone"]);
}

#[test]
fn an_edge_that_holds_everything_hears_so_at_once() {
    let start = snapshot(7, &[(StreamType::Server, "s", "1")]);
    let mut request = subscribe(StreamType::Server);
    let version = start.items(StreamType::Server)["s"].version.to_string();
    request.initial_versions = BTreeMap::from([("s".to_owned(), version)]);
    let actions = Session::new("s", start).on(Event::Request(request));
    let heartbeat = StreamResourcesResponse { revision: 7, ..Default::default() };
    assert_eq!(actions[0], Action::Send(heartbeat));
    assert_eq!(progress(&actions).unwrap().acked, 7);
}

#[test]
fn subscriptions_change_even_with_a_stale_nonce() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1")]));
    let mut request = subscribe(StreamType::Tool);
    request.response_nonce = "stale".to_owned();
    request.subscribe = vec!["nowhere".to_owned()];
    assert_eq!(summary(&sent(session.on(Event::Request(request)))), ["Tool -nowhere"]);
}

#[test]
fn a_name_asked_for_is_answered_although_it_is_known() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1")]));
    let mut request = subscribe(StreamType::Tool);
    request.subscribe = vec!["t".to_owned()];
    assert_eq!(summary(&sent(session.on(Event::Request(request)))), ["Tool +t"]);
}

#[test]
fn what_is_no_longer_asked_for_is_not_sent() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1")]));
    let mut request = subscribe(StreamType::Tool);
    (request.subscribe, request.unsubscribe) = (vec![], vec!["*".to_owned()]);
    assert!(sent(session.on(Event::Request(request))).is_empty());
    assert!(sent(session.on(Event::Snapshot(snapshot(2, &[(StreamType::Tool, "t", "2")])))).is_empty());
    assert_eq!(summary(&sent(session.on(Event::Request(subscribe(StreamType::Tool))))), ["Tool +t"]);
}

#[test]
fn a_response_that_was_superseded_by_a_subscription_is_not_counted_as_held() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1")]));
    let out = sent(session.on(Event::Snapshot(snapshot(2, &[(StreamType::Tool, "t", "2")]))));
    let mut request = subscribe(StreamType::Tool);
    (request.subscribe, request.unsubscribe) = (vec![], vec!["*".to_owned()]);
    session.on(Event::Request(request));
    session.on(ack(&out[0]));
    assert_eq!(summary(&sent(session.on(Event::Request(subscribe(StreamType::Tool))))), ["Tool +t"]);
}

#[test]
fn large_worlds_go_in_pieces_and_what_follows_waits_for_the_last() {
    let body = "x".repeat(400_000);
    let names: Vec<String> = (0..6).map(|number| format!("t{number}")).collect();
    let mut items: Vec<_> =
        names.iter().map(|name| (StreamType::Tool, name.as_str(), body.as_str())).collect();
    items.push((StreamType::Server, "s", "1"));
    let mut session = settled(&snapshot(1, &[]));
    let mut out = sent(session.on(Event::Snapshot(snapshot(2, &items))));
    let mut seen = Vec::new();
    while let Some(response) = out.pop() {
        let bytes = prost::Message::encoded_len(&response);
        assert!(bytes <= 1 << 20, "{bytes}");
        seen.extend(summary(std::slice::from_ref(&response)));
        out.splice(0..0, sent(session.on(ack(&response))).into_iter().rev());
    }
    assert_eq!(seen, ["Tool +t0 +t1", "Tool +t2 +t3", "Tool +t4 +t5", "Server +s"]);
}

#[test]
fn a_token_that_is_gone_is_taken_away_at_once() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1"), (StreamType::Token, "k", "1")]));
    // The tool is never acknowledged.
    assert_eq!(
        summary(&sent(session.on(Event::Snapshot(snapshot(
            2,
            &[(StreamType::Tool, "t", "2"), (StreamType::Token, "k", "1")]
        ))))),
        ["Tool +t"]
    );
    assert_eq!(
        summary(&sent(session.on(Event::Snapshot(snapshot(3, &[(StreamType::Tool, "t", "3")]))))),
        ["Token -k"]
    );
}

#[test]
fn heartbeats_say_that_nothing_is_newer_only_when_that_is_so() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1")]));
    assert_eq!(session.on(Event::Heartbeat).len(), 1);
    session.on(Event::Snapshot(snapshot(2, &[(StreamType::Tool, "t", "2")])));
    session.on(Event::Snapshot(snapshot(3, &[(StreamType::Tool, "t", "3")])));
    assert_eq!(session.on(Event::Heartbeat), []);
}

#[test]
fn draining_is_said_before_the_end() {
    let mut session = settled(&snapshot(5, &[]));
    let draining = StreamResourcesResponse { revision: 5, draining: true, ..Default::default() };
    assert_eq!(session.on(Event::Drain), [Action::Send(draining), Action::Close]);
}

#[test]
fn types_of_other_versions_are_passed_over() {
    let mut session = settled(&snapshot(1, &[]));
    let request = StreamResourcesRequest {
        type_url: "type.googleapis.com/trunkline.edge.v9.Agent".to_owned(),
        subscribe: vec!["*".to_owned()],
        ..Default::default()
    };
    assert_eq!(session.on(Event::Request(request)), []);
}

#[test]
fn a_revision_that_changes_nothing_is_acknowledged_without_a_word() {
    let mut session = settled(&snapshot(1, &[(StreamType::Tool, "t", "1")]));
    let actions = session.on(Event::Snapshot(snapshot(2, &[(StreamType::Tool, "t", "1")])));
    assert_eq!(progress(&actions).unwrap().acked, 2);
    assert!(sent(actions).is_empty());
}

// ---- chance ----

/// An edge as it should be: applies, remembers, refuses what begins with `!`.
#[derive(Default)]
struct Edge {
    held: [BTreeMap<String, (String, String)>; TYPES],
}

impl Edge {
    fn requests(&self) -> Vec<StreamResourcesRequest> {
        let of = |&kind: &StreamType| {
            let held = self.held[kind.index()].iter();
            let initial = held.map(|(name, (version, _))| (name.clone(), version.clone())).collect();
            StreamResourcesRequest { initial_versions: initial, ..subscribe(kind) }
        };
        StreamType::ALL.iter().map(of).collect()
    }

    fn apply(&mut self, response: &StreamResourcesResponse) -> StreamResourcesRequest {
        let held = &mut self.held[StreamType::parse(&response.type_url).unwrap().index()];
        let mut refusals = Vec::new();
        for resource in &response.resources {
            let body = String::from_utf8(resource.body.clone().unwrap().value).unwrap();
            if body.starts_with('!') {
                refusals.push(Refusal { name: resource.name.clone(), reason: "no".to_owned() });
            } else {
                held.insert(resource.name.clone(), (resource.version.clone(), body));
            }
        }
        for name in &response.removed {
            held.remove(name);
        }
        StreamResourcesRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            refusals,
            ..Default::default()
        }
    }

    /// Every server leads to tools that are here.
    fn is_whole(&self) -> bool {
        let tools = &self.held[StreamType::Tool.index()];
        self.held[StreamType::Server.index()].values().all(|(_, tool)| tools.contains_key(tool))
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// The registry becomes this: tools with bodies, servers leading to one of them each.
    Snapshot(Vec<(u8, u8)>, Vec<(u8, u8)>),
    /// The oldest response under way reaches the edge.
    Deliver,
    /// One answer that is under way reaches the control plane: which one is up to chance.
    Answer(usize),
    /// An old answer arrives once more.
    Repeat(usize),
    /// The connection breaks, and all that was under way is lost.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let tools = prop::collection::vec((0..6u8, 0..4u8), 1..6);
    let servers = prop::collection::vec((0..4u8, 0..6u8), 0..4);
    prop_oneof![
        3 => (tools, servers).prop_map(|(tools, servers)| Step::Snapshot(tools, servers)),
        6 => Just(Step::Deliver),
        6 => (0..8usize).prop_map(Step::Answer),
        1 => (0..8usize).prop_map(Step::Repeat),
        1 => Just(Step::Reconnect),
    ]
}

/// The control plane, the edge, and what is under way between them.
struct Play {
    refuse: bool,
    revision: i64,
    stream: u64,
    snapshot: Arc<Snapshot>,
    session: Session,
    edge: Edge,
    down: VecDeque<StreamResourcesResponse>,
    up: Vec<StreamResourcesRequest>,
    said: Vec<StreamResourcesRequest>,
    refused: BTreeSet<(String, String)>,
    acked: i64,
}

impl Play {
    fn new(refuse: bool) -> Self {
        let start = snapshot(1, &[]);
        let mut play = Self {
            refuse,
            revision: 1,
            stream: 0,
            snapshot: start.clone(),
            session: Session::new("0", start),
            edge: Edge::default(),
            down: VecDeque::new(),
            up: Vec::new(),
            said: Vec::new(),
            refused: BTreeSet::new(),
            acked: 0,
        };
        play.reconnect();
        play
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Snapshot(tools, servers) => self.change(&tools, &servers),
            Step::Deliver => self.deliver(),
            Step::Answer(choice) if !self.up.is_empty() => {
                let request = self.up.remove(choice % self.up.len());
                self.answer(request);
            }
            Step::Repeat(choice) if !self.said.is_empty() => {
                let request = self.said[choice % self.said.len()].clone();
                let actions = self.session.on(Event::Request(request));
                self.take(actions);
            }
            Step::Reconnect => self.reconnect(),
            Step::Answer(_) | Step::Repeat(_) => {}
        }
    }

    fn change(&mut self, tools: &[(u8, u8)], servers: &[(u8, u8)]) {
        self.revision += 1;
        let mut items: Vec<(StreamType, String, String)> = Vec::new();
        for (name, body) in tools {
            let bad = if self.refuse && *body == 3 { "!" } else { "" };
            items.push((StreamType::Tool, format!("t{name}"), format!("{bad}{body}")));
        }
        for (name, tool) in servers {
            let leads_to = tools[usize::from(*tool) % tools.len()].0;
            items.push((StreamType::Server, format!("s{name}"), format!("t{leads_to}")));
        }
        let items: Vec<_> =
            items.iter().map(|(kind, name, body)| (*kind, name.as_str(), body.as_str())).collect();
        self.snapshot = snapshot(self.revision, &items);
        let actions = self.session.on(Event::Snapshot(self.snapshot.clone()));
        self.take(actions);
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(response) if !response.type_url.is_empty() => {
                    let out = self.down.iter().map(|other| &other.type_url);
                    let answers = self.up.iter().map(|other| &other.type_url);
                    assert!(out.chain(answers).all(|other| *other != response.type_url), "two are out");
                    for resource in &response.resources {
                        let again = (resource.name.clone(), resource.version.clone());
                        assert!(!self.refused.contains(&again), "{again:?} was refused");
                    }
                    self.down.push_back(response);
                }
                Action::Progress(progress) => self.acked = progress.acked,
                Action::Send(_) | Action::Close => {}
            }
        }
    }

    fn deliver(&mut self) {
        if let Some(response) = self.down.pop_front() {
            self.up.push(self.edge.apply(&response));
            for resource in &response.resources {
                // A newer version of it ends an old refusal.
                self.refused.retain(|(name, _)| *name != resource.name);
            }
            assert!(self.refuse || self.edge.is_whole(), "a server leads nowhere");
        }
    }

    fn answer(&mut self, request: StreamResourcesRequest) {
        self.said.push(request.clone());
        let actions = self.session.on(Event::Request(request));
        self.take(actions);
    }

    fn reconnect(&mut self) {
        self.stream += 1;
        self.session = Session::new(self.stream.to_string(), self.snapshot.clone());
        (self.down, self.up) = Default::default();
        self.refused.clear();
        for request in self.edge.requests() {
            let actions = self.session.on(Event::Request(request));
            self.take(actions);
        }
    }

    fn finish(&mut self) {
        for _ in 0..1_000 {
            self.deliver();
            if let Some(request) = self.up.pop() {
                self.answer(request);
            }
        }
        assert!(self.down.is_empty() && self.up.is_empty(), "it never ends");
        let mut refuses = false;
        for &kind in StreamType::ALL {
            let held = &self.edge.held[kind.index()];
            for (name, item) in self.snapshot.items(kind).iter() {
                let bad = item.body.starts_with(b"!");
                refuses |= bad;
                let holds = held.get(&**name).is_some_and(|(version, _)| *version == *item.version);
                assert_eq!(holds, !bad, "{kind:?} {name}");
            }
            assert!(
                held.keys().all(|name| self.snapshot.items(kind).contains_key(name.as_str())),
                "{kind:?}"
            );
        }
        assert_eq!(self.acked == self.revision, !refuses, "{} of {}", self.acked, self.revision);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_road_leads_to_the_world(refuse: bool, steps in prop::collection::vec(step(), 0..80)) {
        let mut play = Play::new(refuse);
        for step in steps {
            play.step(step);
        }
        play.finish();
    }
}
