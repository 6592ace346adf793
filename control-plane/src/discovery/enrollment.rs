//! `EnrollmentService`: join tokens for people, credentials for edges.
//!
//! It must not know the stream.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use inbound::{ConnectionHandle, LineLimit};
use tonic::{Code, Request, Response, Status};
use trunkline::discovery::v1::enrollment_service_server::EnrollmentService;
use trunkline::discovery::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteJoinTokenRequest, DeleteJoinTokenResponse,
    EnrollEdgeRequest, EnrollEdgeResponse, GetJoinTokenRequest, GetJoinTokenResponse, ListJoinTokensRequest,
    ListJoinTokensResponse, RenewEdgeCredentialRequest, RenewEdgeCredentialResponse,
};

use super::announcement::{EDGE_ID, is_edge_id};
use super::authenticate::edge;
use super::enrollment_counters::EnrollmentCounters;
use super::fleet::Fleet;
use super::join_tokens::{JoinTokenManager, LONGEST_TTL};
use crate::auth::admin::token_hash;
use crate::auth::credential::EdgeCredentials;
use crate::auth::vault::Vault;
use crate::clock;
use crate::error::Error;
use crate::store::Store;
use crate::store::enrollments::{EnrollmentRequest, Enrollments, Outcome, TokenRefusal};
use crate::store::join_tokens::id_of;

/// Longest id of a request, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// The service.
#[derive(Debug, Clone)]
pub struct Enrollment {
    join_tokens: JoinTokenManager,
    enrollments: Enrollments,
    credentials: EdgeCredentials,
    fleet: Arc<Fleet>,
    counters: Arc<EnrollmentCounters>,
    refusals: Arc<LineLimit<(IpAddr, &'static str)>>,
}

/// Who asked to enrol, for the log.
struct Attempt<'a> {
    edge: &'a str,
    join_token: &'a str,
    address: String,
    /// Whom the lines about refusals count for.
    subscriber: IpAddr,
}

impl Enrollment {
    /// Enrols into this database and fleet.
    pub fn new(store: &Store, credentials: EdgeCredentials, fleet: Arc<Fleet>, vault: Arc<Vault>) -> Self {
        Self {
            join_tokens: JoinTokenManager::new(store, vault),
            enrollments: Enrollments::new(store),
            credentials,
            fleet,
            counters: Arc::default(),
            refusals: Arc::new(LineLimit::new()),
        }
    }

    /// Makes a join token, good for one edge.
    pub async fn create_join_token(&self) -> Result<String, Error> {
        Ok(self.join_tokens.create(CreateJoinTokenRequest::default()).await?.join_token)
    }

    /// Makes a join token with which the edge of this id enrols as often as it must, in the place of every such token of it.
    pub async fn create_join_token_of(&self, edge: &str) -> Result<CreateJoinTokenResponse, Error> {
        self.join_tokens.delete_unlimited_of(edge).await?;
        let request = CreateJoinTokenRequest {
            edge: format!("edges/{edge}"),
            max_uses: Some(0),
            ttl: prost_types::Duration::try_from(LONGEST_TTL).ok(),
            ..Default::default()
        };
        self.join_tokens.create(request).await
    }

    /// Revokes a join token.
    pub async fn delete_join_token(&self, name: &str) -> Result<(), Error> {
        self.join_tokens.delete(name, false).await
    }

    /// The requests to enrol that this replica has answered.
    pub fn counters(&self) -> Arc<EnrollmentCounters> {
        self.counters.clone()
    }

    async fn enroll(
        &self,
        request: &EnrollEdgeRequest,
        connection: Option<&ConnectionHandle>,
    ) -> Result<EnrollEdgeResponse, Error> {
        let edge = &request.edge_id;
        if !is_edge_id(edge) {
            return Err(Error::field("edge_id", EDGE_ID));
        }
        if request.request_id.len() > MAX_REQUEST_ID {
            return Err(Error::field("request_id", format!("must have at most {MAX_REQUEST_ID} bytes")));
        }
        let join_hash = token_hash(&request.join_token);
        let proved = self.proved(edge, &request.credential);
        let request_hash =
            if request.request_id.is_empty() { String::new() } else { token_hash(&request.request_id) };
        let outcome = self.enrollments.enroll(EnrollmentRequest {
            edge,
            token_hash: &join_hash,
            proved: &proved,
            request_hash: &request_hash,
        });
        let outcome = outcome.await?;
        self.counters.count(&outcome);
        let attempt = Attempt {
            edge,
            join_token: id_of(&join_hash),
            address: connection.map(|it| it.address().to_string()).unwrap_or_default(),
            subscriber: connection.map_or(Ipv6Addr::UNSPECIFIED.into(), ConnectionHandle::subscriber),
        };
        let enrollment = self.settle(outcome, &attempt).await?;
        let (credential, expire_us) = self.credential(edge, &enrollment)?;
        Ok(EnrollEdgeResponse { credential, expire_time: Some(clock::timestamp(expire_us)) })
    }

    /// Tells everybody of an outcome. Returns the id of the enrolment, or the refusal.
    async fn settle(&self, outcome: Outcome, attempt: &Attempt<'_>) -> Result<String, Error> {
        let Attempt { edge, join_token, address, .. } = attempt;
        match outcome {
            Outcome::Enrolled(enrollment) => {
                tracing::info!(edge, join_token, address, "edge enrolled");
                Ok(enrollment)
            }
            Outcome::Replaced(enrollment) => {
                self.fleet.end_enrollments(edge, Some(&enrollment));
                tracing::info!(
                    edge,
                    join_token,
                    address,
                    "edge enrolled again; its enrolment before has ended"
                );
                Ok(enrollment)
            }
            Outcome::Repeated(enrollment) => Ok(enrollment),
            Outcome::Taken => {
                self.log_refusal(attempt, "the edge is enrolled already");
                self.enrollments.count_refused(edge, address, join_token).await?;
                Err(taken(edge))
            }
            Outcome::TokenRefused(refusal) => {
                self.log_refusal(attempt, reason(refusal));
                Err(token_refused())
            }
        }
    }

    /// Writes a line for each address, reason and minute: whoever asks again and again must not fill the log.
    fn log_refusal(&self, attempt: &Attempt<'_>, reason: &'static str) {
        let Attempt { edge, join_token, address, subscriber } = attempt;
        if let Some(times) = self.refusals.count((*subscriber, reason)) {
            tracing::warn!(edge, join_token, address, reason, times, "refused an enrolment");
        }
    }

    /// Reads the enrolment that a credential proves its holder to have, or had. Empty: none of this edge.
    fn proved(&self, edge: &str, credential: &str) -> String {
        let claims = self.credentials.verify_ended(credential).ok();
        claims.filter(|claims| claims.sub == edge).map(|claims| claims.enrollment).unwrap_or_default()
    }

    fn credential(&self, edge: &str, enrollment: &str) -> Result<(String, i64), Error> {
        self.credentials.issue(edge, enrollment).map_err(Error::internal)
    }
}

fn reason(refusal: TokenRefusal) -> &'static str {
    match refusal {
        TokenRefusal::Unknown => "the join token is unknown or was deleted",
        TokenRefusal::Expired => "the join token has expired",
        TokenRefusal::UsedUp => "the join token is used up",
        TokenRefusal::OtherEdge => "the join token was created for another edge",
    }
}

/// The same for every reason: a stranger must not learn which tokens exist.
fn token_refused() -> Error {
    let message = "the join token is unknown, expired, used up, or for another edge; create one with \
                   `mcpctl create join-token`";
    Error::new(Code::Unauthenticated, "JOIN_TOKEN_INVALID", message)
}

fn taken(edge: &str) -> Error {
    let message = format!(
        "edge `{edge}` is enrolled already, and a join token alone does not replace it; choose another id with \
         --edge-id, or have an administrator end that enrolment with `mcpctl create join-token --edge {edge}` or \
         `mcpctl delete edge {edge}`"
    );
    Error::new(Code::AlreadyExists, "EDGE_EXISTS", message).with("edge", edge)
}

#[tonic::async_trait]
impl EnrollmentService for Enrollment {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        Ok(Response::new(self.join_tokens.create(request.into_inner()).await?))
    }

    async fn get_join_token(
        &self,
        request: Request<GetJoinTokenRequest>,
    ) -> Result<Response<GetJoinTokenResponse>, Status> {
        let join_token = self.join_tokens.get(&request.into_inner().name).await?;
        Ok(Response::new(GetJoinTokenResponse { join_token: Some(join_token) }))
    }

    async fn list_join_tokens(
        &self,
        request: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        Ok(Response::new(self.join_tokens.list(&request.into_inner()).await?))
    }

    async fn delete_join_token(
        &self,
        request: Request<DeleteJoinTokenRequest>,
    ) -> Result<Response<DeleteJoinTokenResponse>, Status> {
        let request = request.into_inner();
        self.join_tokens.delete(&request.name, request.validate_only).await?;
        Ok(Response::new(DeleteJoinTokenResponse {}))
    }

    async fn enroll_edge(
        &self,
        request: Request<EnrollEdgeRequest>,
    ) -> Result<Response<EnrollEdgeResponse>, Status> {
        let connection = request.extensions().get::<ConnectionHandle>().cloned();
        Ok(Response::new(self.enroll(&request.into_inner(), connection.as_ref()).await?))
    }

    async fn renew_edge_credential(
        &self,
        request: Request<RenewEdgeCredentialRequest>,
    ) -> Result<Response<RenewEdgeCredentialResponse>, Status> {
        let claims = edge(&request)?;
        let (credential, expire_us) = self.credential(&claims.sub, &claims.enrollment)?;
        let expire_time = Some(clock::timestamp(expire_us));
        Ok(Response::new(RenewEdgeCredentialResponse { credential, expire_time }))
    }
}
