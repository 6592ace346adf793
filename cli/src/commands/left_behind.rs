//! What somebody who leaves may still open: tokens and keys that they made, and of which they may have kept copies. It is a hint: whoever
//! may not read the audit log is told nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::commands::get;
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::{Kind, short_name};
use crate::output;
use crate::reflection;

/// So many of the newest records are looked at, of tokens and of keys.
const MAX_RECORDS: usize = 50;
/// The states of tokens that nobody can use, nor will.
const OVER: [&str; 2] = ["revoked", "expired"];

/// Says what `who` made that goes on: of a team, or all of it. What was `told` already is not said again.
pub(super) async fn say(client: &ControlClient, who: &str, team: Option<&str>, told: &[String]) {
    // To ask without the right to would be a refusal in that very log.
    if !may_read(client).await {
        return;
    }
    let mut tokens = Vec::new();
    for name in made(client, who, "CreateToken").await.unwrap_or_default() {
        let is_new = !told.contains(&name);
        if is_new && goes_on(client, "token", &name, team).await {
            tokens.push(short_name(&name));
        }
    }
    let mut accounts = Vec::new();
    for name in made(client, who, "CreateApiKey").await.unwrap_or_default() {
        if name.starts_with("serviceAccounts/") && goes_on(client, "service-account", &name, team).await {
            accounts.push(short_name(&name));
        }
    }
    lines(who, &tokens, &accounts).iter().for_each(output::eprint);
}

async fn may_read(client: &ControlClient) -> bool {
    let caller = client.call("trunkline.identity.v1.SessionService/GetCaller", json!({})).await;
    caller
        .is_ok_and(|caller| reflection::texts(&caller, "permissions").iter().any(|held| held == "audit.read"))
}

/// What somebody did something to, of what the audit log still knows.
async fn made(client: &ControlClient, who: &str, action: &str) -> Result<BTreeSet<String>> {
    let filter = json!({ "actor": who, "action": action, "kind": "AUDIT_KIND_CHANGE" });
    let request = json!({ "filter": filter, "pageSize": MAX_RECORDS });
    let answer = client.call("trunkline.admin.v1.AuditService/ListAuditRecords", request).await?;
    let records = reflection::submessages(&answer, "records");
    Ok(records.iter().map(|record| reflection::text(record, "resource")).collect())
}

/// Whether something is there, of the team that is asked about, and is not over.
async fn goes_on(client: &ControlClient, kind: &str, name: &str, team: Option<&str>) -> bool {
    let Ok(found) = get::one(client, Kind::from_word(kind), name).await else { return false };
    let is_over = OVER.contains(&reflection::state(&found).0.as_str());
    !is_over && team.is_none_or(|team| names(&reflection::to_json(&found), team))
}

/// Whether anything in a document is this name.
fn names(document: &Value, name: &str) -> bool {
    match document {
        Value::String(text) => text == name,
        Value::Array(items) => items.iter().any(|item| names(item, name)),
        Value::Object(members) => members.values().any(|value| names(value, name)),
        _ => false,
    }
}

fn lines(who: &str, tokens: &[String], accounts: &[String]) -> Vec<String> {
    let line = |what: &str, names: &[String], how: String| {
        let names = names.join(", ");
        format!("{who} made {what} {names}, and may have kept copies that go on: make others, and {how}")
    };
    let of_tokens = line("the tokens", tokens, format!("`mcpctl revoke token {}`", tokens.join(" ")));
    let first = accounts.first().map(String::as_str).unwrap_or_default();
    let of_keys = line("API keys of", accounts, format!("revoke these (`mcpctl get api-keys {first}`)"));
    let all = [(tokens.is_empty(), of_tokens), (accounts.is_empty(), of_keys)];
    all.into_iter().filter(|(is_none, _)| !is_none).map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_with_what_ends_it() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(lines("users/bob", &[], &[]), texts(&[]));
        assert_eq!(
            lines("users/bob", &texts(&["agent", "ci"]), &texts(&["deploy"])),
            [
                "users/bob made the tokens agent, ci, and may have kept copies that go on: make others, and `mcpctl revoke token agent ci`",
                "users/bob made API keys of deploy, and may have kept copies that go on: make others, and revoke these (`mcpctl get \
                 api-keys deploy`)",
            ]
        );
        let token = json!({"meta": {"team": "teams/core"}, "scope": {"servers": ["servers/a"]}});
        assert!(names(&token, "teams/core") && names(&token, "servers/a") && !names(&token, "teams/cor"));
    }
}
