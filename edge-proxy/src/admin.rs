//! The operators' port: health, readiness, metrics, the configuration and the snapshot in force.
//!
//! It shows no secret, and must not know the pipeline of a call.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use inbound::names::AllowedNames;
use inbound::{ConnectionLimits, Connections, client_io};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::observe::Exporter;
use crate::os::clock;
use crate::snapshot::{Current, Server, Snapshot, Upstream, UpstreamKind};

/// Connections at one time. Nobody authenticates here, so the oldest makes room for the newest.
const MAX_CONNECTIONS: usize = 256;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that a client may take to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the table of operators' connections, of which there are none yet.
pub fn connections() -> Connections {
    Connections::new(ConnectionLimits::open(MAX_CONNECTIONS), None)
}

/// The port for operators.
#[derive(Debug)]
pub struct Admin {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// The numbers.
    pub exporter: Exporter,
    /// The configuration in force, without secrets.
    pub config: Value,
    /// The names that the port answers to.
    pub names: AllowedNames,
    /// True if the edge is stopping: it is no longer ready then.
    pub draining: tokio::sync::watch::Receiver<bool>,
    /// The connections to this port.
    pub connections: Connections,
}

impl Admin {
    /// Serves `listener` until it is dropped.
    pub async fn serve(self, listener: StdListener) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let admin = Arc::new(self);
        loop {
            let (stream, _, connection) = inbound::accept(&listener, &admin.connections).await;
            let admin = Arc::clone(&admin);
            tokio::spawn(async move {
                tokio::select! {
                    () = admin.connection(stream) => {}
                    _ = connection.must_close() => {}
                }
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.respond(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(client_io(stream, WRITE_TIMEOUT), service);
        if let Err(error) = served.await {
            tracing::debug!(%error, "an operator's connection ended early");
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if let Err(error) = self.names.check(request) {
            return text(
                StatusCode::FORBIDDEN,
                &format!("{error}; see --allowed-host and --allowed-origin\n"),
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported here\n");
        }
        self.page(request.uri().path())
    }

    fn page(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.not_ready() {
                None => text(StatusCode::OK, "ready\n"),
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
            },
            "/metrics" => match self.exporter.text() {
                Ok(metrics) => of_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            },
            "/config" => json_page(&self.config),
            "/snapshot" => json_page(&summary(&self.current.load(), &self.current)),
            _ => text(
                StatusCode::NOT_FOUND,
                "unknown path; available: /healthz, /readyz, /metrics, /config and /snapshot\n",
            ),
        }
    }

    fn not_ready(&self) -> Option<&'static str> {
        if *self.draining.borrow() {
            return Some("draining\n");
        }
        if !*self.current.complete().borrow() {
            return Some("no snapshot yet: no control plane has responded, and there is no copy on disk\n");
        }
        if !self.current.is_ready() {
            return Some("still learning the state of sessions from other edges\n");
        }
        if !self.current.is_trust_fresh(clock::now()) {
            return Some("no contact with a control plane for longer than bearers may be trusted\n");
        }
        None
    }
}

/// Summarizes the snapshot in force, without anything that gives access.
fn summary(snapshot: &Snapshot, current: &Current) -> Value {
    let servers: Vec<Value> =
        sorted(snapshot.servers.iter(), |server| &server.id).map(|s| server(s)).collect();
    let upstreams: Vec<Value> =
        sorted(snapshot.upstreams.values(), |up| &up.id).map(|u| upstream(u)).collect();
    let siblings: BTreeMap<&str, &str> =
        snapshot.siblings.iter().map(|(edge, sibling)| (&**edge, &*sibling.address)).collect();
    let mut keys: Vec<&str> = snapshot.trust.issuer.keys.keys().map(AsRef::as_ref).collect();
    keys.sort_unstable();
    json!({
        "revision": snapshot.revision,
        "ready": current.is_ready(),
        "lastContact": current.last_contact(),
        "servers": servers,
        "upstreams": upstreams,
        "tokens": snapshot.tokens.len(),
        "siblings": siblings,
        "trust": {
            "issuer": snapshot.trust.issuer.name,
            "audience": snapshot.trust.issuer.audience,
            "keyIds": keys,
            "maxAgeSeconds": snapshot.trust.max_age.as_secs(),
        },
    })
}

fn sorted<'a, T: 'a>(
    things: impl Iterator<Item = &'a Arc<T>>,
    key: fn(&T) -> &str,
) -> impl Iterator<Item = &'a Arc<T>> {
    let mut things: Vec<&Arc<T>> = things.collect();
    things.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    things.into_iter()
}

fn server(server: &Server) -> Value {
    json!({
        "name": server.name,
        "uid": server.uid,
        "tools": server.tools.entries.len(),
        "resources": server.resources.entries.len(),
        "resourceTemplates": server.resource_templates.entries.len(),
        "prompts": server.prompts.entries.len(),
    })
}

fn upstream(upstream: &Upstream) -> Value {
    let UpstreamKind::Mcp(mcp) = &upstream.kind;
    let modern: Vec<&str> = mcp.modern.iter().map(|revision| revision.as_str()).collect();
    json!({
        "name": upstream.name,
        "uid": upstream.uid,
        "modern": modern,
        "legacy": mcp.legacy.map(::mcp::revision::Revision::as_str),
        "credential": !upstream.credential.headers.is_empty(),
    })
}

fn json_page(value: &Value) -> Response<Full<Bytes>> {
    of_type(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    of_type(status, "text/plain; charset=utf-8", body.to_owned())
}

fn of_type(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
