//! The edge's own credential: got for a join token, kept on disk, renewed at half its life.
//!
//! It must not know what the credential is used for.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::discovery::v1::{EnrollEdgeRequest, RenewEdgeCredentialRequest};

use crate::config::Secret;
use crate::{clock, files};

/// What authorises this edge. Shown nowhere.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

/// Gets and keeps the credential of one edge.
#[derive(Debug)]
pub struct Enrollment {
    edge_id: String,
    join_token: Option<Secret>,
    path: PathBuf,
    held: Mutex<Option<Held>>,
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// There is none, and nothing to get one with.
    #[error(
        "this edge has no credential and no join token; create one with `mcpctl create join-token` and pass it \
         with --join-token or --join-token-file"
    )]
    NoJoinToken,
    /// The control plane did not take the join token.
    #[error("the control plane refused to enrol this edge: {} ({})", .0.message(), .0.code())]
    Refused(#[from] Box<tonic::Status>),
    /// What came as a credential is none.
    #[error("the control plane sent a credential that contains characters that are not allowed in a header")]
    Unusable,
}

/// The credential as it is kept on disk.
#[derive(Clone, Serialize, Deserialize)]
struct Held {
    edge_id: String,
    credential: String,
    obtained: u64,
    expires: u64,
}

const RETRY_RENEWAL: Duration = Duration::from_secs(30);

impl Enrollment {
    /// For the edge `edge_id`, with the credential in the file at `path` where it is this edge's.
    pub fn new(edge_id: String, join_token: Option<Secret>, path: PathBuf) -> Enrollment {
        let stored = read(&path).filter(|held| held.edge_id == edge_id);
        Enrollment { edge_id, join_token, path, held: Mutex::new(stored) }
    }

    /// The credential that is held, or a new one for the join token.
    pub async fn bearer(&self, channel: &Channel) -> Result<Bearer, EnrollError> {
        let held = self.held().filter(|held| held.expires > clock::now());
        match held {
            Some(held) => held.bearer(),
            None => self.enroll(channel).await,
        }
    }

    /// Says that the control plane refused the credential. Where there is a join token, it is forgotten and
    /// the next `bearer` is a new one; else it is kept, because the control plane may change its mind.
    pub fn refused(&self) {
        if self.join_token.is_some() {
            self.put(None);
        }
    }

    /// Waits until the credential is half through its life, and returns a fresh one. Failures are repeated
    /// until it works.
    pub async fn keep_renewed(&self, channel: &Channel) -> Bearer {
        loop {
            let due = self.held().map_or(RETRY_RENEWAL, |held| held.renew_in(clock::now()));
            tokio::time::sleep(due).await;
            match self.renew(channel).await {
                Ok(bearer) => return bearer,
                Err(error) => tracing::warn!(%error, "cannot renew the edge's credential"),
            }
            tokio::time::sleep(RETRY_RENEWAL).await;
        }
    }

    async fn enroll(&self, channel: &Channel) -> Result<Bearer, EnrollError> {
        let join_token = self.join_token.as_ref().ok_or(EnrollError::NoJoinToken)?;
        let request =
            EnrollEdgeRequest { join_token: join_token.expose().to_owned(), edge_id: self.edge_id.clone() };
        let mut client = EnrollmentServiceClient::new(channel.clone());
        let answer = client.enroll_edge(request).await.map_err(Box::new)?.into_inner();
        tracing::info!(edge = self.edge_id, "enrolled with the control plane");
        self.keep(answer.credential, answer.expire_time)
    }

    async fn renew(&self, channel: &Channel) -> Result<Bearer, EnrollError> {
        let bearer = self.held().ok_or(EnrollError::NoJoinToken)?.bearer()?;
        let mut client = EnrollmentServiceClient::new(channel.clone());
        let request = bearer.authorise(RenewEdgeCredentialRequest {});
        let answer = client.renew_edge_credential(request).await.map_err(Box::new)?.into_inner();
        self.keep(answer.credential, answer.expire_time)
    }

    fn keep(
        &self,
        credential: String,
        expire_time: Option<prost_types::Timestamp>,
    ) -> Result<Bearer, EnrollError> {
        let expires = expire_time.map_or(u64::MAX, |time| u64::try_from(time.seconds).unwrap_or(0));
        let held = Held { edge_id: self.edge_id.clone(), credential, obtained: clock::now(), expires };
        let bearer = held.bearer()?;
        self.put(Some(held.clone()));
        let content = serde_json::to_vec(&held).map_err(|_| EnrollError::Unusable)?;
        if let Err(error) = files::write(&self.path, &content) {
            tracing::warn!(path = %self.path.display(), %error, "cannot store the edge's credential");
        }
        Ok(bearer)
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, held: Option<Held>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

impl Bearer {
    /// A request with this bearer.
    pub fn authorise<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.0.clone());
        request
    }
}

impl Held {
    fn bearer(&self) -> Result<Bearer, EnrollError> {
        let value = MetadataValue::try_from(format!("Bearer {}", self.credential));
        let mut value = value.map_err(|_| EnrollError::Unusable)?;
        value.set_sensitive(true);
        Ok(Bearer(value))
    }

    fn renew_in(&self, now: u64) -> Duration {
        // A year is as good as never, and a timer can hold it.
        const LONGEST: u64 = 365 * 86_400;
        let half = self.obtained + self.expires.saturating_sub(self.obtained) / 2;
        Duration::from_secs(half.saturating_sub(now).min(LONGEST))
    }
}

fn read(path: &std::path::Path) -> Option<Held> {
    let content = files::read(path)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot read the credential"));
    let held = serde_json::from_slice(&content.ok()??);
    held.inspect_err(|_| tracing::warn!(path = %path.display(), "the stored credential is invalid")).ok()
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_half_life() {
        let held =
            |obtained, expires| Held { edge_id: "e".into(), credential: "c".into(), obtained, expires };
        assert_eq!(held(100, 200).renew_in(100), Duration::from_secs(50));
        assert_eq!(held(100, 200).renew_in(190), Duration::ZERO);
        assert_eq!(held(100, 50).renew_in(120), Duration::ZERO);
        assert!(held(0, u64::MAX).renew_in(0) <= Duration::from_secs(365 * 86_400));
    }

    #[test]
    fn a_stored_credential_is_found_again_by_its_edge_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.credential");
        let at = |id: &str| Enrollment::new(id.to_owned(), None, path.clone());
        let future = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        at("e1").keep("s3cr3t".to_owned(), Some(future)).unwrap();
        let again = at("e1");
        assert_eq!(again.held().unwrap().credential, "s3cr3t");
        assert!(!format!("{again:?}").contains("s3cr3t"));
        assert!(at("e2").held().is_none());
        again.refused();
        assert!(again.held().is_some(), "without a join token it is all there is");
        std::fs::write(&path, "{").unwrap();
        assert!(at("e1").held().is_none());
    }
}
