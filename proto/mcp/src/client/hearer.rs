//! Whoever hears what a server says, and answers what it asks, before it responds to a request.

use std::pin::Pin;

/// The result of a request of a server, once there is one.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Option<String>> + Send + 'a>>;

/// Hears a server out while a request is open. A closure hears notifications, and answers nothing.
pub trait Hearer: Send {
    /// Hears a notification: its method, and its params as raw JSON.
    fn hear(&mut self, method: &str, params: Option<&str>);

    /// Answers a request of the server with a result, a raw JSON object. `None`: it is refused as one that is not supported.
    fn answer<'a>(&'a mut self, _method: &'a str, _params: Option<&'a str>) -> Answering<'a> {
        Box::pin(std::future::ready(None))
    }
}

impl<F: FnMut(&str, Option<&str>) + Send> Hearer for F {
    fn hear(&mut self, method: &str, params: Option<&str>) {
        self(method, params);
    }
}
