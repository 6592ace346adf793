//! A control plane that runs in this process, and a channel to it.
#![allow(dead_code, reason = "each test file uses its part")]

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Request;
use tonic::transport::Channel;
use trunkline::discovery::v1::EnrollEdgeRequest;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::{CreateTokenRequest, CreateTokenResponse, Scope, Token};
use trunkline::registry::v1::server_service_client::ServerServiceClient;
use trunkline::registry::v1::upstream::Reach;
use trunkline::registry::v1::upstream_service_client::UpstreamServiceClient;
use trunkline::registry::v1::{CreateServerRequest, CreateUpstreamRequest, HttpReach, Server, Upstream};
use trunkline_control_plane::app::{self, Running};
use trunkline_control_plane::config::Config;

pub(crate) struct Control {
    pub(crate) running: Running,
    pub(crate) channel: Channel,
    pub(crate) folder: TempDir,
}

impl Control {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// One that is configured differently.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change).await
    }

    /// Another control plane on the same database.
    pub(crate) async fn replica(&self) -> Self {
        // Its folder is that of the first, whose files stay while the first does.
        self.replica_with(|_| ()).await
    }

    /// The same, configured differently.
    pub(crate) async fn replica_with(&self, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(self.folder.path().join("data"), folder.path().join("data")).unwrap();
        Self::start_in(folder, change).await
    }

    async fn start_in(folder: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::local(&folder.path().join("data"), address);
        config.egress.egress_allow = vec!["loopback".parse().unwrap()];
        change(&mut config);
        let running = app::start_on(config, listener).await.unwrap();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { running, channel, folder }
    }

    /// What it says at `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.running.addr).parse().unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
        let body = client.get(url).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// A request of an administrator.
    pub(crate) fn admin<T>(&self, message: T) -> Request<T> {
        with_bearer(message, self.running.admin_token.expose_secret())
    }

    /// The credential of a new edge.
    pub(crate) async fn enrol(&self, id: &str) -> String {
        let join_token = self.running.create_join_token().await.unwrap();
        let request = EnrollEdgeRequest { join_token, edge_id: id.to_owned(), ..Default::default() };
        let mut client = EnrollmentServiceClient::new(self.channel.clone());
        client.enroll_edge(request).await.unwrap().into_inner().credential
    }

    /// Registers an upstream, and waits for its catalogue if asked to.
    pub(crate) async fn upstream(&self, id: &str, upstream: Upstream, wait: bool) -> Upstream {
        let request = CreateUpstreamRequest {
            upstream_id: id.to_owned(),
            upstream: Some(upstream),
            no_wait: !wait,
            ..Default::default()
        };
        let mut client = UpstreamServiceClient::new(self.channel.clone());
        client.create_upstream(self.admin(request)).await.unwrap().into_inner().upstream.unwrap()
    }

    /// Creates a server. Answers the revision.
    pub(crate) async fn server(&self, id: &str, server: Server) -> i64 {
        let request =
            CreateServerRequest { server_id: id.to_owned(), server: Some(server), ..Default::default() };
        let mut client = ServerServiceClient::new(self.channel.clone());
        let created = client.create_server(self.admin(request)).await.unwrap().into_inner().server.unwrap();
        created.meta.unwrap().revision
    }

    /// Creates a token for all of one server.
    pub(crate) async fn token(&self, id: &str, server: &str) -> CreateTokenResponse {
        let scope =
            Scope { servers: vec![server.to_owned()], tools: vec!["*".to_owned()], ..Default::default() };
        let request = CreateTokenRequest {
            token_id: id.to_owned(),
            token: Some(Token { scope: Some(scope), ..Default::default() }),
            ..Default::default()
        };
        let mut client = TokenServiceClient::new(self.channel.clone());
        client.create_token(self.admin(request)).await.unwrap().into_inner()
    }
}

/// An upstream at this URL.
pub(crate) fn upstream_at(url: impl Into<String>) -> Upstream {
    Upstream { reach: Some(Reach::Http(HttpReach { url: url.into() })), ..Default::default() }
}

pub(crate) fn with_bearer<T>(message: T, bearer: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    request
}
