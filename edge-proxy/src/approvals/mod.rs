//! Calls that rules hold back until somebody approves them: what a control plane is asked about each, and what it says.
//!
//! A control plane uses an approval up when it says so, and each round of input of a call that has begun, so nothing is asked twice: who does
//! not hear its answer makes no call. What was used up for a call that was never sent is given back. It must not know messages of clients,
//! nor how a refusal is told.

mod question;

use std::sync::Arc;
use std::time::Duration;

use inbound::{Holder, LineLimit, Share, Shares};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use trunkline::policy::v1::approval_service_client::ApprovalServiceClient;
use trunkline::policy::v1::{
    ApprovalState, ContinueApprovalRequest, ReturnApprovalRequest, UseApprovalRequest, UseApprovalResponse,
};

pub use self::question::{ApprovalQuestion, CallToApprove};
use crate::error::{PendingApproval, Unmade};
use crate::observe::{ApprovalOutcome, Metrics};
use crate::session::BegunCall;
use crate::snapshot::client::Link;

/// The time that a control plane has to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Questions that are open at a time. One principal has those that are left for others, so half of them when alone.
const MAX_OPEN: usize = 256;

/// Whoever calls causes such lines. Each code has its own.
static UNANSWERED: LineLimit<i32> = LineLimit::new();

/// What a question came to, and whether the call may be made.
type Ruling = (ApprovalOutcome, Result<UsedApproval, Unmade>);
/// Why there is no answer.
type Obstacle = (ApprovalOutcome, Unmade);

/// An approval that was used up just now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UsedApproval {
    /// `approvals/{id}`.
    pub name: String,
    use_time: Option<prost_types::Timestamp>,
}

/// Where approvals are asked for.
#[derive(Debug)]
pub struct Approvals {
    link: watch::Receiver<Option<Link>>,
    open: Shares,
    metrics: Arc<Metrics>,
}

impl Approvals {
    /// Asks the control plane that `link` leads to, if there is one.
    pub fn new(link: watch::Receiver<Option<Link>>, metrics: Arc<Metrics>) -> Self {
        Self { link, open: Shares::default(), metrics }
    }

    /// Uses up the approval of a call that is about to be made, or asks for one.
    ///
    /// # Errors
    /// If it is not approved, or nobody said so in time: then it must not be made.
    pub async fn use_up(&self, holder: Holder, question: &ApprovalQuestion) -> Result<UsedApproval, Unmade> {
        let answer = self.bounded(holder, self.ask(&question.request)).await;
        let (outcome, ruled) = answer.map_or_else(|(outcome, unmade)| (outcome, Err(unmade)), ruling);
        self.metrics.approvals(outcome).inc();
        ruled
    }

    /// Uses up the round with which a call goes on that was approved before. Returns whether it is the first to go on with it.
    ///
    /// # Errors
    /// If nobody said so in time: then it must not go on.
    pub async fn go_on(&self, holder: Holder, call: &BegunCall) -> Result<bool, Unmade> {
        let request = ContinueApprovalRequest { name: call.approval.to_string(), round: call.round };
        self.bounded(holder, self.ask_to_go_on(request)).await.map_err(|(outcome, unmade)| {
            self.metrics.approvals(outcome).inc();
            unmade
        })
    }

    /// Gives back what was used up for a call that was not sent. Without a control plane that hears of it, it stays used.
    pub async fn give_back(&self, used: UsedApproval) {
        let UsedApproval { name, use_time } = used;
        let told = self.tell(ReturnApprovalRequest { name: name.clone(), use_time }).await;
        if let Err(status) = told {
            let (code, reason) = (status.code(), status.message());
            tracing::warn!(approval = name, %code, reason, "cannot give back an approval; it stays used");
        }
    }

    /// Asks something, unless too much is asked already.
    async fn bounded<T>(
        &self,
        holder: Holder,
        ask: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Obstacle> {
        const BUSY: Obstacle = (ApprovalOutcome::Busy, Unmade::Busy);
        let open = &self.metrics.approvals_open;
        let Some(_open) = open.enter_below(MAX_OPEN) else { return Err(BUSY) };
        let free = (MAX_OPEN + 1).saturating_sub(usize::try_from(open.get()).unwrap_or_default());
        let Ok(_share) = Share::take(&self.open, holder, free) else { return Err(BUSY) };
        ask.await.map_err(|status| unanswered(&status))
    }

    async fn ask(&self, request: &UseApprovalRequest) -> Result<UseApprovalResponse, Status> {
        let (mut client, request) = self.addressed(request.clone())?;
        in_time(client.use_approval(request)).await
    }

    async fn ask_to_go_on(&self, request: ContinueApprovalRequest) -> Result<bool, Status> {
        let (mut client, request) = self.addressed(request)?;
        in_time(client.continue_approval(request)).await.map(|answer| answer.first)
    }

    async fn tell(&self, request: ReturnApprovalRequest) -> Result<(), Status> {
        let (mut client, request) = self.addressed(request)?;
        in_time(client.return_approval(request)).await.map(drop)
    }

    fn addressed<T>(&self, request: T) -> Result<(ApprovalServiceClient<Channel>, Request<T>), Status> {
        let link = self.link.borrow().clone();
        let link = link.ok_or_else(|| Status::unavailable("there is no stream from a control plane"))?;
        let mut request = link.credential.authorise(request);
        request.set_timeout(DEADLINE);
        Ok((ApprovalServiceClient::new(link.channel), request))
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    let answer = timeout(DEADLINE, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    answer.map(Response::into_inner)
}

/// What an answer comes to.
fn ruling(answer: UseApprovalResponse) -> Ruling {
    let UseApprovalResponse { approval, url } = answer;
    let approval = approval.unwrap_or_default();
    let state = approval.state();
    if state == ApprovalState::Used {
        let used = UsedApproval { name: approval.name, use_time: approval.use_time };
        return (ApprovalOutcome::Used, Ok(used));
    }
    let pending = PendingApproval {
        name: approval.name.into(),
        expires: approval.expire_time.map_or_else(String::new, |time| time.to_string()).into(),
        url: url.into(),
    };
    match state {
        ApprovalState::Pending => (ApprovalOutcome::Pending, Err(Unmade::Pending(pending))),
        ApprovalState::Denied => {
            (ApprovalOutcome::Denied, Err(Unmade::Denied(pending, approval.comment.into())))
        }
        // Those are no answers: it was to be used up, or asked for anew.
        _ => (ApprovalOutcome::Unanswered, Err(Unmade::Unasked)),
    }
}

fn unanswered(status: &Status) -> Obstacle {
    let (code, reason) = (status.code(), status.message());
    if code == Code::ResourceExhausted {
        return (ApprovalOutcome::TooMany, Unmade::TooMany);
    }
    if let Some(times) = UNANSWERED.count(code.into()) {
        tracing::warn!(%code, reason, times, "cannot ask for an approval; the call is refused");
    }
    match code {
        // It was taken, and no other time would do better.
        Code::InvalidArgument => (ApprovalOutcome::Unreadable, Unmade::Unreadable),
        _ => (ApprovalOutcome::Unanswered, Unmade::Unasked),
    }
}

#[cfg(test)]
mod tests {
    use trunkline::policy::v1::Approval;

    use super::*;

    #[test]
    fn nothing_but_a_use_lets_a_call_be_made() {
        let answer = |state: i32| UseApprovalResponse {
            approval: Some(Approval { state, ..Approval::default() }),
            url: String::new(),
        };
        let may_be_made = |state: &i32| ruling(answer(*state)).1.is_ok();
        let used = i32::from(ApprovalState::Used);
        assert_eq!((-1..20).filter(may_be_made).collect::<Vec<_>>(), [used]);
        assert_eq!(ruling(UseApprovalResponse::default()).1, Err(Unmade::Unasked));
    }

    #[tokio::test]
    async fn one_principal_leaves_room_for_others() {
        let metrics = Arc::new(Metrics::new());
        let (_link, link) = watch::channel(None);
        let approvals = Approvals::new(link, Arc::clone(&metrics));
        let ask = async || approvals.use_up(Holder::of("a"), &ApprovalQuestion::default()).await;
        let others: Vec<_> = (0..MAX_OPEN - 1).map(|_| metrics.approvals_open.enter()).collect();
        assert_eq!(ask().await, Err(Unmade::Unasked), "there is room, and nobody to ask");
        let held = Share::take(&approvals.open, Holder::of("a"), MAX_OPEN).unwrap();
        assert_eq!(ask().await, Err(Unmade::Busy), "what is left is for others");
        drop(held);
        assert_eq!(ask().await, Err(Unmade::Unasked));
        let _last = metrics.approvals_open.enter();
        assert_eq!(ask().await, Err(Unmade::Busy));
        drop(others);
        assert_eq!(ask().await, Err(Unmade::Unasked));
        let counted = ApprovalOutcome::ALL.iter().map(|outcome| metrics.approvals(*outcome).get());
        assert_eq!(counted.collect::<Vec<_>>(), [0, 0, 0, 0, 2, 3, 0]);
    }
}
