//! Output: data on stdout in the requested format, messages on stderr. Everything that is printed goes through here, where
//! text of others is made safe for a terminal.

pub mod path;
pub mod progress;
pub mod sections;
pub mod table;

mod format;
mod grid;
mod order;
mod printer;
mod template;
mod yaml;

pub use format::Format;
pub use order::sort;
pub use printer::{Found, Printer};

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use prost_reflect::DynamicMessage;
use serde_json::Value;
use serde_yaml_ng::Mapping;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::reflection;

/// Prints data to stdout; what does not print is escaped. A closed pipe (`| head`) is not an error.
pub fn print(text: &str) -> Result {
    print_while_open(text).map(|_| ())
}

/// The same. Returns whether anybody still reads.
pub fn print_while_open(text: &str) -> Result<bool> {
    write_stdout(&printable::text(text))
}

/// Prints data in the place of what is on the terminal, as much of it as there is room for.
pub fn print_anew(text: &str) -> Result {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    let lines = size.map_or(usize::MAX, |size| usize::from(size.ws_row).saturating_sub(1).max(1));
    let shown: Vec<_> = text.lines().take(lines).collect();
    let shown = printable::text(&shown.join("\n")).into_owned();
    if std::env::var_os("TERM").is_none_or(|term| term == "dumb") {
        return write_stdout(&shown).map(|_| ());
    }
    // To the first line, and away with everything below.
    write_stdout(&format!("\u{1b}[H\u{1b}[J{shown}")).map(|_| ())
}

/// Prints the content of a result: byte for byte into a file or a pipe, and safely on a terminal.
pub fn print_content(text: &str) -> Result {
    if std::io::stdout().is_terminal() { print(text) } else { write_stdout(text).map(|_| ()) }
}

/// Prints a sequence that shows an image on the terminal: only what this program has made itself.
pub fn print_sequence(sequence: &str) -> Result {
    write_stdout(sequence).map(|_| ())
}

fn write_stdout(text: &str) -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Prints what went wrong, in the one form of all errors. An error of JSON-RPC says by itself that it is one, and its number.
pub fn eprint_error(error: impl std::fmt::Display) {
    let text = error.to_string();
    let text = message_lines(&if text.starts_with("error ") { text } else { format!("error: {text}") });
    let shown = match text.split_once(':') {
        Some((head, rest)) if is_coloured() => format!("\u{1b}[1m\u{1b}[31m{head}:\u{1b}[0m{rest}"),
        _ => text,
    };
    // There is no one to tell if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{shown}");
}

/// Whether what is written to stderr may have colours: on a terminal that has them, for people who want them.
fn is_coloured() -> bool {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let has_none = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stderr().is_terminal() && !is_unwanted && !has_none
}

/// Returns when the reader of stdout is gone. What is no pipe has none.
pub async fn unread() {
    let gone = async || {
        let stdout = pipe::Sender::from_owned_fd_unchecked(std::io::stdout().as_fd().try_clone_to_owned()?)?;
        stdout.ready(Interest::ERROR).await
    };
    // Files cannot be watched.
    if gone().await.is_err() {
        std::future::pending().await
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

/// Renders resources of one kind. `single` is true if exactly one was requested by name.
pub fn resources(kind: &Kind, items: &[DynamicMessage], single: bool, format: &Format) -> Result<String> {
    let found = Found { kind: Kind::from_word(kind.singular), items: items.to_vec() };
    Printer::new(format.clone(), true).render(&[found], single)
}

/// Renders a name as a line of its own.
pub fn name_line(name: &str) -> String {
    printable::line(name).into_owned() + "\n"
}

/// Renders documents as JSON, as YAML, or by a template.
pub fn documents(documents: Vec<Mapping>, single: bool, format: &Format) -> Result<String> {
    match format {
        Format::Json if single => json(&documents.first()),
        Format::Json => json(&documents),
        Format::Yaml => {
            let texts: Result<Vec<_>> = documents.iter().map(yaml).collect();
            Ok(texts?.join("---\n"))
        }
        Format::Template(template) => {
            Ok(template.render(documents.iter().map(to_value).collect::<Result<_>>()?, single))
        }
        _ => Err(unfit(format)),
    }
}

/// Renders what is no resource: for people by `table`, and else as the value that it is.
pub fn value(
    value: &impl serde::Serialize,
    format: &Format,
    table: impl FnOnce() -> String,
) -> Result<String> {
    match format {
        Format::Table | Format::Wide => Ok(table()),
        Format::Json => json(value),
        Format::Yaml => yaml(value),
        Format::Template(template) => Ok(match to_value(value)? {
            Value::Array(values) => template.render(values, false),
            value => template.render(vec![value], true),
        }),
        Format::Columns(columns) => {
            let value = to_value(value)?;
            let values = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
            Ok(printer::custom(columns, values).render(true, None))
        }
        Format::Name => Err(unfit(format)),
    }
}

/// Renders an answer that is no resource, in the words of documents.
pub fn message(message: &DynamicMessage, format: &Format, table: impl FnOnce() -> String) -> Result<String> {
    match format {
        Format::Template(_) | Format::Columns(_) => {
            value(&reflection::to_queried_json(message), format, table)
        }
        _ => value(&reflection::fields(message), format, table),
    }
}

/// The error where a format does not fit what is printed.
pub fn unfit(format: &Format) -> Error {
    let name = match format {
        Format::Name => "name",
        Format::Columns(_) => "custom-columns",
        _ => "table",
    };
    Error::usage(format!(
        "-o {name} does not fit what this command prints; use -o json, yaml, jsonpath or go-template"
    ))
}

fn to_value(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::failure(error.to_string()))
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

/// Renders YAML of JSON text, with every number as it is written there.
pub fn yaml_of_json(text: &str) -> Result<String> {
    yaml::render_json(text).map_err(Error::failure)
}

#[cfg(test)]
mod tests {
    use super::message_lines;

    #[test]
    fn a_message_forges_no_other_and_moves_no_cursor() {
        assert_eq!(
            message_lines("refused: bad\nerror: all is well\u{1b}[1A\n"),
            "refused: bad\n  error: all is well\\u{1b}[1A"
        );
    }
}
