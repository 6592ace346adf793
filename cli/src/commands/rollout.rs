//! Waiting for a rollout: prints one line per edge, and names the edges that refuse it, with their reasons.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost_reflect::DynamicMessage;
use serde_json::json;

use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::short_name;
use crate::output::{self, progress::Spinner};
use crate::parse;
use crate::reflection;

const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// The wait of a command that is done without the edges.
const SHORT_WAIT: Duration = Duration::from_secs(5);

/// Waits until every connected edge has acknowledged or refused the revision.
pub async fn wait(invocation: &Invocation, client: &ControlClient, revision: i64) -> Result {
    let started = Instant::now();
    let mut rollout = Rollout::default();
    let spinner = start_spinner(revision);
    let follow = follow(client, revision, &mut rollout, |change| {
        if let Some(line) = change.line(started.elapsed()) {
            spinner.println(&line);
        }
    });
    let ended = tokio::time::timeout(invocation.timeout.unwrap_or(DEFAULT_WAIT), follow).await;
    let is_unheard = match rollout.counts {
        Some(_) => rollout.has_none_connected(),
        None => rollout.edges.is_empty(),
    };
    if is_unheard && matches!(ended, Ok(Ok(()))) {
        spinner.println("warning: no edge is connected; edges that connect later start with this revision");
    }
    drop(spinner);
    match ended {
        Ok(ended) => ended?,
        Err(_) => {
            let pending = rollout.who(&["pending"]);
            let who = if pending.is_empty() { "the control plane".to_owned() } else { pending };
            let advice = match rollout.counts {
                Some(_) => "",
                None => "; run `mcpctl get edges` for details",
            };
            return Err(Error::new(
                Exit::Unavailable,
                format!("revision {revision} is stored, but {who} did not respond in time{advice}"),
            ));
        }
    }
    rollout.result()
}

/// Waits a moment until every connected edge has acknowledged the revision, so that `what` works at once. It is stored
/// already, so nothing fails here: edges that lag are named.
pub async fn wait_briefly(invocation: &Invocation, client: &ControlClient, revision: i64, what: &str) {
    let seen = follow_briefly(invocation, client, revision).await;
    warn(seen.map(|rollout| rollout.shortfall(what)), &format!("whether {what} works"));
}

/// Waits a moment until every connected edge knows that a token is not valid any more, and names those that may go on with it.
pub async fn wait_for_revocation(invocation: &Invocation, client: &ControlClient, revision: i64) {
    let seen = follow_briefly(invocation, client, revision).await;
    warn(seen.map(|rollout| rollout.unaware()), "whether they know of it");
}

/// Follows a rollout for a moment. Returns how far it went.
async fn follow_briefly(invocation: &Invocation, client: &ControlClient, revision: i64) -> Result<Rollout> {
    let mut rollout = Rollout::default();
    let spinner = start_spinner(revision);
    let follow = follow(client, revision, &mut rollout, |_| ());
    let ended = tokio::time::timeout(invocation.timeout.unwrap_or(SHORT_WAIT), follow).await;
    drop(spinner);
    ended.unwrap_or(Ok(())).map(|()| rollout)
}

/// Says what is missing, or that it could not be found out.
fn warn(missing: Result<Option<String>>, question: &str) {
    match missing {
        Ok(None) => {}
        Ok(Some(missing)) => output::eprint(format!("warning: {missing}")),
        // Whoever may not see the edges did not ask about them either.
        Err(error) if error.is_denied() => {}
        Err(error) => {
            output::eprint(format!("warning: the edges could not be asked {question}: {error}"));
        }
    }
}

/// Looks for a while whether every connected edge has acknowledged the revision. Returns what is missing; `None`: nothing.
pub async fn missing(client: &ControlClient, revision: i64, limit: Duration) -> Result<Option<String>> {
    let mut rollout = Rollout::default();
    let follow = follow(client, revision, &mut rollout, |_| ());
    if let Ok(ended) = tokio::time::timeout(limit, follow).await {
        ended?;
    }
    Ok(rollout.shortfall("it").map(|shortfall| format!("is not on every edge: {shortfall}")))
}

fn start_spinner(revision: i64) -> Spinner {
    Spinner::start(format!("waiting for the edges to acknowledge revision {revision}"))
}

async fn follow(
    client: &ControlClient,
    revision: i64,
    rollout: &mut Rollout,
    mut on_change: impl FnMut(Change),
) -> Result {
    let request = json!({ "revision": revision });
    let mut stream = client.stream("trunkline.discovery.v1.FleetService/WatchRollout", request).await?;
    while let Some(message) = stream.message().await.map_err(|status| client.explain(&status))? {
        if let Some(change) = rollout.update(&message) {
            on_change(change);
        }
    }
    Ok(())
}

/// A new state of an edge in a rollout, or of all edges where they are not named.
struct Change {
    /// Who, in words.
    edge: String,
    state: String,
    refusals: Vec<String>,
}

impl Change {
    /// The line that tells it; none for a state in between.
    fn line(&self, elapsed: Duration) -> Option<String> {
        let edge = &self.edge;
        match self.state.as_str() {
            "acknowledged" => Some(format!("{edge} acknowledged after {} ms", elapsed.as_millis())),
            "refused" => Some(format!("{edge} refused {}", refused(&self.refusals))),
            "disconnected" => Some(format!("{edge} is disconnected and was not waited for")),
            _ => None,
        }
    }
}

/// What is refused, in words.
fn refused(refusals: &[String]) -> String {
    match refusals {
        [] => "something that is not yours to see".to_owned(),
        refusals => refusals.join("; "),
    }
}

/// The state of each edge in a rollout.
#[derive(Debug, Default)]
struct Rollout {
    edges: BTreeMap<String, (String, Vec<String>)>,
    /// How many are in which state, where the control plane does not name them to whoever asks.
    counts: Option<EdgeCounts>,
}

/// How many edges are in which state, and what they refuse.
#[derive(Debug, Default, PartialEq, Eq)]
struct EdgeCounts {
    of: BTreeMap<&'static str, i64>,
    refusals: Vec<String>,
}

/// The states in which edges are counted.
const STATES: [&str; 4] = ["pending", "acknowledged", "refused", "disconnected"];
/// Those of them that are not connected.
const AWAY: &str = "disconnected";

impl EdgeCounts {
    fn read(counts: &DynamicMessage, refusals: Vec<String>) -> Self {
        Self { of: STATES.map(|state| (state, reflection::number(counts, state))).into(), refusals }
    }

    fn in_states(&self, states: &[&str]) -> i64 {
        states.iter().filter_map(|state| self.of.get(state)).sum()
    }

    fn connected(&self) -> i64 {
        self.in_states(&["pending", "acknowledged", "refused"])
    }
}

impl Rollout {
    /// Records a message. Returns the state of the edge, if it changed.
    fn update(&mut self, message: &DynamicMessage) -> Option<Change> {
        let edge = reflection::submessage(message, "edge");
        let state = reflection::enum_word(message, "state");
        let refusals: Vec<_> = edge.iter().flat_map(refusals_of).collect();
        if let Some(counts) = reflection::submessage(message, "counts") {
            let counts = EdgeCounts::read(&counts, refusals.clone());
            let edge = parse::counted(counts.in_states(&[state.as_str()]), "edge");
            let before = self.counts.replace(counts);
            return (before != self.counts && state != AWAY).then_some(Change { edge, state, refusals });
        }
        let name = reflection::text(&edge?, "name");
        let before = self.edges.insert(name.clone(), (state.clone(), refusals.clone()));
        before.is_none_or(|(old, _)| old != state).then_some(Change { edge: name, state, refusals })
    }

    /// Where `what` does not work yet, as far as the rollout went.
    fn shortfall(&self, what: &str) -> Option<String> {
        let pending = self.who(&["pending"]);
        if !pending.is_empty() {
            return Some(format!("not acknowledged yet by {pending}; {what} works there as soon as it is"));
        }
        if self.has_none_connected() {
            return Some(format!("no edge is connected; {what} works at those that connect later"));
        }
        self.result().err().map(|error| error.to_string())
    }

    /// Who may not know of a revocation, as far as the rollout went.
    fn unaware(&self) -> Option<String> {
        const UNTIL: &str =
            "until it hears of this, for --trust-max-age of the control plane at most (24h unless set)";
        let who = self.who(&["pending", AWAY]);
        if !who.is_empty() {
            return Some(format!(
                "not acknowledged by {who}, which may go on accepting the token: each {UNTIL}"
            ));
        }
        if self.has_none_connected() {
            return Some(format!(
                "no edge is connected; one that runs without reaching the control plane may go on accepting the token {UNTIL}"
            ));
        }
        self.result().err().map(|error| error.to_string())
    }

    /// Whether no edge is connected, as far as the rollout went.
    fn has_none_connected(&self) -> bool {
        match &self.counts {
            Some(counts) => counts.connected() == 0,
            None => self.in_state(AWAY).len() == self.edges.len(),
        }
    }

    /// Who is in one of these states, in words; empty: nobody.
    fn who(&self, states: &[&str]) -> String {
        match &self.counts {
            Some(counts) => match counts.in_states(states) {
                0 => String::new(),
                count => parse::counted(count, "edge"),
            },
            None => states.iter().flat_map(|state| self.in_state(state)).collect::<Vec<_>>().join(", "),
        }
    }

    fn in_state(&self, state: &str) -> Vec<String> {
        self.edges.iter().filter(|(_, (s, _))| s == state).map(|(name, _)| name.clone()).collect()
    }

    fn result(&self) -> Result {
        let refused = match &self.counts {
            Some(counts) if counts.in_states(&["refused"]) > 0 => {
                format!("{} refused {}", self.who(&["refused"]), refused(&counts.refusals))
            }
            Some(_) => String::new(),
            None => {
                let edges = self.edges.iter().filter(|(_, (state, _))| state == "refused");
                let edges = edges
                    .map(|(name, (_, why))| format!("edge {} refused {}", short_name(name), refused(why)));
                edges.collect::<Vec<_>>().join(", ")
            }
        };
        match refused.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::new(Exit::Refused, format!("{refused}; it keeps serving the last good version")))
            }
        }
    }
}

/// What an edge refuses, and why.
fn refusals_of(edge: &DynamicMessage) -> Vec<String> {
    let refusals = reflection::submessages(edge, "refusals").into_iter();
    let refusals = refusals.filter_map(|refusal| reflection::submessage(&refusal, "refusal"));
    let line = |refusal: DynamicMessage| {
        format!("{}: {}", reflection::text(&refusal, "name"), reflection::text(&refusal, "reason"))
    };
    refusals.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(state: &str, refusals: serde_json::Value) -> DynamicMessage {
        let descriptor = reflection::message("trunkline.discovery.v1.WatchRolloutResponse");
        let json = json!({"state": format!("ROLLOUT_STATE_{state}"), "edge": {"name": "edges/e1", "refusals": refusals}});
        reflection::from_json(descriptor, json).unwrap()
    }

    #[test]
    fn one_line_an_edge_and_the_refusal_by_name() {
        let mut rollout = Rollout::default();
        let line = |change: Option<Change>| change?.line(Duration::from_millis(34));
        assert_eq!(line(rollout.update(&message("PENDING", json!([])))), None);
        assert_eq!(rollout.in_state("pending"), ["edges/e1"]);
        assert_eq!(
            line(rollout.update(&message("ACKNOWLEDGED", json!([])))).unwrap(),
            "edges/e1 acknowledged after 34 ms"
        );
        assert_eq!(line(rollout.update(&message("ACKNOWLEDGED", json!([])))), None);
        assert!(rollout.result().is_ok());
        let refusals = json!([{"refusal": {"name": "servers/dev", "reason": "a schema is no JSON"}}]);
        rollout.update(&message("REFUSED", refusals));
        let error = rollout.result().unwrap_err();
        assert_eq!(error.exit, Exit::Refused);
        assert!(error.to_string().starts_with("edge e1 refused servers/dev: a schema is no JSON"), "{error}");
    }

    #[test]
    fn edges_that_are_not_named_are_counted() {
        let mut rollout = Rollout::default();
        let mut told = |state: &str, counts: serde_json::Value, refusals: serde_json::Value| {
            let json = json!({ "edge": {"refusals": refusals}, "state": format!("ROLLOUT_STATE_{state}"), "counts": counts });
            let descriptor = reflection::message("trunkline.discovery.v1.WatchRolloutResponse");
            let change = rollout.update(&reflection::from_json(descriptor, json).unwrap());
            let line = change.and_then(|change| change.line(Duration::from_millis(34))).unwrap_or_default();
            let texts = [rollout.shortfall("the bearer"), rollout.unaware()].map(Option::unwrap_or_default);
            (line, texts.map(|text| text.split(';').next().unwrap_or_default().to_owned()))
        };
        let until = "which may go on accepting the token: each until it hears of this, for --trust-max-age of the control plane at \
                     most (24h unless set)";
        let (line, [short, unaware]) =
            told("PENDING", json!({"pending": 1, "acknowledged": 1, "disconnected": 1}), json!([]));
        assert_eq!((line.as_str(), short.as_str()), ("", "not acknowledged yet by 1 edge"));
        assert_eq!(unaware, format!("not acknowledged by 2 edges, {until}"));
        let (line, rest) = told("ACKNOWLEDGED", json!({"acknowledged": 2}), json!([]));
        assert_eq!(line, "2 edges acknowledged after 34 ms");
        assert_eq!(rest, [String::new(), String::new()]);
        let (line, [short, _]) = told("DISCONNECTED", json!({"disconnected": 1}), json!([]));
        assert_eq!((line.as_str(), short.as_str()), ("", "no edge is connected"));
        let refusal = json!([{"refusal": {"name": "servers/dev", "reason": "a schema is no JSON"}}]);
        let (line, [short, _]) = told("REFUSED", json!({"acknowledged": 1, "refused": 1}), refusal);
        assert_eq!(line, "1 edge refused servers/dev: a schema is no JSON");
        assert_eq!(short, "1 edge refused servers/dev: a schema is no JSON");
        let (line, _) = told("REFUSED", json!({"refused": 2}), json!([]));
        assert_eq!(line, "2 edges refused something that is not yours to see");
    }

    #[test]
    fn the_edges_where_it_does_not_work_yet_are_named() {
        let mut rollout = Rollout::default();
        let shortfall = |rollout: &Rollout| rollout.shortfall("the bearer").unwrap_or_default();
        assert_eq!(shortfall(&rollout), "no edge is connected; the bearer works at those that connect later");
        for (state, starts) in [
            ("PENDING", "not acknowledged yet by edges/e1; the bearer works there"),
            ("DISCONNECTED", "no edge is connected; the bearer works at"),
            ("REFUSED", "edge e1 refused servers/dev: a schema is no JSON"),
            ("ACKNOWLEDGED", ""),
        ] {
            let refusal = json!([{"refusal": {"name": "servers/dev", "reason": "a schema is no JSON"}}]);
            rollout.update(&message(state, if state == "REFUSED" { refusal } else { json!([]) }));
            let said = shortfall(&rollout);
            assert!(said.starts_with(starts) && said.is_empty() == starts.is_empty(), "{state}: {said}");
        }
    }

    #[test]
    fn edges_that_may_not_know_of_a_revocation_are_named() {
        let mut rollout = Rollout::default();
        let unaware = |rollout: &Rollout| rollout.unaware().unwrap_or_default();
        assert!(unaware(&rollout).starts_with("no edge is connected; one that runs without"));
        for (state, starts) in [
            ("PENDING", "not acknowledged by edges/e1, which may go on accepting the token: each until"),
            ("DISCONNECTED", "not acknowledged by edges/e1, "),
            ("ACKNOWLEDGED", ""),
        ] {
            rollout.update(&message(state, json!([])));
            let said = unaware(&rollout);
            assert!(said.starts_with(starts) && said.is_empty() == starts.is_empty(), "{state}: {said}");
        }
    }
}
