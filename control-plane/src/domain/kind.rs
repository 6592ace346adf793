//! The kinds of resource, and what the generic core asks of each; not what it does with the answers.

use std::fmt;

use super::{Catalogue, Violations};
use trunkline::common::v1::Meta;
use trunkline::registry::v1::{Credential, Server};

/// A kind of resource of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A backend.
    Upstream,
    /// A virtual server.
    Server,
    /// A tool of an upstream.
    Tool,
    /// A resource, or resource template, of an upstream.
    Resource,
    /// A prompt of an upstream.
    Prompt,
    /// A client's right to call.
    Token,
}

impl Kind {
    /// All of them, what is referred to before what refers.
    pub const ALL: [Self; 6] =
        [Self::Upstream, Self::Tool, Self::Resource, Self::Prompt, Self::Server, Self::Token];
    /// The kinds that make up the catalogue of an upstream.
    pub const CATALOGUE: [Self; 3] = [Self::Tool, Self::Resource, Self::Prompt];

    /// The word for it in tables, manifests and errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "Upstream",
            Self::Server => "Server",
            Self::Tool => "Tool",
            Self::Resource => "Resource",
            Self::Prompt => "Prompt",
            Self::Token => "Token",
        }
    }

    /// The word for many of it, as in names.
    pub const fn collection(self) -> &'static str {
        match self {
            Self::Upstream => "upstreams",
            Self::Server => "servers",
            Self::Tool => "tools",
            Self::Resource => "resources",
            Self::Prompt => "prompts",
            Self::Token => "tokens",
        }
    }

    /// Reads what `as_str` gives.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether it lives under an upstream.
    pub const fn in_catalogue(self) -> bool {
        matches!(self, Self::Tool | Self::Resource | Self::Prompt)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name of another resource that a resource holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The field that holds it.
    pub field: String,
    /// The resource it names.
    pub target: String,
    /// Whether that must exist when the reference is written.
    pub required: bool,
}

/// What the generic core asks of the message of a kind.
///
/// A message has three parts: identity (`name` and the output-only fields of `meta`, kept in columns),
/// the *spec* (what people write: the body) and the *status* (the other output-only fields).
pub trait Noun: prost::Message + Default + Clone + PartialEq + Send + Sync + 'static {
    /// Its kind.
    const KIND: Kind;
    /// The full name of the message, for reflection.
    const MESSAGE: &'static str;
    /// Output-only fields, by their names in the contract; `meta` has its own.
    const OUTPUT_ONLY: &'static [&'static str];

    /// `name`.
    fn name(&self) -> &str;
    /// Sets `name`.
    fn set_name(&mut self, name: String);
    /// `meta`.
    fn meta(&self) -> Option<&Meta>;
    /// Access to `meta`.
    fn meta_slot(&mut self) -> &mut Option<Meta>;
    /// Takes the output-only fields off, and returns a message with nothing but them.
    fn take_status(&mut self) -> Self;
    /// Fills the defaults in, and what follows from other fields.
    fn settle(&mut self) {}
    /// Checks everything that can be checked without looking at other resources.
    fn validate(&self, violations: &mut Violations);
    /// The other resources it names.
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }
    /// The field that holds secrets, where there is one.
    fn secret(&mut self) -> Option<&mut Option<Credential>> {
        None
    }
    /// The virtual server that it is, where it is one: its exposed names must not collide.
    fn exposes(&self) -> Option<&Server> {
        None
    }
    /// The texts in which bare words of a filter are looked for, beside its name.
    fn search(&self) -> Vec<&str>;
    /// Whether `evaluate` does anything.
    const EVALUATED: bool = false;
    /// Fills in what follows from the catalogue, and is therefore not stored.
    fn evaluate(&mut self, _catalogue: &Catalogue) {}
}
