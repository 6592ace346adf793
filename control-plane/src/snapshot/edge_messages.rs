//! Registry messages to `edge.v1` messages, one by one. Pure.
//!
//! It must not know which of them are in the snapshot.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mcp::client::Transport;
use trunkline::identity::v1::{Conditions, Scope};
use trunkline::registry::v1::credential::Kind as Form;
use trunkline::registry::v1::upstream::{Kind as UpstreamKind, Reach};
use trunkline::registry::v1::{Credential, EraPolicy, McpUpstream, Member, ProbeReport, ToolHints, Upstream};
use trunkline::{edge::v1 as edge, identity, registry::v1 as registry};

use super::holders::Bounds;
use crate::domain::upstream::{WITHIN_TUNNEL, kind};

pub(super) fn upstream(upstream: &Upstream) -> edge::Upstream {
    let status = upstream.status.clone().unwrap_or_default();
    let (url, tunnelled) = match upstream.reach.clone() {
        Some(Reach::Http(http)) => (http.url, false),
        Some(Reach::Tunnel(_)) => (WITHIN_TUNNEL.to_owned(), true),
        None => return unreachable_upstream(upstream.name.clone()),
    };
    let probe = status.probe.unwrap_or_default();
    edge::Upstream {
        name: upstream.name.clone(),
        uid: upstream.meta.as_ref().map(|meta| meta.uid.clone()).unwrap_or_default(),
        url,
        has_secret: upstream.credential.is_some(),
        credential_version: upstream.credential.as_ref().map(|held| held.version.clone()).unwrap_or_default(),
        request_timeout: upstream.request_timeout,
        tools_generation: status.tools_change_count,
        resources_generation: status.resources_change_count,
        prompts_generation: status.prompts_change_count,
        tunnelled,
        kind: Some(match kind(upstream) {
            UpstreamKind::Mcp(mcp) => edge::upstream::Kind::Mcp(mcp_upstream(mcp, probe)),
        }),
    }
}

/// An upstream that says no way to it, which edges refuse by its name.
fn unreachable_upstream(name: String) -> edge::Upstream {
    edge::Upstream {
        name,
        uid: String::new(),
        url: String::new(),
        has_secret: false,
        credential_version: String::new(),
        request_timeout: None,
        tools_generation: 0,
        resources_generation: 0,
        prompts_generation: 0,
        tunnelled: false,
        kind: None,
    }
}

fn mcp_upstream(mcp: McpUpstream, probe: ProbeReport) -> edge::McpUpstream {
    let modern = probe.modern.filter(|_| mcp.era_policy() != EraPolicy::Legacy).unwrap_or_default();
    let legacy = probe.legacy.filter(|_| mcp.era_policy() != EraPolicy::Modern).unwrap_or_default();
    // No transport is found while no probe has succeeded.
    let transport = match Transport::named(&probe.transport) {
        Some(Transport::HttpSse) => edge::UpstreamTransport::HttpSse,
        Some(Transport::WebSocket) => edge::UpstreamTransport::Websocket,
        Some(Transport::StreamableHttp) | None => edge::UpstreamTransport::StreamableHttp,
    };
    edge::McpUpstream {
        modern_versions: modern.versions,
        legacy_version: legacy.version,
        legacy_sessionful: legacy.sessionful,
        modern_capabilities_json: modern.capabilities_json,
        legacy_capabilities_json: legacy.capabilities_json,
        transport: transport.into(),
    }
}

pub(super) fn secret(name: &str, credential: &Credential) -> edge::Secret {
    let parameter = |name: &str, value: String| edge::SecretParameter { name: name.to_owned(), value };
    let mut secret =
        edge::Secret { name: name.to_owned(), headers: Vec::new(), query_parameters: Vec::new() };
    match &credential.kind {
        Some(Form::Bearer(bearer)) => {
            secret.headers.push(parameter("authorization", format!("Bearer {}", bearer.token)));
        }
        Some(Form::Basic(basic)) => {
            let pair = STANDARD.encode(format!("{}:{}", basic.username, basic.password));
            secret.headers.push(parameter("authorization", format!("Basic {pair}")));
        }
        Some(Form::Headers(headers)) => {
            secret.headers =
                headers.headers.iter().map(|(name, value)| parameter(name, value.clone())).collect();
        }
        Some(Form::QueryParameter(query)) => {
            secret.query_parameters.push(parameter(&query.parameter, query.value.clone()));
        }
        None => {}
    }
    secret
}

pub(super) fn tool(tool: &registry::Tool) -> edge::Tool {
    edge::Tool {
        name: tool.name.clone(),
        tool_name: tool.tool_name.clone(),
        definition_json: tool.definition_json.clone(),
    }
}

pub(super) fn resource(resource: &registry::Resource) -> edge::Resource {
    edge::Resource {
        name: resource.name.clone(),
        uri: resource.uri.clone(),
        uri_template: resource.uri_template.clone(),
        definition_json: resource.definition_json.clone(),
    }
}

pub(super) fn prompt(prompt: &registry::Prompt) -> edge::Prompt {
    edge::Prompt {
        name: prompt.name.clone(),
        prompt_name: prompt.prompt_name.clone(),
        definition_json: prompt.definition_json.clone(),
    }
}

/// A token with its bounds. What edges of before cannot be told is told in `access` alone, so that they allow nothing.
pub(super) fn token(token: &identity::v1::Token, bounds: Bounds) -> edge::Token {
    let scope = token.scope.clone().unwrap_or_default();
    let conditions = token.conditions.clone().unwrap_or_default();
    let mut shown = edge::Token {
        name: token.name.clone(),
        uid: token.meta.as_ref().map(|meta| meta.uid.clone()).unwrap_or_default(),
        expire_time: token.expire_time,
        revoked: token.revoke_time.is_some(),
        servers: Vec::new(),
        tools: Vec::new(),
        resources: Vec::new(),
        prompts: Vec::new(),
        access: None,
    };
    let is_plain = conditions == Conditions::default() && bounds == Bounds::default();
    if is_plain && token.certificates.is_empty() {
        let Scope { servers, tools, resources, prompts } = scope;
        return edge::Token { servers, tools, resources, prompts, ..shown };
    }
    let certificates = token.certificates.clone();
    shown.access = Some(edge::Access { certificates, ..access(scope, conditions, bounds) });
    shown
}

fn access(scope: Scope, conditions: Conditions, bounds: Bounds) -> edge::Access {
    let limits = |letter: char, texts: Vec<String>| {
        let named = texts.into_iter().enumerate();
        named.map(move |(index, text)| edge::Limit { id: format!("{letter}{index}"), text })
    };
    edge::Access {
        servers: scope.servers,
        tools: scope.tools,
        resources: scope.resources,
        prompts: scope.prompts,
        methods: conditions.methods,
        from: conditions.from,
        not_before: conditions.not_before,
        windows: conditions.windows,
        limits: limits('r', conditions.rates).chain(limits('q', conditions.quotas)).collect(),
        ceiling: bounds.ceiling,
        suspended: bounds.suspended,
        certificates: Vec::new(),
    }
}

/// Renders the fields of a definition that a member replaces, as a JSON object. Empty: none.
pub(super) fn overrides(member: &Member, definition: &str) -> String {
    let quoted =
        |key: &str, text: &str| (!text.is_empty()).then(|| format!("{key}:{}", mcp::json::quote(text)));
    let annotations = member.hints.as_ref().and_then(|hints| annotations(hints, definition));
    let parts: Vec<String> = [
        quoted(r#""title""#, &member.title),
        quoted(r#""description""#, &member.description),
        annotations.map(|object| format!(r#""annotations":{object}"#)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

/// The upstream's annotations with the hints that are set in place of its own.
fn annotations(hints: &ToolHints, definition: &str) -> Option<String> {
    let own = mcp::json::members(definition, ["annotations"]).ok().and_then(|[raw]| raw);
    let own = own.filter(|raw| raw.starts_with('{')).unwrap_or("{}");
    let word = |flag: bool| if flag { "true" } else { "false" };
    let edits: Vec<(&str, Option<&str>)> = [
        ("readOnlyHint", hints.read_only),
        ("destructiveHint", hints.destructive),
        ("idempotentHint", hints.idempotent),
        ("openWorldHint", hints.open_world),
    ]
    .into_iter()
    .filter_map(|(key, flag)| Some((key, Some(word(flag?)))))
    .collect();
    if edits.is_empty() { None } else { mcp::json::set_members(own, &edits).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scoped(conditions: Option<Conditions>) -> identity::v1::Token {
        let list = || vec!["*".to_owned()];
        let scope = Scope { servers: list(), tools: list(), resources: list(), prompts: list() };
        identity::v1::Token { scope: Some(scope), conditions, ..identity::v1::Token::default() }
    }

    #[test]
    fn a_plain_token_is_said_as_before_and_any_other_says_nothing_to_edges_of_before() {
        let plain = token(&scoped(None), Bounds::default());
        assert_eq!((plain.servers.len(), plain.tools.len(), plain.access), (1, 1, None));
        let rates = Conditions { rates: vec!["5/s".to_owned(), "9/min".to_owned()], ..Conditions::default() };
        let quotas = Conditions { quotas: vec!["7/day".to_owned()], ..rates };
        let bounded = Bounds { ceiling: Some(edge::Ceiling::default()), suspended: false };
        for (conditions, bounds) in [
            (Some(quotas), Bounds::default()),
            (None, bounded),
            (None, Bounds { ceiling: None, suspended: true }),
        ] {
            let shown = token(&scoped(conditions), bounds.clone());
            let before = [&shown.servers, &shown.tools, &shown.resources, &shown.prompts];
            assert!(before.iter().all(|list| list.is_empty()), "{shown:?}");
            let access = shown.access.unwrap();
            assert_eq!((access.servers.len(), access.prompts.len()), (1, 1));
            assert_eq!((access.ceiling, access.suspended), (bounds.ceiling, bounds.suspended));
            let limits: Vec<_> =
                access.limits.iter().map(|limit| format!("{} {}", limit.id, limit.text)).collect();
            assert!(limits.is_empty() || limits == ["r0 5/s", "r1 9/min", "q0 7/day"], "{limits:?}");
        }
    }

    #[test]
    fn overrides_replace_only_what_is_set() {
        assert_eq!(overrides(&Member::default(), "{}"), "");
        let member = Member {
            title: "T \"x\"".to_owned(),
            hints: Some(ToolHints { read_only: Some(true), ..Default::default() }),
            ..Default::default()
        };
        let definition = r#"{"name":"a","annotations":{"x":1.10,"readOnlyHint":false}}"#;
        let expected = r#"{"title":"T \"x\"","annotations":{"x":1.10,"readOnlyHint":true}}"#;
        assert_eq!(overrides(&member, definition), expected);
    }
}
