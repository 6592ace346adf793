//! The channels that one worker has with one upstream for clients that declared the same: opened when needed, at most so
//! many, closed when idle, and not opened at once again where that failed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::endpoint::{Endpoint, Repeat};
use super::super::legacy::SessionKey;
use super::Channel;
use super::lease::{Lease, Messages};
use crate::error::Fault;
use crate::observe::Gauge;
use crate::session::capabilities::Capabilities;
use crate::snapshot::Upstream;

/// Channels at a time: calls that may be asked something and find none wait for one.
const MAX_CHANNELS: usize = 64;
/// How often one is opened for a call that finds it closed again.
const MAX_OPENS: usize = 3;
/// How long nothing is opened where that failed, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The channels that one worker has with one upstream for clients that declared the same.
pub(in super::super) struct Channels {
    endpoint: Rc<Endpoint>,
    upstream: Arc<Upstream>,
    key: SessionKey,
    gauge: Gauge,
    open: RefCell<Vec<Rc<Channel>>>,
    opening: tokio::sync::Mutex<()>,
    room: Arc<Semaphore>,
    pause: RefCell<Option<Pause>>,
}

/// An upstream that could not be reached is left alone for a while.
struct Pause {
    until: Instant,
    long: Duration,
    why: Fault,
}

impl Channels {
    pub(in super::super) fn new(
        endpoint: Rc<Endpoint>,
        upstream: Arc<Upstream>,
        key: SessionKey,
        gauge: Gauge,
    ) -> Self {
        Self {
            endpoint,
            upstream,
            key,
            gauge,
            open: RefCell::default(),
            opening: tokio::sync::Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_CHANNELS)),
            pause: RefCell::default(),
        }
    }

    /// Makes a call, and waits for the first message about it. It is made once more where the channel broke before that
    /// and nothing can have happened, or happening twice is harmless.
    pub(in super::super) async fn call(
        &self,
        number: u64,
        body: &Bytes,
        repeat: Repeat,
        level: Option<&Bytes>,
    ) -> Result<Messages, Fault> {
        let mut again = true;
        loop {
            let mut messages = self.checkout(number, level).await?;
            messages.lease.channel.post(Some(number), body.clone());
            let cancelled = |messages: &Messages| messages.lease.channel.desk.is_cancelled(number);
            match messages.first().await {
                // Its door no longer knows the session, and let nothing through.
                Err(Fault::Status(404)) if again => messages.lease.channel.desk.end(&Fault::Interrupted),
                Err(Fault::Interrupted) if again && repeat == Repeat::Safe && !cancelled(&messages) => {}
                answered => return answered.map(|()| messages),
            }
            again = false;
        }
    }

    /// A share of a channel: of one that has no other call, where calls may be asked something.
    async fn checkout(&self, number: u64, level: Option<&Bytes>) -> Result<Messages, Fault> {
        let alone = self.key.capabilities != Capabilities::default() || level.is_some();
        let timeout = self.upstream.request_timeout;
        let room = if alone { Some(self.room().await?) } else { None };
        for _ in 0..MAX_OPENS {
            let channel = match self.free(alone) {
                Some(channel) => channel,
                None if alone => self.open(true, level).await?,
                None => self.shared().await?,
            };
            // One that was opened a moment ago may have ended, or be taken.
            if let Ok(receiver) = channel.desk.expect(number) {
                let lease = Lease::new(channel, number, Arc::clone(self.endpoint.held()), room);
                return Ok(Messages::new(lease, receiver, timeout));
            }
        }
        Err(Fault::Interrupted)
    }

    async fn room(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let room = Arc::clone(&self.room).acquire_owned();
        match tokio::time::timeout(self.upstream.request_timeout, room).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Fault::Session(format!("its {MAX_CHANNELS} connections are all in use"))),
        }
    }

    fn free(&self, alone: bool) -> Option<Rc<Channel>> {
        let mut open = self.open.borrow_mut();
        open.retain(|channel| !channel.is_over());
        let mut fit = open.iter().filter(|channel| channel.desk.is_alone() == alone);
        fit.find(|channel| !alone || channel.desk.is_idle()).cloned()
    }

    /// The one that calls share; those who come while it is opened wait for it.
    async fn shared(&self) -> Result<Rc<Channel>, Fault> {
        let _turn = self.opening.lock().await;
        match self.free(false) {
            Some(channel) => Ok(channel),
            None => self.open(false, None).await,
        }
    }

    async fn open(&self, alone: bool, level: Option<&Bytes>) -> Result<Rc<Channel>, Fault> {
        let paused =
            self.pause.borrow().as_ref().filter(|pause| Instant::now() < pause.until).map(Pause::why);
        if let Some(why) = paused {
            return Err(why);
        }
        let opened = Channel::open(&self.endpoint, &self.upstream, self.key, alone, &self.gauge);
        match opened.await {
            Ok(channel) => {
                *self.pause.borrow_mut() = None;
                if let Some(level) = level {
                    channel.post_level(level);
                }
                self.open.borrow_mut().push(Rc::clone(&channel));
                Ok(channel)
            }
            Err(why) => {
                let mut pause = self.pause.borrow_mut();
                let long = pause.as_ref().map_or(FIRST_PAUSE, |pause| (pause.long * 2).min(LONGEST_PAUSE));
                *pause = Some(Pause { until: Instant::now() + long, long, why: why.clone() });
                Err(why)
            }
        }
    }

    /// Ends a call that its client cancelled, and says so to the upstream in the client's words.
    pub(in super::super) fn cancel(&self, number: u64, notification: Bytes) {
        let open = self.open.borrow();
        if let Some(channel) = open.iter().find(|channel| channel.desk.cancel(number)) {
            channel.post(None, notification);
        }
    }

    /// From now on log messages of this level are wanted.
    pub(in super::super) fn set_level(&self, level: &Bytes) {
        for channel in self.open.borrow().iter().filter(|channel| channel.desk.is_alone()) {
            channel.post_level(level);
        }
    }

    /// Whether no call waits.
    pub(in super::super) fn is_idle(&self) -> bool {
        self.open.borrow().iter().all(|channel| channel.desk.is_idle())
    }

    /// Closes what was idle for so long.
    pub(in super::super) fn sweep(&self, idle: Duration) {
        let unused = |channel: &Channel| channel.desk.is_idle() && channel.used.get().elapsed() > idle;
        self.open.borrow_mut().retain(|channel| {
            let keep = !channel.is_over() && !unused(channel);
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

impl Pause {
    fn why(&self) -> Fault {
        self.why.clone()
    }
}
