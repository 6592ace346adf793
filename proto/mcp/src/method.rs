//! The methods of the protocol as a table: who sends them, in which revisions, and what names their target.
//!
//! It must not know how any of them is handled.

use crate::revision::{Era, Revision};
use Form::{Notification, Request};
use Sender::{Both, Client, Server};
use Target::{Name, None as Nothing, Reference, TaskId, Uri};

/// Whether an answer is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Yes.
    Request,
    /// No.
    Notification,
}

/// The side that may send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The client.
    Client,
    /// The server.
    Server,
    /// Either.
    Both,
}

/// The member of its params that names a request's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nothing does.
    None,
    /// `params.name`.
    Name,
    /// `params.uri`.
    Uri,
    /// `params.taskId`.
    TaskId,
    /// `params.ref`: its `name` or `uri`.
    Reference,
}

impl Target {
    /// The member of params.
    #[must_use]
    pub const fn member(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Name => Some("name"),
            Self::Uri => Some("uri"),
            Self::TaskId => Some("taskId"),
            Self::Reference => Some("ref"),
        }
    }
}

/// One row of the table.
struct Row {
    form: Form,
    sender: Sender,
    since: Revision,
    until: Revision,
    target: Target,
}

const V24: Revision = Revision::V2024_11_05;
const V0618: Revision = Revision::V2025_06_18;
const V25: Revision = Revision::V2025_11_25;
const V26: Revision = Revision::V2026_07_28;

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident $name:literal $form:ident $sender:ident $since:ident..$until:ident $target:ident;)+) => {
        /// A method that the protocol defines.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Method {
            $($(#[$doc])* $variant,)+
        }

        impl Method {
            /// Every method.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The method of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row { form: $form, sender: $sender, since: $since, until: $until, target: $target },)+
                }
            }
        }
    };
}

methods! {
    /// Opens a session.
    Initialize "initialize" Request Client V24..V25 Nothing;
    /// Are you there?
    Ping "ping" Request Both V24..V25 Nothing;
    /// What do you speak and what can you do?
    ServerDiscover "server/discover" Request Client V26..V26 Nothing;
    /// Completes an argument.
    CompletionComplete "completion/complete" Request Client V24..V26 Reference;
    /// Log messages from this level on, for the session.
    LoggingSetLevel "logging/setLevel" Request Client V24..V25 Nothing;
    /// A page of the prompts.
    PromptsList "prompts/list" Request Client V24..V26 Nothing;
    /// A prompt, filled in.
    PromptsGet "prompts/get" Request Client V24..V26 Name;
    /// A page of the resources.
    ResourcesList "resources/list" Request Client V24..V26 Nothing;
    /// A page of the resource templates.
    ResourcesTemplatesList "resources/templates/list" Request Client V24..V26 Nothing;
    /// A resource's contents.
    ResourcesRead "resources/read" Request Client V24..V26 Uri;
    /// Tell me when this resource changes.
    ResourcesSubscribe "resources/subscribe" Request Client V24..V25 Uri;
    /// No longer.
    ResourcesUnsubscribe "resources/unsubscribe" Request Client V24..V25 Uri;
    /// A page of the tools.
    ToolsList "tools/list" Request Client V24..V26 Nothing;
    /// Do it.
    ToolsCall "tools/call" Request Client V24..V26 Name;
    /// Tell me when any of these change.
    SubscriptionsListen "subscriptions/listen" Request Client V26..V26 Nothing;
    /// A task's state. 2025-11-25, and an extension since.
    TasksGet "tasks/get" Request Both V25..V26 TaskId;
    /// A task's result, waited for.
    TasksResult "tasks/result" Request Both V25..V25 TaskId;
    /// A page of the tasks.
    TasksList "tasks/list" Request Both V25..V25 Nothing;
    /// Ends a task. 2025-11-25, and an extension since.
    TasksCancel "tasks/cancel" Request Both V25..V26 TaskId;
    /// Gives a task the input that it requires; an extension.
    TasksUpdate "tasks/update" Request Client V26..V26 TaskId;
    /// Which folders may I look at?
    RootsList "roots/list" Request Server V24..V25 Nothing;
    /// Ask the model.
    SamplingCreateMessage "sampling/createMessage" Request Server V24..V25 Nothing;
    /// Ask the user.
    ElicitationCreate "elicitation/create" Request Server V0618..V25 Nothing;
    /// The session is open.
    Initialized "notifications/initialized" Notification Client V24..V25 Nothing;
    /// Never mind that request.
    Cancelled "notifications/cancelled" Notification Both V24..V26 Nothing;
    /// How far a request is.
    Progress "notifications/progress" Notification Both V24..V26 Nothing;
    /// A log message.
    Message "notifications/message" Notification Server V24..V26 Nothing;
    /// A resource changed.
    ResourcesUpdated "notifications/resources/updated" Notification Server V24..V26 Uri;
    /// The list of resources or templates changed.
    ResourcesListChanged "notifications/resources/list_changed" Notification Server V24..V26 Nothing;
    /// The list of tools changed.
    ToolsListChanged "notifications/tools/list_changed" Notification Server V24..V26 Nothing;
    /// The list of prompts changed.
    PromptsListChanged "notifications/prompts/list_changed" Notification Server V24..V26 Nothing;
    /// The list of roots changed.
    RootsListChanged "notifications/roots/list_changed" Notification Client V24..V25 Nothing;
    /// A task's state changed.
    TasksStatus "notifications/tasks/status" Notification Both V25..V25 TaskId;
    /// How a task stands; an extension.
    TasksChanged "notifications/tasks" Notification Server V26..V26 TaskId;
    /// The user is done at that URL.
    ElicitationComplete "notifications/elicitation/complete" Notification Server V25..V25 Nothing;
    /// What of a listen is honoured.
    SubscriptionsAcknowledged "notifications/subscriptions/acknowledged" Notification Server V26..V26 Nothing;
}

impl Method {
    /// Whether an answer is expected.
    #[must_use]
    pub const fn form(self) -> Form {
        self.row().form
    }

    /// The side that may send it.
    #[must_use]
    pub const fn sender(self) -> Sender {
        self.row().sender
    }

    /// Whether this revision has it.
    #[must_use]
    pub fn is_in(self, revision: Revision) -> bool {
        let row = self.row();
        (row.since..=row.until).contains(&revision)
    }

    /// Whether a revision of this era has it.
    #[must_use]
    pub fn is_in_era(self, era: Era) -> bool {
        Revision::ALL.into_iter().any(|r| r.era() == era && self.is_in(r))
    }

    /// What names the one thing it is about.
    #[must_use]
    pub const fn target(self) -> Target {
        self.row().target
    }

    /// What `Mcp-Name` repeats; only some methods that have a target have the header.
    #[must_use]
    pub const fn mirrored_target(self) -> Target {
        match self {
            Self::ToolsCall
            | Self::PromptsGet
            | Self::ResourcesRead
            | Self::TasksGet
            | Self::TasksUpdate
            | Self::TasksCancel => self.target(),
            _ => Target::None,
        }
    }

    /// The member of a list method's result that holds the page.
    #[must_use]
    pub const fn list_member(self) -> Option<&'static str> {
        match self {
            Self::ToolsList => Some("tools"),
            Self::PromptsList => Some("prompts"),
            Self::ResourcesList => Some("resources"),
            Self::ResourcesTemplatesList => Some("resourceTemplates"),
            Self::TasksList => Some("tasks"),
            _ => None,
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
