//! Validation of a resource by itself, without what it refers to.

use std::collections::HashSet;

use mcp::uri::naming;
use prost::Message;
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::{definition, rules, siblings, trust, upstreams};

/// The reason that a resource cannot be used. The texts never quote a value that may be secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InvalidResource {
    #[error("the message does not decode: {0}")]
    Encoding(String),
    #[error("the message is named {found:?}")]
    OtherName { found: String },
    #[error("the name does not match {pattern}")]
    NamePattern { pattern: &'static str },
    #[error("{field} is empty")]
    Empty { field: &'static str },
    #[error("{field} {problem}")]
    Field { field: &'static str, problem: String },
    #[error("{field} is not a JSON object: {problem}")]
    Json { field: &'static str, problem: String },
    #[error("the definition's {member} is not {expected:?}")]
    DefinitionName { member: &'static str, expected: String },
    #[error("{list} exposes {name:?} twice")]
    ExposedTwice { list: &'static str, name: String },
    #[error("the entry {exposed:?} of {list}: {problem}")]
    Entry { list: &'static str, exposed: String, problem: String },
}

/// Checks that the encoded message can be used as the resource `name`.
pub(super) fn check(kind: StreamType, name: &str, body: &[u8]) -> Result<(), InvalidResource> {
    match kind {
        StreamType::Secret => {
            let secret: wire::Secret = decode(name, body, |m: &wire::Secret| &m.name)?;
            pattern(name, "upstreams/{upstream}", &["upstreams", ""])?;
            upstreams::credential_headers(&secret).map(drop)
        }
        StreamType::TrustBundle => {
            let bundle = decode(name, body, |m: &wire::TrustBundle| &m.name)?;
            pattern(name, "default", &["default"])?;
            trust::convert(&bundle).map(drop)
        }
        StreamType::Sibling => {
            let sibling = decode(name, body, |m: &wire::Sibling| &m.name)?;
            pattern(name, "siblings/{edge}", &["siblings", ""])?;
            siblings::convert(&sibling).map(drop)
        }
        StreamType::Withdrawal => {
            decode(name, body, |m: &wire::Withdrawal| &m.name)?;
            pattern(name, "withdrawals/{uid}", &["withdrawals", ""])
        }
        // What it grants may be unknown here: then it grants nothing, where its last good version may grant more.
        StreamType::Grant => decode(name, body, |m: &wire::Grant| &m.name).map(drop),
        StreamType::Upstream => {
            let upstream = decode(name, body, |m: &wire::Upstream| &m.name)?;
            pattern(name, "upstreams/{upstream}", &["upstreams", ""])?;
            upstreams::convert(&upstream, None).map(drop)
        }
        StreamType::Tool => tool(name, &decode(name, body, |m: &wire::Tool| &m.name)?),
        StreamType::Resource => resource(name, &decode(name, body, |m: &wire::Resource| &m.name)?),
        StreamType::Prompt => prompt(name, &decode(name, body, |m: &wire::Prompt| &m.name)?),
        StreamType::Token => token(name, &decode(name, body, |m: &wire::Token| &m.name)?),
        StreamType::Server => server(name, &decode(name, body, |m: &wire::Server| &m.name)?),
    }
}

fn decode<M: Message + Default>(
    name: &str,
    body: &[u8],
    named: fn(&M) -> &String,
) -> Result<M, InvalidResource> {
    let message = M::decode(body).map_err(|error| InvalidResource::Encoding(error.to_string()))?;
    let found = named(&message);
    if found != name {
        return Err(InvalidResource::OtherName { found: found.clone() });
    }
    Ok(message)
}

/// Checks that `name` has these segments; an empty one stands for any that is not empty.
fn pattern(name: &str, shown: &'static str, segments: &[&str]) -> Result<(), InvalidResource> {
    let given: Vec<&str> = name.split('/').collect();
    let fits = |(given, wanted): (&&str, &&str)| !given.is_empty() && (wanted.is_empty() || given == wanted);
    if given.len() == segments.len() && given.iter().zip(segments).all(fits) {
        return Ok(());
    }
    Err(InvalidResource::NamePattern { pattern: shown })
}

fn present(field: &'static str, value: &str) -> Result<(), InvalidResource> {
    if value.is_empty() { Err(InvalidResource::Empty { field }) } else { Ok(()) }
}

fn tool(name: &str, tool: &wire::Tool) -> Result<(), InvalidResource> {
    pattern(name, "upstreams/{upstream}/tools/{tool}", &["upstreams", "", "tools", ""])?;
    present("tool_name", &tool.tool_name)?;
    definition::check(&tool.definition_json, "name", &tool.tool_name)
}

fn resource(name: &str, resource: &wire::Resource) -> Result<(), InvalidResource> {
    pattern(name, "upstreams/{upstream}/resources/{resource}", &["upstreams", "", "resources", ""])?;
    match (&*resource.uri, &*resource.uri_template) {
        ("", "") => Err(InvalidResource::Empty { field: "uri" }),
        (uri, "") => definition::check(&resource.definition_json, "uri", uri),
        ("", template) => definition::check(&resource.definition_json, "uriTemplate", template),
        _ => Err(InvalidResource::Field { field: "uri_template", problem: "is set beside uri".into() }),
    }
}

fn prompt(name: &str, prompt: &wire::Prompt) -> Result<(), InvalidResource> {
    pattern(name, "upstreams/{upstream}/prompts/{prompt}", &["upstreams", "", "prompts", ""])?;
    present("prompt_name", &prompt.prompt_name)?;
    definition::check(&prompt.definition_json, "name", &prompt.prompt_name)
}

fn token(name: &str, token: &wire::Token) -> Result<(), InvalidResource> {
    pattern(name, "tokens/{token}", &["tokens", ""])?;
    present("uid", &token.uid)
}

fn server(name: &str, server: &wire::Server) -> Result<(), InvalidResource> {
    pattern(name, "servers/{server}", &["servers", ""])?;
    present("uid", &server.uid)?;
    let exposed = rules::Exposed::of(server);
    entries("tools", "tools", "name", exposed.tools)?;
    entries("resources", "resources", "uri", exposed.resources)?;
    entries("resource_templates", "resources", "uriTemplate", exposed.resource_templates)?;
    entries("prompts", "prompts", "name", exposed.prompts)
}

fn entries(
    list: &'static str,
    collection: &str,
    key: &str,
    entries: &[wire::Entry],
) -> Result<(), InvalidResource> {
    let mut seen = HashSet::with_capacity(entries.len());
    for entry in entries {
        let problem =
            |problem: String| InvalidResource::Entry { list, exposed: entry.exposed_name.clone(), problem };
        present("exposed_name", &entry.exposed_name)?;
        pattern(&entry.target, "", &["upstreams", "", collection, ""])
            .map_err(|_| problem(format!("the target {:?} is none of {list}", entry.target)))?;
        definition::check_overrides(&entry.overrides_json, key).map_err(|e| problem(e.to_string()))?;
        let (prefix, exposed) = (&*entry.uri_prefix, &*entry.exposed_name);
        // A control plane of the release before did not keep `ui://`.
        if !exposed.starts_with(prefix) && naming::original(prefix, exposed).is_none() {
            return Err(problem("the exposed name is none of uri_prefix".into()));
        }
        if !seen.insert(&*entry.exposed_name) {
            return Err(InvalidResource::ExposedTwice { list, name: entry.exposed_name.clone() });
        }
    }
    Ok(())
}
