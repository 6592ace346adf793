//! Output: data on stdout in the requested format, messages on stderr. Everything that is printed goes through here, where
//! text of others is made safe for a terminal.

pub mod progress;
pub mod sections;
pub mod table;

mod yaml;

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use prost_reflect::DynamicMessage;
use serde_yaml_ng::Mapping;

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

impl Format {
    /// Whether it is read by people.
    pub fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Name)
    }
}

/// Prints data to stdout; what does not print is escaped. A closed pipe (`| head`) is not an error.
pub fn print(text: &str) -> Result {
    write_stdout(&printable::text(text))
}

/// Prints data in the place of what is on the terminal, as much of it as there is room for.
pub fn print_anew(text: &str) -> Result {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    let lines = size.map_or(usize::MAX, |size| usize::from(size.ws_row).saturating_sub(1).max(1));
    let shown: Vec<_> = text.lines().take(lines).collect();
    let shown = printable::text(&shown.join("\n")).into_owned();
    if std::env::var_os("TERM").is_none_or(|term| term == "dumb") {
        return write_stdout(&shown);
    }
    // To the first line, and away with everything below.
    write_stdout(&format!("\u{1b}[H\u{1b}[J{shown}"))
}

/// Prints the content of a result: byte for byte into a file or a pipe, and safely on a terminal.
pub fn print_content(text: &str) -> Result {
    if std::io::stdout().is_terminal() { print(text) } else { write_stdout(text) }
}

/// Prints a sequence that shows an image on the terminal: only what this program has made itself.
pub fn print_sequence(sequence: &str) -> Result {
    write_stdout(sequence)
}

fn write_stdout(text: &str) -> Result {
    let mut stdout = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a message to stderr; what does not print is escaped, and further lines are indented, so that none looks like
/// a message of its own.
pub fn eprint(text: impl AsRef<str>) {
    // There is no one to tell if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{}", message_lines(text.as_ref()));
}

fn message_lines(text: &str) -> String {
    printable::text(text).trim_end().replace('\n', "\n  ")
}

/// Resources of one kind.
#[derive(Debug)]
pub struct Found {
    pub kind: &'static Kind,
    pub items: Vec<DynamicMessage>,
}

/// Renders resources of one kind or several. `single` is true if exactly one was requested by name.
pub fn found(groups: &[Found], single: bool, format: Format) -> Result<String> {
    let [Found { kind, items }] = groups else { return several(groups, format) };
    resources(kind, items, single, format)
}

/// Where there are several kinds, names are full.
fn several(groups: &[Found], format: Format) -> Result<String> {
    let groups = groups.iter().filter(|group| !group.items.is_empty());
    match format {
        Format::Table => {
            let now = time::OffsetDateTime::now_utc();
            let tables = groups.map(|group| table::render(group.kind.columns, &group.items, true, now));
            Ok(tables.collect::<Vec<_>>().join("\n"))
        }
        Format::Name => {
            groups.map(|group| resources(group.kind, &group.items, false, format)).collect::<Result<String>>()
        }
        _ => {
            let of = |group: &Found| {
                group.items.iter().map(|item| reflection::document(group.kind.name, item)).collect()
            };
            documents(groups.flat_map(|group| -> Vec<_> { of(group) }).collect(), false, format)
        }
    }
}

/// Renders resources. `single` is true if exactly one was requested by name.
pub fn resources(kind: &Kind, items: &[DynamicMessage], single: bool, format: Format) -> Result<String> {
    let documents = || items.iter().map(|item| reflection::document(kind.name, item)).collect::<Vec<_>>();
    match format {
        Format::Table => Ok(table::render(kind.columns, items, false, time::OffsetDateTime::now_utc())),
        Format::Name => Ok(items.iter().map(|item| name_line(&reflection::text(item, "name"))).collect()),
        _ => self::documents(documents(), single, format),
    }
}

/// Renders a name as a line of its own.
pub fn name_line(name: &str) -> String {
    printable::line(name).into_owned() + "\n"
}

/// Renders documents as JSON or YAML.
pub fn documents(documents: Vec<Mapping>, single: bool, format: Format) -> Result<String> {
    if format == Format::Json {
        return match single {
            true => json(documents.first().unwrap_or(&Mapping::new())),
            false => json(&documents),
        };
    }
    let texts: Result<Vec<_>> = documents.iter().map(yaml).collect();
    Ok(texts?.join("---\n"))
}

/// Renders indented JSON of the same value, with what does not print escaped.
pub fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::failure(error.to_string()))?;
    Ok(printable::json(&text).into_owned())
}

/// Renders YAML of the same value, with what does not print escaped.
pub fn yaml(value: &impl serde::Serialize) -> Result<String> {
    yaml::render(value).map_err(|error| Error::failure(error.to_string()))
}

/// Renders a message that is not a resource as JSON or YAML.
pub fn message(message: &DynamicMessage, format: Format) -> Result<String> {
    if format == Format::Json { json(message) } else { yaml(message) }
}

#[cfg(test)]
mod tests {
    use super::message_lines;

    #[test]
    fn a_message_forges_no_other_and_moves_no_cursor() {
        assert_eq!(
            message_lines("refused: bad\nmcpctl: all is well\u{1b}[1A\n"),
            "refused: bad\n  mcpctl: all is well\\u{1b}[1A"
        );
    }
}
