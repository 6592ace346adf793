//! What a call is, so that it is approved as it is: a hash over all that is shown of it and decides what it does. Pure.

use std::collections::HashSet;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use trunkline::policy::v1::UseApprovalRequest;

/// Bytes of the arguments of a call.
pub const MAX_ARGUMENTS: usize = 64 << 10;
/// Bytes of the hash of a description.
pub const DEFINITION: usize = 32;

/// The SHA-256 of a call, in hexadecimal: of who calls which tool, as it was described, with which arguments. Each field is preceded by
/// its length, so that no two calls have the same bytes.
pub fn digest(call: &UseApprovalRequest) -> String {
    let fields: [&[u8]; 6] = [
        call.principal_uid.as_bytes(),
        call.server_uid.as_bytes(),
        call.upstream_uid.as_bytes(),
        call.target.as_bytes(),
        &call.definition,
        call.arguments_json.as_bytes(),
    ];
    let mut hash = Context::new(&SHA256);
    for field in fields {
        hash.update(&(field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    super::hex(hash.finish().as_ref())
}

/// What is wrong with the arguments of a call, if anything: readers must not differ on what they say.
pub fn check_arguments(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    if text.len() > MAX_ARGUMENTS {
        return Err(format!("have {} bytes; the maximum is {MAX_ARGUMENTS}", text.len()));
    }
    if !text.starts_with('{') {
        return Err("must be a JSON object".to_owned());
    }
    serde_json::from_str::<Unambiguous>(text).map(drop).map_err(|error| format!("cannot be read: {error}"))
}

/// JSON in which no object has a member twice, nor two whose names differ only in case.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Unambiguous;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_unit<E>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unambiguous, A::Error> {
        while items.next_element::<Unambiguous>()?.is_some() {}
        Ok(Unambiguous)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unambiguous, A::Error> {
        let mut known = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Unambiguous>()?;
            // Case as readers fold it who look for members without it.
            if !known.insert(name.to_uppercase().to_lowercase()) {
                return Err(de::Error::custom(
                    "a member is there twice, or two have names that differ only in case",
                ));
            }
        }
        Ok(Unambiguous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> UseApprovalRequest {
        UseApprovalRequest {
            principal_uid: "p".to_owned(),
            server_uid: "s".to_owned(),
            upstream_uid: "u".to_owned(),
            target: "upstreams/u/tools/t".to_owned(),
            definition: vec![7; DEFINITION],
            arguments_json: r#"{"a":1}"#.to_owned(),
            ..UseApprovalRequest::default()
        }
    }

    #[test]
    fn whatever_decides_what_a_call_does_is_in_its_digest() {
        let one = digest(&call());
        let others: [fn(&mut UseApprovalRequest); 7] = [
            |call| call.principal_uid.push('x'),
            |call| call.server_uid.push('x'),
            |call| call.upstream_uid.push('x'),
            |call| call.target.push('x'),
            |call| call.definition[0] = 8,
            |call| call.arguments_json = r#"{"a":2}"#.to_owned(),
            |call| call.arguments_json.clear(),
        ];
        let mut seen = HashSet::from([one.clone()]);
        for change in others {
            let mut other = call();
            change(&mut other);
            assert!(seen.insert(digest(&other)));
        }
        let told = UseApprovalRequest {
            reason: "x".to_owned(),
            address: "10.0.0.1".to_owned(),
            rule: "x".to_owned(),
            tool: "x".to_owned(),
            ..call()
        };
        assert_eq!(digest(&told), one, "what is only shown is not in it");
    }

    #[test]
    fn no_two_fields_run_into_each_other() {
        let moved = |principal: &str, server: &str| {
            let (principal_uid, server_uid) = (principal.to_owned(), server.to_owned());
            digest(&UseApprovalRequest { principal_uid, server_uid, ..call() })
        };
        assert_ne!(moved("ab", "c"), moved("a", "bc"));
        assert_ne!(moved("", "ab"), moved("ab", ""));
    }

    #[test]
    fn arguments_are_an_object_in_which_nothing_is_twice() {
        for good in ["", "{}", r#"{"a":[1,-2.5,null,true,"x"],"b":{"a":{}}}"#] {
            check_arguments(good).unwrap();
        }
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_ARGUMENTS));
        let twice = [r#"{"a":1,"a":2}"#, r#"{"a":[{"b":1,"b":1}]}"#, r#"{"a":1,"\u0061":2}"#];
        let in_other_letters = [r#"{"Path":1,"path":2}"#, r#"{"a":[{"éſ":1,"ÉS":1}]}"#];
        for bad in ["[]", "1", "{", "{} {}", " {}", &long].iter().chain(&twice).chain(&in_other_letters) {
            assert!(check_arguments(bad).is_err(), "{bad}");
        }
    }
}
