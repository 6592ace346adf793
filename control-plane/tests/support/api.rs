//! A whole control plane on a free port, called as people call it with `curl`.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use trunkline_control_plane::app::{Running, start_on};
use trunkline_control_plane::config::Config;

/// A control plane that runs.
pub(crate) struct Api {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: String,
    pub(crate) running: Running,
    _folder: TempDir,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// One that is configured differently.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        let mut config = Config::local(folder.path(), "127.0.0.1:0".parse().unwrap());
        config.egress.egress_allow = vec!["loopback".parse().unwrap()];
        change(&mut config);
        // Several may use one database.
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let running = start_on(config, listener).await.unwrap();
        let admin = running.admin_token.expose_secret().to_owned();
        Self { addr: running.addr, admin, running, _folder: folder }
    }

    /// Calls a method as the administrator: the HTTP status and the answer as it is.
    pub(crate) async fn raw(&self, method: &str, body: &str) -> (StatusCode, Value) {
        self.raw_as(&format!("Bearer {}", self.admin), method, body).await
    }

    pub(crate) async fn raw_as(&self, authorization: &str, method: &str, body: &str) -> (StatusCode, Value) {
        self.raw_with(&[("authorization", authorization)], method, body).await
    }

    /// The same with these headers.
    pub(crate) async fn raw_with(
        &self,
        headers: &[(&str, &str)],
        method: &str,
        body: &str,
    ) -> (StatusCode, Value) {
        let request =
            headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        let request = request
            .method(Method::POST)
            .uri(format!("http://{}/trunkline.{method}", self.addr))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::<bytes::Bytes>::from(body.to_owned()))
            .unwrap();
        let response = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        (
            status,
            serde_json::from_slice(&body)
                .unwrap_or_else(|error| panic!("{method}: {status} {text:?}: {error}")),
        )
    }

    /// Calls a method over gRPC with one message, which is sent as it is.
    pub(crate) async fn grpc_as(&self, authorization: &str, method: &str, message: &[u8]) -> tonic::Status {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let frame = [&[0], length.as_slice(), message].concat();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/trunkline.{method}", self.addr))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::AUTHORIZATION, authorization)
            .body(Full::<bytes::Bytes>::from(frame))
            .unwrap();
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let response = client.request(request).await.unwrap();
        if let Some(status) = tonic::Status::from_header_map(response.headers()) {
            return status;
        }
        let body = response.into_body().collect().await.unwrap();
        tonic::Status::from_header_map(body.trailers().unwrap()).unwrap()
    }

    /// Calls what must succeed. What differs from run to run is masked.
    pub(crate) async fn ok(&self, method: &str, body: Value) -> Value {
        let (status, answer) = self.raw(method, &body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{method}: {answer}");
        masked(answer)
    }

    /// Calls what must fail.
    pub(crate) async fn fails(&self, method: &str, body: Value) -> Value {
        let (status, answer) = self.raw(method, &body.to_string()).await;
        assert_ne!(status, StatusCode::OK, "{method}: {answer}");
        answer
    }

    /// An upstream that is not asked for anything.
    pub(crate) async fn upstream(&self, id: &str) {
        let body = json!({"upstreamId": id, "noWait": true, "upstream": {"http": {"url": "http://127.0.0.1:1/mcp"}, "disabled": true}});
        self.ok("registry.v1.UpstreamService/CreateUpstream", body).await;
        let enable = json!({"upstream": {"name": format!("upstreams/{id}"), "disabled": false}, "updateMask": "disabled"});
        self.ok("registry.v1.UpstreamService/UpdateUpstream", enable).await;
    }

    pub(crate) async fn tool(&self, upstream: &str, own: &str) {
        let definition =
            json!({"name": own, "description": format!("Does {own}"), "inputSchema": {"type": "object"}});
        let body = json!({"parent": format!("upstreams/{upstream}"), "toolId": own, "tool": {"definitionJson": definition.to_string()}});
        self.ok("registry.v1.ToolService/CreateTool", body).await;
    }

    pub(crate) async fn server(&self, id: &str, server: Value) -> Value {
        self.ok("registry.v1.ServerService/CreateServer", json!({"serverId": id, "server": server})).await
    }
}

/// Identities, validators, revisions, times and secrets are replaced by their names.
pub(crate) fn masked(mut value: Value) -> Value {
    const VOLATILE: [&str; 9] = [
        "uid",
        "etag",
        "createTime",
        "updateTime",
        "version",
        "bearer",
        "keyId",
        "nextPageToken",
        "revokeTime",
    ];
    match &mut value {
        Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                let volatile = VOLATILE.contains(&key.as_str()) && member.is_string();
                *member = if volatile { Value::String(format!("<{key}>")) } else { masked(member.take()) };
            }
            members.remove("revision");
            members.remove("status");
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| *element = masked(element.take())),
        _ => {}
    }
    value
}
