//! What the commands have in common that look again and again, `get -w` and `top -w`: how long they go on, and what a control plane
//! that is away means to them. It must not know what is looked at.

use std::time::Duration;

use crate::commands::Invocation;
use crate::error::Result;
use crate::output;
use crate::parse;

/// Watches until that ends, nobody reads any more, or the time is over.
pub async fn until_over(invocation: &Invocation, watch: impl Future<Output = Result>) -> Result {
    tokio::select! {
        biased;
        ended = watch => ended,
        () = output::unread() => Ok(()),
        limit = over(invocation.timeout) => {
            output::eprint(format!("ended after {} (--timeout)", parse::proto_duration(limit)));
            Ok(())
        }
    }
}

/// Returns once the time is over, if there is a limit.
async fn over(limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return std::future::pending().await };
    tokio::time::sleep(limit).await;
    limit
}

/// A control plane that has answered, and may be away for a while.
#[derive(Debug, Default)]
pub struct Absence {
    is_told: bool,
}

impl Absence {
    /// Takes what a look came to; `None` while nobody answers, which is said once. Other errors end the watch.
    pub fn pass<T>(&mut self, looked: Result<T>) -> Result<Option<T>> {
        match looked {
            Err(error) if error.is_temporary => {
                if !std::mem::replace(&mut self.is_told, true) {
                    output::eprint(format!("waiting for the control plane: {error}; retrying"));
                }
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(seen) => {
                if std::mem::take(&mut self.is_told) {
                    output::eprint("the control plane answers again");
                }
                Ok(Some(seen))
            }
        }
    }
}
