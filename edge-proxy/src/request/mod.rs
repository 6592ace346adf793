//! The pipeline of a request, stage by stage, on one page.
//!
//! Request → principal → session → target → permit → call → reply. Each stage is a function of another module; this one
//! knows only their order.

mod admission;
mod approval;
mod batch;
mod refusal;
mod send;
mod shown;
mod stream;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::header::ORIGIN;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use mcp::extension::{self, declares_tasks};
use mcp::message::{Envelope, EnvelopeError, Kind};
use mcp::method::Method;
use mcp::revision::Era;

use self::approval::Resent;
use self::send::{Route, send};
use crate::builtin::{self, capabilities, listen};
use crate::connection::{ClientConnection, sse, websocket};
use crate::context::{Arrival, Authenticated, InFlightPermit, RequestContext, WorkerState};
use crate::error::{ErrorContext, Failure};
use crate::identity::{Presented, Principal};
use crate::policy::Arguments;
use crate::respond::Reply;
use crate::session::{self, HeldState, Session, SessionId, SessionLookup};
use crate::transport::path::{self, Endpoint};
use crate::transport::request_body;
use crate::transport::streamable::{HttpRequest, Verb};
use crate::transport::websocket::Handshake;
use crate::transport::{
    Body, HolderIdentity, HttpConnection, Message, OriginPolicy, RequestBody, is_empty_list, mended,
    unreadable, with_object_arguments,
};
use crate::tunnels::accept;
use crate::usage::Outcome;
use crate::{policy, respond, route, upstream};

/// Answers one request. Every failure becomes its response here.
pub async fn serve(
    worker: &Rc<WorkerState>,
    http_connection: &Rc<HttpConnection>,
    request: Request<Incoming>,
) -> Response<Body> {
    let origin = request.headers().get(ORIGIN).cloned();
    let mut error_context = ErrorContext::default();
    let (request, mut body) = RequestBody::of(request);
    let handled = handle(worker, http_connection, request, &mut body, &mut error_context).await;
    let mut response = match handled {
        Ok(response) => response,
        // The page that sent it may not even read why.
        Err(failure @ (Failure::Host | Failure::Origin | Failure::RepeatedHeader(_))) => {
            return refusal::after(&mut body, refusal::rejected(worker, &failure, &error_context)).await;
        }
        Err(failure) => refusal::rejected(worker, &failure, &error_context),
    };
    if let Some(origin) = origin {
        OriginPolicy::expose(origin, response.headers_mut());
        inbound::browser::protect(response.headers_mut(), None);
    }
    refusal::after(&mut body, response).await
}

async fn handle(
    worker: &Rc<WorkerState>,
    http_connection: &Rc<HttpConnection>,
    request: Request<()>,
    body: &mut RequestBody,
    error_context: &mut ErrorContext,
) -> Result<Response<Body>, Failure> {
    let (started, shared) = (Instant::now(), &worker.shared);
    let mut in_flight = shared.in_flight_permit()?;
    if let Some(upstream) = path::tunnel(request.uri().path()).map(str::to_owned) {
        return accept::accept(
            &shared.environment.tunnels,
            &shared.environment.current,
            &shared.origin_policy,
            http_connection,
            &upstream,
            request,
            worker.now(),
        );
    }
    let mut http_request = HttpRequest::open(&shared.origin_policy, request)?;
    if http_request.verb == Verb::Options {
        return Ok(shared.origin_policy.preflight(&http_request.headers));
    }
    if let Some(rule) = &shared.client_port.basic {
        http_request.take_basic(|headers| http_connection.is_private(rule, headers))?;
    }
    if http_request.endpoint == Endpoint::WebSocket {
        return websocket_request(worker, http_connection, http_request, started, in_flight).await;
    }
    let address = http_connection.client_address(&http_request.headers);
    let certificate = http_connection.certificate(&http_request.headers);
    let presented = Presented { bearer: http_request.bearer(), certificate };
    let first = Authenticated::now(worker, presented, address)?;
    let server = http_request.server();
    let (caller, has_waited) = admission::of_request(worker, &first, server, &mut in_flight).await?;
    http_connection.set_authenticated(HolderIdentity::Token(&first.principal().uid))?;
    let has_body = http_request.verb == Verb::Post && http_request.endpoint != Endpoint::Ticket;
    let body = if has_body {
        read(worker, body, &http_request.headers, first.principal()).await?
    } else {
        Bytes::new()
    };
    let arrival = Arrival::Request(&http_request.headers);
    let presented = Presented { bearer: http_request.bearer(), certificate };
    let again;
    let (snapshot, limits_left) = (&first.snapshot, &RefCell::default());
    let context = RequestContext { worker, snapshot, caller, presented, arrival, started, limits_left };
    // Rights may have ended while the body came.
    let context = if !(has_body || has_waited) || context.is_current() {
        context
    } else {
        again = context.authenticate_again()?;
        context.admitted_again(&again)?
    };
    match &http_request.endpoint {
        Endpoint::Mcp => {
            let reply = streamable(&context, http_request.verb, &body, error_context).await?;
            Ok(respond::with_limits(reply.into_response(worker), &limits_left.borrow()))
        }
        Endpoint::Sse => sse::open(&context, http_connection, connection_message_boxed),
        Endpoint::Messages(handle) => sse::post(&context, handle, body, error_context).await,
        Endpoint::Ticket | Endpoint::WebSocket => {
            Ok(websocket::no_store(websocket::ticket(&context)?.into_response(worker)))
        }
    }
}

/// Reads the body of a request, from the share of its principal.
async fn read(
    worker: &WorkerState,
    body: &mut RequestBody,
    headers: &HeaderMap,
    principal: &Principal,
) -> Result<Bytes, Failure> {
    let environment = &worker.shared.environment;
    body.read(headers, &environment.limits, || environment.bodies.reservation(&*principal.uid)).await
}

/// Handles a request of Streamable HTTP.
async fn streamable(
    context: &RequestContext<'_>,
    verb: Verb,
    body: &Bytes,
    error_context: &mut ErrorContext,
) -> Result<Reply, Failure> {
    match verb {
        Verb::Get => stream::open(context),
        Verb::Delete => Ok(builtin::end(context, &*conversation(context)?).await),
        Verb::Post | Verb::Options => messages(context, body, Envelope::parse(body), error_context).await,
    }
}

/// Handles a request for a WebSocket, from a program with its bearer or from a page with a ticket.
async fn websocket_request(
    worker: &Rc<WorkerState>,
    http_connection: &Rc<HttpConnection>,
    mut http_request: HttpRequest,
    started: Instant,
    mut in_flight: InFlightPermit<'_>,
) -> Result<Response<Body>, Failure> {
    let handshake = Handshake::read(&http_request.headers)?;
    let upgrade = http_request.upgrade().ok_or(Failure::Upgrade)?;
    let ticket = match (http_request.bearer(), &handshake.ticket) {
        (None, Some(text)) => Some(websocket::open_ticket(worker, http_request.server(), text)?),
        _ => None,
    };
    let bearer = ticket.as_ref().map(|ticket| &*ticket.bearer).or_else(|| http_request.bearer());
    let address = http_connection.client_address(&http_request.headers);
    let presented = Presented { bearer, certificate: http_connection.certificate(&http_request.headers) };
    let first = Authenticated::now(worker, presented, address)?;
    // Whether its rights ended meanwhile the connection looks after itself.
    let (caller, _) = admission::of_request(worker, &first, http_request.server(), &mut in_flight).await?;
    let arrival = Arrival::Request(&http_request.headers);
    let (snapshot, limits_left) = (&first.snapshot, &RefCell::default());
    let context = RequestContext { worker, snapshot, caller, presented, arrival, started, limits_left };
    // Before the ticket is used: what is refused can be tried again with it.
    let permit = context.connection_permit()?;
    let again;
    let context = match &ticket {
        None => context,
        Some(ticket) => {
            websocket::redeem(&context, ticket).await?;
            // Rights may have ended while the siblings were told.
            again = context.authenticate_again()?;
            context.admitted_again(&again)?
        }
    };
    http_connection.set_authenticated(HolderIdentity::Token(&first.principal().uid))?;
    websocket::open(&context, permit, &handshake, upgrade, http_connection, connection_message_boxed)
}

/// Boxes `connection_message`, so that a stream that lasts for hours does not keep the memory of the stages before it.
fn connection_message_boxed<'a>(
    connection: &'a Rc<ClientConnection>,
    body: &'a Bytes,
    read: Result<Envelope<'a>, EnvelopeError>,
    error_context: &'a mut ErrorContext,
) -> LocalBoxFuture<'a, Result<Reply, Failure>> {
    Box::pin(connection_message(connection, body, read, error_context))
}

/// Handles a message of a connection. The caller is checked again each time.
async fn connection_message(
    connection: &Rc<ClientConnection>,
    body: &Bytes,
    read: Result<Envelope<'_>, EnvelopeError>,
    error_context: &mut ErrorContext,
) -> Result<Reply, Failure> {
    let (worker, started) = (connection.worker(), Instant::now());
    let mut in_flight = worker.shared.in_flight_permit()?;
    let (first, again) = (connection.authenticate()?, OnceCell::new());
    let (authenticated, caller) = admission::of_message(connection, &first, &again).await?;
    in_flight.charge(authenticated.principal().holder)?;
    let context = RequestContext {
        worker,
        snapshot: &authenticated.snapshot,
        caller,
        presented: connection.presented(),
        arrival: Arrival::Connection(connection.session()),
        started,
        limits_left: &RefCell::default(),
    };
    let is_ready =
        read.as_ref().is_ok_and(|read| read.method.as_deref() == Some(Method::Initialized.as_str()));
    let reply = messages(&context, body, read, error_context).await?;
    // From then on the client gets notifications on its connection, as others do on a GET stream.
    if is_ready && connection.start_listening() {
        return listen::legacy(&context, &conversation(&context)?);
    }
    Ok(reply)
}

async fn messages(
    context: &RequestContext<'_>,
    body: &Bytes,
    read: Result<Envelope<'_>, EnvelopeError>,
    error_context: &mut ErrorContext,
) -> Result<Reply, Failure> {
    match read {
        Ok(envelope) => {
            let read = Message::new(body, envelope, error_context)?;
            if read.params.arguments.is_some_and(is_empty_list) {
                return Box::pin(odd_message(context, body.clone(), error_context)).await;
            }
            message(context, read, error_context).await
        }
        Err(EnvelopeError::Batch) => batch::messages(context, body, &*conversation(context)?).await,
        Err(error) => {
            request_body::check_coding(context.headers())?;
            Box::pin(odd_message(context, mended(body, error, error_context)?, error_context)).await
        }
    }
}

/// Handles a message that upstreams could not read before it is mended.
#[cold]
async fn odd_message(
    context: &RequestContext<'_>,
    body: Bytes,
    error_context: &mut ErrorContext,
) -> Result<Reply, Failure> {
    let body = with_object_arguments(body);
    let envelope = Envelope::parse(&body).map_err(unreadable)?;
    let read = Message::new(&body, envelope, error_context)?;
    message(context, read, error_context).await
}

/// Handles one message, from its session up to its answer.
pub async fn message(
    context: &RequestContext<'_>,
    message: Message<'_>,
    error_context: &mut ErrorContext,
) -> Result<Reply, Failure> {
    let session = session_of(context, &message, error_context)?;
    match message.kind() {
        Kind::Request => request(context, &session, &message).await,
        Kind::Notification => builtin::notification(context, &session, &message).await,
        Kind::Response => {
            let none = || Failure::Invalid("clients send no responses in this revision".to_owned());
            deliver_response(context, &session.id().ok_or_else(none)?, &message).await?;
            Ok(Reply::Accepted)
        }
    }
}

/// Delivers a client's response to a server request of its session, if the client may still make the call that it
/// belongs to.
async fn deliver_response(
    context: &RequestContext<'_>,
    session_id: &SessionId,
    message: &Message<'_>,
) -> Result<(), Failure> {
    let (trust, owner) = (&context.snapshot.trust, context.owner());
    let server_request = upstream::ServerRequestId::answered_by(trust, owner, session_id, message);
    let server_request = server_request.ok_or_else(Failure::answers_nothing)?;
    let target = server_request.target();
    let judged = Arguments::Judged(server_request.judged_by());
    let permit = policy::check(&context.caller, target.kind.method(), &target.named(), judged)
        .map_err(|_| Failure::answers_nothing())?;
    let uris = RefCell::new(policy::readable_at(&context.caller, &permit));
    let own_uri = |uri: &str| uris.borrow_mut().own(uri);
    let own_uri = context.server().renames_uris.then_some(&own_uri as upstream::OwnUri<'_>);
    let upstreams = &context.worker.upstreams;
    upstream::deliver_response(upstreams, trust, owner, message, server_request, &permit, own_uri).await
}

fn session_of(
    context: &RequestContext<'_>,
    message: &Message<'_>,
    error_context: &mut ErrorContext,
) -> Result<Session, Failure> {
    if carries_modern(context) && session::is_modern(context.headers(), message) {
        error_context.era = Era::Modern;
        let unchecked = message.kind() != Kind::Request;
        return Ok(Session::Modern(if unchecked {
            mcp::revision::Revision::LATEST
        } else {
            session::modern::check(context.headers(), message)?
        }));
    }
    if session::is_initialize(message) {
        return Ok(Session::Opening);
    }
    Ok(Session::Legacy(conversation(context)?))
}

fn carries_modern(context: &RequestContext<'_>) -> bool {
    match context.arrival {
        Arrival::Request(_) => true,
        Arrival::Connection(session) => session.carries(Era::Modern),
    }
}

fn conversation(context: &RequestContext<'_>) -> Result<Rc<session::Conversation>, Failure> {
    let (worker, trust) = (context.worker, &context.snapshot.trust);
    match context.arrival {
        Arrival::Request(headers) => {
            let terminated = &worker.shared.terminated;
            let lookup = SessionLookup { trust, owner: context.owner(), terminated, now: context.now() };
            worker.sessions.conversation(headers, lookup)
        }
        Arrival::Connection(session) => session.conversation(),
    }
}

async fn request(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
) -> Result<Reply, Failure> {
    let method = message.method.filter(|method| method.is_in_era(session.era())).ok_or(Failure::Method)?;
    policy::check_method(&context.caller, method)
        .map_err(|denied| context.refused_method(method.as_str(), denied).of_server())?;
    match method {
        Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead | Method::CompletionComplete => {
            call(context, session, message, method).await
        }
        Method::TasksGet | Method::TasksResult | Method::TasksUpdate | Method::TasksCancel
            if session
                .revision()
                .is_some_and(|revision| capabilities::offers_tasks(context.view(), revision)) =>
        {
            task_request(context, session, message, method).await
        }
        Method::SubscriptionsListen => listen::modern(context, message).await,
        _ => builtin::respond(context, session, message, method).await,
    }
}

async fn call(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
) -> Result<Reply, Failure> {
    let is_held = |raw: &str| method == Method::ToolsCall && HeldState::may_be(raw);
    match (session.era(), message.params.request_state) {
        (Era::Modern, Some(raw)) if is_held(raw) => {
            Box::pin(approval::call_again(context, session, message, raw)).await
        }
        _ => begin(context, session, message, method, None).await,
    }
}

/// Begins a call, which a client may make again that a rule held back before.
async fn begin(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
    resent: Option<&Resent>,
) -> Result<Reply, Failure> {
    let mut account = context.account(method.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let named = route::named(method, message)?;
    let arguments = Arguments::Of(message.params.arguments);
    let permit = policy::check(&context.caller, method, &named, arguments)
        .map_err(|denied| context.refused(method.as_str(), &named, denied).of_target(&named))?;
    if let (Era::Modern, Some(headers)) = (session.era(), context.headers()) {
        session::modern::check_arguments(headers, message, &permit.entry().tool)?;
    }
    let held = match (permit.approval(), resent) {
        (None, None) => None,
        _ => approval::hold(context, session, message, &permit, resent)?,
    };
    let route_to = Route { named: &named, task: None, permit, held };
    send(context, session, message, method, route_to, account).await
}

/// Sends a request about a task to the upstream that has it, if the caller may still call the tool that began it.
async fn task_request(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
) -> Result<Reply, Failure> {
    let mut account = context.account(method.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let declared = message.params.capabilities.is_some_and(declares_tasks);
    if session.era() == Era::Modern && !declared {
        return Err(Failure::Extension(extension::TASKS));
    }
    let raw =
        session::modern::task_id(message).ok_or_else(|| Failure::params("params.taskId is required"))?;
    let unknown = || Failure::params("unknown task");
    let text = mcp::json::string(raw).map_err(|_| unknown())?;
    let task = upstream::Task::open(&context.snapshot.trust, context.owner(), &text).ok_or_else(unknown)?;
    let permit = listen::task_permit(&context.caller, method, &task).ok_or_else(unknown)?;
    let named = route::NamedTarget { kind: route::TargetKind::Tool, exposed: task.tool.clone().into(), raw };
    let route_to = Route { named: &named, task: Some((task, raw)), permit, held: None };
    send(context, session, message, method, route_to, account).await
}
