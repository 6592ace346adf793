//! The modern era of a child: asked for on a disposable sibling, because one process is one era; started on first use.

use std::sync::Arc;

use mcp::revision::Era;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::Program;
use crate::bridge::expose::backend::{Backend, greet};
use crate::bridge::expose::{Eras, Settings};

/// Whether the child speaks the modern era, and the one that does.
#[derive(Debug)]
pub struct Probed {
    program: Program,
    settings: Settings,
    stop: CancellationToken,
    backend: OnceCell<Option<Arc<Backend>>>,
}

impl Probed {
    /// Nothing is asked yet.
    pub fn new(program: Program, settings: Settings, stop: CancellationToken) -> Self {
        Self { program, settings, stop, backend: OnceCell::new() }
    }

    /// The child that speaks the modern era; `None` where none does. The first caller finds out, others wait.
    pub async fn backend(&self) -> Option<Arc<Backend>> {
        let found = self.backend.get_or_init(async || {
            if self.settings.eras == Eras::Auto && !self.sibling_is_modern().await {
                return None;
            }
            Some(Backend::start(self.program.clone(), Era::Modern, &self.settings, self.stop.clone()))
        });
        found.await.clone()
    }

    /// Waits until the child is gone for good, where there is one.
    pub async fn ended(&self) {
        if let Some(Some(backend)) = self.backend.get() {
            backend.ended().await;
        }
    }

    /// Some servers end when they are asked before `initialize`: a sibling may.
    async fn sibling_is_modern(&self) -> bool {
        let Ok(mut sibling) = self.program.spawn() else { return false };
        let asked = tokio::time::timeout(self.settings.start_timeout, greet(&mut sibling, Era::Modern));
        let modern = tokio::select! {
            asked = asked => matches!(asked, Ok(Some(Ok(_)))),
            () = self.stop.cancelled() => false,
        };
        sibling.end().await;
        modern
    }
}
