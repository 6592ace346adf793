//! The schemas of a tool: objects of JSON Schema, as far as SDKs look into them. It must not know the rest of JSON Schema.

use super::compile::compiles;
use super::shape::{Mend, Shape, list};
use super::{Members, is_text};
use crate::json;
use crate::revision::Era;

/// What is done about an `inputSchema`. It must describe an object: that is what arguments are.
pub(super) fn input(raw: Option<&str>, tool: &Members<'_>) -> Mend {
    const EMPTY: &str = r#"{"type":"object"}"#;
    let empty = |what| Mend::Put(EMPTY.to_owned(), what);
    match raw {
        None => {
            under_another_name(tool).unwrap_or_else(|| empty("is absent: the schema of any object is listed"))
        }
        Some("null") => empty("is null: the schema of any object is listed"),
        Some("true") => empty("is true: the schema of any object is listed"),
        Some(raw) if is_empty_list(raw) => empty("is an empty list: the schema of any object is listed"),
        Some(raw) if raw.starts_with('{') => object(raw),
        Some(_) => Mend::Withhold("is no schema of an object"),
    }
}

/// The schema of arguments in the member that other interfaces of models have it in, if it is in one of them.
fn under_another_name(tool: &Members<'_>) -> Option<Mend> {
    let names = [
        ("input_schema", "is absent: input_schema is listed"),
        ("parameters", "is absent: parameters is listed"),
    ];
    let mut found = names.iter().filter_map(|(name, what)| Some((tool.only(name).ok()??, *what)));
    let first = found.next()?;
    if found.next().is_some() { None } else { listed_as(first) }
}

fn listed_as((raw, what): (&str, &'static str)) -> Option<Mend> {
    let is_schema = raw.starts_with('{')
        && Members::read(raw)
            .is_ok_and(|members| members.only("properties").is_ok_and(|found| found.is_some()));
    match object(raw) {
        Mend::Fits if is_schema => Some(Mend::Put(raw.to_owned(), what)),
        Mend::Put(mended, _) if is_schema => Some(Mend::Put(mended, what)),
        _ => None,
    }
}

/// What is done about an `outputSchema`. Clients of the legacy era take those of objects only.
pub(super) fn output(raw: &str, era: Era) -> Mend {
    if !raw.starts_with('{') {
        return Mend::LeaveOut("is no object: it is left out");
    }
    match (era, object(raw)) {
        (Era::Modern, _) => Mend::Fits,
        (Era::Legacy, Mend::Fits) if compiles(raw) => Mend::Fits,
        (Era::Legacy, Mend::Fits) => {
            Mend::LeaveOut("does not compile: it is left out for clients up to 2025-11-25")
        }
        (Era::Legacy, _) => {
            Mend::LeaveOut("is no schema of an object: it is left out for clients up to 2025-11-25")
        }
    }
}

/// What is done about a member of a schema.
type Rule = fn(Option<&str>) -> Mend;

/// What is done about a schema that should be one of an object.
fn object(raw: &str) -> Mend {
    let Ok(members) = Members::read(raw) else {
        return Mend::Withhold("is no schema of an object");
    };
    let mut edits: Vec<(&str, Option<String>)> = Vec::new();
    let mut first = None;
    let rules: [(&str, Rule); 4] =
        [("type", kind), ("properties", properties), ("required", required), ("$schema", dialect)];
    for (member, rule) in rules {
        let Ok(value) = members.only(member) else {
            return Mend::Withhold("has a member twice");
        };
        let (edit, what) = match rule(value) {
            Mend::Fits => continue,
            Mend::Put(value, what) => (Some(value), what),
            Mend::LeaveOut(what) => (None, what),
            Mend::Withhold(what) => return Mend::Withhold(what),
        };
        edits.push((member, edit));
        first = first.or(Some(what));
    }
    let Some(what) = first else { return Mend::Fits };
    let edits: Vec<_> = edits.iter().map(|(member, value)| (*member, value.as_deref())).collect();
    json::set_members(raw, &edits)
        .map_or(Mend::Withhold("is no schema of an object"), |mended| Mend::Put(mended, what))
}

/// `type` of a schema whose values are arguments: nothing but an object can be meant where it is open.
fn kind(raw: Option<&str>) -> Mend {
    let object = |what| Mend::Put("\"object\"".to_owned(), what);
    let Some(raw) = raw.filter(|raw| *raw != "null") else {
        return object("has no type: object is added");
    };
    if raw.starts_with('[') {
        let mut found = false;
        let read = json::each_element(raw, |kind| {
            found |= is_object(kind);
            Ok::<(), json::JsonError>(())
        });
        if read.is_ok() && found {
            return object("has several types: object is listed");
        }
    }
    if is_object(raw) { Mend::Fits } else { Mend::Withhold("has a type that is not object") }
}

fn is_object(kind: &str) -> bool {
    json::string(kind).is_ok_and(|kind| kind == "object")
}

/// `properties`: an object of schemas. Some SDKs take no `true` and `false` for schemas.
fn properties(raw: Option<&str>) -> Mend {
    const NONE: Mend = Mend::Withhold("has properties that are no schemas");
    let raw = match raw {
        None => return Mend::Fits,
        Some("null") => return Mend::LeaveOut("has properties that are null: they are left out"),
        Some(raw) if is_empty_list(raw) => {
            return Mend::LeaveOut("has properties that are an empty list: they are left out");
        }
        Some(raw) => raw,
    };
    let Ok(members) = Members::read(raw) else { return NONE };
    let mut edits = Vec::new();
    for (name, value) in &members.0 {
        match *value {
            object if object.starts_with('{') => {}
            "true" | "null" => edits.push((&**name, Some("{}"))),
            "false" => edits.push((&**name, Some(r#"{"not":{}}"#))),
            list if is_empty_list(list) => edits.push((&**name, Some("{}"))),
            _ => return NONE,
        }
    }
    if edits.is_empty() {
        return Mend::Fits;
    }
    json::set_members(raw, &edits)
        .map_or(NONE, |mended| Mend::Put(mended, "has properties that are no objects: objects are listed"))
}

/// `required`: a list of names.
fn required(raw: Option<&str>) -> Mend {
    match raw.map(|raw| list(Shape::Text, raw)) {
        None | Some(Mend::Fits) => Mend::Fits,
        Some(Mend::Put(names, _)) => Mend::Put(names, "requires what is no name: that is left out"),
        Some(_) => Mend::LeaveOut("has required that is no list: it is left out"),
    }
}

/// `$schema`: the URI of the dialect.
fn dialect(raw: Option<&str>) -> Mend {
    if raw.is_none_or(is_text) {
        Mend::Fits
    } else {
        Mend::LeaveOut("has $schema that is no text: it is left out")
    }
}

fn is_empty_list(raw: &str) -> bool {
    raw.strip_prefix('[').is_some_and(|rest| rest.trim_ascii_start() == "]")
}
