//! Definitions of tools, resources, templates and prompts, made to fit what clients' SDKs accept.
//!
//! One definition that an SDK rejects takes the whole list with it. It must not know where definitions come from, nor who
//! is shown them.

use crate::revision::Era;

/// The list that a definition is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `tools/list`.
    Tools,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
    /// `prompts/list`.
    Prompts,
}

/// How a definition fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It is listed as it is.
    Valid,
    /// It has one meaning, and is listed completed.
    Mended {
        /// The definition that is listed.
        definition: String,
        /// What was mended.
        notes: Vec<Note>,
    },
    /// It cannot be read as valid, and is not listed.
    Withheld(Note),
}

/// What is wrong with a member of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// The member; a path with dots.
    pub member: &'static str,
    /// What is wrong with it, and what is listed in its place.
    pub what: &'static str,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.member, self.what)
    }
}

/// How a definition, one JSON object, fits for the clients of `era`.
#[must_use]
pub fn fit(_list: List, _era: Era, _definition: &str) -> Fit {
    Fit::Valid
}
