//! The service that keeps tokens. A bearer is signed where its token is created, and shown there only.

use tonic::{Request, Response, Status};
use trunkline::identity::v1::token_service_server::TokenService;
use trunkline::identity::v1::{
    CreateTokenRequest, CreateTokenResponse, DeleteTokenRequest, DeleteTokenResponse, GetTokenRequest,
    GetTokenResponse, ListTokensRequest, ListTokensResponse, RevokeTokenRequest, RevokeTokenResponse, Token,
    UpdateTokenRequest, UpdateTokenResponse,
};

use super::Registry;
use super::list::List;
use super::resource::{Create, Delete, Update, check_name};
use super::write::Write;
use crate::clock;
use crate::domain::Kind;
use crate::error::Error;
use crate::store::Row;

#[tonic::async_trait]
impl TokenService for Registry {
    async fn get_token(
        &self,
        request: Request<GetTokenRequest>,
    ) -> Result<Response<GetTokenResponse>, Status> {
        let token = self.get(&request.into_inner().name).await?;
        Ok(Response::new(GetTokenResponse { token: Some(token) }))
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let request = request.into_inner();
        let list = List {
            parent: None,
            page_size: request.page_size,
            page_token: &request.page_token,
            filter: &request.filter,
            order_by: &request.order_by,
        };
        let (tokens, next_page_token) = self.list(&list).await?;
        Ok(Response::new(ListTokensResponse { tokens, next_page_token }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let request = request.into_inner();
        let create = Create {
            parent: "",
            id: ("token_id", &request.token_id),
            message: ("token", request.token),
            validate_only: request.validate_only,
        };
        let (mut write, row) = self.prepare_create(&create).await?;
        if create.validate_only {
            write.finish().await?;
            return Ok(Response::new(CreateTokenResponse {
                token: Some(self.present(&row).await?),
                bearer: String::new(),
            }));
        }
        let (row, bearer) = write.sign(&row).await?;
        write.finish().await?.commit().await.map_err(Error::from)?;
        Ok(Response::new(CreateTokenResponse { token: Some(self.present(&row).await?), bearer }))
    }

    async fn update_token(
        &self,
        request: Request<UpdateTokenRequest>,
    ) -> Result<Response<UpdateTokenResponse>, Status> {
        let request = request.into_inner();
        if request.allow_missing {
            // The answer has no room for the bearer, which is shown once.
            let text = "is not for tokens: CreateToken and ApplyResources create them, and show the bearer";
            return Err(Error::field("allow_missing", text).into());
        }
        let update = Update {
            message: ("token", request.token),
            mask: request.update_mask,
            allow_missing: false,
            validate_only: request.validate_only,
        };
        let token = self.update(update).await?;
        Ok(Response::new(UpdateTokenResponse { token: Some(token) }))
    }

    async fn delete_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Result<Response<DeleteTokenResponse>, Status> {
        let request = request.into_inner();
        let delete = Delete {
            name: &request.name,
            etag: &request.etag,
            force: request.force,
            validate_only: request.validate_only,
        };
        let revision = self.delete::<Token>(delete).await?;
        Ok(Response::new(DeleteTokenResponse { revision }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let name = request.into_inner().name;
        check_name(Kind::Token, &name)?;
        let mut tx = self.store().write().await.map_err(Error::from)?;
        let row = tx.get(Kind::Token, &name).await.map_err(Error::from)?;
        let row = row.ok_or_else(|| Error::not_found(Kind::Token, &name))?;
        let mut token: Token = row.message().map_err(Error::from)?;
        // Once is for ever: the time of the first revocation stays.
        token.revoke_time.get_or_insert(clock::timestamp(tx.now_us()));
        let row = tx.put_status(&row, &token).await.map_err(Error::from)?;
        tx.commit().await.map_err(Error::from)?;
        Ok(Response::new(RevokeTokenResponse { token: Some(self.present(&row).await?) }))
    }
}

impl Write<'_> {
    /// Signs the bearer of a token that this write created.
    pub(super) async fn sign(&mut self, row: &Row) -> Result<(Row, String), Error> {
        let (bearer, key_id) =
            self.registry.inner.signer.sign_token(&row.name, &row.uid).map_err(Error::internal)?;
        let token = Token { key_id, ..row.message()? };
        Ok((self.tx.put_status(row, &token).await?, bearer))
    }
}
