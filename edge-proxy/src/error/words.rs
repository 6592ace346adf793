//! The sentences and words of failures that depend on more than their kind. It must not know codes.

use std::time::Duration;

use mcp::json;
use mcp::revision::Revision;
use mcp::uri::NotCanonical;

use crate::observe::{Bound, LimitRefusal};

/// The `data.reason` where too much of this is taken.
pub(super) fn reason_of(bound: Bound) -> &'static str {
    match bound {
        Bound::InFlight | Bound::CallsWithoutClient => "too_many_requests",
        Bound::ParkedCalls => "too_many_parked_calls",
        Bound::Subscriptions => "too_many_subscriptions",
        Bound::Tickets => "too_many_tickets",
    }
}

/// Describes which bound was reached, and what to do.
pub(super) fn too_many(bound: Bound, of_token: bool) -> &'static str {
    match (bound, of_token) {
        (Bound::InFlight | Bound::CallsWithoutClient, true) => {
            "this token has its share of the requests in flight at this edge (--max-in-flight); wait for responses first"
        }
        (Bound::InFlight | Bound::CallsWithoutClient, false) => "this edge has too many requests in flight",
        (Bound::ParkedCalls, true) => {
            "this token has its share of the calls that wait for client input at this edge (--max-parked-calls); send their input first"
        }
        (Bound::ParkedCalls, false) => {
            "too many calls wait for client input at this edge (--max-parked-calls); try again later"
        }
        (Bound::Subscriptions, true) => {
            "this token has its share of the sessions with subscriptions at this edge; end sessions that are no longer used"
        }
        (Bound::Subscriptions, false) => "too many sessions have subscriptions at this edge; try again later",
        (Bound::Tickets, true) => {
            "this token has its share of the tickets that were used within a minute; try again in a minute"
        }
        (Bound::Tickets, false) => "too many tickets were used within a minute; try again in a minute",
    }
}

/// Describes which limit refused a call, and what to do.
pub(super) fn limited(what: LimitRefusal, limit: &str, retry_after: Duration) -> String {
    let seconds = seconds(retry_after);
    match what {
        LimitRefusal::Rate => {
            format!("this token may call {limit} and has done so; try again in {seconds} s")
        }
        LimitRefusal::Quota if retry_after < Duration::from_secs(1) => {
            format!(
                "this token may call {limit}, and this edge has none of that at the moment; try again in {seconds} s"
            )
        }
        LimitRefusal::Quota => {
            format!("this token may call {limit} and nothing is left of that; try again in {seconds} s")
        }
        LimitRefusal::Unusable => format!(
            "this edge cannot read the limit {limit} of this token, and refuses what is under it; have the edge upgraded"
        ),
        LimitRefusal::Buckets => {
            "this edge counts too many limits at once; try again later, or use limits that are not per tool"
                .to_owned()
        }
    }
}

/// Describes that a rule refused a request, with what the rule says itself.
pub(super) fn refused_by_rule(told: &str, undecided: bool) -> String {
    let refused = match undecided {
        false => "a rule of this server does not allow this",
        true => "a rule of this server cannot decide about this, and so does not allow it",
    };
    if told.is_empty() { refused.to_owned() } else { format!("{refused}: {told}") }
}

/// Describes why no template could have produced a URI.
pub(super) fn described(problem: Option<NotCanonical>) -> String {
    problem.map_or_else(String::new, |problem| format!(": the URI {problem}, and no template produces such"))
}

/// The `data` that names what is supported instead, as raw JSON.
pub(super) fn versions(requested: &str) -> String {
    let supported = Revision::modern_json();
    format!(r#"{{"supported":{supported},"requested":{}}}"#, json::quote(requested))
}

/// The seconds of a time, rounded up.
pub(super) fn seconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}
