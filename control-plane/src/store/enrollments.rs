//! Enrolments: an edge's id and a use of a join token become an enrolment, in one transaction or not at all.
//!
//! It must not know what proves an enrolment: the caller has verified that.

use std::sync::Arc;

use serde_json::json;
use sqlx::{AnyConnection, Connection as _, Row as _};
use tokio::sync::Mutex;
use trunkline::admin::v1::{AuditKind, AuditRecord};

use super::audit::{Author, GapClaim, append_to};
use super::join_tokens::{JoinTokenRow, id_of, read as read_join_token};
use super::{Store, StoreError};
use crate::clock;

/// A request to enrol.
#[derive(Debug, Clone, Copy)]
pub struct EnrollmentRequest<'a> {
    /// The id that the edge wants.
    pub edge: &'a str,
    /// The hash of the join token that was presented.
    pub token_hash: &'a str,
    /// The id of the enrolment whose credential was presented. Empty: none.
    pub proved: &'a str,
    /// The hash of the id of the request. Empty: it has none.
    pub request_hash: &'a str,
}

/// The outcome of a request to enrol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The edge is new. Holds the id of its enrolment.
    Enrolled(String),
    /// The edge was enrolled, and its enrolment before has ended. Holds the id of the new one.
    Replaced(String),
    /// The same request has enrolled before. Holds the id of that enrolment.
    Repeated(String),
    /// The id is enrolled, and nothing permits to end that enrolment.
    Taken,
    /// The join token is not valid for this edge.
    TokenRefused(TokenRefusal),
}

/// The reason why a join token is refused. For the administrator: whoever presents it is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefusal {
    /// None of this hash is stored: it never existed, was deleted, or ended long ago.
    Unknown,
    /// Its time is over.
    Expired,
    /// As many edges as may have enrolled with it.
    UsedUp,
    /// It was created for another edge.
    OtherEdge,
}

/// The tables.
#[derive(Debug, Clone)]
pub struct Enrollments {
    store: Store,
    /// One at a time waits for the turn of this process to write: whoever writes the registry waits for one enrolment at most,
    /// however many edges enrol at once.
    line: Arc<Mutex<()>>,
}

impl Enrollments {
    /// The tables of this database.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), line: Arc::default() }
    }

    /// Enrols an edge: uses the join token and stores the enrolment, or changes nothing.
    pub async fn enroll(&self, request: EnrollmentRequest<'_>) -> Result<Outcome, StoreError> {
        let _line = self.line.lock().await;
        let _turn = self.store.inner.writer.lock().await;
        let mut connection = self.store.pool().acquire().await?;
        let mut transaction = connection.begin().await?;
        let outcome = enroll(&mut transaction, request).await?;
        match outcome {
            Outcome::Enrolled(_) | Outcome::Replaced(_) => {
                let gap = self.record(&mut transaction, request).await?;
                transaction.commit().await?;
                if let Some(gap) = gap {
                    gap.said();
                }
            }
            Outcome::Repeated(_) | Outcome::Taken | Outcome::TokenRefused(_) => {
                transaction.rollback().await?
            }
        }
        Ok(outcome)
    }

    /// Records an enrolment: the join token has made it.
    async fn record(
        &self,
        transaction: &mut AnyConnection,
        request: EnrollmentRequest<'_>,
    ) -> Result<Option<GapClaim>, StoreError> {
        let Some(author) = Author::current() else { return Ok(None) };
        let record = AuditRecord {
            time: Some(clock::timestamp(clock::now_us())),
            kind: AuditKind::Change.into(),
            actor: format!("joinTokens/{}", id_of(request.token_hash)),
            address: author.address.clone(),
            action: author.action.clone(),
            resource: format!("edges/{}", request.edge),
            after_json: json!({ "edge": request.edge }).to_string(),
            request_id: author.request_id.clone(),
            count: 1,
            ..AuditRecord::default()
        };
        append_to(transaction, vec![record], self.store.audit_health()).await
    }

    /// Counts an attempt to enrol under the id of an edge that is enrolled.
    pub async fn count_refused(&self, edge: &str, address: &str, join_token: &str) -> sqlx::Result<()> {
        let _line = self.line.lock().await;
        let _turn = self.store.turn().await;
        sqlx::query(
            "UPDATE edges SET refused_count = refused_count + 1, refused_us = $2, refused_address = $3, \
             refused_join_token = $4 WHERE id = $1",
        )
        .bind(edge)
        .bind(clock::now_us())
        .bind(address)
        .bind(join_token)
        .execute(self.store.pool())
        .await?;
        Ok(())
    }
}

async fn enroll(database: &mut AnyConnection, request: EnrollmentRequest<'_>) -> sqlx::Result<Outcome> {
    // The first statement writes, and holds the join token: others who use it wait here, on every replica.
    let Some(token) = use_token(database, request).await? else {
        return match current(database, request).await? {
            Some(current) if current.same_request && token_is_live(database, request).await? => {
                Ok(Outcome::Repeated(current.id))
            }
            _ => refusal(database, request).await.map(Outcome::TokenRefused),
        };
    };
    let current = current(database, request).await?;
    let before = match &current {
        Some(current) if current.same_request => return Ok(Outcome::Repeated(current.id.clone())),
        Some(current) if may_replace(current, &token, request) => Some(current.id.as_str()),
        _ => None,
    };
    let enrollment = uuid::Uuid::new_v4().simple().to_string();
    // Where somebody else has enrolled the id just now, `before` is not the present one.
    Ok(match (begin(database, request, before, &enrollment).await?, before) {
        (false, _) => Outcome::Taken,
        (true, None) => Outcome::Enrolled(enrollment),
        (true, Some(_)) => Outcome::Replaced(enrollment),
    })
}

/// Tells whether a request may end the enrolment that its edge has now.
fn may_replace(current: &CurrentEnrollment, token: &JoinTokenRow, request: EnrollmentRequest<'_>) -> bool {
    let is_own = !request.proved.is_empty() && request.proved == current.id;
    token.edge == request.edge || is_own
}

/// Uses a join token once, where it is valid for this edge.
async fn use_token(
    database: &mut AnyConnection,
    request: EnrollmentRequest<'_>,
) -> sqlx::Result<Option<JoinTokenRow>> {
    let row = sqlx::query(
        "UPDATE join_tokens SET uses = uses + 1 WHERE hash = $1 AND expire_us > $2 \
         AND (max_uses = 0 OR uses < max_uses) AND (edge = '' OR edge = $3) RETURNING *",
    )
    .bind(request.token_hash)
    .bind(clock::now_us())
    .bind(request.edge)
    .fetch_optional(database)
    .await?;
    row.as_ref().map(read_join_token).transpose()
}

async fn token(database: &mut AnyConnection, hash: &str) -> sqlx::Result<Option<JoinTokenRow>> {
    let row = sqlx::query("SELECT * FROM join_tokens WHERE hash = $1").bind(hash).fetch_optional(database);
    row.await?.as_ref().map(read_join_token).transpose()
}

/// Tells whether a join token exists and has not expired, however often it was used.
async fn token_is_live(database: &mut AnyConnection, request: EnrollmentRequest<'_>) -> sqlx::Result<bool> {
    let token = token(database, request.token_hash).await?;
    Ok(token.is_some_and(|token| token.expire_us > clock::now_us()))
}

async fn refusal(database: &mut AnyConnection, request: EnrollmentRequest<'_>) -> sqlx::Result<TokenRefusal> {
    Ok(match token(database, request.token_hash).await? {
        None => TokenRefusal::Unknown,
        Some(token) if token.expire_us <= clock::now_us() => TokenRefusal::Expired,
        Some(token) if !token.edge.is_empty() && token.edge != request.edge => TokenRefusal::OtherEdge,
        Some(_) => TokenRefusal::UsedUp,
    })
}

/// The enrolment that an edge has now.
struct CurrentEnrollment {
    id: String,
    /// True if the same request made it, with the same join token.
    same_request: bool,
}

async fn current(
    database: &mut AnyConnection,
    request: EnrollmentRequest<'_>,
) -> sqlx::Result<Option<CurrentEnrollment>> {
    let row = sqlx::query("SELECT enrollment, join_token, request_hash FROM edges WHERE id = $1")
        .bind(request.edge)
        .fetch_optional(database)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (join_token, hash): (String, String) = (row.try_get("join_token")?, row.try_get("request_hash")?);
    let same_request =
        !hash.is_empty() && hash == request.request_hash && join_token == id_of(request.token_hash);
    Ok(Some(CurrentEnrollment { id: row.try_get("enrollment")?, same_request }))
}

/// Begins an enrolment of an edge that has none, or ends its enrolment `before`. What was observed of the edge goes with that, so
/// that its siblings forget it. Answers whether `before`, or none, was the present one.
async fn begin(
    database: &mut AnyConnection,
    request: EnrollmentRequest<'_>,
    before: Option<&str>,
    enrollment: &str,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "INSERT INTO edges (id, enroll_us, state_us, enrollment, join_token, request_hash, refusals, replica, \
         connection, beat_us, version, client_address, egress, sibling_address, sibling_certificate, sent_revision, \
         answered_revision, acked_revision, behind_us) \
         VALUES ($1, $2, $2, $3, $4, $5, $6, '', 0, 0, '', '', '', '', '', 0, 0, 0, 0) \
         ON CONFLICT (id) DO UPDATE SET enroll_us = excluded.enroll_us, state_us = excluded.state_us, \
         enrollment = excluded.enrollment, join_token = excluded.join_token, \
         request_hash = excluded.request_hash, refusals = excluded.refusals, replica = excluded.replica, \
         connection = excluded.connection, beat_us = excluded.beat_us, version = excluded.version, \
         client_address = excluded.client_address, egress = excluded.egress, sibling_address = excluded.sibling_address, \
         sibling_certificate = excluded.sibling_certificate, sent_revision = excluded.sent_revision, \
         answered_revision = excluded.answered_revision, acked_revision = excluded.acked_revision, \
         behind_us = excluded.behind_us WHERE edges.enrollment = $7",
    )
    .bind(request.edge)
    .bind(clock::now_us())
    .bind(enrollment)
    .bind(id_of(request.token_hash))
    .bind(request.request_hash)
    .bind([].as_slice() as &[u8])
    // No enrolment has an empty id.
    .bind(before.unwrap_or_default())
    .execute(database)
    .await?;
    Ok(done.rows_affected() > 0)
}
