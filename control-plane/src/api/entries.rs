//! The services that keep tools, resources and prompts of upstreams: all of it is the generic path, once for the three.

use tonic::{Request, Response, Status};
use trunkline::registry::v1::prompt_service_server::PromptService;
use trunkline::registry::v1::resource_service_server::ResourceService;
use trunkline::registry::v1::tool_service_server::ToolService;
use trunkline::registry::v1::{
    CreatePromptRequest, CreatePromptResponse, CreateResourceRequest, CreateResourceResponse,
    CreateToolRequest, CreateToolResponse, DeletePromptRequest, DeletePromptResponse, DeleteResourceRequest,
    DeleteResourceResponse, DeleteToolRequest, DeleteToolResponse, GetPromptRequest, GetPromptResponse,
    GetResourceRequest, GetResourceResponse, GetToolRequest, GetToolResponse, ListPromptsRequest,
    ListPromptsResponse, ListResourcesRequest, ListResourcesResponse, ListToolsRequest, ListToolsResponse,
    Prompt, Resource, Tool, UpdatePromptRequest, UpdatePromptResponse, UpdateResourceRequest,
    UpdateResourceResponse, UpdateToolRequest, UpdateToolResponse,
};

use super::Registry;
use super::list::List;
use super::resource::{Create, Delete, Update};

/// The generated traits have nothing in common but their shape.
macro_rules! service {
    ($service:ident keeps $noun:ident: $one:ident, $many:ident, $id:ident;
     $get:ident($get_request:ident) -> $get_response:ident,
     $list:ident($list_request:ident) -> $list_response:ident,
     $create:ident($create_request:ident) -> $create_response:ident,
     $update:ident($update_request:ident) -> $update_response:ident,
     $delete:ident($delete_request:ident) -> $delete_response:ident) => {
        #[tonic::async_trait]
        impl $service for Registry {
            async fn $get(&self, request: Request<$get_request>) -> Result<Response<$get_response>, Status> {
                let $one = self.get(&request.into_inner().name).await?;
                Ok(Response::new($get_response { $one: Some($one) }))
            }

            async fn $list(
                &self,
                request: Request<$list_request>,
            ) -> Result<Response<$list_response>, Status> {
                let request = request.into_inner();
                let list = List {
                    parent: Some(&request.parent),
                    page_size: request.page_size,
                    page_token: &request.page_token,
                    filter: &request.filter,
                    order_by: &request.order_by,
                };
                let ($many, next_page_token) = self.list(&list).await?;
                Ok(Response::new($list_response { $many, next_page_token }))
            }

            async fn $create(
                &self,
                request: Request<$create_request>,
            ) -> Result<Response<$create_response>, Status> {
                let request = request.into_inner();
                let create = Create {
                    parent: &request.parent,
                    id: (stringify!($id), &request.$id),
                    message: (stringify!($one), request.$one),
                    validate_only: request.validate_only,
                };
                let $one = self.create(create).await?;
                Ok(Response::new($create_response { $one: Some($one) }))
            }

            async fn $update(
                &self,
                request: Request<$update_request>,
            ) -> Result<Response<$update_response>, Status> {
                let request = request.into_inner();
                let update = Update {
                    message: (stringify!($one), request.$one),
                    mask: request.update_mask,
                    allow_missing: request.allow_missing,
                    validate_only: request.validate_only,
                };
                let $one = self.update(update).await?;
                Ok(Response::new($update_response { $one: Some($one) }))
            }

            async fn $delete(
                &self,
                request: Request<$delete_request>,
            ) -> Result<Response<$delete_response>, Status> {
                let request = request.into_inner();
                let delete = Delete {
                    name: &request.name,
                    etag: &request.etag,
                    force: request.force,
                    validate_only: request.validate_only,
                };
                let revision = self.delete::<$noun>(delete).await?;
                Ok(Response::new($delete_response { revision }))
            }
        }
    };
}

service! {
    ToolService keeps Tool: tool, tools, tool_id;
    get_tool(GetToolRequest) -> GetToolResponse,
    list_tools(ListToolsRequest) -> ListToolsResponse,
    create_tool(CreateToolRequest) -> CreateToolResponse,
    update_tool(UpdateToolRequest) -> UpdateToolResponse,
    delete_tool(DeleteToolRequest) -> DeleteToolResponse
}

service! {
    ResourceService keeps Resource: resource, resources, resource_id;
    get_resource(GetResourceRequest) -> GetResourceResponse,
    list_resources(ListResourcesRequest) -> ListResourcesResponse,
    create_resource(CreateResourceRequest) -> CreateResourceResponse,
    update_resource(UpdateResourceRequest) -> UpdateResourceResponse,
    delete_resource(DeleteResourceRequest) -> DeleteResourceResponse
}

service! {
    PromptService keeps Prompt: prompt, prompts, prompt_id;
    get_prompt(GetPromptRequest) -> GetPromptResponse,
    list_prompts(ListPromptsRequest) -> ListPromptsResponse,
    create_prompt(CreatePromptRequest) -> CreatePromptResponse,
    update_prompt(UpdatePromptRequest) -> UpdatePromptResponse,
    delete_prompt(DeletePromptRequest) -> DeletePromptResponse
}
