//! Sealed ids of tasks, with which any edge finds the upstream and session of a task, for its owner alone. It must not
//! know what is asked about tasks.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method as Verb};
use mcp::json;
use mcp::message::span;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::Era;
use mcp::splice::Splice;
use memchr::memmem;

use super::message_source::RawResponse;
use super::session::{SessionPool, UpstreamSession, has_id, unless_session_unknown};
use crate::error::Fault;
use crate::session::HandleOwner;
use crate::session::seal::{self, HandleBinding, Purpose, SealError};
use crate::snapshot::Trust;
use crate::transport::Message;
use crate::upstream::connect::Retry;

/// Longest wait for the result of a task, and longest time for which its session is kept.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(3_600);
/// Poll interval where the upstream does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// Bounds of the poll interval.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// A task at an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The id of the upstream.
    pub upstream: String,
    /// The exposed name of the tool that created it.
    pub tool: String,
    /// The name that the upstream knows that tool by.
    pub original: String,
    /// What rules judged the arguments of the call that created it by.
    pub judged_by: Option<u128>,
    /// Its id at the upstream.
    pub id: String,
    /// The address of the session that it was created in; empty where there is none.
    pub session: Box<[u8]>,
    /// The revision of that session; empty for a task of the modern era.
    pub version: Box<[u8]>,
}

impl Task {
    /// Seals it into the id that the client is given.
    pub(super) fn seal(&self, trust: &Trust, owner: HandleOwner<'_>) -> Result<String, SealError> {
        let texts = [&self.upstream, &self.tool, &self.id, &self.original].map(|text| text.as_bytes());
        let [upstream, tool, id, original] = texts;
        let parts = [upstream, tool, id, &*self.session, &*self.version, original];
        let content = seal::join_judged(self.judged_by, parts);
        seal::seal(trust, binding(owner), &content)
    }

    /// Opens the id that a client was given.
    pub fn open(trust: &Trust, owner: HandleOwner<'_>, text: &str) -> Option<Self> {
        let content = seal::open(trust, binding(owner), text)?;
        let (judged_by, [upstream, tool, id, session, version, original]) = seal::split_judged(&content)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (session, version) = (session.into(), version.into());
        let [upstream, tool, id, original] = [text(upstream)?, text(tool)?, text(id)?, text(original)?];
        Some(Self { upstream, tool, original, judged_by, id, session, version })
    }

    /// The era that it was created in.
    pub fn era(&self) -> Era {
        if self.version.is_empty() { Era::Modern } else { Era::Legacy }
    }

    /// Joins its session, where that has an id.
    fn joined(&self, headers: HeaderMap) -> Option<UpstreamSession> {
        has_id(&self.session).then(|| UpstreamSession::at(headers, &self.session, &self.version))?
    }

    /// Sends a request about it in the session that it was created in, or where that is gone in the client's own.
    pub(super) async fn ask(
        &self,
        pool: &SessionPool,
        number: u64,
        body: &Bytes,
        retry: Retry,
        patience: Duration,
    ) -> Result<(RawResponse, Rc<UpstreamSession>), Fault> {
        if let Some(open) = self.joined(pool.http_pool.headers.clone()) {
            let (headers, open) = (open.headers().cloned().unwrap_or_default(), Rc::new(open));
            let response = pool.http_pool.send(&Verb::POST, headers, body.clone(), retry, patience).await?;
            if let Some(response) = unless_session_unknown(&open, response).await? {
                return Ok((RawResponse::Http(response), open));
            }
        }
        pool.call(number, body, retry).await
    }
}

/// Builds a request about the task of this raw id.
pub(super) fn request(method: Method, number: u64, id: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{{"taskId":{id}}}}}"#).into()
}

/// Returns how long a task with this raw `ttl`, in milliseconds, is kept.
pub(super) fn lifetime(ttl: Option<&str>) -> Duration {
    let ttl = ttl.and_then(|raw| raw.parse().ok()).map(Duration::from_millis);
    ttl.unwrap_or(MAX_LIFETIME).min(MAX_LIFETIME)
}

/// Returns the poll interval that an upstream asks for with this raw number of milliseconds.
pub fn poll_interval(raw: Option<&str>) -> Duration {
    let millis =
        raw.and_then(|raw| raw.parse::<f64>().ok()).filter(|millis| millis.is_finite() && *millis >= 0.0);
    millis.map_or(DEFAULT_INTERVAL, |millis| {
        Duration::from_secs_f64(millis.min(1e9) / 1e3).clamp(MIN_INTERVAL, MAX_INTERVAL)
    })
}

/// Translates the id of the related task in a client's response into the upstream's.
pub(super) fn of_response<'a>(
    edits: Splice<'a>,
    trust: &Trust,
    owner: HandleOwner<'_>,
    message: &Message<'_>,
) -> Splice<'a> {
    if memmem::find(message.body, meta::RELATED_TASK.as_bytes()).is_none() {
        return edits;
    }
    let mut inner = message.envelope.result;
    for key in [meta::META, meta::RELATED_TASK, "taskId"] {
        inner = inner.and_then(|outer| json::members(outer, [key]).ok()?[0]);
    }
    let Some(raw) = inner else { return edits };
    match json::string(raw).ok().and_then(|text| Task::open(trust, owner, &text)) {
        Some(task) => edits.replace(span(message.body, raw), json::quote(&task.id)),
        None => edits,
    }
}

fn binding(owner: HandleOwner<'_>) -> HandleBinding<'_> {
    HandleBinding { purpose: Purpose::Task, server: owner.server, principal: owner.principal, about: &[] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::seal::tests::trust;

    #[test]
    fn a_task_opens_for_its_owner_alone() {
        let (trust, owner) = (trust(&[1]), HandleOwner { server: "s", principal: "t" });
        let (session, version): (Box<[u8]>, Box<[u8]>) = ((*b"up").into(), (*b"2025-11-25").into());
        let task = Task {
            upstream: "u".into(),
            tool: "u_slow".into(),
            original: "slow".into(),
            judged_by: Some(3),
            id: "7".into(),
            session,
            version,
        };
        let text = task.seal(&trust, owner).unwrap();
        assert_eq!(Task::open(&trust, owner, &text), Some(task));
        assert_eq!(Task::open(&trust, HandleOwner { server: "s", principal: "u" }, &text), None);
        assert_eq!(Task::open(&trust, owner, "7"), None);
    }

    #[test]
    fn poll_intervals_are_bounded() {
        for (raw, expected) in [
            (None, DEFAULT_INTERVAL),
            (Some("\"soon\""), DEFAULT_INTERVAL),
            (Some("-1"), DEFAULT_INTERVAL),
            (Some("250"), Duration::from_millis(250)),
            (Some("0"), MIN_INTERVAL),
            (Some("1e300"), MAX_INTERVAL),
        ] {
            assert_eq!(poll_interval(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn the_lifetime_of_a_task_is_bounded() {
        for (ttl, expected) in [
            (None, MAX_LIFETIME),
            (Some("null"), MAX_LIFETIME),
            (Some("1500"), Duration::from_millis(1_500)),
            (Some("99999999999"), MAX_LIFETIME),
        ] {
            assert_eq!(lifetime(ttl), expected, "{ttl:?}");
        }
    }
}
