//! The service that keeps resources of upstreams: all of it is the generic path.

use tonic::{Request, Response, Status};
use trunkline::registry::v1::resource_service_server::ResourceService;
use trunkline::registry::v1::{
    CreateResourceRequest, CreateResourceResponse, DeleteResourceRequest, DeleteResourceResponse,
    GetResourceRequest, GetResourceResponse, ListResourcesRequest, ListResourcesResponse, Resource,
    UpdateResourceRequest, UpdateResourceResponse,
};

use super::Registry;
use super::list::List;
use super::resource::{Create, Delete, Update};

#[tonic::async_trait]
impl ResourceService for Registry {
    async fn get_resource(
        &self,
        request: Request<GetResourceRequest>,
    ) -> Result<Response<GetResourceResponse>, Status> {
        let resource = self.get(&request.into_inner().name).await?;
        Ok(Response::new(GetResourceResponse { resource: Some(resource) }))
    }

    async fn list_resources(
        &self,
        request: Request<ListResourcesRequest>,
    ) -> Result<Response<ListResourcesResponse>, Status> {
        let request = request.into_inner();
        let list = List {
            parent: Some(&request.parent),
            page_size: request.page_size,
            page_token: &request.page_token,
            filter: &request.filter,
            order_by: &request.order_by,
        };
        let (resources, next_page_token) = self.list(&list).await?;
        Ok(Response::new(ListResourcesResponse { resources, next_page_token }))
    }

    async fn create_resource(
        &self,
        request: Request<CreateResourceRequest>,
    ) -> Result<Response<CreateResourceResponse>, Status> {
        let request = request.into_inner();
        let create = Create {
            parent: &request.parent,
            id: ("resource_id", &request.resource_id),
            message: ("resource", request.resource),
            validate_only: request.validate_only,
        };
        let resource = self.create(create).await?;
        Ok(Response::new(CreateResourceResponse { resource: Some(resource) }))
    }

    async fn update_resource(
        &self,
        request: Request<UpdateResourceRequest>,
    ) -> Result<Response<UpdateResourceResponse>, Status> {
        let request = request.into_inner();
        let update = Update {
            message: ("resource", request.resource),
            mask: request.update_mask,
            allow_missing: request.allow_missing,
            validate_only: request.validate_only,
        };
        let resource = self.update(update).await?;
        Ok(Response::new(UpdateResourceResponse { resource: Some(resource) }))
    }

    async fn delete_resource(
        &self,
        request: Request<DeleteResourceRequest>,
    ) -> Result<Response<DeleteResourceResponse>, Status> {
        let request = request.into_inner();
        let delete = Delete {
            name: &request.name,
            etag: &request.etag,
            force: request.force,
            validate_only: request.validate_only,
        };
        let revision = self.delete::<Resource>(delete).await?;
        Ok(Response::new(DeleteResourceResponse { revision }))
    }
}
