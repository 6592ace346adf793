//! `mcpctl usage`: shows call counts, and what was last used when, or not at all.

use std::time::Duration;

use time::OffsetDateTime;

use serde_json::{Map, Value};

use crate::commands::describe::catalogue;
use crate::commands::last_uses::LastUses;
use crate::commands::{Invocation, get};
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::{Kind, short_name};
use crate::output::{self, table};
use crate::parse;
use crate::reflection;

/// Arguments of `usage`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Count only calls of the last period, such as 1h, 7d or 2w; with --unused: not used for so long
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    since: Option<Duration>,
    /// Count only calls to this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Count only calls with this token
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// Show when servers, and what they lead to, were last used
    #[arg(long, conflicts_with_all = ["since", "unused"])]
    last: bool,
    /// Show what servers expose that was not used, by --token or by anybody
    #[arg(long)]
    unused: bool,
}

/// Runs `usage`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let named = [("server", &args.server), ("token", &args.token)];
    let mut request = Map::new();
    for (key, word) in named {
        if let Some(word) = word {
            request.insert(key.into(), Kind::from_word(key).full_name(word)?.into());
        }
    }
    let client = invocation.client().await?;
    let now = OffsetDateTime::now_utc();
    let start = args.since.map(|since| now - since);
    if args.last || args.unused {
        let uses = LastUses::ask(&client, request).await?;
        check_names(&client, named).await?;
        return match args.unused {
            true => print_unused(invocation, &client, &uses, args.server.as_deref(), start).await,
            false => print_last(invocation, &uses, now),
        };
    }
    if let Some(start) = start {
        let text = parse::Expiry::At(start).timestamp(start).unwrap_or_default();
        request.insert("startTime".into(), text.into());
    }
    let answer =
        client.call("trunkline.telemetry.v1.UsageService/QueryUsage", Value::Object(request)).await?;
    if reflection::submessages(&answer, "records").is_empty() {
        check_names(&client, named).await?;
    }
    let people = || render(&reflection::to_json(&answer));
    output::print(&output::message(&answer, invocation.format(), people)?)
}

/// Looks whether what is asked about is there: of what does not exist, and of what nobody used, there are no numbers alike.
async fn check_names(client: &ControlClient, named: [(&str, &Option<String>); 2]) -> Result {
    for (key, word) in named {
        if let Some(word) = word {
            get::one(client, Kind::from_word(key), word).await?;
        }
    }
    Ok(())
}

fn print_last(invocation: &Invocation, uses: &LastUses, now: OffsetDateTime) -> Result {
    let people = || {
        let titles = ["SERVER", "TARGET", "LAST USED"].map(str::to_owned).to_vec();
        let rows = uses.all().map(|(server, target, time)| {
            vec![short_name(server), short_name(target), parse::short_duration(now - time)]
        });
        table::render_rows(titles, rows)
    };
    output::print(&output::message(&uses.answer, invocation.format(), people)?)
}

/// Prints what servers expose and nobody used since `start`, or since it is known.
async fn print_unused(
    invocation: &Invocation,
    client: &ControlClient,
    uses: &LastUses,
    server: Option<&str>,
    start: Option<OffsetDateTime>,
) -> Result {
    let kind = Kind::from_word("server");
    let servers = match server {
        Some(word) => vec![kind.full_name(word)?],
        None => {
            let servers = get::all_pages(client, kind, Map::new()).await?;
            servers.iter().map(|server| reflection::text(server, "name")).collect()
        }
    };
    let now = OffsetDateTime::now_utc();
    let mut unused = Vec::new();
    for server in &servers {
        for entry in catalogue::exposed(client, server).await? {
            let is_used =
                uses.time(server, &entry.target).is_some_and(|time| start.is_none_or(|start| time >= start));
            if !is_used {
                let last = uses.told(server, &entry.target, now);
                unused.push([server.clone(), entry.list.to_owned(), entry.name, last]);
            }
        }
    }
    let fields = ["server", "kind", "name", "lastUsed"];
    let object = |row: &[String; 4]| {
        let members =
            fields.iter().zip(row).map(|(field, value)| ((*field).to_owned(), value.clone().into()));
        Value::Object(members.collect())
    };
    let documents: Vec<Value> = unused.iter().map(object).collect();
    let people = || {
        let titles = ["SERVER", "KIND", "NAME", "LAST USED"].map(str::to_owned).to_vec();
        let rows = unused.iter().map(|[server, kind, name, last]| {
            vec![short_name(server), kind.clone(), name.clone(), last.clone()]
        });
        table::render_rows(titles, rows)
    };
    output::print(&output::value(&documents, invocation.format(), people)?)
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
        "somebody-else" => "(somebody else)".to_owned(),
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
