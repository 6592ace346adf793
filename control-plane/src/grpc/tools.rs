//! The service that keeps tools of upstreams: all of it is the generic path.

use tonic::{Request, Response, Status};
use trunkline::registry::v1::tool_service_server::ToolService;
use trunkline::registry::v1::{
    CreateToolRequest, CreateToolResponse, DeleteToolRequest, DeleteToolResponse, GetToolRequest,
    GetToolResponse, ListToolsRequest, ListToolsResponse, Tool, UpdateToolRequest, UpdateToolResponse,
};

use super::Registry;
use super::list::List;
use super::resource::{Create, Delete, Update};

#[tonic::async_trait]
impl ToolService for Registry {
    async fn get_tool(&self, request: Request<GetToolRequest>) -> Result<Response<GetToolResponse>, Status> {
        let tool = self.get(&request.into_inner().name).await?;
        Ok(Response::new(GetToolResponse { tool: Some(tool) }))
    }

    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> Result<Response<ListToolsResponse>, Status> {
        let request = request.into_inner();
        let list = List {
            parent: Some(&request.parent),
            page_size: request.page_size,
            page_token: &request.page_token,
            filter: &request.filter,
            order_by: &request.order_by,
        };
        let (tools, next_page_token) = self.list(&list).await?;
        Ok(Response::new(ListToolsResponse { tools, next_page_token }))
    }

    async fn create_tool(
        &self,
        request: Request<CreateToolRequest>,
    ) -> Result<Response<CreateToolResponse>, Status> {
        let request = request.into_inner();
        let create = Create {
            parent: &request.parent,
            id: ("tool_id", &request.tool_id),
            message: ("tool", request.tool),
            validate_only: request.validate_only,
        };
        let tool = self.create(create).await?;
        Ok(Response::new(CreateToolResponse { tool: Some(tool) }))
    }

    async fn update_tool(
        &self,
        request: Request<UpdateToolRequest>,
    ) -> Result<Response<UpdateToolResponse>, Status> {
        let request = request.into_inner();
        let update = Update {
            message: ("tool", request.tool),
            mask: request.update_mask,
            allow_missing: request.allow_missing,
            validate_only: request.validate_only,
        };
        let tool = self.update(update).await?;
        Ok(Response::new(UpdateToolResponse { tool: Some(tool) }))
    }

    async fn delete_tool(
        &self,
        request: Request<DeleteToolRequest>,
    ) -> Result<Response<DeleteToolResponse>, Status> {
        let request = request.into_inner();
        let delete = Delete {
            name: &request.name,
            etag: &request.etag,
            force: request.force,
            validate_only: request.validate_only,
        };
        let revision = self.delete::<Tool>(delete).await?;
        Ok(Response::new(DeleteToolResponse { revision }))
    }
}
