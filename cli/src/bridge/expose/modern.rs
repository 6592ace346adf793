//! The modern era of a child: asked for on a disposable sibling, because one process is one era; started on first use.

use std::sync::Arc;
use std::time::Duration;

use mcp::revision::Era;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::Program;
use crate::bridge::expose::backend::Backend;
use crate::bridge::expose::greeting::greet;
use crate::bridge::expose::{Eras, Settings};

/// A legacy server may never answer what it does not know. It was started once already, so it starts quickly now.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the child speaks the modern era, and the one that does.
#[derive(Debug)]
pub struct Probed {
    program: Program,
    settings: Settings,
    stop: CancellationToken,
    verdict: OnceCell<bool>,
    backend: OnceCell<Arc<Backend>>,
}

impl Probed {
    /// Nothing is asked yet.
    pub fn new(program: Program, settings: Settings, stop: CancellationToken) -> Self {
        Self { program, settings, stop, verdict: OnceCell::new(), backend: OnceCell::new() }
    }

    /// Whether the child speaks the modern era. The first caller finds out, others wait.
    pub async fn is_modern(&self) -> bool {
        let ask = || async { self.settings.eras == Eras::Modern || self.sibling_is_modern().await };
        *self.verdict.get_or_init(ask).await
    }

    /// The child that speaks the modern era, started when it is first wanted; `None` where none does.
    pub async fn backend(&self) -> Option<Arc<Backend>> {
        if !self.is_modern().await {
            return None;
        }
        let start =
            || async { Backend::start(self.program.clone(), Era::Modern, &self.settings, self.stop.clone()) };
        Some(self.backend.get_or_init(start).await.clone())
    }

    /// Waits until the child is gone for good, where there is one.
    pub async fn ended(&self) {
        if let Some(backend) = self.backend.get() {
            backend.ended().await;
        }
    }

    /// Whether a call or a stream waits for the child.
    pub fn is_busy(&self) -> bool {
        self.backend.get().is_some_and(|backend| backend.is_busy())
    }

    /// Some servers end when they are asked before `initialize`: a sibling may.
    async fn sibling_is_modern(&self) -> bool {
        let Ok(mut sibling) = self.program.spawn() else { return false };
        let asked = tokio::time::timeout(PATIENCE, greet(&mut sibling, Era::Modern));
        let modern = tokio::select! {
            asked = asked => matches!(asked, Ok(Some(Ok(_)))),
            () = self.stop.cancelled() => false,
        };
        sibling.end().await;
        modern
    }
}
