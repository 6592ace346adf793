//! A mistake in the command line, told as every other error is: in one line, first the reason and then what to do. Pure.

use std::error::Error as _;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::habits;
use crate::suggest::nearest;

/// The commands whose arguments are those of a tool or a prompt.
const TAKE_PAIRS: [&str; 2] = ["mcpctl call", "mcpctl prompt"];

/// Whether it is one, and not a help that was asked for, or is shown in the place of one.
pub fn is_one(error: &clap::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// Tells what is wrong. `words`: the command line, without the name of the program.
pub fn told(error: &clap::Error, root: &Command, words: &[String]) -> String {
    let (path, command) = named(root, words);
    let reason = reason(error);
    let hint = habit(error, &path).map(str::to_owned).or_else(|| behind_equals(error, command, words));
    if let Some(hint) = hint.or_else(|| suggestion(error, command)) {
        return format!("{reason}; {hint}");
    }
    match error.kind() {
        // It says what may stand there.
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => reason,
        ErrorKind::InvalidSubcommand => format!("{reason}; run `{path} --help` to list the commands"),
        ErrorKind::UnknownArgument if TAKE_PAIRS.contains(&path.as_str()) => {
            format!("{reason}; arguments are written KEY=VALUE, and `{path} --help` lists the options")
        }
        ErrorKind::UnknownArgument => format!("{reason}; run `{path} --help` for its options"),
        _ => format!("{reason}; run `{path} --help` for how it is used"),
    }
}

/// Finds the command that is run, and how it is called.
fn named<'c>(root: &'c Command, words: &[String]) -> (String, &'c Command) {
    let (mut path, mut command, mut words) = (root.get_name().to_owned(), root, words.iter());
    while let Some(word) = words.next() {
        match command.find_subcommand(word) {
            _ if takes_value(root, word) => {
                words.next();
            }
            Some(inner) => {
                path = format!("{path} {}", inner.get_name());
                command = inner;
            }
            // `help` is one that clap adds later.
            None if word.starts_with('-') || word == "help" => {}
            None => break,
        }
    }
    (path, command)
}

/// Whether a word is an option of every command, whose value is the next word.
fn takes_value(root: &Command, word: &str) -> bool {
    root.get_arguments().any(|arg| {
        let long = arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
        let short = arg.get_short().is_some_and(|short| word.strip_prefix('-') == Some(&short.to_string()));
        (long || short) && arg.get_action().takes_values()
    })
}

fn reason(error: &clap::Error) -> String {
    let option = text(error, ContextKind::InvalidArg).map(|option| bare(&option));
    let value = text(error, ContextKind::InvalidValue);
    match (error.kind(), option, value) {
        (ErrorKind::ValueValidation, Some(option), Some(value)) => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            // Who is told the value once need not be told it twice.
            match ['"', '`'].iter().any(|quote| why.contains(&format!("{quote}{value}{quote}"))) {
                true => format!("{option}: {why}"),
                false => format!("invalid value '{}' for {option}: {why}", printable::line(&value)),
            }
        }
        (ErrorKind::InvalidValue, Some(option), Some(value)) => {
            let what = match value.as_str() {
                "" => format!("{option} takes a value"),
                value => format!("invalid value '{}' for {option}", printable::line(value)),
            };
            let choices = texts(error, ContextKind::ValidValue);
            if choices.is_empty() { what } else { format!("{what}; use {}", or(&choices)) }
        }
        (ErrorKind::MissingRequiredArgument, ..) => {
            let missing: Vec<_> = texts(error, ContextKind::InvalidArg)
                .iter()
                .map(|name| if name.starts_with('-') { name.clone() } else { bare(name) })
                .collect();
            format!("{} {} required", missing.join(" and "), if missing.len() == 1 { "is" } else { "are" })
        }
        _ => paragraph(error),
    }
}

/// What clap says first, in one line.
fn paragraph(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let first = rendered.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let (head, rest) = first.split_once('\n').unwrap_or((first, ""));
    let rest: Vec<_> = rest.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{head} {}", rest.join(", ")).trim_end().to_owned()
}

/// The name of an option without its value, or of an argument without its brackets; the variable that it came from stays.
fn bare(shown: &str) -> String {
    let (shown, variable) = match shown.find(" (from ") {
        Some(at) => shown.split_at(at),
        None => (shown, ""),
    };
    let name = match shown.starts_with('-') {
        true => shown.split([' ', '=', '[']).next().unwrap_or_default(),
        false => shown.trim_end_matches("...").trim_matches(['<', '>', '[', ']']),
    };
    format!("{}{variable}", name.replace('|', " or "))
}

/// What somebody means who knows kubectl.
fn habit(error: &clap::Error, path: &str) -> Option<&'static str> {
    let word = match error.kind() {
        ErrorKind::InvalidSubcommand => text(error, ContextKind::InvalidSubcommand),
        ErrorKind::UnknownArgument => text(error, ContextKind::InvalidArg),
        _ => None,
    };
    habits::counterpart(path, &word?)
}

/// How a word is written that stands after an option whose value is to follow a `=`.
fn behind_equals(error: &clap::Error, command: &Command, words: &[String]) -> Option<String> {
    let word = text(error, ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument)?;
    let at = words.iter().position(|known| *known == word)?;
    let option = words.get(at.checked_sub(1)?)?;
    let long = option.strip_prefix("--")?;
    let takes_it = |arg: &clap::Arg| arg.is_require_equals_set() && arg.get_long() == Some(long);
    command.get_arguments().any(takes_it).then(|| format!("write {option}={word}"))
}

/// What was probably meant.
fn suggestion(error: &clap::Error, command: &Command) -> Option<String> {
    let (word, known) = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let visible = command.get_subcommands().filter(|inner| !inner.is_hide_set());
            let names = visible.map(|inner| inner.get_name().to_owned()).collect();
            (text(error, ContextKind::InvalidSubcommand)?, names)
        }
        ErrorKind::UnknownArgument => {
            (text(error, ContextKind::InvalidArg)?, texts(error, ContextKind::SuggestedArg))
        }
        ErrorKind::InvalidValue => {
            (text(error, ContextKind::InvalidValue)?, texts(error, ContextKind::ValidValue))
        }
        _ => return None,
    };
    let near = nearest(&word, known.iter().map(String::as_str))?;
    Some(format!("did you mean {near}?"))
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    texts(error, kind).into_iter().next()
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

fn or(words: &[String]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use crate::args::command;

    fn check(line: &str, expected: &str) {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let error = command().try_get_matches_from(["mcpctl".to_owned()].iter().chain(&words)).unwrap_err();
        assert!(super::is_one(&error), "{line}");
        assert_eq!(super::told(&error, &command(), &words), expected, "{line}");
    }

    #[test]
    fn the_reason_is_followed_by_what_to_do() {
        for (line, expected) in [
            (
                "deny 4cb41c",
                "unrecognized subcommand 'deny'; a call is denied with `mcpctl approvals deny ID`",
            ),
            (
                "approvals get 4cb41c",
                "unrecognized subcommand 'get'; use `mcpctl approvals show ID`, or `mcpctl approvals list`",
            ),
            (
                "audit list",
                "unrecognized subcommand 'list'; `mcpctl audit` lists them itself; --resource, --actor and --tail narrow it",
            ),
            ("gte upstreams", "unrecognized subcommand 'gte'; did you mean get?"),
            ("zzz", "unrecognized subcommand 'zzz'; run `mcpctl --help` to list the commands"),
            ("config us-context x", "unrecognized subcommand 'us-context'; did you mean use-context?"),
            (
                "--context dev config zzz",
                "unrecognized subcommand 'zzz'; run `mcpctl config --help` to list the commands",
            ),
            (
                "get upstreams --selektor a=b",
                "unexpected argument '--selektor' found; did you mean --selector?",
            ),
            (
                "create server x --zzz",
                "unexpected argument '--zzz' found; run `mcpctl create server --help` for its options",
            ),
            (
                "call dev add --a=1",
                "unexpected argument '--a' found; arguments are written KEY=VALUE, and `mcpctl call --help` lists the options",
            ),
            ("zzz dev", "unrecognized subcommand 'zzz'; run `mcpctl --help` to list the commands"),
            ("help config us-context", "unrecognized subcommand 'us-context'; did you mean use-context?"),
            (
                "rollout status server dev",
                "unrecognized subcommand 'rollout'; wait until every edge has it with `mcpctl wait KIND NAME --for synced`",
            ),
            (
                "create server x --unprefixed true",
                "unexpected argument 'true' found; write --unprefixed=true",
            ),
            ("wait upstream x", "--for <CONDITION> is required; run `mcpctl wait --help` for how it is used"),
            ("revoke token", "NAME is required; run `mcpctl revoke --help` for how it is used"),
            ("get", "KIND or KIND/NAME is required; run `mcpctl get --help` for how it is used"),
            (
                "expose --env-from-header A -- x",
                "invalid value 'A' for --env-from-header: expected NAME=HEADER",
            ),
            ("create upstream x --label word", "invalid value 'word' for --label: expected KEY=VALUE"),
            (
                "get upstreams --timeout soon",
                "--timeout: \"soon\" is not a duration; use a number and a unit, such as 500ms, 30s, 5m, 2h, 90d or 2w",
            ),
            (
                "completion zhs",
                "invalid value 'zhs' for SHELL; use bash, zsh, fish, powershell or elvish; did you mean zsh?",
            ),
            (
                "get upstreams -A",
                "unexpected argument '-A' found; there are no namespaces here: leave it out, and use a context for each gateway",
            ),
        ] {
            check(line, expected);
        }
    }
}
