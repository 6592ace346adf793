//! Client certificates of tokens: each is of one token, and who may give them; on both databases.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/control.rs"]
mod control;

use control::{Control, with_bearer};
use database::Database;
use prost_types::FieldMask;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use trunkline::admin::v1::bulk_service_client::BulkServiceClient;
use trunkline::admin::v1::{ApplyResourcesRequest, Manifest, manifest};
use trunkline::common::v1::Meta;
use trunkline::identity::v1::service_account_service_client::ServiceAccountServiceClient;
use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::{
    Binding, CreateApiKeyRequest, CreateServiceAccountRequest, CreateTokenRequest, CreateTokenResponse,
    DeleteTokenRequest, GetTokenRequest, RevokeTokenRequest, ServiceAccount, Token, UpdateTokenRequest,
};

suite! {
    an_identity_is_of_one_token_until_that_is_revoked_or_gives_it_up,
    who_issues_tokens_of_their_own_gives_no_identity_of_a_workload,
    what_is_applied_at_once_may_change_hands,
}

const AGENT: &str = "spiffe://example.org/ns/prod/sa/agent";

struct House {
    control: Control,
}

impl House {
    async fn start(database: &Database) -> Self {
        let url = database.url().to_owned();
        Self { control: Control::start_with(|config| config.database_url = Some(url.into())).await }
    }

    fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.control.channel.clone())
    }

    async fn create(&self, id: &str, certificates: &[&str]) -> Result<CreateTokenResponse, Status> {
        let request = self.control.admin(create(id, certificates));
        self.tokens().create_token(request).await.map(tonic::Response::into_inner)
    }

    async fn apply(&self, tokens: &[(&str, &[&str])]) -> Result<Vec<String>, Status> {
        let manifest = |(id, certificates): &(&str, &[&str])| {
            let token = Token { name: format!("tokens/{id}"), ..token(certificates) };
            Manifest { resource: Some(manifest::Resource::Token(token)) }
        };
        let manifests = tokens.iter().map(manifest).collect();
        let request = ApplyResourcesRequest { manifests, ..Default::default() };
        let mut client = BulkServiceClient::new(self.control.channel.clone());
        let answer = client.apply_resources(self.control.admin(request)).await?.into_inner();
        Ok(answer.changes.into_iter().map(|change| change.bearer).collect())
    }
}

fn token(certificates: &[&str]) -> Token {
    let certificates = certificates.iter().map(|&identity| identity.to_owned()).collect();
    Token { certificates, ..Token::default() }
}

fn create(id: &str, certificates: &[&str]) -> CreateTokenRequest {
    CreateTokenRequest { token_id: id.to_owned(), token: Some(token(certificates)), ..Default::default() }
}

fn give(id: &str, certificates: &[&str]) -> UpdateTokenRequest {
    let token = Token { name: format!("tokens/{id}"), ..token(certificates) };
    let update_mask = Some(FieldMask { paths: vec!["certificates".to_owned()] });
    UpdateTokenRequest { token: Some(token), update_mask, ..Default::default() }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

fn taken() -> (Code, String) {
    (Code::AlreadyExists, "CERTIFICATE_TAKEN".to_owned())
}

async fn an_identity_is_of_one_token_until_that_is_revoked_or_gives_it_up(database: Database) {
    let house = House::start(&database).await;
    let made = house.create("agent", &[AGENT, "dns:agent.example.org"]).await.unwrap();
    assert_eq!((made.bearer.as_str(), made.token.unwrap().certificates.len()), ("", 2));
    assert!(!house.create("plain", &[]).await.unwrap().bearer.is_empty());
    let refused = house.create("other", &["cn:other", AGENT]).await;
    let text = format!("tokens/other cannot have {AGENT}: it is a client certificate of tokens/agent");
    assert_eq!(refused.as_ref().unwrap_err().message(), text);
    assert_eq!(refusal(refused), taken());
    let update = async |request: UpdateTokenRequest| {
        house.tokens().update_token(house.control.admin(request)).await.map(drop)
    };
    assert_eq!(refusal(update(give("plain", &[AGENT])).await), taken());
    // Its own stay its own.
    update(give("agent", &[AGENT])).await.unwrap();
    update(give("plain", &["dns:agent.example.org"])).await.unwrap();
    for wrong in ["dns:*.example.org", "spiffe://example.org", "agent"] {
        let (code, reason) = refusal(update(give("plain", &[wrong])).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{wrong}");
    }
    let revoke = RevokeTokenRequest { name: "tokens/agent".to_owned() };
    house.tokens().revoke_token(house.control.admin(revoke)).await.unwrap();
    house.create("next", &[AGENT]).await.unwrap();
    let delete = DeleteTokenRequest { name: "tokens/next".to_owned(), ..Default::default() };
    house.tokens().delete_token(house.control.admin(delete)).await.unwrap();
    house.create("last", &[AGENT]).await.unwrap();
}

async fn who_issues_tokens_of_their_own_gives_no_identity_of_a_workload(database: Database) {
    let house = House::start(&database).await;
    let mut accounts = ServiceAccountServiceClient::new(house.control.channel.clone());
    let bindings = vec![Binding { role: "roles/developer".to_owned(), team: String::new() }];
    let request = CreateServiceAccountRequest {
        service_account_id: "dev".to_owned(),
        service_account: Some(ServiceAccount { bindings, ..ServiceAccount::default() }),
    };
    accounts.create_service_account(house.control.admin(request)).await.unwrap();
    let request = CreateApiKeyRequest { parent: "serviceAccounts/dev".to_owned(), ..Default::default() };
    let key = accounts.create_api_key(house.control.admin(request)).await.unwrap().into_inner().secret;
    fn by<T>(key: &str, message: T) -> Request<T> {
        with_bearer(message, key)
    }
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    assert_eq!(refusal(house.tokens().create_token(by(&key, create("mine", &[AGENT]))).await), denied);
    house.tokens().create_token(by(&key, create("mine", &[]))).await.unwrap();
    assert_eq!(refusal(house.tokens().update_token(by(&key, give("mine", &[AGENT]))).await), denied);
    // What somebody gave it who may, its owner may take away, and not give again.
    house.tokens().update_token(house.control.admin(give("mine", &[AGENT, "cn:agent"]))).await.unwrap();
    let request = GetTokenRequest { name: "tokens/mine".to_owned() };
    let read = house.tokens().get_token(by(&key, request)).await.unwrap().into_inner().token.unwrap();
    assert_eq!(read.certificates, [AGENT, "cn:agent"]);
    house.tokens().update_token(by(&key, give("mine", &["cn:agent"]))).await.unwrap();
    assert_eq!(refusal(house.tokens().update_token(by(&key, give("mine", &[AGENT]))).await), denied);
    let owner = read.meta.unwrap_or(Meta::default()).owner;
    assert_eq!(owner, "serviceAccounts/dev");
}

async fn what_is_applied_at_once_may_change_hands(database: Database) {
    let house = House::start(&database).await;
    let bearers = house.apply(&[("a", &[AGENT]), ("b", &["cn:b"]), ("c", &[])]).await.unwrap();
    assert_eq!(bearers.iter().map(String::is_empty).collect::<Vec<_>>(), [true, true, false]);
    house.apply(&[("b", &[AGENT]), ("a", &["cn:b"])]).await.unwrap();
    assert_eq!(refusal(house.apply(&[("c", &["cn:b"])]).await), taken());
    assert_eq!(refusal(house.apply(&[("c", &["cn:c"]), ("d", &["cn:c"])]).await), taken());
    house.apply(&[("c", &["cn:c"])]).await.unwrap();
}
