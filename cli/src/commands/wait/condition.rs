//! What can be waited for. Pure.

use std::fmt;

use prost_reflect::{DynamicMessage, EnumDescriptor};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::output::path::{self, FieldPath};
use crate::reflection;
use crate::suggest::did_you_mean;

const FORMS: &str = "state=STATE, deleted, synced, revision=N or jsonpath='{.PATH}'=VALUE";

/// A condition of a resource.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// It is in this state.
    State(String),
    /// It does not exist.
    Deleted,
    /// Every edge that is connected has it as it is; of an edge: it has everything.
    Synced,
    /// It was written at this revision or later; of an edge: it has acknowledged that.
    Revision(i64),
    /// A field of it has this value, or one at all.
    Field { path: Box<FieldPath>, value: Option<String>, written: String },
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, "state={state}"),
            Self::Deleted => f.write_str("deleted"),
            Self::Synced => f.write_str("synced"),
            Self::Revision(revision) => write!(f, "revision={revision}"),
            Self::Field { written, .. } => f.write_str(written),
        }
    }
}

impl Condition {
    /// Reads a condition of the command line.
    pub(super) fn parse(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            None if matches!(text, "deleted" | "delete") => Ok(Self::Deleted),
            None if text == "synced" => Ok(Self::Synced),
            Some(("state", state)) if !state.is_empty() => {
                Ok(Self::State(state.to_lowercase().replace('_', "-")))
            }
            Some(("revision", revision)) => match revision.parse() {
                Ok(revision) => Ok(Self::Revision(revision)),
                Err(_) => Err(format!("{revision:?} is not a revision; use a number")),
            },
            Some(("jsonpath", path)) => field(path, text),
            Some(("condition", _)) => Err(format!("resources have a state and no conditions; use {FORMS}")),
            None if text == "create" => Err(format!(
                "a resource that does not exist yet is waited for with every condition; use {FORMS}"
            )),
            _ => Err(format!("use {FORMS}")),
        }
    }

    /// Refuses what resources of a kind never are.
    pub(super) fn check(&self, kind: &Kind) -> Result {
        let state = match self {
            Self::State(state) => state,
            Self::Field { path, .. } => {
                return path.check(&reflection::message(kind.message)).map_err(Error::usage);
            }
            _ => return Ok(()),
        };
        let states = states(kind);
        if states.is_empty() {
            return Err(Error::usage(format!("{} have no state to wait for; use {FORMS}", kind.plural)));
        }
        if states.iter().any(|known| is_state(kind, state, known)) {
            return Ok(());
        }
        let hint = did_you_mean(state, states.iter().map(String::as_str));
        Err(Error::usage(format!(
            "{} are never {state}; their states: {}{hint}",
            kind.plural,
            states.join(", ")
        )))
    }

    /// Tells what is there instead of what is waited for; `None`: it is as it should be. What edges have is not known here.
    pub(super) fn missing(&self, kind: &Kind, item: &DynamicMessage) -> Option<String> {
        match self {
            Self::State(wanted) => {
                let (state, reason) = reflection::state(item);
                (!is_state(kind, wanted, &state)).then(|| match reason.as_str() {
                    "" => format!("is {state}"),
                    reason => format!("is {state} ({reason})"),
                })
            }
            Self::Deleted => Some("exists".to_owned()),
            Self::Synced => None,
            Self::Revision(wanted) => {
                let revision = revision(kind, item);
                (revision < *wanted).then(|| format!("is at revision {revision}"))
            }
            Self::Field { path, value, .. } => {
                // A value may be the default; a field that has it is not there for whoever waits for any value.
                let seen = match value {
                    Some(_) => reflection::to_queried_json(item),
                    None => reflection::to_plain_json(item),
                };
                let missing = missing_value(path, value.as_deref(), &seen)?;
                // Enum values may be called by their full names as well.
                missing_value(path, value.as_deref(), &reflection::to_json(item)).map(|_| missing)
            }
        }
    }
}

/// Reads `'{.PATH}'=VALUE` or `'{.PATH}'`.
fn field(text: &str, whole: &str) -> std::result::Result<Condition, String> {
    let (path, value) = match text.split_once("}=") {
        Some((path, value)) => (path.strip_prefix('{').unwrap_or(path), Some(value)),
        None => match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(path) => (path, None),
            None => return Err(format!("{text:?} is not a path and a value; use {FORMS}")),
        },
    };
    let read = FieldPath::parse(path).map_err(|error| error.to_string())?;
    let value = value.map(|value| value.trim_matches('"').to_owned());
    Ok(Condition::Field { path: Box::new(read), value, written: whole.to_owned() })
}

fn missing_value(path: &FieldPath, wanted: Option<&str>, item: &Value) -> Option<String> {
    let found: Vec<_> = path.values(item, item).into_iter().map(path::text).collect();
    let holds = match wanted {
        Some(wanted) => found.iter().any(|value| value == wanted),
        None => !found.is_empty(),
    };
    (!holds).then(|| match found.is_empty() {
        true => "has no such field".to_owned(),
        false if found.iter().all(String::is_empty) => "has \"\"".to_owned(),
        false => format!("has {}", found.join(", ")),
    })
}

/// The revision of the last write; of an edge, the last that it acknowledged.
pub(super) fn revision(kind: &Kind, item: &DynamicMessage) -> i64 {
    match kind.name {
        "Edge" => reflection::number(item, "acked_revision"),
        _ => reflection::submessage(item, "meta").map_or(0, |meta| reflection::number(&meta, "revision")),
    }
}

/// Tells what an edge lacks.
pub(super) fn edge_behind(edge: &DynamicMessage) -> Option<String> {
    let edge = reflection::to_json(edge);
    if edge["connected"] != true {
        return Some("is not connected".to_owned());
    }
    edge["lag"].as_str().filter(|lag| *lag != "0s").map(|lag| format!("is {lag} behind"))
}

/// Whether a state is the one that is waited for, which may be called by its full name: `SERVER_STATE_READY`.
fn is_state(kind: &Kind, wanted: &str, state: &str) -> bool {
    let is_full_name = |name: &str| {
        reflection::word("", name) == wanted
            && wanted.strip_suffix(state).is_some_and(|prefix| prefix.ends_with("-state-"))
    };
    wanted == state
        || state_enum(kind).is_some_and(|kind| kind.values().any(|value| is_full_name(value.name())))
}

/// The states that resources of a kind can be in.
fn states(kind: &Kind) -> Vec<String> {
    state_enum(kind).map(|kind| reflection::words(&kind)).unwrap_or_default()
}

fn state_enum(kind: &Kind) -> Option<EnumDescriptor> {
    let message = reflection::message(kind.message);
    let status = message.get_field_by_name("status").and_then(|field| field.kind().as_message().cloned());
    let field = message.get_field_by_name("state").or_else(|| status?.get_field_by_name("state"));
    field?.kind().as_enum().cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(text: &str) -> String {
        Condition::parse(text).unwrap_err()
    }

    #[test]
    fn what_cannot_be_waited_for_is_refused_with_the_forms_that_can() {
        for text in ["condition=Ready", "create", "ready", "jsonpath=x", "state=", "jsonpath={.a", ""] {
            assert!(refusal(text).ends_with(FORMS), "{text}: {}", refusal(text));
        }
        assert_eq!(refusal("revision=new"), "\"new\" is not a revision; use a number");
        assert!(refusal("jsonpath={.a[}=b").contains("is not closed"), "{}", refusal("jsonpath={.a[}=b"));
        for (text, written) in [
            ("state=READY", "state=ready"),
            ("delete", "deleted"),
            ("synced", "synced"),
            ("revision=7", "revision=7"),
            ("jsonpath={.a.b}=c", "jsonpath={.a.b}=c"),
        ] {
            assert_eq!(Condition::parse(text).unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_there_instead_is_told() {
        let kind = Kind::from_word("upstream");
        let item = json!({"name": "upstreams/a", "meta": {"revision": "7"}, "status":
            {"state": "UPSTREAM_STATE_UNREACHABLE", "reason": "connection refused", "toolCount": 2}});
        let item = reflection::from_json(reflection::message(kind.message), item).unwrap();
        for (condition, missing) in [
            ("state=ready", Some("is unreachable (connection refused)")),
            ("state=unreachable", None),
            ("state=UPSTREAM_STATE_UNREACHABLE", None),
            ("state=UPSTREAM_STATE_READY", Some("is unreachable (connection refused)")),
            ("deleted", Some("exists")),
            ("revision=7", None),
            ("revision=8", Some("is at revision 7")),
            ("jsonpath={.status.toolCount}=2", None),
            ("jsonpath={.status.toolCount}", None),
            ("jsonpath={.status.toolCount}=3", Some("has 2")),
            ("jsonpath={.status.reason}=\"connection refused\"", None),
            ("jsonpath={.title}=x", Some("has \"\"")),
            ("jsonpath={.title}", Some("has no such field")),
            ("jsonpath={.status.promptCount}=0", None),
            ("jsonpath={.status.promptCount}", Some("has no such field")),
            ("jsonpath={.disabled}=false", None),
            ("jsonpath={.disabled}=true", Some("has false")),
            ("jsonpath={.credential.version}=1", Some("has no such field")),
            ("jsonpath={.meta.revision}=7", None),
            ("jsonpath={.status.state}=unreachable", None),
            ("jsonpath={.status.state}=UPSTREAM_STATE_UNREACHABLE", None),
            ("jsonpath={.status.state}=ready", Some("has unreachable")),
        ] {
            let condition = Condition::parse(condition).unwrap();
            condition.check(kind).unwrap();
            assert_eq!(condition.missing(kind, &item).as_deref(), missing, "{condition}");
        }
        let error = Condition::parse("jsonpath={.titel}=x").unwrap().check(kind).unwrap_err().to_string();
        assert_eq!(error, "Upstream has no field titel; did you mean title?");
        let error = Condition::parse("state=redy").unwrap().check(kind).unwrap_err().to_string();
        assert_eq!(
            error,
            "upstreams are never redy; their states: ready, unreachable, unauthorized, incompatible, disabled, pending; \
             did you mean ready?"
        );
    }
}
