//! What was found of an upstream, in the words of its status: the same whether it is stored or only shown. Pure.
//!
//! It must not know how upstreams are asked, nor what is stored of them.

use trunkline::registry::v1::{UpstreamState, UpstreamStatus};

use super::import::{Import, import};
use super::list_status::{self, add_quirks};
use super::unfit;
use crate::clock;
use crate::importers::{Announced, Failure, Lists, Probed};

/// The result of a probe and an import.
pub(super) struct Imported {
    pub(super) probed: Probed,
    pub(super) lists: Lists,
    pub(super) announced: Announced,
}

impl Imported {
    /// The status of the upstream with this id, after `old`, and the entries that can be imported. They are counted as if
    /// nothing was stored before.
    pub(super) fn status(self, id: &str, old: &UpstreamStatus, now_us: i64) -> (UpstreamStatus, Import) {
        let Self { probed, lists, announced } = self;
        let import = import(id, &lists);
        let unfit = unfit::look(&lists);
        let mut statuses = list_status::statuses(&old.lists, &lists, now_us);
        unfit.count(&mut statuses);
        let mut probe = probed.report;
        let quirks = lists.quirks.into_iter().chain(list_status::failing(&statuses)).chain(unfit.quirks());
        add_quirks(&mut probe, quirks);
        let mut warnings = import.warnings.clone();
        unfit.warn(&mut warnings);
        let status = UpstreamStatus {
            probe: Some(probe),
            attempts: probed.attempts,
            refresh_time: Some(clock::timestamp(now_us)),
            tool_count: count(import.tools.len()),
            resource_count: count(import.resources.len()),
            prompt_count: count(import.prompts.len()),
            change_count: old.change_count + i64::from(announced != Announced::default()),
            tools_change_count: old.tools_change_count + i64::from(announced.tools),
            resources_change_count: old.resources_change_count + i64::from(announced.resources),
            prompts_change_count: old.prompts_change_count + i64::from(announced.prompts),
            warnings,
            ..state(old, UpstreamState::Ready, list_status::reason(&statuses), now_us)
        };
        (UpstreamStatus { lists: statuses, ..status }, import)
    }
}

/// The status of an upstream that cannot be used now, after `old`. What is known of it stays.
pub(super) fn failed(old: &UpstreamStatus, failure: Failure, now_us: i64) -> UpstreamStatus {
    let Failure { state: found, reason, attempts } = failure;
    let mut status = state(old, found, reason, now_us);
    if !attempts.is_empty() {
        status.attempts = attempts;
    }
    status
}

fn state(old: &UpstreamStatus, state: UpstreamState, reason: String, now_us: i64) -> UpstreamStatus {
    let since = old.state_time.filter(|_| old.state() == state);
    UpstreamStatus {
        state: state.into(),
        state_time: since.or_else(|| Some(clock::timestamp(now_us))),
        reason,
        ..old.clone()
    }
}

/// A count, as a message has it.
pub(super) fn count(entries: usize) -> i32 {
    i32::try_from(entries).unwrap_or(i32::MAX)
}
