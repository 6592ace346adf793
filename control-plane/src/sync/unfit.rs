//! Definitions that clients' SDKs would reject, in words for the status: edges complete what has one meaning, and withhold
//! the rest. Pure.
//!
//! It must not know what is stored: definitions are kept as they came.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use mcp::entry::{Fit, List, fit};
use mcp::json;
use mcp::quirk::Quirk;
use mcp::revision::Era;
use mcp::secrets::Secrets;
use trunkline::registry::v1::ListStatus;

use super::import::MAX_WARNINGS;
use crate::domain::definition::MAX_DEFINITION_BYTES;
use crate::importers::{FetchedList, ListSelection, Lists, PROMPTS, RESOURCES, TEMPLATES, TOOLS, described};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Unfit {
    /// One line for each definition that is withheld.
    withheld: Vec<String>,
    /// The first definition that is completed in some way, and how many others are, by list and way.
    mended: BTreeMap<(&'static str, String), (String, usize)>,
    /// How many definitions of each list are withheld, and how many completed.
    counts: BTreeMap<&'static str, (i32, i32)>,
}

/// So many bytes of definitions are looked at where others are served; more cost a thread of their own.
const MAX_BESIDE_OTHERS: usize = 256 << 10;

/// Looks at every definition, and holds up nobody.
pub(super) async fn look(lists: &Lists) -> Unfit {
    if bytes(lists) <= MAX_BESIDE_OTHERS {
        return look_at_all(lists);
    }
    let copy = lists.clone();
    match tokio::task::spawn_blocking(move || look_at_all(&copy)).await {
        Ok(unfit) => unfit,
        // The program stops.
        Err(_) => look_at_all(lists),
    }
}

fn bytes(lists: &Lists) -> usize {
    let all = [&lists.tools, &lists.resources, &lists.templates, &lists.prompts];
    all.into_iter().flat_map(|list| &list.entries).map(String::len).sum()
}

/// Looks at every definition.
fn look_at_all(lists: &Lists) -> Unfit {
    let mut unfit = Unfit::default();
    for (list, word, member, sent) in [
        ((List::Tools, TOOLS), "tools", "name", &lists.tools),
        ((List::Resources, RESOURCES), "resources", "uri", &lists.resources),
        ((List::Templates, TEMPLATES), "resourceTemplates", "uriTemplate", &lists.templates),
        ((List::Prompts, PROMPTS), "prompts", "name", &lists.prompts),
    ] {
        unfit.look_at(list, [word, member], sent, &lists.secrets);
    }
    unfit
}

impl Unfit {
    fn look_at(
        &mut self,
        (list, method): (List, &'static str),
        [word, member]: [&'static str; 2],
        sent: &FetchedList,
        secrets: &Secrets,
    ) {
        // What is too large is not imported, and named for that.
        let fitting = sent.entries.iter().enumerate().filter(|(_, raw)| raw.len() <= MAX_DEFINITION_BYTES);
        for (position, raw) in fitting {
            let [legacy, modern] = [Era::Legacy, Era::Modern].map(|era| fit(list, era, raw));
            if legacy == Fit::Valid && modern == Fit::Valid {
                continue;
            }
            // What has no name is not imported, and named for that.
            let Some(name) = name(member, raw) else { continue };
            let name = secrets.quote(name.as_bytes(), 0);
            let place = format!("{word}[{position}] \"{name}\"");
            let (withheld, mended) = self.counts.entry(method).or_default();
            match [&legacy, &modern].iter().any(|fit| matches!(fit, Fit::Withheld(_))) {
                true => *withheld += 1,
                false => *mended += 1,
            }
            match (legacy, modern) {
                (Fit::Withheld(note), Fit::Withheld(_)) => {
                    self.withheld.push(format!("{place}: withheld: {note}"));
                }
                (Fit::Withheld(note), other) => {
                    self.withheld.push(format!("{place}: withheld from clients with sessions: {note}"));
                    self.complete(word, &place, [other]);
                }
                (other, Fit::Withheld(note)) => {
                    self.withheld.push(format!("{place}: withheld from clients without sessions: {note}"));
                    self.complete(word, &place, [other]);
                }
                (legacy, modern) => self.complete(word, &place, [legacy, modern]),
            }
        }
    }

    fn complete<const N: usize>(&mut self, word: &'static str, place: &str, fits: [Fit; N]) {
        let notes = fits.into_iter().flat_map(|fit| match fit {
            Fit::Mended { notes, .. } => notes,
            Fit::Valid | Fit::Withheld(_) => Vec::new(),
        });
        let ways: BTreeSet<String> = notes.map(|note| note.to_string()).collect();
        for way in ways {
            let known = self.mended.entry((word, way)).and_modify(|(_, others)| *others += 1);
            known.or_insert_with(|| (place.to_owned(), 0));
        }
    }

    /// Adds to the status of each list that was fetched how many of its definitions are withheld and completed.
    pub(super) fn count(&self, lists: &mut [ListStatus], selection: &ListSelection) {
        for list in lists.iter_mut().filter(|list| selection.has(&list.list)) {
            (list.withheld_count, list.mended_count) =
                self.counts.get(&*list.list).copied().unwrap_or_default();
        }
    }

    /// The quirks that this shows.
    pub(super) fn quirks(&self) -> Vec<(String, String)> {
        let withheld = self.withheld.first().map(|line| described(Quirk::EntriesWithheld, line));
        let mended = self.mended.iter().next();
        let mended =
            mended.map(|((_, way), (place, _))| described(Quirk::EntriesMended, &format!("{place}: {way}")));
        withheld.into_iter().chain(mended).collect()
    }

    /// Adds it to warnings: what is withheld first.
    pub(super) fn warn(self, warnings: &mut Vec<String>) {
        let mended = self.mended.into_iter().map(|((_, way), (place, others))| match others {
            0 => format!("{place}: {way}"),
            others => format!("{place} and {others} more: {way}"),
        });
        let room = MAX_WARNINGS.saturating_sub(warnings.len());
        warnings.extend(self.withheld.into_iter().chain(mended).take(room));
    }
}

/// The name of an entry that has one.
fn name<'a>(member: &str, raw: &'a str) -> Option<Cow<'a, str>> {
    let [name] = json::members(raw, [member]).ok()?;
    let name = json::string(name?).ok()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> FetchedList {
        let entries = entries.iter().map(|&raw| raw.to_owned()).collect();
        FetchedList { asked: true, entries, trouble: None }
    }

    fn warnings(lists: &Lists) -> (Vec<String>, Vec<String>) {
        let (unfit, mut warnings) = (look_at_all(lists), Vec::new());
        let quirks = unfit.quirks().into_iter().map(|(name, _)| name).collect();
        unfit.warn(&mut warnings);
        (warnings, quirks)
    }

    #[test]
    fn what_is_withheld_is_named_first_and_what_is_completed_alike_is_folded() {
        let lists = Lists {
            tools: list(&[
                r#"{"name":"none"}"#,
                r#"{"name":"good","inputSchema":{"type":"object"}}"#,
                r#"{"name":"text","inputSchema":"{}"}"#,
                r#"{"name":"none too"}"#,
                "{}",
            ]),
            ..Lists::default()
        };
        let (warnings, quirks) = warnings(&lists);
        assert_eq!(quirks, ["entries-withheld", "entries-mended"]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("tools[2] \"text\": withheld: inputSchema "), "{warnings:?}");
        assert!(warnings[1].starts_with("tools[0] \"none\" and 1 more: inputSchema "), "{warnings:?}");
        let mut statuses =
            [TOOLS, PROMPTS].map(|list| ListStatus { list: list.to_owned(), ..Default::default() });
        look_at_all(&lists).count(&mut statuses, &ListSelection::All);
        assert_eq!(statuses.map(|list| (list.withheld_count, list.mended_count)), [(1, 2), (0, 0)]);
    }

    #[test]
    fn no_name_shows_what_the_upstream_was_sent() {
        let key = "sk-live-0123456789abcdef0123456789abcdef";
        let mut secrets = Secrets::default();
        secrets.add(key.as_bytes());
        for before in [0, 60, 75, 90] {
            let tool = format!(r#"{{"name":"{}{key}","inputSchema":"{{}}"}}"#, "x".repeat(before));
            let lists = Lists { tools: list(&[&tool]), secrets: secrets.clone().into(), ..Lists::default() };
            let (warnings, _) = warnings(&lists);
            assert!(warnings[0].contains("tools[0]") && !warnings[0].contains("sk-"), "{warnings:?}");
        }
    }

    #[test]
    fn sane_definitions_are_not_named_and_warnings_are_bounded() {
        let sane = Lists {
            tools: list(&[
                r#"{"name":"a","description":"b","inputSchema":{"type":"object","properties":{}}}"#,
            ]),
            resources: list(&[r#"{"uri":"a://b","name":"b"}"#]),
            templates: list(&[r#"{"uriTemplate":"a://{b}","name":"b"}"#]),
            prompts: list(&[r#"{"name":"p","arguments":[{"name":"x"}]}"#]),
            ..Lists::default()
        };
        assert_eq!(warnings(&sane), (vec![], vec![]));
        let odd = |at: usize| format!(r#"{{"name":"t{at}","inputSchema":7}}"#);
        let entries = (0..300).map(odd).collect();
        let many = Lists { tools: FetchedList { asked: true, entries, trouble: None }, ..Lists::default() };
        assert_eq!(warnings(&many).0.len(), MAX_WARNINGS);
    }
}
