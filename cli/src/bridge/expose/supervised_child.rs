//! A child process under supervision: started, initialized, restarted with backoff; its messages are delivered to the clients
//! that wait for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp::message::Envelope;
use mcp::revision::Era;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::bridge::child::{Child, Program};
use crate::bridge::errors::BridgeError;
use crate::bridge::expose::Settings;
use crate::bridge::expose::child_output::{Complaints, OutputReader, Recovered, UnreadableOutput};
use crate::bridge::expose::handshake::{HandshakeError, ServerInfo, first_method, handshake, list_changed};
use crate::bridge::expose::multiplexer::{CallId, ClientId, Delivery, Multiplexer};
use crate::output::eprint;

/// Capacity of a client's queue, in messages.
const QUEUE: usize = 256;
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Uptime after which a child counts as stable, and the restart delay starts over.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// How often a child that has never completed the handshake is started.
const MAX_STARTS: u32 = 5;

/// The reason why the child cannot take calls.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotReady {
    /// The child does not speak the era.
    #[error("the command does not speak this era of the protocol: {0}")]
    Refused(String),
    /// The child ended and is not restarted.
    #[error("the command has ended")]
    Ended,
    /// The child ended each time before it completed the handshake.
    #[error("the command ended before it answered {}; is it an MCP server that speaks stdio?", first_method(*.0))]
    NeverAnswered(Era),
    /// What the child writes cannot be read.
    #[error("what the command writes to its stdout cannot be read: {0}")]
    Unreadable(String),
    /// The handshake has not completed yet. What it wrote so far may be no message.
    #[error("the command did not respond in time{}", .0.as_deref().map_or(String::new(), but_wrote))]
    Starting(Option<String>),
}

fn but_wrote(said: &str) -> String {
    format!("; what it wrote to its stdout is no MCP message: {said}")
}

#[derive(Debug, Clone)]
enum Phase {
    Starting,
    Ready(Arc<ServerInfo>),
    Refused(String),
    Unreadable(String),
    NeverAnswered,
    Ended,
}

/// A message that belongs to a call.
#[derive(Debug)]
pub enum CallMessage {
    /// A notification or a request; more messages follow.
    Interim(Bytes),
    /// The response, which is the last message.
    Final(Bytes),
}

/// A child and its clients.
#[derive(Debug)]
pub struct SupervisedChild {
    era: Era,
    start_timeout: Duration,
    phase: watch::Sender<Phase>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    multiplexer: Multiplexer,
    calls: HashMap<CallId, mpsc::Sender<CallMessage>>,
    streams: HashMap<ClientId, mpsc::Sender<Bytes>>,
    input: Option<mpsc::Sender<Bytes>>,
    /// The first output before the handshake that is no message.
    heard: Option<String>,
}

impl SupervisedChild {
    /// Starts the child and keeps it running until `stop`.
    pub fn start(program: Program, era: Era, settings: &Settings, stop: CancellationToken) -> Arc<Self> {
        let phase = watch::Sender::new(Phase::Starting);
        let child =
            Arc::new(Self { era, start_timeout: settings.start_timeout, phase, state: Mutex::default() });
        tokio::spawn(child.clone().supervise(program, settings.restart, stop));
        child
    }

    /// Waits for the handshake.
    pub async fn ready(&self) -> Result<Arc<ServerInfo>, NotReady> {
        let mut phase = self.phase.subscribe();
        let settled = phase.wait_for(|phase| !matches!(phase, Phase::Starting));
        let Ok(Ok(phase)) = tokio::time::timeout(self.start_timeout, settled).await else {
            return Err(NotReady::Starting(self.lock().heard.clone()));
        };
        match &*phase {
            Phase::Ready(info) => Ok(info.clone()),
            Phase::Refused(why) => Err(NotReady::Refused(why.clone())),
            Phase::Unreadable(why) => Err(NotReady::Unreadable(why.clone())),
            Phase::NeverAnswered => Err(NotReady::NeverAnswered(self.era)),
            Phase::Ended | Phase::Starting => Err(NotReady::Ended),
        }
    }

    /// Waits until the child has ended for good.
    pub async fn ended(&self) {
        let mut phase = self.phase.subscribe();
        let has_ended = |phase: &Phase| !matches!(phase, Phase::Starting | Phase::Ready(_));
        let _ = phase.wait_for(has_ended).await;
    }

    /// Returns whether the child has ended for good.
    pub fn is_ended(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended | Phase::NeverAnswered)
    }

    /// Returns whether a call or a stream is open.
    pub fn is_busy(&self) -> bool {
        let state = self.lock();
        !state.calls.is_empty() || state.streams.values().any(|stream| !stream.is_closed())
    }

    /// Adds a client with its capabilities (raw JSON).
    pub fn add_client(&self, capabilities: &str) -> ClientId {
        self.lock().multiplexer.add_client(capabilities)
    }

    /// Removes a client, which cancels its calls.
    pub fn remove_client(&self, client: ClientId) {
        let mut state = self.lock();
        state.streams.remove(&client);
        let (calls, messages) = state.multiplexer.remove_client(client);
        for call in calls {
            state.calls.remove(&call);
        }
        state.send_all(messages);
    }

    /// Forwards a request. Its messages arrive on the receiver. `None` if too many are in flight.
    pub fn call(
        &self,
        client: ClientId,
        source: &[u8],
        message: &Envelope<'_>,
    ) -> Option<mpsc::Receiver<CallMessage>> {
        let mut state = self.lock();
        let (sender, receiver) = mpsc::channel(QUEUE);
        if state.multiplexer.keeps_subscription(client, message) {
            let id = message.id.unwrap_or_default();
            let done = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
            return sender.try_send(CallMessage::Final(done)).is_ok().then_some(receiver);
        }
        let (call, request) = state.multiplexer.request(client, source, message)?;
        if state.send(request) {
            state.calls.insert(call, sender);
            return Some(receiver);
        }
        state.multiplexer.cancel(call);
        None
    }

    /// Forwards a notification, if it concerns the child.
    pub fn notify(&self, client: ClientId, source: &[u8], message: &Envelope<'_>) {
        let mut state = self.lock();
        if let Some((message, ended)) = state.multiplexer.notification(client, source, message) {
            state.send(message);
            ended.map(|call| state.calls.remove(&call));
        }
    }

    /// Forwards a client's response, if the child has asked this client.
    pub fn respond(&self, client: ClientId, source: &Bytes, message: &Envelope<'_>) -> bool {
        let mut state = self.lock();
        let response = state.multiplexer.response(client, source, message);
        response.is_some_and(|response| state.send(response))
    }

    /// Opens the stream of messages that belong to none of the client's calls; `None` if one is open already.
    pub fn open_stream(&self, client: ClientId) -> Option<mpsc::Receiver<Bytes>> {
        let mut state = self.lock();
        if state.streams.get(&client).is_some_and(|stream| !stream.is_closed()) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        state.streams.insert(client, sender);
        Some(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn supervise(self: Arc<Self>, program: Program, restart: bool, stop: CancellationToken) {
        let (mut delay, mut starts, mut has_lasted) = (FIRST_DELAY, 0, false);
        loop {
            let started = Instant::now();
            let end = self.run_once(&program, &stop).await;
            self.lock().fail_all();
            (starts, has_lasted) = (starts + 1, has_lasted || !matches!(end, RunEnd::Early));
            let is_last = !restart || (!has_lasted && starts >= MAX_STARTS);
            if let Some(last) = end.settled(is_last || stop.is_cancelled()) {
                self.phase.send_replace(last);
                return;
            }
            self.phase.send_replace(Phase::Starting);
            if started.elapsed() >= STABLE_AFTER {
                delay = FIRST_DELAY;
            }
            let wait = delay.mul_f64(rand::random_range(0.8..1.2));
            eprint(format!("[{}] restarting in {} ms", program.label, wait.as_millis()));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {
                    self.phase.send_replace(Phase::Ended);
                    return;
                }
            }
            delay = (delay * 2).min(MAX_DELAY);
        }
    }

    async fn run_once(&self, program: &Program, stop: &CancellationToken) -> RunEnd {
        let mut child = match program.spawn() {
            Ok(child) => child,
            Err(error) => {
                eprint(format!("[{}] cannot start: {error}", program.label));
                return RunEnd::Early;
            }
        };
        let mut reader = OutputReader::new(Some(program.label.clone()), program.secrets());
        let on_unreadable = |said: &str| {
            eprint(format!("[{}] wrote to its stdout what is no MCP message: {said}", program.label));
            self.lock().heard = Some(said.to_owned());
        };
        let handshake = handshake(&mut child, &mut reader, self.era, on_unreadable);
        let handshake = tokio::time::timeout(self.start_timeout, handshake);
        let outcome = tokio::select! {
            outcome = handshake => outcome,
            () = stop.cancelled() => {
                child.end().await;
                return RunEnd::Ended;
            }
        };
        let end = match outcome {
            Ok(Some(Ok(info))) => {
                self.on_ready(&child, info);
                tokio::select! {
                    () = self.forward_output(&mut child, &mut reader, &program.label) => {}
                    () = stop.cancelled() => {}
                }
                RunEnd::Ended
            }
            Ok(Some(Err(error))) => RunEnd::Failed(error),
            Ok(None) => RunEnd::Early,
            Err(_) => {
                eprint(format!("[{}] did not respond to the handshake in time", program.label));
                RunEnd::Ended
            }
        };
        self.lock().input = None;
        child.end().await;
        end
    }

    fn on_ready(&self, child: &Child, info: ServerInfo) {
        let mut state = self.lock();
        state.input = Some(child.input.clone());
        state.heard = None;
        let messages = state.multiplexer.resubscribe();
        state.send_all(messages);
        // Clients that stayed through a restart may hold lists of the previous child.
        for notice in list_changed(&info.result) {
            state.broadcast(&notice);
        }
        drop(state);
        self.phase.send_replace(Phase::Ready(Arc::new(info)));
    }

    async fn forward_output(&self, child: &mut Child, reader: &mut OutputReader, label: &str) {
        let mut complaints = Complaints::default();
        while let Some(line) = child.output.recv().await {
            let complaint = self.lock().receive(&line, reader);
            if let Some(why) = complaint.and_then(|why| complaints.line(&why, Instant::now())) {
                eprint(format!("[{label}] {why}"));
            }
        }
    }
}

enum RunEnd {
    Ended,
    /// It ended by itself, and before the handshake was complete.
    Early,
    Failed(HandshakeError),
}

impl RunEnd {
    /// The phase after which nothing is started any more; `None` if that comes.
    fn settled(self, is_last: bool) -> Option<Phase> {
        match self {
            Self::Failed(HandshakeError::Refused(why)) => Some(Phase::Refused(why)),
            Self::Failed(HandshakeError::Unreadable(why)) => Some(Phase::Unreadable(why)),
            Self::Early if is_last => Some(Phase::NeverAnswered),
            Self::Ended if is_last => Some(Phase::Ended),
            Self::Early | Self::Ended => None,
        }
    }
}

impl State {
    fn send(&self, message: Bytes) -> bool {
        self.input.as_ref().is_some_and(|input| input.try_send(message).is_ok())
    }

    fn send_all(&self, messages: Vec<Bytes>) {
        for message in messages {
            self.send(message);
        }
    }

    /// Delivers a line from the child. Returns the complaint about one that has no destination.
    fn receive(&mut self, line: &Bytes, reader: &mut OutputReader) -> Option<String> {
        let error = match self.multiplexer.from_child(line) {
            Ok(delivery) => {
                reader.on_message();
                return self.deliver(delivery);
            }
            Err(error) => error,
        };
        // A result without an id may answer a notification: many servers answer those.
        match reader.recover(line, error, None) {
            Recovered::Message(message) => match self.multiplexer.from_child(&message) {
                Ok(delivery) => self.deliver(delivery),
                Err(error) => Some(error.to_string()),
            },
            Recovered::Partial => None,
            Recovered::Unreadable(unreadable) => {
                if unreadable.is_in_place() {
                    self.end_claimed(&unreadable);
                }
                Some(format!("dropped a line that is no MCP message: {}", unreadable.said))
            }
        }
    }

    /// Ends the call whose answer cannot be read: nothing else would.
    fn end_claimed(&mut self, UnreadableOutput { source, said, .. }: &UnreadableOutput) {
        let Some((call, id)) = self.multiplexer.end_claimed(source) else { return };
        if let Some(sender) = self.calls.remove(&call) {
            let why = format!("the server's answer cannot be read: {said}");
            let error = BridgeError::AnswerUnreadable.render(Some(&id), &why);
            let _ = sender.try_send(CallMessage::Final(error));
        }
    }

    /// Delivers a message. Returns the complaint about one that has no destination.
    fn deliver(&mut self, delivery: Delivery) -> Option<String> {
        match delivery {
            Delivery::Final(call, message) => {
                if let Some(sender) = self.calls.remove(&call) {
                    // Interim messages always leave one slot free for it.
                    let _ = sender.try_send(CallMessage::Final(message));
                }
            }
            Delivery::Interim(call, message) => {
                if let Some(sender) = self.calls.get(&call).filter(|sender| sender.capacity() > 1) {
                    let _ = sender.try_send(CallMessage::Interim(message));
                }
            }
            Delivery::Client(client, message) => self.push(client, message),
            Delivery::AllClients(message) => self.broadcast(&message),
            Delivery::Child(message) => drop(self.send(message)),
            Delivery::Discard(why) => return (!why.is_empty()).then_some(why),
        }
        None
    }

    fn push(&mut self, client: ClientId, message: Bytes) {
        if let Some(stream) = self.streams.get(&client)
            && stream.try_send(message).is_err()
        {
            // A client that does not read loses its stream, and lists again when it reconnects.
            self.streams.remove(&client);
        }
    }

    fn broadcast(&mut self, message: &Bytes) {
        self.streams.retain(|_, stream| stream.try_send(message.clone()).is_ok());
    }

    fn fail_all(&mut self) {
        self.input = None;
        for (call, id) in self.multiplexer.fail_all() {
            if let Some(sender) = self.calls.remove(&call) {
                let error =
                    BridgeError::CommandEnded.render(Some(&id), "the server ended before it responded");
                let _ = sender.try_send(CallMessage::Final(error));
            }
        }
    }
}
