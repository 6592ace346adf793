//! The control plane's API as an administrator's program uses it: the generated gRPC clients. It must not
//! know `mcpctl`, which has its own tests.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::discovery::v1::fleet_service_client::FleetServiceClient;
use trunkline::discovery::v1::{
    CreateJoinTokenRequest, EdgeStatus, ListEdgesRequest, RolloutState, WatchRolloutRequest,
};
use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::{CreateTokenRequest, RevokeTokenRequest, Scope, Token, UpdateTokenRequest};
use trunkline::policy::v1::Rule;
use trunkline::registry::v1::server_service_client::ServerServiceClient;
use trunkline::registry::v1::upstream::Reach;
use trunkline::registry::v1::upstream_service_client::UpstreamServiceClient;
use trunkline::registry::v1::{
    CreateServerRequest, CreateUpstreamRequest, GetUpstreamRequest, HttpReach, Member, NameStyle, Server,
    Upstream,
};

use super::{PATIENCE, eventually};

/// An administrator's connection.
#[derive(Clone)]
pub(crate) struct Admin {
    channel: Channel,
    bearer: MetadataValue<Ascii>,
}

/// A channel that carries the administrator's bearer.
type Authorized = InterceptedService<Channel, Bearer>;

#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Admin {
    /// Connects when first used.
    pub(crate) fn new(address: &str, token: &str) -> Self {
        let channel =
            Endpoint::from_shared(format!("http://{address}")).unwrap().timeout(PATIENCE).connect_lazy();
        Self { channel, bearer: format!("Bearer {token}").parse().unwrap() }
    }

    pub(crate) fn authorized(&self) -> Authorized {
        InterceptedService::new(self.channel.clone(), Bearer(self.bearer.clone()))
    }

    /// The connection of somebody else, who presents this credential.
    pub(crate) fn of(&self, credential: &str) -> Self {
        Self { bearer: format!("Bearer {credential}").parse().unwrap(), ..self.clone() }
    }

    /// The connection of somebody who presents nothing.
    pub(crate) fn anonymous(&self) -> Channel {
        self.channel.clone()
    }

    /// A join token for any number of edges.
    pub(crate) async fn join_token(&self) -> Result<String, Status> {
        let request = CreateJoinTokenRequest { max_uses: Some(0), ..Default::default() };
        let mut client = EnrollmentServiceClient::new(self.authorized());
        Ok(client.create_join_token(request).await?.into_inner().join_token)
    }

    pub(crate) async fn create_upstream(&self, id: &str, url: &str) -> Upstream {
        self.create_upstream_with(id, url, Upstream::default()).await
    }

    /// Creates an upstream with the given fields besides its URL.
    pub(crate) async fn create_upstream_with(&self, id: &str, url: &str, upstream: Upstream) -> Upstream {
        let upstream = Upstream { reach: Some(Reach::Http(HttpReach { url: url.to_owned() })), ..upstream };
        let request = CreateUpstreamRequest {
            upstream_id: id.to_owned(),
            upstream: Some(upstream),
            ..Default::default()
        };
        let mut client = UpstreamServiceClient::new(self.authorized());
        client.create_upstream(request).await.unwrap();
        self.imported(id).await
    }

    /// Waits until the catalogue of an upstream was fetched: creating it waits for that a while, but no longer.
    pub(crate) async fn imported(&self, id: &str) -> Upstream {
        eventually("the upstream is imported", PATIENCE, || async {
            let request = GetUpstreamRequest { name: format!("upstreams/{id}") };
            let mut client = UpstreamServiceClient::new(self.authorized());
            let found = client.get_upstream(request).await.map_err(|e| e.to_string())?.into_inner();
            let upstream = found.upstream.ok_or("no upstream")?;
            let imported = upstream.status.as_ref().is_some_and(|status| status.refresh_time.is_some());
            if imported { Ok(upstream) } else { Err(format!("{:?}", upstream.status)) }
        })
        .await
    }

    /// Creates a server of the tools, resources and prompts that match, under their own names.
    pub(crate) async fn create_server(&self, id: &str, matches: &[&str]) -> Server {
        self.create_server_under(id, matches, Vec::new()).await
    }

    /// The same with rules.
    pub(crate) async fn create_server_under(&self, id: &str, matches: &[&str], rules: Vec<Rule>) -> Server {
        let members = || matches.iter().map(|m| Member { r#match: (*m).to_owned(), ..Default::default() });
        let server = Server {
            tools: members().collect(),
            resources: members().collect(),
            prompts: members().collect(),
            name_style: NameStyle::Unprefixed.into(),
            rules,
            ..Default::default()
        };
        let request =
            CreateServerRequest { server_id: id.to_owned(), server: Some(server), ..Default::default() };
        let mut client = ServerServiceClient::new(self.authorized());
        client.create_server(request).await.unwrap().into_inner().server.unwrap()
    }

    /// Creates a token, and returns its bearer.
    pub(crate) async fn create_token(&self, id: &str, server: &str, tools: &[&str]) -> String {
        let token = Token { scope: Some(scope(server, tools)), ..Default::default() };
        let request =
            CreateTokenRequest { token_id: id.to_owned(), token: Some(token), ..Default::default() };
        let mut client = TokenServiceClient::new(self.authorized());
        client.create_token(request).await.unwrap().into_inner().bearer
    }

    /// Replaces what a token may do.
    pub(crate) async fn edit_token(&self, id: &str, server: &str, tools: &[&str]) -> Result<(), Status> {
        let token =
            Token { name: format!("tokens/{id}"), scope: Some(scope(server, tools)), ..Default::default() };
        let mask = prost_types::FieldMask { paths: vec!["scope".to_owned()] };
        let request =
            UpdateTokenRequest { token: Some(token), update_mask: Some(mask), ..Default::default() };
        TokenServiceClient::new(self.authorized()).update_token(request).await.map(drop)
    }

    pub(crate) async fn revoke_token(&self, id: &str) {
        let request = RevokeTokenRequest { name: format!("tokens/{id}") };
        TokenServiceClient::new(self.authorized()).revoke_token(request).await.unwrap();
    }

    pub(crate) async fn edges(&self) -> Result<Vec<EdgeStatus>, Status> {
        let mut client = FleetServiceClient::new(self.authorized());
        Ok(client.list_edges(ListEdgesRequest::default()).await?.into_inner().edges)
    }

    /// Waits until every connected edge has the newest revision; fails where one refused it.
    pub(crate) async fn settled(&self) {
        let request = WatchRolloutRequest { revision: 0 };
        let mut stream =
            FleetServiceClient::new(self.authorized()).watch_rollout(request).await.unwrap().into_inner();
        while let Some(message) = stream.message().await.unwrap() {
            assert_ne!(message.state(), RolloutState::Refused, "{message:?}");
        }
    }
}

fn scope(server: &str, tools: &[&str]) -> Scope {
    let everything = || vec!["*".to_owned()];
    Scope {
        servers: vec![if server == "*" { server.to_owned() } else { format!("servers/{server}") }],
        tools: tools.iter().map(|t| (*t).to_owned()).collect(),
        resources: everything(),
        prompts: everything(),
    }
}
