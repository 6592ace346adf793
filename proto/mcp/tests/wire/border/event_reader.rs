use bytes::Bytes;
use mcp::border::EventReader;
use mcp::sse::EventError;
use proptest::prelude::*;

/// The data of the events that come of a body in these pieces; whether it turned out to be JSON; and what its end left.
fn read(pieces: &[&[u8]], limit: usize) -> Result<(Vec<String>, bool, Option<String>), EventError> {
    let text = |data: Bytes| String::from_utf8_lossy(&data).into_owned();
    let mut reader = EventReader::new(limit);
    let (mut data, mut is_json) = (Vec::new(), false);
    for piece in pieces {
        let told = reader.push(Bytes::copy_from_slice(piece))?;
        assert!(!(told && is_json), "it is told once");
        is_json |= told;
        while let Some(event) = reader.next()? {
            data.push(text(event.data));
        }
    }
    Ok((data, is_json, reader.end().map(|event| text(event.data))))
}

#[test]
fn json_under_the_label_of_events_is_given_out_when_it_is_whole() {
    for (body, data, is_json, rest) in [
        ("data: {\"a\":1}\n\n", &["{\"a\":1}"][..], false, None),
        ("\u{feff}data: 1\n\n", &["1"], false, None),
        ("\n\n: ping\n\ndata: 1\n\n", &["1"], false, None),
        // An event without the empty line after it is taken where nothing is missing of its message.
        (
            "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n",
            &[],
            false,
            Some("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"),
        ),
        (
            "id: 1\ndata:{\"jsonrpc\":\"2.0\",\"method\":\"a\"}",
            &[],
            false,
            Some("{\"jsonrpc\":\"2.0\",\"method\":\"a\"}"),
        ),
        ("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}", &[], false, None),
        // A stream of events that is cut off.
        ("data: {\"a\":1}", &[], false, None),
        ("", &[], false, None),
        ("  \n", &[], false, None),
        ("nothing of either", &[], false, None),
        ("{\"a\":\"}\\\"}\"}", &["{\"a\":\"}\\\"}\"}"], true, None),
        ("{\"a\":\"\\\\\"}\n", &["{\"a\":\"\\\\\"}"], true, None),
        (" [{\"a\":[]}, {}]", &[" [{\"a\":[]}, {}]"], true, None),
        ("{\"a\":1}\n{\"b\":2}\n", &["{\"a\":1}", "\n{\"b\":2}"], true, None),
        ("{\"a\":1} and more", &["{\"a\":1}"], true, Some(" and more")),
        ("{\"a\":{", &[], true, Some("{\"a\":{")),
        ("{}}", &["{}", "}"], true, None),
    ] {
        let expected =
            (data.iter().map(|data| (*data).to_owned()).collect(), is_json, rest.map(str::to_owned));
        assert_eq!(read(&[body.as_bytes()], 100), Ok(expected.clone()), "{body:?}");
        let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes, 100), Ok(expected), "byte by byte: {body:?}");
    }
}

#[test]
fn json_texts_are_bounded() {
    let text = format!("{{\"a\":\"{}\"}}", "x".repeat(20));
    assert_eq!(read(&[text.as_bytes()], 20), Err(EventError::TooLarge { limit: 20 }));
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(3).collect();
    assert_eq!(read(&pieces, 20), Err(EventError::TooLarge { limit: 20 }));
    assert!(read(&pieces, text.len()).is_ok());
}

proptest! {
    /// However it is cut, the same comes of it.
    #[test]
    fn cuts_change_nothing(
        body in "(\u{feff}|\n)?((data|event|id|retry|)[: ]{1,2}[a-z{}\"]{0,9}(\r|\n|\r\n){1,2}|[{}\\[\\]\"\\\\a ]{0,12}){0,6}",
        size in 1..9usize,
    ) {
        let whole = read(&[body.as_bytes()], 200);
        let pieces: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
        prop_assert_eq!(read(&pieces, 200), whole);
    }
}

#[test]
fn an_event_that_comes_in_many_parts_is_looked_at_a_few_times() {
    let whole = r#"data: {"jsonrpc":"2.0","id":1,"result":{}}"#.as_bytes();
    for (looks, taken) in [(0, true), (7, true), (8, false), (300, false)] {
        let mut reader = EventReader::new(100);
        reader.push(Bytes::from_static(&whole[..20])).unwrap();
        assert_eq!(reader.next(), Ok(None));
        for _ in 0..looks {
            assert_eq!(reader.take_unended(), None);
        }
        reader.push(Bytes::from_static(&whole[20..])).unwrap();
        assert_eq!(reader.next(), Ok(None));
        assert_eq!(reader.take_unended().is_some(), taken, "after {looks}");
        // The next event is looked at anew.
        reader.push(Bytes::from_static(b"\n\n")).unwrap();
        assert_eq!(reader.next().map(|event| event.is_some()), Ok(!taken), "after {looks}");
        reader.push(Bytes::from_static(whole)).unwrap();
        assert_eq!(reader.next(), Ok(None));
        assert!(reader.take_unended().is_some(), "after {looks}");
    }
}
