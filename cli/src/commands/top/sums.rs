//! Sums of what was counted. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::kinds::Kind;

/// What was called, how often, and how that ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sums {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) calls_a_minute: f64,
    pub(super) errors_a_minute: f64,
    pub(super) calls: i64,
    pub(super) errors: i64,
    pub(super) mean_ms: f64,
}

/// What was counted lately, and in how many minutes.
pub(super) struct Rate<'a> {
    records: &'a [Value],
    minutes: f64,
}

impl<'a> Rate<'a> {
    pub(super) fn new(records: &'a [Value], time: time::Duration) -> Self {
        Self { records, minutes: time.as_seconds_f64() / 60.0 }
    }
}

/// The beginning of a minute: a sum that begins within one would leave that minute out.
pub(super) fn minute(time: OffsetDateTime) -> OffsetDateTime {
    let within = time.unix_timestamp().rem_euclid(60);
    time.replace_nanosecond(0).unwrap_or(time) - time::Duration::seconds(within)
}

/// Sums records up by the resources of a kind, those that are called most first. Resources that are known and were not called
/// are there, too.
pub(super) fn rows(kind: &Kind, known: Vec<(String, String)>, all: &[Value], rate: &Rate<'_>) -> Vec<Sums> {
    let mut counted: BTreeMap<String, (Counted, Counted)> =
        known.iter().map(|(name, _)| (name.clone(), Default::default())).collect();
    for record in all {
        counted.entry(name(kind, record)).or_default().0.add(record);
    }
    for record in rate.records {
        counted.entry(name(kind, record)).or_default().1.add(record);
    }
    let states: BTreeMap<_, _> = known.into_iter().collect();
    let sums = counted.into_iter().filter(|(name, _)| !name.is_empty()).map(|(name, (all, recent))| Sums {
        state: states.get(&name).cloned().unwrap_or_default(),
        calls_a_minute: recent.calls as f64 / rate.minutes,
        errors_a_minute: recent.errors as f64 / rate.minutes,
        calls: all.calls,
        errors: all.errors,
        mean_ms: all.duration_us as f64 / all.calls.max(1) as f64 / 1_000.0,
        name,
    });
    let mut sums: Vec<_> = sums.collect();
    // Sorting is stable: what is called as often is by name.
    sums.sort_by(|a, b| b.calls_a_minute.total_cmp(&a.calls_a_minute).then(b.calls.cmp(&a.calls)));
    sums
}

#[derive(Debug, Default)]
struct Counted {
    calls: i64,
    errors: i64,
    duration_us: i64,
}

impl Counted {
    fn add(&mut self, record: &Value) {
        // 64-bit integers are strings in proto-JSON.
        let number =
            |field: &str| record[field].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        let calls = number("calls");
        self.calls = self.calls.saturating_add(calls);
        self.duration_us = self.duration_us.saturating_add(number("durationUs"));
        let outcome = record["outcome"].as_str().unwrap_or_default();
        if !["USAGE_OUTCOME_OK", "USAGE_OUTCOME_CANCELLED"].contains(&outcome) {
            self.errors = self.errors.saturating_add(calls);
        }
    }
}

/// The resource that a record counts for; empty where there is none.
fn name(kind: &Kind, record: &Value) -> String {
    let field = match kind.name {
        "Upstream" => "target",
        "Server" => "server",
        _ => "token",
    };
    let name = record[field].as_str().unwrap_or_default();
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [collection, id, ..] => format!("{collection}/{id}"),
        // An edge that counts too many different ones says `other`, and a control plane of those who are not told `somebody-else`.
        [other] if !other.is_empty() => format!("({})", other.replace('-', " ")),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_summed_by_what_is_asked_for() {
        let record = |target: &str, outcome: &str, calls: i64| {
            json!({"server": "servers/dev", "token": "tokens/laptop",
            "target": target, "outcome": format!("USAGE_OUTCOME_{outcome}"), "calls": calls.to_string(),
            "durationUs": (calls * 2_000).to_string()})
        };
        let all = [
            record("upstreams/a/tools/x", "OK", 7),
            record("upstreams/a/tools/y", "TOOL_ERROR", 2),
            record("upstreams/b/prompts/z", "CANCELLED", 1),
            record("other", "OK", 1),
            record("", "CLIENT_ERROR", 3),
        ];
        let recent =
            [record("upstreams/b/prompts/z", "OK", 8), record("upstreams/b/prompts/z", "UPSTREAM_ERROR", 2)];
        let rate = Rate::new(&recent, time::Duration::seconds(300));
        let row = |name: &str, state: &str, rates: [f64; 2], [calls, errors]: [i64; 2]| Sums {
            name: name.to_owned(),
            state: state.to_owned(),
            calls_a_minute: rates[0],
            errors_a_minute: rates[1],
            calls,
            errors,
            mean_ms: if calls > 0 { 2.0 } else { 0.0 },
        };
        let known =
            |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "ready".to_owned())).collect();
        assert_eq!(
            rows(
                Kind::from_word("upstreams"),
                known(&["upstreams/a", "upstreams/b", "upstreams/c"]),
                &all,
                &rate
            ),
            [
                row("upstreams/b", "ready", [2.0, 0.4], [1, 0]),
                row("upstreams/a", "ready", [0.0, 0.0], [9, 2]),
                row("(other)", "", [0.0, 0.0], [1, 0]),
                row("upstreams/c", "ready", [0.0, 0.0], [0, 0]),
            ]
        );
        let servers = rows(Kind::from_word("servers"), known(&["servers/dev"]), &all, &rate);
        assert_eq!(servers, [row("servers/dev", "ready", [2.0, 0.4], [14, 5])]);
    }

    #[test]
    fn a_minute_begins_at_its_first_second() {
        let time = time::macros::datetime!(2026-11-30 03:50:41.5 UTC);
        assert_eq!(minute(time), time::macros::datetime!(2026-11-30 03:50 UTC));
    }
}
