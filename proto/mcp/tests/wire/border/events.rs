use bytes::Bytes;
use mcp::border::events::{MAX_SKIPPED, MAX_SKIPPED_BYTES, take};
use mcp::border::{Skipped, Take};
use mcp::quirk::Quirk;
use mcp::sse::Event;

fn event(kind: Option<&'static str>, data: &'static str) -> Event {
    Event {
        event: kind.map(|kind| Bytes::from_static(kind.as_bytes())),
        data: data.into(),
        ..Event::default()
    }
}

#[test]
fn only_events_of_type_message_carry_messages() {
    for (kind, data, taken) in [
        (None, "{}", "message"),
        (Some("message"), "{}", "message"),
        (Some(""), "{}", "message"),
        (None, "noise", "message"),
        (None, "", "nothing"),
        (None, " \t", "nothing"),
        (Some("message"), "", "nothing"),
        (Some("ping"), "2026-11-29", "odd"),
        (Some("heartbeat"), "{}", "odd"),
        (Some("heartbeat"), "", "odd"),
        (Some("Message"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", "odd"),
    ] {
        let event = event(kind, data);
        let expected = match taken {
            "message" => Take::Message(&event.data),
            "nothing" => Take::Nothing,
            _ => Take::Odd(Quirk::ForeignEvents),
        };
        assert_eq!(take(&event), expected, "{kind:?} {data:?}");
    }
}

#[test]
fn what_is_skipped_is_bounded_in_messages() {
    let mut skipped = Skipped::default();
    skipped.add(5, || "first").unwrap();
    for _ in 1..MAX_SKIPPED {
        skipped.add(5, || "noise").unwrap();
    }
    let error = skipped.add(4, || "last").unwrap_err();
    assert_eq!(error, "first", "the one that came first says most");
    skipped.clear();
    assert_eq!(skipped.take_first(), None);
    skipped.add(5, || "again").unwrap();
    assert_eq!(skipped.take_first(), Some("again"));
}

#[test]
fn messages_to_others_count_as_well() {
    let mut skipped = Skipped::default();
    skipped.add(5, || "first").unwrap();
    assert!((1..MAX_SKIPPED).all(|_| !skipped.is_over(1)));
    assert!(skipped.is_over(1));
    assert!(
        !Skipped::<&str>::default().is_over(MAX_SKIPPED_BYTES)
            && Skipped::<&str>::default().is_over(MAX_SKIPPED_BYTES + 1)
    );
}

#[test]
fn what_is_skipped_is_bounded_in_bytes() {
    let mut skipped = Skipped::default();
    skipped.add(MAX_SKIPPED_BYTES, || "x").unwrap();
    skipped.add(1, || "y").unwrap_err();
    Skipped::default().add(MAX_SKIPPED_BYTES + 1, || "x").unwrap_err();
}
