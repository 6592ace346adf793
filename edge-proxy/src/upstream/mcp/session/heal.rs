//! Heals a session that its upstream has forgotten without saying so in the protocol's way (HTTP 404): servers that were
//! restarted refuse calls in many ways.
//!
//! A call that is refused in a session that was good tells nothing yet. A ping in the same session does, which all calls share
//! that fail meanwhile, if a ping in a new session is not refused alike: many servers have no pings. A call is repeated once, and only where it cannot have run, or may run twice. It must not know what calls
//! ask for.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp::message::Envelope;
use mcp::quirk::Quirk;
use mcp::session_loss::{self, Ping, Refusal, Verdict};

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
/// First and longest time for which nothing is healed after a ping that had no answer, or a session that could not be opened.
const FIRST_PEACE: Duration = Duration::from_secs(1);
const MAX_PEACE: Duration = Duration::from_secs(30);
/// For how long words with which an upstream refused a ping in a new session tell nothing of sessions.
const WORDS_KNOWN: Duration = Duration::from_secs(600);

/// What healing needs to know of before.
#[derive(Default)]
pub(super) struct Healing {
    /// One ping at a time.
    turn: tokio::sync::Mutex<()>,
    /// The last ping: when it began, in which session, and how it ended.
    last: RefCell<Option<(Instant, Weak<UpstreamSession>, Ping)>>,
    /// Until when nothing is healed, and how long that was.
    peace: Cell<Option<(Instant, Duration)>>,
    /// The words with which a ping was refused in a new session, and until when that is believed.
    of_new: Cell<Option<(u64, Instant)>>,
}

impl Healing {
    /// Whether nothing is healed now.
    fn is_at_peace(&self) -> bool {
        self.peace.get().is_some_and(|(until, _)| Instant::now() < until)
    }

    /// Whether the upstream says the same in a session that was just opened: it has no pings, and refuses what it does not know so.
    fn is_said_of_new(&self, refusal: &Refusal) -> bool {
        self.of_new.get().is_some_and(|(words, until)| words == refusal.words && Instant::now() < until)
    }

    /// Heals nothing for a while after a failure, or where nobody knows whether it helped, longer each time: an upstream whose
    /// credential has expired, or that hangs on pings, must not cost every call more.
    fn rest(&self, failed: bool) {
        let before = self.peace.get().map(|(_, time)| time);
        let time = before.map_or(FIRST_PEACE, |time| (time * 2).min(MAX_PEACE));
        self.peace.set(failed.then(|| (Instant::now() + time, time)));
    }
}

impl SessionPool {
    /// Finds out whether a call that was refused in this session is to be made again. Returns the session for that.
    #[cold]
    pub(in crate::upstream::mcp) async fn heal(
        &self,
        session: &Rc<UpstreamSession>,
        refusal: &Refusal,
        retry: Retry,
    ) -> Option<Rc<UpstreamSession>> {
        let is_request = matches!(session.transport, SessionTransport::Http(_));
        let may_heal = is_request && session.is_confirmed() && !self.healing.is_at_peace();
        if !may_heal || !session_loss::suspicious(refusal) || self.healing.is_said_of_new(refusal) {
            return None;
        }
        let ping = self.ping_after(Instant::now(), session).await;
        let verdict = session_loss::verdict(refusal, &ping);
        let (untouched, said) = match (verdict, &ping) {
            (Verdict::Lost { .. }, Ping::Refused(said)) if self.healing.is_said_of_new(said) => return None,
            (Verdict::Lost { untouched }, _) => (untouched, &ping),
            // The ping tells nothing.
            (Verdict::PerhapsLost, _) => (false, &Ping::Failed),
            (Verdict::Alive | Verdict::Unknown, _) => {
                self.healing.rest(ping == Ping::Failed);
                return None;
            }
        };
        let is_sure = verdict != Verdict::PerhapsLost;
        let renewed = self.renew(session, refusal, said).await;
        self.healing.rest(matches!(renewed, Err(_) | Ok(Renewed::Not)) || !is_sure);
        let renewed = match renewed {
            Ok(Renewed::Now(renewed)) => {
                let status = refusal.status;
                self.http_pool.quirks.note(Quirk::ForgetsSessions, format!("HTTP {status}"));
                if is_sure {
                    renewed.note_losses(self.losses.note(*refusal));
                }
                renewed
            }
            Ok(Renewed::Before(renewed)) => renewed,
            Ok(Renewed::Not) => return None,
            Err(fault) => {
                tracing::debug!(upstream = %self.upstream.id, %fault, "cannot open a session in the place of a lost one");
                return None;
            }
        };
        (untouched || retry == Retry::Safe).then_some(renewed)
    }

    /// Whether a ping in a session that was just opened is refused as a call or a ping was in another: then the upstream has no
    /// pings, and refuses so what it does not know. That is remembered.
    pub(super) async fn refuses_in_new(
        &self,
        session: &Rc<UpstreamSession>,
        refusal: &Refusal,
        ping: &Ping,
    ) -> bool {
        let Ping::Refused(of_new) = self.ping_in_time(session).await else { return false };
        let said_before = [Some(refusal), ping.refusal()];
        let is_alike = said_before
            .into_iter()
            .flatten()
            .any(|said| (said.status, said.words) == (of_new.status, of_new.words));
        // What broke says so for a while only.
        if is_alike && !of_new.is_breakdown() {
            self.healing.of_new.set(Some((of_new.words, Instant::now() + WORDS_KNOWN)));
        }
        is_alike
    }

    /// Looks whether a session is alive after the upstream has lost another one. Returns it, or one in its place: a restart loses
    /// all of them, and only the first call that meets it has to fail.
    #[cold]
    pub(super) async fn recheck(&self, session: Rc<UpstreamSession>) -> Rc<UpstreamSession> {
        let _turn = self.healing.turn.lock().await;
        let session = self.current().unwrap_or(session);
        let losses = self.losses.count();
        let Some(refusal) = self.losses.latest().filter(|_| !session.has_outlived(losses)) else {
            return session;
        };
        if !session.is_confirmed() || self.healing.is_at_peace() {
            return session;
        }
        let ping = self.ping_in_time(&session).await;
        session.note_losses(losses);
        let is_known = ping.refusal().is_some_and(|said| self.healing.is_said_of_new(said));
        let is_lost = !is_known && matches!(session_loss::verdict(&refusal, &ping), Verdict::Lost { .. });
        let renewed = if is_lost { Some(self.renew(&session, &refusal, &ping).await) } else { None };
        self.healing.rest(ping == Ping::Failed || matches!(renewed, Some(Err(_) | Ok(Renewed::Not))));
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
        answered.await.map_or(Ping::Failed, |(status, body)| how_it_ended(status, &body))
    }
}

/// What an answer to a ping tells. A server without pings answers as well.
fn how_it_ended(status: u16, body: &[u8]) -> Ping {
    let is_success = (200..300).contains(&status);
    match Envelope::look(body) {
        Ok(envelope) if is_success && envelope.error.is_none() => Ping::Answered,
        Err(_) if is_success => Ping::Failed,
        _ => Ping::of(Refusal::read(status, body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_has_no_ping_has_answered_it() {
        let error = |code: i64| {
            format!(r#"{{"jsonrpc":"2.0","id":"there?","error":{{"code":{code},"message":"m"}}}}"#)
        };
        for (status, body, answered) in [
            (200, r#"{"jsonrpc":"2.0","id":"there?","result":{}}"#.to_owned(), Some(true)),
            (200, r#"{"jsonrpc":"2.0","id":"there?","result":[]}"#.to_owned(), Some(true)),
            (200, error(-32601), Some(true)),
            (404, error(-32601), Some(true)),
            (200, error(-32602), Some(false)),
            (400, "no session".to_owned(), Some(false)),
            (500, String::new(), Some(false)),
            (202, String::new(), None),
            (200, "<html>".to_owned(), None),
        ] {
            let found = match how_it_ended(status, body.as_bytes()) {
                Ping::Answered => Some(true),
                Ping::Refused(refusal) => {
                    assert_eq!(refusal.status, status);
                    Some(false)
                }
                Ping::Failed => None,
            };
            assert_eq!(found, answered, "{status} {body}");
        }
    }
}
