//! The values of `-o`.

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};

use super::path::{FieldPath, Misread};
use super::template::Template;
use crate::suggest::did_you_mean;

/// The output format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
    Template(Template),
    Columns(Vec<CustomColumn>),
}

/// A column that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomColumn {
    pub title: String,
    pub path: FieldPath,
}

/// The formats, what each prints, and an example of those that take a value.
const FORMATS: [(&str, &str, &str); 10] = [
    ("table", "A table", ""),
    ("wide", "A table with more columns", ""),
    ("json", "A JSON object for one resource, an array for several", ""),
    ("yaml", "One YAML document per resource, as `apply` reads them", ""),
    ("name", "Full names only", ""),
    ("jsonpath=", "A template as in kubectl", "jsonpath='{.meta.uid}'"),
    ("jsonpath-file=", "A template in a file", "jsonpath-file=FILE"),
    ("go-template=", "A template of paths, ranges and text", "go-template='{{.name}}'"),
    ("go-template-file=", "The same in a file", "go-template-file=FILE"),
    ("custom-columns=", "A table of these columns", "custom-columns=NAME:.name,TEAM:.labels.team"),
];

impl Format {
    /// Returns the parser of `-o`.
    pub fn parser() -> impl TypedValueParser<Value = Self> {
        FormatParser
    }

    /// Whether it is read by people.
    pub fn is_for_people(&self) -> bool {
        matches!(self, Self::Table | Self::Wide | Self::Name)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        match (name, value) {
            ("table", None) => Ok(Self::Table),
            ("wide", None) => Ok(Self::Wide),
            ("json", None) => Ok(Self::Json),
            ("yaml", None) => Ok(Self::Yaml),
            ("name", None) => Ok(Self::Name),
            ("jsonpath", Some(value)) => template(Template::jsonpath(value)),
            ("jsonpath-file", Some(file)) => template(Template::jsonpath(&content(file)?)),
            ("go-template", Some(value)) => template(Template::go(value)),
            ("go-template-file", Some(file)) => template(Template::go(&content(file)?)),
            ("custom-columns", Some(value)) => Ok(Self::Columns(columns(value)?)),
            _ => Err(unknown(name)),
        }
    }
}

fn unknown(name: &str) -> String {
    let known = FORMATS.map(|(known, _, _)| known.trim_end_matches('='));
    if let Some((_, _, example)) = FORMATS.iter().find(|(known, _, _)| known.strip_suffix('=') == Some(name))
    {
        return format!("it takes a value, as in -o {example}");
    }
    let hint = did_you_mean(name, known);
    format!("there is no such format; use {}{hint}", known.join(", "))
}

fn template(read: Result<Template, Misread>) -> Result<Format, String> {
    read.map(Format::Template).map_err(|error| format!("{error} of the template"))
}

/// Reads the file of a template, without the end of its last line.
fn content(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

/// Reads `TITLE:.path,TITLE:.path`.
fn columns(text: &str) -> Result<Vec<CustomColumn>, String> {
    let mut columns = Vec::new();
    for part in split(text) {
        let (title, path) = part
            .split_once(':')
            .filter(|(title, path)| !title.is_empty() && !path.is_empty())
            .ok_or_else(|| format!("{part:?} is no column; write TITLE:.path, as in NAME:.name"))?;
        let path = FieldPath::parse(path).map_err(|error| format!("column {title}: {error}"))?;
        columns.push(CustomColumn { title: title.to_owned(), path });
    }
    Ok(columns)
}

/// Splits at the commas outside brackets and quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_i32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Reads a format, and lists them in the help and for completion.
#[derive(Debug, Clone)]
struct FormatParser;

impl TypedValueParser for FormatParser {
    type Value = Format;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Format, clap::Error> {
        let parser = StringValueParser::new().try_map(|text| Format::parse(&text));
        parser.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(FORMATS.iter().map(|(name, help, _)| PossibleValue::new(*name).help(*help))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read() {
        for (name, _, _) in FORMATS.iter().filter(|(name, _, _)| !name.ends_with('=')) {
            assert!(Format::parse(name).is_ok(), "{name}");
        }
        let Format::Columns(columns) =
            Format::parse("custom-columns=A:.a[?(@.b=='x,y')],B:c,C D:.d['e,f'][0,1]").unwrap()
        else {
            panic!("no columns")
        };
        assert_eq!(columns.iter().map(|column| &*column.title).collect::<Vec<_>>(), ["A", "B", "C D"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("template");
        std::fs::write(&file, "{.name}=\n").unwrap();
        assert_eq!(
            Format::parse(&format!("jsonpath-file={}", file.display())),
            Format::parse("jsonpath={.name}=")
        );
    }

    #[test]
    fn what_is_no_format_is_said() {
        let said = |text: &str| Format::parse(text).unwrap_err();
        assert_eq!(
            said("yml"),
            "there is no such format; use table, wide, json, yaml, name, jsonpath, jsonpath-file, go-template, \
             go-template-file, custom-columns; did you mean yaml?"
        );
        assert_eq!(said("jsonpath"), "it takes a value, as in -o jsonpath='{.meta.uid}'");
        assert_eq!(said("jsonpath={.a[}"), "`[` is not closed at character 4 of the template");
        assert!(said("table=x").starts_with("there is no such format"));
        assert_eq!(said("custom-columns=A"), "\"A\" is no column; write TITLE:.path, as in NAME:.name");
        assert_eq!(said("custom-columns=A:.a,B:.b["), "column B: `[` is not closed at character 3");
        assert!(said("jsonpath-file=gone").starts_with("cannot read gone: "));
    }
}
