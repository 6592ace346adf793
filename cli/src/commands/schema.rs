//! `mcpctl schema`: the JSON Schema of resource files, for editors. It asks no control plane.

use std::path::{Path, PathBuf};

use schema::json_schema;
use serde_json::Value;

use crate::commands::Invocation;
use crate::error::{Error, Result};
use crate::output::{self, Format};

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write it into a file, and print the line that names it, for the top of resource files
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Runs `schema`.
pub fn run(invocation: &Invocation, args: Args) -> Result {
    let schema = json_schema::document();
    let text = match &invocation.format {
        None | Some(Format::Json) => output::json(&schema)?,
        Some(Format::Yaml) => output::yaml(&schema)?,
        Some(_) => return Err(Error::usage("a schema is no table; use -o json or -o yaml")),
    };
    let Some(path) = args.write else { return output::print(&text) };
    check_replaceable(&path, &schema)?;
    let failure = |error| Error::failure(format!("cannot write {}: {error}", path.display()));
    std::fs::write(&path, text + "\n").map_err(failure)?;
    output::print(&format!("# yaml-language-server: $schema={}", path.display()))
}

/// Refuses to write over a file that is something else.
fn check_replaceable(path: &Path, schema: &Value) -> Result {
    let Ok(text) = std::fs::read(path) else { return Ok(()) };
    let known: Value = serde_yaml_ng::from_slice(&text).unwrap_or_default();
    if text.is_empty() || known["title"] == schema["title"] {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{} exists and is no schema of resource files; choose another file",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_something_else_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trunkline.json");
        let schema = json_schema::document();
        assert!(check_replaceable(&path, &schema).is_ok());
        std::fs::write(&path, schema.to_string()).unwrap();
        assert!(check_replaceable(&path, &schema).is_ok());
        std::fs::write(&path, "{\"title\": \"mine\"}").unwrap();
        assert!(check_replaceable(&path, &schema).is_err());
    }
}
