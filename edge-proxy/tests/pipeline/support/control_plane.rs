//! A control plane that knows approvals alone, and does what the test says.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use trunkline::policy::v1::approval_service_server::{ApprovalService, ApprovalServiceServer};
use trunkline::policy::v1::{
    Approval, ApprovalState, ContinueApprovalRequest, ContinueApprovalResponse, DecideApprovalRequest,
    DecideApprovalResponse, GetApprovalRequest, GetApprovalResponse, ListApprovalsRequest,
    ListApprovalsResponse, ReturnApprovalRequest, ReturnApprovalResponse, UseApprovalRequest,
    UseApprovalResponse,
};
use trunkline_edge_proxy::enrollment::Enrollment;
use trunkline_edge_proxy::snapshot::client::Link;

use super::Edge;

/// When every approval ends.
pub(crate) const EXPIRES: &str = "2026-12-01T12:00:00Z";

/// When every approval is used up.
const USED: &str = "2026-12-01T11:00:00Z";

#[derive(Clone, Default)]
pub(crate) struct ControlPlane {
    known: Arc<Mutex<Known>>,
    link: Option<Link>,
}

#[derive(Default)]
struct Known {
    asked: Vec<UseApprovalRequest>,
    approvals: Vec<(UseApprovalRequest, Approval)>,
    /// The rounds that were gone on with.
    rounds: Vec<(String, i64)>,
    /// The page that it names.
    url: String,
    /// What it answers instead.
    fails: Option<Status>,
    is_silent: bool,
}

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let control_plane = Self::default();
        let serve = Server::builder().add_service(ApprovalServiceServer::new(control_plane.clone()));
        tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.credential");
        let stored = r#"{"edge_id":"edge","credential":"of-the-edge","obtained":0,"expires":99999999999}"#;
        std::fs::write(&path, stored).unwrap();
        let credential = Enrollment::new("edge".into(), None, path).credential(&channel).await.unwrap();
        Self { link: Some(Link { channel, credential }), ..control_plane }
    }

    /// Has an edge ask it.
    pub(crate) fn join(&self, edge: &Edge) {
        edge.control_plane.send_replace(self.link.clone());
    }

    /// The rounds that were gone on with so far, of which approval each.
    pub(crate) fn rounds(&self) -> Vec<(String, i64)> {
        self.known.lock().unwrap().rounds.clone()
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<UseApprovalRequest> {
        self.known.lock().unwrap().asked.clone()
    }

    /// Names this page from now on.
    pub(crate) fn publish(&self, url: &str) {
        url.clone_into(&mut self.known.lock().unwrap().url);
    }

    /// Answers with this from now on.
    pub(crate) fn fail(&self, status: Option<Status>) {
        self.known.lock().unwrap().fails = status;
    }

    /// Answers nothing from now on.
    pub(crate) fn fall_silent(&self) {
        self.known.lock().unwrap().is_silent = true;
    }

    /// Decides about the approval of this number, beginning with 1.
    pub(crate) fn decide(&self, number: usize, state: ApprovalState, comment: &str) {
        let mut known = self.known.lock().unwrap();
        let approval = &mut known.approvals[number - 1].1;
        approval.set_state(state);
        approval.comment = comment.into();
    }

    /// The state of the approval of this number, beginning with 1.
    pub(crate) fn state(&self, number: usize) -> ApprovalState {
        self.known.lock().unwrap().approvals[number - 1].1.state()
    }

    pub(crate) fn approve(&self, number: usize) {
        self.decide(number, ApprovalState::Approved, "");
    }

    fn answer(&self, request: UseApprovalRequest) -> Result<UseApprovalResponse, Status> {
        let mut known = self.known.lock().unwrap();
        known.asked.push(request.clone());
        if let Some(status) = &known.fails {
            return Err(status.clone());
        }
        let url = known.url.clone();
        let number = known.approvals.len() + 1;
        let is_open = |(of, approval): &&mut (UseApprovalRequest, Approval)| {
            *of == request && approval.state() != ApprovalState::Used
        };
        if let Some((_, approval)) = known.approvals.iter_mut().find(is_open) {
            if approval.state() == ApprovalState::Approved {
                approval.set_state(ApprovalState::Used);
                approval.use_time = Some(USED.parse().unwrap());
            }
            return Ok(UseApprovalResponse { approval: Some(approval.clone()), url });
        }
        let approval = Approval {
            name: format!("approvals/a-{number}"),
            state: ApprovalState::Pending.into(),
            expire_time: Some(EXPIRES.parse().unwrap()),
            ..Approval::default()
        };
        known.approvals.push((request, approval.clone()));
        Ok(UseApprovalResponse { approval: Some(approval), url })
    }
}

#[tonic::async_trait]
impl ApprovalService for ControlPlane {
    async fn use_approval(
        &self,
        request: Request<UseApprovalRequest>,
    ) -> Result<Response<UseApprovalResponse>, Status> {
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if bearer != Some("Bearer of-the-edge") {
            return Err(Status::unauthenticated("it is not the edge"));
        }
        let answer = self.answer(request.into_inner());
        if self.known.lock().unwrap().is_silent {
            std::future::pending::<()>().await;
        }
        answer.map(Response::new)
    }

    async fn return_approval(
        &self,
        request: Request<ReturnApprovalRequest>,
    ) -> Result<Response<ReturnApprovalResponse>, Status> {
        let request = request.into_inner();
        let mut known = self.known.lock().unwrap();
        let is_used = |(_, approval): &&mut (UseApprovalRequest, Approval)| {
            approval.name == request.name
                && approval.state() == ApprovalState::Used
                && approval.use_time == request.use_time
        };
        let (_, approval) =
            known.approvals.iter_mut().find(is_used).ok_or_else(|| Status::not_found("it is not used"))?;
        approval.set_state(ApprovalState::Approved);
        let approval = Some(approval.clone());
        Ok(Response::new(ReturnApprovalResponse { approval }))
    }

    async fn continue_approval(
        &self,
        request: Request<ContinueApprovalRequest>,
    ) -> Result<Response<ContinueApprovalResponse>, Status> {
        let ContinueApprovalRequest { name, round } = request.into_inner();
        let mut known = self.known.lock().unwrap();
        if let Some(status) = &known.fails {
            return Err(status.clone());
        }
        let is_over = |(of, last): &(String, i64)| *of == name && *last >= round;
        let first = !known.rounds.iter().any(is_over);
        known.rounds.push((name, round));
        Ok(Response::new(ContinueApprovalResponse { first }))
    }

    async fn list_approvals(
        &self,
        _: Request<ListApprovalsRequest>,
    ) -> Result<Response<ListApprovalsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_approval(
        &self,
        _: Request<GetApprovalRequest>,
    ) -> Result<Response<GetApprovalResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn decide_approval(
        &self,
        _: Request<DecideApprovalRequest>,
    ) -> Result<Response<DecideApprovalResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
