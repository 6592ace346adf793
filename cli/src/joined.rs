//! `KIND/NAME` where a command takes `KIND NAME`: `update server/dev` means what `get server/dev` means. What clap understands
//! is left as it is.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, Command};

use crate::kinds::short_name;
use crate::selection::Selection;

/// The command whose options follow the kind.
const UPDATE: &str = "update";

/// Reads a command line; one that clap refuses for a `KIND/NAME`, with that taken apart.
pub fn matches(command: &dyn Fn() -> Command, words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let read = |words: &[OsString]| startup::options::matches(command(), words.iter().cloned());
    read(words).or_else(|error| match apart(&error, words) {
        Some(words) => read(&words),
        None => moved(words).find_map(|words| read(&words).ok()).ok_or(error),
    })
}

/// Moves a name with its kind before the options of `update`, which are those of the kind: `xargs` appends names at the end.
fn moved(words: &[OsString]) -> impl Iterator<Item = Vec<OsString>> {
    let verb = words.iter().position(|word| word == UPDATE);
    let names = verb.into_iter().flat_map(|verb| (verb + 1..words.len()).map(move |at| (verb, at)));
    // What may be the value of an option is tried last.
    let is_value = |at: usize| words[at - 1].to_string_lossy().starts_with('-');
    let (values, names): (Vec<_>, Vec<_>) = names.partition(|(_, at)| is_value(*at));
    names.into_iter().chain(values).filter_map(|(verb, at)| {
        let parts = parts(&words[at].to_string_lossy())?;
        let mut words = words.to_vec();
        words.remove(at);
        words.splice(verb + 1..verb + 1, parts);
        Some(words)
    })
}

/// The kind and the name of `KIND/NAME`.
fn parts(joined: &str) -> Option<[OsString; 2]> {
    let (kind, name) = Selection::parse(joined, &[]).ok()?.one().ok()?;
    joined.contains('/').then(|| [kind.singular.to_owned(), short_name(&name)].map(OsString::from))
}

/// Takes the word apart that was refused, if it names a resource where a kind is expected.
fn apart(error: &clap::Error, words: &[OsString]) -> Option<Vec<OsString>> {
    let joined = refused_kind(error).filter(|word| word.contains('/'))?;
    let at = words.iter().position(|word| word == joined)?;
    let mut words = words.to_vec();
    let parts = parts(joined)?;
    words.splice(at..=at, parts);
    Some(words)
}

/// The word that is no kind, or no subcommand, which are named by kinds.
fn refused_kind(error: &clap::Error) -> Option<&str> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let value =
        || text(ContextKind::InvalidValue).filter(|_| text(ContextKind::InvalidArg) == Some("<KIND>"));
    text(ContextKind::InvalidSubcommand).or_else(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    /// Returns how a command line is understood, or what is wrong with it.
    fn read(line: &str) -> String {
        let words: Vec<_> = std::iter::once("mcpctl").chain(line.split(' ')).map(OsString::from).collect();
        match matches(&args::command, &words) {
            Ok(matches) => format!("{matches:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_name_behind_its_kind_is_the_same_everywhere() {
        for (joined, apart) in [
            ("update server/dev --title T", "update server dev --title T"),
            ("--context c update --dry-run servers/dev", "--context c update --dry-run server dev"),
            ("update tool/time/now --disabled", "update tool time/now --disabled"),
            ("update upstreams/time/tools/now --disabled", "update tool time/now --disabled"),
            ("create token/x --server dev", "create token x --server dev"),
            ("create up/a --url http://a.example/mcp", "create upstream a --url http://a.example/mcp"),
            ("revoke token/x --wait", "revoke token x --wait"),
            ("update upstreams/a upstreams/b --title T", "update upstream a upstreams/b --title T"),
            ("update --label x=y upstreams/a upstreams/b", "update upstream a --label x=y upstreams/b"),
            ("update --title up/x servers/dev", "update server dev --title up/x"),
            ("--context c update --disabled upstreams/a", "--context c update upstream a --disabled"),
            ("revoke joinTokens/x", "revoke join-token x"),
            ("refresh upstreams/time", "refresh upstream time"),
        ] {
            assert_eq!(read(joined), read(apart), "{joined}");
            assert!(read(joined).starts_with("ArgMatches"), "{}", read(joined));
        }
    }

    #[test]
    fn what_is_no_name_of_a_kind_is_refused_as_it_was_typed() {
        for (line, word) in [
            ("update sever/dev", "sever/dev"),
            ("revoke nope/x", "nope/x"),
            ("create server/", "server/"),
            ("update --tilte T servers/dev", "--tilte"),
        ] {
            assert!(read(line).contains(&format!("'{word}'")), "{}", read(line));
        }
    }
}
