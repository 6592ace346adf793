//! The target of a message, from the pinned snapshot. It must not decide whether the caller may use it.

mod template;

use std::borrow::Cow;
use std::sync::Arc;

use mcp::json;
use mcp::method::Method;

use crate::error::Failure;
use crate::snapshot::{Entry, List, Server};
use crate::transport::Message;

/// The target that a call names, as it is written in the body.
#[derive(Debug, Clone)]
pub struct NamedTarget<'a> {
    /// The kind of target.
    pub kind: TargetKind,
    /// The name or URI.
    pub exposed: Cow<'a, str>,
    /// The raw JSON string in the body.
    pub raw: &'a str,
}

/// A target that outlasts the snapshot it was found in: sealed into handles, and checked again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The kind of target.
    pub kind: TargetKind,
    /// The name, URI or URI template that clients use.
    pub exposed: Box<str>,
}

/// The kinds of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A tool, to call it.
    Tool,
    /// A prompt, to get it or to complete an argument of it.
    Prompt,
    /// A resource, to read it.
    Resource,
    /// A resource template, to complete a variable of it.
    Template,
}

/// An entry that a target resolves to.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The table that the entry is in.
    pub list: List,
    /// The position in the table.
    pub position: usize,
    /// The entry.
    pub entry: Arc<Entry>,
    /// The URI that the upstream knows, where it is not the entry's own.
    pub original: Option<Box<str>>,
    /// The URI as the client wrote it, where a template produced it.
    pub exposed_uri: Option<Box<str>>,
}

impl TargetKind {
    /// The byte that stands for it in a sealed handle.
    pub fn code(self) -> u8 {
        match self {
            Self::Tool => b't',
            Self::Prompt => b'p',
            Self::Resource => b'r',
            Self::Template => b'm',
        }
    }

    /// Reads what `code` wrote into a handle.
    pub fn read(code: &[u8]) -> Option<Self> {
        [Self::Tool, Self::Prompt, Self::Resource, Self::Template]
            .into_iter()
            .find(|kind| code == [kind.code()])
    }
}

impl Target {
    /// Reads a target from a sealed handle: the code of its kind, and its exposed name.
    pub fn read(code: &[u8], exposed: &[u8]) -> Option<Self> {
        Some(Self { kind: TargetKind::read(code)?, exposed: std::str::from_utf8(exposed).ok()?.into() })
    }

    /// The target as a call would name it.
    pub fn named(&self) -> NamedTarget<'_> {
        NamedTarget::of(self.kind, &self.exposed)
    }
}

/// Reads the target that a call names. `method` must be one of the four that call.
pub fn named<'a>(method: Method, message: &Message<'a>) -> Result<NamedTarget<'a>, Failure> {
    let params = &message.params;
    match method {
        Method::ToolsCall => name(TargetKind::Tool, params.name, "name"),
        Method::PromptsGet => name(TargetKind::Prompt, params.name, "name"),
        Method::ResourcesRead => name(TargetKind::Resource, params.uri, "uri"),
        _ => reference(params.reference),
    }
}

fn name<'a>(kind: TargetKind, raw: Option<&'a str>, member: &str) -> Result<NamedTarget<'a>, Failure> {
    let raw = raw.ok_or_else(|| Failure::params(format!("params.{member} is required")))?;
    let exposed =
        json::string(raw).map_err(|_| Failure::params(format!("params.{member} must be a string")))?;
    Ok(NamedTarget { kind, exposed, raw })
}

/// Reads the `ref` of `completion/complete`.
fn reference<'a>(raw: Option<&'a str>) -> Result<NamedTarget<'a>, Failure> {
    let raw = raw.ok_or_else(|| Failure::params("params.ref is required"))?;
    let [kind, prompt, uri] = json::members(raw, ["type", "name", "uri"])
        .map_err(|_| Failure::params("params.ref must be an object"))?;
    match kind.and_then(|kind| json::string(kind).ok()).as_deref() {
        Some("ref/prompt") => name(TargetKind::Prompt, prompt, "ref.name"),
        Some("ref/resource") => name(TargetKind::Template, uri, "ref.uri"),
        _ => Err(Failure::params("params.ref.type must be \"ref/prompt\" or \"ref/resource\"")),
    }
}

impl<'a> NamedTarget<'a> {
    /// Names a target that no message names, or not in a way that is rewritten.
    pub fn of(kind: TargetKind, exposed: &'a str) -> Self {
        Self { kind, exposed: Cow::Borrowed(exposed), raw: "" }
    }

    /// Resolves the target, in the order of the list. Templates overlap, so a URI may lead to several entries; the
    /// policy decides which of them the caller may use.
    pub fn destinations(&self, server: &Server) -> impl Iterator<Item = Destination> {
        let exact = |list| exact(list, server, &self.exposed);
        let found = match self.kind {
            TargetKind::Tool => exact(List::Tools),
            TargetKind::Prompt => exact(List::Prompts),
            TargetKind::Resource => exact(List::Resources),
            TargetKind::Template => exact(List::ResourceTemplates).or_else(|| exact(List::Resources)),
        };
        let is_produced = found.is_none() && self.kind == TargetKind::Resource;
        let produced = is_produced.then(|| produced(server, &self.exposed));
        found.into_iter().chain(produced.into_iter().flatten())
    }

    /// The failure of a target that does not exist, or that the caller may not use.
    pub fn unknown(&self) -> Failure {
        let name = self.exposed.clone().into_owned();
        match self.kind {
            TargetKind::Tool => Failure::Unknown { kind: "tool", name },
            TargetKind::Prompt => Failure::Unknown { kind: "prompt", name },
            TargetKind::Resource => Failure::Resource { uri: name },
            TargetKind::Template => Failure::Unknown { kind: "resource template", name },
        }
    }
}

fn exact(list: List, server: &Server, exposed: &str) -> Option<Destination> {
    let table = match list {
        List::Tools => &server.tools,
        List::Prompts => &server.prompts,
        List::Resources => &server.resources,
        List::ResourceTemplates => &server.resource_templates,
    };
    let (position, entry) = table.find(exposed)?;
    Some(Destination { list, position, entry: Arc::clone(entry), original: None, exposed_uri: None })
}

/// Returns the templates that could have produced `uri`.
fn produced(server: &Server, uri: &str) -> impl Iterator<Item = Destination> {
    let entries = server.resource_templates.entries.iter().enumerate();
    let matching = entries.filter(move |(_, entry)| template::matches(&entry.exposed, uri));
    matching.filter_map(move |(position, entry)| {
        let original = uri.strip_prefix(&*entry.uri_prefix)?;
        Some(Destination {
            list: List::ResourceTemplates,
            position,
            entry: Arc::clone(entry),
            original: Some(original.into()),
            exposed_uri: Some(uri.into()),
        })
    })
}
