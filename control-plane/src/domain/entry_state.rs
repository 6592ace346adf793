//! The states of tools, resources and prompts. Pure.

use mcp::entry::{Fit, List, fit};
use mcp::revision::Era;
use trunkline::registry::v1::EntryState;

use super::{Catalogue, names};

/// A tool, resource, resource template or prompt, in so far as its state follows from it.
pub(super) struct EntryFacts<'a> {
    pub(super) name: &'a str,
    pub(super) disabled: bool,
    pub(super) stale: bool,
    pub(super) list: List,
    pub(super) definition: &'a str,
}

impl EntryFacts<'_> {
    /// Its state, and why it is not ready.
    pub(super) fn state(&self, catalogue: &Catalogue) -> (EntryState, String) {
        if self.stale {
            return (EntryState::Stale, "its upstream no longer lists it".to_owned());
        }
        if self.disabled {
            return (EntryState::Disabled, "it is disabled".to_owned());
        }
        let upstream = names::upstream_id(self.name).unwrap_or_default();
        if catalogue.upstreams(upstream).any(|upstream| upstream.disabled) {
            return (EntryState::Disabled, format!("upstreams/{upstream} is disabled"));
        }
        match self.withheld() {
            Some(reason) => (EntryState::Withheld, reason),
            None => (EntryState::Ready, String::new()),
        }
    }

    /// Why clients are not shown it.
    fn withheld(&self) -> Option<String> {
        let reason = |era| match fit(self.list, era, self.definition) {
            Fit::Withheld(note) => Some(note.to_string()),
            Fit::Valid | Fit::Mended { .. } => None,
        };
        match (reason(Era::Legacy), reason(Era::Modern)) {
            (Some(legacy), Some(_)) => Some(legacy),
            (Some(legacy), None) => Some(format!("withheld from clients with sessions: {legacy}")),
            (None, Some(modern)) => Some(format!("withheld from clients without sessions: {modern}")),
            (None, None) => None,
        }
    }
}

/// What the rules of tools, resources and prompts have in common. `$list` says of which list one is.
macro_rules! entry_rules {
    ($list:expr) => {
        const COMPUTED: &'static [&'static str] = &["state", "reason"];
        fn evaluate(&mut self, around: &$crate::domain::Surroundings<'_>) {
            let list: fn(&Self) -> mcp::entry::List = $list;
            let facts = $crate::domain::entry_state::EntryFacts {
                name: &self.name,
                disabled: self.disabled,
                stale: self.stale_time.is_some(),
                list: list(self),
                definition: &self.definition_json,
            };
            let (state, reason) = facts.state(around.catalogue);
            self.set_state(state);
            self.reason = reason;
        }
    };
}
pub(super) use entry_rules;

#[cfg(test)]
mod tests {
    use trunkline::registry::v1::Upstream;

    use super::*;

    fn state(stale: bool, disabled: bool, upstream_disabled: bool, definition: &str) -> (EntryState, String) {
        let mut catalogue = Catalogue::default();
        let name = "upstreams/up".to_owned();
        catalogue.put_upstream(&Upstream { name, disabled: upstream_disabled, ..Default::default() });
        let name = "upstreams/up/tools/t";
        EntryFacts { name, disabled, stale, list: List::Tools, definition }.state(&catalogue)
    }

    #[test]
    fn an_entry_is_ready_that_servers_can_expose() {
        let sane = r#"{"name":"t","inputSchema":{"type":"object"}}"#;
        assert_eq!(state(false, false, false, sane), (EntryState::Ready, String::new()));
        assert_eq!(state(true, true, true, sane).0, EntryState::Stale);
        assert_eq!(state(false, true, false, sane), (EntryState::Disabled, "it is disabled".to_owned()));
        let (state_of_disabled, reason) = state(false, false, true, sane);
        assert_eq!((state_of_disabled, &*reason), (EntryState::Disabled, "upstreams/up is disabled"));
        let (withheld, reason) = state(false, false, false, r#"{"name":"t","inputSchema":"{}"}"#);
        assert_eq!(withheld, EntryState::Withheld);
        assert!(reason.starts_with("inputSchema "), "{reason}");
    }
}
