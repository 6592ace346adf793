//! The whole road of a request, stage by stage, on one page.
//!
//! Accepted → Exchange → Caller → Session → Target → Permit → Call → reply. Each stage is a function of another module;
//! here is only their order.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::header::ORIGIN;
use http::{Request, Response};
use hyper::body::Incoming;
use mcp::header::LAST_EVENT_ID;
use mcp::message::{Envelope, EnvelopeError, Kind};
use mcp::method::Method;
use mcp::revision::Era;

use crate::account::Account;
use crate::error::{Asked, Failure};
use crate::reply::Reply;
use crate::scene::Scene;
use crate::session::{self, Session};
use crate::transport::door::Door;
use crate::transport::streamable::{Exchange, Verb};
use crate::transport::{Body, Message, unreadable};
use crate::usage::Outcome;
use crate::worker::{Slot, Worker};
use crate::{batch, capabilities, listen, local, policy, route, upstream};

/// Answers one request. Every failure becomes its answer here.
pub async fn serve(worker: &Rc<Worker>, request: Request<Incoming>) -> Response<Body> {
    let origin = request.headers().get(ORIGIN).cloned();
    let mut asked = Asked::default();
    let mut response = match road(worker, request, &mut asked).await {
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
    failure.respond(asked)
}

async fn road(
    worker: &Rc<Worker>,
    request: Request<Incoming>,
    asked: &mut Asked,
) -> Result<Response<Body>, Failure> {
    let (started, now, shared) = (Instant::now(), worker.now(), &worker.shared);
    let _slot = Slot::take(&shared.in_flight, shared.limits.max_in_flight).ok_or(Failure::Overloaded)?;
    let mut exchange = Exchange::open(&shared.door, request)?;
    if exchange.verb == Verb::Options {
        return Ok(shared.door.preflight(&exchange.headers));
    }
    let snapshot = shared.current.load_full();
    if !shared.current.bearers_are_believed(now) {
        return Err(Failure::Stale);
    }
    let token = worker.verified.caller(&snapshot, exchange.bearer(), now)?;
    let view = token.scope.view(exchange.server()).ok_or(Failure::Server)?;
    let body = if exchange.verb == Verb::Post { exchange.read(&shared.limits).await? } else { Bytes::new() };
    let scene = Scene { worker, snapshot: &snapshot, token: &token, view, exchange: &exchange, started, now };
    let reply = match exchange.verb {
        Verb::Get => stream(&scene)?,
        Verb::Delete => local::end(&scene, &conversation(&scene)?),
        Verb::Post | Verb::Options => match Envelope::parse(&body) {
            Ok(envelope) => message(&scene, Message::new(&body, envelope)?, asked).await?,
            Err(EnvelopeError::Batch) => batch::messages(&scene, &body, &*conversation(&scene)?).await?,
            Err(error) => return Err(unreadable(error)),
        },
    };
    Ok(reply.into_response(worker))
}

/// One message, from the session it belongs to up to its answer.
pub async fn message(scene: &Scene<'_>, message: Message<'_>, asked: &mut Asked) -> Result<Reply, Failure> {
    asked.id = message.envelope.id.map(|id| message.slice(id));
    let session = session_of(scene, &message, asked)?;
    match message.kind() {
        Kind::Request => request(scene, &session, &message).await,
        Kind::Notification => local::notification(scene, &session, &message),
        Kind::Response if session.era() == Era::Modern => {
            Err(Failure::Invalid("clients send no responses in this revision".to_owned()))
        }
        Kind::Response => {
            upstream::answer(scene.worker, scene.snapshot, scene.owner(), &message).await?;
            Ok(Reply::Accepted)
        }
    }
}

fn session_of(scene: &Scene<'_>, message: &Message<'_>, asked: &mut Asked) -> Result<Session, Failure> {
    if session::is_modern(scene.exchange, message) {
        asked.era = Era::Modern;
        let unchecked = message.kind() != Kind::Request;
        let headers = &scene.exchange.headers;
        return Ok(Session::Modern(if unchecked {
            mcp::revision::Revision::LATEST
        } else {
            session::modern::check(headers, message)?
        }));
    }
    if session::is_opening(message) {
        return Ok(Session::Opening);
    }
    Ok(Session::Legacy(conversation(scene)?))
}

/// The rest of a call's stream that broke off, or what no request asked for.
fn stream(scene: &Scene<'_>) -> Result<Reply, Failure> {
    let conversation = conversation(scene)?;
    let (trust, server) = (&scene.snapshot.trust, &scene.view.server);
    let rest = scene
        .exchange
        .header(LAST_EVENT_ID)
        .and_then(|id| upstream::resume(scene.worker, trust, server, scene.token, id));
    match rest {
        Some(events) => Ok(Reply::Events(Box::new(events))),
        None => listen::legacy(scene, &conversation),
    }
}

fn conversation(scene: &Scene<'_>) -> Result<Rc<session::Conversation>, Failure> {
    let (worker, trust) = (scene.worker, &scene.snapshot.trust);
    worker.opened.conversation(scene.exchange, trust, scene.owner(), &worker.shared.terminated, scene.now)
}

async fn request(scene: &Scene<'_>, session: &Session, message: &Message<'_>) -> Result<Reply, Failure> {
    let method = message.method.filter(|method| method.is_in_era(session.era())).ok_or(Failure::Method)?;
    match method {
        Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead | Method::CompletionComplete => {
            call(scene, session, message, method).await
        }
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel
            if capabilities::offers_tasks(&scene.view.server, session.era()) =>
        {
            about_task(scene, session, message, method).await
        }
        Method::SubscriptionsListen => listen::modern(scene, message).await,
        _ => local::answer(scene, session, message, method),
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
    let destination = named.find(&scene.view.server).ok_or_else(|| named.unknown())?;
    let permit = policy::check(scene.view, destination).ok_or_else(|| named.unknown())?;
    if session.era() == Era::Modern {
        session::modern::check_arguments(&scene.exchange.headers, message, &permit.entry().tool)?;
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
    if !message.params.capabilities.is_some_and(upstream::knows_tasks) {
        return Err(Failure::Extension(upstream::EXTENSION));
    }
    let raw = session::modern::task_id(message).ok_or_else(|| Failure::params("params.taskId is needed"))?;
    let unknown = || Failure::params("unknown task");
    let text = mcp::json::string(raw).map_err(|_| unknown())?;
    let task = upstream::Task::open(&scene.snapshot.trust, scene.owner(), &text).ok_or_else(unknown)?;
    let named = route::Named { noun: route::Noun::Tool, exposed: task.tool.clone().into(), raw };
    let destination = named.find(&scene.view.server).ok_or_else(unknown)?;
    let permit = policy::check(scene.view, destination).ok_or_else(unknown)?;
    if *permit.entry().upstream.id != *task.upstream {
        return Err(unknown());
    }
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
    let call = upstream::Call {
        worker: scene.worker,
        trust: &scene.snapshot.trust,
        server: &scene.view.server,
        token: scene.token,
        session,
        headers: &scene.exchange.headers,
        message,
        method,
        named: way.named,
        task: way.task,
        permit: way.permit,
        account: Some(account),
    };
    Ok(upstream::call(call).await?.into())
}
