//! What was found of an upstream, in the words of its status: the same whether it is stored or only shown. Pure.
//!
//! It must not know how upstreams are asked, nor what is stored of them.

use mcp::quirk::Quirk;
use trunkline::registry::v1::{UpstreamState, UpstreamStatus};

use super::import::{Import, MAX_WARNINGS, import, warned_of};
use super::list_status::{self, add_quirks};
use super::unfit::Unfit;
use crate::clock;
use crate::domain::upstream_status::changed;
use crate::importers::{
    Announced, Failure, ListSelection, Lists, PROMPTS, Probed, RESOURCES, TEMPLATES, TOOLS,
};

/// The result of a probe and an import.
pub(super) struct Imported {
    pub(super) probed: Probed,
    pub(super) lists: Lists,
    /// The lists that were fetched.
    pub(super) selection: ListSelection,
    pub(super) announced: Announced,
    /// Why a secret that is kept elsewhere cannot be read any more.
    pub(super) trouble: Option<String>,
}

impl Imported {
    /// The entries of the upstream with this id that can be imported. `names_left` are the bytes of names for which there is
    /// room.
    pub(super) fn import(&self, id: &str, names_left: usize) -> Import {
        import(id, &self.lists, names_left)
    }

    /// The status of the upstream, after `old`, with these entries, which are counted as if nothing was stored before. What it
    /// says of lists that were not fetched stays.
    pub(super) fn status(
        self,
        import: &Import,
        unfit: Unfit,
        old: &UpstreamStatus,
        now_us: i64,
    ) -> UpstreamStatus {
        let Self { probed, lists, selection, announced, trouble } = self;
        let mut statuses = list_status::statuses(&old.lists, &lists, &selection, now_us);
        unfit.count(&mut statuses, &selection);
        let mut probe = probed.report;
        let quirks = lists.quirks.into_iter().chain(list_status::failing(&statuses)).chain(unfit.quirks());
        add_quirks(&mut probe, quirks.chain(quirks_of_others(old, &selection)));
        let mut warnings: Vec<String> = trouble.iter().cloned().chain(import.warnings.clone()).collect();
        unfit.warn(&mut warnings);
        warnings.extend(warnings_of_others(old, &selection));
        warnings.truncate(MAX_WARNINGS);
        let reason = match list_status::reason(&statuses) {
            reason if reason.is_empty() => trouble.unwrap_or_default(),
            reason => reason,
        };
        let refresh_time = match selection {
            ListSelection::All => Some(clock::timestamp(now_us)),
            ListSelection::Only(_) => old.refresh_time,
        };
        let status = UpstreamStatus {
            probe: Some(probe),
            attempts: probed.attempts,
            refresh_time,
            tool_count: count(import.tools.len()),
            resource_count: count(import.resources.len()),
            prompt_count: count(import.prompts.len()),
            change_count: old.change_count + i64::from(announced != Announced::default()),
            tools_change_count: old.tools_change_count + i64::from(announced.tools),
            resources_change_count: old.resources_change_count + i64::from(announced.resources),
            prompts_change_count: old.prompts_change_count + i64::from(announced.prompts),
            warnings,
            ..changed(old, UpstreamState::Ready, reason, now_us)
        };
        UpstreamStatus { lists: statuses, ..status }
    }
}

/// The quirks that were met in lists that were not fetched this time: that lists fail is known anew.
fn quirks_of_others(old: &UpstreamStatus, selection: &ListSelection) -> Vec<(String, String)> {
    let probe = old.probe.as_ref().filter(|_| *selection != ListSelection::All);
    let quirks = probe.into_iter().flat_map(|probe| probe.quirks.iter().zip(&probe.quirk_details));
    let quirks = quirks.filter(|(name, _)| *name != Quirk::ListsFail.as_str());
    quirks.map(|(name, detail)| (name.clone(), detail.clone())).collect()
}

/// The warnings about lists that were not fetched this time.
fn warnings_of_others(old: &UpstreamStatus, selection: &ListSelection) -> Vec<String> {
    let is_of_others = |warning: &&String| {
        let mut fetched =
            [TOOLS, RESOURCES, TEMPLATES, PROMPTS].into_iter().filter(|list| selection.has(list));
        // What is wrong with the credential is known anew.
        !warning.starts_with("credential.") && !fetched.any(|list| warning.starts_with(warned_of(list)))
    };
    old.warnings.iter().filter(|_| *selection != ListSelection::All).filter(is_of_others).cloned().collect()
}

/// The status of an upstream that cannot be used now, after `old`. What is known of it stays.
pub(super) fn failed(old: &UpstreamStatus, failure: Failure, now_us: i64) -> UpstreamStatus {
    let Failure { state: found, reason, attempts } = failure;
    let mut status = changed(old, found, reason, now_us);
    if !attempts.is_empty() {
        status.attempts = attempts;
    }
    status
}

/// A count, as a message has it.
pub(super) fn count(entries: usize) -> i32 {
    i32::try_from(entries).unwrap_or(i32::MAX)
}
