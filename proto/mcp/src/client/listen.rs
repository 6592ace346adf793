//! Listens to notifications of changes: on the GET stream of a session, or with `subscriptions/listen`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::ClientError;
use super::http::{Events, ResponseBody};
use super::rpc::RpcClient;
use crate::error::METHOD_NOT_FOUND;
use crate::json;
use crate::message::{Envelope, Kind};
use crate::method::Method;
use crate::revision::Era;

/// A change that a server notified.
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
        /// Its URI.
        uri: String,
    },
}

/// A stream of changes. It ends when the server ends it, and after an error; changes until the next one is opened are
/// missed, so fetch the lists again then.
pub type Notices = BoxStream<'static, Result<ChangeNotice, ClientError>>;

/// The notifications that a modern server is asked for. It acknowledges those that it supports.
const EVERYTHING: &str =
    r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}"#;

/// A stream of notifications.
struct ListenStream {
    rpc: Arc<RpcClient>,
    source: NoticeSource,
    /// The id of the request that it answers, in the modern era.
    request: Option<String>,
    closed: bool,
}

/// The source of notifications.
enum NoticeSource {
    /// A stream for nothing else.
    Events(Box<Events>),
    /// The connection that is the session.
    Channel(mpsc::Receiver<Bytes>),
}

/// One message on the stream.
enum ListenMessage {
    Change(ChangeNotice),
    Acknowledged,
    Closed,
    Ignored,
}

pub(super) async fn open(rpc: Arc<RpcClient>) -> Result<Notices, ClientError> {
    let stream = match rpc.revision.era() {
        Era::Legacy => {
            let source = match &rpc.channel {
                Some(channel) => NoticeSource::Channel(channel.listen()?),
                None => NoticeSource::Events(rpc.get(None).await?),
            };
            ListenStream { rpc, source, request: None, closed: false }
        }
        Era::Modern => acknowledged(rpc).await?,
    };
    let notices = stream::unfold(stream, |mut stream| async {
        let notice = stream.next().await?;
        Some((notice, stream))
    });
    Ok(notices.boxed())
}

/// Opens a modern listen, and waits for its acknowledgement.
async fn acknowledged(rpc: Arc<RpcClient>) -> Result<ListenStream, ClientError> {
    let (id, source) = request_listen(&rpc).await?;
    let limit = rpc.http.endpoint.timeout;
    let mut stream = ListenStream { rpc, source, request: Some(id), closed: false };
    let acknowledged = async {
        loop {
            match stream.next_message().await? {
                ListenMessage::Ignored if stream.rpc.channel.is_some() => {}
                message => return Ok(message),
            }
        }
    };
    match timeout(limit, acknowledged).await {
        Err(_) => Err(ClientError::Timeout(limit)),
        Ok(Err(ClientError::Rpc { code: METHOD_NOT_FOUND, .. })) => Err(ClientError::Unsupported),
        Ok(Err(other)) => Err(other),
        Ok(Ok(ListenMessage::Acknowledged)) => Ok(stream),
        Ok(Ok(_)) => Err(ClientError::Protocol("a listen was not acknowledged first".to_owned())),
    }
}

async fn request_listen(rpc: &RpcClient) -> Result<(String, NoticeSource), ClientError> {
    let method = Method::SubscriptionsListen.as_str();
    if let Some(channel) = &rpc.channel {
        let (id, source) = (rpc.next_request_id(), NoticeSource::Channel(channel.listen()?));
        channel.send(rpc.body(&id, method, EVERYTHING)?).await?;
        return Ok((id, source));
    }
    match rpc.open(method, EVERYTHING).await {
        Ok((id, ResponseBody::Events(events))) => Ok((id, NoticeSource::Events(events))),
        Ok(_) => Err(ClientError::Protocol("subscriptions/listen did not return a stream".to_owned())),
        Err(ClientError::Rpc { code: METHOD_NOT_FOUND, .. }) => Err(ClientError::Unsupported),
        Err(other) => Err(other),
    }
}

impl NoticeSource {
    /// The next message, `None` at the end.
    async fn next(&mut self, rpc: &RpcClient) -> Result<Option<Bytes>, ClientError> {
        match self {
            Self::Channel(messages) => match (messages.recv().await, &rpc.channel) {
                (None, Some(channel)) => Err(channel.close_reason()),
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

impl ListenStream {
    async fn next(&mut self) -> Option<Result<ChangeNotice, ClientError>> {
        while !self.closed {
            match self.next_message().await {
                Ok(ListenMessage::Change(notice)) => return Some(Ok(notice)),
                Ok(ListenMessage::Closed) => self.closed = true,
                Ok(ListenMessage::Acknowledged | ListenMessage::Ignored) => {}
                Err(error) => {
                    self.closed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// The next message that is one.
    async fn next_message(&mut self) -> Result<ListenMessage, ClientError> {
        let Some(message) = self.source.next(&self.rpc).await? else { return Ok(ListenMessage::Closed) };
        let message = Envelope::parse(&message);
        let message = message.map_err(|e| ClientError::Protocol(format!("a message: {e}")))?;
        match message.kind() {
            Kind::Notification => Ok(notification(&message)),
            Kind::Request => {
                self.rpc.reply(&message).await;
                Ok(ListenMessage::Ignored)
            }
            // Other responses on the channel answer requests that were given up.
            Kind::Response if self.rpc.channel.is_some() && self.request.as_deref() != message.id => {
                Ok(ListenMessage::Ignored)
            }
            Kind::Response => match message.error {
                Some(error) => Err(self.rpc.http.rpc(error, 200)),
                None if self.request.as_deref() == message.id => Ok(ListenMessage::Closed),
                None => Ok(ListenMessage::Ignored),
            },
        }
    }
}

fn notification(message: &Envelope<'_>) -> ListenMessage {
    let Some(method) = message.method.as_deref().and_then(Method::parse) else {
        return ListenMessage::Ignored;
    };
    match method {
        Method::ToolsListChanged => ListenMessage::Change(ChangeNotice::Tools),
        Method::PromptsListChanged => ListenMessage::Change(ChangeNotice::Prompts),
        Method::ResourcesListChanged => ListenMessage::Change(ChangeNotice::Resources),
        Method::ResourcesUpdated => {
            resource(message.params).map_or(ListenMessage::Ignored, ListenMessage::Change)
        }
        Method::SubscriptionsAcknowledged => ListenMessage::Acknowledged,
        _ => ListenMessage::Ignored,
    }
}

fn resource(params: Option<&str>) -> Option<ChangeNotice> {
    let [uri] = json::members(params?, ["uri"]).ok()?;
    let uri = json::string(uri?).ok()?.into_owned();
    Some(ChangeNotice::Resource { uri })
}
