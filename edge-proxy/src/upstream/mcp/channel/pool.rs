//! The channels of one worker to one upstream for clients with the same capabilities: opened when needed, bounded,
//! closed when idle, with a backoff after failures.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::session::SessionKey;
use super::Channel;
use super::claim::{CallMessages, ChannelClaim};
use super::heal::{ChannelHealing, RefusedCall};
use crate::error::Fault;
use crate::observe::Gauge;
use crate::session::capabilities::Capabilities;
use crate::snapshot::{McpTransport, Upstream};
use crate::upstream::connect::{HttpPool, Retry};

/// Channels at a time; calls that find none free wait for one.
const MAX_CHANNELS: usize = 64;
/// Attempts to open one for a call.
const MAX_OPEN_ATTEMPTS: usize = 3;
/// First and longest wait after a failure to open one.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// The channels of one worker to one upstream for clients with the same capabilities.
pub(in super::super) struct ChannelPool {
    pub(super) http_pool: Rc<HttpPool>,
    pub(super) upstream: Arc<Upstream>,
    transport: McpTransport,
    pub(super) key: SessionKey,
    gauge: Gauge,
    open: RefCell<Vec<Rc<Channel>>>,
    opening: tokio::sync::Mutex<()>,
    slots: Arc<Semaphore>,
    backoff: RefCell<Option<OpenBackoff>>,
    pub(super) healing: ChannelHealing,
}

/// The time for which an upstream that could not be reached is not tried again.
struct OpenBackoff {
    until: Instant,
    delay: Duration,
    fault: Fault,
}

impl ChannelPool {
    pub(in super::super) fn new(
        http_pool: Rc<HttpPool>,
        upstream: Arc<Upstream>,
        transport: McpTransport,
        key: SessionKey,
        gauge: Gauge,
    ) -> Self {
        Self {
            http_pool,
            upstream,
            transport,
            key,
            gauge,
            open: RefCell::default(),
            opening: tokio::sync::Mutex::default(),
            slots: Arc::new(Semaphore::new(MAX_CHANNELS)),
            backoff: RefCell::default(),
            healing: ChannelHealing::default(),
        }
    }

    /// Makes a call, and waits for the first message about it. Retries once where the channel broke before that and the
    /// call had no effect, or may have it twice.
    pub(in super::super) async fn call(
        &self,
        number: u64,
        body: &Bytes,
        retry: Retry,
        level: Option<&Bytes>,
    ) -> Result<CallMessages, Fault> {
        let exclusive = self.key.capabilities != Capabilities::default() || level.is_some();
        self.exchange(number, body, retry, exclusive, level).await
    }

    /// Makes a call in the modern era, as `call` does. Log messages do not say which call they belong to, so one that wants
    /// them is alone on its channel.
    pub(in super::super) async fn call_modern(
        &self,
        number: u64,
        body: &Bytes,
        retry: Retry,
        wants_logs: bool,
    ) -> Result<CallMessages, Fault> {
        self.exchange(number, body, retry, wants_logs, None).await
    }

    async fn exchange(
        &self,
        number: u64,
        body: &Bytes,
        retry: Retry,
        exclusive: bool,
        level: Option<&Bytes>,
    ) -> Result<CallMessages, Fault> {
        let mut may_retry = true;
        loop {
            let mut messages = self.checkout(number, exclusive, level).await?;
            messages.claim.channel.send(Some(number), body.clone());
            let first = messages.first().await;
            if first.is_ok() && !messages.begins_with_error() {
                messages.claim.channel.confirmed.set(true);
                return Ok(messages);
            }
            if !may_retry || !Box::pin(self.is_to_be_repeated(&messages, &first, retry, level)).await {
                return first.map(|()| messages);
            }
            may_retry = false;
        }
    }

    /// Whether a call that failed is to be made again.
    #[cold]
    async fn is_to_be_repeated(
        &self,
        messages: &CallMessages,
        first: &Result<(), Fault>,
        retry: Retry,
        level: Option<&Bytes>,
    ) -> bool {
        let ChannelClaim { channel, number, .. } = &*messages.claim;
        if let Some(refusal) = messages.refusal() {
            return self.heal(&RefusedCall { channel, refusal, retry, level }).await;
        }
        let is_cut = *first == Err(Fault::Interrupted) && !channel.dispatcher.is_cancelled(*number);
        is_cut && retry == Retry::Safe
    }

    /// Claims a channel: one without another call, where calls may be asked something.
    async fn checkout(
        &self,
        number: u64,
        exclusive: bool,
        level: Option<&Bytes>,
    ) -> Result<CallMessages, Fault> {
        let timeout = self.upstream.request_timeout;
        let slot = if exclusive { Some(self.acquire_slot().await?) } else { None };
        for _ in 0..MAX_OPEN_ATTEMPTS {
            let channel = match self.find_free(exclusive) {
                Some(channel) => channel,
                None if exclusive => Box::pin(self.open(true, level)).await?,
                None => self.shared().await?,
            };
            // One that was opened a moment ago may have ended, or be taken.
            if let Ok(receiver) = channel.dispatcher.register(number) {
                let claim = ChannelClaim::new(channel, number, Arc::clone(self.http_pool.waiters()), slot);
                return Ok(CallMessages::new(claim, receiver, timeout));
            }
        }
        Err(Fault::Interrupted)
    }

    async fn acquire_slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let slot = Arc::clone(&self.slots).acquire_owned();
        match tokio::time::timeout(self.upstream.request_timeout, slot).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(Fault::Session(format!("its {MAX_CHANNELS} connections are all in use"))),
        }
    }

    fn find_free(&self, exclusive: bool) -> Option<Rc<Channel>> {
        let mut open = self.open.borrow_mut();
        open.retain(|channel| !channel.is_closed());
        let mut fit = open.iter().filter(|channel| channel.dispatcher.is_exclusive() == exclusive);
        fit.find(|channel| !exclusive || channel.dispatcher.is_idle()).cloned()
    }

    /// Returns the channel that calls share; calls that come while it is opened wait for it.
    async fn shared(&self) -> Result<Rc<Channel>, Fault> {
        let _turn = self.opening.lock().await;
        match self.find_free(false) {
            Some(channel) => Ok(channel),
            None => Box::pin(self.open(false, None)).await,
        }
    }

    async fn open(&self, exclusive: bool, level: Option<&Bytes>) -> Result<Rc<Channel>, Fault> {
        let channel = self.connect(exclusive, level).await?;
        self.put(Rc::clone(&channel));
        Ok(channel)
    }

    /// Makes calls on this channel from now on.
    pub(super) fn put(&self, channel: Rc<Channel>) {
        self.open.borrow_mut().push(channel);
    }

    /// Opens a channel, beside those that are open.
    pub(super) async fn connect(&self, exclusive: bool, level: Option<&Bytes>) -> Result<Rc<Channel>, Fault> {
        let paused = self
            .backoff
            .borrow()
            .as_ref()
            .filter(|backoff| Instant::now() < backoff.until)
            .map(OpenBackoff::fault);
        if let Some(fault) = paused {
            return Err(fault);
        }
        let opened =
            Channel::open(&self.http_pool, &self.upstream, self.transport, self.key, exclusive, &self.gauge);
        match opened.await {
            Ok(channel) => {
                *self.backoff.borrow_mut() = None;
                if let Some(level) = level {
                    channel.set_level(level);
                }
                Ok(channel)
            }
            Err(fault) => {
                let mut backoff = self.backoff.borrow_mut();
                let delay =
                    backoff.as_ref().map_or(FIRST_BACKOFF, |backoff| (backoff.delay * 2).min(MAX_BACKOFF));
                *backoff = Some(OpenBackoff { until: Instant::now() + delay, delay, fault: fault.clone() });
                Err(fault)
            }
        }
    }

    /// Ends a call that its client cancelled, and forwards the notification.
    pub(in super::super) fn cancel(&self, number: u64, notification: Bytes) {
        let open = self.open.borrow();
        if let Some(channel) = open.iter().find(|channel| channel.dispatcher.cancel(number)) {
            channel.send(None, notification);
        }
    }

    /// Asks for log messages from this raw level on.
    pub(in super::super) fn set_level(&self, level: &Bytes) {
        for channel in self.open.borrow().iter().filter(|channel| channel.dispatcher.is_exclusive()) {
            channel.set_level(level);
        }
    }

    /// Whether none is open.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// Whether no call waits.
    pub(in super::super) fn is_idle(&self) -> bool {
        self.open.borrow().iter().all(|channel| channel.dispatcher.is_idle())
    }

    /// Closes channels that were idle for so long.
    pub(in super::super) fn sweep(&self, idle: Duration) {
        let unused = |channel: &Channel| channel.dispatcher.is_idle() && channel.used.get().elapsed() > idle;
        self.open.borrow_mut().retain(|channel| {
            let keep = !channel.is_closed() && !unused(channel);
            if !keep {
                channel.close();
            }
            keep
        });
    }

    /// Closes all.
    pub(in super::super) fn close(&self) {
        for channel in self.open.borrow_mut().drain(..) {
            channel.close();
        }
    }
}

impl OpenBackoff {
    fn fault(&self) -> Fault {
        self.fault.clone()
    }
}
