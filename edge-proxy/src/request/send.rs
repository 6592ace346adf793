//! A message on its way to its upstream: what it costs, what holds it back, and its answer. It must not know how its target was found.

use std::sync::Arc;

use mcp::method::Method;

use super::approval::{self, Approval, HeldBack};
use super::stream;
use crate::approvals::UsedApproval;
use crate::context::{ActiveCall, RequestContext};
use crate::error::{ErrorContext, Failure};
use crate::limits::Charge;
use crate::policy::Permit;
use crate::respond::Reply;
use crate::session::Session;
use crate::transport::Message;
use crate::usage::{Account, Outcome};
use crate::{route, upstream};

/// The target of a message, and the permit to send it there.
pub(super) struct Route<'a> {
    pub(super) named: &'a route::NamedTarget<'a>,
    pub(super) task: Option<(upstream::Task, &'a str)>,
    pub(super) permit: Permit,
    /// What has to be approved before.
    pub(super) held: Option<HeldBack>,
}

/// Sends a message to its upstream, until that has answered or the client gives up.
pub(super) async fn send(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
    method: Method,
    route_to: Route<'_>,
    mut account: Account,
) -> Result<Reply, Failure> {
    let reserved = stream::reserve(context, message)?;
    account.leads_to(route_to.permit.entry());
    let is_audited = is_counted(method) && context.is_audited()?;
    // Last of all that may refuse it: what is refused costs nothing.
    let charge = if is_counted(method) { context.charge(&route_to.permit)? } else { None };
    account.outcome = Outcome::Cancelled;
    let error_context =
        ErrorContext { id: message.envelope.id.map(|id| message.slice(id)), era: session.era() };
    let active = ActiveCall::begin(context.worker, context.caller, &route_to.permit, error_context);
    let (mut approval, mut shown) = (None, None);
    if let Some(held) = &route_to.held {
        let approved = Box::pin(approval::approve(context, &active, session, message, held)).await;
        if !matches!(approved, Ok(Approval::Used(_) | Approval::Begun)) {
            account.outcome = Outcome::ClientError;
        }
        match approved? {
            Approval::Used(used) => (approval, shown) = (Some(used), Some(held.shown()?)),
            Approval::Begun => {}
            Approval::Asked(reply) => return Ok(reply),
        }
    }
    // What was approved is what was shown, and goes without the rest.
    let shown = shown.as_ref().map(|shown| route::named(method, shown).map(|named| (shown, named)));
    let shown = shown.transpose()?;
    let (message, named) =
        shown.as_ref().map_or((message, route_to.named), |(message, named)| (*message, named));
    if is_audited {
        let approval = approval.as_ref().map_or("", |used| &*used.name);
        context.record_call(method.as_str(), &route_to.permit, message.params.arguments, approval);
    }
    let call = upstream::Call {
        context: &context.worker.upstreams,
        trust: &context.snapshot.trust,
        server: context.server(),
        principal: context.principal(),
        session,
        headers: context.headers(),
        message,
        method,
        named,
        task: route_to.task,
        permit: route_to.permit,
        active: active.share_permit(),
        account: Some(account),
    };
    let answer = tokio::select! {
        biased;
        // Whatever is dropped here tells the upstream.
        failure = active.withdrawn() => return Err(failure),
        answer = upstream::call(call) => answer.inspect_err(|failure| {
            if failure.is_unsent() {
                give_back(context, charge, approval);
            }
        })?,
    };
    Ok(match answer {
        upstream::CallResponse::Json { status, body } => {
            Reply::Json { status, parts: [body].into(), session: None }
        }
        upstream::CallResponse::Events(events) => stream::reply(context, active, events, reserved)?,
    })
}

/// Gives back what a call has cost that was not sent.
fn give_back(context: &RequestContext<'_>, charge: Option<Charge>, approval: Option<UsedApproval>) {
    if let Some(charge) = charge {
        charge.give_back();
    }
    if let Some(approval) = approval {
        let shared = Arc::clone(&context.worker.shared);
        tokio::task::spawn_local(async move { shared.approvals.give_back(approval).await });
    }
}

/// Whether rates and quotas count messages of a method: each of those that have a target do, and nothing that follows on them.
fn is_counted(method: Method) -> bool {
    matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead)
}
