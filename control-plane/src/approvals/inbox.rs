//! Decisions that come as webhooks: `POST /webhooks/approvals`, signed by who has the secret. Each is taken once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use http::{HeaderMap, StatusCode};
use inbound::{ConnectionHandle, LineLimit};
use serde::Deserialize;
use serde_json::json;
use trunkline::policy::v1::ApprovalState;

use super::counters::{ApprovalEvent, WebhookEvent};
use super::signature::SecretFile;
use super::{Approvals, WEBHOOK, check_comment, is_id, over};
use crate::clock;
use crate::store::approvals::{APPROVALS, Decision, word};
use crate::store::audit::Author;
use crate::store::{Store, StoreError};

/// Bytes of a body.
const MAX_BODY: usize = 64 << 10;
/// The time for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest name of who has decided elsewhere.
const MAX_BY: usize = 200;

/// Strangers can send as much as they like.
static REFUSED: LineLimit<String> = LineLimit::new();

/// What takes decisions.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// Where they are made.
    pub store: Store,
    /// What signs them.
    pub secrets: SecretFile,
    /// What is counted.
    pub approvals: Approvals,
}

/// A decision as it comes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    approval: String,
    decision: Verdict,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Approve,
    Deny,
}

/// Why a webhook decides nothing.
#[derive(Debug, thiserror::Error)]
enum InboxError {
    #[error("the body has more than {MAX_BODY} bytes, or did not come in time")]
    Body,
    #[error("{0}")]
    Signature(String),
    #[error("{0}")]
    Content(String),
    #[error("there is no approval {0}")]
    Unknown(String),
    #[error("{0}")]
    Over(String),
    #[error("the control plane cannot do that now; see its log")]
    Unable,
}

/// The route.
pub fn router(inbox: Inbox) -> Router {
    Router::new().route("/webhooks/approvals", post(take)).with_state(Arc::new(inbox))
}

async fn take(
    State(inbox): State<Arc<Inbox>>,
    connection: Option<Extension<ConnectionHandle>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let address = connection.as_ref().map(|Extension(connection)| connection.address().to_string());
    let place = match &connection {
        Some(Extension(connection)) => connection.public_request().map(Some),
        None => Some(None),
    };
    let Some(_place) = place else { return InboxError::Unable.into_response() };
    let author = Author {
        actor: WEBHOOK.to_owned(),
        address: address.unwrap_or_default(),
        action: "decide by webhook".to_owned(),
        ..Author::default()
    };
    match Arc::new(author.clone()).runs(inbox.decide(&headers, body)).await {
        Ok(answer) => {
            inbox.approvals.counters.count(WebhookEvent::Taken);
            Json(answer).into_response()
        }
        Err(error) => {
            inbox.approvals.counters.count(WebhookEvent::Refused);
            if let Some(times) = REFUSED.count(author.address.clone()) {
                tracing::warn!(%error, address = author.address, times, "refused a webhook about an approval");
            }
            error.into_response()
        }
    }
}

impl Inbox {
    async fn decide(&self, headers: &HeaderMap, body: Body) -> Result<serde_json::Value, InboxError> {
        let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await;
        let body = body.ok().and_then(Result::ok).ok_or(InboxError::Body)?;
        let secrets = self.secrets.read().map_err(|error| {
            tracing::error!(error, "cannot verify webhooks about approvals");
            InboxError::Unable
        })?;
        let now_s = clock::now_us() / 1_000_000;
        let id = secrets
            .verify(headers, &body, now_s)
            .map_err(|error| InboxError::Signature(error.to_string()))?;
        let sent = read(&body)?;
        self.write(id, sent).await
    }

    /// Decides, and notes the id with it. A webhook that came before is told what became of the approval.
    async fn write(&self, id: &str, sent: Sent) -> Result<serde_json::Value, InboxError> {
        let unknown = || InboxError::Unknown(sent.approval.clone());
        let approval = sent.approval.strip_prefix(APPROVALS).filter(|id| is_id(id)).ok_or_else(unknown)?;
        let mut tx = self.store.write().await?;
        let now_us = tx.now_us();
        let found = tx.approval(approval).await?.ok_or_else(unknown)?;
        if !tx.note_webhook(id, now_us).await? {
            return Ok(
                json!({"approval": found.name(), "state": word(found.state_at(now_us)), "repeated": true}),
            );
        }
        let decision = Decision {
            approves: sent.decision == Verdict::Approve,
            by: WEBHOOK.to_owned(),
            comment: comment(&sent),
            on_behalf_of: sent.by.clone(),
        };
        let over = over(&found, found.state_at(now_us));
        let Some(decided) = tx.decide_approval(found, &decision, now_us).await? else {
            return Err(InboxError::Over(over));
        };
        tx.commit().await?;
        let event = match decided.state {
            ApprovalState::Approved => ApprovalEvent::Approved,
            _ => ApprovalEvent::Denied,
        };
        self.approvals.counters.add(event, 1);
        Ok(json!({"approval": decided.name(), "state": word(decided.state)}))
    }
}

/// What is kept of what was said, and by whom.
fn comment(sent: &Sent) -> String {
    match (sent.by.as_str(), sent.comment.as_str()) {
        ("", comment) => comment.to_owned(),
        (by, "") => format!("({by})"),
        (by, comment) => format!("{comment} ({by})"),
    }
}

fn read(body: &[u8]) -> Result<Sent, InboxError> {
    let sent: Sent =
        serde_json::from_slice(body).map_err(|error| InboxError::Content(format!("the body: {error}")))?;
    if sent.by.chars().count() > MAX_BY || sent.by.chars().any(char::is_control) {
        return Err(InboxError::Content(format!(
            "by: must have at most {MAX_BY} characters, and no control character"
        )));
    }
    check_comment(&comment(&sent)).map_err(|error| InboxError::Content(format!("comment: {error}")))?;
    Ok(sent)
}

impl From<StoreError> for InboxError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "cannot decide about an approval");
        Self::Unable
    }
}

impl IntoResponse for InboxError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Signature(_) => StatusCode::UNAUTHORIZED,
            Self::Content(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Over(_) => StatusCode::CONFLICT,
            Self::Unable => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({"message": self.to_string()}))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_read_strictly() {
        let sent =
            read(br#"{"approval": "approvals/1", "decision": "deny", "comment": "No.", "by": "slack:U1"}"#)
                .unwrap();
        assert_eq!((sent.decision, comment(&sent).as_str()), (Verdict::Deny, "No. (slack:U1)"));
        let short = read(br#"{"approval": "approvals/1", "decision": "approve", "by": "slack:U1"}"#).unwrap();
        assert_eq!(comment(&short), "(slack:U1)");
        for bad in [
            r#"{"approval": "approvals/1"}"#,
            r#"{"approval": "approvals/1", "decision": "maybe"}"#,
            r#"{"approval": "approvals/1", "decision": "deny", "aproval": "x"}"#,
            r#"{"approval": "approvals/1", "decision": "deny", "decision": "approve"}"#,
            r#"{"approval": "approvals/1", "decision": "deny", "by": "a\nb"}"#,
            r#"{"approval": "approvals/1", "decision": "deny", "comment": "\u001b[2J"}"#,
            "[]",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
