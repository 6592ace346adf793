//! `mcpctl usage`: shows call counts.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::commands::{Invocation, get};
use crate::error::Result;
use crate::kinds::{Kind, short_name};
use crate::output::{self, table};
use crate::parse;
use crate::reflection;

/// Arguments of `usage`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Count only calls of the last period, such as 1h, 7d or 2w
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    since: Option<Duration>,
    /// Count only calls to this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Count only calls with this token
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
}

/// Runs `usage`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let mut request = Map::new();
    if let Some(since) = args.since {
        let start = time::OffsetDateTime::now_utc() - since;
        let text = parse::Expiry::At(start).timestamp(start).unwrap_or_default();
        request.insert("startTime".into(), text.into());
    }
    let named = [("server", &args.server), ("token", &args.token)];
    for (key, word) in named {
        if let Some(word) = word {
            request.insert(key.into(), Kind::from_word(key).full_name(word)?.into());
        }
    }
    let client = invocation.client().await?;
    let answer =
        client.call("trunkline.telemetry.v1.UsageService/QueryUsage", Value::Object(request)).await?;
    if reflection::submessages(&answer, "records").is_empty() {
        // Nobody called it, or it does not exist.
        for (key, word) in named {
            if let Some(word) = word {
                get::one(&client, Kind::from_word(key), word).await?;
            }
        }
    }
    let people = || render(&reflection::to_json(&answer));
    output::print(&output::message(&answer, invocation.format(), people)?)
}

fn render(answer: &Value) -> String {
    let records = answer["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    let titles =
        ["SERVER", "TOKEN", "METHOD", "TARGET", "OUTCOME", "CALLS", "MEAN MS"].map(str::to_owned).to_vec();
    table::render_rows(titles, records.iter().map(row))
}

fn row(record: &Value) -> Vec<String> {
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    // 64-bit integers are strings in proto-JSON.
    let number = |key: &str| text(key).parse::<f64>().unwrap_or_default();
    let outcome = reflection::word("USAGE_OUTCOME_", &text("outcome"));
    let mean = number("durationUs") / number("calls").max(1.0) / 1_000.0;
    // In parentheses, because a token can be called `other`.
    let name = |key: &str| match &*text(key) {
        "other" => "(other)".to_owned(),
        name => short_name(name),
    };
    let [server, token, target] = ["server", "token", "target"].map(name);
    vec![server, token, text("method"), target, outcome, text("calls"), format!("{mean:.1}")]
}

#[cfg(test)]
mod tests {
    #[test]
    fn sums_are_shown_with_their_mean() {
        let answer = serde_json::json!({"records": [{"server": "servers/dev", "token": "tokens/laptop",
            "method": "tools/call", "target": "upstreams/time/tools/now", "outcome": "USAGE_OUTCOME_TOOL_ERROR",
            "calls": "4", "durationUs": "10000"}, {"server": "servers/dev", "token": "tokens/other",
            "method": "tools/call", "target": "other", "outcome": "USAGE_OUTCOME_OK",
            "calls": "2", "durationUs": "3000"}]});
        insta::assert_snapshot!(super::render(&answer));
    }
}
