//! The endpoint where upstreams that dial in open their tunnels to this replica: `GET /tunnels/{upstream}`, a WebSocket.
//!
//! It must not know what goes through them.

use std::future::ready;
use std::io;
use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use inbound::{ConnectionHandle, ConnectionHolder};
use trunkline::registry::v1::Upstream;
use tunnel::{MAX_FRAME, READ_BUFFER, SUBPROTOCOL, Tunnel, Tunnels, carrier};

use crate::auth::tunnel::TunnelCredentials;
use crate::domain::upstream::dials_in;
use crate::domain::{Kind, names};
use crate::store::Store;
use crate::sync::CatalogueSync;

/// The endpoint's dependencies.
#[derive(Clone)]
pub struct TunnelEndpoint {
    /// Verifies the credentials that open tunnels.
    pub credentials: TunnelCredentials,
    /// The registry.
    pub store: Store,
    /// Holds the open tunnels.
    pub tunnels: Arc<Tunnels>,
    /// Is woken when an upstream can be reached.
    pub sync: CatalogueSync,
}

/// The route.
pub fn router(endpoint: TunnelEndpoint) -> Router {
    Router::new().route("/tunnels/{upstream}", get(open)).with_state(endpoint)
}

async fn open(
    State(endpoint): State<TunnelEndpoint>,
    Path(id): Path<String>,
    headers: HeaderMap,
    connection: Option<Extension<ConnectionHandle>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let challenge = [(WWW_AUTHENTICATE, "Bearer")];
    let Some(uid) = bearer(&headers).and_then(|bearer| endpoint.credentials.verify(bearer).ok()) else {
        return (StatusCode::UNAUTHORIZED, challenge, "a tunnel credential is required\n").into_response();
    };
    let name = names::upstream(&id);
    match endpoint.leads_to(&name, &uid).await {
        Ok(true) => {
            let known = connection.map_or(Ok(()), |Extension(connection)| {
                connection.set_authenticated(ConnectionHolder::new(&uid))
            });
            if known.is_err() {
                return busy("this credential holds too many connections\n");
            }
        }
        Ok(false) => {
            return (StatusCode::NOT_FOUND, "no upstream with this credential dials in here\n")
                .into_response();
        }
        Err(error) => {
            tracing::warn!(%error, "refused a tunnel: the database does not respond");
            return busy("the database does not respond\n");
        }
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    if !endpoint.tunnels.has_room(&uid) {
        return busy("too many tunnels are open\n");
    }
    let upgrade = upgrade.protocols([SUBPROTOCOL]).max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    let upgrade = upgrade.read_buffer_size(READ_BUFFER);
    upgrade.on_upgrade(async move |socket| endpoint.hold(&name, &uid, socket).await)
}

impl TunnelEndpoint {
    /// Tells whether this is an upstream that dials in and has this uid.
    async fn leads_to(&self, name: &str, uid: &str) -> Result<bool, crate::store::StoreError> {
        let Some(row) = self.store.get(Kind::Upstream, name).await? else { return Ok(false) };
        let upstream: Upstream = row.message()?;
        Ok(row.uid == uid && dials_in(&upstream) && !upstream.disabled)
    }

    /// Keeps a tunnel for as long as it lasts and is wanted.
    async fn hold(&self, name: &str, uid: &str, socket: WebSocket) {
        let (sink, source) = socket.split();
        let sink =
            sink.sink_map_err(io::Error::other).with(|bytes| ready(io::Result::Ok(Message::Binary(bytes))));
        let (tunnel, driver) = match Tunnel::start(carrier(source.map(content), sink)).await {
            Ok(begun) => begun,
            Err(error) => return tracing::info!(upstream = name, %error, "cannot open a tunnel"),
        };
        let Ok(entry) = self.tunnels.register(uid, tunnel) else {
            return tracing::warn!(upstream = name, "too many tunnels are open");
        };
        // It may have been deleted since the tunnel was let in.
        if !self.leads_to(name, uid).await.unwrap_or(false) {
            return;
        }
        tracing::info!(upstream = name, "tunnel opened");
        let (why, flood) = tokio::select! {
            error = driver => (error.to_string(), entry.ended(&error)),
            () = entry.close_requested() => ("the upstream no longer uses it".to_owned(), false),
        };
        drop(entry);
        if flood {
            tracing::warn!(upstream = name, why, "tunnel closed");
        } else {
            tracing::info!(upstream = name, why, "tunnel closed");
        }
        if !self.tunnels.has(uid) {
            self.sync.wake(name);
        }
    }
}

/// Reads the bytes that a frame brings for the tunnel.
fn content(frame: Result<Message, axum::Error>) -> io::Result<Bytes> {
    match frame {
        Ok(Message::Binary(bytes)) => Ok(bytes),
        Ok(Message::Text(_)) => Err(io::ErrorKind::InvalidData.into()),
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => Ok(Bytes::new()),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, bearer) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(bearer.trim())
}

fn busy(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response()
}
