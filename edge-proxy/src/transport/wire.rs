//! The connection that a request came on, as far as a request may act on it: cut it, or take it over. It must not know
//! what for.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;

use tokio::sync::Notify;

/// What goes on when the connection no longer speaks HTTP.
type Afterwards = Pin<Box<dyn Future<Output = ()>>>;

/// One connection of a client.
#[derive(Default)]
pub struct Wire {
    asked: Cell<bool>,
    first: Notify,
    cut: Notify,
    afterwards: RefCell<Option<Afterwards>>,
}

impl Wire {
    /// Says that a request has come.
    pub fn ask(&self) {
        if !self.asked.replace(true) {
            self.first.notify_one();
        }
    }

    /// Waits until the first request has come.
    pub async fn was_asked(&self) {
        if !self.asked.get() {
            self.first.notified().await;
        }
    }

    /// Ends the connection, whatever is half written.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    /// Waits until somebody cuts it.
    pub async fn was_cut(&self) {
        self.cut.notified().await;
    }

    /// Leaves the connection to `afterwards`, once it no longer speaks HTTP.
    pub fn hand_over(&self, afterwards: impl Future<Output = ()> + 'static) {
        *self.afterwards.borrow_mut() = Some(Box::pin(afterwards));
    }

    /// To whom it was left.
    pub fn afterwards(&self) -> Option<Afterwards> {
        self.afterwards.borrow_mut().take()
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}
