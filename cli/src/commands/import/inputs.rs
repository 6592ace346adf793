//! What Visual Studio Code asks its user for (`${input:id}`): asked here as well, once each, where there is a terminal.

use std::collections::BTreeMap;

use serde_json::Value;

use super::file::HostServer;
use super::transport::Transport;
use super::variables::Unresolved;
use crate::ask;
use crate::error::Result;
use crate::output::eprint;
use crate::suggest::did_you_mean;

/// Where its files have the questions, beside the servers.
const PLACES: [&str; 4] = ["/inputs", "/mcp/inputs", "/mcp.inputs", "/customizations/vscode/mcp/inputs"];

/// A question of the host.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    text: String,
    is_secret: bool,
    default: String,
    /// The answers that it takes; empty: any.
    options: Vec<String>,
}

/// The questions of a file, and the answers so far.
pub(super) struct Inputs {
    /// By `input:id`.
    questions: BTreeMap<String, Question>,
    answers: BTreeMap<String, String>,
}

impl Inputs {
    /// Finds the questions of a file; none where nobody can be asked.
    pub(super) fn new(file: &Value, is_asked: bool) -> Self {
        let questions = if is_asked { questions(file) } else { BTreeMap::new() };
        Self { questions, answers: BTreeMap::new() }
    }

    /// Replaces the variables of a server by their values in this environment, and by answers.
    pub(super) fn resolve(
        &mut self,
        server: &HostServer,
    ) -> Result<std::result::Result<Transport, Unresolved>> {
        let resolved = server.transport.resolve(&|name| self.value(name));
        let Err(unresolved) = &resolved else { return Ok(resolved) };
        let asked: Vec<&String> =
            unresolved.names().filter(|name| self.questions.contains_key(*name)).collect();
        if asked.len() < unresolved.names().count() {
            // What else is missing has no value, whatever is answered.
            return Ok(resolved);
        }
        for name in asked {
            let question = &self.questions[name];
            let answer = question.ask(&server.key, name)?;
            if !answer.is_empty() {
                self.answers.insert(name.clone(), answer);
            }
        }
        Ok(server.transport.resolve(&|name| self.value(name)))
    }

    fn value(&self, name: &str) -> Option<String> {
        self.answers.get(name).cloned().or_else(|| std::env::var(name).ok())
    }
}

impl Question {
    fn ask(&self, server: &str, name: &str) -> Result<String> {
        let mut text = format!("server {server}: {} (${{{name}}}", self.text);
        if !self.options.is_empty() {
            text.push_str(&format!("; one of {}", self.options.join(", ")));
        }
        if !self.default.is_empty() && !self.is_secret {
            text.push_str(&format!("; Enter for {}", self.default));
        }
        let text = printable::line(&(text + "): ")).into_owned();
        loop {
            let typed = if self.is_secret { ask::secret(&text)? } else { ask::line(&text)? };
            let answer = if typed.is_empty() { self.default.clone() } else { typed };
            if answer.is_empty() || self.options.is_empty() || self.options.contains(&answer) {
                return Ok(answer);
            }
            let hint = did_you_mean(&answer, self.options.iter().map(String::as_str));
            eprint(format!("{answer} is none of them{hint}"));
        }
    }
}

/// The questions that a person can answer, by the names of their variables. What a command answers is not among them.
fn questions(file: &Value) -> BTreeMap<String, Question> {
    let lists = PLACES.iter().filter_map(|place| file.pointer(place)?.as_array());
    lists.flatten().filter_map(question).collect()
}

fn question(input: &Value) -> Option<(String, Question)> {
    let text = |member: &str| input[member].as_str().unwrap_or_default().to_owned();
    let kind = text("type");
    if kind != "promptString" && kind != "pickString" {
        return None;
    }
    // An option is a text, or has a label.
    let option = |value: &Value| value.as_str().or(value["value"].as_str()).map(str::to_owned);
    let options = input["options"].as_array().into_iter().flatten().filter_map(option);
    let id = input["id"].as_str()?;
    let question = Question {
        text: if text("description").is_empty() { id.to_owned() } else { text("description") },
        is_secret: input["password"] == true,
        default: text("default"),
        options: options.collect(),
    };
    Some((format!("input:{id}"), question))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_person_can_answer_is_found_wherever_it_stands() {
        let list = json!([
            {"type": "promptString", "id": "tok", "description": "Your token", "password": true},
            {"type": "pickString", "id": "zone", "options": ["a", {"label": "B", "value": "b"}], "default": "a"},
            {"type": "command", "id": "cmd", "command": "x"},
            {"type": "promptString"}, "x", null
        ]);
        for file in [
            json!({"inputs": list}),
            json!({"mcp": {"inputs": list}}),
            json!({"mcp.inputs": list}),
            json!({"customizations": {"vscode": {"mcp": {"inputs": list}}}}),
        ] {
            let found = questions(&file);
            let token = Question {
                text: "Your token".into(),
                is_secret: true,
                default: String::new(),
                options: Vec::new(),
            };
            let zone = Question {
                text: "zone".into(),
                is_secret: false,
                default: "a".into(),
                options: vec!["a".into(), "b".into()],
            };
            assert_eq!(
                found,
                BTreeMap::from([("input:tok".to_owned(), token), ("input:zone".to_owned(), zone)])
            );
        }
        assert!(questions(&json!({"inputs": 5})).is_empty());
    }

    #[test]
    fn where_nobody_can_be_asked_it_has_no_value() {
        let file = json!({"inputs": [{"type": "promptString", "id": "tok"}]});
        let transport = Transport::Http {
            url: "http://a".into(),
            headers: BTreeMap::from([("X".to_owned(), "${input:tok}".to_owned())]),
        };
        let server = HostServer { key: "a".into(), id: "a".into(), transport, notes: Vec::new() };
        let unresolved = Inputs::new(&file, false).resolve(&server).unwrap().unwrap_err();
        assert!(
            unresolved.to_string().starts_with("${input:tok} is asked for on a terminal"),
            "{unresolved}"
        );
    }
}
