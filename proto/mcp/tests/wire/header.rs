//! `header`: values both ways, and the arguments that are mirrored.

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp::header::{
    MirrorError, MirroredParam, ValueError, decode_value, encode_value, mirror, mirrored_params, verify,
};
use proptest::prelude::*;

#[test]
fn values_are_plain_where_they_can_be() {
    let cases = [
        ("", ""),
        ("us-west1", "us-west1"),
        ("a b\u{7e}", "a b~"),
        (" a", "=?base64?IGE=?="),
        ("a ", "=?base64?YSA=?="),
        ("a\tb", "=?base64?YQli?="),
        ("a\r\nX: y", "=?base64?YQ0KWDogeQ==?="),
        ("é", "=?base64?w6k=?="),
        ("=?base64?w6k=?=", "=?base64?PT9iYXNlNjQ/dzZrPT89?="),
        ("=?base64?open", "=?base64?open"),
        ("=?BASE64?w6k=?=", "=?BASE64?w6k=?="),
    ];
    for (text, written) in cases {
        let value = encode_value(text);
        assert_eq!(value, written, "{text:?}");
        assert_eq!(decode_value(&value).as_deref(), Ok(text));
    }
}

#[test]
fn base64_is_strict() {
    let cases = [
        ("=?base64?w6k?=", ValueError::Base64),
        ("=?base64?w6k=\u{7e}?=", ValueError::Base64),
        ("=?base64?w6l=?=", ValueError::Base64),
        ("=?base64?w6k-?=", ValueError::Base64),
        ("=?base64?w6k= ?=", ValueError::Base64),
        ("=?base64?/w==?=", ValueError::Utf8),
    ];
    for (written, error) in cases {
        assert_eq!(decode_value(&HeaderValue::from_static(written)), Err(error), "{written}");
    }
    let latin = HeaderValue::from_bytes(b"\xe9").unwrap();
    assert_eq!(decode_value(&latin), Err(ValueError::Characters));
}

fn param(header: &str, path: &[&str]) -> MirroredParam {
    MirroredParam { header: header.to_owned(), path: path.iter().map(|p| (*p).to_owned()).collect() }
}

#[test]
fn annotations_are_found_along_properties() {
    let schema = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "plain":{"type":"number"},
        "nested":{"type":"object","properties":{"count":{"type":"integer","x-mcp-header":"Count"}}},
        "x-mcp-header":{"type":"string"},
        "data":{"default":{"x-mcp-header":"No"},"const":{"x-mcp-header":"No"}}}}"#;
    let mut found = mirrored_params(schema).unwrap();
    found.sort_by(|a, b| a.header.cmp(&b.header));
    assert_eq!(found, [param("Count", &["nested", "count"]), param("Region", &["region"])]);
    assert_eq!(mirrored_params(r#"{"type":"object"}"#), Ok(vec![]));
}

#[test]
fn annotations_that_break_the_rules() {
    let property = |p: &str| format!(r#"{{"properties":{{"a":{p}}}}}"#);
    let annotated = |name: &str| property(&format!(r#"{{"type":"string","x-mcp-header":{name}}}"#));
    let cases = [
        (annotated("\"\""), MirrorError::Name("a".into())),
        (annotated("\"a b\""), MirrorError::Name("a".into())),
        (annotated("\"a:b\""), MirrorError::Name("a".into())),
        (annotated("\"é\""), MirrorError::Name("a".into())),
        (annotated("7"), MirrorError::Name("a".into())),
        (property(r#"{"type":"number","x-mcp-header":"A"}"#), MirrorError::Type("a".into())),
        (property(r#"{"type":"object","x-mcp-header":"A"}"#), MirrorError::Type("a".into())),
        (property(r#"{"type":["string","null"],"x-mcp-header":"A"}"#), MirrorError::Type("a".into())),
        (property(r#"{"x-mcp-header":"A"}"#), MirrorError::Type("a".into())),
        (property(r#"{"items":{"type":"string","x-mcp-header":"A"}}"#), MirrorError::Unreachable),
        (
            property(r#"{"items":{"properties":{"b":{"type":"string","x-mcp-header":"A"}}}}"#),
            MirrorError::Unreachable,
        ),
        (r#"{"$defs":{"d":{"type":"string","x-mcp-header":"A"}}}"#.into(), MirrorError::Unreachable),
        (
            r#"{"anyOf":[{"properties":{"b":{"type":"string","x-mcp-header":"A"}}}]}"#.into(),
            MirrorError::Unreachable,
        ),
        (r#"{"type":"string","x-mcp-header":"A"}"#.into(), MirrorError::Unreachable),
        (r#"{"type":"string","x-mcp-h\u0065ader":"A"}"#.into(), MirrorError::Unreachable),
        (r#"{"x-mcp-header"#.into(), MirrorError::Schema),
    ];
    for (schema, error) in cases {
        assert_eq!(mirrored_params(&schema), Err(error), "{schema}");
    }
    let twice = r#"{"properties":{"a":{"type":"string","x-mcp-header":"Abc"},"b":{"type":"string","x-mcp-header":"aBC"}}}"#;
    assert!(matches!(mirrored_params(twice), Err(MirrorError::Repeated(_))));
}

fn params() -> Vec<MirroredParam> {
    vec![param("S", &["s"]), param("N", &["deep", "n"]), param("B", &["b"])]
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

#[test]
fn arguments_become_headers() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        (
            r#"{"s":"x","deep":{"n":42},"b":true}"#,
            &[("mcp-param-s", "x"), ("mcp-param-n", "42"), ("mcp-param-b", "true")],
        ),
        (r#"{"s":null,"deep":null}"#, &[]),
        (
            r#"{"deep":{"n":5.0},"s":"caf\u00e9"}"#,
            &[("mcp-param-s", "=?base64?Y2Fmw6k=?="), ("mcp-param-n", "5")],
        ),
        (r#"{"deep":{"n":-1e2}}"#, &[("mcp-param-n", "-100")]),
        (r#"{"deep":{"n":-0}}"#, &[("mcp-param-n", "0")]),
        (r#"{"deep":{"n":9007199254740993}}"#, &[("mcp-param-n", "9007199254740993")]),
        (r#"{"deep":7}"#, &[]),
    ];
    for (arguments, expected) in cases {
        let made = mirror(arguments, &params()).unwrap();
        let made: Vec<_> =
            made.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(made, *expected, "{arguments}");
    }
    assert_eq!(mirror(r#"{"s":[1]}"#, &params()), Err(MirrorError::Argument("s".into())));
    assert!(matches!(mirror(r#"{"s":"a","s":"b"}"#, &params()), Err(MirrorError::Arguments(_))));
}

#[test]
fn headers_must_say_what_the_body_says() {
    let body = r#"{"s":"05","deep":{"n":100}}"#;
    let check = |pairs: &[(&'static str, &'static str)]| verify(&headers(pairs), body, &params());
    assert_eq!(check(&[("mcp-param-s", "05"), ("mcp-param-n", "100"), ("mcp-param-other", "x")]), Ok(()));
    assert_eq!(check(&[("mcp-param-s", "=?base64?MDU=?="), ("mcp-param-n", "1e2")]), Ok(()));
    assert_eq!(check(&[("mcp-param-s", "05"), ("mcp-param-n", "100.0")]), Ok(()));
    assert_eq!(
        check(&[("mcp-param-s", "5"), ("mcp-param-n", "100")]),
        Err(MirrorError::Mismatch("S".into()))
    );
    assert_eq!(
        check(&[("mcp-param-s", "05"), ("mcp-param-n", "101")]),
        Err(MirrorError::Mismatch("N".into()))
    );
    assert_eq!(check(&[("mcp-param-s", "05")]), Err(MirrorError::Missing("N".into())));
    assert_eq!(
        check(&[("mcp-param-s", "05"), ("mcp-param-n", "100"), ("mcp-param-b", "true")]),
        Err(MirrorError::Unwanted("B".into()))
    );
    assert_eq!(
        check(&[("mcp-param-s", "=?base64?M?="), ("mcp-param-n", "100")]),
        Err(MirrorError::Value("S".into(), ValueError::Base64))
    );
    let mut twice = headers(&[("mcp-param-s", "05"), ("mcp-param-n", "100")]);
    twice.append("mcp-param-s", HeaderValue::from_static("05"));
    assert_eq!(verify(&twice, body, &params()), Err(MirrorError::Unwanted("S".into())));
}

/// As many as a definition has room for: each header is looked up, and not compared with all before it.
#[test]
fn many_annotations_are_told_apart() {
    let property = |n: usize| format!(r#""p{n}":{{"type":"string","x-mcp-header":"H-{n}"}}"#);
    let properties: Vec<String> = (0..4_000).map(property).collect();
    let schema = |more: &str| format!(r#"{{"properties":{{{}{more}}}}}"#, properties.join(","));
    assert_eq!(mirrored_params(&schema("")).unwrap().len(), 4_000);
    let again = r#","z":{"type":"string","x-mcp-header":"h-7"}"#;
    assert_eq!(mirrored_params(&schema(again)), Err(MirrorError::Repeated("h-7".into())));
}

proptest! {
    #[test]
    fn values_come_back(text in any::<String>()) {
        let value = encode_value(&text);
        prop_assert!(value.to_str().unwrap().bytes().all(|b| (0x20..0x7f).contains(&b)));
        let decoded = decode_value(&value).unwrap();
        prop_assert_eq!(&*decoded, &text);
    }

    #[test]
    fn what_is_mirrored_is_verified(s in any::<String>(), n in any::<i64>(), b in any::<bool>()) {
        let arguments = serde_json::json!({"s": s, "deep": {"n": n}, "b": b}).to_string();
        let made: HeaderMap = mirror(&arguments, &params()).unwrap().into_iter().collect();
        prop_assert_eq!(verify(&made, &arguments, &params()), Ok(()));
    }
}
