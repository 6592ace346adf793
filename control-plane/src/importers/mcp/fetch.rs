//! Fetches the catalogue of an MCP server: its lists, all at once, each over all its pages and on its own. What fails so is asked
//! for once more in turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcp::client::{ClientError, Listing, Session};
use mcp::error::{INVALID_PARAMS, METHOD_NOT_FOUND};
use mcp::method::Method;
use mcp::quirk::Quirk;

use super::{Failure, FetchedList, Lists, broken};
use crate::importers::{ListSelection, PROMPTS, RESOURCES, TEMPLATES, TOOLS, described};

/// The lists of a server, and the capabilities with which it declares them.
const LISTS: [(Method, &str); 4] = [
    (Method::ToolsList, "tools"),
    (Method::ResourcesList, "resources"),
    (Method::ResourcesTemplatesList, "resources"),
    (Method::PromptsList, "prompts"),
];
/// The maximum number of entries of a list.
const MAX_ENTRIES: usize = 20_000;

/// The reason why there is no catalogue.
pub(super) enum NotFetched {
    /// The server has forgotten the session.
    SessionLost,
    /// No list could be read.
    Failed(Failure),
}

/// A list that was asked for, and the error that it has as its trouble.
#[derive(Default)]
struct Answer {
    list: FetchedList,
    error: Option<ClientError>,
}

/// Fetches what is selected of what the server offers. A session that was just opened is not lost, whatever the server says: one
/// without pings refuses them in the words in which it refuses a list.
pub(super) async fn lists(
    session: &Session,
    capabilities: &str,
    selection: &ListSelection,
    is_new: bool,
) -> Result<Lists, NotFetched> {
    let list = |method: Method, capability| async move {
        match selection.has(method.as_str()) {
            true => list(session, capabilities, method, capability).await,
            false => Answer::default(),
        }
    };
    let [tools, resources, templates, prompts] = LISTS.map(|(method, capability)| list(method, capability));
    let (tools, resources, templates, prompts) = tokio::join!(tools, resources, templates, prompts);
    let mut answers = [tools, resources, templates, prompts];
    let undeclared = !answers[0].list.asked && selection.has(TOOLS);
    if undeclared {
        answers[0] = undeclared_tools(session, is_new).await;
    }
    if !is_new && is_session_lost(&answers) {
        return Err(NotFetched::SessionLost);
    }
    ask_in_turn(session, capabilities, &mut answers).await;
    if let Some(failed) = failure(&answers, selection) {
        return Err(failed);
    }
    let [tools, resources, templates, prompts] = answers.map(|answer| answer.list);
    let mut quirks: BTreeMap<_, _> =
        session.quirks().iter().map(|note| described(note.quirk, &note.first)).collect();
    if undeclared && tools.asked {
        quirks.extend([described(Quirk::UndeclaredLists, "")]);
    }
    let secrets = Arc::clone(session.secrets());
    Ok(Lists { tools, resources, templates, prompts, quirks, secrets })
}

async fn list(session: &Session, capabilities: &str, method: Method, capability: &str) -> Answer {
    if !has(capabilities, capability) {
        return Answer::default();
    }
    let Listing { entries, trouble: error } = session.list(method, MAX_ENTRIES).await;
    // Many servers have resources and know nothing of templates, and some declare more than they have.
    let error =
        error.filter(|error| !matches!(error, ClientError::Rpc { code, .. } if *code == METHOD_NOT_FOUND));
    let trouble = trouble_of(error.as_ref());
    Answer { list: FetchedList { asked: true, entries, trouble }, error }
}

/// Asks once more for lists that failed while others were asked for, one after the other: some servers take one request at a time.
async fn ask_in_turn(session: &Session, capabilities: &str, answers: &mut [Answer; 4]) {
    if answers.iter().filter(|answer| answer.list.asked).count() < 2 {
        return;
    }
    for (answer, (method, capability)) in answers.iter_mut().zip(LISTS) {
        if answer.error.clone().is_some_and(may_be_of_haste) {
            let again = list(session, capabilities, method, capability).await;
            if again.error.is_none() {
                *answer = again;
            }
        }
    }
}

/// Whether a server may say so because it is at work on another request.
fn may_be_of_haste(error: ClientError) -> bool {
    match error.as_refused() {
        ClientError::Http { status, .. } => matches!(status, 409 | 429 | 500..),
        ClientError::Rpc { code, .. } => code != INVALID_PARAMS,
        _ => false,
    }
}

/// Asks a server for its tools that does not declare them: some that have tools do not say so.
async fn undeclared_tools(session: &Session, is_new: bool) -> Answer {
    let Listing { entries, trouble } = session.list(Method::ToolsList, MAX_ENTRIES).await;
    match trouble {
        Some(error) if !is_new && error.is_session_lost() => {
            Answer { error: Some(error), ..Answer::default() }
        }
        _ if entries.is_empty() => Answer::default(),
        trouble => {
            let reason = trouble_of(trouble.as_ref());
            Answer { list: FetchedList { asked: true, entries, trouble: reason }, error: trouble }
        }
    }
}

fn trouble_of(error: Option<&ClientError>) -> Option<String> {
    error.map(|error| error.clone().as_refused().to_string())
}

/// Whether the server has forgotten the session: not where it has answered for a list in it.
fn is_session_lost(answers: &[Answer; 4]) -> bool {
    let is_answered = |answer: &Answer| answer.list.asked && answer.error.is_none();
    let is_lost = |answer: &Answer| answer.error.as_ref().is_some_and(ClientError::is_session_lost);
    answers.iter().any(is_lost) && !answers.iter().any(is_answered)
}

/// The failure of the whole, if nothing came of any list. Of some lists alone it is one only where the server cannot be reached:
/// what else they fail of is theirs.
fn failure(answers: &[Answer; 4], selection: &ListSelection) -> Option<NotFetched> {
    if *selection != ListSelection::All {
        let mut errors = answers.iter().filter_map(|answer| answer.error.as_ref());
        let unreachable = errors.find(|error| matches!(error, ClientError::Unreachable(_)))?;
        return Some(NotFetched::Failed(broken(unreachable.clone())));
    }
    let mut asked =
        answers.iter().zip([TOOLS, RESOURCES, TEMPLATES, PROMPTS]).filter(|(answer, _)| answer.list.asked);
    let (first, method) = asked.clone().next()?;
    if !asked.all(|(answer, _)| answer.error.is_some() && answer.list.entries.is_empty()) {
        return None;
    }
    let Failure { state, reason, .. } = broken(first.error.clone()?.as_refused());
    Some(NotFetched::Failed(Failure::new(state, format!("{method}: {reason}"))))
}

fn has(capabilities: &str, capability: &str) -> bool {
    matches!(mcp::json::members(capabilities, [capability]), Ok([Some(raw)]) if !matches!(raw, "null" | "false"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answers(error: Option<ClientError>) -> [Answer; 4] {
        let trouble = error.as_ref().map(ToString::to_string);
        let prompts = Answer { list: FetchedList { asked: true, entries: Vec::new(), trouble }, error };
        [Answer::default(), Answer::default(), Answer::default(), prompts]
    }

    #[test]
    fn a_few_lists_that_fail_are_no_failure_of_the_whole() {
        let only = ListSelection::Only([PROMPTS.to_owned()].into());
        let timeout = || Some(ClientError::Timeout(Duration::from_secs(1)));
        assert!(failure(&answers(None), &only).is_none());
        assert!(failure(&answers(timeout()), &only).is_none());
        assert!(matches!(failure(&answers(timeout()), &ListSelection::All), Some(NotFetched::Failed(_))));
        let unreachable = failure(&answers(Some(ClientError::Unreachable("refused".to_owned()))), &only);
        assert!(matches!(unreachable, Some(NotFetched::Failed(_))));
    }
}
