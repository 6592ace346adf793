//! The bounds of what a client sends, and of what a server keeps for it: a large client stays within them by itself, and one
//! that does not is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use delta::client::{self, Subscriber};
use delta::server::{Action, Event, Session};
use delta::{MAX_REQUEST_BYTES, Snapshot};
use prost::Message as _;
use prost_types::Any;
use trunkline::TypeTable as _;
use trunkline::discovery::v1::{
    Edge, EdgeRefusal, Refusal, StreamResourcesRequest, StreamResourcesResponse, VersionedResource,
};

use crate::library::{Kind, read, snapshot, subscribe, version};
use crate::map_sink::MapSink;

const LARGE: usize = 20_000;

/// Names as long as those of resources are.
fn names() -> Vec<String> {
    (0..LARGE).map(|number| format!("{}/{number}", "n".repeat(150))).collect()
}

fn books(names: &[String], body: &str) -> Arc<Snapshot<Kind>> {
    snapshot(1, &names.iter().map(|name| (Kind::Book, name.as_str(), body)).collect::<Vec<_>>())
}

fn received(names: &[String], body: &str) -> client::Event {
    let book = |name: &String| VersionedResource {
        name: name.clone(),
        version: version(body),
        body: Some(Any { type_url: Kind::Book.url().to_owned(), value: body.into() }),
    };
    client::Event::Received(StreamResourcesResponse {
        type_url: Kind::Book.url().to_owned(),
        resources: names.iter().map(book).collect(),
        nonce: "n".to_owned(),
        ..Default::default()
    })
}

fn requests(subscriber: &mut Subscriber<MapSink>, event: client::Event) -> Vec<StreamResourcesRequest> {
    let sent = |action| match action {
        client::Action::Send(request) => Some(request),
        _ => None,
    };
    subscriber.on(event).into_iter().filter_map(sent).collect()
}

/// The requests by which a client that holds these books connects.
fn connects(names: &[String]) -> Vec<StreamResourcesRequest> {
    let mut subscriber = Subscriber::new(MapSink::default(), 0);
    subscriber.on(received(names, "1"));
    requests(&mut subscriber, client::Event::Connected(Edge { id: "e1".into(), ..Default::default() }))
}

/// What a session sends of books, and whether it refuses the client.
fn takes(session: &mut Session<Kind>, request: StreamResourcesRequest) -> (Vec<String>, bool) {
    let (mut sent, mut is_refused) = (Vec::new(), false);
    for action in session.on(Event::Request(request)) {
        match action {
            Action::Send(response) => {
                let response = read(&response);
                sent.extend(response.resources.into_iter().map(|resource| format!("+{}", resource.name)));
                sent.extend(response.removed.into_iter().map(|name| format!("-{name}")));
            }
            Action::Refuse { .. } => is_refused = true,
            Action::Progress(_) | Action::Close => {}
        }
    }
    (sent, is_refused)
}

#[test]
fn a_client_that_holds_much_says_so_in_pieces_and_receives_only_what_differs() {
    let held = names();
    let requests = connects(&held);
    assert!(requests.len() > Kind::ALL.len(), "{}", requests.len());
    assert!(requests.iter().all(|request| request.encoded_len() <= MAX_REQUEST_BYTES));
    assert_eq!(requests.iter().filter(|request| request.edge.is_some()).count(), 1);
    assert!(requests[0].edge.is_some());

    let mut registry = (*books(&held[1..], "1")).clone();
    let changed = snapshot(1, &[(Kind::Book, &held[1], "2")]);
    Arc::make_mut(&mut registry.items[Kind::Book])
        .extend(changed.items[Kind::Book].iter().map(|(name, item)| (name.clone(), item.clone())));
    let mut session = Session::new("s", Arc::new(registry));
    let mut sent = Vec::new();
    for request in requests {
        let (more, is_refused) = takes(&mut session, request);
        assert!(!is_refused);
        sent.extend(more);
    }
    assert_eq!(sent, [format!("+{}", held[1])]);
    let ack = StreamResourcesRequest {
        type_url: Kind::Book.url().to_owned(),
        response_nonce: "s.0".to_owned(),
        ..Default::default()
    };
    assert_eq!(takes(&mut session, ack), (vec![format!("-{}", held[0])], false));
}

#[test]
fn reasons_of_refusals_share_one_request() {
    let mut subscriber = Subscriber::new(MapSink::default(), 0);
    let names = &names()[..2_000];
    subscriber.on(received(names, &format!("!{}", "é".repeat(5_000))));
    let [answer] = &requests(&mut subscriber, client::Event::Quiet)[..] else { panic!("one answer") };
    assert_eq!(answer.refusals.len(), names.len(), "each name is there");
    assert!(answer.encoded_len() <= MAX_REQUEST_BYTES, "{}", answer.encoded_len());
    assert!(answer.refusals.iter().all(|refusal| refusal.reason.starts_with("!é")));
}

#[test]
fn a_client_that_claims_what_is_not_there_is_refused_past_a_bound() {
    let claim = |name: String| StreamResourcesRequest {
        type_url: Kind::Book.url().to_owned(),
        initial_versions: BTreeMap::from([(name, "1".to_owned())]),
        ..Default::default()
    };
    let mut session = Session::new("s", snapshot(1, &[]));
    let outcomes =
        (0..40).map(|number| takes(&mut session, claim(format!("{number}{}", "x".repeat(1 << 20)))));
    let refused: Vec<bool> = outcomes.map(|(_, is_refused)| is_refused).collect();
    assert!(!refused[..30].contains(&true) && !refused[33..].contains(&false), "{refused:?}");
}

#[test]
fn a_client_that_asks_for_too_many_names_is_refused() {
    let name = |number: usize| format!("{number}{}", "x".repeat(1 << 20));
    let ask = |subscribe: Vec<String>, unsubscribe: Vec<String>| StreamResourcesRequest {
        type_url: Kind::Book.url().to_owned(),
        subscribe,
        unsubscribe,
        ..Default::default()
    };
    let mut session = Session::new("s", snapshot(1, &[]));
    assert!((0..40).any(|number| takes(&mut session, ask(vec![name(number)], vec![])).1));
    // Names that it takes back do not count, unless there is still an answer to them to be sent.
    let mut session = Session::new("s", snapshot(1, &[]));
    assert!(!(1..80).any(|number| takes(&mut session, ask(vec![name(number)], vec![name(number - 1)])).1));
    let mut session = Session::new("s", snapshot(1, &[]));
    session.on(Event::Request(subscribe(Kind::Book)));
    session.on(Event::Request(subscribe(Kind::List)));
    assert!((1..80).any(|number| takes(&mut session, ask(vec![name(number)], vec![name(number - 1)])).1));
}

#[test]
fn of_many_refusals_the_first_are_told() {
    let names = &names()[..1_000];
    let mut session = Session::new("s", books(names, "1"));
    let refusal = |name: &String| Refusal { name: name.clone(), reason: "no".to_owned() };
    let mut told: Vec<EdgeRefusal> = Vec::new();
    session.on(Event::Request(subscribe(Kind::Book)));
    let refused = StreamResourcesRequest {
        type_url: Kind::Book.url().to_owned(),
        response_nonce: "s.0".to_owned(),
        refusals: names.iter().map(refusal).collect(),
        ..Default::default()
    };
    for action in session.on(Event::Request(refused)) {
        if let Action::Progress(progress) = action {
            told = progress.refusals;
        }
    }
    assert_eq!(told.len(), 100);
    assert!(told.iter().all(|told| told.refusal.as_ref().is_some_and(|refusal| refusal.reason == "no")));
}
