//! What became of the calls of the last hour: an upstream that the control plane can reach need not be one that edges reach.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::check::Check;
use crate::control_client::ControlClient;
use crate::parse::Expiry;
use crate::reflection;

const CALLS: &str = "calls";
/// What is looked at.
const PERIOD: time::Duration = time::Duration::hours(1);

/// Calls to one upstream.
#[derive(Debug, Default, PartialEq, Eq)]
struct CallCount {
    all: u64,
    /// Of which the upstream, or that it is not reached, is the reason that there is no result.
    failed: u64,
}

/// The upstreams of which no edge got a result.
pub(super) async fn failing(client: &ControlClient) -> Vec<Check> {
    let start = OffsetDateTime::now_utc() - PERIOD;
    let request = json!({ "startTime": Expiry::At(start).timestamp(start) });
    let answer = client.call("trunkline.telemetry.v1.UsageService/QueryUsage", request).await;
    let answer = answer.map(|answer| reflection::to_json(&answer)).unwrap_or_default();
    let counts = counts(&answer);
    let failing = counts.iter().filter(|(_, count)| count.failed > 0 && count.failed == count.all);
    failing.map(|(upstream, count)| check(upstream, count.all)).collect()
}

/// Counts by upstream.
fn counts(answer: &Value) -> BTreeMap<String, CallCount> {
    let mut counts = BTreeMap::<String, CallCount>::new();
    for record in answer["records"].as_array().into_iter().flatten() {
        let target = record["target"].as_str().unwrap_or_default();
        let Some(upstream) = target.strip_prefix("upstreams/").and_then(|rest| rest.split('/').next()) else {
            continue;
        };
        // Who makes a mistake, or goes away, says nothing of the upstream.
        let is_failure = match record["outcome"].as_str() {
            Some("USAGE_OUTCOME_OK" | "USAGE_OUTCOME_TOOL_ERROR") => false,
            Some("USAGE_OUTCOME_UPSTREAM_ERROR") => true,
            _ => continue,
        };
        let calls = record["calls"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
        let count = counts.entry(upstream.to_owned()).or_default();
        count.all += calls;
        count.failed += if is_failure { calls } else { 0 };
    }
    counts
}

fn check(upstream: &str, calls: u64) -> Check {
    let text = match calls {
        1 => format!("the one call to {upstream} in the last hour failed there, or did not reach it"),
        calls => {
            format!("all {calls} calls to {upstream} in the last hour failed there, or did not reach it")
        }
    };
    Check::warn(
        CALLS,
        text,
        format!(
            "run `mcpctl call` and read the error, or `mcpctl describe upstream {upstream}`; edges need --egress-allow for \
             addresses that are not public"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_clients_say_nothing_of_an_upstream() {
        let record = |target: &str, outcome: &str, calls: &str| json!({ "target": target, "outcome": outcome, "calls": calls });
        let answer = json!({ "records": [
            record("upstreams/a/tools/x", "USAGE_OUTCOME_UPSTREAM_ERROR", "2"),
            record("upstreams/a/tools/y", "USAGE_OUTCOME_CLIENT_ERROR", "5"),
            record("upstreams/b/tools/x", "USAGE_OUTCOME_UPSTREAM_ERROR", "1"),
            record("upstreams/b/tools/x", "USAGE_OUTCOME_TOOL_ERROR", "1"),
            record("", "USAGE_OUTCOME_OK", "9"),
        ] });
        let expected = [
            ("a".to_owned(), CallCount { all: 2, failed: 2 }),
            ("b".to_owned(), CallCount { all: 2, failed: 1 }),
        ];
        assert_eq!(counts(&answer), BTreeMap::from(expected));
    }
}
