//! What the control plane says: whether it answers, what it is, and how its edges and upstreams stand.

use std::time::{Duration, Instant};

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use url::Url;

use super::calls;
use super::certificate;
use super::check::Check;
use super::egress;
use super::rights;
use crate::client::token_states::{self, Ended};
use crate::commands::Invocation;
use crate::commands::get::all_pages;
use crate::context::Context;
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::{Kind, short_name};
use crate::parse;
use crate::parse::short_duration;
use crate::reflection;

const CONTROL: &str = "control plane";
const CLOCK: &str = "clock";
const VERSIONS: &str = "versions";
const EDGES: &str = "edges";
const UPSTREAMS: &str = "upstreams";
/// What to do where the control plane does not answer, and the error says nothing of that.
const AT_CONTROL: &str = "check its URL with `mcpctl config get-contexts`, and its log";
/// What is said of what the caller may not see.
const NOT_YOURS: &str = "not yours to see";
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Time for what is asked besides.
const PATIENCE: Duration = Duration::from_secs(5);
/// A difference between clocks that is told, and one with which tokens are refused that were just made.
const NOTABLE: time::Duration = time::Duration::seconds(5);
const HARMFUL: time::Duration = time::Duration::seconds(60);
/// A certificate that ends sooner is told.
const SOON: time::Duration = time::Duration::days(14);

/// What was found, and what clients can be tried with.
#[derive(Default)]
pub(super) struct ControlChecks {
    pub(super) checks: Vec<Check>,
    /// The URLs under which clients reach the edges, as those believe.
    pub(super) edges: Vec<String>,
    /// The names of all servers.
    pub(super) servers: Vec<String>,
    /// The saved tokens that are over, and how that came.
    pub(super) ended: Ended,
}

impl ControlChecks {
    /// Adds how the edges stand, and where they are.
    fn add_edges(&mut self, edges: &[DynamicMessage]) {
        self.checks.extend(edges.iter().map(edge));
        if edges.is_empty() {
            self.checks.push(Check::fail(
                EDGES,
                "none has enrolled",
                "run `mcpctl create join-token`, and start one with that",
            ));
        }
        let connected = edges.iter().filter(|edge| reflection::to_json(edge)["connected"] == true);
        self.edges = connected.map(|edge| reflection::text(edge, "client_address")).collect();
        self.edges.retain(|address| !address.is_empty());
    }
}

/// Looks at the control plane of a context, and at what it knows.
pub(super) async fn checks(invocation: &Invocation, context: &Context) -> ControlChecks {
    let mut found = ControlChecks::default();
    for (name, url) in
        [("certificate of the control plane", &context.control), ("certificate of the edge", &context.edge)]
    {
        if let Some(url) = url {
            found.checks.extend(certificate_of(name, url).await);
        }
    }
    let Some(url) = &context.control else { return found };
    let asked = Instant::now();
    let client = match invocation.client().await {
        Ok(client) => client,
        Err(error) => {
            found.checks.push(Check::error(CONTROL, error, AT_CONTROL));
            return found;
        }
    };
    let edges = match edges(&client).await {
        Ok(edges) => Some(edges),
        // It has answered, and shows them to others.
        Err(error) if error.is_denied() => None,
        Err(error) => {
            found.checks.push(Check::error(CONTROL, error, AT_CONTROL));
            return found;
        }
    };
    found.checks.push(answered(url, client.target(), asked.elapsed().as_millis()));
    let known = edges.as_deref().unwrap_or_default();
    found.checks.extend(system(&client, client.target(), known).await);
    match &edges {
        Some(edges) => found.add_edges(edges),
        None => found.checks.push(Check::skip(EDGES, format!("{NOT_YOURS} (fleet.read)"))),
    }
    found.checks.extend(upstreams(&client).await);
    found.checks.extend(rights::checks(&client).await);
    found.ended = token_states::states(&client, context).await.unwrap_or_default().ended;
    found.servers = names(&client, "server").await.unwrap_or_default();
    found
}

/// Which of the control planes of a context has answered.
fn answered(first: &str, url: &str, took: u128) -> Check {
    let text = format!("{url} answered in {took} ms");
    match url == first {
        true => Check::ok(CONTROL, text),
        false => Check::warn(CONTROL, format!("{text}, and {first} did not"), "check that it is running"),
    }
}

async fn edges(client: &ControlClient) -> Result<Vec<DynamicMessage>> {
    list(client, "edge").await
}

async fn list(client: &ControlClient, kind: &str) -> Result<Vec<DynamicMessage>> {
    let request = Map::from_iter([("pageSize".to_owned(), Value::from(1_000))]);
    all_pages(client, Kind::from_word(kind), request).await
}

async fn names(client: &ControlClient, kind: &str) -> Result<Vec<String>> {
    let items = list(client, kind).await?;
    Ok(items.iter().map(|item| short_name(&reflection::text(item, "name"))).collect())
}

/// How long the certificate at a URL is good for.
async fn certificate_of(name: &'static str, url: &str) -> Option<Check> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "https")?;
    let end = certificate::end_at(&url, PATIENCE).await?;
    let left = end - OffsetDateTime::now_utc();
    let date = end.date();
    Some(match left {
        left if left.is_negative() => Check::fail(name, format!("it ended on {date}"), "renew it"),
        left if left < SOON => {
            Check::warn(name, format!("it ends on {date}, in {}", short_duration(left)), "renew it")
        }
        left => {
            Check::ok(name, format!("good until {date}, for {}", parse::counted(left.whole_days(), "day")))
        }
    })
}

/// The clocks and the versions.
async fn system(client: &ControlClient, url: &str, edges: &[DynamicMessage]) -> Vec<Check> {
    let asked = Instant::now();
    let answer = client.call("trunkline.admin.v1.SystemService/GetSystem", json!({})).await;
    let round_trip = asked.elapsed();
    let is_denied = answer.as_ref().is_err_and(Error::is_denied);
    let system = answer.ok().and_then(|answer| reflection::submessage(&answer, "system"));
    let mut checks = Vec::new();
    match &system {
        Some(system) => {
            let time = reflection::to_json(system)["time"]
                .as_str()
                .and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
            checks.extend(time.map(|time| clock(time, round_trip, time::Duration::ZERO)));
            checks.push(version("the control plane", &reflection::text(system, "version")));
            checks.push(Check::ok("database", database(system)));
            checks.extend(egress::checks(system, edges));
        }
        None if is_denied => {
            checks.extend(clock_of_pages(url).await);
            checks.push(Check::skip("database", NOT_YOURS));
        }
        None => {
            checks.extend(clock_of_pages(url).await);
            checks.push(Check::warn(
                VERSIONS,
                "the control plane is older than this mcpctl, and does not tell its version",
                "update it",
            ));
        }
    }
    for edge in edges {
        let name = format!("edge {}", short_name(&reflection::text(edge, "name")));
        checks.push(version(&name, &reflection::text(edge, "version")));
    }
    // What is the same everywhere is said once.
    let (same, other): (Vec<_>, Vec<_>) =
        checks.into_iter().partition(|check| check.name == VERSIONS && check.advice.is_none());
    let mut checks = other;
    if !same.is_empty() && checks.iter().all(|check| check.name != VERSIONS) {
        checks.push(Check::ok(VERSIONS, format!("{OWN_VERSION} everywhere")));
    }
    checks
}

fn version(whose: &str, version: &str) -> Check {
    if version == OWN_VERSION {
        return Check::ok(VERSIONS, format!("{whose} is of version {version}"));
    }
    Check::warn(
        VERSIONS,
        format!("{whose} is of version {version}, and this mcpctl of {OWN_VERSION}"),
        "use one version everywhere: first control planes, then edges, then mcpctl",
    )
}

fn database(system: &DynamicMessage) -> String {
    let document = reflection::to_json(system);
    let kind = match document["databaseKind"].as_str() {
        Some("DATABASE_KIND_SQLITE") => "SQLite",
        Some("DATABASE_KIND_POSTGRESQL") => "PostgreSQL",
        _ => "of a kind that this mcpctl does not know",
    };
    let (schema, revision) =
        (reflection::number(system, "schema_version"), reflection::number(system, "revision"));
    format!("{kind}, schema {schema}, at revision {revision}")
}

/// Compares clocks; what was asked took `round_trip`, and the other one is told to within `precision`.
fn clock(other: OffsetDateTime, round_trip: Duration, precision: time::Duration) -> Check {
    let unsure = time::Duration::try_from(round_trip / 2).unwrap_or_default();
    let ahead = other + unsure - OffsetDateTime::now_utc();
    let apart = (ahead.abs() - unsure - precision).max(time::Duration::ZERO);
    if apart < NOTABLE {
        return Check::ok(CLOCK, "that of the control plane and that of this machine agree");
    }
    let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
    let text =
        format!("that of the control plane is {} {direction} that of this machine", short_duration(apart));
    let advice = "set both by NTP: bearers are valid from and until a point in time";
    if apart < HARMFUL { Check::warn(CLOCK, text, advice) } else { Check::fail(CLOCK, text, advice) }
}

/// The same by the date of a page, which any web server tells.
async fn clock_of_pages(url: &str) -> Option<Check> {
    let url = Url::parse(url).ok()?.join("/healthz").ok()?;
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().danger_accept_invalid_certs(true);
    let asked = Instant::now();
    let response = client.build().ok()?.get(url).send().await.ok()?;
    let date = response.headers().get(http::header::DATE)?.to_str().ok()?.replace("GMT", "+0000");
    let time = OffsetDateTime::parse(&date, &Rfc2822).ok()?;
    Some(clock(time, asked.elapsed(), time::Duration::seconds(1)))
}

/// How an edge stands.
fn edge(edge: &DynamicMessage) -> Check {
    let document = reflection::to_json(edge);
    let name = short_name(&reflection::text(edge, "name"));
    let at = document["clientAddress"].as_str().unwrap_or("no address");
    let refusals = document["refusals"].as_array().map_or(0, Vec::len);
    let lag =
        document["lag"].as_str().unwrap_or("0s").trim_end_matches('s').parse::<f64>().unwrap_or_default();
    if document["connected"] != true {
        return Check::warn(
            EDGES,
            format!("{name} is disconnected; it serves what it has for as long as it may"),
            format!("look at its log; if it is gone for good, run `mcpctl delete edge {name}`"),
        );
    }
    if refusals > 0 {
        let first = &document["refusals"][0]["refusal"];
        let (what, why) =
            (first["name"].as_str().unwrap_or_default(), first["reason"].as_str().unwrap_or_default());
        return Check::fail(
            EDGES,
            format!(
                "{name} refuses {} and goes on with what it had; {what}: {why}",
                parse::counted(refusals, "resource")
            ),
            format!("run `mcpctl describe edge {name}`, and change what is refused"),
        );
    }
    match lag > 5.0 {
        true => Check::warn(
            EDGES,
            format!("{name} is {lag:.0} s behind"),
            "look at its log, and at the network between",
        ),
        false => Check::ok(EDGES, format!("{name} at {at} is connected, and has everything")),
    }
}

/// The upstreams that cannot be used.
async fn upstreams(client: &ControlClient) -> Vec<Check> {
    let items = match list(client, "upstream").await {
        Ok(items) => items,
        Err(error) if error.is_denied() => return vec![Check::skip(UPSTREAMS, NOT_YOURS)],
        Err(error) => return vec![Check::error(UPSTREAMS, error, "run `mcpctl get upstreams`")],
    };
    let mut checks: Vec<_> = items.iter().filter_map(upstream).collect();
    checks.extend(calls::failing(client).await);
    if checks.is_empty() {
        checks.push(match items.len() {
            0 => Check::warn(
                UPSTREAMS,
                "there is none",
                "run `mcpctl create upstream NAME --url URL`, or `mcpctl expose --register NAME -- COMMAND`",
            ),
            count => Check::ok(UPSTREAMS, format!("{count}, and each can be used")),
        });
    }
    checks
}

fn upstream(item: &DynamicMessage) -> Option<Check> {
    let document = reflection::to_json(item);
    let state = document["status"]["state"].as_str().unwrap_or_default().strip_prefix("UPSTREAM_STATE_")?;
    if document["disabled"] == true || matches!(state, "READY" | "DISABLED" | "UNSPECIFIED") {
        return None;
    }
    let name = short_name(&reflection::text(item, "name"));
    let reason = document["status"]["reason"].as_str().unwrap_or_default();
    if state == "PENDING" {
        return Some(Check::warn(
            UPSTREAMS,
            format!("{name} is pending, and nothing of it can be used yet"),
            format!("run `mcpctl wait upstream {name} --for state=ready`, which ends when it is ready"),
        ));
    }
    Some(Check::warn(
        UPSTREAMS,
        format!("{name} is {}: {reason}", state.to_lowercase()),
        format!("mend it, and run `mcpctl refresh upstream {name}`"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told() {
        let now = OffsetDateTime::now_utc();
        let apart = |seconds: i64| {
            clock(now + time::Duration::seconds(seconds), Duration::from_millis(1), time::Duration::ZERO)
        };
        assert_eq!(apart(0).outcome, Outcome::Ok);
        assert_eq!((apart(30).outcome, apart(-30).outcome), (Outcome::Warn, Outcome::Warn));
        assert_eq!(apart(-3_600).outcome, Outcome::Fail);
        assert!(apart(-3_600).text.contains("behind") && apart(3_600).text.contains("ahead of"));
        // A slow answer says less of the clock.
        let slow = clock(now - time::Duration::seconds(15), Duration::from_secs(30), time::Duration::ZERO);
        assert_eq!(slow.outcome, Outcome::Ok);
    }

    #[test]
    fn versions_are_compared_with_this_one() {
        assert_eq!(version("edge a", OWN_VERSION).outcome, Outcome::Ok);
        assert_eq!(version("edge a", "9.9.9").outcome, Outcome::Warn);
    }
}
