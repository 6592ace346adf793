//! Rpcs of upstreams beyond the standard ones: create and update, after which the upstream is asked for its catalogue,
//! refresh, probe, and credentials for tunnels.

use std::time::Duration;

use egress::Rule;
use serde_json::json;
use tonic::Code;
use trunkline::registry::v1::probe_upstream_request::Target;
use trunkline::registry::v1::{
    CreateTunnelCredentialRequest, CreateTunnelCredentialResponse, CreateUpstreamRequest,
    CreateUpstreamResponse, Credential, ProbeUpstreamRequest, ProbeUpstreamResponse, RefreshUpstreamRequest,
    RefreshUpstreamResponse, UpdateUpstreamRequest, UpdateUpstreamResponse, Upstream,
};

use super::crud::{Create, Update};
use super::references::refused;
use super::rpc::{Call, Rpc};
use super::write::check_address;
use crate::clock;
use crate::domain::upstream::dials_in;
use crate::domain::{Kind, KindRules as _, Violations, credential};
use crate::error::Error;
use crate::store::audit::Deed;
use crate::sync::RefreshError;

/// The time that a create waits for the first probe and import.
const FIRST_IMPORT: Duration = Duration::from_secs(15);

impl Rpc for CreateUpstreamRequest {
    type Response = CreateUpstreamResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let create = Create {
            parent: None,
            id: ("upstream_id", &self.upstream_id),
            message: ("upstream", self.upstream),
            validate_only: self.validate_only,
        };
        let mut upstream: Upstream = call.create(create).await?;
        if !self.validate_only && !upstream.disabled {
            upstream = call.import_first(upstream, !self.no_wait).await?;
        }
        Ok(CreateUpstreamResponse { upstream: Some(upstream) })
    }
}

impl Rpc for UpdateUpstreamRequest {
    type Response = UpdateUpstreamResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let update = Update {
            message: ("upstream", self.upstream),
            mask: self.update_mask,
            allow_missing: self.allow_missing,
            validate_only: self.validate_only,
        };
        let upstream: Upstream = call.update(update).await?;
        if !self.validate_only {
            call.registry.inner.sync.wake(&upstream.name);
        }
        Ok(UpdateUpstreamResponse { upstream: Some(upstream) })
    }
}

impl Rpc for RefreshUpstreamRequest {
    type Response = RefreshUpstreamResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let known: Upstream = call.get_to_write(&self.name).await?;
        if self.no_wait {
            call.registry.inner.sync.refresh_soon(&self.name).await?;
            return Ok(RefreshUpstreamResponse { upstream: Some(known) });
        }
        call.registry.inner.sync.refresh(&self.name).await?;
        let upstream = call.get(&self.name).await?;
        Ok(RefreshUpstreamResponse { upstream: Some(upstream) })
    }
}

impl Rpc for ProbeUpstreamRequest {
    type Response = ProbeUpstreamResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (upstream, credential) = match self.target {
            None => return Err(Error::field("target", "is required: set `name` or `upstream`")),
            Some(Target::Name(name)) => {
                let upstream: Upstream = call.get_to_write(&name).await?;
                let credential = call.registry.secret_of(&upstream).await?;
                (upstream, credential)
            }
            Some(Target::Upstream(upstream)) => {
                let (upstream, credential) = unregistered(upstream, call.registry.egress_rule())?;
                call.check_may_send(&upstream)?;
                (upstream, credential)
            }
        };
        let mut status = call.registry.inner.sync.probe(&upstream, credential.as_ref()).await;
        // It is one look, and nothing became of it.
        status.events.clear();
        Ok(ProbeUpstreamResponse { status: Some(status) })
    }
}

impl Rpc for CreateTunnelCredentialRequest {
    type Response = CreateTunnelCredentialResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let name = self.name;
        let upstream: Upstream = call.get_to_write(&name).await?;
        if !dials_in(&upstream) {
            let text = format!("{name} does not dial in: it is not reached through `tunnel`");
            return Err(
                Error::new(Code::FailedPrecondition, "UPSTREAM_NOT_TUNNELLED", text).with("name", name)
            );
        }
        // Whoever opens the tunnel gets what is sent through it.
        call.check_may_send(&upstream)?;
        let uid = upstream.meta.map(|meta| meta.uid).unwrap_or_default();
        let (credential, end) = call.registry.inner.tunnels.issue(&uid).map_err(Error::internal)?;
        let mut tx = call.registry.store().write().await?;
        tx.record(Deed {
            resource: name,
            after: Some(json!({ "tunnelCredentialEndUs": end })),
            ..Deed::default()
        });
        tx.commit().await?;
        let expire_time = Some(clock::timestamp(end));
        Ok(CreateTunnelCredentialResponse { credential, expire_time })
    }
}

impl Call<'_> {
    /// Checks that the caller may send what an upstream refers to wherever they like.
    fn check_may_send(&self, upstream: &Upstream) -> Result<(), Error> {
        let Some(credential) = &upstream.credential else { return Ok(()) };
        let name = if upstream.name.is_empty() { "the upstream" } else { &upstream.name };
        let owned = upstream.ownership();
        let checked = self.registry.check_references(&self.caller, credential, None, &owned, name);
        checked.map_err(|wrong| refused(wrong, "upstream.", name))
    }

    /// Requests the catalogue of a new upstream, and waits a while for it. That it does not answer is no
    /// error: its status says so.
    async fn import_first(&self, upstream: Upstream, wait: bool) -> Result<Upstream, Error> {
        if !wait {
            self.registry.inner.sync.wake(&upstream.name);
            return Ok(upstream);
        }
        let looked =
            tokio::time::timeout(FIRST_IMPORT, self.registry.inner.sync.refresh(&upstream.name)).await;
        if let Ok(Err(error)) = looked
            && !matches!(error, RefreshError::Away(_))
        {
            tracing::warn!(upstream = upstream.name, %error, "the first import failed");
        }
        // Somebody may have deleted it meanwhile; it was created all the same.
        match self.find(Kind::Upstream, &upstream.name).await {
            Ok(row) => self.present(&row).await,
            Err(error) if error.code() == Code::NotFound => Ok(upstream),
            Err(error) => Err(error),
        }
    }
}

/// Checks an upstream that is not registered, and parts it from its secrets.
fn unregistered(mut upstream: Upstream, rule: &Rule) -> Result<(Upstream, Option<Credential>), Error> {
    let mut violations = Violations::default();
    upstream.set_defaults();
    upstream.validate(&mut violations);
    check_address(&upstream, rule, &mut violations);
    violations.require(!dials_in(&upstream), "tunnel", "cannot be probed before it is registered");
    let credential = upstream.credential.as_mut().map(|written| {
        credential::keep(written, None, None, &mut violations);
        credential::split(written)
    });
    if violations.is_empty() {
        return Ok((upstream, credential));
    }
    let mut all = Violations::default();
    all.extend_under("upstream.", violations);
    Err(Error::invalid(all))
}
