//! `EnrollmentService`: join tokens for people, credentials for edges.
//!
//! It must not know the stream.

use std::time::Duration;

use tonic::{Code, Request, Response, Status};
use trunkline::discovery::v1::enrollment_service_server::EnrollmentService;
use trunkline::discovery::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, EnrollEdgeRequest, EnrollEdgeResponse,
    RenewEdgeCredentialRequest, RenewEdgeCredentialResponse,
};

use super::authenticate::edge;
use super::fleet_service::is_edge_id;
use crate::auth::admin::{random_token, token_hash};
use crate::auth::credential::EdgeCredentials;
use crate::clock;
use crate::error::Error;
use crate::store::edges::Edges;

const DEFAULT_TTL: Duration = Duration::from_secs(3_600);
const SHORTEST_TTL: Duration = Duration::from_secs(60);
const LONGEST_TTL: Duration = Duration::from_secs(30 * 86_400);

/// The service.
#[derive(Debug, Clone)]
pub struct Enrollment {
    edges: Edges,
    credentials: EdgeCredentials,
}

impl Enrollment {
    /// Enrols into this table.
    pub fn new(edges: Edges, credentials: EdgeCredentials) -> Self {
        Self { edges, credentials }
    }

    /// Makes a join token. Answers it, and when it ends, in microseconds.
    pub async fn create(&self, ttl: Duration, max_uses: i32) -> Result<(String, i64), Error> {
        let token = format!("tlj_{}", random_token());
        let expire_us = clock::now_us() + clock::duration_us(ttl);
        let hash = token_hash(&token);
        self.edges.add_join_token(&hash, expire_us, i64::from(max_uses)).await?;
        Ok((token, expire_us))
    }

    fn credential(&self, edge: &str, enrolled: i64) -> Result<(String, i64), Error> {
        self.credentials.issue(edge, enrolled).map_err(Error::internal)
    }
}

#[tonic::async_trait]
impl EnrollmentService for Enrollment {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let request = request.into_inner();
        let ttl = request.ttl.as_ref().map_or(Some(DEFAULT_TTL), clock::duration);
        let ttl = ttl
            .filter(|ttl| (SHORTEST_TTL..=LONGEST_TTL).contains(ttl))
            .ok_or_else(|| Error::field("ttl", "must be between 1 minute and 30 days"))?;
        if request.max_uses < 0 {
            return Err(Error::field("max_uses", "must not be negative").into());
        }
        let (join_token, expire_us) = self.create(ttl, request.max_uses).await?;
        Ok(Response::new(CreateJoinTokenResponse {
            join_token,
            expire_time: Some(clock::timestamp(expire_us)),
        }))
    }

    async fn enroll_edge(
        &self,
        request: Request<EnrollEdgeRequest>,
    ) -> Result<Response<EnrollEdgeResponse>, Status> {
        let request = request.into_inner();
        let edge = request.edge_id;
        if !is_edge_id(&edge) {
            return Err(Error::field("edge_id", "does not match `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`").into());
        }
        if !self.edges.use_join_token(&token_hash(&request.join_token)).await.map_err(Error::from)? {
            let message = "the join token is unknown, expired or used up";
            return Err(Error::new(Code::Unauthenticated, "JOIN_TOKEN_INVALID", message).into());
        }
        let enrolled = self.edges.enroll(&edge).await.map_err(Error::from)?;
        tracing::info!(edge, "edge enrolled");
        let (credential, expire_us) = self.credential(&edge, enrolled)?;
        Ok(Response::new(EnrollEdgeResponse { credential, expire_time: Some(clock::timestamp(expire_us)) }))
    }

    async fn renew_edge_credential(
        &self,
        request: Request<RenewEdgeCredentialRequest>,
    ) -> Result<Response<RenewEdgeCredentialResponse>, Status> {
        let claims = edge(&request)?;
        let (credential, expire_us) = self.credential(&claims.sub, claims.enrolled)?;
        let expire_time = Some(clock::timestamp(expire_us));
        Ok(Response::new(RenewEdgeCredentialResponse { credential, expire_time }))
    }
}
