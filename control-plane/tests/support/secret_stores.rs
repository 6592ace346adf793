//! Stores of secrets as their documentation says they answer: a Vault with a KV engine of version 2, and the API of Kubernetes.
//! Over a real socket, and changed from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Both stores, at one address.
pub(crate) struct SecretStores {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    /// The credential that both take.
    token: String,
    /// Secrets by path, key and text.
    secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// What is answered in the place of secrets.
    failure: Option<u16>,
    requests: usize,
}

type Shared = State<Arc<Mutex<Content>>>;

impl SecretStores {
    pub(crate) async fn start(token: &str) -> Self {
        let state = Arc::new(Mutex::new(Content { token: token.to_owned(), ..Content::default() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/v1/secret/data/{*path}", get(vault))
            .route("/api/v1/namespaces/ns/secrets/{name}", get(kubernetes))
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> url::Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    pub(crate) fn put(&self, path: &str, key: &str, text: &str) {
        let mut state = self.state.lock().unwrap();
        state.secrets.entry(path.to_owned()).or_default().insert(key.to_owned(), text.to_owned());
    }

    /// Answers this status in the place of secrets.
    pub(crate) fn fail(&self, status: Option<u16>) {
        self.state.lock().unwrap().failure = status;
    }

    /// Takes another credential, and no more the one before.
    pub(crate) fn take(&self, token: &str) {
        self.state.lock().unwrap().token = token.to_owned();
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }
}

/// The keys of a secret, or what is answered in their place.
fn found(state: &Shared, path: &str, token: Option<&str>) -> Result<BTreeMap<String, String>, StatusCode> {
    let mut state = state.lock().unwrap();
    state.requests += 1;
    if let Some(status) = state.failure {
        return Err(StatusCode::from_u16(status).unwrap());
    }
    if token != Some(&state.token) {
        return Err(StatusCode::FORBIDDEN);
    }
    state.secrets.get(path).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn vault(state: Shared, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let token = headers.get("x-vault-token").map(|token| token.to_str().unwrap());
    match found(&state, &path, token) {
        Ok(keys) => axum::Json(json!({
            "request_id": "a", "lease_id": "", "renewable": false, "lease_duration": 0,
            "data": {"data": keys, "metadata": {"version": 1, "deletion_time": "", "destroyed": false}}
        }))
        .into_response(),
        Err(status) => (status, axum::Json(json!({"errors": ["permission denied"]}))).into_response(),
    }
}

async fn kubernetes(state: Shared, Path(name): Path<String>, headers: HeaderMap) -> Response {
    let token =
        headers.get("authorization").and_then(|value| value.to_str().unwrap().strip_prefix("Bearer "));
    match found(&state, &name, token) {
        Ok(keys) => {
            let data: Value = keys
                .into_iter()
                .map(|(key, text)| (key, STANDARD.encode(text).into()))
                .collect::<serde_json::Map<_, _>>()
                .into();
            axum::Json(json!({"kind": "Secret", "apiVersion": "v1", "type": "Opaque", "data": data}))
                .into_response()
        }
        Err(status) => {
            let body =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16()});
            (status, axum::Json(body)).into_response()
        }
    }
}
