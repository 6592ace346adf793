//! `mcpctl create KIND NAME …`: creates a resource.

use std::time::Duration;

use clap::Subcommand;
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::Invocation;
use crate::commands::fields::{EntryFlags, Fields, ServerFlags, TokenFlags, UpstreamFlags};
use crate::context::{SavedToken, Secret};
use crate::error::{Error, Result};
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
    /// Check everything, and store nothing
    #[arg(long, global = true)]
    dry_run: bool,
}

#[derive(Debug, Subcommand)]
enum Target {
    /// An upstream: an MCP server to take tools, resources and prompts from
    #[command(visible_alias = "upstreams")]
    Upstream {
        /// Its id
        name: String,
        #[command(flatten)]
        flags: UpstreamFlags,
        /// Do not wait for the first probe and import
        #[arg(long)]
        no_wait: bool,
    },
    /// A virtual server: what clients connect to
    #[command(visible_alias = "servers")]
    Server {
        /// Its id
        name: String,
        #[command(flatten)]
        flags: ServerFlags,
    },
    /// A token: the right of a client to call servers. Its bearer is shown once
    #[command(visible_alias = "tokens")]
    Token {
        /// Its id
        name: String,
        #[command(flatten)]
        flags: TokenFlags,
        /// Do not keep the bearer in the context file (`call`, `connect` and `client-config` look there)
        #[arg(long)]
        no_save: bool,
    },
    /// A tool that an upstream does not list itself
    Tool(Entry),
    /// A resource that an upstream does not list itself
    Resource(Entry),
    /// A prompt that an upstream does not list itself
    Prompt(Entry),
    /// A join token, with which edges enrol. It is shown once
    JoinToken {
        /// How long edges may enrol with it [default: 1h]
        #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
        ttl: Option<Duration>,
        /// How many edges may enrol with it [default: any number]
        #[arg(long, value_name = "N")]
        max_uses: Option<u32>,
    },
}

#[derive(Debug, clap::Args)]
struct Entry {
    /// UPSTREAM/NAME
    name: String,
    #[command(flatten)]
    flags: EntryFlags,
}

/// Runs `create`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let creator = Creator { invocation, validate_only: args.dry_run };
    match args.target {
        Target::Upstream { name, flags, no_wait } => creator.upstream(&name, &flags, no_wait).await,
        Target::Server { name, flags } => creator.plain("server", &name, flags.fields()).await,
        Target::Token { name, flags, no_save } => creator.token(&name, &flags, no_save).await,
        Target::Tool(entry) => creator.plain("tool", &entry.name, entry.flags.fields()?).await,
        Target::Resource(entry) => creator.plain("resource", &entry.name, entry.flags.fields()?).await,
        Target::Prompt(entry) => creator.plain("prompt", &entry.name, entry.flags.fields()?).await,
        Target::JoinToken { ttl, max_uses } => creator.join_token(ttl, max_uses).await,
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
        self.invocation.client().await?.call(&kind.method("Create"), Value::Object(request)).await
    }

    /// Prints the created resource in the requested format, or else a line with its name.
    fn show(&self, kind: &Kind, answer: &DynamicMessage) -> Result<DynamicMessage> {
        let item = reflection::submessage(answer, kind.singular)
            .ok_or_else(|| Error::failure(format!("the answer holds no {}", kind.singular)))?;
        let done = if self.validate_only { "valid, not created (--dry-run)" } else { "created" };
        match self.invocation.format {
            Some(format) => {
                output::print(&output::resources(kind, std::slice::from_ref(&item), true, format)?)?
            }
            None => output::print(&format!("{} {done}", reflection::text(&item, "name")))?,
        }
        Ok(item)
    }

    async fn plain(&self, kind: &str, name: &str, fields: Fields) -> Result {
        let kind = Kind::from_word(kind);
        let answer = self.send(kind, name, fields, Value::Null).await?;
        let item = self.show(kind, &answer)?;
        let status = reflection::to_json(&item);
        for member in status["status"]["unresolved"].as_array().into_iter().flatten() {
            output::eprint(format!("note: {member} selects nothing at present"));
        }
        Ok(())
    }

    async fn upstream(&self, name: &str, flags: &UpstreamFlags, no_wait: bool) -> Result {
        if flags.url.is_none() {
            return Err(Error::usage(
                "--url is missing: where does the upstream answer? such as --url http://127.0.0.1:9000/mcp",
            ));
        }
        let kind = Kind::from_word("upstream");
        let spinner = Spinner::start(format!("probing {name}"));
        let answer = self.send(kind, name, flags.fields()?, json!({ "noWait": no_wait })).await;
        drop(spinner);
        let item = self.show(kind, &answer?)?;
        if !self.validate_only && !no_wait {
            super::upstream::report_state(&item);
        }
        Ok(())
    }

    async fn token(&self, name: &str, flags: &TokenFlags, no_save: bool) -> Result {
        let kind = Kind::from_word("token");
        if flags.servers.is_empty() {
            return Err(Error::usage("--server is missing: which server may the token call? * is every one"));
        }
        let answer = self.send(kind, name, flags.fields_for_creation(), Value::Null).await?;
        let bearer = reflection::text(&answer, "bearer");
        if self.validate_only {
            return self.show(kind, &answer).map(drop);
        }
        let item = reflection::submessage(&answer, kind.singular)
            .ok_or_else(|| Error::failure("the answer holds no token"))?;
        // Printed before saving, so that a failure to save does not lose it.
        self.show_token(kind, &item, &bearer)?;
        if no_save {
            return Ok(());
        }
        save_token(self.invocation, &item, &bearer)?;
        output::eprint(format!(
            "saved in {}, for call, connect and client-config",
            self.invocation.context_file.path().display()
        ));
        Ok(())
    }

    fn show_token(&self, kind: &Kind, item: &DynamicMessage, bearer: &str) -> Result {
        match self.invocation.format {
            Some(format @ (Format::Json | Format::Yaml)) => {
                let mut document = reflection::document(kind.name, item);
                document.insert("bearer".into(), bearer.into());
                output::print(&output::documents(vec![document], true, format)?)
            }
            Some(format) => {
                output::print(&output::resources(kind, std::slice::from_ref(item), true, format)?)?;
                output::eprint(format!("bearer, shown once: {bearer}"));
                Ok(())
            }
            None => {
                output::eprint(format!(
                    "{} created; its bearer is shown once:",
                    reflection::text(item, "name")
                ));
                output::print(bearer)
            }
        }
    }

    async fn join_token(&self, ttl: Option<Duration>, max_uses: Option<u32>) -> Result {
        let mut request = Map::new();
        request.extend(ttl.map(|ttl| ("ttl".to_owned(), parse::proto_duration(ttl).into())));
        request.extend(max_uses.map(|uses| ("maxUses".to_owned(), uses.into())));
        let client = self.invocation.client().await?;
        let method = "trunkline.discovery.v1.EnrollmentService/CreateJoinToken";
        let answer = client.call(method, Value::Object(request)).await?;
        match self.invocation.format {
            Some(format @ (Format::Json | Format::Yaml)) => output::print(&output::message(&answer, format)?),
            _ => output::print(&reflection::text(&answer, "join_token")),
        }
    }
}

/// Saves the bearer of a token in the context file.
pub fn save_token(invocation: &Invocation, token: &DynamicMessage, bearer: &str) -> Result {
    let scope = reflection::to_json(token);
    let servers = scope["scope"]["servers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let saved = SavedToken { bearer: Secret::new(bearer), servers: servers.map(short_name).collect() };
    invocation.context_file.save_token(&short_name(&reflection::text(token, "name")), saved)
}
