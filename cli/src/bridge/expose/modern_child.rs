//! The modern-era child of an instance: probed on a disposable copy, because one process speaks one era, and started on first
//! use.

use std::sync::Arc;
use std::time::Duration;

use mcp::revision::Era;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::Program;
use crate::bridge::expose::child_output::OutputReader;
use crate::bridge::expose::handshake::handshake;
use crate::bridge::expose::supervised_child::SupervisedChild;
use crate::bridge::expose::{Eras, Settings};

/// Time to wait for the copy: a legacy server may never answer a method that it does not know. The command has started
/// before, so it starts quickly now.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// The child that speaks the modern era, if the command does.
#[derive(Debug)]
pub struct ModernChild {
    program: Program,
    settings: Settings,
    stop: CancellationToken,
    speaks_modern: OnceCell<bool>,
    child: OnceCell<Arc<SupervisedChild>>,
}

impl ModernChild {
    /// Prepares the child without starting it.
    pub fn new(program: Program, settings: Settings, stop: CancellationToken) -> Self {
        Self { program, settings, stop, speaks_modern: OnceCell::new(), child: OnceCell::new() }
    }

    /// Returns whether the command speaks the modern era. The first caller probes; others wait for the outcome.
    pub async fn is_modern(&self) -> bool {
        let ask = || async { self.settings.eras == Eras::Modern || self.copy_is_modern().await };
        *self.speaks_modern.get_or_init(ask).await
    }

    /// Returns the child, starting it on first use; `None` if the command does not speak the modern era.
    pub async fn child(&self) -> Option<Arc<SupervisedChild>> {
        if !self.is_modern().await {
            return None;
        }
        let start = || async {
            SupervisedChild::start(self.program.clone(), Era::Modern, &self.settings, self.stop.clone())
        };
        Some(self.child.get_or_init(start).await.clone())
    }

    /// Waits until the child, if started, has ended for good.
    pub async fn ended(&self) {
        if let Some(child) = self.child.get() {
            child.ended().await;
        }
    }

    /// Returns whether a call or a stream is open.
    pub fn is_busy(&self) -> bool {
        self.child.get().is_some_and(|child| child.is_busy())
    }

    /// Probes a copy of the command, because some servers end when they get a request before `initialize`.
    async fn copy_is_modern(&self) -> bool {
        let Ok(mut copy) = self.program.spawn() else { return false };
        // The child itself will tell what is odd.
        let mut reader = OutputReader::new(None, self.program.secrets());
        let answer = handshake(&mut copy, &mut reader, Era::Modern, |_| ());
        let answer = tokio::time::timeout(PROBE_TIMEOUT, answer);
        let modern = tokio::select! {
            answer = answer => matches!(answer, Ok(Some(Ok(_)))),
            () = self.stop.cancelled() => false,
        };
        copy.end().await;
        modern
    }
}
