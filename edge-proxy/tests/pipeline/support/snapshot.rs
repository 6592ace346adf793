//! What an edge is told: one server, two upstreams, some tokens, and the keys they are signed with.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::upstream::Kind;
use trunkline_edge_proxy::snapshot::Snapshot;
use trunkline_edge_proxy::snapshot::build::{Resources, compile};

/// The part of an upstream that only MCP servers have.
pub(crate) fn mcp(upstream: &mut wire::Upstream) -> &mut wire::McpUpstream {
    let Kind::Mcp(mcp) = upstream.kind.as_mut().unwrap();
    mcp
}

#[derive(Clone)]
pub(crate) struct Keys {
    id: String,
    signing: EncodingKey,
    jwk: String,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self::named("k1")
    }

    pub(crate) fn named(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let point = pair.public_key_raw();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let jwk = format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, part(1..33), part(33..65));
        Self { id: id.to_owned(), signing: EncodingKey::from_ec_der(&pair.serialize_der()), jwk }
    }

    /// The bearer of `tokens/{id}`.
    pub(crate) fn bearer(&self, id: &str) -> String {
        self.sign(serde_json::json!({"iss": "i", "aud": "a", "sub": format!("tokens/{id}"), "jti": format!("uid-{id}"), "iat": 1}))
    }

    /// A bearer of a user or service account, of this epoch and with these pairs of a role and a team.
    pub(crate) fn person(&self, name: &str, epoch: i64, pairs: &[[&str; 2]]) -> String {
        self.sign(person_claims(name, epoch, pairs))
    }

    /// The public key, as a trust bundle has it.
    pub(crate) fn public(&self) -> wire::VerificationKey {
        wire::VerificationKey {
            key_id: self.id.clone(),
            algorithm: "ES256".into(),
            public_jwk_json: self.jwk.clone(),
        }
    }

    pub(crate) fn sign(&self, claims: serde_json::Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.signing).unwrap()
    }
}

/// The id of a grant, of eleven characters as all are.
pub(crate) fn gid(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("{name:_<11}") }
}

/// The claims of a person's bearer, which ends in an hour.
pub(crate) fn person_claims(name: &str, epoch: i64, pairs: &[[&str; 2]]) -> serde_json::Value {
    let pairs: Vec<_> = pairs.iter().map(|pair| pair.map(gid)).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    serde_json::json!({
        "iss": "i", "aud": "a", "sub": name, "uid": uid_of(name), "jti": "session", "iat": now, "exp": now + 3_600,
        "ep": epoch, "gr": pairs
    })
}

/// The uid of a person of this name.
pub(crate) fn uid_of(name: &str) -> String {
    format!("uid-of-{}", name.rsplit('/').next().unwrap())
}

/// What a role grants.
pub(crate) fn role(id: &str, may_call: bool, every_server: bool) -> wire::Grant {
    let kind = wire::grant::Kind::Role(wire::RoleGrant { may_call, every_server });
    wire::Grant { name: format!("roles/{id}"), gid: gid(id), kind: Some(kind) }
}

/// What a team grants: these servers beside its own, these tools there, and all else.
pub(crate) fn team(id: &str, servers: &[&str], tools: &[&str]) -> wire::Grant {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let kind = wire::grant::Kind::Team(wire::TeamGrant {
        servers: texts(servers),
        tools: texts(tools),
        resources: texts(&["*"]),
        prompts: texts(&["*"]),
    });
    wire::Grant { name: format!("teams/{id}"), gid: gid(id), kind: Some(kind) }
}

/// A pair of grants, as the control plane names it.
pub(crate) fn pair(role: &str, team: &str) -> wire::GrantPair {
    wire::GrantPair { role: gid(role), team: gid(team) }
}

/// What a person has lost: everything below this epoch, and these pairs.
pub(crate) fn withdrawal(name: &str, epoch: i64, pairs: &[(i64, [&str; 2])]) -> wire::Withdrawal {
    let lost = |(epoch, [role, team]): &(i64, [&str; 2])| wire::WithdrawnPair {
        epoch: *epoch,
        pair: Some(pair(role, team)),
    };
    let uid = uid_of(name);
    wire::Withdrawal {
        name: format!("withdrawals/{uid}"),
        uid,
        epoch,
        pairs: pairs.iter().map(lost).collect(),
    }
}

/// A rule that refuses these when this is true.
pub(crate) fn deny(tools: &[&str], when: &str) -> wire::CompiledRule {
    wire::CompiledRule {
        id: format!("servers/dev/rules/{}", tools.join("-")),
        effect: wire::CompiledEffect::Deny.into(),
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        when: when.to_owned(),
        reason: "ask the owner".to_owned(),
        ..wire::CompiledRule::default()
    }
}

/// A rule that holds these back when this is true.
pub(crate) fn approve(tools: &[&str], when: &str) -> wire::CompiledRule {
    wire::CompiledRule {
        id: format!("servers/dev/rules/approve-{}", tools.join("-")),
        effect: wire::CompiledEffect::Approve.into(),
        reason: "it deletes".to_owned(),
        ..deny(tools, when)
    }
}

/// The resources of an edge, to be changed and compiled.
#[derive(Clone)]
pub(crate) struct TestSnapshot {
    pub(crate) resources: Resources,
}

fn entry(exposed: &str, target: &str, prefix: &str) -> wire::Entry {
    wire::Entry {
        exposed_name: exposed.into(),
        target: target.into(),
        uri_prefix: prefix.into(),
        ..Default::default()
    }
}

fn tool(name: &str, more: &str) -> wire::Tool {
    wire::Tool {
        name: format!("upstreams/u/tools/{name}"),
        tool_name: name.into(),
        definition_json: format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}{more}}}"#),
    }
}

pub(crate) fn token(id: &str, tools: &[&str], all: bool) -> wire::Token {
    let more = if all { vec!["*".to_owned()] } else { Vec::new() };
    wire::Token {
        name: format!("tokens/{id}"),
        uid: format!("uid-{id}"),
        servers: vec!["servers/dev".into()],
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        resources: more.clone(),
        prompts: more,
        ..Default::default()
    }
}

impl TestSnapshot {
    /// `servers/dev` over one upstream at `url`, which speaks both eras.
    pub(crate) fn new(keys: &Keys, url: &str) -> Self {
        let mirrored = r#","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#;
        let resource = |id: &str, uri: &str, template: &str| wire::Resource {
            name: format!("upstreams/u/resources/{id}"),
            uri: uri.into(),
            uri_template: template.into(),
            definition_json: if template.is_empty() {
                format!(r#"{{"uri":"{uri}","name":"{id}"}}"#)
            } else {
                format!(r#"{{"uriTemplate":"{template}","name":"{id}"}}"#)
            },
        };
        let mut region = tool("region", "");
        region.definition_json = format!(r#"{{"name":"region"{mirrored}}}"#);
        let resources = Resources {
            trust_bundles: vec![trust(keys)],
            upstreams: vec![wire::Upstream {
                name: "upstreams/u".into(),
                uid: "u-u".into(),
                url: url.into(),
                request_timeout: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
                kind: Some(Kind::Mcp(wire::McpUpstream {
                    modern_versions: vec!["2026-07-28".into()],
                    legacy_version: "2025-11-25".into(),
                    legacy_sessionful: true,
                    modern_capabilities_json: r#"{"tools":{},"completions":{}}"#.into(),
                    legacy_capabilities_json:
                        r#"{"tools":{},"prompts":{},"resources":{},"completions":{},"logging":{}}"#.into(),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            tools: vec![
                tool("echo", ""),
                tool("other", ""),
                tool("safe", r#","annotations":{"readOnlyHint":true}"#),
                region,
            ],
            resources: vec![resource("r", "file:///r", ""), resource("t", "", "file:///t/{id}")],
            prompts: vec![wire::Prompt {
                name: "upstreams/u/prompts/p".into(),
                prompt_name: "p".into(),
                definition_json: r#"{"name":"p"}"#.into(),
            }],
            tokens: vec![token("all", &["*"], true), token("some", &["u_echo"], false)],
            servers: vec![
                wire::Server {
                    name: "servers/dev".into(),
                    uid: "s-dev".into(),
                    title: "Dev".into(),
                    instructions: "Be kind.".into(),
                    tools: ["echo", "other", "region", "safe"]
                        .map(|name| entry(&format!("u_{name}"), &format!("upstreams/u/tools/{name}"), ""))
                        .into(),
                    resources: vec![entry("u+file:///r", "upstreams/u/resources/r", "u+")],
                    resource_templates: vec![entry("u+file:///t/{id}", "upstreams/u/resources/t", "u+")],
                    prompts: vec![entry("u_p", "upstreams/u/prompts/p", "")],
                    ..Default::default()
                },
                wire::Server { name: "servers/secret".into(), uid: "s-secret".into(), ..Default::default() },
            ],
            ..Default::default()
        };
        Self { resources }
    }

    /// Gives `tokens/all` what it has by this field alone, and returns it.
    pub(crate) fn access(&mut self) -> &mut wire::Access {
        let token = &mut self.resources.tokens[0];
        let wire::Token { servers, tools, resources, prompts, access, .. } = token;
        access.get_or_insert_with(|| wire::Access {
            servers: std::mem::take(servers),
            tools: std::mem::take(tools),
            resources: std::mem::take(resources),
            prompts: std::mem::take(prompts),
            ..wire::Access::default()
        })
    }

    /// Gives `servers/dev` these rules, and so what it exposes where an edge that does not know rules does not look.
    pub(crate) fn rule(&mut self, rules: Vec<wire::CompiledRule>) {
        let server = &mut self.resources.servers[0];
        let wire::Server { tools, resources, resource_templates, prompts, .. } = server;
        server.ruled.get_or_insert_with(|| wire::RuledEntries {
            tools: std::mem::take(tools),
            resources: std::mem::take(resources),
            resource_templates: std::mem::take(resource_templates),
            prompts: std::mem::take(prompts),
        });
        server.rules = rules;
    }

    pub(crate) fn compile(&self) -> Arc<Snapshot> {
        let (snapshot, refused) = compile(&self.resources);
        assert!(refused.is_empty(), "{refused:?}");
        snapshot
    }
}

fn trust(keys: &Keys) -> wire::TrustBundle {
    wire::TrustBundle {
        name: "default".into(),
        issuer: "i".into(),
        audience: "a".into(),
        verification_keys: vec![keys.public()],
        sealing_keys: vec![wire::SealingKey { key_id: 1, key: vec![7; 32] }],
        max_age: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
    }
}
