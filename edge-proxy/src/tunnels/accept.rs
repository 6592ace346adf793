//! The endpoint at which upstreams that dial in open their tunnels: `GET /tunnels/{upstream}`, a WebSocket.
//!
//! It must not know what goes through a tunnel.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response};
use hyper::upgrade::Upgraded;
use inbound::{ClientIo, into_stream};
use tokio::net::TcpStream;

use super::Tunnels;
use super::serve::{AcceptedTunnel, Socket};
use crate::error::Failure;
use crate::identity::verify_tunnel_credential;
use crate::snapshot::Current;
use crate::transport::websocket::Handshake;
use crate::transport::{Body, HolderIdentity, HttpConnection, OriginPolicy, TlsStream, path};

/// Accepts a tunnel of the upstream with this id, and passes its connection to the thread that serves tunnels.
pub fn accept(
    tunnels: &Tunnels,
    current: &Current,
    origin_policy: &OriginPolicy,
    http_connection: &HttpConnection,
    id: &str,
    mut request: Request<()>,
    now: u64,
) -> Result<Response<Body>, Failure> {
    origin_policy.check(&request)?;
    if request.method() != Method::GET {
        return Err(Failure::Verb("GET"));
    }
    if request.uri().query().is_some_and(path::holds_a_bearer) {
        return Err(Failure::BearerInUrl);
    }
    if !current.is_trust_fresh(now) {
        return Err(Failure::TrustStale);
    }
    let snapshot = current.load();
    let credential = bearer(&request).ok_or(Failure::Bearer { presented: false })?;
    let uid = verify_tunnel_credential(&snapshot.trust, credential);
    let uid = uid.ok_or(Failure::Bearer { presented: true })?;
    let upstream =
        snapshot.upstreams.get(id).filter(|upstream| upstream.reach.is_tunnel() && *upstream.uid == *uid);
    let upstream: Arc<str> = upstream.ok_or(Failure::Tunnel)?.uid.as_ref().into();
    http_connection.set_authenticated(HolderIdentity::Tunnel(&upstream))?;
    let handshake = Handshake::read(request.headers())?;
    if !tunnels.local.has_room(&upstream) {
        return Err(Failure::TooManyTunnels);
    }
    let response = handshake.accept(tunnel::SUBPROTOCOL)?;
    let (upgrade, accepted) = (hyper::upgrade::on(&mut request), tunnels.accepted.clone());
    http_connection.upgrade_to(async move {
        // A connection that ended before it changed its protocol is no error.
        let Ok(upgraded) = upgrade.await else { return };
        match into_parts(upgraded) {
            // An error means that the edge is stopping.
            Ok((socket, ahead)) => drop(accepted.send(AcceptedTunnel { socket, ahead, upstream }).await),
            Err(error) => tracing::warn!(%error, "lost a tunnel between two threads"),
        }
    });
    Ok(response)
}

/// Takes the socket out, for another thread, and the bytes that were read already.
fn into_parts(upgraded: Upgraded) -> io::Result<(Socket, Bytes)> {
    let upgraded = match upgraded.downcast::<ClientIo<TcpStream>>() {
        Ok(parts) => return Ok((Socket::Plain(into_stream(parts.io).into_std()?), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    let other = |_| io::Error::other("the connection was not accepted by this listener");
    let parts = upgraded.downcast::<ClientIo<TlsStream>>().map_err(other)?;
    let mut stream = into_stream(parts.io);
    let socket = stream.get_mut().0.take()?;
    Ok((Socket::Tls(Box::new(stream), socket), parts.read_buf))
}

fn bearer(request: &Request<()>) -> Option<&str> {
    let (scheme, bearer) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(bearer.trim())
}
