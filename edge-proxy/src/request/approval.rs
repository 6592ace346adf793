//! The stage at which a call that a rule holds back is approved, or is not made; and how its client is told of that in its era.
//!
//! It must not know who approves, nor upstreams.

use std::sync::Arc;

use bytes::Bytes;
use mcp::json;
use mcp::message::{Envelope, span};
use mcp::method::Method;
use mcp::splice::Splice;

use super::shown::as_shown;
use crate::approvals::{ApprovalQuestion, CallToApprove, UsedApproval};
use crate::context::{ActiveCall, RequestContext};
use crate::error::{ErrorContext, Failure, PendingApproval, Unapproved, Unmade};
use crate::policy::{Denied, Permit, RuleDenial};
use crate::respond::Reply;
use crate::route;
use crate::session::capabilities::{Capabilities, ClientFeature};
use crate::session::{BegunCall, HeldState, Session};
use crate::transport::{Message, unreadable};

/// The key of the input that a modern client is asked for while its call waits.
const KEY: &str = "trunkline-approval";

/// A call that a rule holds back.
pub(super) struct HeldBack {
    question: ApprovalQuestion,
    before: Before,
    /// The message as it is approved.
    shown: Bytes,
}

/// What came of the same call before.
enum Before {
    /// Nothing.
    Unknown,
    /// Its client does not want to wait for this.
    GivenUp(PendingApproval),
    /// It was approved and has begun, unless somebody else has gone on with it.
    Begun(BegunCall),
}

/// What a client sends back with a call that a rule held back before.
pub(super) struct Resent {
    held: HeldState,
    /// Whether it does not want to wait any longer.
    gives_up: bool,
}

/// Handles a call that a rule held back before, whose raw `requestState` is `raw`.
#[cold]
pub(super) async fn call_again(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
    raw: &str,
) -> Result<Reply, Failure> {
    let exposed = route::named(Method::ToolsCall, message)?.exposed;
    let text = json::string(raw).unwrap_or_default();
    let (trust, now) = (&context.snapshot.trust, context.now());
    let opened = HeldState::open(trust, context.owner(), &exposed, &text, now);
    let (held, state) = opened
        .ok_or_else(|| Failure::params("params.requestState was not issued for this call, or has expired"))?;
    let resent = Resent { gives_up: gives_up(message), held };
    let body = as_first(message, &resent.held, state)?;
    let envelope = Envelope::parse(&body).map_err(unreadable)?;
    // Errors have the id of the message as it came.
    let message = Message::new(&body, envelope, &mut ErrorContext::default())?;
    super::begin(context, session, &message, Method::ToolsCall, Some(&resent)).await
}

/// Whether the client has declined or cancelled what it was asked.
fn gives_up(message: &Message<'_>) -> bool {
    let member = |object: &str, key: &'static str| -> Option<String> {
        json::members(object, [key]).ok().and_then(|[raw]| raw).map(str::to_owned)
    };
    let responses = member(message.envelope.params.unwrap_or("{}"), "inputResponses");
    let action = responses.and_then(|raw| member(&raw, KEY)).and_then(|raw| member(&raw, "action"));
    action.is_some_and(|action| matches!(&*action, r#""decline""# | r#""cancel""#))
}

/// The message as it is without what this stage asked its client for.
fn as_first(message: &Message<'_>, held: &HeldState, state: &str) -> Result<Bytes, Failure> {
    let params = message.envelope.params.unwrap_or("{}");
    let state = json::quote(state);
    let edits = match held {
        HeldState::Waits(_) => vec![("requestState", None), ("inputResponses", None)],
        HeldState::Begun(_) if state == r#""""# => vec![("requestState", None)],
        HeldState::Begun(_) => vec![("requestState", Some(&*state))],
    };
    let edited = json::set_members(params, &edits);
    let edited = edited.map_err(|error| Failure::Invalid(format!("params: {error}")))?;
    Ok(Splice::new().replace(span(message.body, params), edited).apply(message.body))
}

/// Looks at a call that a rule holds back, or that its client makes again.
///
/// # Errors
/// If nobody can approve it; or if its client has given it up, though nothing holds it back any more.
#[cold]
pub(super) fn hold(
    context: &RequestContext<'_>,
    session: &Session,
    message: &Message<'_>,
    permit: &Permit,
    resent: Option<&Resent>,
) -> Result<Option<HeldBack>, Failure> {
    let Some(rule) = permit.approval().cloned() else {
        return match resent {
            Some(Resent { held: HeldState::Waits(approval), gives_up: true }) => {
                let why = Unmade::Pending(approval.clone());
                Err(Unapproved { told: "".into(), why, by_url: false }.into())
            }
            _ => Ok(None),
        };
    };
    let entry = Arc::clone(permit.entry());
    let question = ApprovalQuestion::of(CallToApprove {
        principal: context.principal(),
        server: context.server(),
        entry: &entry,
        definition: entry.definition(session.era()),
        arguments: message.params.arguments,
        rule: (&rule.id, &rule.told),
        address: context.caller.facts().address,
    });
    let question = question.map_err(|why| {
        let denied = Denied::Rule(RuleDenial::undecided(&rule, why));
        context.unapproved(&entry.exposed, denied.rule(), denied.recorded_as().unwrap_or_default());
        denied.of_server()
    })?;
    let digest = question.digest();
    let before = match resent.map(|resent| (&resent.held, resent.gives_up)) {
        Some((HeldState::Begun(call), _)) if call.digest == digest => Before::Begun(call.clone()),
        Some((HeldState::Waits(approval), true)) => Before::GivenUp(approval.clone()),
        _ => Before::Unknown,
    };
    Ok(Some(HeldBack { question, before, shown: as_shown(message)? }))
}

/// A call that a rule holds back, and that nothing is wrong with.
pub(super) enum Approval {
    /// It may be made as it was shown, by what was used up for it just now.
    Used(UsedApproval),
    /// It may go on, because it has begun before.
    Begun,
    /// It may not, and this is its answer.
    Asked(Reply),
}

/// Has a call approved, unless `active` is withdrawn before.
///
/// # Errors
/// If it is not made, and its client can be told that by nothing else.
pub(super) async fn approve(
    context: &RequestContext<'_>,
    active: &ActiveCall,
    session: &Session,
    message: &Message<'_>,
    held: &HeldBack,
) -> Result<Approval, Failure> {
    let HeldBack { question, before, .. } = held;
    let ruled = tokio::select! {
        biased;
        failure = active.withdrawn() => return Err(failure),
        ruled = rule(context, active, held) => ruled,
    };
    let unmade = match ruled {
        Ok(approval) => return Ok(approval),
        Err(unmade) => unmade,
    };
    let unapproved = Unapproved { told: question.reason().into(), why: unmade, by_url: false };
    context.unapproved(question.tool(), question.rule(), unapproved.reason());
    match session {
        _ if matches!(before, Before::GivenUp(_)) => {}
        Session::Modern(_) => return ask_client(context, message, question.tool(), unapproved),
        Session::Legacy(conversation) => {
            let declared = conversation.capabilities.within(conversation.revision);
            return Err(by_url(unapproved, declared).into());
        }
        Session::Opening => {}
    }
    Err(unapproved.into())
}

/// Has a control plane say whether a call goes on, or is made. One that has gone on with the same round before is another call.
async fn rule(
    context: &RequestContext<'_>,
    active: &ActiveCall,
    held: &HeldBack,
) -> Result<Approval, Unmade> {
    let HeldBack { question, before, .. } = held;
    let (holder, approvals) = (context.principal().holder, &context.worker.shared.approvals);
    match before {
        Before::GivenUp(approval) => return Err(Unmade::Pending(approval.clone())),
        Before::Begun(call) if approvals.go_on(holder, call).await? => {
            active.begin_approved(call.clone().gone_on());
            return Ok(Approval::Begun);
        }
        Before::Begun(_) | Before::Unknown => {}
    }
    let used = approvals.use_up(holder, question).await?;
    active.begin_approved(BegunCall::new(question.digest(), &used.name));
    Ok(Approval::Used(used))
}

impl HeldBack {
    /// The message that is sent once it is approved.
    pub(super) fn shown(&self) -> Result<Message<'_>, Failure> {
        let envelope = Envelope::parse(&self.shown).map_err(unreadable)?;
        Message::new(&self.shown, envelope, &mut ErrorContext::default())
    }
}

/// Tells a legacy client that takes URLs by the page that says what is waited for, where there is one.
fn by_url(unapproved: Unapproved, declared: Capabilities) -> Unapproved {
    let has_url = matches!(&unapproved.why, Unmade::Pending(approval) if !approval.url.is_empty());
    Unapproved { by_url: has_url && declared.cover(ClientFeature::Url), ..unapproved }
}

/// Asks a modern client for the word that its call is approved, so that it makes the call again then.
///
/// # Errors
/// If it takes no such requests, or nothing is waited for.
fn ask_client(
    context: &RequestContext<'_>,
    message: &Message<'_>,
    tool: &str,
    unapproved: Unapproved,
) -> Result<Approval, Failure> {
    let Unmade::Pending(approval) = &unapproved.why else { return Err(unapproved.into()) };
    let declared = message.params.capabilities.and_then(|raw| Capabilities::of_client(raw).ok());
    let Some(params) = elicitation(&unapproved, approval, declared.unwrap_or_default()) else {
        return Err(unapproved.into());
    };
    let state = HeldState::Waits(approval.clone());
    let sealed = state.seal(&context.snapshot.trust, context.owner(), tool, "", context.now());
    let state = json::quote(&sealed.map_err(|error| Failure::Internal(error.to_string()))?);
    let id = message.envelope.id.unwrap_or("null");
    let request = format!(r#""{KEY}":{{"method":"elicitation/create","params":{params}}}"#);
    let result =
        format!(r#"{{"resultType":"input_required","inputRequests":{{{request}}},"requestState":{state}}}"#);
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    Ok(Approval::Asked(Reply::json([Bytes::from(body)])))
}

/// The raw params of what a client is asked that takes this; `None` if it takes nothing of the kind.
fn elicitation(
    unapproved: &Unapproved,
    approval: &PendingApproval,
    declared: Capabilities,
) -> Option<String> {
    let text = json::quote(&unapproved.question());
    if !approval.url.is_empty() && declared.cover(ClientFeature::Url) {
        let url = json::quote(&approval.url);
        return Some(format!(r#"{{"mode":"url","message":{text},"url":{url}}}"#));
    }
    let schema = r#"{"type":"object","properties":{}}"#;
    let form = || format!(r#"{{"mode":"form","message":{text},"requestedSchema":{schema}}}"#);
    declared.cover(ClientFeature::Form).then(form)
}
