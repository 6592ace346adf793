//! Waiting for a rollout: prints one line per edge, and names the edges that refuse it, with their reasons.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost_reflect::DynamicMessage;
use serde_json::json;

use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::short_name;
use crate::output::progress::Spinner;
use crate::reflection;

const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// Waits until every connected edge has acknowledged or refused the revision.
pub async fn wait(invocation: &Invocation, client: &ControlClient, revision: i64) -> Result {
    let started = Instant::now();
    let mut rollout = Rollout::default();
    let spinner = Spinner::start(format!("waiting for the edges to acknowledge revision {revision}"));
    let follow = follow(client, revision, started, &mut rollout, &spinner);
    let ended = tokio::time::timeout(invocation.timeout.unwrap_or(DEFAULT_WAIT), follow).await;
    drop(spinner);
    match ended {
        Ok(ended) => ended?,
        Err(_) => {
            let pending = rollout.in_state("pending").join(", ");
            let who = if pending.is_empty() { "the control plane".to_owned() } else { pending };
            return Err(Error::new(
                Exit::Unavailable,
                format!(
                    "revision {revision} is stored, but {who} did not respond in time; run `mcpctl get edges` for details"
                ),
            ));
        }
    }
    rollout.result()
}

async fn follow(
    client: &ControlClient,
    revision: i64,
    started: Instant,
    rollout: &mut Rollout,
    spinner: &Spinner,
) -> Result {
    let request = json!({ "revision": revision });
    let mut stream = client.stream("trunkline.discovery.v1.FleetService/WatchRollout", request).await?;
    while let Some(message) = stream.message().await.map_err(|status| client.explain(&status))? {
        if let Some(line) = rollout.update(&message, started.elapsed()) {
            spinner.println(&line);
        }
    }
    if rollout.edges.is_empty() {
        spinner.println("warning: no edge is connected; edges that connect later start with this revision");
    }
    Ok(())
}

/// The state of each edge in a rollout.
#[derive(Debug, Default)]
struct Rollout {
    edges: BTreeMap<String, (String, Vec<String>)>,
}

impl Rollout {
    /// Records a message. Returns the line to print, if the state of the edge changed.
    fn update(&mut self, message: &DynamicMessage, elapsed: Duration) -> Option<String> {
        let edge = reflection::submessage(message, "edge")?;
        let name = reflection::text(&edge, "name");
        let state = reflection::enum_word(message, "state");
        let refusals: Vec<_> = reflection::submessages(&edge, "refusals")
            .iter()
            .filter_map(|refusal| reflection::submessage(refusal, "refusal"))
            .map(|refusal| {
                format!("{}: {}", reflection::text(&refusal, "name"), reflection::text(&refusal, "reason"))
            })
            .collect();
        let line = match state.as_str() {
            "acknowledged" => format!("{name} acknowledged after {} ms", elapsed.as_millis()),
            "refused" => format!("{name} refused {}", refusals.join("; ")),
            "disconnected" => format!("{name} is disconnected and was not waited for"),
            _ => String::new(),
        };
        let before = self.edges.insert(name, (state.clone(), refusals));
        (!line.is_empty() && before.is_none_or(|(old, _)| old != state)).then_some(line)
    }

    fn in_state(&self, state: &str) -> Vec<String> {
        self.edges.iter().filter(|(_, (s, _))| s == state).map(|(name, _)| name.clone()).collect()
    }

    fn result(&self) -> Result {
        let refused: Vec<_> = self
            .edges
            .iter()
            .filter(|(_, (state, _))| state == "refused")
            .map(|(name, (_, why))| format!("edge {} refused {}", short_name(name), why.join("; ")))
            .collect();
        match refused.is_empty() {
            true => Ok(()),
            false => Err(Error::new(
                Exit::Refused,
                format!("{}; it keeps serving the last good version", refused.join(", ")),
            )),
        }
    }
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
        let after = Duration::from_millis(34);
        assert_eq!(rollout.update(&message("PENDING", json!([])), after), None);
        assert_eq!(rollout.in_state("pending"), ["edges/e1"]);
        assert_eq!(
            rollout.update(&message("ACKNOWLEDGED", json!([])), after).unwrap(),
            "edges/e1 acknowledged after 34 ms"
        );
        assert_eq!(rollout.update(&message("ACKNOWLEDGED", json!([])), after), None);
        assert!(rollout.result().is_ok());
        let refusals = json!([{"refusal": {"name": "servers/dev", "reason": "a schema is no JSON"}}]);
        rollout.update(&message("REFUSED", refusals), after);
        let error = rollout.result().unwrap_err();
        assert_eq!(error.exit, Exit::Refused);
        assert!(error.to_string().starts_with("edge e1 refused servers/dev: a schema is no JSON"), "{error}");
    }
}
