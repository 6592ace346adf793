//! `mcpctl create KIND NAME …`: creates a resource.

use std::time::Duration;

use clap::Subcommand;
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};
use serde_yaml_ng::Mapping;

use crate::commands::api_keys::{self, NewApiKey};
use crate::commands::fields::{EntryFlags, Fields, ServerFlags, UpstreamFlags};
use crate::commands::team_fields::{RoleFlags, TeamFlags};
use crate::commands::token_fields::TokenFlags;
use crate::commands::users::{self, NewServiceAccount, NewUser};
use crate::commands::{Invocation, get, revoked, rollout, teams, warnings};
use crate::context::{SavedToken, Secret};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::{Kind, short_name};
use crate::output::progress::Spinner;
use crate::output::{self, Format};
use crate::parse;
use crate::reflection;

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    target: Target,
    /// Validate without storing anything; with -o yaml, print the file for `apply` that says the same
    #[arg(long, global = true)]
    dry_run: bool,
}

#[derive(Debug, Subcommand)]
enum Target {
    /// Create an upstream: an MCP server that provides tools, resources and prompts
    #[command(visible_alias = "upstreams")]
    Upstream {
        /// Name of the upstream
        name: String,
        #[command(flatten)]
        flags: UpstreamFlags,
        /// Do not wait for the first probe and import
        #[arg(long)]
        no_wait: bool,
        /// A command, which `expose` runs
        #[arg(last = true, hide = true)]
        command: Vec<String>,
    },
    /// Create a virtual server, which clients connect to
    #[command(visible_alias = "servers")]
    Server {
        /// Name of the server
        name: String,
        #[command(flatten)]
        flags: ServerFlags,
    },
    /// Create a token, which lets a client call servers; its bearer is shown only once
    #[command(visible_alias = "tokens")]
    Token {
        /// Name of the token
        name: String,
        #[command(flatten)]
        flags: TokenFlags,
        /// Do not save the bearer in the context file, where `call`, `connect` and `client-config` find it
        #[arg(long)]
        no_save: bool,
        /// Do not wait for the edges to acknowledge the token [default: at most --timeout, or 5s]
        #[arg(long)]
        no_wait: bool,
    },
    /// Create a team, whose members share resources
    #[command(visible_alias = "teams")]
    Team {
        /// Name of the team
        name: String,
        /// Owner of the team, such as ann@example.org; repeatable
        #[arg(long = "owner", value_name = "WHO")]
        owners: Vec<String>,
        #[command(flatten)]
        flags: TeamFlags,
    },
    /// Create a role: a set of permissions
    #[command(visible_alias = "roles")]
    Role {
        /// Name of the role
        name: String,
        #[command(flatten)]
        flags: RoleFlags,
    },
    /// Create a tool that an upstream does not list itself
    Tool(Entry),
    /// Create a resource that an upstream does not list itself
    Resource(Entry),
    /// Create a prompt that an upstream does not list itself
    Prompt(Entry),
    /// Create a join token for enrolling edges; it is shown only once
    JoinToken {
        /// Lifetime of the join token [default: 1h]
        #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
        ttl: Option<Duration>,
        /// Maximum number of edges that may enrol with it; 0 for any number [default: 1]
        #[arg(long, value_name = "N")]
        max_uses: Option<u32>,
        /// Only edge that may enrol with it; if it is enrolled already, that enrolment ends. Without it, only ids that are not
        /// enrolled may enrol
        #[arg(long, value_name = "NAME")]
        edge: Option<String>,
    },
    /// Create a user, who chooses a password by the one-time link that is shown
    #[command(visible_alias = "users")]
    User(NewUser),
    /// Create a service account, for programs that administer
    #[command(visible_aliases = ["service-accounts", "sa"])]
    ServiceAccount(NewServiceAccount),
    /// Create an API key of a service account or a user; it is shown only once
    #[command(visible_alias = "api-keys")]
    ApiKey(NewApiKey),
}

#[derive(Debug, clap::Args)]
struct Entry {
    /// Name, as UPSTREAM/NAME
    name: String,
    #[command(flatten)]
    flags: EntryFlags,
}

/// Runs `create`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let creator = Creator { invocation, validate_only: args.dry_run };
    match args.target {
        Target::Upstream { name, command, .. } if !command.is_empty() => Err(Error::usage(format!(
            "an upstream is reached by a URL; to run a command as one, use `mcpctl expose --register {name} -- {}`",
            command.join(" ")
        ))),
        Target::Upstream { name, flags, no_wait, .. } => creator.upstream(&name, &flags, no_wait).await,
        Target::Server { name, flags } => creator.plain("server", &name, flags.fields()?).await,
        Target::Token { name, flags, no_save, no_wait } => {
            let Some(token) = creator.token(&name, &flags, no_save).await? else { return Ok(()) };
            if no_wait { Ok(()) } else { wait_for_edges(invocation, &token).await }
        }
        Target::Team { name, owners, flags } => {
            teams::check_owners(invocation, &owners).await?;
            creator.plain("team", &name, flags.fields_for_creation()).await?;
            if args.dry_run { Ok(()) } else { teams::add_owners(invocation, &name, &owners).await }
        }
        Target::Role { name, flags } => creator.role(&name, &flags).await,
        Target::Tool(entry) => creator.plain("tool", &entry.name, entry.flags.fields()?).await,
        Target::Resource(entry) => creator.plain("resource", &entry.name, entry.flags.fields()?).await,
        Target::Prompt(entry) => creator.plain("prompt", &entry.name, entry.flags.fields()?).await,
        Target::JoinToken { ttl, max_uses, edge } => creator.join_token(ttl, max_uses, edge).await,
        Target::User(_) | Target::ServiceAccount(_) | Target::ApiKey(_) if args.dry_run => {
            Err(Error::usage("--dry-run is not for users, service accounts and API keys; leave it out"))
        }
        Target::User(new) => users::create_user(invocation, new).await,
        Target::ServiceAccount(new) => users::create_service_account(invocation, new).await,
        Target::ApiKey(new) => api_keys::create(invocation, new).await,
    }
}

/// The error where a name is taken: what cannot be seen cannot be changed either.
async fn or_taken(client: &ControlClient, kind: &Kind, name: &str, error: Error) -> Error {
    let is_taken = error.to_string().starts_with(&format!("{name} already exists"));
    match get::one(client, kind, name).await {
        Err(hidden) if is_taken && hidden.exit == Exit::NotFound => {
            Error::new(Exit::Conflict, format!("the name {} is taken; choose another one", short_name(name)))
        }
        _ => error.in_options(),
    }
}

struct Creator<'a> {
    invocation: &'a Invocation,
    validate_only: bool,
}

impl Creator<'_> {
    async fn send(&self, kind: &Kind, name: &str, fields: Fields, more: Value) -> Result<DynamicMessage> {
        let full = kind.full_name(name)?;
        let (parent, id) = full.rsplit_once('/').unwrap_or(("", &full));
        let mut request = Map::from_iter([
            (format!("{}Id", kind.singular), Value::from(id)),
            (kind.singular.to_owned(), Value::Object(fields.body)),
            ("validateOnly".to_owned(), self.validate_only.into()),
        ]);
        if let Some((upstream, _)) = parent.rsplit_once('/') {
            request.insert("parent".into(), upstream.into());
        }
        request.extend(more.as_object().cloned().unwrap_or_default());
        let client = self.invocation.client().await?;
        match client.call(&kind.method("Create"), Value::Object(request)).await {
            Err(error) if error.exit == Exit::Conflict => Err(or_taken(&client, kind, &full, error).await),
            answer => answer.map_err(Error::in_options),
        }
    }

    /// Creates a role, which is for holding permissions.
    async fn role(&self, name: &str, flags: &RoleFlags) -> Result {
        let fields = flags.fields();
        match fields.body.contains_key("permissions") {
            true => self.plain("role", name, fields).await,
            false => Err(Error::usage(
                "--permission is required: a permission that the role holds; `mcpctl access permissions` lists them",
            )),
        }
    }

    /// Prints the created resource in the requested format, or else a line with its name.
    fn show(&self, kind: &Kind, answer: &DynamicMessage, file: Mapping) -> Result<DynamicMessage> {
        let item = reflection::submessage(answer, kind.singular)
            .ok_or_else(|| Error::failure(format!("the response contains no {}", kind.singular)))?;
        if self.validate_only && self.invocation.format == Some(Format::Yaml) {
            output::print(&output::documents(vec![file], true, &Format::Yaml)?)?;
            return Ok(item);
        }
        let done = if self.validate_only { "created (dry run)" } else { "created" };
        match &self.invocation.format {
            Some(format) => {
                output::print(&output::resources(kind, std::slice::from_ref(&item), true, format)?)?
            }
            None => output::print(&format!("{} {done}", reflection::text(&item, "name")))?,
        }
        Ok(item)
    }

    async fn plain(&self, kind: &str, name: &str, fields: Fields) -> Result {
        let (kind, fields) = (Kind::from_word(kind), fields.all_set()?);
        let file = file_of(kind, name, &fields, None)?;
        let answer = self.send(kind, name, fields, Value::Null).await?;
        let item = self.show(kind, &answer, file)?;
        // It is created, whatever becomes of the question.
        if kind.name == "Server"
            && let Ok(client) = self.invocation.client().await
        {
            warnings::of_servers(&client, &[item]).await;
        }
        Ok(())
    }

    async fn upstream(&self, name: &str, flags: &UpstreamFlags, no_wait: bool) -> Result {
        if flags.url.is_none() {
            return Err(Error::usage("--url is required, as in --url http://127.0.0.1:9000/mcp"));
        }
        let kind = Kind::from_word("upstream");
        let fields = flags.fields()?.all_set()?;
        let file = file_of(kind, name, &fields, flags.credential.for_file()?)?;
        let spinner = Spinner::start(format!("probing {name}"));
        let answer = self.send(kind, name, fields, json!({ "noWait": no_wait })).await;
        drop(spinner);
        let item = self.show(kind, &answer?, file)?;
        if !self.validate_only && !no_wait {
            super::upstream::report_state(&item);
        }
        Ok(())
    }

    /// Creates a token, shows its bearer and saves it. Returns the token, unless nothing was stored.
    async fn token(&self, name: &str, flags: &TokenFlags, no_save: bool) -> Result<Option<DynamicMessage>> {
        let kind = Kind::from_word("token");
        if flags.servers.is_empty() {
            return Err(Error::usage("--server is required: a server that the token may call, or * for all"));
        }
        let fields = flags.fields_for_creation().all_set()?;
        let file = file_of(kind, name, &fields, None)?;
        let answer = self.send(kind, name, fields, Value::Null).await.map_err(revoked::explain)?;
        let bearer = reflection::text(&answer, "bearer");
        if self.validate_only {
            let item = self.show(kind, &answer, file)?;
            warnings::of_tokens(&[(None, item)]);
            return Ok(None);
        }
        let item = reflection::submessage(&answer, kind.singular)
            .ok_or_else(|| Error::failure("the response contains no token"))?;
        // Whatever fails first, the other keeps it.
        if bearer.is_empty() {
            self.show_without_bearer(kind, &item)?;
            warnings::of_tokens(&[(None, item.clone())]);
            return Ok(Some(item));
        }
        let is_saved = !no_save && save_token(self.invocation, &item, &bearer);
        self.show_token(kind, &item, &bearer).inspect_err(|_| {
            if !is_saved {
                output::eprint(format!("bearer (shown only once): {bearer}"));
            }
        })?;
        if is_saved {
            say_saved(self.invocation, "bearer is");
        }
        warnings::of_tokens(&[(None, item.clone())]);
        Ok(Some(item))
    }

    /// Shows a token that clients present by a certificate.
    fn show_without_bearer(&self, kind: &Kind, item: &DynamicMessage) -> Result {
        if let Some(format) = &self.invocation.format {
            output::print(&output::resources(kind, std::slice::from_ref(item), true, format)?)?;
        } else {
            output::print(&format!("{} created", reflection::text(item, "name")))?;
        }
        output::eprint("it has no bearer: clients present a certificate that it names, over TLS");
        Ok(())
    }

    fn show_token(&self, kind: &Kind, item: &DynamicMessage, bearer: &str) -> Result {
        match &self.invocation.format {
            Some(format @ (Format::Json | Format::Yaml | Format::Template(_))) => {
                let mut document = reflection::document(kind.name, item);
                document.insert("bearer".into(), bearer.into());
                output::print(&output::documents(vec![document], true, format)?)
            }
            Some(format) => {
                output::print(&output::resources(kind, std::slice::from_ref(item), true, format)?)?;
                output::eprint(format!("bearer (shown only once): {bearer}"));
                Ok(())
            }
            None => show_bearer(&reflection::text(item, "name"), bearer),
        }
    }

    async fn join_token(&self, ttl: Option<Duration>, max_uses: Option<u32>, edge: Option<String>) -> Result {
        let mut request = Map::new();
        if let Some(edge) = edge {
            request.insert("edge".into(), Kind::from_word("edge").full_name(&edge)?.into());
        }
        request.extend(ttl.map(|ttl| ("ttl".to_owned(), parse::proto_duration(ttl).into())));
        request.extend(max_uses.map(|uses| ("maxUses".to_owned(), uses.into())));
        request.insert("validateOnly".into(), self.validate_only.into());
        let client = self.invocation.client().await?;
        let method = "trunkline.discovery.v1.EnrollmentService/CreateJoinToken";
        let answer = client.call(method, Value::Object(request)).await?;
        match &self.invocation.format {
            Some(format @ (Format::Json | Format::Yaml | Format::Template(_) | Format::Columns(_))) => {
                output::print(&output::message(&answer, format, String::new)?)
            }
            _ if self.validate_only => output::print("join token created (dry run)"),
            _ => {
                output::eprint(format!(
                    "{} created. The join token is shown only once:",
                    reflection::text(&answer, "name")
                ));
                output::print(&reflection::text(&answer, "join_token"))
            }
        }
    }
}

/// Returns the file that holds what was given, and no more. A credential is given in the words of files.
fn file_of(kind: &Kind, name: &str, fields: &Fields, credential: Option<Value>) -> Result<Mapping> {
    let mut body = fields.body.clone();
    body.remove("credential");
    body.insert("name".into(), kind.full_name(name)?.into());
    let message = reflection::from_json(reflection::message(kind.message), Value::Object(body))?;
    let mut document = reflection::document(kind.name, &message);
    if let Some(credential) = credential {
        let credential =
            serde_yaml_ng::to_value(credential).map_err(|error| Error::failure(error.to_string()))?;
        document.insert("credential".into(), credential);
    }
    Ok(document)
}

/// Waits until the edges know a new token, so that its bearer works at once.
async fn wait_for_edges(invocation: &Invocation, token: &DynamicMessage) -> Result {
    let revision =
        reflection::submessage(token, "meta").map_or(0, |meta| reflection::number(&meta, "revision"));
    rollout::wait_briefly(invocation, &invocation.client().await?, revision, "the bearer").await;
    Ok(())
}

/// Shows the bearer of a new token, on stdout and alone in its line.
pub fn show_bearer(name: &str, bearer: &str) -> Result {
    output::eprint(format!("{name} created. Its bearer is shown only once:"));
    output::print(bearer)
}

/// Says where bearers are found: `bearer is` or `bearers are`.
pub fn say_saved(invocation: &Invocation, what: &str) {
    output::eprint(format!(
        "The {what} saved in {} for `call`, `connect` and `client-config`.",
        invocation.context_file.path().display()
    ));
}

/// Saves the bearer of a token in the context file. Returns whether that worked.
pub fn save_token(invocation: &Invocation, token: &DynamicMessage, bearer: &str) -> bool {
    invocation.save_bearer(&short_name(&reflection::text(token, "name")), saved_token(token, bearer))
}

/// Brings what the context file says of a token up to date after it was changed. It is only what the choice among saved bearers
/// goes by, so that a failure is no error.
pub fn refresh_token(invocation: &Invocation, token: &DynamicMessage) {
    let name = short_name(&reflection::text(token, "name"));
    let _ = invocation.context_file.refresh_token(&name, &saved_token(token, ""));
}

fn saved_token(token: &DynamicMessage, bearer: &str) -> SavedToken {
    let document = reflection::to_json(token);
    let list = |field: &str| {
        let items = document["scope"][field].as_array().into_iter().flatten().filter_map(Value::as_str);
        items.map(str::to_owned).collect::<Vec<_>>()
    };
    SavedToken {
        bearer: Secret::new(bearer),
        servers: list("servers").iter().map(|name| short_name(name)).collect(),
        tools: Some(list("tools")),
        resources: Some(list("resources")),
        prompts: Some(list("prompts")),
        created: document["meta"]["createTime"].as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_what_was_given_and_is_read_back() {
        let body = json!({ "http": { "url": "http://x/mcp" }, "mcp": { "eraPolicy": "ERA_POLICY_LEGACY" },
            "requestTimeout": "5s", "credential": { "bearer": { "token": "s3cret" } } });
        let fields = Fields { body: body.as_object().cloned().unwrap(), ..Fields::default() };
        let credential = json!({ "bearer": { "token": "s3cret" } });
        let file = file_of(Kind::from_word("upstream"), "time", &fields, Some(credential)).unwrap();
        let text = output::documents(vec![file], true, &Format::Yaml).unwrap();
        assert_eq!(
            text,
            "kind: Upstream\nname: upstreams/time\nhttp:\n  url: http://x/mcp\nrequestTimeout: 5s\nmcp:\n  eraPolicy: legacy\n\
             credential:\n  bearer:\n    token: s3cret\n"
        );
        let read = &crate::manifest::parse("f", &text).unwrap()[0];
        assert_eq!(
            reflection::to_json(&read.message)["credential"],
            json!({ "bearer": { "token": "s3cret" } })
        );
    }
}
