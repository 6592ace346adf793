//! `docs/COMMANDS.md` is what the commands say of themselves, and every line in the documents that calls `mcpctl` is one that
//! it reads. `UPDATE_DOCS=1 cargo test -p mcpctl --test reference` writes the page.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, Command};
use mcpctl::args;
use mcpctl::complete::line::split;
use mcpctl::error::EXIT_CODES;
use mcpctl::examples;

const OPENING: &str = "\
# Commands of mcpctl

Made from the commands themselves, with what `mcpctl help COMMAND` says; `UPDATE_DOCS=1 cargo test -p mcpctl --test reference` writes
this page. Data goes to standard output, messages to standard error.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_page_of_commands_is_what_they_say() {
    let path = root().join("docs/COMMANDS.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(path, page).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let (known, now): (Vec<_>, Vec<_>) = (known.lines().collect(), page.lines().collect());
    let gone: Vec<_> = known.iter().filter(|line| !now.contains(line)).collect();
    let new: Vec<_> = now.iter().filter(|line| !known.contains(line)).collect();
    assert!(
        known == now,
        "docs/COMMANDS.md differs; run `UPDATE_DOCS=1 cargo test -p mcpctl --test reference`:\n- {gone:#?}\n+ {new:#?}"
    );
}

fn page() -> String {
    let mut command = args::command();
    command.build();
    let mut page = OPENING.to_owned();
    page.push_str("\n## Every command\n\n");
    let globals: Vec<_> = command.get_arguments().filter(|arg| arg.is_global_set()).collect();
    page.push_str(&table(globals.iter().copied()));
    writeln!(page, "\n```text\n{EXIT_CODES}\n```").unwrap();
    add(&command, "", &globals, &mut page);
    page
}

/// Adds the commands within a command, each below the one that holds it.
fn add(command: &Command, path: &str, globals: &[&Arg], page: &mut String) {
    let inner = command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help");
    let mut inner: Vec<_> = inner.collect();
    inner.sort_by_key(|inner| inner.get_display_order());
    for inner in inner {
        let path = format!("{path} {}", inner.get_name());
        let level = path.split(' ').count();
        writeln!(page, "\n{} mcpctl{path}\n", "#".repeat(level)).unwrap();
        let about = inner.get_long_about().or(inner.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let sentences: Vec<_> = about.split("\n\n").map(|text| text.trim().trim_end_matches('.')).collect();
        writeln!(page, "{}.", escaped(&sentences.join(". "))).unwrap();
        if let Some(usage) = usage(inner, &path) {
            writeln!(page, "\n```text\n{usage}\n```").unwrap();
        }
        let is_own = |arg: &&Arg| globals.iter().all(|global| global.get_id() != arg.get_id());
        let own = inner.get_arguments().filter(is_own).filter(|arg| !arg.is_hide_set());
        let own: Vec<_> = own.filter(|arg| arg.get_id() != "help" && arg.get_id() != "version").collect();
        if !own.is_empty() {
            write!(page, "\n{}", table(own.into_iter())).unwrap();
        }
        page.push_str(&examples(path.trim()));
        add(inner, &path, globals, page);
    }
}

fn usage(command: &Command, path: &str) -> Option<String> {
    let usage = command.clone().bin_name(format!("mcpctl{path}")).render_usage().to_string();
    // What is in the environment of whoever writes the page is no part of it.
    Some(usage.strip_prefix("Usage: ")?.to_owned()).filter(|_| !command.has_subcommands())
}

fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut table = "| argument | meaning |\n|---|---|\n".to_owned();
    for arg in arguments {
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let mut meaning = escaped(&help);
        let values: Vec<_> =
            arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect();
        if !values.is_empty() && !arg.is_hide_possible_values_set() && arg.get_action().takes_values() {
            let values = values.iter().map(|value| format!("`{}`", value.get_name())).collect::<Vec<_>>();
            write!(meaning, ". One of {}", values.join(", ")).unwrap();
        }
        if !arg.get_default_values().is_empty() && arg.get_action().takes_values() {
            let defaults: Vec<_> =
                arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            write!(meaning, ". Default `{}`", defaults.join(",")).unwrap();
        }
        if let Some(variable) = arg.get_env() {
            write!(meaning, ". Also `{}`", variable.to_string_lossy()).unwrap();
        }
        writeln!(table, "| {} | {meaning} |", spelled(arg)).unwrap();
    }
    table
}

/// Writes an argument as it is typed.
fn spelled(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>"));
    let value = match arg.get_action().takes_values() {
        true => names.collect::<Vec<_>>().join(" "),
        false => String::new(),
    };
    if let Some(long) = arg.get_long().filter(|_| arg.is_require_equals_set()) {
        let is_optional = arg.get_num_args().is_some_and(|count| count.min_values() == 0);
        return if is_optional { format!("`--{long}[={value}]`") } else { format!("`--{long}={value}`") };
    }
    let Some(long) = arg.get_long() else {
        return format!("`{}`", value.trim_matches(['<', '>']).replace('|', "\\|"));
    };
    let short = arg.get_short().map(|short| format!(", `-{short}`")).unwrap_or_default();
    format!("`{}`{short}", format!("--{long} {value}").trim_end().replace('|', "\\|"))
}

/// Keeps a text within its cell.
fn escaped(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // What looks like HTML would not be shown.
    text.replace('|', "\\|").replace('<', "\\<")
}

fn examples(path: &str) -> String {
    let Some(examples) = examples::of(path) else { return String::new() };
    let lines = examples.iter().map(|(what, line)| match *what {
        "" => format!("{line}\n"),
        what => format!("# {what}\n{line}\n"),
    });
    format!("\n```sh\n{}```\n", lines.collect::<String>())
}

/// A call of `mcpctl` in a document.
struct Call {
    place: String,
    line: String,
    /// Whether it is a part of a sentence, which may leave something out.
    is_mention: bool,
}

/// The calls in a document: lines in blocks, and words in the text.
fn calls(name: &str, text: &str) -> Vec<Call> {
    let mut found = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 1 {
            let lines =
                part.lines().map(|line| line.trim().trim_start_matches("$ ")).filter(|line| is_call(line));
            found.extend(lines.map(|line| (line.to_owned(), false)));
        } else {
            let words = part.split('`').skip(1).step_by(2).filter(|words| is_call(words));
            found.extend(words.map(|words| (words.to_owned(), true)));
        }
    }
    let call = |(line, is_mention)| Call { place: name.to_owned(), line, is_mention };
    found.into_iter().map(call).collect()
}

fn is_call(line: &str) -> bool {
    line.split(' ').find(|word| !word.contains('=')) == Some("mcpctl")
}

/// The words of a call, without what belongs to the shell; `None` where something is left out on purpose.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let ends = [" > ", " | ", " &", " >> "];
    let end = ends.iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
    let (words, _) = split(line[..end].trim_end_matches('\\').trim());
    let words: Vec<_> = words.into_iter().skip_while(|word| word != "mcpctl").collect();
    let word = |word: String| match word.as_str() {
        "KIND" => "upstreams".to_owned(),
        "VERB" | "COMMAND" => "get".to_owned(),
        _ => word,
    };
    let is_whole = !words.iter().any(|word| word.contains('…') || word == "...");
    // A bracket alone is no word; a value that is empty is one.
    let bare = |word: String| match word.trim_matches(['[', ']']) {
        "" if !word.is_empty() => None,
        bare => Some(bare.to_owned()),
    };
    is_whole.then(|| words.into_iter().filter_map(bare).map(word).collect())
}

/// Whether a call is not read because of what a sentence leaves out, or of a word for a value in it.
fn is_about_the_rest(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::InvalidValue
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

#[test]
fn every_call_in_the_documents_is_read() {
    let mut documents = vec![root().join("README.md")];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        documents.push(entry.unwrap().path());
    }
    documents.retain(|path| path.extension().is_some_and(|end| end == "md"));
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in documents {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        // The usages in the page of commands are no calls.
        let text = if name == "COMMANDS.md" { text.replace("```text\nmcpctl", "```text\n") } else { text };
        for Call { place, line, is_mention } in calls(&name, &text) {
            let Some(words) = words(&line) else { continue };
            count += 1;
            let Err(error) = args::command().try_get_matches_from(&words) else { continue };
            let is_part = is_mention && is_about_the_rest(error.kind());
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if !(is_help || is_part) {
                wrong.push(format!(
                    "{place}: {line}: {}",
                    error.to_string().lines().next().unwrap_or_default()
                ));
            }
        }
    }
    assert!(count > 50, "only {count} calls were found");
    assert!(wrong.is_empty(), "calls that mcpctl does not read:\n{}", wrong.join("\n"));
}

#[test]
fn calls_are_found_in_blocks_and_in_sentences() {
    let text = "Run `mcpctl get edges`, or `A=b\nmcpctl`; see `mcpctl.yaml`.\n```sh\n$ A=b mcpctl get KIND > x  # note\nls\n```\n";
    let found: Vec<_> = calls("x", text).into_iter().map(|call| (call.line, call.is_mention)).collect();
    assert_eq!(
        found,
        [("mcpctl get edges".to_owned(), true), ("A=b mcpctl get KIND > x  # note".to_owned(), false)]
    );
    assert_eq!(words(&found[1].0).unwrap(), ["mcpctl", "get", "upstreams"]);
    assert_eq!(words("mcpctl create … --dry-run"), None);
}
