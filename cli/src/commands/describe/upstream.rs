//! What is known of an upstream. Pure.

use serde_json::Value;

use super::facts::{Facts, items, number, text};
use crate::commands::reference;
use crate::output::sections::Section;
use crate::parse;

/// Everything but its catalogue.
pub(super) fn sections(facts: &Facts) -> Vec<Section> {
    let head = facts.head(|head| {
        head.field("Since", facts.when("status.stateTime"));
        head.field("Reached", reach(facts)).field("Credential", credential(facts.at("credential")));
        head.field("Era", era(facts)).field("Request timeout", facts.text("requestTimeout"));
        head.field("Refreshed every", facts.text("refreshInterval"));
        head.field("Catalogue read", facts.when("status.refreshTime"));
    });
    vec![head, probe(facts), attempts(facts), lists(facts), quirks(facts), warnings(facts)]
}

/// What became of it.
pub(super) fn history(facts: &Facts) -> Vec<Section> {
    let mut events = Section::new("Events");
    for event in items(facts.at("status.events")) {
        let times = match number(&event["count"]) {
            0 | 1 => String::new(),
            times => format!(", {times} times since {}", facts.when_of(&event["firstTime"])),
        };
        let line = format!("{}  {}{times}", facts.when_of(&event["time"]), text(&event["state"]));
        events.item(line, text(&event["text"]));
    }
    vec![events]
}

fn reach(facts: &Facts) -> String {
    if facts.at("tunnel").is_object() {
        return "it dials in (mcpctl expose --connect)".to_owned();
    }
    facts.text("http.url")
}

/// The form of a credential: nothing of it is secret.
fn credential(credential: &Value) -> String {
    let names = |value: &Value| {
        let names: Vec<_> = value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        names.join(", ")
    };
    let of = |form: &str| credential.get(form).filter(|value| value.is_object());
    if let Some(bearer) = of("bearer") {
        format!("a bearer token ({})", place(&bearer["tokenFrom"], "not shown"))
    } else if let Some(basic) = of("basic") {
        let place = place(&basic["passwordFrom"], "not shown");
        format!("user {} and a password ({place})", text(&basic["username"]))
    } else if let Some(headers) = of("headers") {
        let known = names(&headers["headers"]);
        let known = (!known.is_empty()).then(|| format!("{known} (values not shown)"));
        let elsewhere = items(&headers["headersFrom"])
            .iter()
            .map(|header| format!("{} ({})", text(&header["name"]), place(&header["valueFrom"], "nowhere")));
        format!("headers {}", known.into_iter().chain(elsewhere).collect::<Vec<_>>().join(", "))
    } else if let Some(query) = of("queryParameter") {
        let place = place(&query["valueFrom"], "value not shown");
        format!("query parameter {} ({place})", text(&query["parameter"]))
    } else {
        "none".to_owned()
    }
}

/// Where a secret is, or what is said where it is stored.
fn place(reference: &Value, stored: &str) -> String {
    reference::shown(reference).map_or(stored.to_owned(), |shown| format!("from {shown}"))
}

fn era(facts: &Facts) -> String {
    match facts.text("mcp.eraPolicy").as_str() {
        "modern" => "modern only".to_owned(),
        "legacy" => "legacy only".to_owned(),
        _ => "that of the client, if it speaks it".to_owned(),
    }
}

fn probe(facts: &Facts) -> Section {
    let at = |path: &str| facts.at(&format!("status.probe.{path}"));
    let mut probe = Section::new("Probe");
    probe.field("Server", format!("{} {}", text(at("serverName")), text(at("serverVersion"))));
    probe.field("Transport", text(at("transport")));
    let (modern, legacy) = (text(at("modern.versions")), text(at("legacy.version")));
    if at("probeTime").is_string() {
        let sessions = if *at("legacy.sessionful") == true { ", with sessions" } else { "" };
        probe.field("Modern", or_no(&modern, ""));
        probe.field("Legacy", or_no(&legacy, sessions));
    }
    probe.field("Instructions", text(at("instructions"))).field("Probed", facts.when_of(at("probeTime")));
    let announced = number(facts.at("status.changeCount"));
    if announced > 0 {
        let of = |list: &str| number(facts.at(&format!("status.{list}ChangeCount")));
        let (tools, resources, prompts) = (of("tools"), of("resources"), of("prompts"));
        probe.field(
            "Announced",
            format!("{announced} changes: {tools} of tools, {resources} of resources, {prompts} of prompts"),
        );
    }
    probe
}

fn or_no(versions: &str, more: &str) -> String {
    if versions.is_empty() { "no".to_owned() } else { format!("{versions}{more}") }
}

/// What was tried, where that is not plain.
fn attempts(facts: &Facts) -> Section {
    let mut section = Section::new("Attempts");
    let attempts = items(facts.at("status.attempts"));
    if attempts.iter().any(|attempt| !text(&attempt["error"]).is_empty()) {
        for attempt in attempts {
            let label = format!("{} {}", text(&attempt["transport"]), text(&attempt["handshake"]));
            let error = text(&attempt["error"]);
            section.field(&label, if error.is_empty() { "ok" } else { &error });
        }
    }
    section
}

fn lists(facts: &Facts) -> Section {
    let mut section = Section::new("Lists");
    for list in items(facts.at("status.lists")) {
        let mut said = parse::counted(number(&list["count"]), "entry");
        for (key, word) in [("withheldCount", "withheld"), ("mendedCount", "completed")] {
            let count = number(&list[key]);
            if count > 0 {
                said += &format!(", {count} {word}");
            }
        }
        let trouble = text(&list["trouble"]);
        if !trouble.is_empty() {
            said += &format!("\n{trouble}, since {}", facts.when_of(&list["since"]));
        }
        section.field(&text(&list["list"]), said);
    }
    section
}

/// What is odd about it, in what was found and in what failed.
fn quirks(facts: &Facts) -> Section {
    static NOTHING: Value = Value::Null;
    let mut section = Section::new("Quirks");
    let failed = items(facts.at("status.attempts")).iter();
    for found in std::iter::once(facts.at("status.probe")).chain(failed) {
        let details = items(&found["quirkDetails"]).iter().chain(std::iter::repeat(&NOTHING));
        for (quirk, detail) in items(&found["quirks"]).iter().zip(details) {
            section.field(&text(quirk), if detail.is_null() { "tolerated".to_owned() } else { text(detail) });
        }
    }
    section
}

fn warnings(facts: &Facts) -> Section {
    let mut section = Section::new("Warnings");
    for warning in items(facts.at("status.warnings")) {
        section.item(text(warning), "");
    }
    section
}
