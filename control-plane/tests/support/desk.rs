//! The API as callers meet it who have proved who they are: its router, with whoever calls in the extensions of the request. How they
//! prove it is tested elsewhere.
#![allow(dead_code, reason = "each test file uses its part")]

use inbound::TransportRule;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn;
use egress::CheckedResolver;
use http::{Request, header};
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;
use trunkline::common::v1::Permission;
use trunkline::discovery::v1::fleet_service_server::FleetServiceServer;
use trunkline::telemetry::v1::usage_service_server::UsageServiceServer;
use trunkline_control_plane::api::Registry;
use trunkline_control_plane::api::credentials::Credentials;
use trunkline_control_plane::api::json::transcode;
use trunkline_control_plane::api::permissions::{Needs, Permissions};
use trunkline_control_plane::api::proofs::Proofs;
use trunkline_control_plane::audit::AuditRecorder;
use trunkline_control_plane::auth::admin::AdminToken;
use trunkline_control_plane::auth::caller::Caller;
use trunkline_control_plane::auth::keys::Signer;
use trunkline_control_plane::auth::master::MasterKey;
use trunkline_control_plane::auth::password::Passwords;
use trunkline_control_plane::auth::vault::Vault;
use trunkline_control_plane::config::SecretOptions;
use trunkline_control_plane::discovery::fleet::Fleet;
use trunkline_control_plane::discovery::fleet_service::FleetApi;
use trunkline_control_plane::discovery::usage_service::Usage;
use trunkline_control_plane::domain::reflect;
use trunkline_control_plane::references::{References, Stores};
use trunkline_control_plane::rights::permission_set::PermissionSet;
use trunkline_control_plane::rights::{HeldRole, Rights, roles};
use trunkline_control_plane::store::Store;
use trunkline_control_plane::store::edges::Edges;
use trunkline_control_plane::store::keys::Keys;
use trunkline_control_plane::store::usage::UsageTable;
use trunkline_control_plane::sync::CatalogueSync;
use tunnel::Tunnels;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Json,
    Grpc,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// `OK`, or the reason of the error.
    pub(crate) reason: String,
    /// The answer, or the error; of a stream, all its messages.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.reason, "OK", "{}", self.body);
        self.body
    }
}

/// The API.
pub(crate) struct Desk {
    router: Router,
    permissions: Permissions,
    pub(crate) store: Store,
    url: String,
    _folder: TempDir,
}

impl Desk {
    /// One on an empty database of its own.
    pub(crate) async fn open() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite:{}?mode=rwc", folder.path().join("trunkline.db").display());
        Self::open_on(url, folder).await
    }

    pub(crate) async fn open_on(url: String, folder: TempDir) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let store = Store::open(&url).await.unwrap();
        let keys = Keys::new(&store);
        let master = MasterKey::load(None, &folder.path().join("master-key"), false).unwrap();
        let vault = Arc::new(Vault::open_keys(keys.clone(), master, None).await.unwrap());
        let signer =
            Arc::new(Signer::open(keys, vault.clone(), "https://issuer.example".to_owned()).await.unwrap());
        let rule = egress::Rule::new(vec!["loopback".parse().unwrap()], Vec::new());
        let sync = CatalogueSync::new(
            store.clone(),
            vault.clone(),
            signer.clone(),
            Arc::new(Tunnels::default()),
            Arc::new(CheckedResolver::system(rule)),
            Arc::new(References::new(
                Stores::open(&SecretOptions {
                    secret_dir: Some(folder.path().join("secrets")),
                    ..SecretOptions::default()
                })
                .unwrap(),
                Duration::from_secs(30),
            )),
            4,
        );
        let edges = Edges::new(&store);
        let fleet = Arc::new(Fleet::new(edges, "replica".to_owned()));
        let usage = Usage::new(UsageTable::new(&store), fleet.clone(), Duration::from_secs(86_400));
        let fleets = FleetApi::new(fleet, store.clone(), vault.clone(), CancellationToken::new());
        let mut routes = Routes::builder();
        routes.add_service(UsageServiceServer::new(usage)).add_service(FleetServiceServer::new(fleets));
        let admin = AdminToken::load(None, folder.path()).unwrap();
        let proofs = Proofs {
            passwords: Passwords::default(),
            transport: TransportRule::default(),
            credentials: Arc::new(Credentials::new(&store, admin)),
        };
        let audit = AuditRecorder::new(store.clone());
        Registry::new(store.clone(), vault, signer, sync, "replica".to_owned(), proofs, audit)
            .add_to(&mut routes);
        let router = routes.routes().prepare().into_axum_router().layer(from_fn(transcode));
        let permissions = Permissions::read(reflect::pool()).unwrap();
        Self { router, permissions, store, url, _folder: folder }
    }

    /// Adds rows that other parts of the program keep.
    pub(crate) async fn run(&self, sql: &str) {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        let sql = format!("pragma busy_timeout = 5000; {sql}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Adds users of these names.
    pub(crate) async fn users(&self, ids: &[&str]) {
        for id in ids {
            let sql = format!(
                "insert into principals (uid, name, email, title, owner, team, state, epoch, revision, created, updated, signed_in) \
                 values ('uid-{id}', 'users/{id}', '{id}', '', '', '', 2, 0, 0, 0, 0, 0)"
            );
            self.run(&sql).await;
        }
    }

    /// Calls an rpc, such as `registry.v1.ServerService/GetServer`.
    pub(crate) async fn call(
        &self,
        who: &Arc<Rights>,
        transport: Transport,
        rpc: &str,
        body: &Value,
    ) -> Answer {
        // As the authenticator does.
        if let Needs::Permission(permission) = self.permissions.needs(&format!("/trunkline.{rpc}"))
            && !who.holds(permission)
        {
            return Answer { reason: "PERMISSION_DENIED".to_owned(), body: Value::Null };
        }
        match transport {
            Transport::Json => self.json(who, rpc, body).await,
            Transport::Grpc => self.grpc(who, rpc, body).await,
        }
    }

    /// Calls an rpc, which must succeed.
    pub(crate) async fn ok(&self, who: &Arc<Rights>, rpc: &str, body: Value) -> Value {
        let answer = self.call(who, Transport::Grpc, rpc, &body).await;
        assert_eq!(answer.reason, "OK", "{rpc} {body}: {}", answer.body);
        answer.body
    }

    /// Calls an rpc, which must fail for this reason. Returns the error.
    pub(crate) async fn fails(&self, who: &Arc<Rights>, rpc: &str, body: Value, reason: &str) -> Value {
        let answer = self.call(who, Transport::Grpc, rpc, &body).await;
        assert_eq!(answer.reason, reason, "{rpc} {body}: {}", answer.body);
        answer.body
    }

    async fn json(&self, who: &Arc<Rights>, rpc: &str, body: &Value) -> Answer {
        let request = self.request(who, rpc, "application/json", body.to_string().into());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let is_ok = response.status().is_success();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let reason = if is_ok { "OK" } else { body["details"][0]["reason"].as_str().unwrap_or("?") };
        Answer { reason: reason.to_owned(), body }
    }

    async fn grpc(&self, who: &Arc<Rights>, rpc: &str, body: &Value) -> Answer {
        let method = method(rpc);
        let message = DynamicMessage::deserialize(method.input(), body).unwrap().encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let frame = [&[0], length.as_slice(), &message].concat();
        let mut request = self.request(who, rpc, "application/grpc", frame.into());
        request.headers_mut().insert(header::TE, "trailers".parse().unwrap());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = Status::from_header_map(response.headers());
        let collected = response.into_body().collect().await.unwrap();
        let status = status.or_else(|| Status::from_header_map(collected.trailers()?)).unwrap();
        if status.code() != tonic::Code::Ok {
            return refused(&status);
        }
        let mut messages = messages(&method, &collected.to_bytes());
        let body = if method.is_server_streaming() { Value::Array(messages) } else { messages.remove(0) };
        Answer { reason: "OK".to_owned(), body }
    }

    fn request(&self, who: &Arc<Rights>, rpc: &str, content_type: &str, body: Body) -> Request<Body> {
        let mut request = Request::post(format!("/trunkline.{rpc}"))
            .header(header::CONTENT_TYPE, content_type)
            .body(body)
            .unwrap();
        request.extensions_mut().insert(Caller::Principal(who.clone()));
        request
    }
}

/// An error over gRPC, with its details.
fn refused(status: &Status) -> Answer {
    let details = status.get_error_details();
    let info = details.error_info();
    let metadata: BTreeMap<_, _> = info.iter().flat_map(|info| info.metadata.clone()).collect();
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    let violations: Vec<_> = violations.iter().map(|found| json!([found.field, found.description])).collect();
    let body = json!({"message": status.message(), "metadata": metadata, "violations": violations});
    Answer { reason: info.map_or("?", |info| info.reason.as_str()).to_owned(), body }
}

/// A document in which one text stands for another.
pub(crate) fn renamed(document: &Value, from: &str, to: &str) -> Value {
    match document {
        Value::String(text) => text.replace(from, to).into(),
        Value::Array(items) => items.iter().map(|item| renamed(item, from, to)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, member)| (key.replace(from, to), renamed(member, from, to))).collect()
        }
        plain => plain.clone(),
    }
}

/// The messages of a response.
fn messages(method: &MethodDescriptor, mut bytes: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while bytes.len() >= 5 {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let message = DynamicMessage::decode(method.output(), &bytes[5..5 + length]).unwrap();
        messages.push(serde_json::to_value(&message).unwrap());
        bytes = &bytes[5 + length..];
    }
    messages
}

fn method(rpc: &str) -> MethodDescriptor {
    let (service, name) = rpc.split_once('/').unwrap();
    let service = reflect::pool().get_service_by_name(&format!("trunkline.{service}")).unwrap();
    service.methods().find(|method| method.name() == name).unwrap()
}

/// Somebody with these roles, each in a team or everywhere (``), who is in these teams.
pub(crate) fn somebody(id: &str, held: &[(&str, &str)], teams: &[&str]) -> Arc<Rights> {
    let held = held.iter().map(|(role, team)| HeldRole {
        role: format!("roles/{role}"),
        team: (*team).to_owned(),
        permissions: roles::permissions_of(&format!("roles/{role}")).unwrap(),
    });
    with_roles(id, held.collect(), teams)
}

/// Somebody who holds these permissions everywhere, by a role of their own.
pub(crate) fn holder(id: &str, permissions: &[Permission], teams: &[&str]) -> Arc<Rights> {
    let permissions = permissions.iter().copied().collect();
    with_roles(id, vec![HeldRole { role: "roles/own".to_owned(), team: String::new(), permissions }], teams)
}

fn with_roles(id: &str, held: Vec<HeldRole>, teams: &[&str]) -> Arc<Rights> {
    let teams: BTreeSet<String> = teams.iter().map(|team| (*team).to_owned()).collect();
    let (uid, name) = (format!("uid-{id}"), format!("users/{id}"));
    Arc::new(Rights::new(uid, name, held, teams, PermissionSet::all()))
}
