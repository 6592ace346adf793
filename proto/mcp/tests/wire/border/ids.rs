use mcp::border::Spelling;
use mcp::border::ids::{self, Claim, claim_of_ends, claimed, denotes, id_in_prefix, id_of_unreadable, same};
use proptest::prelude::*;

use crate::strategies;

#[test]
fn whose_message_it_is_tells_its_first_or_its_last_bytes() {
    for (first, last, claim) in [
        (r#"{"jsonrpc":"2.0","id":7,"result":{"a":"xx"#, r#"xx"}}"#, Claim::Answer(7)),
        (r#" {"id":"7","error":{"message":"xx"#, r#"xx"}}"#, Claim::Answer(7)),
        (r#"{"result":{"a":"xx"#, r#"xx"},"jsonrpc":"2.0","id":7}"#, Claim::Answer(7)),
        (r#"{"result":{"a":"xx"#, "xx\"}, \"id\" : \"7\" , \"jsonrpc\": \"2.0\" }\n", Claim::Answer(7)),
        // It asks, or says.
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"a":"xx"#,
            r#"xx"}}"#,
            Claim::NoAnswer,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"a":"xx"#,
            r#"xx"},"id":7}"#,
            Claim::NoAnswer,
        ),
        (r#"{"id":7,"params":{"a":"xx"#, r#"xx"},"method":"m"}"#, Claim::Unknown),
        // An id of something in it.
        (r#"{"result":{"a":"xx"#, r#"xx","id":7}}"#, Claim::Unknown),
        (r#"{"result":{"a":"xx"#, r#"xx\"id\":7"}"#, Claim::Unknown),
        (r#"{"result":{"a":"xx"#, r#"xx"},"id":7,"more":1}"#, Claim::Unknown),
        (r#"{"result":{"a":"xx"#, r#"xx"},"id":null}"#, Claim::Unknown),
        // A batch, and what is no message.
        (r#"[{"id":7,"result":{"a":"xx"#, r#"xx"}}]"#, Claim::Unknown),
        ("xx", "xx", Claim::Unknown),
        ("", "", Claim::Unknown),
    ] {
        assert_eq!(claim_of_ends(first.as_bytes(), last.as_bytes()), claim, "{first} {last}");
    }
}

#[test]
fn numbers_are_told_however_they_are_spelled() {
    use Spelling::{Exact, Other};
    for (raw, number, spelling) in [
        ("7", 7, Some(Exact)),
        ("18446744073709551615", u64::MAX, Some(Exact)),
        ("\"7\"", 7, Some(Other)),
        ("7.0", 7, Some(Other)),
        ("\"7.0\"", 7, Some(Other)),
        ("7e0", 7, Some(Other)),
        ("0.7E+1", 7, Some(Other)),
        ("700e-2", 7, Some(Other)),
        ("\"\\u0037\"", 7, Some(Other)),
        ("0", 0, Some(Exact)),
        ("-0", 0, Some(Other)),
        ("0e999999999", 0, Some(Other)),
        ("1.8446744073709551615e19", u64::MAX, Some(Other)),
        ("0", 7, None),
        ("70", 7, None),
        ("7.5", 7, None),
        ("-7", 7, None),
        ("7e-1", 7, None),
        ("7e99999999999", 7, None),
        ("7e999999999", 7, None),
        ("7e-2147483648", 7, None),
        ("\"07\"", 7, None),
        ("\" 7\"", 7, None),
        ("\"+7\"", 7, None),
        ("\"7x\"", 7, None),
        ("\"\"", 0, None),
        ("\".\"", 0, None),
        ("null", 0, None),
        ("true", 1, None),
        ("[7]", 7, None),
    ] {
        assert_eq!(denotes(raw, number), spelling, "{raw} {number}");
        assert_eq!(ids::number(raw) == Some(number), spelling.is_some(), "{raw} {number}");
    }
}

#[test]
fn raw_ids_are_compared_by_value() {
    for (raw, own, spelling) in [
        ("\"a\"", "\"a\"", Some(Spelling::Exact)),
        ("\"\\u0061\"", "\"a\"", Some(Spelling::Other)),
        ("7", "\"7\"", Some(Spelling::Other)),
        ("-7.0", "-7", Some(Spelling::Other)),
        ("1e400", "1e400", Some(Spelling::Exact)),
        ("1.0e400", "1e400", None),
        ("\"a\"", "\"A\"", None),
        ("null", "\"null\"", None),
        ("0", "7", None),
    ] {
        assert_eq!(same(raw, own), spelling, "{raw} {own}");
    }
}

#[test]
fn an_id_names_the_request_that_is_spelled_so_or_the_only_one_that_it_denotes() {
    for (raw, open, found) in [
        ("7", &["7", "\"7\""][..], Some(0)),
        ("\"7\"", &["7", "\"7\""], Some(1)),
        ("7.0", &["7", "\"7\""], None),
        ("7.0", &["8", "\"7\""], Some(1)),
        ("\"a\"", &["7"], None),
        ("[7]", &["7"], None),
    ] {
        let open = open.iter().copied().zip(0..);
        assert_eq!(ids::find(raw, open), found, "{raw}");
    }
}

#[test]
fn unreadable_answers_name_their_call() {
    for (source, is_claimed) in [
        (&b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"caf\xe9\"}"[..], true),
        (b"{\"id\": \"7\", \"error\": {\"code\":1", true),
        (b"INFO {\"result\":{\"id\":8},\"id\":7}", true),
        (b"{\"result\":{\"text\":\"\\\"}\"},\"x\":[{\"id\":8}],\"id\":7.0}", true),
        (b"{'id':8}{\"id\":7,\"result\":1}", false),
        (b"{\"id\":7,\"method\":\"a\"}", false),
        (b"{\"result\":{\"id\":7}}", false),
        (b"{\"id\":77,\"result\":1}", false),
        (b"{\"id\":7", false),
        (b"{\"result\":1,\"id\":7", false),
        (b"{\"result\":\"\"id\":7}", false),
        (b"", false),
        (b"ping", false),
        (b"}", false),
        (b"{\"id", false),
        (b"{[\"id\":7],\"result\":1}", false),
    ] {
        assert_eq!(claimed(source) == Some(7), is_claimed, "{}", String::from_utf8_lossy(source));
    }
}

#[test]
fn the_id_is_found_in_the_start_of_a_message() {
    for (start, id) in [
        ("{\"jsonrpc\":\"2.0\",\"id\":12,\"method\":\"tools/call\",\"params\":{\"a\":\"xxx", Some("12")),
        ("{\"id\":\"a,}b\",", Some("\"a,}b\"")),
        ("{\"params\":{\"id\":1},\"id\":-2.0}", Some("-2.0")),
        ("{\"id\":12", None),
        ("{\"id\":\"12", None),
        ("{\"id\":null,\"x\":1", None),
        ("{\"id\":{\"a\":1},", None),
        ("{\"params\":{\"id\":1,\"x\":", None),
        ("{\"method\":\"id\",", None),
    ] {
        assert_eq!(id_in_prefix(start.as_bytes()), id, "{start}");
    }
}

#[test]
fn the_id_of_an_unreadable_request_is_found_and_no_other() {
    for (source, id) in [
        (&br#"{"id":7,"method":"tools/list"}"#[..], Some("7")),
        (br#"{"jsonrpc":"1.0","id":"a","method":"tools/list"}"#, Some("\"a\"")),
        (br#"{"jsonrpc":"2.0","method":5,"params":["x"],"id":-1.0}"#, Some("-1.0")),
        (br#"{"id":7,"method":"a","params":{"x":NaN}}"#, Some("7")),
        (b"{\"id\":7,\"method\":\"caf\xe9\"}", Some("7")),
        (br#"{"id":7,"method":"a","result":null}"#, Some("7")),
        // What may be a response ends no request of its sender.
        (br#"{"id":7,"method":"a","result":{}}"#, None),
        (br#"{"id":7,"error":{"code":1}}"#, None),
        (br#"{"id":7,"method":null}"#, None),
        (br#"{"id":7,"id":8,"method":"a"}"#, None),
        (br#"{"id":null,"method":"a"}"#, None),
        (br#"{"id":{},"method":"a"}"#, None),
        (br#"{"method":"a","params":{"id":7}}"#, None),
        (br#"{"id":7"#, None),
        (b"", None),
    ] {
        assert_eq!(id_of_unreadable(source), id, "{}", String::from_utf8_lossy(source));
    }
}

/// `number`, spelled as peers do.
fn spell(number: u64, how: usize) -> String {
    match how {
        0 => number.to_string(),
        1 => format!("\"{number}\""),
        2 => format!("{number}.0"),
        3 => format!("\"{number}.00\""),
        4 => format!("{number}e0"),
        _ => format!("{number}0E-1"),
    }
}

proptest! {
    #[test]
    fn every_spelling_denotes_its_number_only(number: u64, other: u64, how in 0..6_usize) {
        let raw = spell(number, how);
        let spelling = if how == 0 { Spelling::Exact } else { Spelling::Other };
        prop_assert_eq!(denotes(&raw, number), Some(spelling));
        prop_assert_eq!(denotes(&raw, other).is_some(), number == other);
        prop_assert_eq!(same(&raw, &number.to_string()), Some(spelling));
        prop_assert_eq!(same(&number.to_string(), &raw), Some(spelling));
    }

    /// The value of what denotes a number is that number, to others as well.
    #[test]
    fn nothing_else_denotes_a_number(raw in strategies::number(), number in 0..1_000_u64) {
        let value: f64 = raw.parse().unwrap();
        prop_assert_eq!(denotes(&raw, number).is_some(), value == number as f64, "{}", raw);
    }

    #[test]
    fn whole_messages_claim_their_id(
        number: u64, how in 0..6_usize, result in strategies::value(), first: bool, cut in any::<prop::sample::Index>(),
    ) {
        let id = spell(number, how);
        let text = match first {
            true => format!("{{\"id\":{id},\"result\":{result}}}"),
            false => format!("{{\"result\":{result},\"id\":{id}}}"),
        };
        prop_assert_eq!(claimed(text.as_bytes()), Some(number));
        let mut start = text.into_bytes();
        start.truncate(cut.index(start.len()));
        let found = id_in_prefix(&start);
        prop_assert!(found.is_none() || found == Some(&*id));
    }
}

proptest! {
    #[test]
    fn junk_at_both_ends_claims_nothing_and_does_not_panic(first: Vec<u8>, last: Vec<u8>) {
        let _claim = claim_of_ends(&first, &last);
    }
}
