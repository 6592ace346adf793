//! Output: data on stdout in the requested format, messages on stderr.

pub mod progress;
pub mod table;

use std::io::{ErrorKind, Write as _};

use prost_reflect::DynamicMessage;
use serde_yaml_ng::{Mapping, Value};

use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::reflection;

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table.
    Table,
    /// A JSON object for one resource, an array for several.
    Json,
    /// One YAML document per resource, as `apply` reads them.
    Yaml,
    /// Full names only.
    Name,
}

/// Prints data to stdout. A closed pipe (`| head`) is not an error.
pub fn print(text: &str) -> Result {
    let mut stdout = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a message to stderr.
pub fn eprint(text: impl AsRef<str>) {
    // There is no one to tell if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Renders resources. `single` is true if exactly one was requested by name.
pub fn resources(kind: &Kind, items: &[DynamicMessage], single: bool, format: Format) -> Result<String> {
    let documents = || items.iter().map(|item| reflection::document(kind.name, item)).collect::<Vec<_>>();
    match format {
        Format::Table => Ok(table::render(kind.columns, items, time::OffsetDateTime::now_utc())),
        Format::Name => Ok(items.iter().map(|item| reflection::text(item, "name") + "\n").collect()),
        _ => self::documents(documents(), single, format),
    }
}

/// Renders documents as JSON or YAML.
pub fn documents(documents: Vec<Mapping>, single: bool, format: Format) -> Result<String> {
    if format == Format::Json {
        return match single {
            true => json(documents.first().unwrap_or(&Mapping::new())),
            false => json(&documents),
        };
    }
    let texts: Result<Vec<_>> =
        documents.into_iter().map(|document| yaml(&Value::Mapping(document))).collect();
    Ok(texts?.join("---\n"))
}

/// Renders indented JSON.
pub fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::failure(error.to_string()))
}

/// Renders YAML.
pub fn yaml(value: &impl serde::Serialize) -> Result<String> {
    serde_yaml_ng::to_string(value).map_err(|error| Error::failure(error.to_string()))
}

/// Renders a message that is not a resource as JSON or YAML.
pub fn message(message: &DynamicMessage, format: Format) -> Result<String> {
    if format == Format::Json { json(message) } else { yaml(message) }
}
