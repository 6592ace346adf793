//! A session against every failure of the catalogue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use delta::Snapshot;
use delta::server::{Action, Event, Progress, Session};
use trunkline::TypeTable as _;
use trunkline::discovery::v1::{Refusal, StreamResourcesRequest, StreamResourcesResponse};

use crate::library::{Kind, read, snapshot, subscribe, version};

fn ack(response: &StreamResourcesResponse) -> Event<Kind> {
    Event::Request(StreamResourcesRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    })
}

fn nack(response: &StreamResourcesResponse, name: &str) -> Event<Kind> {
    Event::Request(StreamResourcesRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        refusals: vec![Refusal { name: name.to_owned(), reason: "no".to_owned() }],
        ..Default::default()
    })
}

fn sent(actions: Vec<Action>) -> Vec<StreamResourcesResponse> {
    let responses = actions.into_iter().filter_map(|action| match action {
        Action::Send(response) => Some(read(&response)).filter(|response| !response.type_url.is_empty()),
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

/// A session whose client has subscribed to everything and acknowledged all of `start`.
fn up_to_date(start: &Arc<Snapshot<Kind>>) -> Session<Kind> {
    let mut session = Session::new("s", start.clone());
    let mut queue: VecDeque<Event<Kind>> =
        Kind::ALL.iter().map(|&kind| Event::Request(subscribe(kind))).collect();
    while let Some(event) = queue.pop_front() {
        queue.extend(sent(session.on(event)).iter().map(ack));
    }
    session
}

#[test]
fn additions_go_in_push_order_and_removals_in_reverse_after_the_acks() {
    let old = snapshot(1, &[(Kind::Author, "a1", "1"), (Kind::Book, "b1", "1"), (Kind::List, "l", "b1")]);
    let new = snapshot(2, &[(Kind::Author, "a2", "1"), (Kind::Book, "b2", "1"), (Kind::List, "l", "b2")]);
    let mut session = up_to_date(&old);
    let additions = sent(session.on(Event::Snapshot(new)));
    assert_eq!(summary(&additions), ["Author +a2", "Book +b2", "List +l"]);
    assert_eq!(summary(&sent(session.on(ack(&additions[0])))), [""; 0]);
    assert_eq!(summary(&sent(session.on(ack(&additions[2])))), [""; 0]);
    let removals = sent(session.on(ack(&additions[1])));
    assert_eq!(summary(&removals), ["Book -b1", "Author -a1"]);
}

#[test]
fn a_type_waits_while_one_before_it_has_something_unsent() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1")]));
    let first = sent(session.on(Event::Snapshot(snapshot(2, &[(Kind::Book, "b", "2")]))));
    assert_eq!(summary(&first), ["Book +b"]);
    // The book is out already, so its next version waits, and so does the list that leads to it.
    let next = snapshot(3, &[(Kind::Book, "b", "3"), (Kind::List, "l", "b")]);
    assert!(sent(session.on(Event::Snapshot(next))).is_empty());
    assert_eq!(summary(&sent(session.on(ack(&first[0])))), ["Book +b", "List +l"]);
}

#[test]
fn changes_coalesce_behind_the_one_response_that_is_out() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1")]));
    let first = sent(session.on(Event::Snapshot(snapshot(2, &[(Kind::Book, "b", "2")]))));
    for revision in 3..100 {
        let body = revision.to_string();
        assert!(
            sent(session.on(Event::Snapshot(snapshot(revision, &[(Kind::Book, "b", &body)])))).is_empty()
        );
    }
    let last = sent(session.on(ack(&first[0])));
    assert_eq!(summary(&last), ["Book +b"]);
    assert_eq!(last[0].resources[0].body.as_ref().unwrap().value, b"99");
    assert_eq!(last[0].revision, 99);
}

#[test]
fn a_refused_version_is_not_sent_again_until_it_changes() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::List, "l", "1")]));
    let bad = sent(session.on(Event::Snapshot(snapshot(2, &[(Kind::List, "l", "bad")]))));
    let actions = session.on(nack(&bad[0], "l"));
    let stand = progress(&actions).unwrap();
    assert_eq!((stand.sent, stand.answered, stand.acked), (2, 2, 1));
    assert_eq!(stand.refusals[0].refusal.as_ref().unwrap().reason, "no");
    assert_eq!(stand.refusals[0].type_url, Kind::List.url());
    for revision in 3..10 {
        let same = snapshot(revision, &[(Kind::List, "l", "bad"), (Kind::Book, "b", "1")]);
        for response in sent(session.on(Event::Snapshot(same))) {
            assert_eq!(summary(std::slice::from_ref(&response)), ["Book +b"]);
            session.on(ack(&response));
        }
    }
    let good =
        sent(session.on(Event::Snapshot(snapshot(10, &[(Kind::List, "l", "good"), (Kind::Book, "b", "1")]))));
    assert_eq!(summary(&good), ["List +l"]);
    let actions = session.on(ack(&good[0]));
    let stand = progress(&actions).unwrap();
    assert_eq!((stand.acked, stand.refusals.len()), (10, 0));
}

#[test]
fn what_is_too_large_is_left_out_by_name_and_everything_else_goes_on() {
    let large = "x".repeat(delta::MAX_RESOURCE_BYTES + 1);
    let start = snapshot(1, &[(Kind::List, "l", "1")]);
    let mut session = up_to_date(&start);
    let next = snapshot(2, &[(Kind::Book, "b", "1"), (Kind::List, "l", &large), (Kind::List, "m", "b")]);
    let responses = sent(session.on(Event::Snapshot(next.clone())));
    assert_eq!(summary(&responses), ["Book +b", "List +m"]);
    session.on(ack(&responses[0]));
    let actions = session.on(ack(&responses[1]));
    let stand = progress(&actions).unwrap().clone();
    assert_eq!((stand.sent, stand.answered, stand.acked, stand.refusals.len()), (2, 2, 1, 1));
    // What the client holds of it is not taken away.
    assert_eq!(summary(&sent(actions)), [""; 0]);
    let refusal = stand.refusals[0].refusal.as_ref().unwrap();
    assert_eq!(refusal.name, "l");
    assert_eq!(
        refusal.reason,
        "it is too large to be sent: 31457281 bytes, and at most 31457280 are sent; make it smaller, or split it"
    );
    // So it is for a client that comes later, or comes back.
    let mut fresh = up_to_date(&next);
    assert_eq!(summary(&sent(fresh.on(Event::Request(subscribe(Kind::List))))), [""; 0]);
    let smaller = snapshot(3, &[(Kind::Book, "b", "1"), (Kind::List, "l", "2"), (Kind::List, "m", "b")]);
    for session in [&mut session, &mut fresh] {
        let responses = sent(session.on(Event::Snapshot(smaller.clone())));
        assert_eq!(summary(&responses), ["List +l"]);
        let actions = session.on(ack(&responses[0]));
        let stand = progress(&actions).unwrap();
        assert_eq!((stand.acked, stand.refusals.len()), (3, 0));
    }
}

#[test]
fn the_largest_resource_fits_into_a_response() {
    let name = "n".repeat(2_048);
    let mut largest = Snapshot { revision: 1, ..Snapshot::default() };
    let body = vec![b'x'; delta::MAX_RESOURCE_BYTES];
    let item = delta::Item::new(Kind::List, &name, "v", 1, body);
    let mut items = delta::Items::new();
    items.insert(name.as_str().into(), item.into());
    largest.items[Kind::List] = items.into();
    let mut session = Session::new("s", Arc::new(largest));
    let responses = sent(session.on(Event::Request(subscribe(Kind::List))));
    let bytes: Vec<usize> = responses.iter().map(prost::Message::encoded_len).collect();
    assert!(matches!(bytes[..], [bytes] if bytes <= delta::MAX_MESSAGE_BYTES), "{bytes:?}");
}

#[test]
fn a_refusal_ends_when_the_registry_returns_to_what_the_client_holds() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::List, "l", "1")]));
    let bad = sent(session.on(Event::Snapshot(snapshot(2, &[(Kind::List, "l", "bad")]))));
    session.on(nack(&bad[0], "l"));
    let actions = session.on(Event::Snapshot(snapshot(3, &[(Kind::List, "l", "1")])));
    assert_eq!(progress(&actions).unwrap().refusals, []);
    // What it holds is sent again, because the last that it was sent, it refused.
    let again = sent(actions);
    assert_eq!(summary(&again), ["List +l"]);
    let actions = session.on(ack(&again[0]));
    assert_eq!(progress(&actions).unwrap().acked, 3);
    assert!(sent(actions).is_empty());
}

#[test]
fn a_refusal_ends_when_its_resource_is_gone() {
    let mut session = up_to_date(&snapshot(1, &[]));
    let bad = sent(session.on(Event::Snapshot(snapshot(2, &[(Kind::List, "l", "bad")]))));
    session.on(nack(&bad[0], "l"));
    let gone = sent(session.on(Event::Snapshot(snapshot(3, &[]))));
    assert_eq!(summary(&gone), ["List -l"]);
    assert_eq!(progress(&session.on(ack(&gone[0]))).unwrap().acked, 3);
}

#[test]
fn a_refusal_is_of_what_was_sent_and_not_of_what_is_newest() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::List, "l", "1")]));
    let bad = sent(session.on(Event::Snapshot(snapshot(2, &[(Kind::List, "l", "bad")]))));
    session.on(Event::Snapshot(snapshot(3, &[(Kind::List, "l", "good")])));
    let good = sent(session.on(nack(&bad[0], "l")));
    assert_eq!(good[0].resources[0].body.as_ref().unwrap().value, b"good");
    // The same refusal once more: its nonce no longer counts.
    assert!(sent(session.on(nack(&bad[0], "l"))).is_empty());
    let actions = session.on(ack(&good[0]));
    assert_eq!(progress(&actions).unwrap().acked, 3);
}

#[test]
fn good_parts_of_a_partly_refused_response_count() {
    let mut session = up_to_date(&snapshot(1, &[]));
    let both = snapshot(2, &[(Kind::Book, "bad", "1"), (Kind::Book, "good", "1")]);
    let sent_both = sent(session.on(Event::Snapshot(both)));
    session.on(nack(&sent_both[0], "bad"));
    let next = snapshot(3, &[(Kind::Book, "bad", "2"), (Kind::Book, "good", "1")]);
    assert_eq!(summary(&sent(session.on(Event::Snapshot(next)))), ["Book +bad"]);
}

#[test]
fn nonces_of_another_stream_acknowledge_nothing() {
    let start = snapshot(1, &[(Kind::List, "l", "1")]);
    let mut before = Session::new("one", start.clone());
    let old = sent(before.on(Event::Request(subscribe(Kind::List))));
    let mut session = Session::new("two", start);
    let out = sent(session.on(Event::Request(subscribe(Kind::List))));
    assert!(progress(&session.on(ack(&old[0]))).is_none());
    assert_eq!(progress(&session.on(ack(&out[0]))).unwrap().acked, 1);
}

#[test]
fn reconnecting_sends_only_what_differs() {
    let start =
        snapshot(7, &[(Kind::Book, "same", "1"), (Kind::Book, "changed", "2"), (Kind::Book, "new", "1")]);
    let mut request = subscribe(Kind::Book);
    request.initial_versions = BTreeMap::from([
        ("same".to_owned(), version("1")),
        ("changed".to_owned(), version("1")),
        ("gone".to_owned(), version("1")),
    ]);
    let mut session = Session::new("s", start);
    let first = sent(session.on(Event::Request(request)));
    assert_eq!(summary(&first), ["Book +changed +new"]);
    assert!(sent(session.on(ack(&first[0]))).is_empty());
    // Only now does it have said what it holds of everything, and nothing of that leads to what is gone.
    assert_eq!(summary(&sent(session.on(Event::Request(subscribe(Kind::List))))), ["Book -gone"]);
}

#[test]
fn a_client_that_holds_everything_is_told_at_once() {
    let start = snapshot(7, &[(Kind::List, "l", "1")]);
    let mut request = subscribe(Kind::List);
    let version = start.items[Kind::List]["l"].version.to_string();
    request.initial_versions = BTreeMap::from([("l".to_owned(), version)]);
    let actions = Session::new("s", start).on(Event::Request(request));
    let heartbeat = StreamResourcesResponse { revision: 7, ..Default::default() };
    assert!(matches!(&actions[0], Action::Send(response) if read(response) == heartbeat));
    assert_eq!(progress(&actions).unwrap().acked, 7);
}

#[test]
fn subscriptions_change_even_with_a_stale_nonce() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1")]));
    let mut request = subscribe(Kind::Book);
    request.response_nonce = "stale".to_owned();
    request.subscribe = vec!["nowhere".to_owned()];
    assert_eq!(summary(&sent(session.on(Event::Request(request)))), ["Book -nowhere"]);
}

#[test]
fn a_name_asked_for_is_answered_although_it_is_known() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1")]));
    let mut request = subscribe(Kind::Book);
    request.subscribe = vec!["b".to_owned()];
    assert_eq!(summary(&sent(session.on(Event::Request(request)))), ["Book +b"]);
}

#[test]
fn what_is_no_longer_asked_for_is_not_sent() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1")]));
    let mut request = subscribe(Kind::Book);
    (request.subscribe, request.unsubscribe) = (vec![], vec!["*".to_owned()]);
    assert!(sent(session.on(Event::Request(request))).is_empty());
    assert!(sent(session.on(Event::Snapshot(snapshot(2, &[(Kind::Book, "b", "2")])))).is_empty());
    assert_eq!(summary(&sent(session.on(Event::Request(subscribe(Kind::Book))))), ["Book +b"]);
}

#[test]
fn a_response_that_was_superseded_by_a_subscription_is_not_counted_as_held() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1")]));
    let out = sent(session.on(Event::Snapshot(snapshot(2, &[(Kind::Book, "b", "2")]))));
    let mut request = subscribe(Kind::Book);
    (request.subscribe, request.unsubscribe) = (vec![], vec!["*".to_owned()]);
    session.on(Event::Request(request));
    session.on(ack(&out[0]));
    assert_eq!(summary(&sent(session.on(Event::Request(subscribe(Kind::Book))))), ["Book +b"]);
}

#[test]
fn large_snapshots_go_in_pieces_and_what_follows_waits_for_the_last() {
    let body = "x".repeat(400_000);
    let names: Vec<String> = (0..6).map(|number| format!("b{number}")).collect();
    let mut items: Vec<_> = names.iter().map(|name| (Kind::Book, name.as_str(), body.as_str())).collect();
    items.push((Kind::List, "l", "1"));
    let mut session = up_to_date(&snapshot(1, &[]));
    let mut out = sent(session.on(Event::Snapshot(snapshot(2, &items))));
    let mut seen = Vec::new();
    while let Some(response) = out.pop() {
        let bytes = prost::Message::encoded_len(&response);
        assert!(bytes <= 1 << 20, "{bytes}");
        seen.extend(summary(std::slice::from_ref(&response)));
        out.splice(0..0, sent(session.on(ack(&response))).into_iter().rev());
    }
    assert_eq!(seen, ["Book +b0 +b1", "Book +b2 +b3", "Book +b4 +b5", "List +l"]);
}

#[test]
fn a_removal_that_must_not_wait_is_sent_at_once() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1"), (Kind::Card, "c", "1")]));
    // The book is never acknowledged.
    assert_eq!(
        summary(&sent(
            session.on(Event::Snapshot(snapshot(2, &[(Kind::Book, "b", "2"), (Kind::Card, "c", "1")])))
        )),
        ["Book +b"]
    );
    assert_eq!(
        summary(&sent(session.on(Event::Snapshot(snapshot(3, &[(Kind::Book, "b", "3")]))))),
        ["Card -c"]
    );
}

#[test]
fn heartbeats_say_that_nothing_is_newer_only_when_that_is_so() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1")]));
    assert_eq!(session.on(Event::Heartbeat).len(), 1);
    session.on(Event::Snapshot(snapshot(2, &[(Kind::Book, "b", "2")])));
    session.on(Event::Snapshot(snapshot(3, &[(Kind::Book, "b", "3")])));
    assert_eq!(session.on(Event::Heartbeat), []);
}

#[test]
fn draining_is_said_before_the_end() {
    let mut session = up_to_date(&snapshot(5, &[]));
    let draining = StreamResourcesResponse { revision: 5, draining: true, ..Default::default() };
    let actions = session.on(Event::Drain);
    assert!(
        matches!(&actions[..], [Action::Send(response), Action::Close] if read(response) == draining),
        "{actions:?}"
    );
}

#[test]
fn types_of_other_versions_are_passed_over() {
    let mut session = up_to_date(&snapshot(1, &[]));
    let request = StreamResourcesRequest {
        type_url: "type.googleapis.com/library.v9.Film".to_owned(),
        subscribe: vec!["*".to_owned()],
        ..Default::default()
    };
    assert_eq!(session.on(Event::Request(request)), []);
}

#[test]
fn a_revision_that_changes_nothing_is_acknowledged_without_a_response() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "b", "1")]));
    let actions = session.on(Event::Snapshot(snapshot(2, &[(Kind::Book, "b", "1")])));
    assert_eq!(progress(&actions).unwrap().acked, 2);
    assert!(sent(actions).is_empty());
}

#[test]
fn all_clients_are_sent_the_same_bytes_of_a_resource() {
    let start = snapshot(1, &[(Kind::Book, "b", "1"), (Kind::Book, "c", "2")]);
    let bytes = |stream: &str, held: &[(&str, &str)]| {
        let initial_versions = held.iter().map(|(name, body)| ((*name).to_owned(), version(body))).collect();
        let request = StreamResourcesRequest { initial_versions, ..subscribe(Kind::Book) };
        let actions = Session::new(stream, start.clone()).on(Event::Request(request));
        let Action::Send(response) = &actions[0] else { panic!("{actions:?}") };
        response.resources().iter().map(|item| item.field().as_ptr()).collect::<Vec<_>>()
    };
    let all = bytes("s1", &[]);
    assert_eq!(all.len(), 2);
    assert_eq!(bytes("s2", &[]), all);
    assert_eq!(bytes("s3", &[("b", "1"), ("c", "1")]), all[1..]);
}

#[test]
fn what_is_refused_for_longer_holds_back_no_later_revision() {
    let mut session = up_to_date(&snapshot(1, &[(Kind::Book, "a", "1")]));
    let bad = snapshot(2, &[(Kind::Book, "a", "1"), (Kind::Book, "b", "2")]);
    let responses = sent(session.on(Event::Snapshot(bad.clone())));
    let actions = session.on(nack(&responses[0], "b"));
    let stand = progress(&actions).unwrap();
    assert_eq!((stand.answered, stand.acked, stand.refusals[0].revision), (2, 1, 2));

    let mut later = snapshot(3, &[(Kind::Book, "a", "3")]);
    let kept = bad.items[Kind::Book]["b"].clone();
    Arc::make_mut(&mut Arc::make_mut(&mut later).items[Kind::Book]).insert("b".into(), kept);
    let responses = sent(session.on(Event::Snapshot(later)));
    assert_eq!(summary(&responses), ["Book +a"]);
    let actions = session.on(ack(&responses[0]));
    let stand = progress(&actions).unwrap();
    assert_eq!((stand.answered, stand.acked, stand.refusals.len()), (3, 3, 1));
}

#[test]
fn of_many_refusals_those_that_changed_last_are_reported() {
    let mut session = up_to_date(&snapshot(1, &[]));
    let names: Vec<String> = (0..130).map(|number| format!("b{number:03}")).collect();
    let many = snapshot(2, &names.iter().map(|name| (Kind::Book, name.as_str(), "x")).collect::<Vec<_>>());
    let refuse_all = |response: &StreamResourcesResponse| {
        let refusal = |name: &String| Refusal { name: name.clone(), reason: "not to my taste".to_owned() };
        let names = response.resources.iter().map(|resource| &resource.name);
        Event::Request(StreamResourcesRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            refusals: names.map(refusal).collect(),
            ..Default::default()
        })
    };
    let responses = sent(session.on(Event::Snapshot(many.clone())));
    session.on(refuse_all(&responses[0]));
    let mut next = (*many).clone();
    next.revision = 3;
    let last = snapshot(3, &[(Kind::Book, "b129", "y"), (Kind::List, "l", "z")]);
    for kind in [Kind::Book, Kind::List] {
        let changed = last.items[kind].iter().map(|(name, item)| (name.clone(), item.clone()));
        Arc::make_mut(&mut next.items[kind]).extend(changed);
    }
    let responses = sent(session.on(Event::Snapshot(Arc::new(next))));
    session.on(refuse_all(&responses[0]));
    let actions = session.on(refuse_all(&responses[1]));
    let stand = progress(&actions).unwrap();
    let named =
        |name: &str| stand.refusals.iter().any(|refusal| refusal.refusal.as_ref().unwrap().name == name);
    assert_eq!((stand.refusals.len(), stand.acked, stand.answered), (100, 1, 3));
    assert!(named("b129") && named("l"), "{stand:?}");
}

#[test]
fn a_session_is_settled_when_all_that_it_sent_is_answered() {
    let start = snapshot(1, &[(Kind::List, "l", "1")]);
    let mut session = Session::new("s", start);
    let mut responses = Vec::new();
    for &kind in Kind::ALL {
        assert!(!session.is_settled(), "before {kind:?}");
        responses.extend(sent(session.on(Event::Request(subscribe(kind)))));
    }
    assert!(!session.is_settled(), "it has not answered");
    session.on(ack(&responses[0]));
    assert!(session.is_settled());
}
