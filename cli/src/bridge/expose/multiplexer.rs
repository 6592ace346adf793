//! Many clients on one child: maps ids, progress tokens and subscriptions in both directions. Pure.
//!
//! Only the values that must change are spliced; every other byte stays as it is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mcp::border::ids;
use mcp::json;
use mcp::message::{Envelope, EnvelopeError, Kind, span};
use mcp::meta;
use mcp::splice::Splice;
use mcp::uri::ancestors;

use crate::bridge::errors::BridgeError;

/// A client of the child: a session in the legacy era, one request in the modern era.
pub type ClientId = u64;
/// A request to the child, by the id that the child sees.
pub type CallId = u64;

/// Maximum number of calls in flight.
pub const MAX_CALLS: usize = 1_024;
/// Maximum number of subscriptions of one client.
const MAX_SUBSCRIPTIONS: usize = 1_000;

/// The calls, clients and subscriptions of one child.
#[derive(Debug, Default)]
pub struct Multiplexer {
    last: u64,
    calls: BTreeMap<CallId, Call>,
    clients: BTreeMap<ClientId, Client>,
    /// Requests of the child that a client has not answered yet, by raw id.
    child_requests: BTreeMap<String, ClientId>,
}

#[derive(Debug)]
struct Call {
    client: ClientId,
    id: String,
    token: Option<String>,
}

#[derive(Debug, Default)]
struct Client {
    /// Methods of the child's requests that the client can answer.
    answers: Vec<&'static str>,
    subscriptions: BTreeSet<String>,
}

/// The destination of a message from the child.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The response to a call.
    Final(CallId, Bytes),
    /// A message that belongs to a call in flight.
    Interim(CallId, Bytes),
    /// A message for a client that belongs to none of its calls.
    Client(ClientId, Bytes),
    /// A message for every client.
    AllClients(Bytes),
    /// A response to the child itself.
    Child(Bytes),
    /// No destination; the text is empty if that is normal.
    Discard(String),
}

impl Multiplexer {
    /// Adds a client with its capabilities (raw JSON).
    pub fn add_client(&mut self, capabilities: &str) -> ClientId {
        let declared = json::members(capabilities, ["sampling", "elicitation", "roots"]).unwrap_or_default();
        let methods = ["sampling/createMessage", "elicitation/create", "roots/list"];
        let answers = methods.into_iter().zip(declared).filter_map(|(m, value)| value.map(|_| m)).collect();
        self.last += 1;
        self.clients.insert(self.last, Client { answers, subscriptions: BTreeSet::new() });
        self.last
    }

    /// Removes a client. Returns its calls, which end, and the messages for the child.
    pub fn remove_client(&mut self, client: ClientId) -> (Vec<CallId>, Vec<Bytes>) {
        let calls: Vec<_> =
            self.calls.iter().filter(|(_, call)| call.client == client).map(|(id, _)| *id).collect();
        let mut messages: Vec<_> = calls.iter().filter_map(|call| self.cancel(*call)).collect();
        let asked: Vec<_> =
            self.child_requests.extract_if(.., |_, asked| *asked == client).map(|(id, _)| id).collect();
        messages.extend(
            asked.iter().map(|id| BridgeError::ClientGone.render(Some(id), "the client has disconnected")),
        );
        let left = self.clients.remove(&client).unwrap_or_default().subscriptions;
        for uri in left {
            if !self.is_subscribed(&uri) {
                messages.push(own_request(self.next(), "resources/unsubscribe", &uri));
            }
        }
        (calls, messages)
    }

    /// Registers a client's request. Returns it as the child must see it; `None` if too many are in flight.
    pub fn request(
        &mut self,
        client: ClientId,
        source: &[u8],
        message: &Envelope<'_>,
    ) -> Option<(CallId, Bytes)> {
        if self.calls.len() >= MAX_CALLS {
            return None;
        }
        let (id, call) = (message.id?, self.next());
        let token = token_of(message.params);
        let number = call.to_string();
        let mut splice = Splice::new().replace(span(source, id), Bytes::from(number.clone()));
        if let Some(token) = token {
            splice = splice.replace(span(source, token), Bytes::from(number));
        }
        self.calls.insert(call, Call { client, id: id.to_owned(), token: token.map(str::to_owned) });
        self.record_subscription(client, message);
        Some((call, splice.apply(source)))
    }

    /// Translates a client's notification for the child, with the call that it ends. `None` if the child must not see it.
    pub fn notification(
        &mut self,
        client: ClientId,
        source: &[u8],
        message: &Envelope<'_>,
    ) -> Option<(Bytes, Option<CallId>)> {
        match message.method.as_deref()? {
            // The child was initialized once, on behalf of all clients.
            "notifications/initialized" => None,
            "notifications/cancelled" => {
                let [id] = json::members(message.params?, ["requestId"]).ok()?;
                let id = id?;
                let open = self.calls.iter().filter(|(_, call)| call.client == client);
                let call = ids::find(id, open.map(|(number, call)| (call.id.as_str(), *number)))?;
                let number = Bytes::from(call.to_string());
                // A cancelled request gets no response, so nothing else would end the call.
                self.calls.remove(&call);
                Some((Splice::new().replace(span(source, id), number).apply(source), Some(call)))
            }
            _ => Some((Bytes::copy_from_slice(source), None)),
        }
    }

    /// Translates a client's response for the child; `None` if it answers no request that the child sent to this client.
    pub fn response(&mut self, client: ClientId, source: &Bytes, message: &Envelope<'_>) -> Option<Bytes> {
        let id = message.id?;
        let mut asked = self.child_requests.iter().filter(|(_, asked)| **asked == client);
        let (own, _) = asked.find(|(own, _)| ids::same(id, own).is_some())?;
        let own = own.clone();
        self.child_requests.remove(&own);
        if own == id {
            return Some(source.clone());
        }
        Some(Splice::new().replace(span(source, id), Bytes::from(own)).apply(source))
    }

    /// Cancels a call. Returns the notification for the child.
    pub fn cancel(&mut self, call: CallId) -> Option<Bytes> {
        self.calls.remove(&call)?;
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{call},"reason":"the client has disconnected"}}}}"#
        );
        Some(Bytes::from(text))
    }

    /// Ends all calls, because the child has ended. Returns them with the ids that their clients gave them.
    pub fn fail_all(&mut self) -> Vec<(CallId, String)> {
        self.child_requests.clear();
        std::mem::take(&mut self.calls).into_iter().map(|(call, Call { id, .. })| (call, id)).collect()
    }

    /// Builds the subscriptions for a new child, to restore those of the previous one.
    pub fn resubscribe(&mut self) -> Vec<Bytes> {
        let uris: BTreeSet<_> =
            self.clients.values().flat_map(|client| client.subscriptions.clone()).collect();
        uris.iter().map(|uri| own_request(self.next(), "resources/subscribe", uri)).collect()
    }

    /// The destination of a message from the child.
    ///
    /// # Errors
    /// When it is no message.
    pub fn from_child(&mut self, source: &Bytes) -> Result<Delivery, EnvelopeError> {
        let message = Envelope::parse(source)?;
        Ok(match message.kind() {
            Kind::Response => self.deliver_response(source, &message),
            Kind::Request => self.child_request(source, &message),
            Kind::Notification => self.child_notification(source, &message),
        })
    }

    /// Ends the call that output which is no message was the answer to. Returns it with the id that its client gave it.
    pub fn end_claimed(&mut self, source: &[u8]) -> Option<(CallId, String)> {
        let claimed = ids::claimed(source)?;
        self.calls.remove(&claimed).map(|call| (claimed, call.id))
    }

    /// The call that the child names by `raw`, however it spells the number.
    fn named(&self, raw: &str) -> Option<CallId> {
        if let Ok(number) = raw.parse() {
            return Some(number);
        }
        ids::number(raw).filter(|call| self.calls.contains_key(call))
    }

    fn deliver_response(&mut self, source: &[u8], message: &Envelope<'_>) -> Delivery {
        let call = message.id.and_then(|id| Some((id, self.named(id)?)));
        let Some((raw, id)) = call else {
            return Delivery::Discard("dropped a response to an unknown request".into());
        };
        match self.calls.remove(&id) {
            Some(call) => Delivery::Final(
                id,
                Splice::new().replace(span(source, raw), Bytes::from(call.id)).apply(source),
            ),
            None => Delivery::Discard(String::new()),
        }
    }

    fn child_request(&mut self, source: &Bytes, message: &Envelope<'_>) -> Delivery {
        let (Some(id), method) = (message.id, message.method.as_deref().unwrap_or_default()) else {
            return Delivery::Discard("dropped a request without an id".into());
        };
        if method == "ping" {
            return Delivery::Child(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)));
        }
        let Some((client, call)) = self.sole_client() else {
            let why = "cannot determine which client this request is for";
            return Delivery::Child(mcp::error::render(Some(id), mcp::error::INVALID_REQUEST, why, None));
        };
        if !self.clients.get(&client).is_some_and(|known| known.answers.contains(&method)) {
            let why = "the client does not declare the capability for this request";
            return Delivery::Child(mcp::error::render(Some(id), mcp::error::METHOD_NOT_FOUND, why, None));
        }
        self.child_requests.insert(id.to_owned(), client);
        match call {
            Some(call) => Delivery::Interim(call, source.clone()),
            None => Delivery::Client(client, source.clone()),
        }
    }

    /// Finds the only client that a request of the child can be for: the only one with calls, or the only one at all.
    fn sole_client(&self) -> Option<(ClientId, Option<CallId>)> {
        if let Some((call, last)) = self.calls.last_key_value() {
            return self
                .calls
                .values()
                .all(|c| c.client == last.client)
                .then_some((last.client, Some(*call)));
        }
        match self.clients.len() {
            1 => self.clients.first_key_value().map(|(client, _)| (*client, None)),
            _ => None,
        }
    }

    fn child_notification(&mut self, source: &Bytes, message: &Envelope<'_>) -> Delivery {
        let method = message.method.as_deref().unwrap_or_default();
        let keys = ["progressToken", "requestId", "uri", meta::META];
        let [token, request, uri, meta] =
            message.params.and_then(|params| json::members(params, keys).ok()).unwrap_or_default();
        let subscription =
            meta.and_then(|meta| json::members(meta, [meta::SUBSCRIPTION_ID]).ok().and_then(|[id]| id));
        match (method, token, request) {
            ("notifications/progress", Some(token), _) => {
                self.on_call(source, token, |call| call.token.as_deref())
            }
            ("notifications/cancelled", _, Some(request)) => match self.take_child_request(request) {
                Some((own, client)) => {
                    let edits = Splice::new().replace(span(source, request), Bytes::from(own));
                    Delivery::Client(client, edits.apply(source))
                }
                None => self.on_call(source, request, |call| Some(&call.id)),
            },
            _ if subscription.is_some() => {
                self.on_call(source, subscription.unwrap_or_default(), |call| Some(&call.id))
            }
            ("notifications/message", ..) => match self.calls.last_key_value() {
                Some((call, _)) if self.calls.len() == 1 => Delivery::Interim(*call, source.clone()),
                _ => Delivery::AllClients(source.clone()),
            },
            ("notifications/resources/updated", ..) => self.to_subscribers(source, uri),
            _ => Delivery::AllClients(source.clone()),
        }
    }

    /// The request of the child that it names by `raw`, however it spells it now, by the id that its client was asked with.
    fn take_child_request(&mut self, raw: &str) -> Option<(String, ClientId)> {
        let open = self.child_requests.keys().map(|own| (own.as_str(), own));
        let own = ids::find(raw, open).cloned()?;
        self.child_requests.remove_entry(&own)
    }

    /// Replaces the id or token that the child knows by the client's own.
    fn on_call(&self, source: &[u8], raw: &str, own: impl Fn(&Call) -> Option<&str>) -> Delivery {
        let call = self.named(raw).and_then(|id| Some((id, self.calls.get(&id)?)));
        match call.and_then(|(id, call)| Some((id, own(call)?.to_owned()))) {
            Some((id, own)) => Delivery::Interim(
                id,
                Splice::new().replace(span(source, raw), Bytes::from(own)).apply(source),
            ),
            None => Delivery::Discard(String::new()),
        }
    }

    fn to_subscribers(&self, source: &Bytes, uri: Option<&str>) -> Delivery {
        let uri = uri.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
        let concerns = |client: &Client| ancestors(&uri).any(|above| client.subscriptions.contains(above));
        let mut clients = self.clients.iter().filter(|(_, client)| concerns(client));
        match (clients.next(), clients.next()) {
            (Some((client, _)), None) => Delivery::Client(*client, source.clone()),
            // Several clients: the notification holds only a URI, which the others may see too.
            (Some(_), Some(_)) => Delivery::AllClients(source.clone()),
            (None, _) => Delivery::Discard(String::new()),
        }
    }

    /// Withdraws a subscription. Returns whether the child must not see it, because other clients still subscribe to the URI.
    pub fn keeps_subscription(&mut self, client: ClientId, message: &Envelope<'_>) -> bool {
        let Some(uri) = uri_of(message, "resources/unsubscribe") else { return false };
        if let Some(client) = self.clients.get_mut(&client) {
            client.subscriptions.remove(uri.as_ref());
        }
        self.is_subscribed(&uri)
    }

    fn record_subscription(&mut self, client: ClientId, message: &Envelope<'_>) {
        let Some(uri) = uri_of(message, "resources/subscribe") else { return };
        if let Some(client) = self.clients.get_mut(&client)
            && client.subscriptions.len() < MAX_SUBSCRIPTIONS
        {
            client.subscriptions.insert(uri.into_owned());
        }
    }

    fn is_subscribed(&self, uri: &str) -> bool {
        self.clients.values().any(|client| client.subscriptions.contains(uri))
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

fn token_of(params: Option<&str>) -> Option<&str> {
    let [meta] = json::members(params?, [meta::META]).ok()?;
    let [token] = json::members(meta?, [meta::PROGRESS_TOKEN]).ok()?;
    token
}

fn uri_of<'a>(message: &Envelope<'a>, method: &str) -> Option<Cow<'a, str>> {
    if message.method.as_deref() != Some(method) {
        return None;
    }
    let [uri] = json::members(message.params?, ["uri"]).ok()?;
    json::string(uri?).ok()
}

/// Builds a request of our own. Its response is discarded.
fn own_request(id: u64, method: &str, uri: &str) -> Bytes {
    let uri = json::quote(uri);
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"uri":{uri}}}}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(multiplexer: &mut Multiplexer, client: ClientId, text: &str) -> (CallId, String) {
        let message = Envelope::parse(text.as_bytes()).unwrap();
        let (call, sent) = multiplexer.request(client, text.as_bytes(), &message).unwrap();
        (call, String::from_utf8(sent.to_vec()).unwrap())
    }

    fn receive(multiplexer: &mut Multiplexer, text: &str) -> Delivery {
        multiplexer.from_child(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn only_the_id_and_the_token_change() {
        let mut multiplexer = Multiplexer::default();
        let client = multiplexer.add_client("{}");
        let text = r#"{ "z":12345678901234567890123,"params":{"_meta":{"progressToken":"t","k":1.0}},"method":"x","id":"a","jsonrpc":"2.0"}"#;
        let (call, sent) = request(&mut multiplexer, client, text);
        assert_eq!(sent, text.replace("\"a\"", &call.to_string()).replace("\"t\"", &call.to_string()));
        let notice = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{call},"progress":1}}}}"#
        );
        let expected = notice.replace(&format!("n\":{call}"), "n\":\"t\"");
        assert_eq!(receive(&mut multiplexer, &notice), Delivery::Interim(call, expected.into()));
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{call},"result":{{"n":1.50}}}}"#);
        let expected = answer.replace(&format!("\"id\":{call}"), "\"id\":\"a\"");
        assert_eq!(receive(&mut multiplexer, &answer), Delivery::Final(call, expected.into()));
        assert_eq!(receive(&mut multiplexer, &answer), Delivery::Discard(String::new()));
    }

    #[test]
    fn numbers_are_matched_however_they_are_spelled() {
        let mut multiplexer = Multiplexer::default();
        let client = multiplexer.add_client(r#"{"sampling":{}}"#);
        for spelled in [|call: CallId| format!("\"{call}\""), |call: CallId| format!("{call}.0")] {
            let (call, _) = request(&mut multiplexer, client, r#"{"jsonrpc":"2.0","id":"a","method":"x"}"#);
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, spelled(call));
            let expected = r#"{"jsonrpc":"2.0","id":"a","result":{}}"#;
            assert_eq!(receive(&mut multiplexer, &answer), Delivery::Final(call, expected.into()));
            let other = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, spelled(call + 1));
            assert!(matches!(receive(&mut multiplexer, &other), Delivery::Discard(_)));
        }
        // What goes to the child has the child's own spelling.
        receive(&mut multiplexer, r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage"}"#);
        let answer = Bytes::from_static(br#"{"jsonrpc":"2.0","id":"7","result":{}}"#);
        let sent = multiplexer.response(client, &answer, &Envelope::parse(&answer).unwrap()).unwrap();
        assert_eq!(sent, br#"{"jsonrpc":"2.0","id":7,"result":{}}"#.as_slice());
    }

    #[test]
    fn an_answer_that_cannot_be_read_ends_the_call_that_it_names_and_no_other() {
        let mut multiplexer = Multiplexer::default();
        let client = multiplexer.add_client("{}");
        let (first, _) = request(&mut multiplexer, client, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#);
        let (second, _) = request(&mut multiplexer, client, r#"{"jsonrpc":"2.0","id":"b","method":"x"}"#);
        let answer =
            |call| format!("{{\"jsonrpc\":\"2.0\",\"id\":{call},\"result\":{{\"a\":\"?").into_bytes();
        let latin = |call| [answer(call), b"\xe9\"}}".to_vec()].concat();
        assert_eq!(multiplexer.end_claimed(b"caf\xe9"), None);
        assert_eq!(multiplexer.end_claimed(&latin(second + 1)), None);
        assert_eq!(multiplexer.end_claimed(&latin(second)), Some((second, "\"b\"".into())));
        assert_eq!(multiplexer.end_claimed(&latin(second)), None);
        assert_eq!(multiplexer.end_claimed(&latin(first)), Some((first, "1".into())));
    }

    #[test]
    fn a_question_goes_only_to_the_client_that_it_must_be_for() {
        let mut multiplexer = Multiplexer::default();
        let (a, b) = (multiplexer.add_client(r#"{"sampling":{}}"#), multiplexer.add_client("{}"));
        let question = r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#;
        // Two clients and no calls: the client that it is for is unknown.
        assert!(matches!(receive(&mut multiplexer, question), Delivery::Child(_)));
        let (call, _) = request(&mut multiplexer, a, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#);
        assert_eq!(receive(&mut multiplexer, question), Delivery::Interim(call, Bytes::from(question)));
        let answer = Bytes::from_static(br#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
        let mut respond = |client| multiplexer.response(client, &answer, &Envelope::parse(&answer).unwrap());
        assert_eq!([respond(b), respond(a), respond(a)], [None, Some(answer.clone()), None]);
        request(&mut multiplexer, b, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#);
        assert!(matches!(receive(&mut multiplexer, question), Delivery::Child(_)));
        let ping = receive(&mut multiplexer, r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#);
        assert_eq!(ping, Delivery::Child(Bytes::from(r#"{"jsonrpc":"2.0","id":"p","result":{}}"#)));
    }

    #[test]
    fn subscriptions_are_counted_and_survive_the_child() {
        let mut multiplexer = Multiplexer::default();
        let (a, b) = (multiplexer.add_client("{}"), multiplexer.add_client("{}"));
        for client in [a, b] {
            request(
                &mut multiplexer,
                client,
                r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"f:///x"}}"#,
            );
        }
        let text = r#"{"jsonrpc":"2.0","id":2,"method":"resources/unsubscribe","params":{"uri":"f:///x"}}"#;
        let unsubscribe = Envelope::parse(text.as_bytes()).unwrap();
        assert!(multiplexer.keeps_subscription(a, &unsubscribe));
        assert_eq!(multiplexer.fail_all().len(), 2);
        assert_eq!(multiplexer.resubscribe().len(), 1);
        let updated =
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"f:///x"}}"#;
        assert_eq!(receive(&mut multiplexer, updated), Delivery::Client(b, Bytes::from(updated)));
        let (_, messages) = multiplexer.remove_client(b);
        assert_eq!(messages.len(), 1, "the child must unsubscribe");
        assert_eq!(receive(&mut multiplexer, updated), Delivery::Discard(String::new()));
    }

    #[test]
    fn a_client_that_goes_cancels_its_calls_and_no_others() {
        let mut multiplexer = Multiplexer::default();
        let (a, b) = (multiplexer.add_client("{}"), multiplexer.add_client("{}"));
        let (first, _) = request(&mut multiplexer, a, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#);
        let (second, _) = request(&mut multiplexer, b, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#);
        let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        let cancel = Envelope::parse(text.as_bytes()).unwrap();
        let (sent, ended) = multiplexer.notification(b, text.as_bytes(), &cancel).unwrap();
        assert_eq!(sent, text.replace(":1}", &format!(":{second}}}")).as_bytes());
        // Nothing of the call is left.
        assert_eq!(ended, Some(second));
        assert_eq!(multiplexer.notification(b, text.as_bytes(), &cancel), None);
        assert_eq!(multiplexer.sole_client(), Some((a, Some(first))));
        let (calls, messages) = multiplexer.remove_client(a);
        assert_eq!((calls, messages.len()), (vec![first], 1));
        assert!(multiplexer.from_child(&Bytes::from_static(b"no json")).is_err());
    }
}
