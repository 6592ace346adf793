//! An entry of a host's file, as a value, and what its user must know of it. Pure.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::form::Form;
use super::hosts::{BearerForm, Host, HostSpec, Syntax, UrlForm, Via};
use super::splice::{self, EntryChange};
use crate::error::{Error, Result};
use crate::output;

/// What an entry is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) server: &'a str,
    /// The name of the entry.
    pub(super) name: &'a str,
    /// The URL for the transport.
    pub(super) url: &'a str,
    /// The name of the token. Empty: there is none, and whoever is signed in calls.
    pub(super) token: &'a str,
    /// Whether the token was named on the command line.
    pub(super) is_named: bool,
    /// The bearer, where it is shown.
    pub(super) bearer: Option<&'a str>,
    /// The variable that holds it elsewhere.
    pub(super) variable: &'a str,
    /// The context file, and the context in it.
    pub(super) config: &'a Path,
    pub(super) context: Option<&'a str>,
    /// Where `mcpctl` is.
    pub(super) program: &'a Path,
}

/// An entry for a host.
pub(super) struct Snippet<'a> {
    spec: &'static HostSpec,
    form: Form,
    parts: Parts<'a>,
    entry: Value,
    /// The `id` of an input, and the input that the entry refers to.
    input: (String, Option<Value>),
}

/// The `id` of the input that an entry of Visual Studio Code refers to.
pub(super) fn input_id(name: &str) -> String {
    format!("trunkline-{name}")
}

impl<'a> Snippet<'a> {
    /// # Errors
    /// When the host has no such form.
    pub(super) fn new(spec: &'static HostSpec, form: Form, parts: Parts<'a>) -> Result<Self> {
        let mut snippet = Self { spec, form, parts, entry: Value::Null, input: (input_id(parts.name), None) };
        snippet.entry = match (form.via, spec.url) {
            (Via::Stdio, _) => snippet.command(),
            (Via::Http, Some(url)) => snippet.by_url(&url)?,
            (Via::Http, None) => return Err(Error::usage(format!("{} only runs commands", spec.title))),
        };
        Ok(snippet)
    }

    pub(super) fn name(&self) -> &'a str {
        self.parts.name
    }

    pub(super) fn entry(&self) -> &Value {
        &self.entry
    }

    /// Whether the entry holds the bearer itself.
    pub(super) fn shows_bearer(&self) -> bool {
        self.form.shows_bearer
    }

    /// The change that puts an entry into the host's file.
    pub(super) fn change<'s>(&'s self, entry: &'s Value) -> EntryChange<'s> {
        let input = (self.spec.host == Host::Vscode).then_some((&*self.input.0, self.input.1.as_ref()));
        EntryChange { at: self.spec.at, name: self.parts.name, entry: Some(entry), input }
    }

    /// A file that has nothing else, for people to paste.
    pub(super) fn render(&self) -> Result<String> {
        if self.spec.syntax == Syntax::Jsonc {
            return output::json(&self.document());
        }
        splice::render(self.spec.syntax, &self.change(&self.entry)).map_err(Error::failure)
    }

    /// The same as a value.
    pub(super) fn document(&self) -> Value {
        let mut file = json!({ self.spec.at: { self.parts.name: self.entry } });
        if let Some(input) = &self.input.1 {
            file[splice::INPUTS] = json!([input]);
        }
        file
    }

    fn command(&self) -> Value {
        let (stdio, parts) = (self.spec.stdio, &self.parts);
        let mut args = vec!["connect", parts.server];
        if parts.is_named {
            args.extend(["--token", parts.token]);
        }
        let config = std::path::absolute(parts.config).unwrap_or_else(|_| parts.config.to_owned());
        let mut env = json!({ "MCPCTL_CONFIG": config.display().to_string() });
        if let Some(context) = parts.context {
            env["MCPCTL_CONTEXT"] = context.into();
        }
        let mut entry =
            json!({ stdio.command: parts.program.display().to_string(), "args": args, stdio.env: env });
        if let Some(kind) = stdio.kind {
            entry["type"] = kind.into();
        }
        self.with_own(entry)
    }

    fn by_url(&mut self, form: &UrlForm) -> Result<Value> {
        let none = || Error::usage(format!("{} does not speak this transport", self.spec.title));
        let (member, kind) = form.members(self.form.wire).ok_or_else(none)?;
        let mut entry = json!({ member: self.parts.url });
        if let Some(kind) = kind {
            entry["type"] = kind.into();
        }
        self.add_bearer(&mut entry, form.bearer);
        Ok(self.with_own(entry))
    }

    fn add_bearer(&mut self, entry: &mut Value, form: BearerForm) {
        let variable = self.parts.variable;
        let bearer = match (self.parts.bearer, form) {
            (Some(bearer), _) => bearer.to_owned(),
            (None, BearerForm::Variable(before, after)) => format!("{before}{variable}{after}"),
            (None, BearerForm::Listed) => {
                entry["env_keys"] = json!([variable]);
                format!("${{{variable}}}")
            }
            (None, BearerForm::NameOnly) => {
                entry["bearer_token_env_var"] = variable.into();
                return;
            }
            (None, BearerForm::Input) => {
                let text = format!("Bearer of the Trunkline token {}", self.parts.token);
                let id = &self.input.0;
                self.input.1 =
                    Some(json!({ "type": "promptString", "id": id, "description": text, "password": true }));
                format!("${{input:{id}}}")
            }
            (None, BearerForm::Literal) => return,
        };
        entry["headers"] = json!({ "Authorization": format!("Bearer {bearer}") });
    }

    /// The members that a host requires of every entry.
    fn with_own(&self, mut entry: Value) -> Value {
        if self.spec.host == Host::Goose {
            entry["name"] = self.parts.name.into();
            entry["description"] = format!("Server {} of Trunkline", self.parts.server).into();
            entry["enabled"] = true.into();
            entry["timeout"] = 300.into();
        }
        entry
    }

    /// Where the bearer is, and what its user does about it.
    pub(super) fn advice(&self) -> String {
        let Parts { token, variable, config, program, .. } = self.parts;
        if self.form.via == Via::Stdio && token.is_empty() {
            return format!(
                "No saved token may call the server: {} calls as whoever is signed in in {}, as long as they are.",
                program.display(),
                config.display()
            );
        }
        if self.form.via == Via::Stdio {
            return format!(
                "The bearer stays in {}. The host runs {} by its path, since hosts may have no PATH: make the entry again when \
                 it moves.",
                config.display(),
                program.display()
            );
        }
        if self.parts.bearer.is_some() {
            return format!("It contains the bearer of {token}: keep it secret.");
        }
        let get = format!("mcpctl config get-bearer {token}");
        match self.spec.url.map(|url| url.bearer) {
            Some(BearerForm::Input) => {
                format!("{} asks for the bearer once; print it with `{get}`.", self.spec.title)
            }
            _ => format!("Provide the bearer, before the host starts, with: export {variable}=\"$({get})\""),
        }
    }
}

/// Members that an entry of ours may have in one form or another, and that change with it.
const OURS: [&str; 15] = [
    "args",
    "bearer_token_env_var",
    "cmd",
    "command",
    "env",
    "env_http_headers",
    "env_keys",
    "envs",
    "headers",
    "httpUrl",
    "http_headers",
    "serverUrl",
    "type",
    "uri",
    "url",
];

/// Members that hold others, of which only ours change.
const MAPS: [&str; 3] = ["env", "envs", "headers"];

/// A new entry with whatever its user has added to the old one.
pub(super) fn merged(old: &Value, new: &Value) -> Value {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return new.clone() };
    let mut entry = after.clone();
    for (name, value) in before.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
        entry.insert(name.clone(), value.clone());
    }
    for name in MAPS {
        if let (Some(Value::Object(old)), Some(Value::Object(new))) = (before.get(name), after.get(name)) {
            let all: Map<_, _> = old.clone().into_iter().chain(new.clone()).collect();
            entry.insert(name.to_owned(), all.into());
        }
    }
    entry.into()
}
