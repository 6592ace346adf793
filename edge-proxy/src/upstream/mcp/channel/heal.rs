//! Leaves a channel whose session the upstream has forgotten, though the connection is still open: a bridge whose server was
//! restarted refuses every call.
//!
//! As over HTTP, a call that is refused on a channel that was good tells nothing yet. A ping on the same channel does, if a ping on
//! a new one is not refused alike. It must not know what calls ask for.

use std::rc::Rc;

use bytes::Bytes;
use mcp::quirk::Quirk;
use mcp::revision::Era;
use mcp::session_loss::{Ending, Ping, Refusal, Verdict, suspicious, verdict};

use super::super::session::Restraint;
use super::Channel;
use super::pool::ChannelPool;
use crate::upstream::connect::Retry;

/// What healing needs to know of before.
#[derive(Default)]
pub(super) struct ChannelHealing {
    /// One ping at a time.
    turn: tokio::sync::Mutex<()>,
    restraint: Restraint,
}

/// A call that was refused on a channel.
pub(super) struct RefusedCall<'a> {
    pub channel: &'a Rc<Channel>,
    pub refusal: Refusal,
    pub retry: Retry,
    /// The raw level of log messages on its channel.
    pub level: Option<&'a Bytes>,
}

impl RefusedCall<'_> {
    /// Whether it was refused as the protocol has it of a session that is gone, before anything is done.
    fn is_of_protocol(&self) -> bool {
        self.refusal.status == 404 && !self.refusal.has_number
    }
}

impl ChannelPool {
    /// Finds out whether a call that was refused is to be made again, on another channel.
    #[cold]
    pub(super) async fn heal(&self, call: &RefusedCall<'_>) -> bool {
        let ChannelHealing { turn, restraint } = &self.healing;
        let (channel, refusal) = (call.channel, &call.refusal);
        if self.key.revision.era() == Era::Modern || !call.is_of_protocol() && !suspicious(refusal) {
            return false;
        }
        let _turn = turn.lock().await;
        let ping = match channel.lost_by.get() {
            Some(ping) => ping,
            None if call.is_of_protocol() => Ping::Refused(*refusal),
            None if !channel.confirmed.get() || channel.is_closed() => return false,
            None if restraint.is_at_peace() || restraint.is_said_of_new(Some(refusal)) => return false,
            None => channel.ping().await,
        };
        let verdict = match call.is_of_protocol() {
            true => Verdict::Lost { untouched: true },
            false => verdict(refusal, &ping),
        };
        let (untouched, said) = match verdict {
            Verdict::Lost { untouched } => (untouched, ping),
            // The ping tells nothing.
            Verdict::PerhapsLost => (false, Ping::Failed),
            Verdict::Alive | Verdict::Unknown => {
                restraint.rest(matches!(ping, Ping::Failed | Ping::Unanswered));
                return false;
            }
        };
        let is_left = channel.lost_by.get().is_some() || self.replace(call, &said).await;
        is_left && (untouched || call.retry == Retry::Safe)
    }

    /// Opens a channel in the place of one whose session is lost, if that is better. Returns whether the old one is left.
    async fn replace(&self, call: &RefusedCall<'_>, ping: &Ping) -> bool {
        let restraint = &self.healing.restraint;
        if !call.is_of_protocol() && restraint.is_said_of_new(ping.refusal()) {
            return false;
        }
        let opened = self.connect(call.channel.dispatcher.is_exclusive(), call.level).await;
        let is_better = match &opened {
            _ if call.is_of_protocol() => true,
            Ok(opened) => self.is_better(call, ping, opened).await,
            Err(fault) => {
                tracing::debug!(upstream = %self.upstream.id, %fault, "cannot open a channel in the place of a lost one");
                false
            }
        };
        // What is not sure is not tried often.
        restraint.rest(!is_better || *ping == Ping::Failed);
        if is_better {
            self.leave(call, ping);
        }
        match opened {
            Ok(opened) if is_better => self.put(opened),
            Ok(opened) => opened.close(),
            Err(_) => {}
        }
        is_better
    }

    async fn is_better(&self, call: &RefusedCall<'_>, ping: &Ping, opened: &Channel) -> bool {
        let of_new = opened.ping().await;
        let is_no_better = Ending::Refused(call.refusal).is_no_better(ping, &of_new);
        if is_no_better {
            self.healing.restraint.note_of_new(&of_new);
        }
        !is_no_better
    }

    /// Ends a channel whose session is lost.
    fn leave(&self, call: &RefusedCall<'_>, ping: &Ping) {
        let status = call.refusal.status;
        if !call.is_of_protocol() {
            self.http_pool.quirks.note(Quirk::ForgetsSessions, format!("HTTP {status}"));
        }
        call.channel.lost_by.set(Some(*ping));
        call.channel.close();
    }
}
