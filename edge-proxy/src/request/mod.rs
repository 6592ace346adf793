//! The whole road of a request, stage by stage, on one page.
//!
//! Accepted → Exchange → Caller → Session → Target → Permit → Call → reply. Each stage is a function of another module;
//! here is only their order.

mod batch;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::header::ORIGIN;
use http::{Request, Response};
use hyper::body::Incoming;
use mcp::extension::{self, declares_tasks};
use mcp::header::LAST_EVENT_ID;
use mcp::message::{Envelope, EnvelopeError, Kind};
use mcp::method::Method;
use mcp::revision::Era;

use crate::account::Account;
use crate::active_calls::ActiveCall;
use crate::builtin::{self, capabilities, listen};
use crate::duplex::{Duplex, sse, websocket};
use crate::error::{Asked, Failure};
use crate::respond::Reply;
use crate::scene::{Came, Scene};
use crate::session::{self, Session};
use crate::snapshot::Snapshot;
use crate::transport::door::Door;
use crate::transport::path::{self, Endpoint};
use crate::transport::streamable::{Exchange, Verb};
use crate::transport::websocket::Handshake;
use crate::transport::{Body, Message, Wire, unreadable};
use crate::tunnels::door;
use crate::usage::Outcome;
use crate::worker::Worker;
use crate::{policy, respond, route, upstream};

/// Answers one request. Every failure becomes its answer here.
pub async fn serve(worker: &Rc<Worker>, wire: &Rc<Wire>, request: Request<Incoming>) -> Response<Body> {
    let origin = request.headers().get(ORIGIN).cloned();
    let mut asked = Asked::default();
    let mut response = match road(worker, wire, request, &mut asked).await {
        Ok(response) => response,
        Err(Failure::Origin) => return rejected(worker, &Failure::Origin, &asked),
        Err(failure) => rejected(worker, &failure, &asked),
    };
    if let Some(origin) = origin {
        Door::expose(origin, response.headers_mut());
    }
    response
}

fn rejected(worker: &Worker, failure: &Failure, asked: &Asked) -> Response<Body> {
    if let Some(reason) = failure.counts_as() {
        worker.shared.metrics.rejected(reason).inc();
    }
    respond::failure(failure, asked)
}

async fn road(
    worker: &Rc<Worker>,
    wire: &Rc<Wire>,
    request: Request<Incoming>,
    asked: &mut Asked,
) -> Result<Response<Body>, Failure> {
    let (started, now, shared) = (Instant::now(), worker.now(), &worker.shared);
    let _slot = shared.slot().ok_or(Failure::Overloaded)?;
    if let Some(upstream) = path::tunnel(request.uri().path()).map(str::to_owned) {
        return door::open(worker, wire, &upstream, request, now);
    }
    let mut exchange = Exchange::open(&shared.door, request)?;
    if exchange.verb == Verb::Options {
        return Ok(shared.door.preflight(&exchange.headers));
    }
    let snapshot = shared.current.load_full();
    if !shared.current.bearers_are_believed(now) {
        return Err(Failure::Stale);
    }
    if exchange.endpoint == Endpoint::WebSocket {
        return socket(worker, wire, exchange, &snapshot, started, now).await;
    }
    let token = worker.verified.caller(&snapshot, exchange.bearer(), now)?;
    let view = token.scope.view(exchange.server()).ok_or(Failure::Server)?;
    let has_body = exchange.verb == Verb::Post && exchange.endpoint != Endpoint::Ticket;
    let body = if has_body { exchange.read(&shared.limits).await? } else { Bytes::new() };
    let came = Came::Alone(&exchange.headers);
    let scene = Scene { worker, snapshot: &snapshot, token: &token, view, came, started, now };
    let bearer = exchange.bearer().unwrap_or_default();
    match &exchange.endpoint {
        Endpoint::Mcp => Ok(alone(&scene, exchange.verb, &body, asked).await?.into_response(worker)),
        Endpoint::Sse => sse::open(&scene, bearer, wire, heard_boxed),
        Endpoint::Messages(handle) => sse::post(&scene, handle, body).await,
        Endpoint::Ticket | Endpoint::WebSocket => {
            Ok(websocket::keep_nowhere(websocket::ticket(&scene, bearer)?.into_response(worker)))
        }
    }
}

/// A request of Streamable HTTP.
async fn alone(scene: &Scene<'_>, verb: Verb, body: &Bytes, asked: &mut Asked) -> Result<Reply, Failure> {
    match verb {
        Verb::Get => stream(scene),
        Verb::Delete => Ok(builtin::end(scene, &*conversation(scene)?).await),
        Verb::Post | Verb::Options => messages(scene, body, Envelope::parse(body), asked).await,
    }
}

/// A request for a WebSocket, from a program with its bearer or from a page with a ticket.
async fn socket(
    worker: &Rc<Worker>,
    wire: &Rc<Wire>,
    mut exchange: Exchange,
    snapshot: &Arc<Snapshot>,
    started: Instant,
    now: u64,
) -> Result<Response<Body>, Failure> {
    let handshake = Handshake::read(&exchange.headers)?;
    let upgrade = exchange.upgrade().ok_or(Failure::Upgrade)?;
    let bearer = match (exchange.bearer(), &handshake.ticket) {
        (None, Some(ticket)) => {
            Some(websocket::redeem(worker, snapshot, exchange.server(), ticket, now).await?)
        }
        (bearer, _) => bearer.map(str::to_owned),
    };
    let token = worker.verified.caller(snapshot, bearer.as_deref(), now)?;
    let view = token.scope.view(exchange.server()).ok_or(Failure::Server)?;
    let came = Came::Alone(&exchange.headers);
    let scene = Scene { worker, snapshot, token: &token, view, came, started, now };
    websocket::open(&scene, &bearer.unwrap_or_default(), &handshake, upgrade, wire, heard_boxed)
}

/// `heard` on the heap, so that a stream that is told for hours does not hold the room of the stages before it.
fn heard_boxed<'a>(
    duplex: &'a Rc<Duplex>,
    body: &'a Bytes,
    read: Result<Envelope<'a>, EnvelopeError>,
    asked: &'a mut Asked,
) -> LocalBoxFuture<'a, Result<Reply, Failure>> {
    Box::pin(heard(duplex, body, read, asked))
}

/// Answers what was said on a connection. The caller is looked at anew each time.
async fn heard(
    duplex: &Rc<Duplex>,
    body: &Bytes,
    read: Result<Envelope<'_>, EnvelopeError>,
    asked: &mut Asked,
) -> Result<Reply, Failure> {
    let worker = duplex.worker();
    let (started, now, shared) = (Instant::now(), worker.now(), &worker.shared);
    let _slot = shared.slot().ok_or(Failure::Overloaded)?;
    let snapshot = shared.current.load_full();
    let (token, view) = duplex.caller(&snapshot, now)?;
    let came = Came::On(duplex.session());
    let scene = Scene { worker, snapshot: &snapshot, token: &token, view: &view, came, started, now };
    let is_ready =
        read.as_ref().is_ok_and(|read| read.method.as_deref() == Some(Method::Initialized.as_str()));
    let reply = messages(&scene, body, read, asked).await?;
    // From then on the client hears on its connection what others open a stream for.
    if is_ready && duplex.begins_to_listen() {
        return listen::legacy(&scene, &conversation(&scene)?);
    }
    Ok(reply)
}

async fn messages(
    scene: &Scene<'_>,
    body: &Bytes,
    read: Result<Envelope<'_>, EnvelopeError>,
    asked: &mut Asked,
) -> Result<Reply, Failure> {
    match read {
        Ok(envelope) => message(scene, Message::new(body, envelope)?, asked).await,
        Err(EnvelopeError::Batch) => batch::messages(scene, body, &*conversation(scene)?).await,
        Err(error) => Err(unreadable(error)),
    }
}

/// One message, from the session it belongs to up to its answer.
pub async fn message(scene: &Scene<'_>, message: Message<'_>, asked: &mut Asked) -> Result<Reply, Failure> {
    asked.id = message.envelope.id.map(|id| message.slice(id));
    let session = session_of(scene, &message, asked)?;
    match message.kind() {
        Kind::Request => request(scene, &session, &message).await,
        Kind::Notification => builtin::notification(scene, &session, &message).await,
        Kind::Response if session.era() == Era::Modern => {
            Err(Failure::Invalid("clients send no responses in this revision".to_owned()))
        }
        Kind::Response => {
            answer(scene, &message).await?;
            Ok(Reply::Accepted)
        }
    }
}

/// A client's answer to what an upstream asked in the middle of a call, as long as the client may make that call.
async fn answer(scene: &Scene<'_>, message: &Message<'_>) -> Result<(), Failure> {
    let (trust, owner) = (&scene.snapshot.trust, scene.owner());
    let question = upstream::ServerRequestId::answered_by(trust, owner, message);
    let question = question.ok_or_else(Failure::answers_nothing)?;
    let permit = policy::permit(scene.view, &question.target().named());
    let permit = permit.ok_or_else(Failure::answers_nothing)?;
    upstream::answer(scene.worker, trust, owner, message, question, &permit).await
}

fn session_of(scene: &Scene<'_>, message: &Message<'_>, asked: &mut Asked) -> Result<Session, Failure> {
    if carries_modern(scene) && session::is_modern(scene.headers(), message) {
        asked.era = Era::Modern;
        let unchecked = message.kind() != Kind::Request;
        return Ok(Session::Modern(if unchecked {
            mcp::revision::Revision::LATEST
        } else {
            session::modern::check(scene.headers(), message)?
        }));
    }
    if session::is_opening(message) {
        return Ok(Session::Opening);
    }
    Ok(Session::Legacy(conversation(scene)?))
}

fn carries_modern(scene: &Scene<'_>) -> bool {
    match scene.came {
        Came::Alone(_) => true,
        Came::On(session) => session.carries(Era::Modern),
    }
}

/// The rest of a call's stream that broke off, or what no request asked for.
fn stream(scene: &Scene<'_>) -> Result<Reply, Failure> {
    let conversation = conversation(scene)?;
    let last = scene.headers().and_then(|headers| headers.get(LAST_EVENT_ID)?.to_str().ok());
    match last.and_then(|id| resumed(scene, &conversation, id)) {
        Some(reply) => Ok(reply),
        None => listen::legacy(scene, &conversation),
    }
}

/// The rest of the call's stream that an event id names, as long as the caller may make that call.
fn resumed(scene: &Scene<'_>, conversation: &session::Conversation, last_event_id: &str) -> Option<Reply> {
    let (trust, server) = (&scene.snapshot.trust, &scene.view.server);
    let resumption = upstream::Resumption::open(trust, scene.owner(), last_event_id)?;
    let permit = policy::permit(scene.view, &resumption.target()?.named())?;
    let asked = Asked { id: Some(resumption.id()?), era: Era::Legacy };
    let session = Some(conversation.jti);
    let active = ActiveCall::begin(scene.worker, scene.token, server, &permit, session, asked);
    let events = upstream::resume(scene.worker, trust, server, scene.token, &resumption, permit)?;
    Some(Reply::Events(Box::new(active.stream(Box::new(events)))))
}

fn conversation(scene: &Scene<'_>) -> Result<Rc<session::Conversation>, Failure> {
    let (worker, trust) = (scene.worker, &scene.snapshot.trust);
    match scene.came {
        Came::Alone(headers) => {
            let terminated = &worker.shared.terminated;
            worker.opened.conversation(headers, trust, scene.owner(), terminated, scene.now)
        }
        Came::On(session) => session.conversation(),
    }
}

async fn request(scene: &Scene<'_>, session: &Session, message: &Message<'_>) -> Result<Reply, Failure> {
    let method = message.method.filter(|method| method.is_in_era(session.era())).ok_or(Failure::Method)?;
    match method {
        Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead | Method::CompletionComplete => {
            call(scene, session, message, method).await
        }
        Method::TasksGet | Method::TasksResult | Method::TasksUpdate | Method::TasksCancel
            if session
                .revision()
                .is_some_and(|revision| capabilities::offers_tasks(scene.view, revision)) =>
        {
            about_task(scene, session, message, method).await
        }
        Method::SubscriptionsListen => listen::modern(scene, message).await,
        _ => builtin::answer(scene, session, message, method).await,
    }
}

async fn call(
    scene: &Scene<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
) -> Result<Reply, Failure> {
    let mut account = scene.account(method.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let named = route::named(method, message)?;
    let permit = policy::permit(scene.view, &named).ok_or_else(|| named.unknown())?;
    if let (Era::Modern, Some(headers)) = (session.era(), scene.headers()) {
        session::modern::check_arguments(headers, message, &permit.entry().tool)?;
    }
    let way = Way { named: &named, task: None, permit };
    send(scene, session, message, method, way, account).await
}

/// What is asked about a task goes where the tool that began it leads, as long as the caller may call that.
async fn about_task(
    scene: &Scene<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
) -> Result<Reply, Failure> {
    let mut account = scene.account(method.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let declared = message.params.capabilities.is_some_and(declares_tasks);
    if session.era() == Era::Modern && !declared {
        return Err(Failure::Extension(extension::TASKS));
    }
    let raw =
        session::modern::task_id(message).ok_or_else(|| Failure::params("params.taskId is required"))?;
    let unknown = || Failure::params("unknown task");
    let text = mcp::json::string(raw).map_err(|_| unknown())?;
    let task = upstream::Task::open(&scene.snapshot.trust, scene.owner(), &text).ok_or_else(unknown)?;
    let permit = listen::task_permit(scene.view, &task).ok_or_else(unknown)?;
    let named = route::Named { noun: route::Noun::Tool, exposed: task.tool.clone().into(), raw };
    let way = Way { named: &named, task: Some((task, raw)), permit };
    send(scene, session, message, method, way, account).await
}

/// Where a message leads, and the right to send it there.
struct Way<'a> {
    named: &'a route::Named<'a>,
    task: Option<(upstream::Task, &'a str)>,
    permit: policy::Permit,
}

/// From here on it is the upstream's to answer, and the client's to give up.
async fn send(
    scene: &Scene<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
    way: Way<'_>,
    mut account: Account,
) -> Result<Reply, Failure> {
    account.leads_to(way.permit.entry());
    account.outcome = Outcome::Cancelled;
    let asked = Asked { id: message.envelope.id.map(|id| message.slice(id)), era: session.era() };
    let server = &scene.view.server;
    let active = ActiveCall::begin(scene.worker, scene.token, server, &way.permit, session.id(), asked);
    let call = upstream::Call {
        worker: scene.worker,
        trust: &scene.snapshot.trust,
        server,
        token: scene.token,
        session,
        headers: scene.headers(),
        message,
        method,
        named: way.named,
        task: way.task,
        permit: way.permit,
        account: Some(account),
    };
    let answer = tokio::select! {
        biased;
        failure = active.withdrawn() => {
            active.stop();
            return Err(failure);
        }
        answer = upstream::call(call) => answer?,
    };
    Ok(match answer {
        upstream::CallResponse::Json { status, body } => {
            Reply::Json { status, parts: [body].into(), session: None }
        }
        upstream::CallResponse::Events(events) => Reply::Events(Box::new(active.stream(events))),
    })
}
