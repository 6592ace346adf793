//! The edge's own credential: obtained for a join token, kept on disk, renewed at half its life.
//!
//! It must not know what the credential is used for.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp::fault::Fault;
use serde::{Deserialize, Serialize};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::discovery::v1::{EnrollEdgeRequest, RenewEdgeCredentialRequest};

use crate::config::Secret;
use crate::os::{clock, files};

/// The credential that authorises this edge. Never printed.
#[derive(Clone)]
pub struct EdgeCredential(MetadataValue<Ascii>);

/// Obtains and keeps the credential of one edge.
#[derive(Debug)]
pub struct Enrollment {
    edge_id: String,
    join_token: Option<Secret>,
    path: PathBuf,
    /// The id of the request to enrol: where a response is lost, the same request again uses the join token no second time.
    request_id: String,
    state: Mutex<State>,
}

/// The credential that this edge has.
#[derive(Debug, Default)]
struct State {
    stored: Option<StoredCredential>,
    /// True after the control plane refused it, until the join token was tried.
    is_refused: bool,
}

/// The reason that there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is none, and no join token to get one with.
    #[error(
        "this edge has no credential and no join token; create one with `mcpctl create join-token` and pass it \
         with --join-token or --join-token-file"
    )]
    NoJoinToken,
    /// The control plane refused the join token.
    #[error("the control plane refused to enrol this edge: {} ({})", .0.message(), .0.code())]
    Refused(Box<tonic::Status>),
    /// What answers there is no control plane, or cannot be spoken to.
    #[error("it cannot be spoken to: {}", unreached(.0))]
    NotReached(Box<tonic::Status>),
    /// The control plane sent a credential that cannot be used.
    #[error("the control plane sent a credential that contains characters that are not allowed in a header")]
    Unusable,
}

/// The credential as it is kept on disk.
#[derive(Clone, Serialize, Deserialize)]
struct StoredCredential {
    edge_id: String,
    credential: String,
    obtained: u64,
    expires: u64,
}

/// A status that has a cause was made on this side, of an answer that is none.
fn refusal(status: tonic::Status) -> CredentialError {
    let is_own = std::error::Error::source(&status).is_some();
    let status = Box::new(status);
    if is_own { CredentialError::NotReached(status) } else { CredentialError::Refused(status) }
}

/// Says why a control plane cannot be spoken to, and which option is about it.
pub fn unreached(error: &(dyn std::error::Error + 'static)) -> String {
    match Fault::of(error) {
        Some(fault @ Fault::UnknownIssuer) => {
            format!(
                "{fault}; pass the authority's certificate with --control-plane-ca, a file that is read anew at each attempt"
            )
        }
        Some(fault) => format!("{fault}; check --control-plane"),
        None if is_no_grpc(error) => {
            "what answers there speaks no gRPC: it may speak TLS (https://), or be an edge or \
                                      a web server; check --control-plane"
                .to_owned()
        }
        None => innermost(error).to_string(),
    }
}

/// Whether HTTP/2 failed by what was said in it, and not because the connection broke.
fn is_no_grpc(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.is::<hyper::Error>()) && !innermost(error).is::<std::io::Error>()
}

/// Returns the innermost cause: the outer ones only say "transport error".
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

const RETRY_RENEWAL: Duration = Duration::from_secs(30);

impl Enrollment {
    /// Creates the enrolment of `edge_id`, with the credential in the file at `path` if it is this edge's.
    pub fn new(edge_id: String, join_token: Option<Secret>, path: PathBuf) -> Enrollment {
        let stored = read(&path).filter(|stored| stored.edge_id == edge_id);
        let state = Mutex::new(State { stored, is_refused: false });
        let request_id = uuid::Uuid::new_v4().to_string();
        Enrollment { edge_id, join_token, path, request_id, state }
    }

    /// Returns the stored credential, or obtains one for the join token.
    pub async fn credential(&self, channel: &Channel) -> Result<EdgeCredential, CredentialError> {
        match self.usable(clock::now()) {
            Some(stored) => stored.credential(),
            None => {
                // Whatever comes of it, the stored credential has its turn after that.
                self.state().is_refused = false;
                self.enroll(channel).await
            }
        }
    }

    /// Notes that the control plane refused the credential: `credential` tries the join token next, if there is one. The
    /// credential is kept, because the control plane may refuse the join token, and accept the credential again.
    pub fn refused(&self) {
        self.state().is_refused = self.join_token.is_some();
    }

    /// Waits until the credential is half through its life, and renews it. Retries until it works.
    pub async fn keep_renewed(&self, channel: &Channel) -> EdgeCredential {
        loop {
            let due = self.stored().map_or(RETRY_RENEWAL, |stored| stored.renew_in(clock::now()));
            tokio::time::sleep(due).await;
            match self.renew(channel).await {
                Ok(credential) => return credential,
                Err(error) => tracing::warn!(%error, "cannot renew the edge's credential"),
            }
            tokio::time::sleep(RETRY_RENEWAL).await;
        }
    }

    async fn enroll(&self, channel: &Channel) -> Result<EdgeCredential, CredentialError> {
        let join_token = self.join_token.as_ref().ok_or(CredentialError::NoJoinToken)?;
        let request = EnrollEdgeRequest {
            join_token: join_token.expose().to_owned(),
            edge_id: self.edge_id.clone(),
            // It proves that this is the edge that enrolled before, also after it has expired.
            credential: self.stored().map(|stored| stored.credential).unwrap_or_default(),
            request_id: self.request_id.clone(),
        };
        let mut client = EnrollmentServiceClient::new(channel.clone());
        let answer = client.enroll_edge(request).await.map_err(refusal)?.into_inner();
        tracing::info!(edge = self.edge_id, "enrolled with the control plane");
        self.keep(answer.credential, answer.expire_time)
    }

    async fn renew(&self, channel: &Channel) -> Result<EdgeCredential, CredentialError> {
        let credential = self.stored().ok_or(CredentialError::NoJoinToken)?.credential()?;
        let mut client = EnrollmentServiceClient::new(channel.clone());
        let request = credential.authorise(RenewEdgeCredentialRequest {});
        let answer = client.renew_edge_credential(request).await.map_err(refusal)?.into_inner();
        self.keep(answer.credential, answer.expire_time)
    }

    fn keep(
        &self,
        credential: String,
        expire_time: Option<prost_types::Timestamp>,
    ) -> Result<EdgeCredential, CredentialError> {
        let expires = expire_time.map_or(u64::MAX, |time| u64::try_from(time.seconds).unwrap_or(0));
        let stored =
            StoredCredential { edge_id: self.edge_id.clone(), credential, obtained: clock::now(), expires };
        let credential = stored.credential()?;
        *self.state() = State { stored: Some(stored.clone()), is_refused: false };
        let content = serde_json::to_vec(&stored).map_err(|_| CredentialError::Unusable)?;
        if let Err(error) = files::write(&self.path, &content) {
            tracing::warn!(path = %self.path.display(), %error, "cannot store the edge's credential");
        }
        Ok(credential)
    }

    /// Returns the stored credential if it has not expired and the control plane has not refused it.
    fn usable(&self, now: u64) -> Option<StoredCredential> {
        let state = self.state();
        state.stored.clone().filter(|stored| stored.expires > now && !state.is_refused)
    }

    fn stored(&self) -> Option<StoredCredential> {
        self.state().stored.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EdgeCredential {
    /// A credential that no control plane accepts.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self(MetadataValue::from_static("none"))
    }

    /// Wraps a message in a request with this credential.
    pub fn authorise<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.0.clone());
        request
    }
}

impl StoredCredential {
    fn credential(&self) -> Result<EdgeCredential, CredentialError> {
        let value = MetadataValue::try_from(format!("Bearer {}", self.credential));
        let mut value = value.map_err(|_| CredentialError::Unusable)?;
        value.set_sensitive(true);
        Ok(EdgeCredential(value))
    }

    fn renew_in(&self, now: u64) -> Duration {
        // A year is as good as never, and fits in a timer.
        const LONGEST: u64 = 365 * 86_400;
        let half = self.obtained + self.expires.saturating_sub(self.obtained) / 2;
        Duration::from_secs(half.saturating_sub(now).min(LONGEST))
    }
}

fn read(path: &std::path::Path) -> Option<StoredCredential> {
    let content = files::read(path)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot read the credential"));
    let stored = serde_json::from_slice(&content.ok()??);
    stored.inspect_err(|_| tracing::warn!(path = %path.display(), "the stored credential is invalid")).ok()
}

impl std::fmt::Debug for EdgeCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EdgeCredential(…)")
    }
}

impl std::fmt::Debug for StoredCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredCredential").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_half_life() {
        let stored = |obtained, expires| StoredCredential {
            edge_id: "e".into(),
            credential: "c".into(),
            obtained,
            expires,
        };
        assert_eq!(stored(100, 200).renew_in(100), Duration::from_secs(50));
        assert_eq!(stored(100, 200).renew_in(190), Duration::ZERO);
        assert_eq!(stored(100, 50).renew_in(120), Duration::ZERO);
        assert!(stored(0, u64::MAX).renew_in(0) <= Duration::from_secs(365 * 86_400));
    }

    #[test]
    fn a_stored_credential_is_found_again_by_its_edge_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.credential");
        let at = |id: &str| Enrollment::new(id.to_owned(), None, path.clone());
        let future = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        at("e1").keep("s3cr3t".to_owned(), Some(future)).unwrap();
        let reloaded = at("e1");
        assert_eq!(reloaded.stored().unwrap().credential, "s3cr3t");
        assert!(!format!("{reloaded:?}").contains("s3cr3t"));
        assert!(at("e2").stored().is_none());
        reloaded.refused();
        assert!(reloaded.usable(0).is_some(), "without a join token it is all there is");
        std::fs::write(&path, "{").unwrap();
        assert!(at("e1").stored().is_none());
    }

    #[tokio::test]
    async fn a_refused_credential_has_its_turn_again_after_the_join_token() {
        let folder = tempfile::tempdir().unwrap();
        let join_token = Some("j01n".parse().unwrap());
        let enrollment = Enrollment::new("e1".to_owned(), join_token, folder.path().join("edge.credential"));
        enrollment.keep("s3cr3t".to_owned(), None).unwrap();
        assert!(enrollment.usable(0).is_some());
        enrollment.refused();
        assert!(enrollment.usable(0).is_none());
        // Nobody listens there.
        let nowhere = tonic::transport::Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
        assert!(enrollment.credential(&nowhere).await.is_err());
        assert_eq!(enrollment.usable(0).unwrap().credential, "s3cr3t");
    }
}
