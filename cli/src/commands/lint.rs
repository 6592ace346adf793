//! `mcpctl lint [UPSTREAM…]`: what upstreams should mend, one line each, from the status that the registry keeps.

use serde_json::{Map, Value, json};

use crate::commands::{Invocation, get};
use crate::error::{Error, Result};
use crate::kinds::{Kind, short_name};
use crate::output;
use crate::parse;
use crate::reflection;

/// Arguments of `lint`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of upstreams [default: all]
    names: Vec<String>,
}

/// Runs `lint`. It fails if there is anything to mend.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let kind = Kind::from_word("upstream");
    let client = invocation.client().await?;
    let mut upstreams = Vec::new();
    for name in &args.names {
        upstreams.push(get::one(&client, kind, name).await?);
    }
    if args.names.is_empty() {
        upstreams = get::all_pages(&client, kind, Map::new()).await?;
    }
    let mut found = Vec::new();
    let count = upstreams.len();
    // Nobody asks a disabled one, so that there is nothing to mend in it.
    upstreams.retain(|upstream| reflection::state(upstream).0 != "disabled");
    let disabled = match count - upstreams.len() {
        0 => String::new(),
        disabled => format!("; {disabled} disabled"),
    };
    for upstream in &upstreams {
        let name = reflection::text(upstream, "name");
        let findings = findings(&reflection::to_json(upstream)["status"]);
        found.extend(findings.into_iter().map(|finding| json!({ "upstream": name, "finding": finding })));
    }
    let people = || match found.is_empty() {
        true => format!("{}, nothing to mend{disabled}", parse::counted(upstreams.len(), "upstream")),
        false => found.iter().map(line).collect(),
    };
    output::print(&output::value(&found, invocation.format(), people)?)?;
    match found.len() {
        0 => Ok(()),
        count => Err(Error::failure(format!("{} to mend", parse::counted(count, "thing")))),
    }
}

fn line(found: &Value) -> String {
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    printable::line(&format!("{}: {}", short_name(text("upstream")), text("finding"))).into_owned() + "\n"
}

/// Lists what the status of an upstream says of it, the worst first.
fn findings(status: &Value) -> Vec<String> {
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    let state = text(&status["state"]);
    if state != "UPSTREAM_STATE_READY" {
        let state = state.trim_start_matches("UPSTREAM_STATE_").to_lowercase();
        let state = if state.is_empty() { "unknown" } else { &state };
        let reason = text(&status["reason"]);
        found.push(if reason.is_empty() { state.to_owned() } else { format!("{state}: {reason}") });
    }
    for list in items(&status["lists"]) {
        let trouble = text(&list["trouble"]);
        if !trouble.is_empty() {
            found.push(format!("{}: {trouble}", text(&list["list"])));
        }
    }
    found.extend(items(&status["warnings"]).iter().map(text));
    let mut reports = vec![status["probe"].clone()];
    // What was odd in a handshake that failed may be why it failed.
    reports
        .extend(items(&status["attempts"]).into_iter().filter(|attempt| !text(&attempt["error"]).is_empty()));
    for report in reports {
        let details = items(&report["quirkDetails"]);
        for (at, quirk) in items(&report["quirks"]).iter().enumerate() {
            let detail = details.get(at).map(text).unwrap_or_default();
            let line = format!("quirk {}  {detail}", text(quirk)).trim_end().to_owned();
            if !found.contains(&line) {
                found.push(line);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_status_says_is_listed_and_the_worst_is_first() {
        let status = json!({
            "state": "UPSTREAM_STATE_UNREACHABLE",
            "reason": "connection refused",
            "lists": [{"list": "tools/list", "count": 3}, {"list": "prompts/list", "trouble": "HTTP 500"}],
            "warnings": ["tools[3] \"st\": withheld: inputSchema has another type"],
            "probe": {"quirks": ["no-delete", "redirects"], "quirkDetails": ["does not end sessions"]},
        });
        assert_eq!(
            findings(&status),
            [
                "unreachable: connection refused",
                "prompts/list: HTTP 500",
                "tools[3] \"st\": withheld: inputSchema has another type",
                "quirk no-delete  does not end sessions",
                "quirk redirects",
            ]
        );
        assert!(findings(&json!({"state": "UPSTREAM_STATE_READY", "probe": {"quirks": []}})).is_empty());
        assert_eq!(findings(&json!({})), ["unknown"]);
    }
}
