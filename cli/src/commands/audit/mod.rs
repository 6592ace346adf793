//! `mcpctl audit`: who changed what, who was refused what, and who signed in; and whether the log is what was written.

mod filter;
mod record;
mod verify;

use std::time::Duration;

use clap::Subcommand;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use self::filter::FilterArgs;
use self::record::RecordColumns;
use crate::commands::Invocation;
use crate::commands::watching::{self, Absence};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output::{self, Format};
use crate::reflection;

const SERVICE: &str = "trunkline.admin.v1.AuditService";
/// Records that are asked for at a time.
const PAGE: usize = 1_000;
const INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<AuditVerb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Show one record, with what there was before and is after
    Show(ShowArgs),
    /// Look whether any record was changed, removed or moved; exits with 0 (none) or 1
    Verify,
    /// Print records as JSON lines, the oldest first
    Export(FilterArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Show so many of the last records
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    tail: usize,
    /// Keep running, for --timeout if that is given, and print what comes
    #[arg(short, long)]
    follow: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Number of the record
    sequence: u64,
}

/// Runs `audit`. Returns the exit code.
pub async fn run(invocation: &Invocation, args: Args) -> Result<u8> {
    match args.verb {
        None => list(invocation, args.list).await.map(|()| 0),
        Some(AuditVerb::Show(args)) => show(invocation, args).await.map(|()| 0),
        Some(AuditVerb::Verify) => verify::run(invocation).await,
        Some(AuditVerb::Export(filter)) => export(invocation, &filter).await.map(|()| 0),
    }
}

async fn list(invocation: &Invocation, args: ListArgs) -> Result {
    if args.follow && *invocation.format() == Format::Name {
        return Err(output::unfit(invocation.format()));
    }
    let client = invocation.client().await?;
    let filter = args.filter.to_json();
    let found = last(&client, &filter, args.tail).await?;
    let mut columns = RecordColumns::new(*invocation.format() == Format::Wide);
    if !args.follow && found.is_empty() && invocation.format().is_for_people() {
        // A name that is mistyped must not look like one that did nothing.
        output::eprint("no records");
        return Ok(());
    }
    if !args.follow {
        return output::print(&render_all(&found, invocation.format(), &mut columns)?);
    }
    watching::until_over(invocation, follow(invocation, &client, filter, found, columns)).await
}

/// The last records that match, the newest last.
async fn last(client: &ControlClient, filter: &Value, most: usize) -> Result<Vec<DynamicMessage>> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    while found.len() < most {
        let size = PAGE.min(most - found.len());
        let request = json!({ "filter": filter, "pageSize": size, "pageToken": page_token });
        let page =
            client.call(&format!("{SERVICE}/ListAuditRecords"), request).await.map_err(Error::in_options)?;
        found.extend(reflection::submessages(&page, "records"));
        page_token = reflection::text(&page, "next_page_token");
        if page_token.is_empty() {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

/// Prints what there is, and then what comes, until nobody reads any more.
async fn follow(
    invocation: &Invocation,
    client: &ControlClient,
    mut filter: Value,
    mut found: Vec<DynamicMessage>,
    mut columns: RecordColumns,
) -> Result {
    let mut absence = Absence::default();
    // Of nothing there is no last one: what comes is after what there is of all.
    let newest = match found.last() {
        Some(newest) => reflection::number(newest, "sequence"),
        None => {
            last(client, &json!({}), 1).await?.last().map_or(0, |last| reflection::number(last, "sequence"))
        }
    };
    let mut after = newest;
    loop {
        if !found.is_empty()
            && !output::print_while_open(&render_each(&found, invocation.format(), &mut columns)?)?
        {
            return Ok(());
        }
        found = loop {
            tokio::time::sleep(INTERVAL).await;
            filter["afterSequence"] = after.to_string().into();
            // What came in between is not left out, however much it is.
            if let Some(found) = absence.pass(last(client, &filter, usize::MAX).await)? {
                break found;
            }
        };
        after = found.last().map_or(after, |last| reflection::number(last, "sequence"));
    }
}

fn render_all(found: &[DynamicMessage], format: &Format, columns: &mut RecordColumns) -> Result<String> {
    match format {
        Format::Table | Format::Wide => Ok(columns.table(found)),
        Format::Template(_) | Format::Columns(_) => {
            let values: Vec<_> = found.iter().map(reflection::to_queried_json).collect();
            output::value(&values, format, String::new)
        }
        _ => output::documents(found.iter().map(reflection::fields).collect(), false, format),
    }
}

fn render_each(found: &[DynamicMessage], format: &Format, columns: &mut RecordColumns) -> Result<String> {
    match format {
        Format::Table | Format::Wide => Ok(columns.rows(found)),
        Format::Json => found.iter().map(json_line).collect(),
        _ => {
            let each = found.iter().map(|record| output::message(record, format, String::new));
            let joint = if *format == Format::Yaml { "---\n" } else { "" };
            Ok(each.collect::<Result<Vec<_>>>()?.into_iter().map(|text| format!("{joint}{text}")).collect())
        }
    }
}

/// A record as the contract has it, in one line: with what its hash is over.
fn json_line(record: &DynamicMessage) -> Result<String> {
    let text = serde_json::to_string(&reflection::to_json(record))
        .map_err(|error| Error::failure(error.to_string()))?;
    Ok(printable::json(&text).into_owned() + "\n")
}

async fn export(invocation: &Invocation, filter: &FilterArgs) -> Result {
    if !matches!(invocation.format, None | Some(Format::Json)) {
        return Err(Error::usage("an export is of JSON lines; leave -o out"));
    }
    let client = invocation.client().await?;
    let request = json!({ "filter": filter.to_json() });
    let mut stream =
        client.stream(&format!("{SERVICE}/ExportAudit"), request).await.map_err(Error::in_options)?;
    while let Some(part) = stream.message().await.map_err(|status| client.explain(&status))? {
        let lines: String =
            reflection::submessages(&part, "records").iter().map(json_line).collect::<Result<_>>()?;
        if !output::print_while_open(&lines)? {
            return Ok(());
        }
    }
    Ok(())
}

async fn show(invocation: &Invocation, args: ShowArgs) -> Result {
    let client = invocation.client().await?;
    let missing = || {
        Error::not_found(format!(
            "there is no audit record {}; `mcpctl audit` shows the last ones",
            args.sequence
        ))
    };
    let before = args.sequence.checked_sub(1).ok_or_else(missing)?;
    let request = json!({ "filter": { "afterSequence": before.to_string() } });
    let mut stream = client.stream(&format!("{SERVICE}/ExportAudit"), request).await?;
    let part = stream.message().await.map_err(|status| client.explain(&status))?.ok_or_else(missing)?;
    let records = reflection::submessages(&part, "records");
    let found = records.first().filter(|found| {
        u64::try_from(reflection::number(found, "sequence")).is_ok_and(|found| found == args.sequence)
    });
    let found = found.ok_or_else(missing)?;
    output::print(&output::message(found, invocation.format(), || record::in_full(found))?)
}
