//! What a server answered, printed in the format that was asked for.

use std::borrow::Cow;

use mcp::client::ClientError;
use mcp::json;
use serde_json::Value;

use crate::commands::Invocation;
use crate::error::{Error, Result};
use crate::output::{self, Format};

/// Prints a result: as the server wrote it, as YAML, or for people.
pub fn print(invocation: &Invocation, result: &str, people: impl FnOnce(&str) -> String) -> Result {
    match invocation.format() {
        // Printed as the server wrote it, so that no number is rounded and no key moves.
        Format::Json => output::print(&printable::json(result)),
        Format::Yaml => output::print(&output::yaml_of_json(&whole(result)).map_err(unread)?),
        Format::Table | Format::Wide | Format::Name => output::print_content(&people(result)),
        format => output::print(&output::value(&value(result)?, format, String::new)?),
    }
}

/// Prints the error of JSON-RPC that a program may want to read, beside what is told of it: which approval a call waits for, say.
pub fn print_error(invocation: &Invocation, error: &ClientError) -> Result {
    match (invocation.format(), raw_error(error)) {
        (Format::Json | Format::Yaml, Some(raw)) => print(invocation, &raw, str::to_owned),
        _ => Ok(()),
    }
}

/// The error of a server as an object; `None` where none has answered.
fn raw_error(error: &ClientError) -> Option<String> {
    match error {
        ClientError::Unauthorized { told: Some(told), .. } => raw_error(told),
        ClientError::Rpc { code, message, data, .. } => {
            let data = data.as_ref().map(|data| format!(r#","data":{data}"#)).unwrap_or_default();
            Some(format!(r#"{{"error":{{"code":{code},"message":{}{data}}}}}"#, json::quote(message)))
        }
        _ => None,
    }
}

/// Prints definitions: each as the server wrote it, their names, or a line and a description for people.
pub fn print_list(
    invocation: &Invocation,
    definitions: &[String],
    name: impl Fn(&str) -> String,
    people: impl Fn(&str) -> (String, String),
) -> Result {
    match invocation.format() {
        Format::Name => {
            let names = definitions.iter().map(|definition| output::name_line(&name(definition)));
            output::print(&names.collect::<String>())
        }
        Format::Json | Format::Yaml | Format::Template(_) | Format::Columns(_) => {
            print(invocation, &format!("[{}]", definitions.join(",")), |_| String::new())
        }
        Format::Table | Format::Wide => {
            let lines = definitions.iter().map(|definition| match people(definition) {
                (line, text) if text.is_empty() => line + "\n",
                (line, text) => format!("{line}\n    {text}\n"),
            });
            output::print(&lines.collect::<String>())
        }
    }
}

fn value(result: &str) -> Result<Value> {
    serde_json::from_str(&whole(result)).map_err(|error| unread(Error::failure(error.to_string())))
}

/// The result with U+FFFD for halves of surrogate pairs.
fn whole(result: &str) -> Cow<'_, str> {
    json::without_halves(result).map_or(Cow::Borrowed(result), Cow::Owned)
}

fn unread(error: Error) -> Error {
    Error::failure(format!("the result is not printed in this format: {error}; use -o json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_code_its_text_and_its_data() {
        let told = |data: Option<&str>| ClientError::Rpc {
            code: -31012,
            message: "held \"back\"".to_owned(),
            data: data.map(str::to_owned),
            status: 403,
        };
        let raw = r#"{"error":{"code":-31012,"message":"held \"back\"","data":{"approval":"approvals/a1"}}}"#;
        let refused = ClientError::Unauthorized {
            status: 403,
            www_authenticate: None,
            wants_bearer: false,
            told: Some(Box::new(told(Some(r#"{"approval":"approvals/a1"}"#)))),
        };
        assert_eq!(raw_error(&refused).as_deref(), Some(raw));
        let bare = r#"{"error":{"code":-31012,"message":"held \"back\""}}"#;
        assert_eq!(raw_error(&told(None)).as_deref(), Some(bare));
        assert_eq!(raw_error(&ClientError::Unsupported), None);
    }
}
