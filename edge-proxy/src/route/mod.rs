//! The target of a message, from the pinned snapshot. It must not decide whether the caller may use it.

use std::borrow::Cow;
use std::sync::Arc;

use mcp::json::{self, JsonError};
use mcp::method::Method;
use mcp::uri::{self, CanonicalUri, NotCanonical, naming};

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
    pub produced: Option<CanonicalUri>,
}

impl Destination {
    /// The name or URI that the upstream knows the target by.
    pub fn original(&self) -> &str {
        self.original.as_deref().unwrap_or(&self.entry.original)
    }
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

    /// The method by which it is used.
    pub fn method(self) -> Method {
        match self {
            Self::Tool => Method::ToolsCall,
            Self::Prompt => Method::PromptsGet,
            Self::Resource => Method::ResourcesRead,
            Self::Template => Method::CompletionComplete,
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
        _ => {
            let named = reference(params.reference)?;
            if named.kind == TargetKind::Template {
                check_values(message.envelope.params.unwrap_or("{}"))?;
            }
            Ok(named)
        }
    }
}

/// Checks the values that a completion gives to variables of a template: what no URI may have is not looked up either.
fn check_values(params: &str) -> Result<(), Failure> {
    let check = |member: &str, raw: &str| match json::string(raw).map(|value| uri::check_value(&value)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(problem)) => Err(Failure::params(format!("params.{member} {problem}"))),
        Err(_) => Err(Failure::params(format!("params.{member} must be a string"))),
    };
    let malformed = |_| Failure::params("params.argument and params.context must be objects");
    let [argument, context] = json::members(params, ["argument", "context"]).map_err(malformed)?;
    let [value] = json::members(argument.unwrap_or("{}"), ["value"]).map_err(malformed)?;
    value.map_or(Ok(()), |value| check("argument.value", value))?;
    let [arguments] = json::members(context.unwrap_or("{}"), ["arguments"]).map_err(malformed)?;
    let mut checked = Ok(());
    json::each_member(arguments.unwrap_or("{}"), |name, value| {
        if checked.is_ok() {
            checked = check(&format!("context.arguments.{name}"), value);
        }
        Ok(())
    })
    .map_err(malformed)?;
    checked
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
    let [kind, prompt, uri] =
        json::exact_members(raw, ["type", "name", "uri"], &[]).map_err(|error| match error {
            JsonError::Repeated(_) | JsonError::Variant { .. } => {
                Failure::params(format!("params.ref: {error}"))
            }
            _ => Failure::params("params.ref must be an object"),
        })?;
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

    /// Resolves the target. A URI may lead to several entries, as templates overlap: first to the one that is listed under
    /// it, then to templates, the more specific ones first. The policy decides which of them the caller may use. An error
    /// stands for a template that the URI is not canonical for.
    pub fn destinations(&self, server: &Server) -> impl Iterator<Item = Result<Destination, NotCanonical>> {
        let exact = |list| exact(list, server, &self.exposed);
        let found = match self.kind {
            TargetKind::Tool => exact(List::Tools),
            TargetKind::Prompt => exact(List::Prompts),
            TargetKind::Resource => exact(List::Resources),
            TargetKind::Template => exact(List::ResourceTemplates).or_else(|| exact(List::Resources)),
        };
        let produced = (self.kind == TargetKind::Resource).then(|| produced(server, &self.exposed));
        found.into_iter().map(Ok).chain(produced.into_iter().flatten())
    }

    /// The failure of a target that does not exist, or that the caller may not use.
    pub fn unknown(&self) -> Failure {
        let name = self.exposed.clone().into_owned();
        match self.kind {
            TargetKind::Tool => Failure::Unknown { kind: "tool", name },
            TargetKind::Prompt => Failure::Unknown { kind: "prompt", name },
            // The problem follows from the URI alone, and says nothing of what is there.
            TargetKind::Resource => Failure::Resource { problem: uri::check(&name).err(), uri: name },
            TargetKind::Template => Failure::Unknown { kind: "resource template", name },
        }
    }
}

fn exact(list: List, server: &Server, exposed: &str) -> Option<Destination> {
    let (position, entry) = match list {
        List::Tools => server.tools.find(exposed)?,
        List::Prompts => server.prompts.find(exposed)?,
        List::Resources => server.resources.find_uri(exposed)?,
        List::ResourceTemplates => server.resource_templates.find_uri(exposed)?,
    };
    Some(Destination { list, position, entry: Arc::clone(entry), original: None, produced: None })
}

/// Returns the templates that could have produced `uri`, which may be spelled as before `ui://` was kept.
fn produced(server: &Server, uri: &str) -> impl Iterator<Item = Result<Destination, NotCanonical>> {
    server.templates_to_match(uri).into_iter().filter_map(move |position| {
        let entry = server.resource_templates.entries.get(position)?;
        let original = naming::original(&entry.uri_prefix, uri)?;
        let template = entry.template.as_ref()?;
        let by_former_name = || template.uri(&renewed(&entry.uri_prefix, &original, uri)?);
        let produced = match template.uri(uri).or_else(by_former_name)? {
            Ok(produced) => produced,
            Err(problem) => return Some(Err(problem)),
        };
        Some(Ok(Destination {
            list: List::ResourceTemplates,
            position,
            entry: Arc::clone(entry),
            original: Some(original.into()),
            produced: Some(produced),
        }))
    })
}

/// The exposed URI of an upstream's `original`, if `uri` is its former one.
#[cold]
fn renewed(prefix: &str, original: &str, uri: &str) -> Option<String> {
    let is_former = naming::former(prefix, original).as_deref() == Some(uri);
    is_former.then(|| naming::expose(prefix, original))
}
