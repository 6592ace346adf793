//! The HTTP routes and the check of Host and Origin; and Streamable HTTP of both eras on one URL.

mod batch;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use inbound::{BodyError, BodyLimits, BoundedBody, ConnectionHandle, ConnectionHolder, Framing, cors};
use mcp::border::{self, Coding, Peer, head, mend};
use mcp::error::{
    HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, UNSUPPORTED_VERSION, render,
};
use mcp::header::{METHOD, NAME, PROTOCOL_VERSION, SESSION_ID, decode_value};
use mcp::json;
use mcp::message::{Envelope, EnvelopeError, Kind};
use mcp::meta;
use mcp::method::Method;
use mcp::revision::Revision;
use mcp::secrets::Secrets;
use tokio::sync::mpsc;

use crate::bridge::errors::BridgeError;
use crate::bridge::expose::Shared;
use crate::bridge::expose::handshake::{Initialization, ServerInfo, initialization};
use crate::bridge::expose::instances::Instance;
use crate::bridge::expose::multiplexer::ClientId;
use crate::bridge::expose::response::{self, Accepts, ClientGuard, PendingCall, pong};
use crate::bridge::expose::sessions::OpenSession;
use crate::bridge::expose::share::Source;
use crate::bridge::expose::sse_websocket;
use crate::bridge::expose::supervised_child::{CallMessage, NotReady, SupervisedChild};

/// Maximum size of a request body.
pub const MAX_BODY_BYTES: usize = 16 << 20;

/// Time allowed for sending a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Boxed: a response is large, and refusals are rare.
type Refusal = Box<Response>;

/// Builds the routes of all transports.
pub fn router(shared: Arc<Shared>) -> Router {
    let name_check = middleware::from_fn_with_state(shared.clone(), check_names);
    let endpoints = [
        ("/mcp", post(on_post).get(on_get).delete(on_delete)),
        ("/sse", get(sse_websocket::on_sse)),
        ("/message", post(sse_websocket::on_message)),
        ("/ws", get(sse_websocket::on_ws)),
    ];
    // With a slash at the end they are the same, as at an edge.
    let both = |router: Router<Arc<Shared>>, (path, endpoint): (&str, MethodRouter<Arc<Shared>>)| {
        router.route(path, endpoint.clone()).route(&format!("{path}/"), endpoint)
    };
    endpoints
        .into_iter()
        .fold(Router::new(), both)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(shared.clone(), read_body))
        .layer(name_check)
        .layer(middleware::from_fn(know_served))
        .with_state(shared)
}

/// Keeps the connections on which a request was served when others make room for new ones.
async fn know_served(request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<ConnectionHandle>().cloned();
    let response = next.run(request).await;
    let is_served = response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let Some(connection) = connection.filter(|_| is_served) {
        keep(&connection);
    }
    response
}

/// Notes that whoever opened a connection speaks the protocol.
fn keep(connection: &ConnectionHandle) {
    // Where its address holds too many, it is told to close after this response.
    let _ = connection.set_authenticated(ConnectionHolder::new(connection.subscriber()));
}

/// Reads the whole body, within the limits of size, time and memory.
async fn read_body(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<ConnectionHandle>().cloned();
    let address = connection.as_ref().map(ConnectionHandle::subscriber);
    // The memory counts until there is a response.
    let reservation = Arc::new(shared.bodies.reservation(address));
    let limits = BodyLimits { framing: Framing::Whole, max_bytes: MAX_BODY_BYTES, timeout: BODY_TIMEOUT };
    let (head, body) = request.into_parts();
    match BoundedBody::new(body, limits, reservation.clone()).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            // Before it is answered: a call may take longer than one may stay who says nothing.
            if let Some(connection) = connection.filter(|_| Envelope::parse(&body).is_ok()) {
                keep(&connection);
            }
            next.run(Request::from_parts(head, Body::from(body))).await
        }
        Err(error) => unread(&error),
    }
}

fn unread(error: &BodyError) -> Response {
    let status = match error {
        BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Timeout => StatusCode::REQUEST_TIMEOUT,
        BodyError::OverBudget(_) => StatusCode::SERVICE_UNAVAILABLE,
        BodyError::Interrupted(_) => StatusCode::BAD_REQUEST,
    };
    let mut response = closing((status, format!("{error}\n")));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Refuses foreign Host and Origin headers, so that a web page cannot reach a local server by DNS rebinding.
async fn check_names(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let verdict = shared.names.as_ref().map_or(Ok(()), |names| names.check(&request));
    match verdict {
        Ok(()) if shared.names.is_some() => with_cors(request, next).await,
        Ok(()) => next.run(request).await,
        Err(error) => {
            closing((StatusCode::FORBIDDEN, format!("{error}; see --allow-host and --allow-origin\n")))
        }
    }
}

/// Answers preflights, and lets pages read responses, as an edge does. The origin has been checked.
async fn with_cors(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == http::Method::OPTIONS {
        let mut allowed = StatusCode::NO_CONTENT.into_response();
        cors::preflight(request.headers(), allowed.headers_mut());
        allowed
    } else {
        next.run(request).await
    };
    if let Some(origin) = origin {
        cors::expose(origin, response.headers_mut());
    }
    response
}

/// Makes the response to a request whose body may not have been read to its end. It says that the connection ends with
/// it: clients that reuse connections would send their next request into that end.
fn closing(refusal: (StatusCode, String)) -> Response {
    let mut response = refusal.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn on_post(
    State(shared): State<Arc<Shared>>,
    source: Source,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(instance) = shared.instances.for_headers(&headers, source) else { return *too_many_instances() };
    match serve(&instance, &headers, source, body).await {
        Ok(response) => response,
        Err(refusal) => *refusal,
    }
}

async fn serve(
    instance: &Instance,
    headers: &HeaderMap,
    source: Source,
    body: Bytes,
) -> Result<Response, Refusal> {
    if !headers.get(header::CONTENT_TYPE).is_some_and(|value| head::is_json(value.as_bytes())) {
        return Err(unsupported("the content type must be application/json\n".to_owned()));
    }
    let wrong = |error: EnvelopeError| {
        compressed(headers)
            .unwrap_or_else(|| refuse(StatusCode::BAD_REQUEST, None, error.code(), &error.to_string()))
    };
    let meant;
    let (body, message) = match Envelope::parse(&body) {
        Ok(message) => (&body, message),
        Err(EnvelopeError::Batch) => return batch::answer(instance, headers, &body).await,
        Err(error) => {
            meant = mend(&body, error, Peer::Client).map_err(|unreadable| wrong(unreadable.error))?.message;
            (&meant, Envelope::parse(&meant).map_err(wrong)?)
        }
    };
    let header_is_modern = || {
        let version = headers.get(PROTOCOL_VERSION).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_initialize = message.method.as_deref() == Some(Method::Initialize.as_str());
        head::is_version_of_modern_request(version, headers.contains_key(SESSION_ID), is_initialize)
    };
    match meta_version(&message) {
        Some(version) => modern(instance, headers, body, &message, &version).await,
        None if header_is_modern() => {
            let why = "`_meta` names no protocol version";
            Err(refuse(StatusCode::BAD_REQUEST, message.id, INVALID_PARAMS, why))
        }
        None => legacy(instance, headers, source, body, &message).await,
    }
}

async fn legacy(
    instance: &Instance,
    headers: &HeaderMap,
    source: Source,
    body: &Bytes,
    message: &Envelope<'_>,
) -> Result<Response, Refusal> {
    let method = message.method.as_deref();
    if method == Some("initialize") && message.kind() == Kind::Request {
        return initialize(instance, source, message).await;
    }
    let OpenSession { client, .. } = session(instance, headers, message.id)?;
    let child = legacy_child(instance, message.id).await?.0;
    match message.kind() {
        Kind::Notification => {
            child.notify(client, body, message);
            Ok(StatusCode::ACCEPTED.into_response())
        }
        Kind::Response if child.respond(client, body, message) => Ok(StatusCode::ACCEPTED.into_response()),
        Kind::Response => {
            Err((StatusCode::BAD_REQUEST, "this response belongs to no request\n").into_response().into())
        }
        Kind::Request if method == Some("ping") => {
            Ok(response::json(StatusCode::OK, pong(message.id.unwrap_or_default())))
        }
        Kind::Request => {
            let items = call(&child, client, body, message)?;
            Ok(PendingCall { items, client: None }.respond(accepts(headers), |_| StatusCode::OK).await)
        }
    }
}

async fn initialize(
    instance: &Instance,
    source: Source,
    message: &Envelope<'_>,
) -> Result<Response, Refusal> {
    let (child, info) = legacy_child(instance, message.id).await?;
    let wrong = |_| refuse(StatusCode::BAD_REQUEST, message.id, INVALID_PARAMS, "invalid params");
    // Streamable HTTP came after 2024-11-05.
    let Initialization { capabilities, revision, response } =
        initialization(&info, message, Revision::V2025_03_26).map_err(wrong)?;
    let client = child.add_client(capabilities);
    let Some((id, evicted)) = instance.sessions.open(client, revision, source) else {
        child.remove_client(client);
        return Err(busy(message.id, BridgeError::TooManySessions, "too many sessions are open"));
    };
    if let Some(evicted) = evicted {
        child.remove_client(evicted);
    }
    let mut response = response::json(StatusCode::OK, response);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(SESSION_ID, id);
    }
    Ok(response)
}

async fn modern(
    instance: &Instance,
    headers: &HeaderMap,
    body: &Bytes,
    message: &Envelope<'_>,
    version: &str,
) -> Result<Response, Refusal> {
    let bad = |code, why: &str| refuse(StatusCode::BAD_REQUEST, message.id, code, why);
    check_headers(headers, message, version).map_err(|why| bad(HEADER_MISMATCH, &why))?;
    let no_modern_era =
        || bad(INVALID_REQUEST, "this server does not speak 2026-07-28 or later; start with initialize");
    let probed = instance.modern.as_ref().ok_or_else(no_modern_era)?;
    let child = probed.child().await.ok_or_else(no_modern_era)?;
    child.ready().await.map_err(|error| not_ready(message.id, &error))?;
    let client = child.add_client("{}");
    let guard = ClientGuard { child: child.clone(), client };
    if message.kind() != Kind::Request {
        child.notify(client, body, message);
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let items = call(&child, client, body, message)?;
    Ok(PendingCall { items, client: Some(guard) }.respond(accepts(headers), modern_status).await)
}

fn call(
    child: &Arc<SupervisedChild>,
    client: ClientId,
    body: &Bytes,
    message: &Envelope<'_>,
) -> Result<mpsc::Receiver<CallMessage>, Refusal> {
    child
        .call(client, body, message)
        .ok_or_else(|| busy(message.id, BridgeError::TooManyCalls, "too many calls are in flight"))
}

async fn on_get(State(shared): State<Arc<Shared>>, source: Source, headers: HeaderMap) -> Response {
    let Some(instance) = shared.instances.for_headers(&headers, source) else { return *too_many_instances() };
    if !headers.contains_key(SESSION_ID) {
        return no_stream();
    }
    let client = match session(&instance, &headers, None) {
        Ok(session) => session.client,
        Err(refusal) => return *refusal,
    };
    if !accepts(&headers).events {
        return (StatusCode::NOT_ACCEPTABLE, "the Accept header must include text/event-stream\n")
            .into_response();
    }
    match instance.legacy.as_ref().and_then(|child| child.open_stream(client)) {
        Some(messages) => response::open_stream(messages),
        None => (StatusCode::CONFLICT, "this session already has an open stream\n").into_response(),
    }
}

/// The answer to who asks for a stream without a session: 405, with which clients do without one.
fn no_stream() -> Response {
    let why = "there is no stream without a session: start with initialize (POST). Clients of HTTP+SSE connect to /sse\n";
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST, DELETE")], why).into_response()
}

async fn on_delete(State(shared): State<Arc<Shared>>, source: Source, headers: HeaderMap) -> Response {
    let Some(instance) = shared.instances.for_headers(&headers, source) else { return *too_many_instances() };
    if let Err(refusal) = session(&instance, &headers, None) {
        return *refusal;
    }
    let client = of_session(&headers, |id| instance.sessions.close(id));
    if let (Some(client), Some(child)) = (client, &instance.legacy) {
        child.remove_client(client);
    }
    StatusCode::NO_CONTENT.into_response()
}

/// Finds the session that a request names.
fn session(instance: &Instance, headers: &HeaderMap, id: Option<&str>) -> Result<OpenSession, Refusal> {
    if !headers.contains_key(SESSION_ID) {
        let why = "the header Mcp-Session-Id is missing; start with initialize";
        return Err(refuse(StatusCode::BAD_REQUEST, id, INVALID_REQUEST, why));
    }
    if let Some(version) = headers.get(PROTOCOL_VERSION).map(HeaderValue::as_bytes)
        && !head::is_version_of_session(version)
    {
        let why = format!("unknown MCP-Protocol-Version \"{}\"", Secrets::default().quote(version, 0));
        return Err(refuse(StatusCode::BAD_REQUEST, id, INVALID_REQUEST, &why));
    }
    of_session(headers, |session| instance.sessions.find(session)).ok_or_else(|| {
        refuse(StatusCode::NOT_FOUND, id, INVALID_REQUEST, "unknown session; start again with initialize")
    })
}

/// What `find` has for the session id of a request, as it stands there or, where it is repeated in one line, once.
fn of_session<T>(headers: &HeaderMap, find: impl Fn(&str) -> Option<T>) -> Option<T> {
    let sent = text(headers, SESSION_ID)?;
    find(sent).or_else(|| find(std::str::from_utf8(head::sole(sent.as_bytes())).ok()?))
}

/// The refusal of a body that is compressed.
fn compressed(headers: &HeaderMap) -> Option<Refusal> {
    let sent = headers.get(header::CONTENT_ENCODING)?.as_bytes();
    let is_plain = matches!(border::body::coding(Some(sent)), Coding::Identity | Coding::Mislabelled);
    let why = || {
        format!("the body has the content coding {}, and must have none\n", Secrets::default().quote(sent, 0))
    };
    (!is_plain).then(|| unsupported(why()))
}

fn unsupported(why: String) -> Refusal {
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, [(header::ACCEPT_ENCODING, "identity")], why).into_response().into()
}

async fn legacy_child(
    instance: &Instance,
    id: Option<&str>,
) -> Result<(Arc<SupervisedChild>, Arc<ServerInfo>), Refusal> {
    let no_legacy_era = || {
        let latest = Revision::LATEST.as_str();
        let why = format!("this server speaks only {latest}");
        let data = format!(r#"{{"supported":["{latest}"]}}"#);
        Box::new(response::json(StatusCode::BAD_REQUEST, render(id, UNSUPPORTED_VERSION, &why, Some(&data))))
    };
    let child = instance.legacy.as_ref().ok_or_else(no_legacy_era)?;
    match child.ready().await {
        Ok(info) => Ok((child.clone(), info)),
        Err(NotReady::Refused(_)) => Err(no_legacy_era()),
        Err(error) => Err(not_ready(id, &error)),
    }
}

fn not_ready(id: Option<&str>, error: &NotReady) -> Refusal {
    busy(id, BridgeError::NotReady, &format!("the server behind this address is not ready: {error}"))
}

fn too_many_instances() -> Refusal {
    busy(None, BridgeError::TooManyCopies, "too many different header values are in use")
}

fn busy(id: Option<&str>, error: BridgeError, why: &str) -> Refusal {
    let mut response = response::json(StatusCode::SERVICE_UNAVAILABLE, error.render(id, why));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Box::new(response)
}

fn refuse(status: StatusCode, id: Option<&str>, code: i64, why: &str) -> Refusal {
    Box::new(response::json(status, render(id, code, why, None)))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

pub fn accepts(headers: &HeaderMap) -> Accepts {
    let all =
        headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    let has = |kind: &str| all.contains(kind) || all.contains("*/*");
    let (json, events) = (has("application/json") || has("application/*"), has("text/event-stream"));
    Accepts { json: json || !events, events }
}

fn meta_version(message: &Envelope<'_>) -> Option<String> {
    let [meta] = json::members(message.params?, [meta::META]).ok()?;
    let [version] = json::members(meta?, [meta::PROTOCOL_VERSION]).ok()?;
    Some(json::string(version?).ok()?.into_owned())
}

/// Checks that the headers of the modern era agree with the body.
fn check_headers(headers: &HeaderMap, message: &Envelope<'_>, version: &str) -> Result<(), String> {
    if text(headers, PROTOCOL_VERSION) != Some(version) {
        return Err("MCP-Protocol-Version does not match `_meta`".into());
    }
    let method = message.method.as_deref().unwrap_or_default();
    if message.kind() != Kind::Request {
        return Ok(());
    }
    if text(headers, METHOD) != Some(method) {
        return Err("Mcp-Method does not match the body".into());
    }
    let Some(member) = Method::parse(method).and_then(|method| method.mirrored_target().member()) else {
        return Ok(());
    };
    let named = message.params.and_then(|params| json::members(params, [member]).ok().and_then(|[raw]| raw));
    let named = named.and_then(|raw| json::string(raw).ok());
    match headers.get(NAME).map(decode_value) {
        Some(Ok(header)) if Some(&header) == named.as_ref() => Ok(()),
        _ => Err(format!("Mcp-Name does not match `{member}`")),
    }
}

/// Returns the HTTP status that the modern era prescribes for an error response.
fn modern_status(message: &[u8]) -> StatusCode {
    let code = Envelope::parse(message).ok().and_then(|message| {
        let [code] = json::members(message.error?, ["code"]).ok()?;
        code?.parse::<i64>().ok()
    });
    match code {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(HEADER_MISMATCH | mcp::error::MISSING_CAPABILITY | UNSUPPORTED_VERSION | INVALID_REQUEST) => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::OK,
    }
}
