//! JSON texts as people and programs write them: with white space, escapes and long numbers.

use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

/// The text of a JSON string, quotes included, in any spelling.
pub(crate) fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        5 => "[ -!#-\\[\\]-~]{0,12}",
        1 => "[à-ž☃😀]{1,3}",
        1 => prop::sample::select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\t", "\\u00e9", "\\ud83d\\ude00", "\\u0000"])
            .prop_map(str::to_owned),
        1 => "[a-z]{60,90}",
    ];
    vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

pub(crate) fn number() -> impl Strategy<Value = String> {
    prop_oneof!["-?(0|[1-9][0-9]{0,30})", "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?"]
}

/// The text of any JSON value.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        string(),
        number(),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned())
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let element = (space(), inner.clone(), space()).prop_map(|(a, v, b)| a + &v + &b);
        let member = (space(), string(), space(), space(), inner, space())
            .prop_map(|(a, k, b, c, v, d)| format!("{a}{k}{b}:{c}{v}{d}"));
        prop_oneof![
            vec(element, 0..4).prop_map(|parts| format!("[{}]", parts.join(","))),
            vec(member, 0..4).prop_map(|parts| format!("{{{}}}", parts.join(","))),
        ]
    })
}

/// The text of an object with distinct plain keys.
pub(crate) fn object() -> impl Strategy<Value = String> {
    let keys = prop::sample::subsequence(vec!["a", "b", "c", "name", "_meta", "x-y"], 0..5);
    keys.prop_flat_map(|keys| {
        let members: Vec<_> =
            keys.into_iter().map(|key| (space(), Just(key), space(), value(), space())).collect();
        (members, space()).prop_map(|(members, empty)| {
            let members: Vec<_> =
                members.into_iter().map(|(a, key, b, v, c)| format!("{a}\"{key}\":{b}{v}{c}")).collect();
            match members.is_empty() {
                true => format!("{{{empty}}}"),
                false => format!("{{{}}}", members.join(",")),
            }
        })
    })
}
