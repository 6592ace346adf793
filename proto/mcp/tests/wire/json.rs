//! `json` against tables and against a map.

use mcp::json::{
    JsonError, each_element, each_member, exact_members, members, set_members, string, without_halves,
};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::strategies;

type Edits<'e> = &'e [(&'e str, Option<&'e str>)];

#[test]
fn members_are_found_wherever_they_are() {
    let object = r#" {"b" : [1, 2] , "other":{"a":0}, "\u0061": "x"} "#;
    assert_eq!(members(object, ["a", "b", "c"]), Ok([Some("\"x\""), Some("[1, 2]"), None]));
    assert_eq!(members("{}", ["a"]), Ok([None]));
}

#[test]
fn a_repeated_member_is_an_error_only_when_it_is_wanted() {
    let object = r#"{"a":1,"\u0061":2,"b":3}"#;
    assert_eq!(members(object, ["a"]), Err(JsonError::Repeated("a".into())));
    assert_eq!(members(object, ["b"]), Ok([Some("3")]));
}

#[test]
fn a_member_in_another_case_is_an_error_where_others_read_on() {
    let variant = |found: &str, member: &str| {
        Err(JsonError::Variant { found: found.to_owned(), member: member.to_owned() })
    };
    for (object, found, member) in [
        (r#"{"name":1,"Name":2}"#, "Name", "name"),
        (r#"{"n\u0061mE":2}"#, "namE", "name"),
        (r#"{"name":1,"TaskID":2}"#, "TaskID", "taskId"),
        (r#"{"ta\u017fkId":2}"#, "ta\u{17f}kId", "taskId"),
    ] {
        assert_eq!(exact_members(object, ["name"], &["taskId"]), variant(found, member), "{object}");
        assert!(members(object, ["name"]).is_ok());
    }
    let object = r#"{"names":1,"name":2,"taskId":3,"x":{"Name":4}}"#;
    assert_eq!(exact_members(object, ["name"], &["taskId"]), Ok([Some("2")]));
}

#[test]
fn only_whole_objects_have_members() {
    for text in ["", "[]", "{\"a\":1", "{\"a\":1}}", "{a:1}", "{\"a\":1,}", "{\"a\"}", "null"] {
        assert!(members(text, ["a"]).is_err(), "{text}");
    }
}

#[test]
fn strings_lose_their_escapes() {
    let cases = [
        (r#""""#, ""),
        (r#" "a" "#, "a"),
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""caf\u00e9 \ud83d\ude00!""#, "café 😀!"),
    ];
    for (raw, text) in cases {
        assert_eq!(string(raw).as_deref(), Ok(text), "{raw}");
    }
    for half in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\n""#, r#""\ud800\u0041""#] {
        assert_eq!(string(half), Err(JsonError::Surrogate), "{half}");
    }
    for wrong in ["a", "\"", r#""\x""#, r#""\u12""#, r#""\u+123""#, "\"\n\"", "\"a\"b", "1"] {
        assert!(matches!(string(wrong), Err(JsonError::Syntax { .. })), "{wrong}");
    }
}

#[test]
fn members_are_set_and_every_other_byte_stays() {
    let cases: &[(&str, Edits<'_>, &str)] = &[
        ("{}", &[], "{}"),
        ("{ }", &[("a", Some("1"))], r#"{"a":1 }"#),
        (" {} ", &[("a", Some("1")), ("b", Some("2"))], r#" {"a":1,"b":2} "#),
        ("{}", &[("a", None)], "{}"),
        (r#"{ "a" : 1 , "b":2}"#, &[("a", Some("[9]"))], r#"{ "a" : [9] , "b":2}"#),
        (r#"{"a":1,"b":2,"c":3}"#, &[("a", None)], r#"{"b":2,"c":3}"#),
        (r#"{"a":1,"b":2,"c":3}"#, &[("b", None)], r#"{"a":1,"c":3}"#),
        (r#"{"a":1,"b":2,"c":3}"#, &[("c", None)], r#"{"a":1,"b":2}"#),
        (r#"{ "a":1, "b":2 }"#, &[("a", None), ("b", None)], "{  }"),
        (r#"{ "a":1 }"#, &[("a", None), ("z", Some("0"))], r#"{ "z":0 }"#),
        (r#"{"x":1e400,"a":1}"#, &[("n\"", Some("{}"))], r#"{"x":1e400,"a":1,"n\"":{}}"#),
        (r#"{"\u0061":1}"#, &[("a", Some("2"))], r#"{"\u0061":2}"#),
    ];
    for (object, edits, expected) in cases {
        assert_eq!(set_members(object, edits).as_deref(), Ok(*expected), "{object}");
    }
    assert_eq!(set_members(r#"{"a":1,"a":2}"#, &[("a", None)]), Err(JsonError::Repeated("a".into())));
    assert!(set_members("[]", &[("a", None)]).is_err());
}

#[test]
fn elements_come_in_order() {
    let mut seen = Vec::new();
    each_element::<JsonError>("[1, [2,3] ,{\"a\":\"]\"}]", |raw| {
        seen.push(raw.to_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, ["1", "[2,3]", "{\"a\":\"]\"}"]);
    assert!(each_element::<JsonError>("[1,]", |_| Ok(())).is_err());
}

fn keys_and_values(object: &str) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    each_member(object, |key, value| {
        seen.push((string(key)?.into_owned(), value.to_owned()));
        Ok(())
    })
    .unwrap();
    seen
}

proptest! {
    #[test]
    fn setting_members_equals_editing_a_list(
        object in strategies::object(),
        edits in prop::collection::btree_map(
            prop::sample::select(vec!["a", "b", "c", "name", "new", "_meta"]),
            prop::option::of(strategies::value()),
            0..5,
        ),
    ) {
        let edits: Vec<(&str, Option<&str>)> = edits.iter().map(|(key, value)| (*key, value.as_deref())).collect();
        let result = set_members(&object, &edits).unwrap();

        let mut expected = keys_and_values(&object);
        for (key, value) in &edits {
            let at = expected.iter().position(|(k, _)| k == key);
            match (at, value) {
                (Some(at), Some(value)) => expected[at].1 = (*value).to_owned(),
                (Some(at), None) => drop(expected.remove(at)),
                (None, Some(value)) => expected.push(((*key).to_owned(), (*value).to_owned())),
                (None, None) => {}
            }
        }
        prop_assert_eq!(keys_and_values(&result), expected, "{}", result);
        if edits.is_empty() {
            prop_assert_eq!(result, object);
        }
    }

    #[test]
    fn members_are_what_serde_json_finds(object in strategies::object()) {
        let [a, name, absent] = members(&object, ["a", "name", "absent"]).unwrap();
        let map: Map<String, Value> = match serde_json::from_str(&object) {
            Ok(map) => map,
            // Numbers too large for its types are none of ours to refuse.
            Err(_) => return Ok(()),
        };
        let read = |raw: Option<&str>| raw.map(|raw| serde_json::from_str::<Value>(raw).unwrap());
        prop_assert_eq!(read(a), map.get("a").cloned());
        prop_assert_eq!(read(name), map.get("name").cloned());
        prop_assert_eq!(absent, None);
    }
}

#[test]
fn halves_of_surrogate_pairs_are_replaced_and_nothing_else() {
    for (json, expected) in [
        (r#""\ud83d""#, Some(r#""\ufffd""#)),
        (
            r#"{"a":"x\uD83D","b\ude00":["\ud83d\ud83d\ude00\ude00"]}"#,
            Some(r#"{"a":"x\ufffd","b\ufffd":["\ufffd\ud83d\ude00\ufffd"]}"#),
        ),
        (r#""\ud83d\u0041""#, Some(r#""\ufffd\u0041""#)),
        (r#""\\\ud83d""#, Some(r#""\\\ufffd""#)),
        (r#""\\ud83d""#, None),
        (r#""\ud83d\ude00""#, None),
        (r#""\u00e9 \n \"ud83d\"""#, None),
        (r#""plain""#, None),
    ] {
        assert_eq!(without_halves(json).as_deref(), expected, "{json}");
    }
}

proptest! {
    #[test]
    fn what_has_no_halves_can_be_read(units in prop::collection::vec(prop_oneof![0xd7ff..0xe001_u16, 0x41..0x43_u16], 0..12)) {
        let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
        let json = format!("{{\"a\":\"{escapes}\"}}");
        let mended = without_halves(&json).unwrap_or(json);
        let value: serde_json::Value = serde_json::from_str(&mended).unwrap();
        prop_assert_eq!(value["a"].as_str().unwrap(), String::from_utf16_lossy(&units));
    }
}
