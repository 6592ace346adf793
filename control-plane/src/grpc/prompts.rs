//! The service that keeps prompts of upstreams: all of it is the generic path.

use tonic::{Request, Response, Status};
use trunkline::registry::v1::prompt_service_server::PromptService;
use trunkline::registry::v1::{
    CreatePromptRequest, CreatePromptResponse, DeletePromptRequest, DeletePromptResponse, GetPromptRequest,
    GetPromptResponse, ListPromptsRequest, ListPromptsResponse, Prompt, UpdatePromptRequest,
    UpdatePromptResponse,
};

use super::Registry;
use super::list::List;
use super::resource::{Create, Delete, Update};

#[tonic::async_trait]
impl PromptService for Registry {
    async fn get_prompt(
        &self,
        request: Request<GetPromptRequest>,
    ) -> Result<Response<GetPromptResponse>, Status> {
        let prompt = self.get(&request.into_inner().name).await?;
        Ok(Response::new(GetPromptResponse { prompt: Some(prompt) }))
    }

    async fn list_prompts(
        &self,
        request: Request<ListPromptsRequest>,
    ) -> Result<Response<ListPromptsResponse>, Status> {
        let request = request.into_inner();
        let list = List {
            parent: Some(&request.parent),
            page_size: request.page_size,
            page_token: &request.page_token,
            filter: &request.filter,
            order_by: &request.order_by,
        };
        let (prompts, next_page_token) = self.list(&list).await?;
        Ok(Response::new(ListPromptsResponse { prompts, next_page_token }))
    }

    async fn create_prompt(
        &self,
        request: Request<CreatePromptRequest>,
    ) -> Result<Response<CreatePromptResponse>, Status> {
        let request = request.into_inner();
        let create = Create {
            parent: &request.parent,
            id: ("prompt_id", &request.prompt_id),
            message: ("prompt", request.prompt),
            validate_only: request.validate_only,
        };
        let prompt = self.create(create).await?;
        Ok(Response::new(CreatePromptResponse { prompt: Some(prompt) }))
    }

    async fn update_prompt(
        &self,
        request: Request<UpdatePromptRequest>,
    ) -> Result<Response<UpdatePromptResponse>, Status> {
        let request = request.into_inner();
        let update = Update {
            message: ("prompt", request.prompt),
            mask: request.update_mask,
            allow_missing: request.allow_missing,
            validate_only: request.validate_only,
        };
        let prompt = self.update(update).await?;
        Ok(Response::new(UpdatePromptResponse { prompt: Some(prompt) }))
    }

    async fn delete_prompt(
        &self,
        request: Request<DeletePromptRequest>,
    ) -> Result<Response<DeletePromptResponse>, Status> {
        let request = request.into_inner();
        let delete = Delete {
            name: &request.name,
            etag: &request.etag,
            force: request.force,
            validate_only: request.validate_only,
        };
        let revision = self.delete::<Prompt>(delete).await?;
        Ok(Response::new(DeletePromptResponse { revision }))
    }
}
