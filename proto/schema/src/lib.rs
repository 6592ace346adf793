//! What resource files may hold, told from the contract: documentation, JSON Schema and the short words of enums.
//! It reads descriptors and knows no files, no network and no terminal.
//!
//! Reading order: [`contract`] (the descriptors, and the kinds of files) -> [`fields`] (a field, as writers of files see it) ->
//! [`rules`] (its limits) -> [`topic`] (a place in a resource) -> [`explain`] (told as text and data), [`manual`] (as a page) and
//! [`json_schema`] (as a schema). [`words`] is separate: enum values in JSON. So is [`permissions`]: the table of what roles can hold.

pub mod contract;
pub mod examples;
pub mod explain;
pub mod fields;
pub mod json_schema;
pub mod manual;
pub mod permissions;
pub mod prose;
pub mod rules;
pub mod topic;
pub mod words;

pub mod layout;
