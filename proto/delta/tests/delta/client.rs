//! A subscriber, case by case.

use std::collections::BTreeMap;

use delta::client::{self, Event, Subscriber};
use delta::server::OutgoingResponse;
use prost_types::Any;
use trunkline::TypeTable as _;
use trunkline::discovery::v1::{Edge, StreamResourcesResponse, VersionedResource};

use crate::library::{Kind, read, version};
use crate::map_sink::MapSink;

type Action = client::Action<MapSink>;

fn subscriber() -> Subscriber<MapSink> {
    Subscriber::new(MapSink::default(), 0)
}

fn connected() -> Event {
    Event::Connected(Edge { id: "e1".into(), ..Default::default() })
}

fn book(name: &str, body: &str) -> VersionedResource {
    VersionedResource {
        name: name.into(),
        version: version(body),
        body: Some(Any { type_url: Kind::Book.url().to_owned(), value: body.into() }),
    }
}

fn books(nonce: &str, resources: Vec<VersionedResource>, removed: &[&str]) -> Event {
    Event::Received(StreamResourcesResponse {
        type_url: Kind::Book.url().to_owned(),
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
            format!("subscribe {}", Kind::parse(&request.type_url).unwrap().name())
        }
        Action::Send(request) if request.refusals.is_empty() => format!("ack {}", request.response_nonce),
        Action::Send(request) => {
            let names: Vec<&str> = request.refusals.iter().map(|r| r.name.as_str()).collect();
            format!("nack {} {}", request.response_nonce, names.join(" "))
        }
        Action::Publish(compiled) => format!("publish {}", compiled.revision),
        Action::Contact(_) => "contact".into(),
        Action::AwaitQuiet => "await".into(),
        Action::Ready => "ready".into(),
        Action::Refused(refusal) => format!("refused {}", refusal.name),
        Action::Leave => "leave".into(),
    };
    actions.iter().map(word).collect()
}

/// The versions of books that a new stream claims.
fn claimed(actions: &[Action]) -> BTreeMap<String, String> {
    let request = actions.iter().find_map(|action| match action {
        Action::Send(request) if request.type_url == Kind::Book.url() => Some(request),
        _ => None,
    });
    request.expect("a subscription to books").initial_versions.clone()
}

#[test]
fn it_subscribes_in_push_order_and_says_once_who_it_is() {
    let mut subscriber = subscriber();
    let actions = subscriber.on(connected());
    assert_eq!(words(&actions), ["subscribe Author", "subscribe Book", "subscribe Card", "subscribe List"]);
    let edges = actions.iter().filter(|a| matches!(a, Action::Send(request) if request.edge.is_some()));
    assert_eq!(edges.count(), 1);
    assert!(matches!(&actions[0], Action::Send(request) if request.edge.as_ref().unwrap().id == "e1"));
}

#[test]
fn a_burst_is_published_once_and_acknowledged_after_that() {
    let mut subscriber = subscriber();
    subscriber.on(connected());
    assert_eq!(words(&subscriber.on(books("n1", vec![book("a", "1")], &[]))), ["contact", "await"]);
    assert_eq!(words(&subscriber.on(books("n2", vec![book("b", "1")], &[]))), ["contact", "await"]);
    assert_eq!(words(&subscriber.on(Event::Quiet)), ["publish 5", "ack n1", "ack n2"]);
    assert_eq!(words(&subscriber.on(Event::Quiet)), [""; 0]);
}

#[test]
fn it_is_ready_when_the_server_has_nothing_newer_and_all_is_in_force() {
    let mut subscriber = subscriber();
    subscriber.on(connected());
    subscriber.on(books("n1", vec![book("a", "1")], &[]));
    assert_eq!(words(&subscriber.on(heartbeat(false))), ["contact", "await"]);
    assert_eq!(words(&subscriber.on(Event::Quiet)), ["publish 5", "ack n1", "ready"]);
    assert_eq!(words(&subscriber.on(heartbeat(false))), ["contact"], "once");
}

/// A registry that was restored from a backup has an earlier revision than the client has heard of.
#[test]
fn the_revision_is_that_of_the_server_also_where_it_is_earlier() {
    let mut from_copy = Subscriber::new(MapSink::default(), 8);
    from_copy.start_from_accepted();
    from_copy.on(connected());
    from_copy.on(books("n1", vec![book("a", "1")], &[]));
    assert_eq!(words(&from_copy.on(Event::Quiet)), ["publish 5", "ack n1"]);

    let mut unchanged = Subscriber::new(MapSink::default(), 8);
    unchanged.start_from_accepted();
    unchanged.on(connected());
    assert_eq!(words(&unchanged.on(heartbeat(false))), ["contact", "await"]);
    assert_eq!(words(&unchanged.on(Event::Quiet)), ["publish 5"]);
    assert_eq!(words(&unchanged.on(heartbeat(false))), ["contact"]);
}

#[test]
fn an_empty_server_makes_a_client_ready_too() {
    let mut subscriber = subscriber();
    subscriber.on(connected());
    assert_eq!(words(&subscriber.on(heartbeat(false))), ["contact", "ready"]);
}

#[test]
fn what_is_bad_is_refused_by_name_and_what_is_good_is_accepted() {
    let mut subscriber = subscriber();
    subscriber.on(connected());
    let actions = subscriber.on(books("n1", vec![book("a", "1"), book("b", "!2")], &[]));
    assert_eq!(words(&actions), ["contact", "refused b", "await"]);
    assert_eq!(words(&subscriber.on(Event::Quiet)), ["publish 5", "nack n1 b"]);

    // The last good version of what is refused later stays, and is what is claimed.
    subscriber.on(books("n2", vec![book("a", "!2")], &[]));
    subscriber.on(Event::Quiet);
    subscriber.on(Event::Disconnected);
    assert_eq!(claimed(&subscriber.on(connected())), [("a".to_owned(), "v1".to_owned())].into());
}

#[test]
fn what_a_response_names_twice_is_refused() {
    let mut subscriber = subscriber();
    subscriber.on(books("n0", vec![book("b", "1")], &[]));
    let resources = vec![book("a", "1"), book("a", "2"), book("c", "1"), book("b", "2")];
    let actions = subscriber.on(books("n1", resources, &["b"]));
    assert_eq!(words(&actions), ["contact", "refused a", "refused b", "await"]);
    let accepted: Vec<&String> = subscriber.sink().accepted[Kind::Book].keys().collect();
    assert_eq!(accepted, ["b", "c"]);
}

#[test]
fn bodies_of_another_type_without_version_or_missing_are_refused() {
    let mut subscriber = subscriber();
    let mut other = book("a", "1");
    other.body.as_mut().unwrap().type_url = Kind::List.url().to_owned();
    let unversioned = VersionedResource { version: String::new(), ..book("b", "1") };
    let missing = VersionedResource { body: None, ..book("c", "1") };
    let actions = subscriber.on(books("n1", vec![other, unversioned, missing], &[]));
    assert_eq!(words(&actions), ["contact", "refused a", "refused b", "refused c", "await"]);
}

#[test]
fn a_server_that_stops_is_left() {
    assert_eq!(words(&subscriber().on(heartbeat(true))), ["contact", "leave"]);
}

#[test]
fn types_of_other_versions_are_passed_over() {
    let response = StreamResourcesResponse {
        type_url: "type.googleapis.com/library.v9.Film".into(),
        nonce: "n".into(),
        ..Default::default()
    };
    assert_eq!(words(&subscriber().on(Event::Received(response))), ["contact"]);
}

#[test]
fn a_sign_that_it_has_to_wait_is_no_contact_to_count_from() {
    let waiting = read(&OutgoingResponse::waiting());
    let actions = subscriber().on(Event::Received(waiting));
    assert!(matches!(actions[..], [Action::Contact(Some(0))]), "{actions:?}");
}

#[test]
fn nothing_is_acknowledged_on_another_stream_and_nothing_accepted_is_lost() {
    let mut subscriber = subscriber();
    subscriber.on(connected());
    subscriber.on(books("n1", vec![book("a", "1")], &[]));
    assert_eq!(words(&subscriber.on(Event::Disconnected)), ["publish 5"]);
    assert_eq!(claimed(&subscriber.on(connected())).len(), 1);
    assert_eq!(words(&subscriber.on(Event::Quiet)), [""; 0]);
}

#[test]
fn a_start_from_a_copy_needs_no_server_to_be_ready() {
    let mut subscriber = Subscriber::new(MapSink::default(), 5);
    assert_eq!(subscriber.start_from_accepted().revision, 5);
    subscriber.on(connected());
    assert_eq!(words(&subscriber.on(heartbeat(false))), ["contact"]);
}
