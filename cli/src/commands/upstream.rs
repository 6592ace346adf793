//! The commands for upstreams only: `mcpctl refresh upstream NAME`, `mcpctl probe URL|NAME`.

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::commands::Invocation;
use crate::commands::fields::CredentialFlags;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::progress::Spinner;
use crate::output::{self, Format};
use crate::parse;
use crate::reflection;

/// Arguments of `refresh`.
#[derive(Debug, clap::Args)]
pub struct RefreshArgs {
    /// Kind of resource: upstream
    #[arg(value_parser = ["upstream", "upstreams", "up"], hide_possible_values = true)]
    kind: String,
    /// Name of the upstream
    name: String,
}

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// URL of an MCP server, or name of an upstream
    target: String,
    #[command(flatten)]
    credential: CredentialFlags,
}

/// Runs `refresh`.
pub async fn refresh(invocation: &Invocation, args: RefreshArgs) -> Result {
    let kind = Kind::from_word(&args.kind);
    let client = invocation.client().await?;
    let spinner = Spinner::start(format!("refreshing {}", args.name));
    let answer = client.call(&kind.method("Refresh"), json!({ "name": kind.full_name(&args.name)? })).await;
    drop(spinner);
    let item = reflection::submessage(&answer?, kind.singular)
        .ok_or_else(|| Error::failure("the response contains no upstream"))?;
    let (json, format) = (reflection::to_json(&item), invocation.format());
    let ready = check_ready(&json["status"], &args.name, &Credential::of(&json));
    // The error says all that a table would.
    if ready.is_ok() || !matches!(format, Format::Table | Format::Wide) {
        output::print(&output::resources(kind, std::slice::from_ref(&item), true, format)?)?;
    }
    ready
}

/// Runs `probe`.
pub async fn probe(invocation: &Invocation, args: ProbeArgs) -> Result {
    let kind = Kind::from_word("upstream");
    let mut credential = Credential::Unknown;
    let request = if args.target.contains("://") {
        let mut upstream = json!({ "http": { "url": args.target } });
        credential = Credential::NoneForProbe;
        if let Some(given) = args.credential.json()? {
            upstream["credential"] = given;
            credential = Credential::Given;
        }
        json!({ "upstream": upstream })
    } else {
        json!({ "name": kind.full_name(&args.target)? })
    };
    let client = invocation.client().await?;
    let spinner = Spinner::start(format!("probing {}", args.target));
    let answer = client.call(&kind.method("Probe"), request).await;
    drop(spinner);
    let status = reflection::submessage(&answer?, "status")
        .ok_or_else(|| Error::failure("the response contains no status"))?;
    let people = || render_probe(&reflection::to_json(&status));
    output::print(&output::message(&status, invocation.format(), people)?)?;
    check_ready(&reflection::to_json(&status), &args.target, &credential)
}

/// Renders the outcome of a probe: what the server is, how its lists were read, and every attempt.
fn render_probe(status: &Value) -> String {
    let probe = &status["probe"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    if probe.is_object() {
        let name = format!("{} {}", text(&probe["serverName"]), text(&probe["serverVersion"]));
        let modern = strings(&probe["modern"]["versions"]).join(", ");
        let legacy = match text(&probe["legacy"]["version"]) {
            version if version.is_empty() => "no".to_owned(),
            version if probe["legacy"]["sessionful"] == true => format!("{version}, with sessions"),
            version => format!("{version}, without sessions"),
        };
        lines.push(("server", name.trim().to_owned()));
        lines.push(("transport", text(&probe["transport"])));
        lines.push(("modern", if modern.is_empty() { "no".to_owned() } else { modern }));
        lines.push(("legacy", legacy));
    }
    lines.extend(items(&status["lists"]).map(|list| ("list", render_list(list))));
    lines.extend(strings(&status["warnings"]).into_iter().map(|warning| ("warning", warning.to_owned())));
    // Where nothing worked, what was odd may be why.
    match probe.is_object() {
        true => lines.extend(quirks(probe)),
        false => lines.extend(items(&status["attempts"]).flat_map(quirks)),
    }
    lines.extend(items(&status["attempts"]).map(|attempt| {
        let error = text(&attempt["error"]);
        let outcome = if error.is_empty() { "ok" } else { &error };
        (
            "tried",
            format!("{:<15}  {:<15}  {outcome}", text(&attempt["transport"]), text(&attempt["handshake"])),
        )
    }));
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(key, value)| format!("{key:<9}  {}", printable::line(value))).collect::<Vec<_>>().join("\n")
}

/// How a list was read: what an import would have of it.
fn render_list(list: &Value) -> String {
    let count = |key: &str| list[key].as_i64().unwrap_or_default();
    let text = |key: &str| list[key].as_str().unwrap_or_default();
    let mut said = vec![parse::counted(count("count"), "entry")];
    for (key, word) in [("withheldCount", "withheld"), ("mendedCount", "completed")] {
        if count(key) > 0 {
            said.push(format!("{} {word}", count(key)));
        }
    }
    let trouble = if text("trouble").is_empty() { String::new() } else { format!("; {}", text("trouble")) };
    format!("{:<24}  {}{trouble}", text("list"), said.join(", "))
}

/// The quirks of a report or of an attempt.
fn quirks(of: &Value) -> impl Iterator<Item = (&'static str, String)> {
    let details = strings(&of["quirkDetails"]).into_iter().chain(std::iter::repeat(""));
    let named = strings(&of["quirks"]).into_iter().zip(details);
    named.map(|(name, detail)| ("quirk", format!("{name:<20}  {detail}").trim_end().to_owned()))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What is known of the credential that was presented.
enum Credential {
    Unknown,
    Given,
    /// An upstream that has none.
    None,
    /// A URL that was probed without one.
    NoneForProbe,
}

impl Credential {
    fn of(upstream: &Value) -> Self {
        if upstream["credential"].is_object() { Self::Given } else { Self::None }
    }

    /// What to do about an upstream that wants another one.
    fn advice(&self, name: &str) -> String {
        match self {
            Self::Unknown | Self::Given => format!("{name} rejected the credential"),
            Self::None => format!(
                "{name} wants a credential and has none (`mcpctl update upstream {name} --bearer-file FILE`)"
            ),
            Self::NoneForProbe => {
                format!(
                    "{name} wants a credential and was sent none (--bearer-file, --basic, --header or --query)"
                )
            }
        }
    }
}

/// How a reason begins where an upstream was not asked, because its credential could not be had.
const UNHAD: &str = "its credential cannot be had: ";
/// How it goes on where something was read that is no such secret: what was read before stays at the edges.
const UNUSABLE: [&str; 4] = ["what was read ", "it is ", "it has ", "its key "];
/// How a reason ends that nothing mends but that: the environment of a process does not change.
const UNTIL_RESTART: &str = "restart the control plane";

/// Says that an upstream was not asked, and why: without the field where the place is named.
fn not_called(name: &str, why: &str) -> Error {
    let named = why.split_once(": ").filter(|(field, _)| field.starts_with("credential."));
    let why = named.map_or(why, |(_, why)| why);
    let text = match UNUSABLE.iter().any(|beginning| why.starts_with(beginning)) {
        true => format!(
            "{name} has a secret that cannot be used: {why}; edges go on with the one before, if there was one"
        ),
        false => format!("{name} is not called: {why}"),
    };
    Error::new(Exit::Refused, text)
}

fn check_ready(status: &Value, name: &str, credential: &Credential) -> Result {
    let reason = status["reason"].as_str().unwrap_or("no response");
    match status["state"].as_str() {
        Some("UPSTREAM_STATE_READY") => Ok(()),
        Some("UPSTREAM_STATE_UNAUTHORIZED") => Err(match reason.strip_prefix(UNHAD) {
            Some(why) => not_called(name, why),
            None => Error::new(Exit::Refused, format!("{}: {reason}", credential.advice(name))),
        }),
        // What answers with a status only is something else than a server.
        Some("UPSTREAM_STATE_INCOMPATIBLE") if reason.starts_with("HTTP ") => Err(Error::failure(format!(
            "{name} is not a usable MCP server: {reason}; check the path of its URL, such as /mcp"
        ))),
        Some("UPSTREAM_STATE_INCOMPATIBLE") => {
            Err(Error::failure(format!("{name} is not a usable MCP server: {reason}")))
        }
        Some("UPSTREAM_STATE_DISABLED") => Err(Error::failure(format!("{name} is disabled"))),
        Some("UPSTREAM_STATE_PENDING") => {
            Err(Error::new(Exit::Unavailable, format!("{name} has not answered yet")))
        }
        _ => Err(Error::new(Exit::Unavailable, format!("{name} is unreachable: {reason}"))),
    }
}

/// Returns why an upstream does not work, if it does not.
pub fn check_works(upstream: &DynamicMessage) -> Result {
    let json = reflection::to_json(upstream);
    let name = reflection::text(upstream, "name");
    check_ready(&json["status"], name.trim_start_matches("upstreams/"), &Credential::of(&json))
}

/// Reports the state of an upstream on stderr, and what to do next.
pub fn report_state(upstream: &DynamicMessage) {
    let json = reflection::to_json(upstream);
    let (status, name) = (&json["status"], reflection::text(upstream, "name"));
    let id = name.trim_start_matches("upstreams/");
    match check_works(upstream) {
        Ok(()) => {
            let count =
                |key: &str, thing: &str| parse::counted(status[key].as_i64().unwrap_or_default(), thing);
            let (tools, resources) = (count("toolCount", "tool"), count("resourceCount", "resource"));
            let prompts = count("promptCount", "prompt");
            output::eprint(format!("{id} is ready: {tools}, {resources}, {prompts}"));
            let reason = status["reason"].as_str().unwrap_or_default();
            if !reason.is_empty() {
                output::eprint(format!("{id}: {reason}"));
            }
        }
        Err(error) => output::eprint(with_retry(&error.to_string(), id)),
    }
}

/// Says that it is tried again, where that can help.
pub fn with_retry(error: &str, id: &str) -> String {
    match error.ends_with(UNTIL_RESTART) {
        true => error.to_owned(),
        false => {
            format!("{error}. Retrying in the background; run `mcpctl refresh upstream {id}` to retry now")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_that_cannot_be_had_was_not_rejected() {
        let told = |why: &str| {
            let status = json!({ "state": "UPSTREAM_STATE_UNAUTHORIZED", "reason": why });
            check_ready(&status, "gh", &Credential::Given).unwrap_err().to_string()
        };
        let unset = "A is not set at the control plane; set it and restart the control plane";
        let said = told(&format!("{UNHAD}credential.bearer.token_from: {unset}"));
        assert_eq!(said, format!("gh is not called: {unset}"));
        assert_eq!(with_retry(&said, "gh"), said, "a restart is what helps");
        let said = told(&format!("{UNHAD}credential.bearer.token_from: gh/token: the file does not exist"));
        assert_eq!(said, "gh is not called: gh/token: the file does not exist");
        assert!(with_retry(&said, "gh").contains("Retrying"), "it may be written meanwhile");
        let said = told(&format!("{UNHAD}credential.bearer.token_from: what was read is too long"));
        assert!(
            said.starts_with("gh has a secret that cannot be used: what was read is too long; "),
            "{said}"
        );
        assert_eq!(told("HTTP 401"), "gh rejected the credential: HTTP 401");
    }

    #[test]
    fn a_verdict_says_what_it_is_and_how_that_was_found() {
        let attempt = |transport: &str, handshake: &str, error: &str| json!({ "transport": transport, "handshake": handshake, "error": error });
        let status = json!({
            "probe": {
                "transport": "http+sse", "serverName": "old", "serverVersion": "1",
                "quirks": ["foreign-events", "no-delete"], "quirkDetails": ["sends events; first: \"ping\""],
                "legacy": { "version": "2024-11-05", "sessionful": true }
            },
            "attempts": [
                attempt("streamable-http", "initialize", "HTTP 405: no text"), attempt("http+sse", "initialize", "")
            ],
            "lists": [
                { "list": "tools/list", "count": 12, "withheldCount": 1, "mendedCount": 2 },
                { "list": "resources/list", "trouble": "error -32603: oops" }
            ],
            "warnings": ["tools[2] \"x\": withheld: inputSchema is a text"]
        });
        let expected = "\
server     old 1
transport  http+sse
modern     no
legacy     2024-11-05, with sessions
list       tools/list                12 entries, 1 withheld, 2 completed
list       resources/list            0 entries; error -32603: oops
warning    tools[2] \"x\": withheld: inputSchema is a text
quirk      foreign-events        sends events; first: \"ping\"
quirk      no-delete
tried      streamable-http  initialize       HTTP 405: no text
tried      http+sse         initialize       ok";
        assert_eq!(render_probe(&status), expected);
        assert_eq!(render_probe(&json!({})), "");
        let failed = json!({ "attempts": [{
            "transport": "streamable-http", "handshake": "initialize", "error": "no response within 5s",
            "quirks": ["foreign-events"], "quirkDetails": ["sends events"]
        }] });
        let expected = "\
quirk      foreign-events        sends events
tried      streamable-http  initialize       no response within 5s";
        assert_eq!(render_probe(&failed), expected);
    }
}
