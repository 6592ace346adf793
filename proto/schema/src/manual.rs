//! `docs/RESOURCES.md`: what files may hold, with an example of every kind.

use std::fmt::Write as _;

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use crate::contract::{below, kinds};
use crate::examples;
use crate::fields::{self, Entry, type_name};
use crate::prose;
use crate::rules;
use crate::words;

/// What is so of files of every kind.
const HEAD: &str = include_str!("manual.md");

/// Renders the page.
pub fn render() -> String {
    let mut page = HEAD.to_owned();
    for kind in kinds() {
        add_kind(&kind, &mut page);
    }
    page
}

fn add_kind(kind: &MessageDescriptor, page: &mut String) {
    let example = examples::of(kind.name()).unwrap_or_default();
    let mut tables = Tables::default();
    tables.add_message(kind, "", false);
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "\n## {}\n\n{}\n\n```yaml\n{example}```\n\n| field | type | what it is |\n|---|---|---|\n{}\n\
         Only Trunkline writes these:\n\n| field | type | what it is |\n|---|---|---|\n{}",
        kind.name(),
        prose::of_message(kind),
        tables.written,
        tables.observed
    );
}

/// The rows of the fields of a kind.
#[derive(Default)]
struct Tables {
    /// Those that people write.
    written: String,
    /// Those that only Trunkline writes.
    observed: String,
}

impl Tables {
    fn add_message(&mut self, message: &MessageDescriptor, path: &str, is_observed: bool) {
        for entry in fields::entries(message) {
            match entry {
                Entry::Field(field) => self.add_field(&field, path, "", is_observed),
                Entry::Choice(choice) => {
                    let rules = rules::of_choice(&choice);
                    let told = rules::untold_of_choice(&prose::of_choice(&choice), &rules);
                    let words: Vec<_> =
                        choice.fields().map(|field| format!("`{}`", field.json_name())).collect();
                    let kind = if rules.required { "Required, one of" } else { "One of" };
                    for (index, field) in choice.fields().enumerate() {
                        let before = match (index, words.len()) {
                            (0, 2..) => format!("{told} {kind} {}. ", words.join(", ")),
                            (0, _) => format!("{told} "),
                            _ => String::new(),
                        };
                        self.add_field(&field, path, &before, is_observed);
                    }
                }
            }
        }
    }

    fn add_field(&mut self, field: &FieldDescriptor, path: &str, before: &str, is_observed: bool) {
        let rules = rules::of(field);
        let is_observed = is_observed || rules.output_only;
        let list = if field.is_list() { "[]" } else { "" };
        let path = format!("{path}{}{list}", field.json_name());
        let rows = if is_observed { &mut self.observed } else { &mut self.written };
        let _ = writeln!(
            rows,
            "| `{path}` | {} | {} |",
            cell(&type_name(field)),
            cell(&format!("{before}{}", told(field)))
        );
        if let Some(message) = below(field) {
            self.add_message(&message, &format!("{path}."), is_observed);
        }
    }
}

/// What a field is, with its rules.
fn told(field: &FieldDescriptor) -> String {
    let rules = rules::of(field);
    let mut text = rules::untold(&prose::of_field(field), &rules);
    let flags = rules::flags(&rules).into_iter().filter(|flag| *flag != "output only").map(str::to_owned);
    let notes: Vec<String> = flags.chain(rules::notes(field)).collect();
    if !notes.is_empty() {
        let _ = write!(text, " *({})*", notes.join("; "));
    }
    for value in fields::values(field) {
        let _ = write!(text, " `{}`: {}", words::word(&value), prose::of_value(&value));
    }
    text
}

/// A text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_contract_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/RESOURCES.md");
        let page = render();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let known = std::fs::read_to_string(path).unwrap_or_default();
        let new: Vec<_> = page.lines().filter(|line| !known.lines().any(|old| old == *line)).collect();
        let old: Vec<_> = known.lines().filter(|line| !page.lines().any(|new| new == *line)).collect();
        assert!(
            known == page,
            "docs/RESOURCES.md differs; run `UPDATE_DOCS=1 cargo test -p schema`:\n- {}\n+ {}",
            old.join("\n- "),
            new.join("\n+ ")
        );
    }
}
