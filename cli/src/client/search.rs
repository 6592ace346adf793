//! Something that a server may offer one caller and not another: the saved tokens are tried one after another, and it is known by
//! the name that clients see or by its upstream's own.

use mcp::uri::naming;

use crate::client::caller::Wanted;
use crate::client::session::{EdgeSession, Opening};
use crate::client::standing;
use crate::commands::Invocation;
use crate::error::{Error, Result};
use crate::output;
use crate::suggest::{did_you_mean, nearest};

/// Names that are listed where one is not found.
const MAX_NAMES: usize = 20;

/// What was looked for, or the names that are there.
pub enum Lookup<T> {
    Found(T),
    Missing(Vec<String>),
}

/// Looks for what is wanted in a session of each who may call, until it is there.
pub async fn find<T>(
    invocation: &Invocation,
    mut opening: Opening<'_>,
    look: impl AsyncFn(&EdgeSession) -> Result<Lookup<T>>,
) -> Result<(EdgeSession, T)> {
    let (mut known, mut asked) = (Vec::new(), Vec::new());
    while let Some(session) = opening.next().await? {
        let found = look(&session).await;
        if !matches!(found, Ok(Lookup::Found(_))) {
            session.mcp.close().await;
        }
        match found? {
            Lookup::Found(found) => {
                let (wanted, caller) = (opening.wanted, &session.caller);
                if let Some(first) = asked.first() {
                    output::eprint(format!(
                        "{first} may not {} {}; using {caller}",
                        wanted.verb(),
                        wanted.word()
                    ));
                }
                return Ok((session, found));
            }
            Lookup::Missing(names) => {
                asked.push(session.caller.to_string());
                known.extend(names);
            }
        }
    }
    Err(missing(invocation, &opening, &asked, known).await)
}

/// The error where nobody who may call gets what is wanted.
async fn missing(
    invocation: &Invocation,
    opening: &Opening<'_>,
    asked: &[String],
    mut known: Vec<String>,
) -> Error {
    let (wanted, server) = (opening.wanted, &opening.server.name);
    let (kind, verb, word) = (wanted.kind(), wanted.verb(), wanted.word());
    known.sort();
    known.dedup();
    let hint = near(wanted, &known);
    let there = match listed(known.iter().take(MAX_NAMES), ", ") {
        names if names.is_empty() => "none".to_owned(),
        names if known.len() > MAX_NAMES => format!("{names} and {} more", known.len() - MAX_NAMES),
        names => names,
    };
    let trouble = standing::trouble(invocation, server).await;
    let trouble = trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
    let asked = asked.join(" or ");
    Error::not_found(format!(
        "server {server} has no {kind} {word} that {asked} may {verb}{hint}; available: {there}{trouble}"
    ))
}

/// The one of `names` that was perhaps meant, as clients see it: its upstream's own name may be what is nearly right.
fn near(wanted: Wanted<'_>, names: &[String]) -> String {
    let word = wanted.word();
    let hint = did_you_mean(word, names.iter().map(String::as_str));
    if !hint.is_empty() {
        return hint;
    }
    let near = nearest(word, names.iter().filter_map(|name| own_name(wanted, name)));
    let meant = near.and_then(|near| names.iter().find(|name| own_name(wanted, name) == Some(near)));
    meant.map(|name| format!("; did you mean {}?", printable::line(name))).unwrap_or_default()
}

/// What is behind the id of an upstream in a name, which may have none in front.
fn own_name<'n>(wanted: Wanted<'_>, name: &'n str) -> Option<&'n str> {
    let separator = if matches!(wanted, Wanted::Resource(_)) { '+' } else { '_' };
    name.split_once(separator).map(|(_, own)| own)
}

/// Returns the one of `names` that is meant: as clients see it, or else by its upstream's own name.
pub async fn meant(
    invocation: &Invocation,
    server: &str,
    wanted: Wanted<'_>,
    names: &[String],
) -> Result<Option<String>> {
    if names.iter().any(|name| name == wanted.word()) {
        return Ok(Some(wanted.word().to_owned()));
    }
    // With the admin token it is known what was renamed as well.
    let exposed = standing::exposed_names(invocation, server, wanted.kind(), wanted.word()).await;
    let mut found: Vec<_> = names.iter().filter(|name| exposed.contains(name)).collect();
    if found.is_empty() {
        found = names.iter().filter(|name| is_prefixed(wanted, name)).collect();
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).clone())),
        several => Err(Error::usage(format!(
            "{} name {} is ambiguous; use {}",
            wanted.kind(),
            wanted.word(),
            listed(several.iter().copied(), " or ")
        ))),
    }
}

/// Whether a name is what is wanted behind the id of an upstream, which has no `_` and no `+`.
fn is_prefixed(wanted: Wanted<'_>, name: &str) -> bool {
    let own = wanted.word();
    match wanted {
        Wanted::Resource(_) => {
            let rest = name.strip_prefix("ui://").and_then(|rest| rest.split_once('/'));
            let id = rest.or_else(|| name.split_once('+')).map(|(id, _)| id);
            id.is_some_and(|id| naming::is_exposed(&format!("{id}+"), own, name))
        }
        _ => own_name(wanted, name) == Some(own),
    }
}

/// Returns names as a part of one line.
fn listed<'n>(names: impl Iterator<Item = &'n String>, separator: &str) -> String {
    names.map(|name| printable::line(name).into_owned()).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_found_with_and_without_its_upstream() {
        let names = ["fake_echo", "time_now", "files+file:///notes"].map(str::to_owned);
        for (wanted, hint) in [
            (Wanted::Tool("ech"), "; did you mean fake_echo?"),
            (Wanted::Tool("fake_ecko"), "; did you mean fake_echo?"),
            (Wanted::Prompt("nwo"), "; did you mean time_now?"),
            (Wanted::Resource("file:///note"), "; did you mean files+file:///notes?"),
            (Wanted::Tool("zoo"), ""),
        ] {
            assert_eq!(near(wanted, &names), hint, "{wanted:?}");
        }
    }

    #[test]
    fn an_upstreams_own_name_is_known_behind_its_id() {
        for (wanted, name, is_own) in [
            (Wanted::Tool("now"), "time_now", true),
            (Wanted::Tool("now"), "time_not_now", false),
            (Wanted::Tool("not_now"), "time_not_now", true),
            (Wanted::Prompt("greet"), "a-b_greet", true),
            (Wanted::Resource("file:///a"), "files+file:///a", true),
            (Wanted::Resource("file:///a"), "files+file:///ab", false),
            (Wanted::Resource("ui://widget/1"), "ui://up/widget/1", true),
            (Wanted::Resource("a"), "files+file:///a", false),
        ] {
            assert_eq!(is_prefixed(wanted, name), is_own, "{wanted:?} {name}");
        }
    }
}
