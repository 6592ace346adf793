//! What paths lead to, and what is said of those that are wrong.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn document() -> Value {
    json!({
        "name": "upstreams/time",
        "meta": {"createTime": "2027-01-15T05:00:00Z", "revision": 12, "labels": {"a.b": "c", "team": "core"}},
        "status": {"tools": [{"id": "x", "count": 1, "a-b": true}, {"id": "y", "count": 2}]},
    })
}

fn check(path: &str, expected: &[Value]) {
    let document = document();
    let path = FieldPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let found: Vec<_> = path.values(&document, &document).into_iter().cloned().collect();
    assert_eq!(found, expected, "{path:?}");
}

#[test]
fn the_paths_of_kubectl_are_understood() {
    for path in [".name", "name", "$.name", "@.name", " .name ", "['name']", ".[\"name\"]", "$['name']"] {
        check(path, &[json!("upstreams/time")]);
    }
    check(".", &[document()]);
    check("@", &[document()]);
    for path in [".meta.labels.a\\.b", ".labels.a\\.b", "labels['a.b']", "meta.labels['a\\.b']"] {
        check(path, &[json!("c")]);
    }
    for path in [".meta.createTime", ".meta.create_time", "..createTime"] {
        check(path, &[json!("2027-01-15T05:00:00Z")]);
    }
    check(".status.tools[*].id", &[json!("x"), json!("y")]);
    check(".status.tools[-1:].id", &[json!("y")]);
    check(".status.tools[0,1].count", &[json!(1), json!(2)]);
    check(".status.*[0].id", &[json!("x")]);
    check(".status.tools[0].a-b", &[json!(true)]);
    check(".status.tools[?(@.id==\"y\")].count", &[json!(2)]);
    check(".status.tools[?(@.a-b == true)].id", &[json!("x")]);
    check(".status.tools[?(@.count>=1 && @['id'] != 'x')].id", &[json!("y")]);
    check(".status.tools[?@.a-b].id", &[json!("x")]);
    check(".nothing.at.all", &[]);
}

#[test]
fn what_has_its_default_is_not_set() {
    let tools = json!([
        {"id": "x", "disabled": false, "title": "", "count": 0, "meta": {"labels": {"empty": ""}}},
        {"id": "y", "disabled": true, "title": "T", "count": 2, "meta": {}},
    ]);
    for (condition, expected) in [
        ("@.disabled", vec!["y"]),
        ("!@.disabled", vec!["x"]),
        ("!(@.title)", vec!["x"]),
        ("@.count && @.title=='T'", vec!["y"]),
        ("@.count==0 || @.title", vec!["x", "y"]),
        ("@.disabled==false", vec!["x"]),
        ("0 == @.count", vec!["x"]),
        ("@.count < 1", vec!["x"]),
        ("@.meta.labels.empty", vec!["x"]),
        ("@.labels.empty || @.labels.other", vec![]),
        ("@.meta", vec!["x", "y"]),
        ("length(@.title) == 0", vec!["x"]),
        ("@", vec!["x", "y"]),
    ] {
        let path = FieldPath::parse(&format!("[?({condition})].id")).unwrap();
        let found: Vec<_> = path.values(&tools, &tools).into_iter().map(text).collect();
        assert_eq!(found, expected, "{condition}");
    }
}

#[test]
fn the_labels_of_items_are_short_too() {
    let list = json!({ "items": [document()] });
    for path in [
        ".items[*].labels.team",
        ".items[0].meta.labels.team",
        "$.items[?(@.labels.team=='core')].labels.team",
    ] {
        let path = FieldPath::parse(path).unwrap();
        assert_eq!(
            path.values(&Value::Null, &list).len() + path.values(&list, &list).len(),
            if path.from_root { 2 } else { 1 },
            "{path:?}"
        );
    }
}

#[test]
fn what_is_not_understood_is_said_with_its_place() {
    for (path, said) in [
        (".a[", "`[` is not closed at character 3"),
        (".a..", "a name is missing after the dot at character 5"),
        (".a[x]", "`[x]` is no number, *, slice, 'name' or ?(condition) at character 3"),
        (".a[?(@.b=1)]", "`[?(@.b=1)]` is not understood at character 3"),
        (".a[?(@..)]", "a name is missing after the dot at character 9"),
        (".a b", "`b` is unexpected at character 4"),
        (".a]", "`]` is unexpected at character 3"),
        (".{a}", "`{a}` is no name; quote it, as in ['{a}'], at character 2"),
    ] {
        assert_eq!(FieldPath::parse(path).unwrap_err().to_string(), said, "{path}");
    }
}

#[test]
fn fields_that_do_not_exist_are_found_out() {
    let upstream = crate::reflection::message("trunkline.registry.v1.Upstream");
    let check = |path: &str| FieldPath::parse(path).unwrap().check(&upstream);
    for path in [
        "kind",
        ".name",
        ".meta.createTime.x",
        ".meta.create_time",
        ".labels.any",
        ".status.warnings[0].x",
        ".",
        "..x",
    ] {
        assert_eq!(check(path), Ok(()), "{path}");
    }
    assert_eq!(
        check(".meta.creatTime").unwrap_err(),
        "Meta has no field creatTime; did you mean createTime?"
    );
    assert_eq!(check(".metadata.name").unwrap_err(), "Upstream has no field metadata; did you mean meta?");
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in "\\PC{0,24}") {
        let document = document();
        if let Ok(path) = FieldPath::parse(&text) {
            path.values(&document, &document);
        }
    }

    #[test]
    fn every_name_is_found_when_it_is_escaped(name in "[^\\\\]{1,8}") {
        let document = Value::Object([(name.clone(), json!(1))].into_iter().collect());
        let escaped: String = name.chars().flat_map(|c| ['\\', c]).collect();
        let path = FieldPath::parse(&format!(".{escaped}"));
        if !name.contains(['\'', '"', '*', '{', '}']) && name != "labels" && name != "annotations" {
            let path = path.unwrap();
            prop_assert_eq!(path.values(&document, &document), [&json!(1)]);
        }
    }
}
