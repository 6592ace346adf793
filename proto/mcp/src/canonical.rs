//! One text for each JSON value, so that what was decided about arguments holds for all spellings of them, and for no others.
//!
//! Members are sorted, each is there once in whatever letters, and nothing stands between signs. Numbers stay as they are written: what some readers round
//! is not made equal here. It must not know what the value is for.

use std::borrow::Cow;

use crate::json::{self, JsonError};

/// Longest canonical text, in bytes. Control planes take no longer one.
const MAX: usize = 64 << 10;
/// Longest text that is read, with its white space and escapes.
const MAX_READ: usize = 4 * MAX;
/// How deep lists and objects may nest.
const MAX_DEPTH: usize = 64;

/// Why a value has no canonical text: readers could take it for different ones, or it is too large to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AmbiguousJson(pub &'static str);

const MALFORMED: AmbiguousJson = AmbiguousJson("the arguments are no JSON");
const TWICE: AmbiguousJson =
    AmbiguousJson("an object of the arguments has a member twice, or two whose names differ only in case");
const DEEP: AmbiguousJson = AmbiguousJson("the arguments nest more than 64 deep");
const LARGE: AmbiguousJson = AmbiguousJson("the arguments are larger than 64 KiB");
const HUGE: AmbiguousJson = AmbiguousJson("a number of the arguments is larger than most readers know");
const NO_UNICODE: AmbiguousJson = AmbiguousJson("a string of the arguments is no Unicode");

/// The canonical text of a JSON value.
///
/// # Errors
/// If readers could take the value for different ones, or it is too large to be shown.
pub fn canonical(raw: &str) -> Result<String, AmbiguousJson> {
    if raw.len() > MAX_READ {
        return Err(LARGE);
    }
    let mut text = String::with_capacity(raw.len());
    write_value(&mut text, raw.trim_matches([' ', '\t', '\n', '\r']), MAX_DEPTH)?;
    if text.len() > MAX { Err(LARGE) } else { Ok(text) }
}

fn write_value(text: &mut String, raw: &str, depth: usize) -> Result<(), AmbiguousJson> {
    match raw.as_bytes().first() {
        Some(b'{') => write_object(text, raw, depth.checked_sub(1).ok_or(DEEP)?),
        Some(b'[') => write_list(text, raw, depth.checked_sub(1).ok_or(DEEP)?),
        Some(b'"') => {
            text.push_str(&json::quote(&decoded(raw)?));
            Ok(())
        }
        Some(b'-' | b'0'..=b'9') if !raw.parse::<f64>().is_ok_and(f64::is_finite) => Err(HUGE),
        // A number, or one of three words. The message was read, so it is one.
        Some(_) => {
            text.push_str(raw);
            Ok(())
        }
        None => Err(MALFORMED),
    }
}

fn write_object(text: &mut String, raw: &str, depth: usize) -> Result<(), AmbiguousJson> {
    let mut members = Vec::new();
    json::each_member(raw, |key, value| {
        members.push((json::string(key)?, value));
        Ok(())
    })
    .map_err(|error| doubt(&error))?;
    members.sort_unstable_by(|(key, _), (other, _)| key.cmp(other));
    let mut names: Vec<String> = members.iter().map(|(key, _)| folded(key)).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(TWICE);
    }
    text.push('{');
    for (at, (key, value)) in members.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        text.push_str(&json::quote(key));
        text.push(':');
        write_value(text, value, depth)?;
    }
    text.push('}');
    Ok(())
}

/// A name without its case, as readers fold it who look for members without it: `ſ` is an `s` for some.
fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

fn write_list(text: &mut String, raw: &str, depth: usize) -> Result<(), AmbiguousJson> {
    let mut items = Vec::new();
    json::each_element::<JsonError>(raw, |item| {
        items.push(item);
        Ok(())
    })
    .map_err(|error| doubt(&error))?;
    text.push('[');
    for (at, item) in items.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        write_value(text, item, depth)?;
    }
    text.push(']');
    Ok(())
}

fn decoded(raw: &str) -> Result<Cow<'_, str>, AmbiguousJson> {
    json::string(raw).map_err(|error| doubt(&error))
}

fn doubt(error: &JsonError) -> AmbiguousJson {
    match error {
        JsonError::Surrogate => NO_UNICODE,
        JsonError::Depth { .. } => DEEP,
        _ => MALFORMED,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn one_value_has_one_text() {
        for (raw, expected) in [
            ("{}", "{}"),
            (" { } ", "{}"),
            ("null", "null"),
            ("[ 1 , 2.50,\t-0, 1E5 ]", "[1,2.50,-0,1E5]"),
            (r#"{"b":1,"a":{"d":[],"c":"x"}}"#, r#"{"a":{"c":"x","d":[]},"b":1}"#),
            (r#"{ "\u0062" : "\u0041\/\u00e9\n" , "a" : "é" }"#, r#"{"a":"é","b":"A/é\n"}"#),
            (r#""\ud83d\ude00""#, r#""😀""#),
            (r#"{"é":4,"a":3,"B":2,"":1}"#, r#"{"":1,"B":2,"a":3,"é":4}"#),
            ("12345678901234567890123", "12345678901234567890123"),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
        }
        // They are one value for some readers, and two for others.
        for [one, other] in
            [["1", "1.0"], ["1e2", "100"], ["0", "-0"], ["9007199254740993", "9007199254740992"]]
        {
            assert_ne!(canonical(one), canonical(other));
        }
    }

    #[test]
    fn what_two_readers_may_take_for_different_things_has_none() {
        for (raw, why) in [
            (r#"{"a":1,"a":1}"#, TWICE),
            (r#"{"a":1,"\u0061":2}"#, TWICE),
            (r#"{"x":[{"y":{"a":1,"b":2,"a":3}}]}"#, TWICE),
            (r#"{"Path":"/etc","path":"/tmp"}"#, TWICE),
            (r#"[{"x":{"\u0041":1,"b":2,"a":3}}]"#, TWICE),
            (r#"{"is":1,"Iſ":2}"#, TWICE),
            (r#"{"É":1,"é":2}"#, TWICE),
            (r#""\ud83d""#, NO_UNICODE),
            (r#"{"a":[1e999]}"#, HUGE),
            ("-1e400", HUGE),
            (r#"{"\ude00":1}"#, NO_UNICODE),
            ("", MALFORMED),
            (r#"{"a":}"#, MALFORMED),
            ("[1,]", MALFORMED),
            (r#"{"a":1} {}"#, MALFORMED),
        ] {
            assert_eq!(canonical(raw), Err(why), "{raw}");
        }
    }

    #[test]
    fn it_is_bounded_in_length_and_depth() {
        let text = |length: usize| format!("\"{}\"", "a".repeat(length - 2));
        assert_eq!(canonical(&text(MAX)).map(|text| text.len()), Ok(MAX));
        assert_eq!(canonical(&text(MAX + 1)), Err(LARGE));
        assert_eq!(canonical(&format!("1{}", " ".repeat(MAX_READ))), Err(LARGE));
        let escaped = format!("\"{}\"", r"\u0061".repeat(MAX / 6));
        assert_eq!(canonical(&escaped).map(|text| text.len()), Ok(MAX / 6 + 2));
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(canonical(&nested(MAX_DEPTH)), Ok(nested(MAX_DEPTH)));
        assert_eq!(canonical(&nested(MAX_DEPTH + 1)), Err(DEEP));
        assert_eq!(canonical(&nested(2_000)), Err(DEEP));
    }

    /// Names that differ in more than their case.
    fn names() -> impl Strategy<Value = String> {
        any::<String>().prop_map(|name| folded(&name))
    }

    /// Any value, without numbers that a tree of values would round.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((names(), inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The value in another spelling: members in an order that `seed` chooses, white space between signs, and escapes.
    fn respelled(value: &Value, seed: &mut u64) -> String {
        let mut chosen = |most: usize| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (*seed >> 33) as usize % most
        };
        let space = [" ", "", "\n\t"][chosen(3)];
        match value {
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                let turn = chosen(members.len().max(1));
                members.rotate_left(turn);
                let parts: Vec<String> = members
                    .into_iter()
                    .map(|(key, value)| {
                        let key = respelled(&Value::from(key.as_str()), seed);
                        format!("{space}{key}{space}:{space}{}{space}", respelled(value, seed))
                    })
                    .collect();
                format!("{{{}}}", parts.join(","))
            }
            Value::Array(items) => {
                let parts: Vec<String> =
                    items.iter().map(|item| format!("{space}{}{space}", respelled(item, seed))).collect();
                format!("[{}]", parts.join(","))
            }
            Value::String(text) if chosen(2) == 0 => {
                let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
                format!("\"{}\"", units.concat())
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn a_canonical_text_is_its_own(value in values()) {
            let text = canonical(&value.to_string()).unwrap();
            prop_assert_eq!(canonical(&text), Ok(text.clone()));
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }

        #[test]
        fn the_spelling_does_not_matter(value in values(), seed: u64) {
            let mut state = seed;
            prop_assert_eq!(canonical(&respelled(&value, &mut state)), canonical(&value.to_string()));
        }

        #[test]
        fn different_values_differ(one in values(), other in values()) {
            let same = canonical(&one.to_string()) == canonical(&other.to_string());
            prop_assert_eq!(same, one == other);
        }

        #[test]
        fn a_member_that_is_there_twice_is_refused(key: String, one in values(), other in values(), more in values()) {
            let key = json::quote(&key);
            let text = format!(r#"{{{key}:{one},"more":{more},{key}:{other}}}"#);
            prop_assert_eq!(canonical(&text), Err(TWICE));
            prop_assert_eq!(canonical(&format!("[{{\"deep\":{text}}}]")), Err(TWICE));
        }

        #[test]
        fn junk_is_refused_or_has_a_text_of_its_own(text: String) {
            let text = format!("[{text}]");
            if let Ok(found) = canonical(&text) {
                prop_assert_eq!(canonical(&found), Ok(found.clone()));
            }
        }
    }
}
