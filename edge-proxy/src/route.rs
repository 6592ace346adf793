//! Where a message leads, from the pinned snapshot. Whether the caller may go there is not decided here.

mod template;

use std::borrow::Cow;
use std::sync::Arc;

use mcp::json;
use mcp::method::Method;

use crate::error::Failure;
use crate::snapshot::{Entry, List, Server};
use crate::transport::Message;

/// What a call names, as it is written in the body.
#[derive(Debug, Clone)]
pub struct Named<'a> {
    /// What kind of thing.
    pub noun: Noun,
    /// The name or URI.
    pub exposed: Cow<'a, str>,
    /// The raw JSON string in the body.
    pub raw: &'a str,
}

/// What a call leads to, in words that outlast the snapshot it was found in: sealed into handles, and checked again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What kind of thing.
    pub noun: Noun,
    /// The name, URI or URI template that clients use.
    pub exposed: Box<str>,
}

/// What a call can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// A tool, to call it.
    Tool,
    /// A prompt, to get it or to complete an argument of it.
    Prompt,
    /// A resource, to read it.
    Resource,
    /// A resource template, to complete a variable of it.
    Template,
}

/// Where a call would lead.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The table that the entry stands in.
    pub list: List,
    /// Where it stands there.
    pub position: usize,
    /// The entry.
    pub entry: Arc<Entry>,
    /// The URI the upstream knows, where it is not the entry's own.
    pub original: Option<Box<str>>,
    /// The URI as the client wrote it, where a template produced it.
    pub exposed_uri: Option<Box<str>>,
}

impl Noun {
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
            .find(|noun| code == [noun.code()])
    }
}

impl Target {
    /// Reads a target from a sealed handle: the code of its noun, and its exposed name.
    pub fn read(code: &[u8], exposed: &[u8]) -> Option<Self> {
        Some(Self { noun: Noun::read(code)?, exposed: std::str::from_utf8(exposed).ok()?.into() })
    }

    /// The target as a call would name it.
    pub fn named(&self) -> Named<'_> {
        Named::of(self.noun, &self.exposed)
    }
}

/// What a call names. `method` must be one of the four that call.
pub fn named<'a>(method: Method, message: &Message<'a>) -> Result<Named<'a>, Failure> {
    let params = &message.params;
    match method {
        Method::ToolsCall => name(Noun::Tool, params.name, "name"),
        Method::PromptsGet => name(Noun::Prompt, params.name, "name"),
        Method::ResourcesRead => name(Noun::Resource, params.uri, "uri"),
        _ => reference(params.reference),
    }
}

fn name<'a>(noun: Noun, raw: Option<&'a str>, member: &str) -> Result<Named<'a>, Failure> {
    let raw = raw.ok_or_else(|| Failure::params(format!("params.{member} is required")))?;
    let exposed =
        json::string(raw).map_err(|_| Failure::params(format!("params.{member} must be a string")))?;
    Ok(Named { noun, exposed, raw })
}

/// The `ref` of `completion/complete`.
fn reference<'a>(raw: Option<&'a str>) -> Result<Named<'a>, Failure> {
    let raw = raw.ok_or_else(|| Failure::params("params.ref is required"))?;
    let [kind, prompt, uri] = json::members(raw, ["type", "name", "uri"])
        .map_err(|_| Failure::params("params.ref must be an object"))?;
    match kind.and_then(|kind| json::string(kind).ok()).as_deref() {
        Some("ref/prompt") => name(Noun::Prompt, prompt, "ref.name"),
        Some("ref/resource") => name(Noun::Template, uri, "ref.uri"),
        _ => Err(Failure::params("params.ref.type must be \"ref/prompt\" or \"ref/resource\"")),
    }
}

impl<'a> Named<'a> {
    /// Names what no message names, or not in a way that is rewritten.
    pub fn of(noun: Noun, exposed: &'a str) -> Self {
        Self { noun, exposed: Cow::Borrowed(exposed), raw: "" }
    }

    /// Where it may lead, in the order of the list. Templates overlap, so a URI may lead to several entries; which of
    /// them the caller may use is for the policy to say.
    pub fn destinations(&self, server: &Server) -> impl Iterator<Item = Destination> {
        let exact = |list| exact(list, server, &self.exposed);
        let found = match self.noun {
            Noun::Tool => exact(List::Tools),
            Noun::Prompt => exact(List::Prompts),
            Noun::Resource => exact(List::Resources),
            Noun::Template => exact(List::ResourceTemplates).or_else(|| exact(List::Resources)),
        };
        let is_produced = found.is_none() && self.noun == Noun::Resource;
        let produced = is_produced.then(|| produced(server, &self.exposed));
        found.into_iter().chain(produced.into_iter().flatten())
    }

    /// What a caller is told where it leads nowhere, or nowhere that the caller may go.
    pub fn unknown(&self) -> Failure {
        let name = self.exposed.clone().into_owned();
        match self.noun {
            Noun::Tool => Failure::Unknown { noun: "tool", name },
            Noun::Prompt => Failure::Unknown { noun: "prompt", name },
            Noun::Resource => Failure::Resource { uri: name },
            Noun::Template => Failure::Unknown { noun: "resource template", name },
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

/// The templates that could have produced `uri`.
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
