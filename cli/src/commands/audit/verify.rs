//! Looks whether the log is what was written.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::SERVICE;
use crate::commands::Invocation;
use crate::error::{Error, Exit, Result};
use crate::output::{self, progress::Spinner};
use crate::parse;
use crate::reflection;
use serde_json::{Value, json};

/// Runs `audit verify`. Returns the exit code.
pub(super) async fn run(invocation: &Invocation) -> Result<u8> {
    let client = invocation.client().await?;
    let mut stream = client.stream(&format!("{SERVICE}/VerifyAudit"), json!({})).await?;
    let spinner = Spinner::start("looking through the audit log");
    let mut last = None;
    while let Some(answer) = stream.message().await.map_err(|status| client.explain(&status))? {
        let [first, end, now] = ["first_sequence", "last_sequence", "verified_sequence"]
            .map(|field| reflection::number(&answer, field) as f64);
        spinner.position(now - first + 1.0, Some(end - first + 1.0), "records");
        last = Some(answer);
    }
    drop(spinner);
    let last = last.filter(|last| reflection::to_json(last)["done"] == true);
    let last = last.ok_or_else(|| {
        Error::new(Exit::Unavailable, "the control plane ended before it was through; try again")
    })?;
    let told = reflection::to_json(&last);
    output::print(&output::message(&last, invocation.format(), || {
        in_words(&told, OffsetDateTime::now_utc())
    })?)?;
    Ok(u8::from(!told["firstBreak"].is_null()))
}

fn in_words(told: &Value, now: OffsetDateTime) -> String {
    let text = |key: &str| told[key].as_str().unwrap_or("0");
    let number = |key: &str| text(key).parse::<u64>().unwrap_or_default();
    if let Some(found) = told["firstBreak"].as_object() {
        let sequence = found.get("sequence").and_then(Value::as_str).unwrap_or("0");
        let reason = found.get("reason").and_then(Value::as_str).unwrap_or_default();
        return format!(
            "broken at record {sequence}: {}\nkeep a copy of the database as it is, and compare it with what `mcpctl audit export` wrote \
             before\n",
            printable::line(reason)
        );
    }
    if number("lastSequence") == 0 {
        return "intact: there are no records yet\n".to_owned();
    }
    let sealed = OffsetDateTime::parse(told["sealTime"].as_str().unwrap_or_default(), &Rfc3339).ok();
    let sealed = match sealed {
        Some(at) => format!("sealed {} ago", parse::short_duration(now - at)),
        None => "not sealed yet".to_owned(),
    };
    let unchecked = match number("uncheckedSeals") {
        0 => String::new(),
        count => format!(", {} of keys that are gone", parse::counted(count, "seal")),
    };
    let (first, last, seals) = (text("firstSequence"), text("lastSequence"), number("seals"));
    format!(
        "intact: records {first} to {last}, {} checked{unchecked}, {sealed}\n",
        parse::counted(seals, "seal")
    )
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_is_found_is_said_in_one_line() {
        let now = datetime!(2027-01-31 12:00 UTC);
        let told = json!({"firstSequence": "3", "lastSequence": "9", "verifiedSequence": "9", "done": true,
            "seals": "2", "sealTime": "2027-01-31T11:50:00Z"});
        assert_eq!(in_words(&told, now), "intact: records 3 to 9, 2 seals checked, sealed 10m ago\n");
        let told = json!({"firstBreak": {"sequence": "7", "reason": "it is missing"}, "lastSequence": "9"});
        assert_eq!(
            in_words(&told, now),
            "broken at record 7: it is missing\n\
             keep a copy of the database as it is, and compare it with what `mcpctl audit export` wrote before\n"
        );
        assert_eq!(in_words(&json!({"done": true}), now), "intact: there are no records yet\n");
    }
}
