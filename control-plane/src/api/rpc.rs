//! An rpc as a value: its request, which is run against the registry. The generated service traits are implemented once,
//! here, and here an error becomes a status. It must not know what rpcs do.

use std::net::IpAddr;
use std::sync::Arc;

use inbound::ConnectionHandle;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::auth::caller::Caller;
use crate::error::Error;
use crate::rights::Rights;

/// The request of a unary rpc. One that every kind has is a line in `standard.rs`; any other is implemented in the file
/// of its concern.
pub(super) trait Rpc: Send + 'static {
    /// The message that answers it.
    type Response: Send + 'static;

    /// Runs the rpc.
    fn run(self, call: &Call<'_>) -> impl Future<Output = Result<Self::Response, Error>> + Send;
}

/// A call that is under way: whose it is, and the registry it is about.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "read by what follows")]
pub(super) struct Call<'a> {
    pub(super) registry: &'a Registry,
    /// Who calls.
    pub(super) caller: Arc<Rights>,
    /// The id of the edge that calls, where it is one.
    pub(super) edge: Option<String>,
    /// Where they call from, where that is known.
    pub(super) address: Option<IpAddr>,
    /// What they sent, where it says more of them: the headers of the request.
    pub(super) headers: http::HeaderMap,
}

impl<'a> Call<'a> {
    /// The call that a request is.
    pub(super) fn of<T>(registry: &'a Registry, request: &Request<T>) -> Self {
        let address = request.extensions().get::<ConnectionHandle>().map(ConnectionHandle::address);
        let headers = request.metadata().clone().into_headers();
        let edge = Caller::edge(request).map(|claims| claims.sub);
        Self { registry, caller: Caller::rights(request), edge, address, headers }
    }
}

/// Runs an rpc that came over gRPC.
pub(super) async fn serve<R: Rpc>(
    registry: &Registry,
    request: Request<R>,
) -> Result<Response<R::Response>, Status> {
    let call = Call::of(registry, &request);
    Ok(Response::new(request.into_inner().run(&call).await?))
}

/// Implements services of which all rpcs are unary, and adds them to the routes: `package Service { Rpc … }`.
macro_rules! unary_services {
    ($($package:ident $service:ident { $($rpc:ident)+ })+) => { pastey::paste! {
        $(#[tonic::async_trait]
        impl trunkline::$package::v1::[<$service:snake _server>]::$service for Registry {
            $(async fn [<$rpc:snake>](
                &self,
                request: Request<trunkline::$package::v1::[<$rpc Request>]>,
            ) -> Result<Response<trunkline::$package::v1::[<$rpc Response>]>, Status> {
                serve(self, request).await
            })+
        })+

        impl Registry {
            pub(super) fn add_unary_services(&self, routes: &mut tonic::service::RoutesBuilder) {
                $(routes.add_service(
                    trunkline::$package::v1::[<$service:snake _server>]::[<$service Server>]::new(self.clone())
                        .max_decoding_message_size(super::MAX_REQUEST_BYTES),
                );)+
            }
        }
    } };
}

unary_services! {
    registry UpstreamService {
        GetUpstream ListUpstreams CreateUpstream UpdateUpstream DeleteUpstream
        RefreshUpstream ProbeUpstream CreateTunnelCredential
    }
    registry ServerService { GetServer ListServers CreateServer UpdateServer DeleteServer ListServerEntries }
    registry ToolService { GetTool ListTools CreateTool UpdateTool DeleteTool }
    registry ResourceService { GetResource ListResources CreateResource UpdateResource DeleteResource }
    registry PromptService { GetPrompt ListPrompts CreatePrompt UpdatePrompt DeletePrompt }
    identity TokenService { GetToken ListTokens CreateToken UpdateToken DeleteToken RevokeToken }
    identity TeamService {
        GetTeam ListTeams CreateTeam UpdateTeam DeleteTeam AddMember InviteMember RemoveMember ListMembers
    }
    identity RoleService {
        GetRole ListRoles CreateRole UpdateRole DeleteRole BindRole UnbindRole ListPermissions
    }
    identity SessionService {
        SignIn RedeemLink SignOut GetCaller ChangePassword ListSessions RevokeSession CreateAccessBearer
        CreateSignInLink
    }
    identity UserService {
        GetUser ListUsers CreateUser UpdateUser DeleteUser DisableUser EnableUser ResetPassword
    }
    identity ServiceAccountService {
        GetServiceAccount ListServiceAccounts CreateServiceAccount UpdateServiceAccount DeleteServiceAccount
        CreateApiKey ListApiKeys RevokeApiKey
    }
    identity KeyService { ListKeys RotateKeys }
    identity SigningKeyService { ListSigningKeys RotateSigningKey }
    policy PolicyService { ExplainAccess WhoCan }
    policy ApprovalService { ListApprovals GetApproval DecideApproval UseApproval ReturnApproval ContinueApproval }
    admin SystemService { GetSystem }
}
