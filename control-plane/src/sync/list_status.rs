//! How each list of an upstream was read, and which entries stay available that a list in trouble does not have. Pure.
//!
//! It must not know how entries are stored.

use std::collections::BTreeMap;
use std::time::Duration;

use mcp::quirk::Quirk;
use trunkline::registry::v1::{ListStatus, ProbeReport};

use crate::clock;
use crate::importers::{ListSelection, Lists, described};

/// The time for which entries stay available that were listed before their list got into trouble.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Entries of a kind that are available, listed or kept: otherwise an upstream that lists others every time, and never to
/// the end, could add to them without an end.
const MAX_AVAILABLE: usize = 20_000;

/// The room for entries that are kept.
#[derive(Debug)]
pub(super) struct Room {
    entries: usize,
    bytes: usize,
}

impl Room {
    /// The room beside `listed` entries of a kind, of whose names `bytes` are left.
    pub(super) fn beside(listed: usize, bytes: usize) -> Self {
        Self { entries: MAX_AVAILABLE.saturating_sub(listed), bytes }
    }

    /// Takes room for an entry. False: there is none.
    pub(super) fn take(&mut self, name: &str) -> bool {
        let fits = self.entries > 0 && name.len() <= self.bytes;
        if fits {
            self.entries -= 1;
            self.bytes -= name.len();
        }
        fits
    }

    /// The bytes of names that are left.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// How the lists were read that were asked for, after they were read as `old` says. Those that were not selected are as they
/// were.
pub(super) fn statuses(
    old: &[ListStatus],
    lists: &Lists,
    selection: &ListSelection,
    now_us: i64,
) -> Vec<ListStatus> {
    let status = lists.each().into_iter().filter_map(|(name, list)| {
        let before = old.iter().find(|before| before.list == name);
        if !selection.has(name) {
            return before.cloned();
        }
        let before = before.filter(|before| list.asked && !before.trouble.is_empty());
        let since = before.and_then(|before| before.since).or_else(|| Some(clock::timestamp(now_us)));
        list.asked.then(|| ListStatus {
            list: name.to_owned(),
            count: i32::try_from(list.entries.len()).unwrap_or(i32::MAX),
            trouble: list.trouble.clone().unwrap_or_default(),
            since: since.filter(|_| list.trouble.is_some()),
            ..ListStatus::default()
        })
    });
    status.collect()
}

/// The trouble of the first list that has any, and its name. Empty if none has.
pub(super) fn reason(statuses: &[ListStatus]) -> String {
    let troubled = statuses.iter().find(|status| !status.trouble.is_empty());
    troubled.map(|status| format!("{}: {}", status.list, status.trouble)).unwrap_or_default()
}

/// Whether the entries of a list stay available that were not read.
pub(super) fn keeps(statuses: &[ListStatus], list: &str, now_us: i64) -> bool {
    let status = statuses.iter().find(|status| status.list == list && !status.trouble.is_empty());
    let since = status.and_then(|status| status.since.as_ref()).map(clock::micros);
    since.is_some_and(|since_us| now_us - since_us <= clock::duration_us(KEPT))
}

/// Adds quirks to what a probe found, by name.
pub(super) fn add_quirks(report: &mut ProbeReport, quirks: impl IntoIterator<Item = (String, String)>) {
    let names = std::mem::take(&mut report.quirks);
    let details = std::mem::take(&mut report.quirk_details);
    let details = details.into_iter().chain(std::iter::repeat(String::new()));
    let mut all: BTreeMap<String, String> = names.into_iter().zip(details).collect();
    for (name, detail) in quirks {
        all.entry(name).or_insert(detail);
    }
    (report.quirks, report.quirk_details) = all.into_iter().unzip();
}

/// The quirk of an upstream some of whose lists fail.
pub(super) fn failing(statuses: &[ListStatus]) -> Option<(String, String)> {
    let reason = reason(statuses);
    (!reason.is_empty()).then(|| described(Quirk::ListsFail, &reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::importers::FetchedList;

    const HOUR: i64 = 3_600_000_000;

    fn list(entries: usize, trouble: Option<&str>) -> FetchedList {
        let entries = vec!["{}".to_owned(); entries];
        FetchedList { asked: true, entries, trouble: trouble.map(str::to_owned) }
    }

    #[test]
    fn trouble_begins_when_it_began_and_ends_when_the_list_is_whole() {
        let lists = |trouble| Lists { tools: list(2, None), prompts: list(0, trouble), ..Lists::default() };
        let first = statuses(&[], &lists(Some("HTTP 500: a")), &ListSelection::All, HOUR);
        assert_eq!(
            first.iter().map(|status| status.list.as_str()).collect::<Vec<_>>(),
            ["tools/list", "prompts/list"]
        );
        assert_eq!((first[0].count, first[0].since, first[1].since), (2, None, Some(clock::timestamp(HOUR))));
        assert_eq!(reason(&first), "prompts/list: HTTP 500: a");
        let second = statuses(&first, &lists(Some("HTTP 502: b")), &ListSelection::All, 2 * HOUR);
        assert_eq!(
            (second[1].trouble.as_str(), second[1].since),
            ("HTTP 502: b", Some(clock::timestamp(HOUR)))
        );
        let whole = statuses(&second, &lists(None), &ListSelection::All, 3 * HOUR);
        assert_eq!((reason(&whole).as_str(), whole[1].since), ("", None));
        let again = statuses(&whole, &lists(Some("c")), &ListSelection::All, 4 * HOUR);
        assert_eq!(again[1].since, Some(clock::timestamp(4 * HOUR)));
    }

    #[test]
    fn lists_that_were_not_selected_are_as_they_were() {
        let lists = Lists { tools: list(2, None), prompts: list(1, Some("a")), ..Lists::default() };
        let first = statuses(&[], &lists, &ListSelection::All, HOUR);
        let only = ListSelection::Only(["prompts/list".to_owned()].into());
        let lists = Lists { prompts: list(3, None), ..Lists::default() };
        let second = statuses(&first, &lists, &only, 2 * HOUR);
        assert_eq!((second.len(), &second[0], second[1].count), (2, &first[0], 3));
        assert_eq!(reason(&second), "");
    }

    #[test]
    fn entries_are_kept_for_a_day_of_trouble() {
        let lists = Lists { tools: list(0, None), prompts: list(0, Some("x")), ..Lists::default() };
        let status = statuses(&[], &lists, &ListSelection::All, 0);
        assert!(keeps(&status, "prompts/list", 0) && keeps(&status, "prompts/list", 24 * HOUR));
        assert!(!keeps(&status, "prompts/list", 24 * HOUR + 1));
        assert!(!keeps(&status, "tools/list", 0) && !keeps(&status, "resources/list", 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut room = Room::beside(MAX_AVAILABLE - 2, 10);
        assert!(room.take("12345") && !room.take("123456") && room.take("12345") && !room.take(""));
        assert_eq!(room.bytes(), 0);
    }

    #[test]
    fn quirks_are_sorted_and_named_once() {
        let mut report = ProbeReport {
            quirks: vec!["no-delete".to_owned(), "redirects".to_owned()],
            quirk_details: vec!["first".to_owned()],
            ..ProbeReport::default()
        };
        let pair = |name: &str, detail: &str| (name.to_owned(), detail.to_owned());
        add_quirks(&mut report, [pair("paging-loops", "p"), pair("no-delete", "second")]);
        assert_eq!(report.quirks, ["no-delete", "paging-loops", "redirects"]);
        assert_eq!(report.quirk_details, ["first", "p", ""]);
    }
}
