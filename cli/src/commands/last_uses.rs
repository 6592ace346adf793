//! When servers, and what they lead to, were last used.

use std::collections::BTreeMap;

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::control_client::ControlClient;
use crate::error::Result;
use crate::parse;
use crate::reflection;

/// What was used when, as far as the caller sees it.
pub struct LastUses {
    /// By server and target, both by full name; a target that is empty is the whole server.
    times: BTreeMap<(String, String), OffsetDateTime>,
    /// What was used before this is forgotten.
    since: Option<OffsetDateTime>,
    pub answer: DynamicMessage,
}

impl LastUses {
    /// Asks for them; `filters` are those of the request.
    pub async fn ask(client: &ControlClient, filters: Map<String, Value>) -> Result<Self> {
        let method = "trunkline.telemetry.v1.UsageService/ListLastUses";
        Ok(Self::read(client.call(method, Value::Object(filters)).await?))
    }

    /// Asks for those of a server, or of all, where that is a detail: who may not know it, or asks an older control plane, does without.
    pub async fn hint(client: &ControlClient, server: Option<&str>) -> Option<Self> {
        let filters = server.map(|name| ("server".to_owned(), Value::from(name)));
        Self::ask(client, filters.into_iter().collect()).await.ok()
    }

    fn read(answer: DynamicMessage) -> Self {
        let json = reflection::to_json(&answer);
        let time = |value: &Value| OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok();
        let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
        let uses = json["lastUses"].as_array().into_iter().flatten();
        let times = uses.filter_map(|used| {
            Some(((text(used, "server"), text(used, "target")), time(&used["lastUseTime"])?))
        });
        Self { times: times.collect(), since: time(&json["sinceTime"]), answer }
    }

    /// All of them, by server and target.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, OffsetDateTime)> {
        self.times.iter().map(|((server, target), time)| (server.as_str(), target.as_str(), *time))
    }

    /// When something was last used; `None`: not since it is known.
    pub fn time(&self, server: &str, target: &str) -> Option<OffsetDateTime> {
        self.times.get(&(server.to_owned(), target.to_owned())).copied()
    }

    /// The same in words: `3m ago`, or `never since 2026-09-01`.
    pub fn told(&self, server: &str, target: &str, now: OffsetDateTime) -> String {
        match self.time(server, target) {
            Some(time) => format!("{} ago", parse::short_duration(now - time)),
            None => never_since(self.since),
        }
    }
}

/// What is said of what was not used.
fn never_since(since: Option<OffsetDateTime>) -> String {
    since.map_or_else(|| "never".to_owned(), |since| format!("never since {}", since.date()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_used_is_said_to_be_so_since_it_is_known() {
        let message = reflection::message("trunkline.telemetry.v1.ListLastUsesResponse");
        let answer = json!({"sinceTime": "2026-09-01T12:00:00Z", "lastUses": [
            {"server": "servers/dev", "lastUseTime": "2026-11-30T12:00:00Z"},
            {"server": "servers/dev", "target": "upstreams/a/tools/x", "lastUseTime": "2026-11-30T11:57:00Z"},
        ]});
        let uses = LastUses::read(reflection::from_json(message, answer).unwrap());
        let now = OffsetDateTime::parse("2026-11-30T12:00:05Z", &Rfc3339).unwrap();
        let told = |server: &str, target: &str| uses.told(server, target, now);
        assert_eq!(told("servers/dev", ""), "5s ago");
        assert_eq!(told("servers/dev", "upstreams/a/tools/x"), "3m ago");
        assert_eq!(told("servers/dev", "upstreams/a/tools/y"), "never since 2026-09-01");
        assert_eq!(told("servers/lab", ""), "never since 2026-09-01");
        assert_eq!(uses.all().count(), 2);
    }
}
