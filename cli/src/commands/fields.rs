//! The flags that set fields of a resource, shared by `create` and `update`.
//!
//! Each given flag adds a field to the body and a path to the update mask.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mcp::border::text_without_mark;
use serde_json::{Map, Value, json};

use crate::commands::{members, reference};
use crate::error::{Error, Result};
use crate::parse;

/// The path of the headers of an upstream's credential.
pub const HEADERS: &str = "credential.headers.headers";

/// The body in proto-JSON, and the fields that it sets.
#[derive(Debug, Default)]
pub struct Fields {
    /// The body.
    pub body: Map<String, Value>,
    /// The paths that the body sets, in their JSON spelling.
    pub mask: Vec<String>,
    /// The paths of what is to be taken out, such as `meta.labels.team`.
    pub removed: Vec<String>,
}

/// A key with a value, or one that is to be taken out: `team=core`, or `team-`.
pub type KeyChange = (String, Option<String>);

/// The lists of a scope beside its servers, in the order in which flags give them.
const SCOPE_LISTS: [&str; 3] = ["scope.tools", "scope.resources", "scope.prompts"];

impl Fields {
    /// Sets the servers of a scope, and its globs of tools, resources and prompts, as far as they are given.
    pub fn set_scope(&mut self, servers: &[String], globs: [&[String]; 3]) -> &mut Self {
        let server = |word: &String| match word.as_str() {
            "*" => "*".into(),
            word => format!("servers/{}", word.strip_prefix("servers/").unwrap_or(word)).into(),
        };
        self.set_list("scope.servers", servers, server);
        for (path, globs) in SCOPE_LISTS.into_iter().zip(globs) {
            self.set_list(path, globs, |glob| Value::String(glob.clone()));
        }
        self
    }

    /// Sets everything where no glob is given.
    pub fn fill_scope(&mut self, globs: [&[String]; 3]) {
        for (path, _) in SCOPE_LISTS.into_iter().zip(globs).filter(|(_, globs)| globs.is_empty()) {
            self.set(path, Some(json!(["*"])));
        }
    }

    /// Sets a field that is given.
    pub fn set(&mut self, path: &str, value: Option<Value>) -> &mut Self {
        let Some(value) = value else { return self };
        let mut at = &mut self.body;
        let (folders, last) =
            path.rsplit_once('.').map_or((None, path), |(folders, last)| (Some(folders), last));
        for folder in folders.iter().flat_map(|folders| folders.split('.')) {
            let inner = at.entry(folder).or_insert_with(|| json!({}));
            let Value::Object(inner) = inner else { return self };
            at = inner;
        }
        at.insert(last.to_owned(), value);
        self.mask.push(path.to_owned());
        self
    }

    /// Sets keys of a map, and notes those that are to be taken out.
    pub fn set_map(&mut self, path: &str, changes: &[KeyChange]) -> &mut Self {
        let removed = changes.iter().filter(|(_, value)| value.is_none());
        self.removed.extend(removed.map(|(key, _)| format!("{path}.{key}")));
        self.set(path, object(changes))
    }

    /// Refuses what only an update can do.
    pub fn all_set(self) -> Result<Self> {
        match self.removed.first().and_then(|path| path.rsplit_once('.')) {
            Some((_, key)) => Err(Error::usage(format!(
                "{key}- takes something out, and there is nothing yet; write {key}=VALUE, or run `mcpctl update`"
            ))),
            None => Ok(self),
        }
    }

    /// Sets a list that is not empty.
    pub fn set_list(&mut self, path: &str, list: &[String], one: impl Fn(&String) -> Value) -> &mut Self {
        let value = (!list.is_empty()).then(|| list.iter().map(one).collect());
        self.set(path, value)
    }
}

fn object(changes: &[KeyChange]) -> Option<Value> {
    let set = |(key, value): &KeyChange| Some((key.clone(), value.clone()?.into()));
    let members: Map<String, Value> = changes.iter().filter_map(set).collect();
    (!members.is_empty()).then_some(Value::Object(members))
}

/// A text that is given, as a value.
pub fn text(value: &Option<String>) -> Option<Value> {
    value.clone().map(Value::String)
}

/// Reads a file, or stdin for `-`, without a byte order mark and trailing newlines.
pub fn read_text(path: &Path) -> Result<String> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(text_without_mark(&text).trim_end_matches(['\r', '\n']).to_owned())
}

/// The credential that is presented to an upstream.
#[derive(Debug, Default, clap::Args)]
#[command(
    next_help_heading = "Credential of the upstream (stored encrypted, never shown; or a reference to it)"
)]
#[group(skip)]
pub struct CredentialFlags {
    /// Bearer token
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["bearer_file", "basic", "headers", "query"])]
    bearer: Option<String>,
    /// File with a bearer token; - reads stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["basic", "headers", "query"])]
    bearer_file: Option<PathBuf>,
    /// User name and password
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with_all = ["headers", "query"])]
    basic: Option<String>,
    /// Header; repeatable. An update keeps the others, and NAME- takes one out
    #[arg(long = "header", value_name = "NAME=VALUE|NAME-", value_parser = parse::pair_or_removal, conflicts_with = "query")]
    headers: Vec<KeyChange>,
    /// Query parameter of the URL
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::pair)]
    query: Option<(String, String)>,
    /// Where the control plane reads the bearer token: env:NAME, file:PATH, vault:MOUNT/data/PATH#KEY or kubernetes:NAME/KEY
    #[arg(long, value_name = "REFERENCE", value_parser = reference::parse, conflicts_with_all = ["bearer", "bearer_file", "basic", "headers", "query"])]
    bearer_from: Option<Value>,
    /// User name, and where the password is read
    #[arg(long, value_name = "USER=REFERENCE", value_parser = reference::parse_named, conflicts_with_all = ["bearer", "bearer_file", "basic", "headers", "query", "bearer_from"])]
    basic_from: Option<(String, Value)>,
    /// Header, and where its value is read; repeatable. It replaces the credential
    #[arg(long = "header-from", value_name = "NAME=REFERENCE", value_parser = reference::parse_named, conflicts_with_all = ["bearer", "bearer_file", "basic", "headers", "query", "bearer_from", "basic_from"])]
    headers_from: Vec<(String, Value)>,
    /// Query parameter of the URL, and where its value is read
    #[arg(long, value_name = "NAME=REFERENCE", value_parser = reference::parse_named, conflicts_with_all = ["bearer", "bearer_file", "basic", "headers", "query", "bearer_from", "basic_from", "headers_from"])]
    query_from: Option<(String, Value)>,
}

impl CredentialFlags {
    /// Returns the credential as a file would hold it: what was read from a file is referred to.
    pub fn for_file(&self) -> Result<Option<Value>> {
        let from_file = self.bearer_file.as_deref().filter(|path| path.as_os_str() != "-");
        if let (None, Some(path)) = (&self.bearer, from_file) {
            return Ok(Some(json!({ "bearer": { "token": { "fromFile": path.display().to_string() } } })));
        }
        let mut credential = self.json()?;
        if let Some(credential) = &mut credential {
            mark_literals(credential);
        }
        Ok(credential)
    }

    /// Returns the credential in proto-JSON, if one is given.
    pub fn json(&self) -> Result<Option<Value>> {
        match self.headers.iter().find(|(_, value)| value.is_none()) {
            Some((name, _)) => Err(Error::usage(format!(
                "{name}- takes a header out, which only `mcpctl update` can do; write {name}=VALUE"
            ))),
            None => self.change(),
        }
    }

    /// The same for an update. A secret that is empty would leave the stored one as it is.
    fn change(&self) -> Result<Option<Value>> {
        let credential = self.given()?;
        match credential.as_ref().is_some_and(has_empty_text) {
            true => Err(Error::usage("the credential is empty; leave the option out to keep the stored one")),
            false => Ok(credential),
        }
    }

    /// The credential whose secrets the control plane reads elsewhere.
    fn referring(&self) -> Option<Value> {
        if let Some(from) = &self.bearer_from {
            return Some(json!({ "bearer": { "tokenFrom": from } }));
        }
        if let Some((username, from)) = &self.basic_from {
            return Some(json!({ "basic": { "username": username, "passwordFrom": from } }));
        }
        if let Some((parameter, from)) = &self.query_from {
            return Some(json!({ "queryParameter": { "parameter": parameter, "valueFrom": from } }));
        }
        let header = |(name, from): &(String, Value)| json!({ "name": name, "valueFrom": from });
        let headers: Vec<Value> = self.headers_from.iter().map(header).collect();
        (!headers.is_empty()).then(|| json!({ "headers": { "headersFrom": headers } }))
    }

    fn given(&self) -> Result<Option<Value>> {
        if let Some(referring) = self.referring() {
            return Ok(Some(referring));
        }
        if let Some(token) = &self.bearer {
            return Ok(Some(json!({ "bearer": { "token": token } })));
        }
        if let Some(path) = &self.bearer_file {
            return Ok(Some(json!({ "bearer": { "token": read_text(path)? } })));
        }
        if let Some(basic) = &self.basic {
            let (username, password) =
                basic.split_once(':').ok_or_else(|| Error::usage("invalid --basic; use USER:PASSWORD"))?;
            return Ok(Some(json!({ "basic": { "username": username, "password": password } })));
        }
        if let Some(headers) = object(&self.headers) {
            return Ok(Some(json!({ "headers": { "headers": headers } })));
        }
        let query = |(parameter, value): &(String, String)| json!({ "queryParameter": { "parameter": parameter, "value": value } });
        Ok(self.query.as_ref().map(query))
    }
}

fn has_empty_text(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.values().any(has_empty_text),
        _ => false,
    }
}

/// Marks texts that a file would take for a variable.
fn mark_literals(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("${") => *value = json!({ "literal": text }),
        Value::Object(members) => members.values_mut().for_each(mark_literals),
        _ => {}
    }
}

/// The era of the protocol to speak with an upstream.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Era {
    /// The client's era, if the upstream speaks it.
    Auto,
    /// 2026-07-28 and later.
    Modern,
    /// 2025-11-25 and earlier.
    Legacy,
}

/// Who may see a resource beside its owner.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Visibility {
    /// Nobody.
    Private,
    /// The members of its team.
    Team,
    /// Everybody who is signed in.
    Public,
}

/// Whose a resource is.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct OwnerFlags {
    /// Owner: a user, or serviceAccounts/NAME; '' for none [default: who creates it, unless --team is given]
    #[arg(long, value_name = "WHO")]
    owner: Option<String>,
    /// Team that it belongs to; '' for none
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// Who may see it beside its owner [default: private, or team for what belongs to a team and to nobody]
    #[arg(long, value_enum, ignore_case = true)]
    visibility: Option<Visibility>,
}

impl OwnerFlags {
    pub fn set(&self, fields: &mut Fields) {
        let owner = self.owner.as_ref().map(|word| match word.as_str() {
            word if word.is_empty() || word.contains('/') => word.into(),
            user => format!("users/{user}").into(),
        });
        let team = self.team.as_ref().map(|word| match word.strip_prefix("teams/").unwrap_or(word) {
            "" => "".into(),
            id => format!("teams/{id}").into(),
        });
        let visibility = self.visibility.map(|said| format!("VISIBILITY_{said:?}").to_uppercase().into());
        fields.set("meta.owner", owner).set("meta.team", team).set("meta.visibility", visibility);
    }
}

/// Fields of an upstream.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct UpstreamFlags {
    /// Absolute URL of the MCP server
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Display name
    #[arg(long)]
    title: Option<String>,
    /// Description
    #[arg(long)]
    description: Option<String>,
    /// Label; repeatable. An update keeps the others, and KEY- takes one out
    #[arg(long = "label", value_name = "KEY=VALUE|KEY-", value_parser = parse::pair_or_removal)]
    labels: Vec<KeyChange>,
    /// Time allowed for the first byte of a response, and between bytes [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    request_timeout: Option<Duration>,
    /// Interval between fetches of the catalogue if the upstream announces no changes [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    refresh_interval: Option<Duration>,
    /// Era of the protocol to speak with the upstream [default: auto]
    #[arg(long, value_enum, ignore_case = true)]
    era: Option<Era>,
    /// Keep the catalogue, but expose nothing of it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disabled: Option<bool>,
    #[command(flatten)]
    ownership: OwnerFlags,
    #[command(flatten)]
    pub credential: CredentialFlags,
}

impl UpstreamFlags {
    /// Returns the given fields.
    pub fn fields(&self) -> Result<Fields> {
        let duration = |value: Option<Duration>| value.map(|d| Value::String(parse::proto_duration(d)));
        let era = self.era.map(|era| format!("ERA_POLICY_{era:?}").to_uppercase().into());
        let mut fields = Fields::default();
        fields.set("http.url", text(&self.url)).set("title", text(&self.title));
        fields.set("description", text(&self.description)).set_map("meta.labels", &self.labels);
        self.ownership.set(&mut fields);
        fields.set("requestTimeout", duration(self.request_timeout));
        fields.set("refreshInterval", duration(self.refresh_interval));
        fields.set("mcp.eraPolicy", era).set("disabled", self.disabled.map(Value::Bool));
        fields.set("credential", self.credential.change()?);
        let removed = self.credential.headers.iter().filter(|(_, value)| value.is_none());
        fields.removed.extend(removed.map(|(name, _)| format!("{HEADERS}.{name}")));
        Ok(fields)
    }
}

/// Fields of a virtual server.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct ServerFlags {
    /// Tools to expose, such as 'time/*', github/create_issue, or github/create_issue=report for another name, which
    /// an update keeps until github/create_issue= takes it away; repeatable
    #[arg(long = "tool", value_name = "UPSTREAM/NAME[=ALIAS]")]
    tools: Vec<String>,
    /// Resources and templates to expose, such as 'docs/*', or docs/note://a=memo://a for another URI; repeatable
    #[arg(long = "resource", value_name = "UPSTREAM/URI[=ALIAS]")]
    resources: Vec<String>,
    /// Prompts to expose, such as 'time/*', or docs/review=look for another name; repeatable
    #[arg(long = "prompt", value_name = "UPSTREAM/NAME[=ALIAS]")]
    prompts: Vec<String>,
    /// Expose the upstreams' own names and URIs, without the UPSTREAM_ prefix
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    unprefixed: Option<bool>,
    /// Display name
    #[arg(long)]
    title: Option<String>,
    /// Description
    #[arg(long)]
    description: Option<String>,
    /// Instructions for clients
    #[arg(long)]
    instructions: Option<String>,
    /// Label; repeatable. An update keeps the others, and KEY- takes one out
    #[arg(long = "label", value_name = "KEY=VALUE|KEY-", value_parser = parse::pair_or_removal)]
    labels: Vec<KeyChange>,
    /// Hide the server as if it did not exist
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disabled: Option<bool>,
    #[command(flatten)]
    ownership: OwnerFlags,
}

impl ServerFlags {
    /// Returns the given fields.
    pub fn fields(&self) -> Result<Fields> {
        let style = |bare: bool| if bare { "NAME_STYLE_UNPREFIXED" } else { "NAME_STYLE_PREFIXED" }.into();
        let mut fields = Fields::default();
        for (list, words) in
            [("tools", &self.tools), ("resources", &self.resources), ("prompts", &self.prompts)]
        {
            let read: Result<Vec<_>> = words.iter().map(|word| members::read(list, word)).collect();
            fields.set(list, Some(read?).filter(|members| !members.is_empty()).map(Value::Array));
        }
        fields.set("nameStyle", self.unprefixed.map(style));
        fields.set("title", text(&self.title)).set("description", text(&self.description));
        fields.set("instructions", text(&self.instructions)).set_map("meta.labels", &self.labels);
        self.ownership.set(&mut fields);
        fields.set("disabled", self.disabled.map(Value::Bool));
        Ok(fields)
    }
}

/// Fields of an entry of the catalogue.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct EntryFlags {
    /// Definition as the upstream would send it: JSON or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    definition: Option<String>,
    /// Do not expose it on any server
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disabled: Option<bool>,
    /// Label; repeatable. An update keeps the others, and KEY- takes one out
    #[arg(long = "label", value_name = "KEY=VALUE|KEY-", value_parser = parse::pair_or_removal)]
    labels: Vec<KeyChange>,
}

impl EntryFlags {
    /// Returns the given fields.
    pub fn fields(&self) -> Result<Fields> {
        let definition = match self.definition.as_deref() {
            Some(word) => Some(Value::String(match word.strip_prefix('@') {
                Some(path) => read_text(Path::new(path))?,
                None => word.to_owned(),
            })),
            None => None,
        };
        let mut fields = Fields::default();
        fields.set("definitionJson", definition).set("disabled", self.disabled.map(Value::Bool));
        fields.set_map("meta.labels", &self.labels);
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_put_around_a_text_is_no_part_of_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (written, read) in
            [("s3cret", "s3cret"), ("\u{feff}s3cret\r\n", "s3cret"), (" a\u{feff}b \n\n", " a\u{feff}b ")]
        {
            std::fs::write(file.path(), written).unwrap();
            assert_eq!(read_text(file.path()).unwrap(), read);
        }
    }

    #[test]
    fn flags_become_a_body_and_a_mask() {
        let flags = UpstreamFlags {
            url: Some("http://x/mcp".into()),
            labels: vec![("team".into(), Some("core".into())), ("env".into(), None)],
            request_timeout: Some(Duration::from_secs(5)),
            era: Some(Era::Legacy),
            ..UpstreamFlags::default()
        };
        let fields = flags.fields().unwrap();
        let expected = json!({"http": {"url": "http://x/mcp"}, "meta": {"labels": {"team": "core"}},
            "requestTimeout": "5s", "mcp": {"eraPolicy": "ERA_POLICY_LEGACY"}});
        assert_eq!(Value::Object(fields.body.clone()), expected);
        assert_eq!(fields.mask, ["http.url", "meta.labels", "requestTimeout", "mcp.eraPolicy"]);
        assert_eq!(fields.removed, ["meta.labels.env"]);
        let error = fields.all_set().unwrap_err().to_string();
        assert_eq!(
            error,
            "env- takes something out, and there is nothing yet; write env=VALUE, or run `mcpctl update`"
        );
    }

    #[test]
    fn owners_and_teams_are_named_by_their_ids_and_taken_away_by_nothing() {
        let fields = |owner: &str, team: &str, visibility: Option<Visibility>| {
            let mut fields = Fields::default();
            OwnerFlags { owner: Some(owner.into()), team: Some(team.into()), visibility }.set(&mut fields);
            (Value::Object(fields.body), fields.mask)
        };
        let (body, mask) = fields("ann@example.org", "core", Some(Visibility::Public));
        let expected = json!({"owner": "users/ann@example.org", "team": "teams/core", "visibility": "VISIBILITY_PUBLIC"});
        assert_eq!(body, json!({ "meta": expected }));
        assert_eq!(mask, ["meta.owner", "meta.team", "meta.visibility"]);
        let (body, _) = fields("serviceAccounts/ci", "teams/core", None);
        assert_eq!(body, json!({"meta": {"owner": "serviceAccounts/ci", "team": "teams/core"}}));
        let (body, mask) = fields("", "", None);
        assert_eq!((body, mask.len()), (json!({"meta": {"owner": "", "team": ""}}), 2));
    }

    #[test]
    fn a_file_refers_to_the_file_of_a_secret() {
        let flags = |bearer: Option<&str>, file: Option<&str>| CredentialFlags {
            bearer: bearer.map(str::to_owned),
            bearer_file: file.map(PathBuf::from),
            ..CredentialFlags::default()
        };
        for (flags, expected) in [
            (flags(Some("s3cret"), None), json!("s3cret")),
            (flags(Some("${X}"), None), json!({ "literal": "${X}" })),
            (flags(None, Some("token")), json!({ "fromFile": "token" })),
        ] {
            assert_eq!(flags.for_file().unwrap().unwrap()["bearer"]["token"], expected);
        }
        assert_eq!(CredentialFlags::default().for_file().unwrap(), None);
    }
}
