//! `entry` against a table of what servers list, and against itself.

use mcp::entry::List::{self, Prompts, Resources, Templates, Tools};
use mcp::entry::{Fit, fit};
use mcp::revision::Era;
use proptest::prelude::*;
use serde_json::Value;

use crate::strategies;

/// What is listed for the clients of an era; an error says why nothing is.
fn listed(list: List, era: Era, definition: &str) -> Result<String, String> {
    match fit(list, era, definition) {
        Fit::Valid => Ok(definition.to_owned()),
        Fit::Mended { definition, notes } => {
            assert!(!notes.is_empty());
            Ok(definition)
        }
        Fit::Withheld(note) => Err(note.to_string()),
    }
}

#[test]
fn valid_definitions_keep_their_bytes() {
    for (list, definition) in [
        (Tools, r#"{"name":"t","inputSchema":{"type":"object"}}"#),
        (
            Tools,
            r#" {"x":1, "name":"t","title":"T","description":"d","inputSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"a":{"type":"string"},"b":{}},"required":["a"],"additionalProperties":false,"anyOf":[true]},"outputSchema":{"type":"object","properties":{}},"annotations":{"title":"T","readOnlyHint":true,"x":null},"execution":{"taskSupport":"optional"},"icons":[{"src":"data:,","mimeType":"image/png","sizes":["48x48"],"theme":"dark"}],"_meta":{"a":[1]}} "#,
        ),
        (
            Resources,
            r#"{"uri":"a://b","name":"b","size":12,"annotations":{"audience":["user","assistant"],"priority":0.5,"lastModified":"2024-02-29T23:59:59.123+01:00"}}"#,
        ),
        (
            Resources,
            r#"{"uri":"a://b","name":"","size":1e3,"annotations":{"lastModified":"2026-11-29T14:00:00Z"}}"#,
        ),
        (Templates, r#"{"uriTemplate":"a://{b}","name":"b","mimeType":"text/plain"}"#),
        (
            Prompts,
            r#"{"name":"p","arguments":[{"name":"a","description":"d","required":true},{"name":"b","title":"B"}]}"#,
        ),
        (Prompts, r#"{"name":"p","arguments":[]}"#),
    ] {
        for era in [Era::Legacy, Era::Modern] {
            assert_eq!(fit(list, era, definition), Fit::Valid, "{definition}");
        }
    }
}

#[test]
fn schemas_of_arguments_are_completed_or_withheld() {
    const ANY: &str = r#"{"type":"object"}"#;
    for (schema, expected) in [
        ("null", Ok(ANY)),
        ("true", Ok(ANY)),
        ("[]", Ok(ANY)),
        ("[ ]", Ok(ANY)),
        ("{}", Ok(ANY)),
        (r#"{"type":null}"#, Ok(ANY)),
        (r#"{"type":["object","null"]}"#, Ok(ANY)),
        (r##"{"anyOf":[{"$ref":"#/a"}]}"##, Ok(r##"{"anyOf":[{"$ref":"#/a"}],"type":"object"}"##)),
        (r#"{"properties":{"a":{}}}"#, Ok(r#"{"properties":{"a":{}},"type":"object"}"#)),
        (r#"{"type":"object","properties":null}"#, Ok(ANY)),
        (r#"{"type":"object","properties":[]}"#, Ok(ANY)),
        (
            r#"{"type":"object","properties":{"a":true,"b":false,"c":[],"d":null,"e":{"properties":[]}}}"#,
            Ok(
                r#"{"type":"object","properties":{"a":{},"b":{"not":{}},"c":{},"d":{},"e":{"properties":[]}}}"#,
            ),
        ),
        (r#"{"type":"object","required":null}"#, Ok(ANY)),
        (r#"{"type":"object","required":{}}"#, Ok(ANY)),
        (r#"{"type":"object","required":true}"#, Ok(ANY)),
        (r#"{"type":"object","required":["a",7,null]}"#, Ok(r#"{"type":"object","required":["a"]}"#)),
        (r#"{"$schema":7,"type":"object"}"#, Ok(ANY)),
        (r#""{}""#, Err("inputSchema is no schema of an object")),
        ("7", Err("inputSchema is no schema of an object")),
        ("false", Err("inputSchema is no schema of an object")),
        (r#"[{"type":"object"}]"#, Err("inputSchema is no schema of an object")),
        (r#"{"type":"string"}"#, Err("inputSchema has a type that is not object")),
        (r#"{"type":["string","null"]}"#, Err("inputSchema has a type that is not object")),
        (r#"{"type":{}}"#, Err("inputSchema has a type that is not object")),
        (r#"{"type":"object","type":"object"}"#, Err("inputSchema has a member twice")),
        (r#"{"type":"object","properties":"a"}"#, Err("inputSchema has properties that are no schemas")),
        (
            r#"{"type":"object","properties":{"a":"string"}}"#,
            Err("inputSchema has properties that are no schemas"),
        ),
        (
            r#"{"type":"object","properties":[{"a":1}]}"#,
            Err("inputSchema has properties that are no schemas"),
        ),
    ] {
        for era in [Era::Legacy, Era::Modern] {
            let tool = |schema: &str| format!(r#"{{"name":"t", "inputSchema": {schema} }}"#);
            let expected = expected.map(tool).map_err(str::to_owned);
            assert_eq!(listed(Tools, era, &tool(schema)), expected, "{schema}");
        }
    }
}

#[test]
fn schemas_of_results_depend_on_the_era() {
    for (schema, legacy, modern) in [
        (r#"{"type":"object"}"#, true, true),
        (r#"{"type":"array"}"#, false, true),
        ("{}", false, true),
        (r#"{"type":"object","properties":{"a":true}}"#, false, true),
        ("null", false, false),
        ("[]", false, false),
        ("true", false, false),
    ] {
        let tool = format!(r#"{{"name":"t","outputSchema":{schema},"inputSchema":{{"type":"object"}}}}"#);
        let without = r#"{"name":"t","inputSchema":{"type":"object"}}"#;
        for (era, kept) in [(Era::Legacy, legacy), (Era::Modern, modern)] {
            let expected = if kept { tool.clone() } else { without.to_owned() };
            assert_eq!(listed(Tools, era, &tool), Ok(expected), "{schema}");
        }
    }
}

#[test]
fn other_members_are_left_out_completed_or_withheld() {
    for (list, definition, expected) in [
        (
            Tools,
            r#"{"name":"t","title":null,"description":7,"annotations":[],"_meta":[],"icons":{},"execution":null}"#,
            Ok(r#"{"name":"t","inputSchema":{"type":"object"}}"#),
        ),
        (
            Tools,
            r#"{"name":"t","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":"yes","title":null,"x":[]}}"#,
            Ok(r#"{"name":"t","inputSchema":{"type":"object"},"annotations":{"x":[]}}"#),
        ),
        (
            Tools,
            r#"{"name":"t","inputSchema":{"type":"object"},"icons":[{"src":"a","sizes":"any"},{"href":"b"},null,{"src":"c","theme":"blue"}]}"#,
            Ok(r#"{"name":"t","inputSchema":{"type":"object"},"icons":[{"src":"a"},{"src":"c"}]}"#),
        ),
        (Tools, r#"{"name":7,"inputSchema":{"type":"object"}}"#, Err("name is no text")),
        (Tools, r#"{"inputSchema":{"type":"object"}}"#, Err("name is absent")),
        (Tools, r#"{"name":"t","name":"u","inputSchema":{"type":"object"}}"#, Err("name is there twice")),
        (Tools, r#"["t"]"#, Err("definition is not one JSON object")),
        (Tools, r#"{"name":"t""#, Err("definition is not one JSON object")),
        (Resources, r#"{"uri":"a://b/c.txt"}"#, Ok(r#"{"uri":"a://b/c.txt","name":"c.txt"}"#)),
        (Resources, r#"{"uri":"a://b/","name":null}"#, Ok(r#"{"uri":"a://b/","name":"b"}"#)),
        (
            Resources,
            r#"{"uri":"a:b","name":null,"title":"T"}"#,
            Ok(r#"{"uri":"a:b","name":"T","title":"T"}"#),
        ),
        (Resources, r#"{"uri":"urn:x","title":7}"#, Ok(r#"{"uri":"urn:x","name":"urn:x"}"#)),
        (Resources, r#"{"name":"b"}"#, Err("uri is absent")),
        (Resources, r#"{"uri":null,"name":"b"}"#, Err("uri is no text")),
        (Resources, r#"{"uri":"a:b","name":"b","size":"0012"}"#, Ok(r#"{"uri":"a:b","name":"b","size":12}"#)),
        (Resources, r#"{"uri":"a:b","name":"b","size":"000"}"#, Ok(r#"{"uri":"a:b","name":"b","size":0}"#)),
        (Resources, r#"{"uri":"a:b","name":"b","size":"12 KB"}"#, Ok(r#"{"uri":"a:b","name":"b"}"#)),
        (Resources, r#"{"uri":"a:b","name":"b","size":1e300}"#, Ok(r#"{"uri":"a:b","name":"b"}"#)),
        (Resources, r#"{"uri":"a:b","name":"b","size":1.5}"#, Ok(r#"{"uri":"a:b","name":"b"}"#)),
        (
            Resources,
            r#"{"uri":"a:b","name":"b","annotations":{"audience":["user","bot"],"priority":2,"lastModified":"yesterday"}}"#,
            Ok(r#"{"uri":"a:b","name":"b","annotations":{"audience":["user"]}}"#),
        ),
        (
            Resources,
            r#"{"uri":"a:b","name":"b","annotations":{"audience":"user","priority":"1"}}"#,
            Ok(r#"{"uri":"a:b","name":"b","annotations":{}}"#),
        ),
        (Templates, r#"{"uriTemplate":"a://b/{c}"}"#, Ok(r#"{"uriTemplate":"a://b/{c}","name":"{c}"}"#)),
        (Templates, r#"{"uri":"a://b"}"#, Err("uriTemplate is absent")),
        (Prompts, r#"{"name":"p","arguments":{}}"#, Ok(r#"{"name":"p"}"#)),
        (Prompts, r#"{"name":"p","arguments":null}"#, Ok(r#"{"name":"p"}"#)),
        (
            Prompts,
            r#"{"name":"p","arguments":["a",{"name":"b","required":"yes","description":null},{"name":null}, {"name":"c"}]}"#,
            Ok(r#"{"name":"p","arguments":[{"name":"b"},{"name":"c"}]}"#),
        ),
    ] {
        for era in [Era::Legacy, Era::Modern] {
            assert_eq!(
                listed(list, era, definition),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{definition}"
            );
        }
    }
}

#[test]
fn moments_are_dates_that_there_are() {
    for (moment, fits) in [
        ("2026-11-29T14:00:00Z", true),
        ("2026-11-29T14:00:00.5-00:30", true),
        ("2026-11-29T14:00:00+23:59", true),
        ("2024-02-29T00:00:00Z", true),
        ("2023-02-29T00:00:00Z", false),
        ("1900-02-29T00:00:00Z", false),
        ("2026-13-01T00:00:00Z", false),
        ("2026-04-31T00:00:00Z", false),
        ("2026-11-29", false),
        ("2026-11-29T14:00:00", false),
        ("2026-11-29 14:00:00Z", false),
        ("2026-11-29T24:00:00Z", false),
        ("2026-11-29T14:00:60Z", false),
        ("2026-11-29T14:00:00.Z", false),
        ("2026-11-29T14:00:00+1:00", false),
        ("2026-11-29T14:00Z", false),
        ("2026-11-29T14Z", false),
        ("2026-11-29T14:00:00+24:00", false),
        ("26-11-29T14:00:00Z", false),
        ("2026-11-29T+1:00:00Z", false),
        ("é", false),
        ("TéééZ", false),
        ("", false),
    ] {
        let definition = format!(r#"{{"uri":"a:b","name":"b","annotations":{{"lastModified":"{moment}"}}}}"#);
        assert_eq!(fit(Resources, Era::Legacy, &definition) == Fit::Valid, fits, "{moment}");
    }
}

/// Definitions with members of any type.
fn definition() -> impl Strategy<Value = String> {
    let names = vec![
        "name",
        "title",
        "description",
        "uri",
        "uriTemplate",
        "mimeType",
        "size",
        "inputSchema",
        "outputSchema",
        "annotations",
        "arguments",
        "icons",
        "execution",
        "_meta",
    ];
    let inner = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "\"12\"",
        "\"a/b\"",
        "12",
        "0.5",
        "[]",
        "{}",
        "[\"user\",7]",
        "{\"type\":\"object\"}",
        "{\"properties\":{\"a\":true},\"required\":[1]}",
        "{\"type\":[\"object\"]}",
        "[{\"name\":\"a\",\"required\":1}]",
        "[{\"src\":\"a\",\"sizes\":[1]},7]",
        "{\"readOnlyHint\":null,\"audience\":[null],\"priority\":9}",
        "{\"lastModified\":\"x\"}",
        "{\"taskSupport\":\"x\"}",
    ]);
    let value = prop_oneof![5 => inner.prop_map(str::to_owned), 1 => strategies::value()];
    prop::sample::subsequence(names, 0..14).prop_flat_map(move |names| {
        let members: Vec<_> = names.into_iter().map(|name| (Just(name), value.clone())).collect();
        members.prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        })
    })
}

proptest! {
    #[test]
    fn what_is_mended_fits(
        definition in definition(), list in prop::sample::select(vec![Tools, Resources, Templates, Prompts]), modern: bool,
    ) {
        let era = if modern { Era::Modern } else { Era::Legacy };
        if let Fit::Mended { definition: mended, .. } = fit(list, era, &definition) {
            prop_assert_eq!(fit(list, era, &mended), Fit::Valid, "{} of {}", mended, definition);
            prop_assert!(serde_json::from_str::<Value>(&mended).is_ok());
        }
    }
}

#[test]
fn halves_of_surrogate_pairs_are_listed_as_u_fffd_but_in_what_an_entry_is_known_by() {
    const SCHEMA: &str = r#""inputSchema":{"type":"object"}"#;
    for (list, definition, expected) in [
        (
            Tools,
            format!(r#"{{"name":"t","description":"cut \ud83d",{SCHEMA}}}"#),
            Ok(format!(r#"{{"name":"t","description":"cut \ufffd",{SCHEMA}}}"#)),
        ),
        (
            Tools,
            r#"{"name":"t","inputSchema":{"properties":{"k\ud83d":{"default":"\ude00"}}},"_meta":{"x":"\uD83D"}}"#.to_owned(),
            Ok(r#"{"name":"t","inputSchema":{"properties":{"k\ufffd":{"default":"\ufffd"}},"type":"object"},"_meta":{"x":"\ufffd"}}"#.to_owned()),
        ),
        (
            Prompts,
            r#"{"name":"p","arguments":[{"name":"x","description":"\ud83d"}]}"#.to_owned(),
            Ok(r#"{"name":"p","arguments":[{"name":"x","description":"\ufffd"}]}"#.to_owned()),
        ),
        (
            Resources,
            r#"{"uri":"a:b","name":"n\ud83d"}"#.to_owned(),
            Ok(r#"{"uri":"a:b","name":"n\ufffd"}"#.to_owned()),
        ),
        (Tools, format!(r#"{{"name":"t\ud83d",{SCHEMA}}}"#), Err("name has half of a surrogate pair")),
        (Resources, r#"{"uri":"a:\ud83d","name":"n"}"#.to_owned(), Err("uri has half of a surrogate pair")),
        (
            Templates,
            r#"{"uriTemplate":"a:\ud83d{x}","name":"n"}"#.to_owned(),
            Err("uriTemplate has half of a surrogate pair"),
        ),
    ] {
        for era in [Era::Legacy, Era::Modern] {
            let expected = expected.clone().map_err(str::to_owned);
            assert_eq!(listed(list, era, &definition), expected, "{definition}");
        }
    }
    // Whole pairs are as good as any other character.
    let whole = format!(r#"{{"name":"t\ud83d\ude00",{SCHEMA}}}"#);
    assert_eq!(fit(Tools, Era::Legacy, &whole), Fit::Valid);
}

#[test]
fn a_uri_that_is_none_is_withheld_from_clients_that_check_it() {
    for (uri, is_one) in [
        ("a://b", true),
        ("mailto:a@b.c", true),
        ("a://日本語/é#x", true),
        ("file:///C:/Program Files/x.txt", true),
        ("C:\\\\x", true),
        ("users/me", false),
        ("/abs/path", false),
        ("README.md", false),
        ("a b://c d", false),
        ("s_y://x", false),
        ("http://", false),
        ("http://[::1", false),
    ] {
        let definition = format!(r#"{{"uri":"{uri}","name":"n"}}"#);
        let expected = match is_one {
            true => Ok(definition.clone()),
            false => Err("uri is no URI: it is withheld from clients up to 2025-11-25".to_owned()),
        };
        assert_eq!(listed(Resources, Era::Legacy, &definition), expected, "{uri}");
        assert_eq!(listed(Resources, Era::Modern, &definition), Ok(definition.clone()));
        let exposed = definition.replace(&format!(r#""uri":"{uri}""#), &format!(r#""uri":"up-1+{uri}""#));
        assert_eq!(listed(Resources, Era::Legacy, &exposed).is_ok(), is_one || uri == "http://", "{uri}");
    }
}

#[test]
fn output_schemas_that_do_not_compile_are_left_out_for_clients_that_compile_them() {
    for (schema, compiles) in [
        (r##""properties":{"a":{"$ref":"#/$defs/A"}},"$defs":{"A":{"type":"string"}}"##, true),
        (r##""properties":{"a":{"$ref":"#"},"b":{"$ref":"#/properties/a~1b"},"a/b":{}}"##, true),
        (r##""properties":{"a":{"$ref":"other"}},"$defs":{"o":{"$id":"other"}}"##, true),
        (r#""properties":{"enum":{"enum":["a"]},"type":{"type":["string","null"]},"n":{"minimum":0}}"#, true),
        (r#""properties":{"a":{"pattern":"^[\\w\\-.]+@(?:x|y)\\.(?<z>\\p{L})$","items":[{},true]}}"#, true),
        (
            r#""properties":{"a":{"default":{"type":"odd","enum":[]},"x-any":{"type":1}}},"unknown":null"#,
            true,
        ),
        (r#""properties":{"a":{"type":"string","nullable":true}},"$defs":{"unused":{"type":"odd"}}"#, true),
        (r##""properties":{"a":{"$ref":"#/$defs/Screen"}}"##, false),
        (r#""properties":{"a":{"$ref":"https://example.com/a.json"}}"#, false),
        (r#""properties":{"a":{"type":"strng"}}"#, false),
        (r#""properties":{"a":{"items":{"type":null}}}"#, false),
        (r#""properties":{"a":{"pattern":"(?P<y>a)"}}"#, false),
        (r#""properties":{"a":{"pattern":"["}}"#, false),
        (r#""properties":{"a":{"pattern":"\\A\\d"}}"#, false),
        (r#""patternProperties":{"(":{}}"#, false),
        (r#""properties":{"a":{"enum":[]}}"#, false),
        (r#""properties":{"a":{"minimum":"0"}}"#, false),
        (r#""properties":{"a":{"required":true}}"#, false),
        (r#""properties":{"a":{"anyOf":{}}}"#, false),
        (r#""allOf":[null]"#, false),
        (r#""additionalProperties":null"#, false),
        (r#""properties":{"a":{"nullable":true}}"#, false),
        (r#""properties":{"a":{"exclusiveMinimum":true}}"#, false),
        (r#""dependencies":null"#, false),
    ] {
        let tool = format!(
            r#"{{"name":"t","inputSchema":{{"type":"object"}},"outputSchema":{{"type":"object",{schema}}}}}"#
        );
        let without = r#"{"name":"t","inputSchema":{"type":"object"}}"#.to_owned();
        let legacy = if compiles { tool.clone() } else { without };
        assert_eq!(listed(Tools, Era::Legacy, &tool), Ok(legacy), "{schema}");
        assert_eq!(listed(Tools, Era::Modern, &tool), Ok(tool), "{schema}");
    }
    // However deep, or full of references, they are looked at in time.
    let deep = format!("{}{}", r#"{"items":"#.repeat(400), "{}") + &"}".repeat(400);
    let many = vec![r##"{"$ref":"#/properties/a"}"##; 4_000].join(",");
    // Where it takes too long to tell, they are taken to compile: this one does not.
    let large = format!(r#"{}{{"b":"{}"}}{}"#, r#"{"a":"#.repeat(500), "x".repeat(20_000), "}".repeat(500));
    let far = format!(r##"{{"$ref":"#/$defs{}/none"}}"##, "/a".repeat(500));
    let far = vec![far; 60].join(",");
    for schema in [
        format!(r#""properties":{{"a":{deep}}}"#),
        format!(r#""properties":{{"a":{{}}}},"anyOf":[{many}]"#),
        format!(r#""$defs":{large},"anyOf":[{far}]"#),
    ] {
        let tool = format!(
            r#"{{"name":"t","inputSchema":{{"type":"object"}},"outputSchema":{{"type":"object",{schema}}}}}"#
        );
        assert_eq!(fit(Tools, Era::Legacy, &tool), Fit::Valid);
    }
}

#[test]
fn schemas_of_arguments_are_found_under_the_names_that_other_interfaces_have_for_them() {
    const SCHEMA: &str = r#"{"type":"object","properties":{"a":{}}}"#;
    const ANY: &str = r#"{"type":"object"}"#;
    for (members, expected) in [
        (format!(r#""input_schema":{SCHEMA}"#), SCHEMA),
        (format!(r#""parameters":{SCHEMA}"#), SCHEMA),
        (r#""parameters":{"properties":{"a":{}}}"#.to_owned(), r#"{"properties":{"a":{}},"type":"object"}"#),
        (format!(r#""parameters":{SCHEMA},"input_schema":{SCHEMA}"#), ANY),
        (r#""parameters":{"a":"a number"}"#.to_owned(), ANY),
        (r#""parameters":["a"]"#.to_owned(), ANY),
    ] {
        let definition = format!(r#"{{"name":"t",{members}}}"#);
        let expected = format!(r#"{{"name":"t",{members},"inputSchema":{expected}}}"#);
        assert_eq!(listed(Tools, Era::Legacy, &definition), Ok(expected), "{members}");
    }
}
