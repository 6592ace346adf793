//! Ctrl-C and SIGTERM while a request is open: the server is told, and then the program ends by the signal, as it would have
//! without that.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcp::client::Session as Mcp;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{self, SignalKind};

use crate::bridge::reaper::this_program;
use crate::error::{Error, Result};

/// Time to tell the server. A second signal ends it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Arguments of the hidden `end-by` command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the signal
    signal: i32,
}

/// Ends this process by a signal that nothing here handles. Returns only on failure.
pub fn run(args: &Args) -> Result<u8> {
    let signal = Signal::from_named_raw(args.signal).ok_or_else(|| Error::usage("this is no signal"))?;
    kill_process(getpid(), signal).map_err(|error| Error::failure(error.to_string()))?;
    Ok(128)
}

/// The session whose server is told.
type InterruptedSession = Arc<Mutex<Option<Arc<Mcp>>>>;

/// Watches for signals until the program ends.
#[derive(Clone)]
pub struct Interruption {
    open: InterruptedSession,
}

impl Interruption {
    /// Installs the handlers; from now on a signal first cancels the request that is open.
    pub fn watch() -> Result<Self> {
        let mut signals = Signals::new()?;
        let open = InterruptedSession::default();
        let watched = Arc::clone(&open);
        // A task of its own, which runs while somebody fills in a form as well.
        tokio::spawn(async move {
            let signal = signals.next().await;
            let session = watched.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(session) = session {
                tokio::select! {
                    _ = tokio::time::timeout(PATIENCE, session.cancel()) => {}
                    _ = signals.next() => {}
                }
            }
            end_by(signal);
        });
        Ok(Self { open })
    }

    /// Waits for the response to a request of a session, during which its server is told of signals.
    pub async fn during<T>(&self, session: &Arc<Mcp>, request: impl Future<Output = T>) -> T {
        self.set(Some(Arc::clone(session)));
        let response = request.await;
        self.set(None);
        response
    }

    fn set(&self, session: Option<Arc<Mcp>>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one, and returns its number.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
        }
    }
}

/// Ends by a signal, so that whoever waits sees that. A handler cannot be taken away again, but a program that is started in the
/// place of this one has none.
fn end_by(signal: i32) {
    let _ = Command::new(this_program()).args(["end-by", &signal.to_string()]).exec();
    // As shells have it.
    std::process::exit(128 + signal);
}
