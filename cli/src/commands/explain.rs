//! `mcpctl explain [TOPIC]`: what files may hold, from the contract itself. It asks no control plane.

use std::io::IsTerminal as _;

use prost_reflect::MessageDescriptor;
use schema::layout::wrap;
use schema::topic::{NoSuchField, Topic};
use schema::{examples, explain, fields, prose};
use serde_json::{Value, json};

use crate::commands::Invocation;
use crate::error::{Error, Result};
use crate::kinds::{KINDS, Kind};
use crate::output::{self, Format, table};
use crate::reflection;
use crate::suggest::{did_you_mean, nearest};

/// The width of lines that go into a file or a pipe, and the widest on a terminal.
const WIDTH: usize = 100;
/// The narrowest lines.
const MIN_WIDTH: usize = 40;

/// What all kinds have in common.
const META: &str = "meta";
const META_MESSAGE: &str = "trunkline.common.v1.Meta";

/// What files and commands speak of besides kinds.
const BESIDE_KINDS: [(&str, &str); 2] = [
    (
        "list",
        "A list holds several resources in one document: `kind: List`, and the resources in `items`. A list of resources alone says \
         the same, and so do several documents, separated by `---` or, in JSON, one after the other.",
    ),
    (
        "set",
        "A set is what `mcpctl apply` has created or changed under one name: that of --set, or else `default`. With --prune, what \
         was applied in the set before and is missing from the files is deleted. A resource belongs to one set, `meta.applySet`; \
         --take-over moves it. `mcpctl get sets` lists them.",
    ),
];

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind, or field of a kind with dots, such as upstream.credential.bearer; meta, list or set [default: list the kinds]
    topic: Option<String>,
    /// Show all fields below, with their types alone
    #[arg(long)]
    recursive: bool,
    /// Print an example of the kind, as a file for `apply`
    #[arg(long, requires = "topic", conflicts_with = "recursive")]
    example: bool,
}

/// Runs `explain`.
pub fn run(invocation: &Invocation, args: Args) -> Result {
    let format = invocation.format();
    let Some(word) = args.topic else { return list(format) };
    if let Some((name, told)) = BESIDE_KINDS.iter().find(|(name, _)| is_word(name, &word)) {
        return beside(name, told, format);
    }
    let (kind, path) = word.split_once(['.', '/']).unwrap_or((&word, ""));
    let place = match is_word(META, kind) {
        true => Explained { message: META_MESSAGE, singular: META, names: vec!["a part of every kind"] },
        false => Explained::of(find_kind(kind)?),
    };
    if args.example {
        return example(find_kind(kind)?);
    }
    let topic = Topic::find(&reflection::message(place.message), path).map_err(|error| unknown(&error))?;
    match format {
        Format::Table | Format::Wide => {
            let render = if args.recursive { explain::tree } else { explain::text };
            output::print(&render(&topic, &place.names, width()))
        }
        Format::Name => output::print(&field_names(place.singular, &topic)),
        _ => data(&explain::document(&topic, args.recursive), format),
    }
}

/// What has fields that can be explained: a kind, or `meta`.
struct Explained {
    message: &'static str,
    singular: &'static str,
    names: Vec<&'static str>,
}

impl Explained {
    fn of(kind: &'static Kind) -> Self {
        Self { message: kind.message, singular: kind.singular, names: names(kind) }
    }
}

/// Whether a word is this one, in whatever case, and also as a plural.
fn is_word(name: &str, word: &str) -> bool {
    let word = word.to_lowercase();
    word == name || word.strip_suffix('s') == Some(name)
}

/// Explains what is no kind, and has no fields of its own.
fn beside(name: &str, told: &str, format: &Format) -> Result {
    match format {
        Format::Table | Format::Wide => output::print(&wrap(told, 0, width())),
        Format::Name => output::print(&output::name_line(name)),
        _ => data(&json!({ "name": name, "description": told }), format),
    }
}

fn data(value: &Value, format: &Format) -> Result {
    output::print(&output::value(value, format, String::new)?)
}

/// The full topics of the fields of a place.
fn field_names(singular: &str, topic: &Topic) -> String {
    let place = match topic.path.is_empty() {
        true => singular.to_owned(),
        false => format!("{singular}.{}", topic.path()),
    };
    let all = topic.message().map(|message| fields::of(&message)).unwrap_or_default();
    all.iter().map(|field| format!("{place}.{}\n", field.json_name())).collect()
}

fn names(kind: &Kind) -> Vec<&'static str> {
    [kind.plural, kind.singular].into_iter().chain(kind.aliases.iter().copied()).collect()
}

/// Finds a kind by any of its words, in any case.
fn find_kind(word: &str) -> Result<&'static Kind> {
    Kind::find(word).ok_or_else(|| {
        let kinds: Vec<_> = KINDS.iter().map(|kind| kind.plural).collect();
        let hint = did_you_mean(word, KINDS.iter().flat_map(names));
        Error::not_found(format!("there is no kind {word}; the kinds are {}{hint}", kinds.join(", ")))
    })
}

/// Says which fields there are where one is not.
fn unknown(error: &NoSuchField) -> Error {
    let known = || error.known.iter().map(String::as_str);
    Error::not_found(match nearest(&error.field, known()) {
        Some(name) => format!("{error}; did you mean {name}?"),
        None if error.known.is_empty() => error.to_string(),
        None => format!("{error}; its fields are {}", error.known.join(", ")),
    })
}

fn example(kind: &Kind) -> Result {
    let text = examples::of(kind.name).ok_or_else(|| {
        Error::usage(format!(
            "files hold no {}; `mcpctl explain` lists the kinds that they hold",
            kind.plural
        ))
    })?;
    output::print(text)
}

/// Lists the kinds.
fn list(format: &Format) -> Result {
    match format {
        Format::Table | Format::Wide => {
            let titles = ["NAME", "SHORT", "KIND", "IN FILES", "WHAT IT IS"].map(str::to_owned).to_vec();
            output::print(&table::render_rows(titles, KINDS.iter().map(row)))?;
            output::eprint("run `mcpctl explain NAME` for the fields of one");
            Ok(())
        }
        Format::Name => {
            output::print(&KINDS.iter().map(|kind| format!("{}\n", kind.plural)).collect::<String>())
        }
        _ => data(&KINDS.iter().map(kind_document).collect(), format),
    }
}

fn row(kind: &Kind) -> Vec<String> {
    let applied = if kind.manifest.is_some() { "yes" } else { "no" };
    let told = first_sentence(&reflection::message(kind.message));
    vec![kind.plural.into(), kind.aliases.join(","), kind.name.into(), applied.into(), told]
}

fn kind_document(kind: &Kind) -> Value {
    json!({
        "name": kind.plural,
        "shortNames": kind.aliases,
        "kind": kind.name,
        "inFiles": kind.manifest.is_some(),
        "description": first_sentence(&reflection::message(kind.message)),
    })
}

/// What a kind is, in a few words: without its name, which stands beside it.
fn first_sentence(message: &MessageDescriptor) -> String {
    let text = prose::of_message(message);
    let sentence = prose::first_sentence(&text).split(':').next().unwrap_or_default();
    sentence.strip_prefix(&format!("{} is ", message.name())).unwrap_or(sentence).to_owned()
}

/// The width of lines: that of the terminal, within reason.
fn width() -> usize {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return WIDTH;
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { WIDTH } else { columns.clamp(MIN_WIDTH, WIDTH) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_any_of_their_words() {
        for word in ["upstream", "Upstreams", "up", "UPSTREAM", "Upstream"] {
            assert_eq!(find_kind(word).unwrap().name, "Upstream", "{word}");
        }
        assert_eq!(find_kind("JoinToken").unwrap().name, "JoinToken");
        let error = find_kind("upstrem").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no kind upstrem; the kinds are upstreams, ")
                && error.ends_with("; did you mean upstream?"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_kind_is_explained_too() {
        for (word, name) in [("list", "list"), ("Sets", "set"), ("SET", "set")] {
            assert!(BESIDE_KINDS.iter().any(|(known, _)| *known == name && is_word(known, word)), "{word}");
        }
        let topic = Topic::find(&reflection::message(META_MESSAGE), "").unwrap();
        assert!(field_names(META, &topic).contains("meta.labels\n"));
    }

    #[test]
    fn a_field_that_is_not_there_is_answered_with_those_that_are() {
        let told = |path: &str| {
            let upstream = reflection::message("trunkline.registry.v1.Upstream");
            unknown(&Topic::find(&upstream, path).unwrap_err()).to_string()
        };
        assert_eq!(told("credental"), "Upstream has no field credental; did you mean credential?");
        assert_eq!(told("http.x"), "Upstream.http has no field x; its fields are url");
        assert_eq!(told("title.x"), "Upstream.title has no fields");
    }

    #[test]
    fn every_kind_is_told_in_a_few_words() {
        for kind in &KINDS {
            let text = first_sentence(&reflection::message(kind.message));
            assert!(text.len() > 10 && !text.ends_with('.'), "{}: {text}", kind.name);
        }
    }
}
