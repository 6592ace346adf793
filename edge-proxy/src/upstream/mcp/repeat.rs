//! Reads the response to a call in a session, and makes the call once more where the upstream turns out to have forgotten the
//! session. Whether it may be made again is decided in `session`. It must not know eras.

use std::rc::Rc;

use bytes::Bytes;

use super::in_flight::InFlightGuard;
use super::message_source::RawResponse;
use super::response::{FailedCall, TranslatedResponse, read_repeatable};
use super::session::{SessionPool, UpstreamSession};
use super::session_messages::CancelOnDrop;
use super::translator::{CallInSession, HangUp, Translator};
use crate::error::Fault;
use crate::upstream::Context;
use crate::upstream::connect::Retry;
use crate::usage::Account;

/// A call that was sent in a session.
pub(super) struct SentCall<'a> {
    pub context: &'a Rc<Context>,
    pub pool: &'a Rc<SessionPool>,
    pub in_session: CallInSession,
    pub body: &'a Bytes,
    pub retry: Retry,
}

impl SentCall<'_> {
    /// Reads the response. `rejoin` gives a translator the session in which the call is made again.
    pub(super) async fn read<T: Translator + Clone>(
        self,
        answered: RawResponse,
        translator: T,
        account: &mut Option<Account>,
        guard: Option<InFlightGuard>,
        rejoin: impl FnOnce(&mut T, Rc<UpstreamSession>) -> Option<InFlightGuard>,
    ) -> Result<TranslatedResponse<T>, Fault> {
        let (response, failed) = read_repeatable(self.context, answered, translator, account, guard).await;
        match failed {
            None => {
                if response.is_ok() {
                    self.in_session.session.confirm();
                }
                response
            }
            Some(failed) => Box::pin(self.heal(response, failed, account, rejoin)).await,
        }
    }

    #[cold]
    async fn heal<T: Translator + Clone>(
        self,
        response: Result<TranslatedResponse<T>, Fault>,
        failed: FailedCall<T>,
        account: &mut Option<Account>,
        rejoin: impl FnOnce(&mut T, Rc<UpstreamSession>) -> Option<InFlightGuard>,
    ) -> Result<TranslatedResponse<T>, Fault> {
        let Self { context, pool, in_session: CallInSession { session, number, .. }, body, retry } = self;
        let FailedCall { ending, mut translator } = failed;
        let Some(renewed) = pool.heal(&session, &ending, retry).await else { return response };
        let guard = rejoin(&mut translator, Rc::clone(&renewed));
        let mut cancel_on_drop = CancelOnDrop::new(pool, number);
        cancel_on_drop.armed = T::HANG_UP == HangUp::Cancels;
        let answered = pool.post(&renewed, body.clone(), retry).await;
        cancel_on_drop.armed &= matches!(answered, Err(Fault::Timeout));
        let answered = RawResponse::Http(answered?);
        let (response, failed) = read_repeatable(context, answered, translator, account, guard).await;
        if response.is_ok() && failed.is_none() {
            renewed.confirm();
        }
        response
    }
}
