//! What rmcp asks of a server, routed to the modules that know.

use std::sync::Arc;

use rmcp::model::*;
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;

use crate::ask::Call;
use crate::catalog::{Catalog, complete};
use crate::changes::{Changes, Watched};
use crate::state::State;
use crate::{prompts, resources, tools};

/// What all sessions and all stateless requests share.
pub(crate) struct Shared {
    pub(crate) catalog: Catalog,
    pub(crate) changes: Changes,
    pub(crate) state: State,
    pub(crate) tasks: TaskManager,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            catalog: Catalog::load(),
            changes: Changes::new(),
            state: State::new(),
            tasks: TaskManager::new(),
        }
    }
}

/// One session, or one stateless request.
pub(crate) struct Fixture {
    shared: Arc<Shared>,
    watched: Watched,
}

impl Fixture {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, watched: Watched::default() }
    }
}

type Context = RequestContext<RoleServer>;
type Page = Option<PaginatedRequestParams>;

#[expect(deprecated, reason = "clients of older revisions set log levels and subscribe this way")]
impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let mut config = ServerConfig::new(self.shared.catalog.capabilities.clone())
            .with_instructions("Offers what the MCP conformance suite asks for.");
        config.server_info = Implementation::new("trunkline-conformance-server", env!("CARGO_PKG_VERSION"));
        config
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.shared.changes.tell_session(context.peer, self.watched.clone());
    }

    async fn list_tools(&self, _: Page, _: Context) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.shared.catalog.tools.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.catalog.tool(name).cloned()
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        tools::call(&self.shared, params, context).await
    }

    async fn list_prompts(&self, _: Page, _: Context) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(self.shared.catalog.prompts.clone()))
    }

    async fn get_prompt(
        &self,
        mut params: GetPromptRequestParams,
        context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let call = Call { context, responses: params.input_responses.take() };
        prompts::get(call, params).await
    }

    async fn list_resources(&self, _: Page, _: Context) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(self.shared.catalog.resources.clone()))
    }

    async fn list_resource_templates(
        &self,
        _: Page,
        _: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(self.shared.catalog.resource_templates.clone()))
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        _: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&params.uri).map(Into::into)
    }

    async fn complete(&self, params: CompleteRequestParams, _: Context) -> Result<CompleteResult, ErrorData> {
        let starts = |word: &&str| word.starts_with(&params.argument.value);
        let values: Vec<_> = ["paris", "park", "party", "testing"].into_iter().filter(starts).collect();
        Ok(complete(json!({"completion": {"values": values, "total": values.len(), "hasMore": false}})))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(&self, params: SubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        self.watched.insert(params.uri);
        Ok(())
    }

    async fn unsubscribe(&self, params: UnsubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        self.watched.remove(&params.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        self.shared.changes.tell_listener(subscription).await;
        Ok(())
    }

    async fn get_task(&self, params: GetTaskParams, _: Context) -> Result<GetTaskResult, ErrorData> {
        self.shared.tasks.get_task(&params.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, params: UpdateTaskParams, _: Context) -> Result<(), ErrorData> {
        self.shared.tasks.update_task(&params.task_id, params.input_responses)
    }

    async fn cancel_task(&self, params: CancelTaskParams, _: Context) -> Result<(), ErrorData> {
        self.shared.tasks.cancel_task(&params.task_id)
    }
}
