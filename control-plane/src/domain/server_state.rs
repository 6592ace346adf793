//! The states of virtual servers. Pure.

use std::collections::BTreeSet;

use trunkline::registry::v1::{Server, ServerState, ServerStatus, UpstreamState};

use super::members::{self, Exposure, Target};
use super::{Surroundings, names};
use crate::rights::Ownership;

/// The names that a reason gives of each sort.
const NAMED: usize = 3;

/// What is wrong with the upstreams behind a server: with those of which it exposes something, and those that its members name.
pub(super) fn not_ready(server: &Server, exposure: &Exposure<'_>, around: &Surroundings<'_>) -> Vec<String> {
    let exposed = exposure.entries.iter().filter_map(|exposed| names::upstream_id(&exposed.entry.name));
    let members = members::lists(server).into_iter().flat_map(|(_, list)| list);
    let named = members.filter_map(|member| Target::parse(&member.r#match)).map(|target| target.upstream);
    let ids: BTreeSet<&str> = exposed.chain(named.filter(|id| !glob::is_pattern(id))).collect();
    let own = around.catalogue.selecting_as(server);
    ids.into_iter().filter_map(|id| trouble(id, &own, around)).collect()
}

fn trouble(id: &str, own: &Ownership, around: &Surroundings<'_>) -> Option<String> {
    let name = names::upstream(id);
    let known =
        around.catalogue.upstreams(id).next().map(|known| (known, around.viewer.sees(&known.ownership)));
    let (known, is_seen) = match known {
        None => return Some(format!("{name} does not exist")),
        Some((known, is_seen)) if !members::may_use(own, known, true) => {
            let what = if is_seen { "is not for it to use" } else { "does not exist" };
            return Some(format!("{name} {what}"));
        }
        Some(known) => known,
    };
    let name = if is_seen { name } else { "an upstream that you may not see".to_owned() };
    let state = match around.upstream_states.get(&names::upstream(id)) {
        _ if known.disabled => UpstreamState::Disabled,
        None | Some(UpstreamState::Ready) => return None,
        Some(state) => *state,
    };
    let word = state.as_str_name().trim_start_matches("UPSTREAM_STATE_").to_ascii_lowercase();
    Some(format!("{name} is {word}"))
}

/// The state of a server with this status, and why it is not ready.
pub(super) fn state(server: &Server, status: &ServerStatus, not_ready: &[String]) -> (ServerState, String) {
    if server.disabled {
        return (ServerState::Disabled, "it is disabled".to_owned());
    }
    let missing = missing(status, not_ready);
    if status.tool_count + status.resource_count + status.prompt_count == 0 {
        let has_members = members::lists(server).iter().any(|(_, list)| !list.is_empty());
        let why = match (has_members, missing.as_str()) {
            (false, _) => "it has no members".to_owned(),
            (true, "") => "its members select nothing".to_owned(),
            (true, missing) => missing.to_owned(),
        };
        return (ServerState::Empty, why);
    }
    let state = if missing.is_empty() { ServerState::Ready } else { ServerState::Degraded };
    (state, missing)
}

/// The state where these rules cannot be decided about what the server exposes: what they cover is refused.
pub(super) fn with_rules(
    state: ServerState,
    reason: String,
    undecidable: Vec<String>,
) -> (ServerState, String) {
    if undecidable.is_empty() || !matches!(state, ServerState::Ready | ServerState::Degraded) {
        return (state, reason);
    }
    let parts = [reason, first(undecidable)];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (ServerState::Degraded, parts.join("; "))
}

/// What is missing of it, or does not work.
fn missing(status: &ServerStatus, not_ready: &[String]) -> String {
    let unresolved = status.unresolved.iter().map(|given| format!("`{given}` selects nothing"));
    let too_large = Some(&status.too_large).filter(|text| !text.is_empty()).cloned();
    let parts = [
        first(not_ready.to_vec()),
        first(unresolved.collect()),
        first(status.conflicts.clone()),
        too_large.unwrap_or_default(),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The first of them, and how many more there are.
fn first(texts: Vec<String>) -> String {
    let more = texts.len().saturating_sub(NAMED);
    let shown = texts.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trunkline::registry::v1::{Member, Upstream};

    use super::*;
    use crate::domain::Catalogue;
    use crate::rights::Rights;

    fn server() -> Server {
        let member = |text: &str| Member { r#match: text.to_owned(), ..Member::default() };
        Server { tools: ["up/*", "*/x", "off/*", "gone/*"].map(member).into(), ..Server::default() }
    }

    #[test]
    fn a_server_is_ready_when_clients_get_all_of_it() {
        let some = || ServerStatus { tool_count: 1, ..ServerStatus::default() };
        let unresolved = |count: usize| (0..count).map(|nth| format!("a/{nth}")).collect();
        let away = "upstreams/up is unreachable".to_owned();
        let said = |state, reason: &str| (state, reason.to_owned());
        assert_eq!(state(&server(), &some(), &[]), said(ServerState::Ready, ""));
        let status = ServerStatus { unresolved: unresolved(5), ..some() };
        assert_eq!(
            state(&server(), &status, &[away]),
            said(
                ServerState::Degraded,
                "upstreams/up is unreachable; `a/0` selects nothing, `a/1` selects nothing, `a/2` selects nothing and 2 more"
            )
        );
        let none = ServerStatus::default();
        assert_eq!(state(&server(), &none, &[]), said(ServerState::Empty, "its members select nothing"));
        assert_eq!(state(&Server::default(), &none, &[]), said(ServerState::Empty, "it has no members"));
        let none = ServerStatus { unresolved: unresolved(1), ..none };
        assert_eq!(state(&server(), &none, &[]), said(ServerState::Empty, "`a/0` selects nothing"));
        let disabled = Server { disabled: true, ..server() };
        assert_eq!(state(&disabled, &some(), &[]).0, ServerState::Disabled);
    }

    #[test]
    fn upstreams_that_a_member_names_are_looked_at() {
        let mut catalogue = Catalogue::default();
        for (id, disabled) in [("up", false), ("off", true), ("other", false)] {
            let name = names::upstream(id);
            catalogue.put_upstream(&Upstream { name, disabled, ..Upstream::default() });
        }
        let unreachable = |id: &str| (names::upstream(id), UpstreamState::Unreachable);
        let upstream_states = &BTreeMap::from(["up", "other"].map(unreachable));
        let (viewer, people) = (&Rights::administrator(), &super::super::People::default());
        let around = Surroundings { now_us: 0, catalogue: &catalogue, upstream_states, people, viewer };
        let server = server();
        let exposure = members::evaluate(&server, &catalogue);
        assert_eq!(
            not_ready(&server, &exposure, &around),
            ["upstreams/gone does not exist", "upstreams/off is disabled", "upstreams/up is unreachable"]
        );
    }
}
