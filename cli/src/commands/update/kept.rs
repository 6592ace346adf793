//! What an update keeps although nobody named it: the other headers of a credential, whose values nobody can read back, and how
//! members appear that stay in a list; and what it takes away. Pure.

use serde_json::{Map, Value, json};

use crate::commands::fields::HEADERS;
use crate::commands::members;
use crate::error::{Error, Result};

/// The fields that are lists: of what a server exposes, of what a token may use, from where, when and how much, and of what a role holds.
const LISTS: [&str; 13] = [
    "tools",
    "resources",
    "prompts",
    "scope.servers",
    "scope.tools",
    "scope.resources",
    "scope.prompts",
    "conditions.methods",
    "conditions.from",
    "conditions.windows",
    "conditions.rates",
    "conditions.quotas",
    "permissions",
];

/// Everything there is. Who names something in its place has narrowed the list, and lost nothing.
const ALL: &str = "*";

/// The lists that an update replaces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReplacedLists {
    /// Whether there are any.
    pub(super) is_any: bool,
    /// What they have no more, such as `tools: time/now=now`.
    pub(super) lost: Vec<String>,
}

/// Names each header in the mask instead of the whole credential, where it consists of headers already, in the spelling that is
/// stored.
pub(super) fn keep_headers(before: &Value, body: &mut Map<String, Value>, mask: &mut Vec<String>) -> Result {
    let stored = before["credential"]["headers"]["headers"].as_object();
    let stored: Vec<&str> = stored.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let spelled = |name: &str| stored.iter().find(|known| known.eq_ignore_ascii_case(name)).copied();
    let removed = |path: &String| Some(path.strip_prefix(HEADERS)?.strip_prefix('.')?.to_owned());
    let removed: Vec<String> = mask.iter().filter_map(removed).collect();
    for name in removed.iter().filter_map(|name| Some((name, spelled(name)?))) {
        mask.iter_mut().filter(|path| **path == path_of(name.0)).for_each(|path| *path = path_of(name.1));
    }
    let given = body.get_mut("credential").and_then(|credential| credential.pointer_mut("/headers/headers"));
    let given = given.and_then(Value::as_object_mut);
    let Some(given) = given.filter(|_| !stored.is_empty()) else {
        return check_rest(&stored, &removed, body.contains_key("credential"));
    };
    let named = std::mem::take(given).into_iter();
    *given = named.map(|(name, value)| (spelled(&name).unwrap_or(&name).to_owned(), value)).collect();
    mask.retain(|path| path != "credential");
    mask.extend(given.keys().map(|name| path_of(name)));
    Ok(())
}

fn path_of(header: &str) -> String {
    format!("{HEADERS}.{header}")
}

/// A credential without headers would be none.
fn check_rest(stored: &[&str], removed: &[String], is_replaced: bool) -> Result {
    let is_removed = |name: &&&str| removed.iter().any(|removed| removed.eq_ignore_ascii_case(name));
    match !is_replaced && !stored.is_empty() && stored.iter().filter(is_removed).count() == stored.len() {
        true => Err(Error::usage("no header is left then; use --clear credential to have none")),
        false => Ok(()),
    }
}

/// Says which secrets go with a credential that another kind of it replaces, or that is cleared, such as `credential: header X-Key`.
/// One of the same kind is what a new secret was given for.
pub(super) fn lost_secrets(before: &Value, body: &Map<String, Value>, mask: &[String]) -> Vec<String> {
    let kind = |credential: &Value| credential.as_object()?.keys().find(|key| *key != "version").cloned();
    let (old, new) = (kind(&before["credential"]), body.get("credential").and_then(kind));
    if old == new || !mask.iter().any(|path| path == "credential") {
        return Vec::new();
    }
    let Some(old) = old else { return Vec::new() };
    let credential = &before["credential"][&old];
    let names: Vec<String> = match old.as_str() {
        "headers" => {
            let headers = credential["headers"].as_object().into_iter().flatten();
            headers.map(|(name, _)| format!("header {name}")).collect()
        }
        "basic" => {
            vec![format!("user {} and the password", credential["username"].as_str().unwrap_or_default())]
        }
        "queryParameter" => {
            vec![format!("query parameter {}", credential["parameter"].as_str().unwrap_or_default())]
        }
        _ => vec!["bearer".to_owned()],
    };
    names.into_iter().map(|name| format!("credential: {name}")).collect()
}

/// Shows a resource to nobody else where its team is taken away, and it was shown to that.
pub(super) fn unshare(before: &Value, body: &mut Map<String, Value>, mask: &mut Vec<String>) {
    let is_shared = before["meta"]["visibility"] == "VISIBILITY_TEAM";
    let Some(meta) = body.get_mut("meta").filter(|meta| is_shared && meta["team"] == "") else { return };
    if mask.iter().all(|path| path != "meta.visibility") {
        meta["visibility"] = "VISIBILITY_PRIVATE".into();
        mask.push("meta.visibility".to_owned());
    }
}

/// Gives a team that had no scope everything that its first one does not narrow, as when a team is created: to add a server takes
/// nothing away.
pub(super) fn fill_scope(before: &Value, body: &mut Map<String, Value>, mask: &mut Vec<String>) {
    let Some(scope) = body.get_mut("scope").filter(|_| before["scope"].is_null()) else { return };
    for list in ["tools", "resources", "prompts"] {
        let path = format!("scope.{list}");
        if !mask.contains(&path) {
            scope[list] = json!([ALL]);
            mask.push(path);
        }
    }
}

/// Keeps members as they are that the new lists name again: a title cannot be given on the command line, and an alias need not
/// be. Returns what is lost.
pub(super) fn keep_members(before: &Value, body: &mut Map<String, Value>, mask: &[String]) -> ReplacedLists {
    let mut replaced = ReplacedLists::default();
    for path in LISTS.iter().filter(|path| mask.iter().any(|named| named == *path)) {
        let old = list(before, path);
        let Some(new) = list_in(body, path) else { continue };
        replaced.is_any = true;
        let names: Vec<Value> = new.iter().map(|item| key(item).clone()).collect();
        let lost = old.iter().filter(|old| !names.contains(key(old)) && *key(old) != json!(ALL));
        let field = path.trim_start_matches("scope.").trim_start_matches("conditions.");
        replaced.lost.extend(lost.map(|old| format!("{field}: {}", told(field, old))));
        let same = |item: &Value| -> Vec<Value> {
            let same = old.iter().filter(|old| key(old) == key(item));
            let same: Vec<_> = same.map(|old| with_alias_of(item, old.clone())).collect();
            if same.is_empty() { vec![item.clone()] } else { same }
        };
        *new = new.iter().flat_map(same).collect();
    }
    replaced
}

/// Gives a member the alias that another one says, if it says something of that.
fn with_alias_of(item: &Value, mut member: Value) -> Value {
    if let Some(alias) = item.get("alias") {
        member["alias"] = alias.clone();
    }
    member
}

fn list_in<'a>(body: &'a mut Map<String, Value>, path: &str) -> Option<&'a mut Vec<Value>> {
    match path.split_once('.') {
        Some((folder, field)) => body.get_mut(folder)?.get_mut(field)?.as_array_mut(),
        None => body.get_mut(path)?.as_array_mut(),
    }
}

fn list<'a>(of: &'a Value, path: &str) -> &'a [Value] {
    let list = path.split('.').fold(of, |value, part| &value[part]);
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What an entry of a list is known by.
fn key(item: &Value) -> &Value {
    item.get("match").unwrap_or(item)
}

/// An entry in words, as its flag takes it: `time/now=now (title Now)`.
fn told(list: &str, item: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let said = |field: &str| ["match", "alias"].contains(&field);
    let more = item.as_object().into_iter().flatten().filter(|(field, _)| !said(field));
    let more: Vec<_> = more.map(|(field, value)| format!("{field} {}", text(value))).collect();
    let name = if item.is_object() { members::written(list, item) } else { text(item) };
    let name = name.strip_prefix("servers/").unwrap_or(&name);
    if more.is_empty() { name.to_owned() } else { format!("{name} ({})", more.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn headers(
        before: Value,
        given: Value,
        mask: &[&str],
    ) -> std::result::Result<(Value, Vec<String>), String> {
        let mut mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
        let mut body = body(given);
        keep_headers(&before, &mut body, &mut mask).map_err(|error| error.to_string())?;
        Ok((Value::Object(body), mask))
    }

    #[test]
    fn other_headers_stay() {
        let of = |headers: Value| json!({ "credential": { "headers": { "headers": headers } } });
        let stored = || of(json!({ "X-A": "", "X-B": "" }));
        let whole = ["title", "credential"];
        let kept = headers(stored(), of(json!({ "x-b": "2", "X-C": "3" })), &whole).unwrap();
        let paths = ["title", "credential.headers.headers.X-B", "credential.headers.headers.X-C"];
        assert_eq!(kept, (of(json!({ "X-B": "2", "X-C": "3" })), paths.map(str::to_owned).to_vec()));
        // Nothing is kept of another form.
        for other in [json!({}), json!({ "credential": { "bearer": {} } })] {
            let replaced = headers(other, of(json!({ "X-B": "2" })), &whole).unwrap();
            assert_eq!(replaced, (of(json!({ "X-B": "2" })), whole.map(str::to_owned).to_vec()));
        }
        let removed = headers(stored(), json!({}), &["credential.headers.headers.x-a"]).unwrap();
        assert_eq!(removed, (json!({}), vec!["credential.headers.headers.X-A".to_owned()]));
        let all = ["credential.headers.headers.x-a", "credential.headers.headers.X-B"];
        let error = headers(stored(), json!({}), &all).unwrap_err();
        assert_eq!(error, "no header is left then; use --clear credential to have none");
        let swapped = headers(stored(), of(json!({ "X-C": "3" })), &[all[0], all[1], "credential"]).unwrap();
        assert_eq!(swapped.1.len(), 3);
    }

    #[test]
    fn members_that_stay_are_as_they_were_and_others_are_named() {
        let before = json!({ "tools": [{ "match": "a/x", "alias": "ax" }, { "match": "a/y" }, { "match": "b/*" }],
            "scope": { "servers": ["servers/a", "servers/b"], "tools": ["*"] } });
        let mut given = body(json!({ "tools": [{ "match": "c/*" }, { "match": "a/x" }],
            "scope": { "servers": ["servers/b"], "tools": ["a_*"] } }));
        let mask = ["tools", "scope.servers", "scope.tools"].map(str::to_owned);
        let replaced = keep_members(&before, &mut given, &mask);
        assert_eq!(replaced.lost, ["tools: a/y", "tools: b/*", "servers: a"]);
        assert_eq!(given["tools"], json!([{ "match": "c/*" }, { "match": "a/x", "alias": "ax" }]));
        let mut others = body(json!({ "title": "x" }));
        assert_eq!(keep_members(&before, &mut others, &["title".to_owned()]), ReplacedLists::default());
        let alias = json!({ "tools": [{ "match": "a/x", "alias": "ax" }] });
        let lost = keep_members(&alias, &mut body(json!({ "tools": [] })), &mask[..1]).lost;
        assert_eq!(lost, ["tools: a/x=ax"]);
    }

    #[test]
    fn an_alias_that_is_given_takes_the_place_of_the_old_one() {
        let before =
            json!({ "tools": [{ "match": "a/x", "alias": "ax", "title": "X" }, { "match": "a/y" }] });
        let mut given =
            body(json!({ "tools": [{ "match": "a/x", "alias": "" }, { "match": "a/y", "alias": "ay" }] }));
        let replaced = keep_members(&before, &mut given, &["tools".to_owned()]);
        assert_eq!(replaced.lost, Vec::<String>::new());
        let expected =
            json!([{ "match": "a/x", "alias": "", "title": "X" }, { "match": "a/y", "alias": "ay" }]);
        assert_eq!(given["tools"], expected);
    }

    #[test]
    fn what_has_no_team_any_more_is_shown_to_none() {
        let unshared = |visibility: &str, given: Value, mask: &[&str]| {
            let mut mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
            let mut body = body(given);
            unshare(&json!({ "meta": { "visibility": visibility } }), &mut body, &mut mask);
            (Value::Object(body), mask.join(" "))
        };
        let none = || json!({ "meta": { "team": "" } });
        let private = json!({ "meta": { "team": "", "visibility": "VISIBILITY_PRIVATE" } });
        let mask = "meta.team meta.visibility".to_owned();
        assert_eq!(unshared("VISIBILITY_TEAM", none(), &["meta.team"]), (private, mask));
        assert_eq!(unshared("VISIBILITY_PUBLIC", none(), &["meta.team"]), (none(), "meta.team".to_owned()));
        let other = || json!({ "meta": { "team": "teams/a" } });
        assert_eq!(unshared("VISIBILITY_TEAM", other(), &["meta.team"]), (other(), "meta.team".to_owned()));
    }

    #[test]
    fn the_first_scope_of_a_team_narrows_what_it_names_alone() {
        let filled = |before: Value, given: Value, mask: &[&str]| {
            let mut mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
            let mut body = body(given);
            fill_scope(&before, &mut body, &mut mask);
            (Value::Object(body), mask.join(" "))
        };
        let given = || json!({ "scope": { "servers": ["servers/b"], "tools": ["a_*"] } });
        let mask = ["scope.servers", "scope.tools"];
        let whole = json!({ "scope": { "servers": ["servers/b"], "tools": ["a_*"], "resources": ["*"], "prompts": ["*"] } });
        let paths = "scope.servers scope.tools scope.resources scope.prompts".to_owned();
        assert_eq!(filled(json!({}), given(), &mask), (whole, paths));
        let scoped = json!({ "scope": { "tools": ["x"] } });
        assert_eq!(filled(scoped, given(), &mask), (given(), mask.join(" ")));
        assert_eq!(filled(json!({}), json!({ "title": "x" }), &["title"]).1, "title");
    }

    #[test]
    fn secrets_that_another_kind_replaces_are_named() {
        let of = |credential: Value| json!({ "credential": credential });
        let headers = || of(json!({ "headers": { "headers": { "X-A": "", "X-B": "" } }, "version": "3" }));
        let bearer = || of(json!({ "bearer": {}, "version": "1" }));
        let basic = of(json!({ "basic": { "username": "eve" }, "version": "1" }));
        let query = of(json!({ "queryParameter": { "parameter": "key" } }));
        for (before, given, lost) in [
            (headers(), bearer(), vec!["credential: header X-A", "credential: header X-B"]),
            (bearer(), headers(), vec!["credential: bearer"]),
            (basic, bearer(), vec!["credential: user eve and the password"]),
            (query, bearer(), vec!["credential: query parameter key"]),
            (bearer(), bearer(), vec![]),
            (json!({}), bearer(), vec![]),
            (bearer(), json!({}), vec!["credential: bearer"]),
        ] {
            let mask = ["credential".to_owned()];
            assert_eq!(lost_secrets(&before, &body(given.clone()), &mask), lost, "{before} {given}");
        }
    }
}
