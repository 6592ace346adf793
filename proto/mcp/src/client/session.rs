//! A conversation with a server, of either era.

use std::sync::Arc;

use super::endpoint::{ClientInfo, Endpoint};
use super::error::ClientError;
use super::handshake::{ServerFacts, discover, initialize};
use super::http::HttpClient;
use super::probe::Transport;
use super::rpc::RpcClient;
use super::{list, listen};
use crate::header::MirroredParam;
use crate::method::Method;
use crate::revision::{Era, Revision};

/// A conversation with a server. In the modern era there is no session behind it.
///
/// Servers' pings are answered; everything else that they ask is refused. Dropping it tells a legacy server nothing:
/// [`Session::close`] it.
pub struct Session {
    rpc: Arc<RpcClient>,
    server: ServerFacts,
}

impl Session {
    /// Shakes hands over `transport`. `revision` decides the era, and is what a legacy server is asked for; it may answer with another.
    ///
    /// # Errors
    /// When there is no such server, or it does not speak that era.
    pub async fn open(
        endpoint: &Endpoint,
        transport: Transport,
        revision: Revision,
        info: ClientInfo,
    ) -> Result<Self, ClientError> {
        let http = Arc::new(HttpClient::new(endpoint, &info)?);
        let mut rpc = RpcClient::open_over(transport, http, info, revision).await?;
        let server = match revision.era() {
            Era::Legacy => initialize(&mut rpc).await?,
            Era::Modern => discover(&mut rpc).await?,
        };
        Ok(Self { rpc: Arc::new(rpc), server })
    }

    /// What the server said of itself.
    #[must_use]
    pub fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// The revision that is spoken.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.rpc.revision
    }

    /// Whether the server keeps a session for us.
    #[must_use]
    pub fn is_sessionful(&self) -> bool {
        self.rpc.session_id.is_some() || self.rpc.channel.is_some()
    }

    /// Sends a request with `params` (raw JSON object) and waits for its result (raw JSON), within the timeout.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] when the server says no; [`ClientError::SessionLost`] when another must be opened.
    pub async fn request(&self, method: &str, params: &str) -> Result<String, ClientError> {
        self.rpc.call(method, params).await
    }

    /// As [`Self::request`], with no limit but on silence, and with every notification that comes before the result
    /// told: its method, and its params as raw JSON. `mirrored` are the arguments of a tool that modern servers want to
    /// see in headers, from [`crate::header::mirrored_params`].
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

    /// All definitions of a list, over all its pages, each as the server wrote it.
    ///
    /// # Errors
    /// When there are more than `max_items`, or the pages do not end; and as [`Self::request`].
    pub async fn list_all(&self, method: Method, max_items: usize) -> Result<Vec<String>, ClientError> {
        list::all(&self.rpc, method, max_items).await
    }

    /// Tells of changes from now on: a list that is asked for after this returns misses none.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] when the server tells nobody; [`ClientError::Busy`] when it tells someone else.
    pub async fn listen(&self) -> Result<listen::Notices, ClientError> {
        listen::open(self.rpc.clone()).await
    }

    /// Ends the session, as well as that goes. Whoever still uses it is told that it is lost.
    pub async fn close(&self) {
        let _allowed = self.rpc.delete().await;
    }
}
