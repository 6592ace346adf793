//! What a server says while a request is open, and what it asks: progress and log messages are shown, and forms are filled in
//! on the terminal.

use mcp::client::{Answering, Hearer};
use mcp::json;
use mcp::method::Method;
use serde_json::Value;

use crate::client::form::{self, Filled};
use crate::client::signature::text;
use crate::output::progress::Spinner;

/// Shows and answers, beside a spinner.
pub struct Conversation<'s> {
    spinner: &'s Spinner,
}

impl<'s> Conversation<'s> {
    pub fn beside(spinner: &'s Spinner) -> Self {
        Self { spinner }
    }

    /// Fills in a form: on the terminal, if somebody is there.
    fn fill_in(&self, params: Option<&str>) -> String {
        let members = ["message", "mode", "url", "requestedSchema"];
        let [asked, mode, url, schema] = json::members(params.unwrap_or("{}"), members).unwrap_or_default();
        let (asked, url) = (text(asked), text(url));
        let declined = |why: &str| {
            self.spinner.println(&printable::line(&format!("the server asks: {asked}; {why}: declined")));
            Filled::Declined
        };
        let filled = if text(mode) == "url" {
            declined(&format!("that is to open {url}, which is not done here"))
        } else if !form::can_be_asked() && form::is_of_approval(&asked) {
            // The refusal that follows says the same.
            Filled::Declined
        } else if !form::can_be_asked() {
            declined("nobody can be asked here")
        } else {
            let asked = || form::ask(&asked, schema.unwrap_or("{}"));
            // The runtime must not wait for somebody who types.
            tokio::task::block_in_place(|| self.spinner.suspend(asked))
        };
        filled.result()
    }
}

impl Hearer for Conversation<'_> {
    /// Shows progress in the spinner and prints log messages.
    fn hear(&mut self, method: &str, params: Option<&str>) {
        let params = params.and_then(|params| serde_json::from_str(params).ok());
        let params: Value = params.unwrap_or_default();
        match method {
            "notifications/progress" => {
                let text = params["message"].as_str().unwrap_or_default();
                let done = params["progress"].as_f64().unwrap_or_default();
                self.spinner.position(done, params["total"].as_f64(), text);
            }
            "notifications/message" => {
                let data = params["data"].as_str().map_or_else(|| params["data"].to_string(), str::to_owned);
                let line = format!("[{}] {data}", params["level"].as_str().unwrap_or("info"));
                self.spinner.println(&printable::line(&line));
            }
            _ => {}
        }
    }

    fn answer<'a>(&'a mut self, method: &'a str, params: Option<&'a str>) -> Answering<'a> {
        let is_form = method == Method::ElicitationCreate.as_str();
        Box::pin(async move { is_form.then(|| self.fill_in(params)) })
    }
}
