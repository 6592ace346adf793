//! `KIND/NAME` where a command takes `KIND NAME`: `update server/dev` means what `get server/dev` means. What clap understands
//! is left as it is.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, Command};

use crate::kinds::short_name;
use crate::selection::Selection;

/// Reads a command line; one that clap refuses for a `KIND/NAME`, with that taken apart.
pub fn matches(command: &dyn Fn() -> Command, words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let read = |words: &[OsString]| startup::options::matches(command(), words.iter().cloned());
    read(words).or_else(|error| match apart(&error, words) {
        Some(words) => read(&words),
        None => Err(error),
    })
}

/// Takes the word apart that was refused, if it names a resource where a kind is expected.
fn apart(error: &clap::Error, words: &[OsString]) -> Option<Vec<OsString>> {
    let joined = refused_kind(error).filter(|word| word.contains('/'))?;
    let at = words.iter().position(|word| word == joined)?;
    let (kind, name) = Selection::parse(joined, &[]).ok()?.one().ok()?;
    let mut words = words.to_vec();
    words.splice(at..=at, [kind.singular.to_owned(), short_name(&name)].map(OsString::from));
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
            ("revoke joinTokens/x", "revoke join-token x"),
            ("refresh upstreams/time", "refresh upstream time"),
        ] {
            assert_eq!(read(joined), read(apart), "{joined}");
            assert!(read(joined).starts_with("ArgMatches"), "{}", read(joined));
        }
    }

    #[test]
    fn what_is_no_name_of_a_kind_is_refused_as_it_was_typed() {
        for (line, word) in
            [("update sever/dev", "sever/dev"), ("revoke nope/x", "nope/x"), ("create server/", "server/")]
        {
            assert!(read(line).contains(&format!("'{word}'")), "{}", read(line));
        }
    }
}
