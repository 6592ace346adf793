//! Notifications of changes, and the set of those that were not read yet. It must not know how they arrive.
//!
//! A set, because whoever listens may be busy with a list while a server notifies without an end.

use bytes::Bytes;

use crate::message::{Envelope, Kind};
use crate::method::Method;

/// A change that a server notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeNotice {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The list of resources or of templates.
    Resources,
}

/// What a notification means to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notification {
    /// A list has changed.
    Change(ChangeNotice),
    /// The server has begun to notify.
    Acknowledged,
    /// Nothing.
    Other,
}

impl Notification {
    /// Reads a notification.
    pub(super) fn read(message: &Envelope<'_>) -> Self {
        match message.method.as_deref().and_then(Method::parse) {
            Some(Method::ToolsListChanged) => Self::Change(ChangeNotice::Tools),
            Some(Method::PromptsListChanged) => Self::Change(ChangeNotice::Prompts),
            Some(Method::ResourcesListChanged) => Self::Change(ChangeNotice::Resources),
            Some(Method::SubscriptionsAcknowledged) => Self::Acknowledged,
            _ => Self::Other,
        }
    }
}

/// The next thing that a listener reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unread {
    /// The server has begun to notify.
    Acknowledged,
    /// A list has changed, once or more often.
    Change(ChangeNotice),
    /// The whole response that ends the listening.
    Response(Bytes),
}

/// What was heard and not read yet: each change once, and one response at most.
#[derive(Debug)]
pub(super) struct UnreadNotices {
    /// The raw id of the request that the server listens for, in the modern era.
    request: Option<String>,
    acknowledgement: Acknowledgement,
    changes: Vec<ChangeNotice>,
    response: Option<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acknowledgement {
    /// Nothing counts before it.
    Awaited,
    Unread,
    /// Or there is none, in the legacy era.
    Read,
}

impl UnreadNotices {
    /// Begins with nothing. A listener that sends a request of this raw id reads its acknowledgement first.
    pub(super) fn new(request: Option<&str>) -> Self {
        let acknowledgement =
            if request.is_some() { Acknowledgement::Awaited } else { Acknowledgement::Read };
        Self { request: request.map(str::to_owned), acknowledgement, changes: Vec::new(), response: None }
    }

    /// Notes a notification, or a response that no other request waits for.
    pub(super) fn hear(&mut self, envelope: &Envelope<'_>, message: &Bytes) {
        match envelope.kind() {
            Kind::Notification => match Notification::read(envelope) {
                Notification::Change(change) if !self.changes.contains(&change) => self.changes.push(change),
                Notification::Acknowledged if self.acknowledgement == Acknowledgement::Awaited => {
                    self.acknowledgement = Acknowledgement::Unread;
                }
                _ => {}
            },
            // An error without an id is about the only request there is. Others answer requests that were given up.
            Kind::Response if envelope.id.is_none() || envelope.id == self.request.as_deref() => {
                self.response.get_or_insert_with(|| message.clone());
            }
            Kind::Response | Kind::Request => {}
        }
    }

    /// Takes what is to be read next.
    pub(super) fn take(&mut self) -> Option<Unread> {
        match self.acknowledgement {
            Acknowledgement::Awaited => {}
            Acknowledgement::Unread => {
                self.acknowledgement = Acknowledgement::Read;
                return Some(Unread::Acknowledged);
            }
            Acknowledgement::Read if !self.changes.is_empty() => {
                return Some(Unread::Change(self.changes.remove(0)));
            }
            Acknowledgement::Read => {}
        }
        self.response.take().map(Unread::Response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(unread: &mut UnreadNotices, message: &str) {
        let message = Bytes::from(message.to_owned());
        unread.hear(&Envelope::parse(&message).unwrap(), &message);
    }

    fn notify(unread: &mut UnreadNotices, method: &str, padding: usize) {
        let padding = "x".repeat(padding);
        hear(
            unread,
            &format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"x":"{padding}"}}}}"#),
        );
    }

    #[test]
    fn what_is_repeated_is_kept_once_and_nothing_else_is() {
        let mut unread = UnreadNotices::new(None);
        for _ in 0..10_000 {
            notify(&mut unread, "prompts/list_changed", 10);
            notify(&mut unread, "tools/list_changed", 10);
            notify(&mut unread, "message", 1_000);
            hear(&mut unread, r#"{"jsonrpc":"2.0","id":77,"result":{}}"#);
        }
        assert_eq!(unread.take(), Some(Unread::Change(ChangeNotice::Prompts)));
        notify(&mut unread, "prompts/list_changed", 0);
        assert_eq!(unread.take(), Some(Unread::Change(ChangeNotice::Tools)));
        assert_eq!(unread.take(), Some(Unread::Change(ChangeNotice::Prompts)));
        assert_eq!(unread.take(), None);
    }

    #[test]
    fn an_acknowledgement_is_read_first_and_a_response_last() {
        let mut unread = UnreadNotices::new(Some("5"));
        notify(&mut unread, "tools/list_changed", 0);
        assert_eq!(unread.take(), None);
        notify(&mut unread, "subscriptions/acknowledged", 0);
        let response = r#"{"jsonrpc":"2.0","id":5,"result":{}}"#;
        hear(&mut unread, response);
        hear(&mut unread, r#"{"jsonrpc":"2.0","id":5,"result":{"again":true}}"#);
        assert_eq!(unread.take(), Some(Unread::Acknowledged));
        assert_eq!(unread.take(), Some(Unread::Change(ChangeNotice::Tools)));
        assert_eq!(unread.take(), Some(Unread::Response(response.into())));
        assert_eq!(unread.take(), None);
    }
}
