//! Being told that something changed: the GET stream of a session, or `subscriptions/listen`.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::time::timeout;

use super::channel::Channel;
use super::error::ClientError;
use super::http::{Answer, Events};
use crate::error::METHOD_NOT_FOUND;
use crate::json;
use crate::message::{Envelope, Kind};
use crate::method::Method;
use crate::revision::Era;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeNotice {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The list of resources or of templates.
    Resources,
    /// One resource.
    Resource {
        /// Which.
        uri: String,
    },
}

/// Changes as they are told. It ends when the server ends it, and after an error; what changed until the next one is
/// opened is not told, so ask for the lists again then.
pub type Notices = BoxStream<'static, Result<ChangeNotice, ClientError>>;

/// What is asked of a modern server. It honours what it can.
const EVERYTHING: &str =
    r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}"#;

/// A stream that is listened to.
struct Listening {
    channel: Arc<Channel>,
    events: Box<Events>,
    /// The id of the request that it answers, in the modern era.
    request: Option<String>,
    over: bool,
}

/// What one message on the stream means.
enum Heard {
    Change(ChangeNotice),
    Acknowledged,
    Over,
    Nothing,
}

pub(super) async fn open(channel: Arc<Channel>) -> Result<Notices, ClientError> {
    let listening = match channel.revision.era() {
        Era::Legacy => {
            let events = channel.get(None).await?;
            Listening { channel, events, request: None, over: false }
        }
        Era::Modern => acknowledged(channel).await?,
    };
    let notices = stream::unfold(listening, |mut listening| async {
        let notice = listening.next().await?;
        Some((notice, listening))
    });
    Ok(notices.boxed())
}

/// Opens a modern listen and waits until the server says that it is in force.
async fn acknowledged(channel: Arc<Channel>) -> Result<Listening, ClientError> {
    let opened = channel.open(Method::SubscriptionsListen.as_str(), EVERYTHING).await;
    let (id, events) = match opened {
        Ok((id, Answer::Events(events))) => (id, events),
        Ok(_) => return Err(ClientError::Protocol("a listen was not answered with a stream".to_owned())),
        Err(ClientError::Rpc { code: METHOD_NOT_FOUND, .. }) => return Err(ClientError::Unsupported),
        Err(other) => return Err(other),
    };
    let limit = channel.http.endpoint.timeout;
    let mut listening = Listening { channel, events, request: Some(id), over: false };
    match timeout(limit, listening.hear()).await {
        Err(_) => Err(ClientError::Timeout(limit)),
        Ok(Err(ClientError::Rpc { code: METHOD_NOT_FOUND, .. })) => Err(ClientError::Unsupported),
        Ok(Err(other)) => Err(other),
        Ok(Ok(Heard::Acknowledged)) => Ok(listening),
        Ok(Ok(_)) => Err(ClientError::Protocol("a listen was not acknowledged first".to_owned())),
    }
}

impl Listening {
    async fn next(&mut self) -> Option<Result<ChangeNotice, ClientError>> {
        while !self.over {
            match self.hear().await {
                Ok(Heard::Change(notice)) => return Some(Ok(notice)),
                Ok(Heard::Over) => self.over = true,
                Ok(Heard::Acknowledged | Heard::Nothing) => {}
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// The next message that is one.
    async fn hear(&mut self) -> Result<Heard, ClientError> {
        let event = loop {
            match self.events.next(None).await? {
                None => return Ok(Heard::Over),
                Some(event) if event.data.is_empty() => {}
                Some(event) => break event,
            }
        };
        let message = Envelope::parse(&event.data);
        let message = message.map_err(|e| ClientError::Protocol(format!("a message: {e}")))?;
        match message.kind() {
            Kind::Notification => Ok(notification(&message)),
            Kind::Request => {
                self.channel.reply(&message).await;
                Ok(Heard::Nothing)
            }
            Kind::Response => match message.error {
                Some(error) => Err(self.channel.http.rpc(error, 200)),
                None if self.request.as_deref() == message.id => Ok(Heard::Over),
                None => Ok(Heard::Nothing),
            },
        }
    }
}

fn notification(message: &Envelope<'_>) -> Heard {
    let Some(method) = message.method.as_deref().and_then(Method::parse) else {
        return Heard::Nothing;
    };
    match method {
        Method::ToolsListChanged => Heard::Change(ChangeNotice::Tools),
        Method::PromptsListChanged => Heard::Change(ChangeNotice::Prompts),
        Method::ResourcesListChanged => Heard::Change(ChangeNotice::Resources),
        Method::ResourcesUpdated => resource(message.params).map_or(Heard::Nothing, Heard::Change),
        Method::SubscriptionsAcknowledged => Heard::Acknowledged,
        _ => Heard::Nothing,
    }
}

fn resource(params: Option<&str>) -> Option<ChangeNotice> {
    let [uri] = json::members(params?, ["uri"]).ok()?;
    let uri = json::string(uri?).ok()?.into_owned();
    Some(ChangeNotice::Resource { uri })
}
