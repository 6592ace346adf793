//! The path of a call, by the eras of client and upstream, and by whether it concerns a task.

use std::rc::Rc;

use mcp::revision::Era;

use crate::session::{Conversation, Session};

/// The path of a call.
#[derive(Debug)]
pub(super) enum Path<'a> {
    /// A legacy client calls a legacy upstream.
    SameLegacy(&'a Rc<Conversation>),
    /// A modern client calls a modern upstream.
    SameModern,
    /// A legacy client calls a modern upstream.
    LegacyOnModern(&'a Rc<Conversation>),
    /// A modern client calls a legacy upstream.
    ModernOnLegacy,
    /// A modern client asks about a task of a legacy upstream.
    ModernAboutLegacyTask,
}

/// Returns the path of a call in this session; `None` where there is none.
pub(super) fn route(session: &Session, upstream: Era, about_task: bool) -> Option<Path<'_>> {
    match (session, upstream, about_task) {
        (Session::Legacy(conversation), Era::Legacy, _) => Some(Path::SameLegacy(conversation)),
        (Session::Modern(_), Era::Modern, _) => Some(Path::SameModern),
        (Session::Legacy(conversation), Era::Modern, false) => Some(Path::LegacyOnModern(conversation)),
        (Session::Modern(_), Era::Legacy, false) => Some(Path::ModernOnLegacy),
        (Session::Modern(_), Era::Legacy, true) => Some(Path::ModernAboutLegacyTask),
        // Legacy clients are given no tasks of modern upstreams.
        (Session::Legacy(_), Era::Modern, true) => None,
        // Nothing is called in the request that opens a session.
        (Session::Opening, ..) => None,
    }
}

#[cfg(test)]
mod tests {
    use mcp::revision::Revision;

    use super::*;
    use crate::session::capabilities::Capabilities;

    #[test]
    fn every_pair_of_eras_has_its_path() {
        let modern = Session::Modern(Revision::LATEST);
        let conversation = Conversation::begin(Revision::LATEST_LEGACY, Capabilities::default(), "c/1", 0, 1);
        let legacy = Session::Legacy(Rc::new(conversation));
        let cases = [
            (&legacy, Era::Legacy, false, "Some(SameLegacy)"),
            (&legacy, Era::Legacy, true, "Some(SameLegacy)"),
            (&legacy, Era::Modern, false, "Some(LegacyOnModern)"),
            (&legacy, Era::Modern, true, "None"),
            (&modern, Era::Modern, false, "Some(SameModern)"),
            (&modern, Era::Modern, true, "Some(SameModern)"),
            (&modern, Era::Legacy, false, "Some(ModernOnLegacy)"),
            (&modern, Era::Legacy, true, "Some(ModernAboutLegacyTask)"),
            (&Session::Opening, Era::Legacy, false, "None"),
            (&Session::Opening, Era::Modern, true, "None"),
        ];
        for (session, upstream, about_task, path) in cases {
            let found = format!("{:?}", route(session, upstream, about_task));
            assert!(found.starts_with(path.trim_end_matches(')')), "{found}, not {path}");
        }
    }
}
