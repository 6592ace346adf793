//! Rpcs of tokens beyond the standard ones. A bearer is signed where its token is created, and shown there only.

use tonic::Code;
use trunkline::identity::v1::{
    CreateTokenRequest, CreateTokenResponse, RevokeTokenRequest, RevokeTokenResponse, Token,
    UpdateTokenRequest, UpdateTokenResponse,
};

use super::crud::{Create, RESOURCE_EXISTS, Update, check_name};
use super::rpc::{Call, Rpc};
use super::write::Write;
use crate::clock;
use crate::domain::Kind;
use crate::error::Error;
use crate::store::Row;

impl Rpc for CreateTokenRequest {
    type Response = CreateTokenResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let create = Create {
            parent: None,
            id: ("token_id", &self.token_id),
            message: ("token", self.token),
            validate_only: self.validate_only,
        };
        let (mut write, row) = match call.prepare_create(&create).await {
            Err(error) if error.reason() == RESOURCE_EXISTS => {
                return Err(call.taken(error, &format!("tokens/{}", self.token_id)).await);
            }
            prepared => prepared?,
        };
        check_expiry(&row.message()?, clock::now_us())?;
        if create.validate_only {
            write.finish().await?;
            let token = Some(call.present(&row).await?);
            return Ok(CreateTokenResponse { token, bearer: String::new() });
        }
        let (row, bearer) = write.sign(&row).await?;
        write.finish().await?.commit().await?;
        Ok(CreateTokenResponse { token: Some(call.present(&row).await?), bearer })
    }
}

/// A token that is over when it begins was meant otherwise. An update may end one: that is a way to do it.
fn check_expiry(token: &Token, now_us: i64) -> Result<(), Error> {
    let end = token.expire_time.as_ref().map(|end| end.seconds);
    match end.is_some_and(|end| end <= now_us / 1_000_000) {
        true => {
            Err(Error::field("token.expire_time", "is in the past; a token needs an end that comes, or none"))
        }
        false => Ok(()),
    }
}

impl Rpc for UpdateTokenRequest {
    type Response = UpdateTokenResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        if self.allow_missing {
            // The answer has no room for the bearer, which is shown once.
            let text = "is not supported for tokens; create them with CreateToken or ApplyResources, which return the bearer";
            return Err(Error::field("allow_missing", text));
        }
        let update = Update {
            message: ("token", self.token),
            mask: self.update_mask,
            allow_missing: false,
            validate_only: self.validate_only,
        };
        Ok(UpdateTokenResponse { token: Some(call.update(update).await?) })
    }
}

impl Rpc for RevokeTokenRequest {
    type Response = RevokeTokenResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let name = self.name;
        check_name(Kind::Token, &name)?;
        let mut write = Write::begin(call).await?;
        let found = write.look(Kind::Token, &name).await?.seen();
        let row = found.ok_or_else(|| Error::not_found(Kind::Token, &name))?;
        write.check_may_write(&row).await?;
        let mut tx = write.finish().await?;
        let mut token: Token = row.message()?;
        // Once is for ever: the time of the first revocation stays.
        token.revoke_time.get_or_insert(clock::timestamp(tx.now_us()));
        let row = tx.put_status(&row, &token).await?;
        tx.end_approvals_of(&row.uid).await?;
        tx.commit().await?;
        // For who restores a copy of the database from before.
        tracing::info!(token = name, "revoked a token");
        Ok(RevokeTokenResponse { token: Some(call.present(&row).await?) })
    }
}

impl Call<'_> {
    /// The error where a token is to be created that exists. One that was revoked is never valid again, whatever is done to it.
    async fn taken(&self, error: Error, name: &str) -> Error {
        match self.get::<Token>(name).await {
            Ok(token) if token.revoke_time.is_some() => {
                let text = format!("{name} exists and is revoked for good; delete it first");
                Error::new(Code::AlreadyExists, "TOKEN_REVOKED", text).with("name", name)
            }
            _ => error,
        }
    }
}

impl Write<'_> {
    /// Signs the bearer of a token that this write created. One that names certificates has none.
    pub(super) async fn sign(&mut self, row: &Row) -> Result<(Row, String), Error> {
        let token: Token = row.message()?;
        if !token.certificates.is_empty() {
            return Ok((row.clone(), String::new()));
        }
        let (bearer, key_id) =
            self.registry.inner.signer.sign_token(&row.name, &row.uid).map_err(Error::internal)?;
        let token = Token { key_id, ..token };
        Ok((self.tx.put_status(row, &token).await?, bearer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_ends_later_or_never() {
        let token = |seconds: Option<i64>| Token {
            expire_time: seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            ..Token::default()
        };
        check_expiry(&token(None), 100_000_000).unwrap();
        check_expiry(&token(Some(101)), 100_000_000).unwrap();
        let error = check_expiry(&token(Some(100)), 100_000_000).unwrap_err().to_string();
        assert_eq!(error, "token.expire_time is in the past; a token needs an end that comes, or none");
    }
}
