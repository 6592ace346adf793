//! `mcpctl wait KIND NAME… --for CONDITION`: waits until something is true of resources, which may also be named by files, by
//! labels, or as all of a kind.

mod condition;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use prost_reflect::DynamicMessage;

use self::condition::Condition;
use crate::commands::targets::{self, Named};
use crate::commands::{Invocation, get, rollout};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::{self, Format, progress::Spinner};
use crate::parse;
use crate::selection::Selection;
use crate::selector::Selector;

const DEFAULT_WAIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(500);

/// How long one look may take, whatever is left of the time.
const ONE_LOOK: Duration = Duration::from_secs(5);

/// How long edges are listened to in one look.
const ROLLOUT: Duration = Duration::from_secs(2);

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstream, server, tool, resource, prompt, token, edge or join-token; or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME", required_unless_present = "files")]
    kind: Option<String>,
    /// Names of resources; those that do not exist yet are waited for
    names: Vec<String>,
    /// Wait for the resources that are in a file, a folder (recursive), or stdin (-); repeatable
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", conflicts_with_all = ["kind", "names", "all", "selector"])]
    files: Vec<PathBuf>,
    /// Wait for all that have these labels now, such as 'team=core,env!=x,!y,k in (a,b)'
    #[arg(short = 'l', long, value_parser = Selector::parse, conflicts_with = "all")]
    selector: Option<Selector>,
    /// Wait for all of the kind that exist now; for tools, resources and prompts of an upstream, if it is named
    #[arg(long)]
    all: bool,
    /// What to wait for, for at most --timeout [default: 60s]: state=STATE, deleted, synced (every edge has it), revision=N or
    /// jsonpath='{.PATH}'=VALUE
    #[arg(long = "for", value_name = "CONDITION", value_parser = Condition::parse)]
    condition: Condition,
}

/// Runs `wait`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let selection = args.kind.as_deref().map(|kind| Selection::parse(kind, &args.names)).transpose()?;
    let named = named(selection.as_ref(), &args)?;
    let limit = invocation.timeout.unwrap_or(DEFAULT_WAIT);
    let client = ControlClient::connect(&invocation.context()?, limit.max(ONE_LOOK)).await?;
    let resources = match named {
        Some(named) => named,
        None => selected(&client, &selection.unwrap_or_default(), &args).await?,
    };
    let pending = resources.into_iter().map(|(kind, name)| Pending { kind, name, last: String::new() });
    let pending = pending.collect();
    let mut watch = Watch { client, condition: args.condition, pending, has_answered: false };
    let (started, spinner) = (Instant::now(), Spinner::start(format!("waiting for {}", watch.condition)));
    loop {
        for (held, item) in watch.look().await? {
            spinner.suspend(|| watch.print(invocation, &held, item.as_ref()))?;
        }
        if watch.pending.is_empty() {
            return Ok(());
        }
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            let shortfall = watch.shortfall();
            return Err(Error::new(
                Exit::Unavailable,
                format!("not {} within {}: {shortfall}", watch.condition, parse::proto_duration(limit)),
            ));
        }
        spinner.text(format!("waiting for {}: {}", watch.condition, watch.shortfall()));
        tokio::time::sleep(INTERVAL.min(left)).await;
    }
}

/// Returns what is named on the command line or in files; `None` if that is to be found out.
fn named(selection: Option<&Selection>, args: &Args) -> Result<Option<Vec<Named>>> {
    let check = |kind: &Kind| args.condition.check(kind);
    let named = match selection {
        None => targets::in_files(&args.files)?,
        Some(selection) if args.all || args.selector.is_some() => {
            targets::check_sweeping(selection, args.all)?;
            selection.groups().iter().try_for_each(|group| check(group.kind))?;
            return Ok(None);
        }
        Some(selection) => match selection.groups().iter().find(|group| group.names.is_empty()) {
            Some(group) => {
                let words = group.kind.words();
                return Err(Error::usage(format!(
                    "name the {words} to wait for, or add --selector or --all"
                )));
            }
            None => selection.resources()?,
        },
    };
    named.iter().try_for_each(|(kind, _)| check(kind))?;
    Ok(Some(named))
}

/// Finds out what is selected. Only for the end of all of them nothing needs to be there.
async fn selected(client: &ControlClient, selection: &Selection, args: &Args) -> Result<Vec<Named>> {
    let found = targets::selected(client, selection, args.selector.as_ref()).await?;
    match found.is_empty() && !matches!(args.condition, Condition::Deleted) {
        true => Err(Error::not_found(
            "nothing is selected; what does not exist yet is waited for by name, or with -f",
        )),
        false => Ok(found),
    }
}

/// A resource that is waited for, and what was there instead when it was last looked at.
struct Pending {
    kind: &'static Kind,
    name: String,
    last: String,
}

/// What is seen of a resource.
enum Look {
    /// What is waited for. A resource that is gone has nothing to show.
    Holds(Option<DynamicMessage>),
    /// Something else.
    Not(String),
}

struct Watch {
    client: ControlClient,
    condition: Condition,
    pending: Vec<Pending>,
    /// A control plane that has answered may be away for a while.
    has_answered: bool,
}

impl Watch {
    /// Looks at everything that is waited for. Returns what is as it should be.
    async fn look(&mut self) -> Result<Vec<(Pending, Option<DynamicMessage>)>> {
        let mut held = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            match self.look_at(pending.kind, &pending.name).await {
                Ok(Look::Holds(item)) => {
                    self.has_answered = true;
                    held.push((pending, item));
                    continue;
                }
                Ok(Look::Not(last)) => (self.has_answered, pending.last) = (true, last),
                Err(error) if self.has_answered && error.exit == Exit::Unavailable => {
                    pending.last = format!("cannot be read: {error}");
                }
                Err(error) => return Err(error),
            }
            self.pending.push(pending);
        }
        Ok(held)
    }

    async fn look_at(&self, kind: &Kind, name: &str) -> Result<Look> {
        let item = match get::one(&self.client, kind, name).await {
            Err(error) if error.exit == Exit::NotFound => {
                return Ok(match self.condition {
                    Condition::Deleted => Look::Holds(None),
                    _ => Look::Not("does not exist".to_owned()),
                });
            }
            item => item?,
        };
        let missing = match self.condition {
            Condition::Synced => self.not_synced(kind, &item).await?,
            _ => self.condition.missing(kind, &item),
        };
        Ok(missing.map_or(Look::Holds(Some(item)), Look::Not))
    }

    /// Tells which edges do not have the resource as it is.
    async fn not_synced(&self, kind: &Kind, item: &DynamicMessage) -> Result<Option<String>> {
        let revision = condition::revision(kind, item);
        match kind.name {
            "Edge" => Ok(condition::edge_behind(item)),
            _ => rollout::missing(&self.client, revision, ROLLOUT).await,
        }
    }

    fn shortfall(&self) -> String {
        let all: Vec<_> =
            self.pending.iter().map(|pending| format!("{} {}", pending.name, pending.last)).collect();
        all.join("; ")
    }

    fn print(&self, invocation: &Invocation, held: &Pending, item: Option<&DynamicMessage>) -> Result {
        let name = &held.name;
        match (invocation.format(), item) {
            (Format::Table | Format::Wide, _) => output::print(&format!("{name} {}", self.condition)),
            (Format::Name, _) | (_, None) => output::print(&output::name_line(name)),
            (format, Some(item)) => {
                output::print(&output::resources(held.kind, std::slice::from_ref(item), true, format)?)
            }
        }
    }
}
