//! The modern era of a child: asked for on a disposable copy, because one process is one era; started on first use.

use std::sync::Arc;
use std::time::Duration;

use mcp::revision::Era;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::Program;
use crate::bridge::expose::handshake::handshake;
use crate::bridge::expose::supervised_child::SupervisedChild;
use crate::bridge::expose::{Eras, Settings};

/// A legacy server may never answer what it does not know. It was started once already, so it starts quickly now.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether the child speaks the modern era, and the one that does.
#[derive(Debug)]
pub struct ModernChild {
    program: Program,
    settings: Settings,
    stop: CancellationToken,
    speaks_modern: OnceCell<bool>,
    child: OnceCell<Arc<SupervisedChild>>,
}

impl ModernChild {
    /// Nothing is asked yet.
    pub fn new(program: Program, settings: Settings, stop: CancellationToken) -> Self {
        Self { program, settings, stop, speaks_modern: OnceCell::new(), child: OnceCell::new() }
    }

    /// Whether the child speaks the modern era. The first caller finds out, others wait.
    pub async fn is_modern(&self) -> bool {
        let ask = || async { self.settings.eras == Eras::Modern || self.copy_is_modern().await };
        *self.speaks_modern.get_or_init(ask).await
    }

    /// The child that speaks the modern era, started when it is first wanted; `None` where none does.
    pub async fn child(&self) -> Option<Arc<SupervisedChild>> {
        if !self.is_modern().await {
            return None;
        }
        let start = || async {
            SupervisedChild::start(self.program.clone(), Era::Modern, &self.settings, self.stop.clone())
        };
        Some(self.child.get_or_init(start).await.clone())
    }

    /// Waits until the child is gone for good, where there is one.
    pub async fn ended(&self) {
        if let Some(child) = self.child.get() {
            child.ended().await;
        }
    }

    /// Whether a call or a stream waits for the child.
    pub fn is_busy(&self) -> bool {
        self.child.get().is_some_and(|child| child.is_busy())
    }

    /// Some servers end when they are asked before `initialize`: a copy may.
    async fn copy_is_modern(&self) -> bool {
        let Ok(mut copy) = self.program.spawn() else { return false };
        let answer = tokio::time::timeout(PROBE_TIMEOUT, handshake(&mut copy, Era::Modern));
        let modern = tokio::select! {
            answer = answer => matches!(answer, Ok(Some(Ok(_)))),
            () = self.stop.cancelled() => false,
        };
        copy.end().await;
        modern
    }
}
