//! The conditions of tokens, read from what the control plane says of them.
//!
//! A resource that is refused keeps its last good version, which may allow more. So nothing is refused here: what cannot be read
//! allows nothing, and is reported.

use std::str::FromStr;

use access::address::AddressRanges;
use access::limit::Limit;
use access::method::Methods;
use access::window::Windows;
use mcp::method::{Form, Method};
use trunkline::edge::v1 as wire;

use super::super::{Conditions, MethodSet, OpenTimes};

/// Reads the conditions of `access`; `None` where it has none. What cannot be read is added to `problems`.
pub(super) fn of(access: &wire::Access, problems: &mut Vec<String>) -> Option<Conditions> {
    let methods = methods(&access.methods, problems);
    let from = read_all(&access.from, "from", problems).map(AddressRanges::new);
    let times = read_all(&access.windows, "windows", problems).map(Windows::new).map(OpenTimes::new);
    let not_before = access.not_before.map(|time| u64::try_from(time.seconds).unwrap_or(0));
    access.limits.iter().for_each(|limit| check_limit(limit, problems));
    let none = methods.is_none() && from.is_none() && times.is_none() && not_before.is_none();
    if none && !access.suspended {
        return None;
    }
    let methods = methods.unwrap_or(MethodSet::ALL);
    Some(Conditions { suspended: access.suspended, not_before, from, times, methods })
}

/// Returns those of `texts` that can be read; `None` if there are none at all.
fn read_all<T: FromStr<Err: std::fmt::Display>>(
    texts: &[String],
    field: &str,
    problems: &mut Vec<String>,
) -> Option<Vec<T>> {
    let mut read = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(value) => read.push(value),
            Err(problem) => problems.push(format!("{field}[{at}]: {problem}")),
        }
    }
    (!texts.is_empty()).then_some(read)
}

fn methods(patterns: &[String], problems: &mut Vec<String>) -> Option<MethodSet> {
    let mut read = Vec::with_capacity(patterns.len());
    for (at, pattern) in patterns.iter().enumerate() {
        match Methods::new(std::slice::from_ref(pattern)) {
            Ok(methods) => read.push(methods),
            Err(problem) => problems.push(format!("methods[{at}]: {problem}")),
        }
    }
    let is_always =
        |method: Method| method.form() == Form::Notification || Methods::ALWAYS.contains(&method.as_str());
    let is_allowed = |method: Method| read.iter().any(|methods| methods.allows(method.as_str()));
    (!patterns.is_empty()).then(|| MethodSet::of(|method| is_always(method) || is_allowed(method)))
}

/// Limits are kept by whoever counts calls, and refuses them for one that cannot be read.
fn check_limit(limit: &wire::Limit, problems: &mut Vec<String>) {
    let read = match limit.id.as_bytes().first() {
        Some(b'r') => Limit::rate(&limit.text).map_err(|problem| problem.to_string()),
        Some(b'q') => Limit::quota(&limit.text).map_err(|problem| problem.to_string()),
        _ => Err("its kind is unknown".to_owned()),
    };
    problems.extend(read.err().map(|problem| format!("limits[{:?}]: {problem}", limit.id)));
}
