//! The service that keeps upstreams, and has them asked who they are and what they offer.

use std::time::Duration;

use tonic::{Code, Request, Response, Status};
use trunkline::registry::v1::probe_upstream_request::Target;
use trunkline::registry::v1::upstream_service_server::UpstreamService;
use trunkline::registry::v1::{
    CreateTunnelCredentialRequest, CreateTunnelCredentialResponse, CreateUpstreamRequest,
    CreateUpstreamResponse, Credential, DeleteUpstreamRequest, DeleteUpstreamResponse, GetUpstreamRequest,
    GetUpstreamResponse, ListUpstreamsRequest, ListUpstreamsResponse, ProbeUpstreamRequest,
    ProbeUpstreamResponse, RefreshUpstreamRequest, RefreshUpstreamResponse, UpdateUpstreamRequest,
    UpdateUpstreamResponse, Upstream,
};

use super::Registry;
use super::list::List;
use super::resource::{Create, Delete, Update};
use crate::clock;
use crate::domain::upstream::dials_in;
use crate::domain::{Kind, Noun as _, Violations, credential};
use crate::error::Error;
use crate::sync::RefreshError;

/// How long a create waits for the first probe and import.
const FIRST_LOOK: Duration = Duration::from_secs(15);

#[tonic::async_trait]
impl UpstreamService for Registry {
    async fn get_upstream(
        &self,
        request: Request<GetUpstreamRequest>,
    ) -> Result<Response<GetUpstreamResponse>, Status> {
        let upstream = self.get(&request.into_inner().name).await?;
        Ok(Response::new(GetUpstreamResponse { upstream: Some(upstream) }))
    }

    async fn list_upstreams(
        &self,
        request: Request<ListUpstreamsRequest>,
    ) -> Result<Response<ListUpstreamsResponse>, Status> {
        let request = request.into_inner();
        let list = List {
            parent: None,
            page_size: request.page_size,
            page_token: &request.page_token,
            filter: &request.filter,
            order_by: &request.order_by,
        };
        let (upstreams, next_page_token) = self.list(&list).await?;
        Ok(Response::new(ListUpstreamsResponse { upstreams, next_page_token }))
    }

    async fn create_upstream(
        &self,
        request: Request<CreateUpstreamRequest>,
    ) -> Result<Response<CreateUpstreamResponse>, Status> {
        let request = request.into_inner();
        let create = Create {
            parent: "",
            id: ("upstream_id", &request.upstream_id),
            message: ("upstream", request.upstream),
            validate_only: request.validate_only,
        };
        let mut upstream: Upstream = self.create(create).await?;
        if !request.validate_only && !upstream.disabled {
            upstream = self.first_look(upstream, !request.no_wait).await?;
        }
        Ok(Response::new(CreateUpstreamResponse { upstream: Some(upstream) }))
    }

    async fn update_upstream(
        &self,
        request: Request<UpdateUpstreamRequest>,
    ) -> Result<Response<UpdateUpstreamResponse>, Status> {
        let request = request.into_inner();
        let update = Update {
            message: ("upstream", request.upstream),
            mask: request.update_mask,
            allow_missing: request.allow_missing,
            validate_only: request.validate_only,
        };
        let validate_only = update.validate_only;
        let upstream: Upstream = self.update(update).await?;
        if !validate_only {
            self.inner.sync.poke(&upstream.name);
        }
        Ok(Response::new(UpdateUpstreamResponse { upstream: Some(upstream) }))
    }

    async fn delete_upstream(
        &self,
        request: Request<DeleteUpstreamRequest>,
    ) -> Result<Response<DeleteUpstreamResponse>, Status> {
        let request = request.into_inner();
        let delete = Delete {
            name: &request.name,
            etag: &request.etag,
            force: request.force,
            validate_only: request.validate_only,
        };
        let revision = self.delete::<Upstream>(delete).await?;
        Ok(Response::new(DeleteUpstreamResponse { revision }))
    }

    async fn refresh_upstream(
        &self,
        request: Request<RefreshUpstreamRequest>,
    ) -> Result<Response<RefreshUpstreamResponse>, Status> {
        let name = request.into_inner().name;
        let _known: Upstream = self.get(&name).await?;
        self.inner.sync.refresh(&name).await.map_err(Error::from)?;
        let upstream = self.get(&name).await?;
        Ok(Response::new(RefreshUpstreamResponse { upstream: Some(upstream) }))
    }

    async fn probe_upstream(
        &self,
        request: Request<ProbeUpstreamRequest>,
    ) -> Result<Response<ProbeUpstreamResponse>, Status> {
        let (upstream, credential) = match request.into_inner().target {
            None => return Err(Error::field("target", "is required: `name` or `upstream`").into()),
            Some(Target::Name(name)) => {
                let upstream: Upstream = self.get(&name).await?;
                (upstream, self.secret_of(&name).await?)
            }
            Some(Target::Upstream(upstream)) => unregistered(upstream)?,
        };
        let status = self.inner.sync.probe(&upstream, credential.as_ref()).await;
        Ok(Response::new(ProbeUpstreamResponse { status: Some(status) }))
    }

    async fn create_tunnel_credential(
        &self,
        request: Request<CreateTunnelCredentialRequest>,
    ) -> Result<Response<CreateTunnelCredentialResponse>, Status> {
        let name = request.into_inner().name;
        let upstream: Upstream = self.get(&name).await?;
        if !dials_in(&upstream) {
            let text = format!("{name} does not dial in: its transport is not `tunnel`");
            return Err(Error::new(Code::FailedPrecondition, "UPSTREAM_NOT_TUNNELLED", text)
                .with("name", name)
                .into());
        }
        let uid = upstream.meta.map(|meta| meta.uid).unwrap_or_default();
        let (credential, end) = self.inner.tunnels.issue(&uid).map_err(Error::internal)?;
        let expire_time = Some(clock::timestamp(end));
        Ok(Response::new(CreateTunnelCredentialResponse { credential, expire_time }))
    }
}

impl Registry {
    /// Has a new upstream asked for its catalogue, and waits a while for it. That it does not answer is no
    /// error: its status says so.
    async fn first_look(&self, upstream: Upstream, wait: bool) -> Result<Upstream, Error> {
        if !wait {
            self.inner.sync.poke(&upstream.name);
            return Ok(upstream);
        }
        let looked = tokio::time::timeout(FIRST_LOOK, self.inner.sync.refresh(&upstream.name)).await;
        if let Ok(Err(error)) = looked
            && !matches!(error, RefreshError::Away(_))
        {
            tracing::warn!(upstream = upstream.name, %error, "the first import failed");
        }
        // Somebody may have deleted it meanwhile; it was created all the same.
        let row = self.store().get(Kind::Upstream, &upstream.name).await?;
        row.map_or(Ok(upstream), |row| Ok(row.message()?))
    }
}

/// Checks an upstream that is not registered, and parts it from its secrets.
fn unregistered(mut upstream: Upstream) -> Result<(Upstream, Option<Credential>), Error> {
    let mut violations = Violations::default();
    upstream.settle();
    upstream.validate(&mut violations);
    violations.require(
        !dials_in(&upstream),
        "tunnel",
        "cannot be asked before it is registered: nobody can dial in",
    );
    let credential = upstream.credential.as_mut().map(|written| {
        credential::keep(written, None, &mut violations);
        credential::part(written)
    });
    if violations.is_empty() {
        return Ok((upstream, credential));
    }
    let mut all = Violations::default();
    all.take_in("upstream.", violations);
    Err(Error::invalid(all))
}
