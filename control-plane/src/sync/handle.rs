//! What services may ask of `sync`.

use tokio::sync::{mpsc, oneshot};
use trunkline::registry::v1::{Credential, Upstream, UpstreamStatus};

/// Asks for upstreams to be probed or fetched. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
}

/// What the task behind a handle is asked.
#[derive(Debug)]
pub(super) enum Request {
    Refresh { name: String, reply: oneshot::Sender<Result<UpstreamStatus, RefreshError>> },
    Probe { upstream: Box<Upstream>, credential: Option<Credential>, reply: oneshot::Sender<UpstreamStatus> },
    Poke { name: String },
}

/// A catalogue could not be stored. That an upstream does not answer is no error: its status says so.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// There is no such upstream.
    #[error("{0} does not exist")]
    NotFound(String),
    /// It is disabled, and left alone.
    #[error("{0} is disabled")]
    Disabled(String),
    /// The program is about to stop.
    #[error("the control plane is stopping")]
    Stopping,
    /// The database failed.
    #[error("the catalogue could not be stored: {0}")]
    Store(String),
}

impl Handle {
    pub(super) fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests }
    }

    /// Probes an upstream, fetches its whole catalogue, and returns when that is stored.
    pub async fn refresh(&self, name: &str) -> Result<UpstreamStatus, RefreshError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Refresh { name: name.to_owned(), reply };
        self.requests.send(request).await.map_err(|_| RefreshError::Stopping)?;
        answer.await.map_err(|_| RefreshError::Stopping)?
    }

    /// Asks an upstream who it is, and stores nothing. `credential` holds its secrets in the clear.
    pub async fn probe(
        &self,
        upstream: &Upstream,
        credential: Option<&Credential>,
    ) -> Result<UpstreamStatus, RefreshError> {
        let (reply, answer) = oneshot::channel();
        let request =
            Request::Probe { upstream: Box::new(upstream.clone()), credential: credential.cloned(), reply };
        self.requests.send(request).await.map_err(|_| RefreshError::Stopping)?;
        answer.await.map_err(|_| RefreshError::Stopping)
    }

    /// Fetches an upstream soon, waiting for nothing.
    pub fn poke(&self, name: &str) {
        // Full: it is looked at in the next round anyway.
        let _ = self.requests.try_send(Request::Poke { name: name.to_owned() });
    }
}
