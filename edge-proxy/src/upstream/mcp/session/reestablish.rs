//! Re-establishes a legacy session that the upstream says it has forgotten. What does not say so is in `heal`.

use std::rc::Rc;

use bytes::Bytes;
use mcp::session_loss::Ending;

use super::heal::is_no_answer;
use super::session_errors::unless_session_unknown;
use super::session_pool::SessionPool;
use super::upstream_session::UpstreamSession;
use crate::error::Fault;
use crate::upstream::connect::HttpResponse;
use crate::upstream::connect::Retry;

impl SessionPool {
    /// Sends a request in the session. Where the upstream has forgotten it, a new one is initialized, once: the request
    /// was refused before anything was done, so sending it again does not repeat it.
    pub(super) async fn send(
        &self,
        body: &Bytes,
        retry: Retry,
    ) -> Result<(HttpResponse, Rc<UpstreamSession>), Fault> {
        let mut session = self.session().await?;
        if !session.has_outlived(self.losses.count()) {
            session = Box::pin(self.recheck(session)).await;
        }
        match self.try_in(&session, body, retry).await {
            Ok(Some(response)) => return Ok((response, session)),
            Ok(None) => {}
            Err(fault) if is_no_answer(&fault) => {
                return Box::pin(self.send_after(fault, &session, body, retry)).await;
            }
            Err(fault) => return Err(fault),
        }
        self.forget(&session);
        let session = self.session().await?;
        match self.try_in(&session, body, retry).await? {
            Some(response) => Ok((response, session)),
            None => Err(Fault::Session("it does not keep its sessions".to_owned())),
        }
    }

    /// Sends a request again that had no answer in a session which turns out to be lost, if it may run twice.
    #[cold]
    async fn send_after(
        &self,
        fault: Fault,
        session: &Rc<UpstreamSession>,
        body: &Bytes,
        retry: Retry,
    ) -> Result<(HttpResponse, Rc<UpstreamSession>), Fault> {
        let renewed = self.heal(session, &Ending::Unanswered, retry).await.ok_or(fault)?;
        let response = self.post(&renewed, body.clone(), retry).await?;
        Ok((response, renewed))
    }

    /// Sends a request in this session; `None` where the upstream does not know the session.
    async fn try_in(
        &self,
        session: &UpstreamSession,
        body: &Bytes,
        retry: Retry,
    ) -> Result<Option<HttpResponse>, Fault> {
        let response = self.post(session, body.clone(), retry).await?;
        unless_session_unknown(session, response).await
    }
}
