//! Listens to notifications of changes: on the GET stream of a session, or with `subscriptions/listen`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::time::timeout;

use super::answer::parsed;
use super::body::Events;
use super::channel::{Channel, Listening};
use super::error::ClientError;
use super::http::{HttpClient, ResponseBody};
use super::notice::{ChangeNotice, Notification, Unread};
use super::rpc::RpcClient;
use crate::border::{Skipped, Take, events, ids};
use crate::error::METHOD_NOT_FOUND;
use crate::message::Kind;
use crate::method::Method;
use crate::quirk::Quirk;
use crate::revision::Era;

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
    /// What could not be read since the last message that could.
    skipped: Skipped<ClientError>,
    closed: bool,
}

/// The source of notifications.
enum NoticeSource {
    /// A stream for nothing else.
    Events(Box<Events>),
    /// The connection that is the session.
    Channel(Listening),
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
                Some(channel) => NoticeSource::Channel(channel.listen(None)?),
                None => NoticeSource::Events(rpc.get(None).await?),
            };
            ListenStream { rpc, source, request: None, skipped: Skipped::default(), closed: false }
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
    let mut stream =
        ListenStream { rpc, source, request: Some(id), skipped: Skipped::default(), closed: false };
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
        let id = rpc.next_request_id();
        let source = NoticeSource::Channel(channel.listen(Some(&id))?);
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

/// The next message of a stream, `None` at the end.
async fn next_event(http: &HttpClient, events: &mut Events) -> Result<Option<Bytes>, ClientError> {
    loop {
        let Some(event) = events.next(None).await? else { return Ok(None) };
        match events::take(&event) {
            Take::Message(message) => return Ok(Some(message.clone())),
            Take::Nothing => {}
            Take::Odd(quirk) => http.note_event(quirk, &event),
        }
    }
}

/// Whether a response with this raw id is the one to the listen.
fn is_meant(id: Option<&str>, request: Option<&str>) -> bool {
    id == request || id.zip(request).is_some_and(|(id, request)| ids::same(id, request).is_some())
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
        let message = match &mut self.source {
            NoticeSource::Events(events) => next_event(&self.rpc.http, events).await?,
            NoticeSource::Channel(listening) => match listening.next().await {
                Some(Unread::Change(notice)) => return Ok(ListenMessage::Change(notice)),
                Some(Unread::Acknowledged) => return Ok(ListenMessage::Acknowledged),
                Some(Unread::Response(response)) => Some(response),
                None => return Err(self.close_reason()),
            },
        };
        match message {
            Some(message) => self.read(&message).await,
            None => Ok(ListenMessage::Closed),
        }
    }

    async fn read(&mut self, source: &Bytes) -> Result<ListenMessage, ClientError> {
        let http = &self.rpc.http;
        let message = match http.readable(source, None) {
            Ok(message) => message,
            Err(unreadable) => {
                http.quirks.note(Quirk::UnreadableMessages, || http.quoted(source, unreadable.at));
                let error = http.unreadable(source, &unreadable);
                return self.skipped.add(unreadable.length, || error).map(|()| ListenMessage::Ignored);
            }
        };
        self.skipped.clear();
        let message = parsed(&message)?;
        match message.kind() {
            Kind::Notification => Ok(match Notification::read(&message) {
                Notification::Change(notice) => ListenMessage::Change(notice),
                Notification::Acknowledged => ListenMessage::Acknowledged,
                Notification::Other => ListenMessage::Ignored,
            }),
            Kind::Request => {
                self.rpc.reply(&message, &mut |_: &str, _: Option<&str>| {}).await;
                Ok(ListenMessage::Ignored)
            }
            Kind::Response => match message.error {
                Some(error) => Err(self.rpc.http.rpc(error, 200)),
                None if is_meant(message.id, self.request.as_deref()) => Ok(ListenMessage::Closed),
                None => Ok(ListenMessage::Ignored),
            },
        }
    }

    fn close_reason(&self) -> ClientError {
        let reason = self.rpc.channel.as_ref().map(Channel::close_reason);
        reason.unwrap_or(ClientError::SESSION_LOST)
    }
}
