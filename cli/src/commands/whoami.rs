//! `mcpctl whoami`: who the control plane takes the caller for, and what they may do.

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::Invocation;
use crate::context::environment;
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::short_name;
use crate::output;
use crate::output::sections::{self, Section};
use crate::parse::short_duration;
use crate::reflection;

/// Runs `whoami`.
pub async fn run(invocation: &Invocation) -> Result {
    let client = invocation.client().await?;
    let answer = client.call("trunkline.identity.v1.SessionService/GetCaller", json!({})).await?;
    let place = client.target().to_owned();
    let limit = limit(&client, &answer).await;
    let people = || render(&reflection::to_json(&answer), &place, limit, OffsetDateTime::now_utc());
    output::print(&output::message(&answer, invocation.format(), people)?)
}

/// The role that an API key is limited to, where that can be seen.
async fn limit(client: &ControlClient, caller: &DynamicMessage) -> Option<String> {
    let key = reflection::text(caller, "through");
    if !key.contains("/keys/") {
        return None;
    }
    let request = json!({ "parent": reflection::text(caller, "principal"), "pageSize": 1_000 });
    let listed =
        client.call("trunkline.identity.v1.ServiceAccountService/ListApiKeys", request).await.ok()?;
    let keys = reflection::submessages(&listed, "api_keys");
    let own = keys.iter().find(|listed| reflection::text(listed, "name") == key)?;
    Some(reflection::text(own, "role")).filter(|role| !role.is_empty())
}

/// By which credential the caller is known.
fn through(through: &str, limit: Option<&str>) -> String {
    let through = match through {
        "" => "the admin token",
        through => through,
    };
    let source = match environment::api_key() {
        Some(_) => format!(" ({})", environment::API_KEY),
        None => String::new(),
    };
    let limit = limit.map(|role| format!(", limited to {}", short_name(role))).unwrap_or_default();
    format!("{through}{source}{limit}")
}

fn render(caller: &Value, place: &str, limit: Option<String>, now: OffsetDateTime) -> String {
    let text = |key: &str| caller[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| {
        let items = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        items.map(str::to_owned).collect::<Vec<_>>()
    };
    let through = through(&text("through"), limit.as_deref());
    let ends = OffsetDateTime::parse(&text("expireTime"), &Rfc3339).ok();
    let ends = ends.map_or_else(|| "never".to_owned(), |end| format!("in {}", short_duration(end - now)));
    let bindings = caller["bindings"].as_array().into_iter().flatten();
    let roles: Vec<_> = bindings.map(role).collect();
    let mut section = Section::new("");
    section
        .field("Principal", text("principal"))
        .field("At", place)
        .field("Through", through)
        .field("Ends", ends);
    section.list("Roles", roles);
    section.list("Teams", list(&caller["teams"]).iter().map(|team| short_name(team)));
    section.list("Permissions", list(&caller["permissions"]));
    for held in caller["teamPermissions"].as_array().into_iter().flatten() {
        let team = short_name(held["team"].as_str().unwrap_or_default());
        section.list(&format!("In {team}"), list(&held["permissions"]));
    }
    if caller["mustChangePassword"] == true {
        section.field("Must do", "choose another password: `mcpctl change-password`");
    }
    sections::render(&[section], sections::width())
}

fn role(binding: &Value) -> String {
    let [role, team] = ["role", "team"].map(|key| short_name(binding[key].as_str().unwrap_or_default()));
    if team.is_empty() { role } else { format!("{role} in {team}") }
}
