//! Join tokens as people manage them: created, listed, revoked.
//!
//! It must not know how edges enrol with them.

use std::sync::Arc;
use std::time::Duration;

use tonic::Code;
use trunkline::discovery::v1::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, JoinToken, JoinTokenState, ListJoinTokensRequest,
    ListJoinTokensResponse,
};

use super::fleet_service::edge_of;
use super::page::Pages;
use crate::auth::admin::{random_token, token_hash};
use crate::auth::vault::Vault;
use crate::clock;
use crate::error::Error;
use crate::store::Store;
use crate::store::join_tokens::{JoinTokenRow, JoinTokens, NewJoinToken, id_of};

const DEFAULT_TTL: Duration = Duration::from_secs(3_600);
const SHORTEST_TTL: Duration = Duration::from_secs(60);
/// The longest life of a join token.
pub(super) const LONGEST_TTL: Duration = Duration::from_secs(30 * 86_400);
const DEFAULT_MAX_USES: i32 = 1;

/// The join tokens.
#[derive(Debug, Clone)]
pub(super) struct JoinTokenManager {
    table: JoinTokens,
    pages: Pages,
}

impl JoinTokenManager {
    /// Manages the join tokens of this database.
    pub(super) fn new(store: &Store, vault: Arc<Vault>) -> Self {
        Self { table: JoinTokens::new(store), pages: Pages::new(vault, "page of join tokens") }
    }

    /// Creates a join token.
    pub(super) async fn create(
        &self,
        request: CreateJoinTokenRequest,
    ) -> Result<CreateJoinTokenResponse, Error> {
        let ttl = request.ttl.as_ref().map_or(Some(DEFAULT_TTL), clock::duration);
        let ttl = ttl
            .filter(|ttl| (SHORTEST_TTL..=LONGEST_TTL).contains(ttl))
            .ok_or_else(|| Error::field("ttl", "must be between 1 minute and 30 days"))?;
        let max_uses = request.max_uses.unwrap_or(DEFAULT_MAX_USES);
        if max_uses < 0 {
            return Err(Error::field("max_uses", "must not be negative"));
        }
        let edge = if request.edge.is_empty() { "" } else { edge_of("edge", &request.edge)? };
        let expire_us = clock::now_us() + clock::duration_us(ttl);
        if request.validate_only {
            let expire_time = Some(clock::timestamp(expire_us));
            return Ok(CreateJoinTokenResponse { expire_time, ..Default::default() });
        }
        let join_token = format!("tlj_{}", random_token());
        let hash = token_hash(&join_token);
        let new = NewJoinToken { hash: &hash, expire_us, max_uses: max_uses.into(), edge };
        self.table.add(&new).await?;
        Ok(CreateJoinTokenResponse {
            join_token,
            expire_time: Some(clock::timestamp(expire_us)),
            name: name_of(id_of(&hash)),
        })
    }

    /// Finds one join token.
    pub(super) async fn get(&self, name: &str) -> Result<JoinToken, Error> {
        let row = self.table.get(id(name)?).await?.ok_or_else(|| not_found(name))?;
        Ok(self.with_edges(vec![row]).await?.remove(0))
    }

    /// Lists a page of join tokens.
    pub(super) async fn list(
        &self,
        request: &ListJoinTokensRequest,
    ) -> Result<ListJoinTokensResponse, Error> {
        let (size, after) = (Pages::size(request.page_size)?, self.pages.after(&request.page_token)?);
        let mut found = self.table.list(&after, size + 1).await?;
        let next_page_token = self.pages.cut(&mut found, size, |row| &row.id)?;
        Ok(ListJoinTokensResponse { join_tokens: self.with_edges(found).await?, next_page_token })
    }

    /// Revokes a join token, or only says whether it could be.
    pub(super) async fn delete(&self, name: &str, validate_only: bool) -> Result<(), Error> {
        let id = id(name)?;
        let exists =
            if validate_only { self.table.get(id).await?.is_some() } else { self.table.delete(id).await? };
        if exists { Ok(()) } else { Err(not_found(name)) }
    }

    /// Revokes the join tokens with which this edge alone enrols as often as it must.
    pub(super) async fn delete_unlimited_of(&self, edge: &str) -> Result<(), Error> {
        Ok(self.table.delete_unlimited_of(edge).await?)
    }

    /// Builds the messages of rows, which are in the order of their ids.
    async fn with_edges(&self, rows: Vec<JoinTokenRow>) -> Result<Vec<JoinToken>, Error> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
        let enrolled = self.table.enrolled_edges(&first.id, &last.id).await?;
        Ok(rows.iter().map(|row| message(row, &enrolled)).collect())
    }
}

/// Builds the message of a row. `enrolled` has the edges with the ids of their join tokens.
fn message(row: &JoinTokenRow, enrolled: &[(String, String)]) -> JoinToken {
    let edges = enrolled.iter().filter(|(token, _)| *token == row.id);
    JoinToken {
        name: name_of(&row.id),
        create_time: Some(clock::timestamp(row.create_us)),
        expire_time: Some(clock::timestamp(row.expire_us)),
        max_uses: i32::try_from(row.max_uses).unwrap_or(i32::MAX),
        uses: i32::try_from(row.uses).unwrap_or(i32::MAX),
        edge: if row.edge.is_empty() { String::new() } else { format!("edges/{}", row.edge) },
        enrolled_edges: edges.map(|(_, edge)| format!("edges/{edge}")).collect(),
        state: state(row, clock::now_us()).into(),
    }
}

fn state(row: &JoinTokenRow, now_us: i64) -> JoinTokenState {
    match row {
        row if row.expire_us <= now_us => JoinTokenState::Expired,
        row if row.max_uses > 0 && row.uses >= row.max_uses => JoinTokenState::UsedUp,
        _ => JoinTokenState::Valid,
    }
}

/// Returns the name of the join token with this id.
pub(super) fn name_of(id: &str) -> String {
    format!("joinTokens/{id}")
}

fn id(name: &str) -> Result<&str, Error> {
    let is_id = |id: &&str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let id = name.strip_prefix("joinTokens/").filter(is_id);
    id.ok_or_else(|| Error::field("name", format!("`{name}` is not of the form `joinTokens/{{join_token}}`")))
}

fn not_found(name: &str) -> Error {
    Error::new(Code::NotFound, "JOIN_TOKEN_NOT_FOUND", format!("{name} does not exist")).with("name", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_is_used_up_by_as_many_edges_as_may() {
        let row = |max_uses, uses| JoinTokenRow { expire_us: 10, max_uses, uses, ..Default::default() };
        assert_eq!(state(&row(1, 0), 9), JoinTokenState::Valid);
        assert_eq!(state(&row(1, 1), 9), JoinTokenState::UsedUp);
        assert_eq!(state(&row(0, 7), 9), JoinTokenState::Valid);
        assert_eq!(state(&row(1, 1), 10), JoinTokenState::Expired);
    }
}
