//! Being told that something changed: the GET stream of a session, or `subscriptions/listen`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
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
    from: Ear,
    /// The id of the request that it answers, in the modern era.
    request: Option<String>,
    over: bool,
}

/// Where it is heard.
enum Ear {
    /// A stream for nothing else.
    Events(Box<Events>),
    /// The connection that is the session.
    Line(mpsc::Receiver<Bytes>),
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
            let from = match &channel.line {
                Some(line) => Ear::Line(line.listen()?),
                None => Ear::Events(channel.get(None).await?),
            };
            Listening { channel, from, request: None, over: false }
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
    let (id, from) = ask(&channel).await?;
    let limit = channel.http.endpoint.timeout;
    let mut listening = Listening { channel, from, request: Some(id), over: false };
    let acknowledged = async {
        loop {
            match listening.hear().await? {
                Heard::Nothing if listening.channel.line.is_some() => {}
                heard => return Ok(heard),
            }
        }
    };
    match timeout(limit, acknowledged).await {
        Err(_) => Err(ClientError::Timeout(limit)),
        Ok(Err(ClientError::Rpc { code: METHOD_NOT_FOUND, .. })) => Err(ClientError::Unsupported),
        Ok(Err(other)) => Err(other),
        Ok(Ok(Heard::Acknowledged)) => Ok(listening),
        Ok(Ok(_)) => Err(ClientError::Protocol("a listen was not acknowledged first".to_owned())),
    }
}

async fn ask(channel: &Channel) -> Result<(String, Ear), ClientError> {
    let method = Method::SubscriptionsListen.as_str();
    if let Some(line) = &channel.line {
        let (id, from) = (channel.fresh_id(), Ear::Line(line.listen()?));
        line.send(channel.body(&id, method, EVERYTHING)?).await?;
        return Ok((id, from));
    }
    match channel.open(method, EVERYTHING).await {
        Ok((id, Answer::Events(events))) => Ok((id, Ear::Events(events))),
        Ok(_) => Err(ClientError::Protocol("a listen was not answered with a stream".to_owned())),
        Err(ClientError::Rpc { code: METHOD_NOT_FOUND, .. }) => Err(ClientError::Unsupported),
        Err(other) => Err(other),
    }
}

impl Ear {
    /// The next message, `None` at the end.
    async fn next(&mut self, channel: &Channel) -> Result<Option<Bytes>, ClientError> {
        match self {
            Self::Line(messages) => match (messages.recv().await, &channel.line) {
                (None, Some(line)) => Err(line.reason()),
                (message, _) => Ok(message),
            },
            Self::Events(events) => loop {
                match events.next(None).await? {
                    None => return Ok(None),
                    Some(event) if event.data.is_empty() => {}
                    Some(event) => return Ok(Some(event.data)),
                }
            },
        }
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
        let Some(message) = self.from.next(&self.channel).await? else { return Ok(Heard::Over) };
        let message = Envelope::parse(&message);
        let message = message.map_err(|e| ClientError::Protocol(format!("a message: {e}")))?;
        match message.kind() {
            Kind::Notification => Ok(notification(&message)),
            Kind::Request => {
                self.channel.reply(&message).await;
                Ok(Heard::Nothing)
            }
            // What else comes on the line answers requests that nobody waits for any more.
            Kind::Response if self.channel.line.is_some() && self.request.as_deref() != message.id => {
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
