//! Heals a session that its upstream has forgotten without saying so in the protocol's way (HTTP 404): servers that were
//! restarted refuse calls in many ways, or end them without an answer.
//!
//! A call that fails in a session that was good tells nothing yet. A ping in the same session does, which all calls share
//! that fail meanwhile, if a ping in a new session does not fail alike: many servers have no pings. A call is repeated once, and
//! only where it cannot have run, or may run twice. It must not know what calls ask for.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp::quirk::Quirk;
use mcp::session_loss::{Ending, Ping, Verdict};

use super::restraint::Restraint;
use super::session_pool::{Renewed, SessionPool};
use super::upstream_session::{SessionTransport, UpstreamSession};
use crate::error::Fault;
use crate::upstream::connect::Retry;
use crate::upstream::mcp::response::read_rpc_body;

/// Largest answer to a ping.
const MAX_ANSWER: usize = 256 << 10;
/// Longest wait for it.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A ping, under an id that no call has.
const PING: &[u8] = br#"{"jsonrpc":"2.0","id":"there?","method":"ping"}"#;

/// What healing needs to know of before.
#[derive(Default)]
pub(super) struct Healing {
    /// One ping at a time.
    turn: tokio::sync::Mutex<()>,
    /// The last ping: when it began, in which session, and how it ended.
    last: RefCell<Option<(Instant, Weak<UpstreamSession>, Ping)>>,
    restraint: Restraint,
}

/// Whether a call that failed so had no answer of the protocol. That it takes too long is another matter.
pub(in crate::upstream::mcp) fn is_no_answer(fault: &Fault) -> bool {
    matches!(fault, Fault::Interrupted | Fault::Malformed(_))
}

impl SessionPool {
    /// Finds out whether a call that ended so in this session is to be made again. Returns the session for that.
    #[cold]
    pub(in crate::upstream::mcp) async fn heal(
        &self,
        session: &Rc<UpstreamSession>,
        ending: &Ending,
        retry: Retry,
    ) -> Option<Rc<UpstreamSession>> {
        let restraint = &self.healing.restraint;
        let is_request = matches!(session.transport, SessionTransport::Http(_));
        let may_heal = is_request && session.is_confirmed() && !restraint.is_at_peace();
        if !may_heal || !ending.is_suspicious() || restraint.is_said_of_new(ending.refusal()) {
            return None;
        }
        let ping = self.ping_after(Instant::now(), session).await;
        let verdict = ending.verdict(&ping);
        let (untouched, said) = match verdict {
            Verdict::Lost { .. } if restraint.is_said_of_new(ping.refusal()) => return None,
            Verdict::Lost { untouched } => (untouched, &ping),
            // The ping tells nothing.
            Verdict::PerhapsLost => (false, &Ping::Failed),
            Verdict::Alive | Verdict::Unknown => {
                restraint.rest(matches!(ping, Ping::Failed | Ping::Unanswered));
                return None;
            }
        };
        let renewed = self.replace(session, ending, said, verdict != Verdict::PerhapsLost).await?;
        (untouched || retry == Retry::Safe).then_some(renewed)
    }

    /// Opens a session in the place of one that is lost, if that is better. What is not sure is not tried often.
    async fn replace(
        &self,
        lost: &Rc<UpstreamSession>,
        ending: &Ending,
        ping: &Ping,
        is_sure: bool,
    ) -> Option<Rc<UpstreamSession>> {
        let renewed = self.renew(lost, ending, ping).await;
        self.healing.restraint.rest(matches!(renewed, Err(_) | Ok(Renewed::Not)) || !is_sure);
        match renewed {
            Ok(Renewed::Now(renewed)) => {
                self.http_pool.quirks.note(Quirk::ForgetsSessions, ending.to_string());
                if is_sure {
                    renewed.note_losses(self.losses.note(*ending));
                }
                Some(renewed)
            }
            Ok(Renewed::Before(renewed)) => Some(renewed),
            Ok(Renewed::Not) => None,
            Err(fault) => {
                tracing::debug!(upstream = %self.upstream.id, %fault, "cannot open a session in the place of a lost one");
                None
            }
        }
    }

    /// Whether a ping in a session that was just opened fails as a call and a ping did in another: then the upstream has no pings,
    /// and refuses so what it does not know. That is remembered.
    pub(super) async fn is_no_better(
        &self,
        opened: &Rc<UpstreamSession>,
        lost: &Rc<UpstreamSession>,
        ending: &Ending,
        ping: &Ping,
    ) -> bool {
        let of_new = self.ping_in_time(opened).await;
        if ending.is_no_better(ping, &of_new) {
            self.healing.restraint.note_of_new(&of_new);
            return true;
        }
        // What came to nothing may have done so by chance, twice.
        *ending == Ending::Unanswered && self.ping_in_time(lost).await == Ping::Answered
    }

    /// Looks whether a session is alive after the upstream has lost another one. Returns it, or one in its place: a restart loses
    /// all of them, and only the first call that meets it has to fail.
    #[cold]
    pub(super) async fn recheck(&self, session: Rc<UpstreamSession>) -> Rc<UpstreamSession> {
        let _turn = self.healing.turn.lock().await;
        let restraint = &self.healing.restraint;
        let session = self.current().unwrap_or(session);
        let losses = self.losses.count();
        let Some(ending) = self.losses.latest().filter(|_| !session.has_outlived(losses)) else {
            return session;
        };
        if !session.is_confirmed() || restraint.is_at_peace() {
            return session;
        }
        let ping = self.ping_in_time(&session).await;
        session.note_losses(losses);
        let is_known = restraint.is_said_of_new(ping.refusal());
        let is_lost = !is_known && matches!(ending.verdict(&ping), Verdict::Lost { .. });
        let renewed = if is_lost { Some(self.renew(&session, &ending, &ping).await) } else { None };
        restraint.rest(ping == Ping::Failed || matches!(renewed, Some(Err(_) | Ok(Renewed::Not))));
        match renewed {
            Some(Ok(Renewed::Before(renewed) | Renewed::Now(renewed))) => renewed,
            Some(Ok(Renewed::Not) | Err(_)) | None => session,
        }
    }

    /// Pings in a session in which a call failed at this time. Calls that failed before a ping began share it.
    async fn ping_after(&self, failed: Instant, session: &Rc<UpstreamSession>) -> Ping {
        let _turn = self.healing.turn.lock().await;
        let shared = self.healing.last.borrow().as_ref().and_then(|(began, pinged, ping)| {
            (*began >= failed && pinged.as_ptr() == Rc::as_ptr(session)).then_some(*ping)
        });
        if let Some(ping) = shared {
            return ping;
        }
        self.ping_in_time(session).await
    }

    async fn ping_in_time(&self, session: &Rc<UpstreamSession>) -> Ping {
        let began = Instant::now();
        let ping = tokio::time::timeout(PING_TIMEOUT, self.ping(session)).await.unwrap_or(Ping::Failed);
        *self.healing.last.borrow_mut() = Some((began, Rc::downgrade(session), ping));
        ping
    }

    async fn ping(&self, session: &UpstreamSession) -> Ping {
        let answered = async {
            let response = self.post(session, Bytes::from_static(PING), Retry::Safe).await?;
            let status = response.status.as_u16();
            Ok::<_, Fault>((status, read_rpc_body(response, MAX_ANSWER).await?))
        };
        match answered.await {
            Ok((status, body)) => Ping::read(status, &body),
            Err(Fault::Connect(_) | Fault::NotAllowed(_)) => Ping::Unsent,
            Err(fault) if is_no_answer(&fault) => Ping::Unanswered,
            Err(_) => Ping::Failed,
        }
    }
}
