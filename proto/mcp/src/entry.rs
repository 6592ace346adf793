//! Definitions of tools, resources, templates and prompts, made to fit what clients' SDKs accept.
//!
//! One definition that an SDK rejects takes the whole list with it. What has one meaning is completed, what has none is
//! named and not listed; nothing is guessed. The tables are those of the schema of the specification, as the SDKs for
//! TypeScript and Python check it: neither looks into the properties of a property, but one compiles output schemas. It must
//! not know where definitions come from, nor who is shown them.

mod compile;
mod schema;
mod shape;

use std::borrow::Cow;
use std::fmt;

use url::Url;

use crate::json::{self, JsonError};
use crate::revision::Era;
use shape::{Field, Mend, Shape};

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
    /// The member.
    pub member: &'static str,
    /// What is wrong with it, and what is done about it.
    pub what: &'static str,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.member, self.what)
    }
}

const ICONS: Shape = Shape::List(&Shape::Struct(&[
    Field::required("src", Shape::Text),
    Field::optional("mimeType", Shape::Text),
    Field::optional("sizes", Shape::List(&Shape::Text)),
    Field::optional("theme", Shape::OneOf(&["light", "dark"])),
]));

const ANNOTATIONS: Shape = Shape::Struct(&[
    Field::optional("audience", Shape::List(&Shape::OneOf(&["user", "assistant"]))),
    Field::optional("priority", Shape::Share),
    Field::optional("lastModified", Shape::Moment),
]);

const HINTS: Shape = Shape::Struct(&[
    Field::optional("title", Shape::Text),
    Field::optional("readOnlyHint", Shape::Flag),
    Field::optional("destructiveHint", Shape::Flag),
    Field::optional("idempotentHint", Shape::Flag),
    Field::optional("openWorldHint", Shape::Flag),
]);

const EXECUTION: Shape =
    Shape::Struct(&[Field::optional("taskSupport", Shape::OneOf(&["required", "optional", "forbidden"]))]);

const ARGUMENTS: Shape = Shape::List(&Shape::Struct(&[
    Field::required("name", Shape::Text),
    Field::optional("title", Shape::Text),
    Field::optional("description", Shape::Text),
    Field::optional("required", Shape::Flag),
]));

const TOOL: &[Field] = &[
    Field::required("name", Shape::Text),
    Field::optional("title", Shape::Text),
    Field::optional("description", Shape::Text),
    Field::optional("icons", ICONS),
    Field::required("inputSchema", Shape::InputSchema),
    Field::optional("outputSchema", Shape::OutputSchema),
    Field::optional("annotations", HINTS),
    Field::optional("execution", EXECUTION),
    Field::optional("_meta", Shape::Object),
];

const RESOURCE: &[Field] = &[
    Field::required("uri", Shape::Uri),
    Field::required("name", Shape::Name { uri: "uri" }),
    Field::optional("title", Shape::Text),
    Field::optional("description", Shape::Text),
    Field::optional("mimeType", Shape::Text),
    Field::optional("size", Shape::Integer),
    Field::optional("icons", ICONS),
    Field::optional("annotations", ANNOTATIONS),
    Field::optional("_meta", Shape::Object),
];

const TEMPLATE: &[Field] = &[
    Field::required("uriTemplate", Shape::Text),
    Field::required("name", Shape::Name { uri: "uriTemplate" }),
    Field::optional("title", Shape::Text),
    Field::optional("description", Shape::Text),
    Field::optional("mimeType", Shape::Text),
    Field::optional("icons", ICONS),
    Field::optional("annotations", ANNOTATIONS),
    Field::optional("_meta", Shape::Object),
];

const PROMPT: &[Field] = &[
    Field::required("name", Shape::Text),
    Field::optional("title", Shape::Text),
    Field::optional("description", Shape::Text),
    Field::optional("icons", ICONS),
    Field::optional("arguments", ARGUMENTS),
    Field::optional("_meta", Shape::Object),
];

impl List {
    fn fields(self) -> &'static [Field] {
        match self {
            Self::Tools => TOOL,
            Self::Resources => RESOURCE,
            Self::Templates => TEMPLATE,
            Self::Prompts => PROMPT,
        }
    }

    /// The member by which an entry is known.
    fn identity(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

/// How a definition, one JSON object, fits for the clients of `era`. A definition that is mended fits.
#[must_use]
pub fn fit(list: List, era: Era, definition: &str) -> Fit {
    match json::without_halves(definition) {
        None => fit_members(list, era, definition),
        Some(mended) => fit_without_halves(list, era, definition, mended),
    }
}

/// Some cut texts in the middle of a character. What an entry is known by has no other spelling.
#[cold]
fn fit_without_halves(list: List, era: Era, definition: &str, mended: String) -> Fit {
    let member = list.identity();
    let is_known_by_half = match json::members(definition, [member]) {
        Ok([Some(raw)]) => json::without_halves(raw).is_some(),
        _ => false,
    };
    if is_known_by_half {
        return Fit::Withheld(Note { member, what: "has half of a surrogate pair" });
    }
    let what = "has half of a surrogate pair: U+FFFD is listed";
    let note = Note { member: "a text", what };
    match fit_members(list, era, &mended) {
        Fit::Valid => Fit::Mended { definition: mended, notes: vec![note] },
        Fit::Mended { definition, mut notes } => {
            notes.insert(0, note);
            Fit::Mended { definition, notes }
        }
        withheld => withheld,
    }
}

fn fit_members(list: List, era: Era, definition: &str) -> Fit {
    let Ok(members) = Members::read(definition) else {
        return Fit::Withheld(Note { member: "definition", what: "is not one JSON object" });
    };
    let (mut edits, mut notes) = (Vec::new(), Vec::new());
    for field in list.fields() {
        let member = field.name;
        let (edit, what) = match mend(field, &members, era) {
            Mend::Fits => continue,
            Mend::Put(value, what) => (Some(value), what),
            Mend::LeaveOut(what) if !field.is_required => (None, what),
            Mend::LeaveOut(_) => return Fit::Withheld(Note { member, what: "is no text" }),
            Mend::Withhold(what) => return Fit::Withheld(Note { member, what }),
        };
        edits.push((member, edit));
        notes.push(Note { member, what });
    }
    if notes.is_empty() {
        return Fit::Valid;
    }
    let edits: Vec<_> = edits.iter().map(|(member, value)| (*member, value.as_deref())).collect();
    match json::set_members(definition, &edits) {
        Ok(definition) => Fit::Mended { definition, notes },
        Err(_) => Fit::Withheld(notes[0]),
    }
}

/// What is to be done about one member of a definition.
fn mend(field: &Field, members: &Members<'_>, era: Era) -> Mend {
    let Ok(raw) = members.only(field.name) else {
        return Mend::Withhold("is there twice");
    };
    match (field.shape, raw) {
        (Shape::InputSchema, raw) => schema::input(raw, members),
        (Shape::OutputSchema, Some(raw)) => schema::output(raw, era),
        // The Python SDK checks it up to 1.25, whose clients are of this era.
        (Shape::Uri, Some(raw)) if era == Era::Legacy && is_text(raw) && !is_uri(raw) => {
            Mend::Withhold("is no URI: it is withheld from clients up to 2025-11-25")
        }
        (Shape::Name { uri }, raw) if !raw.is_some_and(is_text) => name(members, uri),
        (_, None) if field.is_required => Mend::Withhold("is absent"),
        (_, None) => Mend::Fits,
        (shape, Some(raw)) => shape.mend(raw),
    }
}

/// The name of a resource that has none: its title, or else the end of its URI.
fn name(members: &Members<'_>, uri: &str) -> Mend {
    if let Ok(Some(title)) = members.only("title")
        && is_text(title)
    {
        return Mend::Put(title.to_owned(), "is no text: the title is listed");
    }
    let Ok(Some(uri)) = members.only(uri).map(|uri| uri.and_then(|uri| json::string(uri).ok())) else {
        return Mend::Withhold("is no text");
    };
    let end = uri.trim_end_matches('/').rsplit('/').next().filter(|end| !end.is_empty());
    Mend::Put(json::quote(end.unwrap_or(&uri)), "is no text: the end of the URI is listed")
}

/// Whether a raw text is a URI, which has a scheme (RFC 3986, section 3), as `url` reads it, by which clients check it.
fn is_uri(raw: &str) -> bool {
    json::string(raw).is_ok_and(|uri| Url::parse(&uri).is_ok())
}

fn is_text(raw: &str) -> bool {
    raw.starts_with('"')
}

/// The members of an object, keys without escapes.
struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Members<'a> {
    fn read(object: &'a str) -> Result<Self, JsonError> {
        let mut members = Vec::new();
        json::each_member(object, |key, value| {
            members.push((json::key_text(key), value));
            Ok(())
        })?;
        Ok(Self(members))
    }

    /// The raw value of a member; an error when it is there twice.
    fn only(&self, name: &str) -> Result<Option<&'a str>, ()> {
        let mut found = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| *value);
        let first = found.next();
        if found.next().is_some() { Err(()) } else { Ok(first) }
    }
}
