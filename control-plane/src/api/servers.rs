//! The service that keeps virtual servers, and shows what they expose.

use tonic::{Request, Response, Status};
use trunkline::registry::v1::server_service_server::ServerService;
use trunkline::registry::v1::{
    CreateServerRequest, CreateServerResponse, DeleteServerRequest, DeleteServerResponse, GetServerRequest,
    GetServerResponse, ListServerEntriesRequest, ListServerEntriesResponse, ListServersRequest,
    ListServersResponse, Server, ServerEntry, UpdateServerRequest, UpdateServerResponse,
};

use super::Registry;
use super::list::List;
use super::resource::{Create, Delete, Update};
use crate::domain::members;

#[tonic::async_trait]
impl ServerService for Registry {
    async fn get_server(
        &self,
        request: Request<GetServerRequest>,
    ) -> Result<Response<GetServerResponse>, Status> {
        let server = self.get(&request.into_inner().name).await?;
        Ok(Response::new(GetServerResponse { server: Some(server) }))
    }

    async fn list_servers(
        &self,
        request: Request<ListServersRequest>,
    ) -> Result<Response<ListServersResponse>, Status> {
        let request = request.into_inner();
        let list = List {
            parent: None,
            page_size: request.page_size,
            page_token: &request.page_token,
            filter: &request.filter,
            order_by: &request.order_by,
        };
        let (servers, next_page_token) = self.list(&list).await?;
        Ok(Response::new(ListServersResponse { servers, next_page_token }))
    }

    async fn create_server(
        &self,
        request: Request<CreateServerRequest>,
    ) -> Result<Response<CreateServerResponse>, Status> {
        let request = request.into_inner();
        let create = Create {
            parent: "",
            id: ("server_id", &request.server_id),
            message: ("server", request.server),
            validate_only: request.validate_only,
        };
        let server = self.create(create).await?;
        Ok(Response::new(CreateServerResponse { server: Some(server) }))
    }

    async fn update_server(
        &self,
        request: Request<UpdateServerRequest>,
    ) -> Result<Response<UpdateServerResponse>, Status> {
        let request = request.into_inner();
        let update = Update {
            message: ("server", request.server),
            mask: request.update_mask,
            allow_missing: request.allow_missing,
            validate_only: request.validate_only,
        };
        let server = self.update(update).await?;
        Ok(Response::new(UpdateServerResponse { server: Some(server) }))
    }

    async fn delete_server(
        &self,
        request: Request<DeleteServerRequest>,
    ) -> Result<Response<DeleteServerResponse>, Status> {
        let request = request.into_inner();
        let delete = Delete {
            name: &request.name,
            etag: &request.etag,
            force: request.force,
            validate_only: request.validate_only,
        };
        let revision = self.delete::<Server>(delete).await?;
        Ok(Response::new(DeleteServerResponse { revision }))
    }

    async fn list_server_entries(
        &self,
        request: Request<ListServerEntriesRequest>,
    ) -> Result<Response<ListServerEntriesResponse>, Status> {
        let server: Server = self.get(&request.into_inner().name).await?;
        let known = self.catalogue().await?;
        let entries = members::evaluate(&server, &known.catalogue)
            .entries
            .into_iter()
            .map(|exposed| ServerEntry {
                kind: exposed.word().to_owned(),
                target: exposed.entry.name.clone(),
                exposed_name: exposed.exposed_name,
            })
            .collect();
        Ok(Response::new(ListServerEntriesResponse { entries }))
    }
}
