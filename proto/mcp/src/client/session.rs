//! A conversation with a server, of either era.

use std::sync::Arc;

use super::endpoint::{ClientInfo, Endpoint};
use super::error::ClientError;
use super::handshake::{Proof, ServerFacts, discover, initialize};
use super::hearer::Hearer;
use super::http::HttpClient;
use super::list::Listing;
use super::probe::Transport;
use super::quirk_log::QuirkNote;
use super::rpc::RpcClient;
use super::{list, listen};
use crate::header::MirroredParam;
use crate::method::Method;
use crate::revision::{Era, Revision};
use crate::secrets::Secrets;

/// A conversation with a server. In the modern era there is no session behind it.
///
/// Servers' pings are answered; what else they ask is refused, but for what [`Session::request_with_input`] answers. Dropping it tells a legacy server nothing:
/// [`Session::close`] it.
pub struct Session {
    rpc: Arc<RpcClient>,
    server: ServerFacts,
}

impl Session {
    /// Performs the handshake over `transport`. `revision` decides the era, and is offered to a legacy server, which
    /// may answer with another.
    ///
    /// # Errors
    /// When there is no such server, or it does not speak that era.
    pub async fn open(
        endpoint: &Endpoint,
        transport: Transport,
        revision: Revision,
        info: ClientInfo,
    ) -> Result<Self, ClientError> {
        Self::open_with(endpoint, transport, revision, info, "{}").await
    }

    /// As [`Self::open`], for a client that can be asked what `capabilities` say, a raw JSON object.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(
        endpoint: &Endpoint,
        transport: Transport,
        revision: Revision,
        info: ClientInfo,
        capabilities: &str,
    ) -> Result<Self, ClientError> {
        let http = Arc::new(HttpClient::new(endpoint, &info)?);
        let mut rpc = RpcClient::open_over(transport, http, info, revision).await?;
        rpc.capabilities = capabilities.to_owned();
        let server = match revision.era() {
            Era::Legacy => initialize(&mut rpc, Proof::FirstRequest).await?,
            Era::Modern => discover(&mut rpc).await?,
        };
        Ok(Self { rpc: Arc::new(rpc), server })
    }

    /// Returns what the server was sent that must not be shown.
    #[must_use]
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.rpc.http.secrets
    }

    /// Returns the server's description of itself.
    #[must_use]
    pub fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// Returns the negotiated revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.rpc.revision
    }

    /// Whether the server keeps a session.
    #[must_use]
    pub fn is_sessionful(&self) -> bool {
        self.rpc.session.id.is_some() || self.rpc.channel.is_some()
    }

    /// Sends a request with `params` (raw JSON object) and waits for its result (raw JSON), within the timeout.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] when the server says no; [`ClientError::SessionLost`] when another must be opened.
    pub async fn request(&self, method: &str, params: &str) -> Result<String, ClientError> {
        self.rpc.call(method, params).await
    }

    /// As [`Self::request`], with no limit but on silence, and with a callback for every notification before the
    /// result: its method, and its params as raw JSON. `mirrored` are the arguments of a tool that modern servers want
    /// to see in headers, from [`crate::header::mirrored_params`].
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_streaming(
        &self,
        method: &str,
        params: &str,
        mirrored: &[MirroredParam],
        mut on_notification: impl FnMut(&str, Option<&str>) + Send,
    ) -> Result<String, ClientError> {
        self.rpc.call_streaming(method, params, mirrored, &mut on_notification).await
    }

    /// As [`Self::request_streaming`], with somebody who also answers what the server asks before its result: on the stream of
    /// the request, or, in the modern era, by a result that requires input.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_with_input(
        &self,
        method: &str,
        params: &str,
        mirrored: &[MirroredParam],
        hearer: &mut dyn Hearer,
    ) -> Result<String, ClientError> {
        self.rpc.call_with_input(method, params, mirrored, hearer).await
    }

    /// Tells a legacy server that nobody waits any more for the response to the request that was sent last. A modern one learns it
    /// from the end of its connection.
    pub async fn cancel(&self) {
        self.rpc.cancel_last("the client was stopped").await;
    }

    /// Reads a list, over all its pages. What came before something went wrong is kept.
    pub async fn list(&self, method: Method, max_items: usize) -> Listing {
        list::all(&self.rpc, method, max_items).await
    }

    /// All definitions of a list, over all its pages, each as the server wrote it.
    ///
    /// # Errors
    /// When there are more than `max_items`, or the pages do not end; and as [`Self::request`].
    pub async fn list_all(&self, method: Method, max_items: usize) -> Result<Vec<String>, ClientError> {
        let Listing { entries, trouble } = self.list(method, max_items).await;
        trouble.map_or(Ok(entries), Err)
    }

    /// The quirks of the server that were met so far, by name.
    #[must_use]
    pub fn quirks(&self) -> Vec<QuirkNote> {
        self.rpc.http.quirks.notes()
    }

    /// Listens to changes from now on: a list that is fetched after this returns misses none.
    ///
    /// # Errors [`ClientError::Unsupported`] when the server has no such stream; [`ClientError::Busy`] when another has
    /// it.
    pub async fn listen(&self) -> Result<listen::Notices, ClientError> {
        listen::open(self.rpc.clone()).await
    }

    /// Ends the session; a failure is only logged. Later uses of it fail as lost.
    pub async fn close(&self) {
        let _allowed = self.rpc.delete().await;
    }
}
