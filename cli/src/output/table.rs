//! Tables. Pure: messages and the time go in, text comes out.

use prost_reflect::DynamicMessage;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::grid::Grid;
use crate::kinds::short_name;
use crate::parse;
use crate::reflection;

/// A column: its title, the path of its value (JSON spelling, with dots) and the format of its cells.
#[derive(Debug)]
pub struct Column(pub &'static str, pub &'static str, pub Cell);

/// The format of a cell.
#[derive(Debug, Clone, Copy)]
pub enum Cell {
    /// The value as it is.
    Text,
    /// A name without its collection.
    Id,
    /// The first line, shortened.
    Line,
    /// A number; 0 if absent.
    Number,
    /// An enum value without this prefix.
    Enum(&'static str),
    /// The time since.
    Age,
    /// The time until; `never` if absent.
    Until,
    /// Names, separated by commas.
    List,
    /// Texts, separated by commas.
    Texts,
    /// Labels, separated by commas.
    Pairs,
    /// The conditions of a token, separated by commas.
    Conditions,
    /// The revisions that a probe found.
    Eras,
    /// The address of an upstream.
    Address,
    /// The resources that an edge refuses.
    Refusals,
    /// The uses of a join token, and how many it is good for.
    Uses,
    /// Roles, with the teams in which they are held.
    Bindings,
}

const MAX_LINE: usize = 60;

/// Writes messages into the cells of a table, with full names or without their collection. Ages are relative to `now`.
pub fn grid(columns: &[&Column], items: &[DynamicMessage], full_names: bool, now: OffsetDateTime) -> Grid {
    let titles = columns.iter().map(|column| column.0.to_owned()).collect();
    let rows = items.iter().map(|item| {
        let item = reflection::to_json(item);
        let write = |Column(_, path, cell): &&Column| match (full_names, *path, cell) {
            (true, "name", Cell::Id) => text(field_at(&item, path)),
            (_, path, Cell::Enum(_)) if path.ends_with("state") && field_at(&item, path).is_null() => {
                untold_state(&item, now).to_owned()
            }
            _ => cell.write(field_at(&item, path), now),
        };
        columns.iter().map(write).collect()
    });
    Grid::new(titles, rows).with_elastic(columns.iter().map(|column| column.2.is_elastic()).collect())
}

/// The state of a resource in so far as it follows from its own fields: older control planes do not tell it.
fn untold_state(item: &Value, now: OffsetDateTime) -> &'static str {
    if !item["revokeTime"].is_null() {
        "revoked"
    } else if timestamp(&item["expireTime"]).is_some_and(|end| end <= now) {
        "expired"
    } else if !item["staleTime"].is_null() {
        "stale"
    } else if item["disabled"] == true {
        "disabled"
    } else {
        ""
    }
}

/// Renders a table. Empty columns are left out, and every cell stays on its line.
pub fn render_rows(titles: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    Grid::new(titles, rows).render(true, None)
}

fn field_at<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('.').filter(|part| !part.is_empty()).fold(item, |value, part| &value[part])
}

impl Cell {
    /// Whether a cell may be cut where there is no room.
    fn is_elastic(self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::Line
                | Self::List
                | Self::Texts
                | Self::Pairs
                | Self::Conditions
                | Self::Refusals
                | Self::Address
        )
    }

    fn write(self, value: &Value, now: OffsetDateTime) -> String {
        match self {
            Self::Text => text(value),
            Self::Id => short_name(&text(value)),
            Self::Line => first_line(&text(value)),
            Self::Number => {
                if value.is_null() {
                    "0".into()
                } else {
                    text(value)
                }
            }
            Self::Enum(prefix) => {
                value.as_str().map(|name| reflection::word(prefix, name)).unwrap_or_default()
            }
            Self::Age => timestamp(value).map(|then| parse::short_duration(now - then)).unwrap_or_default(),
            Self::Until => match timestamp(value) {
                Some(then) if then <= now => format!("{} ago", parse::short_duration(now - then)),
                Some(then) => format!("in {}", parse::short_duration(then - now)),
                None => "never".into(),
            },
            Self::List => list(value, |item| short_name(&text(item))),
            Self::Texts => list(value, text),
            Self::Pairs => pairs(value),
            Self::Conditions => conditions(value),
            Self::Eras => eras(value),
            Self::Address => address(value),
            Self::Bindings => list(value, binding),
            Self::Refusals => list(value, |item| text(&item["refusal"]["name"])),
            Self::Uses => match value["maxUses"].as_u64().unwrap_or_default() {
                0 => format!("{} of any number", uses(value)),
                most => format!("{} of {most}", uses(value)),
            },
        }
    }
}

fn binding(value: &Value) -> String {
    let [role, team] = ["role", "team"].map(|key| short_name(&text(&value[key])));
    if team.is_empty() { role } else { format!("{role} in {team}") }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn first_line(text: &str) -> String {
    let first = text.trim().lines().next().unwrap_or_default();
    match first.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}…", &first[..end]),
        None => first.to_owned(),
    }
}

fn list(value: &Value, one: impl Fn(&Value) -> String) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(one).collect::<Vec<_>>().join(",")
}

fn pairs(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(",")
}

/// What must hold beside a scope: methods, addresses, times, and how much.
fn conditions(value: &Value) -> String {
    let begin =
        value["notBefore"].as_str().map(|begin| format!("not before {}", parse::to_the_second(begin)));
    let from =
        Some(list(&value["from"], text)).filter(|from| !from.is_empty()).map(|from| format!("from {from}"));
    let lists = ["methods", "windows", "rates", "quotas"].map(|field| list(&value[field], text));
    let [methods, windows, rates, quotas] = lists.map(|list| Some(list).filter(|list| !list.is_empty()));
    [methods, from, begin, windows, rates, quotas].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn timestamp(value: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()
}

fn eras(probe: &Value) -> String {
    let legacy = probe["legacy"]["version"].as_str();
    let modern =
        probe["modern"]["versions"].as_array().and_then(|versions| versions.iter().max_by_key(|v| text(v)));
    let modern = modern.and_then(Value::as_str);
    [legacy, modern].into_iter().flatten().collect::<Vec<_>>().join(",")
}

/// Returns the URL of an upstream, or `tunnel` for one that dials in.
fn address(upstream: &Value) -> String {
    if upstream["tunnel"].is_object() {
        "tunnel".to_owned()
    } else {
        first_line(&text(&upstream["http"]["url"]))
    }
}

fn uses(join_token: &Value) -> u64 {
    join_token["uses"].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Kind;
    use serde_json::json;

    fn check(kind: &str, items: Value) -> String {
        let kind = Kind::from_word(kind);
        let read =
            |item: &Value| reflection::from_json(reflection::message(kind.message), item.clone()).unwrap();
        let items: Vec<_> = items.as_array().unwrap().iter().map(read).collect();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let columns: Vec<_> = kind.columns.iter().collect();
        grid(&columns, &items, false, now).render(true, None)
    }

    #[test]
    fn join_tokens() {
        let table = check(
            "join-tokens",
            json!([
                {"name": "joinTokens/a1", "state": "JOIN_TOKEN_STATE_USED_UP", "maxUses": 1, "uses": 1, "enrolledEdges": ["edges/e1"],
                 "expireTime": "2027-01-15T09:00:00Z", "createTime": "2027-01-15T07:00:00Z"},
                {"name": "joinTokens/b2", "state": "JOIN_TOKEN_STATE_EXPIRED", "uses": 2, "expireTime": "2027-01-15T07:00:00Z"},
                {"name": "joinTokens/c3", "state": "JOIN_TOKEN_STATE_VALID", "maxUses": 3, "edge": "edges/e9", "expireTime": "2027-01-15T09:00:00Z"},
            ]),
        );
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[0], ["NAME", "STATE", "USES", "FOR EDGE", "ENROLLED EDGES", "EXPIRES", "AGE"]);
        assert_eq!(rows[1], ["a1", "used-up", "1 of 1", "e1", "in 60m", "60m"]);
        assert_eq!(rows[2], ["b2", "expired", "2 of any number", "60m ago"]);
        assert_eq!(rows[3], ["c3", "valid", "0 of 3", "e9", "in 60m"]);
    }

    #[test]
    fn upstreams() {
        insta::assert_snapshot!(check(
            "upstreams",
            json!([
                {"name": "upstreams/time", "http": {"url": "http://127.0.0.1:9000/mcp"},
                 "meta": {"createTime": "2027-01-15T05:00:00Z"},
                 "status": {"state": "UPSTREAM_STATE_READY", "toolCount": 2,
                            "probe": {"legacy": {"version": "2025-06-18"}, "modern": {"versions": ["2026-07-28"]}}}},
                {"name": "upstreams/down", "http": {"url": "https://down.example/mcp"},
                 "status": {"state": "UPSTREAM_STATE_UNREACHABLE", "reason": "connection refused"}},
            ])
        ));
    }

    #[test]
    fn tokens() {
        insta::assert_snapshot!(check(
            "tokens",
            json!([
                {"name": "tokens/laptop", "state": "TOKEN_STATE_VALID", "scope": {"servers": ["servers/dev"], "tools": ["*"]},
                 "expireTime": "2027-02-15T05:00:00Z", "meta": {"createTime": "2027-01-15T07:59:00Z"}},
                {"name": "tokens/old", "state": "TOKEN_STATE_REVOKED", "scope": {"servers": ["*"], "tools": ["time_*", "git_*"]},
                 "revokeTime": "2027-01-01T00:00:00Z"},
            ])
        ));
    }

    #[test]
    fn tools_and_edges() {
        insta::assert_snapshot!(check(
            "tools",
            json!([
                {"name": "upstreams/time/tools/now", "state": "ENTRY_STATE_READY", "title": "Now", "description": "Tells the time.\nIn UTC."},
                {"name": "upstreams/time/tools/a%2Fb", "state": "ENTRY_STATE_STALE", "staleTime": "2027-01-01T00:00:00Z", "disabled": true},
            ])
        ));
        insta::assert_snapshot!(check(
            "edges",
            json!([
                {"name": "edges/e1", "state": "EDGE_STATE_CONNECTED", "stateTime": "2027-01-15T07:00:00Z", "sentRevision": "12",
                 "ackedRevision": "11", "lag": "0.250s", "clientAddress": "http://127.0.0.1:4444",
                 "siblingAddress": "127.0.0.1:4447", "version": "0.1.0",
                 "refusals": [{"refusal": {"name": "servers/dev", "reason": "bad"}}]},
            ])
        ));
    }

    #[test]
    fn what_an_older_control_plane_does_not_tell_is_left_out() {
        let tokens = |items: Value| check("tokens", items);
        let valid = json!({"name": "tokens/a", "expireTime": "2027-02-15T05:00:00Z"});
        assert_eq!(tokens(json!([valid])), "NAME  EXPIRES\na     in 30d\n");
        let over = json!([valid, {"name": "tokens/b", "expireTime": "2027-01-01T00:00:00Z"},
            {"name": "tokens/c", "revokeTime": "2027-01-01T00:00:00Z"}]);
        let states: Vec<_> = tokens(over).lines().map(|line| line.to_owned()).collect();
        assert!(states[2].contains("expired") && states[3].contains("revoked"), "{states:?}");
        assert_eq!(
            check("tools", json!([{"name": "upstreams/a/tools/b", "disabled": true}])),
            "NAME  STATE\na/b   disabled\n"
        );
    }

    #[test]
    fn no_cell_forges_a_row_or_moves_the_cursor() {
        let hostile = "a\nedges/forged  connected\u{1b}[2J\r\u{202e}";
        let table = render_rows(vec!["NAME".into()], [vec![hostile.to_owned()]].into_iter());
        assert_eq!(table, "NAME\na\\nedges/forged  connected\\u{1b}[2J\\r\\u{202e}\n");
    }

    #[test]
    fn no_rows_still_have_titles() {
        insta::assert_snapshot!(check("servers", json!([])));
    }
}
