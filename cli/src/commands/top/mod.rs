//! `mcpctl top`: who is called how often, and how that ends.

mod sums;

use std::io::IsTerminal as _;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use self::sums::{Rate, Sums};
use crate::commands::watching::{self, Absence};
use crate::commands::{Invocation, get};
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::kinds::{Kind, short_name};
use crate::output::{self, Format, table};
use crate::parse;
use crate::reflection;

/// Rates are of this time and of what there is of the minute before it: calls are summed by minute.
const RATE_OVER: Duration = Duration::from_secs(4 * 60);

const INTERVAL: Duration = Duration::from_secs(2);

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the calls are summed up by
    #[arg(value_enum, default_value_t)]
    by: SummedBy,
    /// Keep running, for --timeout if that is given: shown anew on a terminal, and appended elsewhere
    #[arg(short, long)]
    watch: bool,
}

/// What calls can be summed up by. Those of edges are not told apart: it is how they keep up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum SummedBy {
    #[default]
    #[value(alias = "upstream")]
    Upstreams,
    #[value(alias = "server")]
    Servers,
    #[value(alias = "token")]
    Tokens,
    #[value(alias = "edge")]
    Edges,
}

impl SummedBy {
    fn kind(self) -> &'static Kind {
        Kind::from_word(match self {
            Self::Upstreams => "upstreams",
            Self::Servers => "servers",
            Self::Tokens => "tokens",
            Self::Edges => "edges",
        })
    }
}

/// Runs `top`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let client = invocation.client().await?;
    let first = look(invocation, &client, args.by).await?;
    match args.watch {
        false => output::print(&first),
        true => watching::until_over(invocation, watch(invocation, &client, args.by, first)).await,
    }
}

/// Shows what there is again and again, until nobody reads any more.
async fn watch(invocation: &Invocation, client: &ControlClient, by: SummedBy, first: String) -> Result {
    let is_table = matches!(invocation.format(), Format::Table | Format::Wide);
    let in_place = is_table && std::io::stdout().is_terminal();
    let between = if *invocation.format() == Format::Yaml { "---\n" } else { "\n" };
    let (mut text, mut absence) = (first, Absence::default());
    loop {
        match in_place {
            true => output::print_anew(&text)?,
            false if !output::print_while_open(&text)? => return Ok(()),
            false => {}
        }
        text = loop {
            tokio::time::sleep(INTERVAL).await;
            if let Some(text) = absence.pass(look(invocation, client, by).await)? {
                break if in_place { text } else { format!("{between}{text}") };
            }
        };
    }
}

async fn look(invocation: &Invocation, client: &ControlClient, by: SummedBy) -> Result<String> {
    let kind = by.kind();
    let items = get::all_pages(client, kind, Map::new()).await?;
    let format = invocation.format();
    if by == SummedBy::Edges {
        return output::resources(kind, &items, false, format);
    }
    let known = items.iter().map(|item| (reflection::text(item, "name"), state(item)));
    let now = OffsetDateTime::now_utc();
    let since = sums::minute(now - RATE_OVER);
    let recent = usage(client, Some(since)).await?;
    let rows =
        sums::rows(kind, known.collect(), &usage(client, None).await?, &Rate::new(&recent, now - since));
    render(&rows, format)
}

async fn usage(client: &ControlClient, since: Option<OffsetDateTime>) -> Result<Vec<Value>> {
    let since = since.and_then(|since| parse::Expiry::At(since).timestamp(since));
    let request = since.map_or_else(|| json!({}), |since| json!({ "startTime": since }));
    let answer = client.call("trunkline.telemetry.v1.UsageService/QueryUsage", request).await?;
    Ok(reflection::submessages(&answer, "records").iter().map(reflection::to_json).collect())
}

fn state(item: &DynamicMessage) -> String {
    let (state, _) = reflection::state(item);
    if state == "unspecified" { String::new() } else { state }
}

fn render(rows: &[Sums], format: &Format) -> Result<String> {
    match format {
        Format::Name => Ok(rows.iter().map(|row| output::name_line(&row.name)).collect()),
        _ => output::value(&rows, format, || render_table(rows)),
    }
}

fn render_table(rows: &[Sums]) -> String {
    let titles = ["NAME", "STATE", "CALLS/MIN", "ERRORS/MIN", "CALLS", "ERRORS", "MEAN MS"];
    let cells = rows.iter().map(|row| {
        let mut cells = vec![short_name(&row.name), row.state.clone()];
        cells.extend([row.calls_a_minute, row.errors_a_minute].map(|rate| format!("{rate:.1}")));
        cells.extend([row.calls, row.errors].map(|number| number.to_string()));
        cells.push(format!("{:.1}", row.mean_ms));
        cells
    });
    table::render_rows(titles.map(str::to_owned).to_vec(), cells)
}
