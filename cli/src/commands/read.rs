//! `mcpctl read SERVER [URI]`: reads a resource of a server through the edge, or lists them.

use std::io::{IsTerminal as _, Write as _};

use mcp::client::ClientError;
use mcp::error::{INVALID_PARAMS, METHOD_NOT_FOUND, RESOURCE_NOT_FOUND};
use mcp::json::{self, JsonError, quote};
use mcp::method::Method;

use crate::client::caller::Wanted;
use crate::client::conversation::Conversation;
use crate::client::media::{MediaFlags, MediaPrinter, Medium};
use crate::client::search::{self, Lookup};
use crate::client::session::{EdgeSession, Inquiry, Opening, SessionFlags};
use crate::client::{answer, signature};
use crate::commands::Invocation;
use crate::error::{Error, Result};
use crate::output;
use crate::output::progress::Spinner;

const MAX_RESOURCES: usize = 100_000;

/// Arguments of `read`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    /// URI of the resource as clients see it, or its upstream's own if it is unique on the server [default: list all]
    uri: Option<String>,
    #[command(flatten)]
    media: MediaFlags,
    #[command(flatten)]
    session: SessionFlags,
}

/// Runs `read`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let Some(uri) = &args.uri else { return list(invocation, &args).await };
    let spinner = Spinner::start(format!("reading {uri}"));
    let opening = Opening::new(invocation, &args.server, &args.session, Wanted::Resource(uri)).await?;
    let look = async |session: &EdgeSession| find(invocation, session, uri, &spinner).await;
    let (session, result) = search::find(invocation, opening, look).await?;
    session.mcp.close().await;
    drop(spinner);
    let printer = MediaPrinter::new(&args.media, uri.rsplit('/').next().unwrap_or_default());
    if invocation.format().is_for_people() {
        return print(&result, &printer);
    }
    answer::print(invocation, &result, str::to_owned)?;
    parts(&result)?
        .iter()
        .filter_map(|part| Medium::of_resource(part))
        .try_for_each(|medium| printer.save_beside(&medium))
}

/// Reads a resource by the URI that clients see, or else by its upstream's own.
async fn find(
    invocation: &Invocation,
    session: &EdgeSession,
    uri: &str,
    spinner: &Spinner,
) -> Result<Lookup<String>> {
    let missing = match read(session, uri, spinner).await {
        Ok(result) => return Ok(Lookup::Found(result)),
        Err(error) if is_not_found(&error) => error,
        Err(error) => return Err(session.explain(error)),
    };
    let uris: Vec<_> = definitions(session).await?.iter().map(|definition| address(definition)).collect();
    match search::meant(invocation, &session.server.name, Wanted::Resource(uri), &uris).await? {
        Some(meant) if meant == uri => Err(session.explain(missing)),
        Some(meant) => {
            read(session, &meant, spinner).await.map(Lookup::Found).map_err(|error| session.explain(error))
        }
        None => Ok(Lookup::Missing(uris)),
    }
}

async fn read(
    session: &EdgeSession,
    uri: &str,
    spinner: &Spinner,
) -> std::result::Result<String, ClientError> {
    let params = format!(r#"{{"uri":{}}}"#, quote(uri));
    let inquiry = Inquiry::reading(Method::ResourcesRead, &params);
    session.ask(inquiry, &mut Conversation::beside(spinner)).await
}

/// Whether a server has no such resource, in the words of either era.
fn is_not_found(error: &ClientError) -> bool {
    match error {
        ClientError::Rpc { code: RESOURCE_NOT_FOUND, .. } => true,
        ClientError::Rpc { code: INVALID_PARAMS, message, .. } => message.contains("not found"),
        ClientError::Unsupported | ClientError::Rpc { code: METHOD_NOT_FOUND, .. } => true,
        _ => false,
    }
}

async fn definitions(session: &EdgeSession) -> Result<Vec<String>> {
    let mut definitions = Vec::new();
    for method in [Method::ResourcesList, Method::ResourcesTemplatesList] {
        definitions.extend(session.list_if_offered(method, MAX_RESOURCES).await?);
    }
    Ok(definitions)
}

async fn list(invocation: &Invocation, args: &Args) -> Result {
    let session = EdgeSession::open(invocation, &args.server, &args.session, Wanted::Anything).await?;
    let definitions = definitions(&session).await?;
    session.mcp.close().await;
    if definitions.is_empty() {
        output::eprint(format!(
            "server {} has no resources that {} may read",
            session.server.name, session.caller
        ));
    }
    answer::print_list(invocation, &definitions, address, |definition| {
        let [name, text] = json::members(definition, ["name", "description"]).unwrap_or_default();
        let said = [signature::first_line(name), signature::first_line(text)];
        let said: Vec<_> = said.into_iter().filter(|text| !text.is_empty()).collect();
        (printable::line(&address(definition)).into_owned(), said.join(": "))
    })
}

fn address(definition: &str) -> String {
    let [uri, template] = json::members(definition, ["uri", "uriTemplate"]).unwrap_or_default();
    signature::text(uri.or(template))
}

/// The contents of a resource, raw.
fn parts(result: &str) -> Result<Vec<String>> {
    let [contents] = json::members(result, ["contents"]).unwrap_or_default();
    let mut parts = Vec::new();
    let read = json::each_element(contents.unwrap_or("[]"), |raw| {
        parts.push(raw.to_owned());
        Ok::<(), JsonError>(())
    });
    read.map_err(|error| Error::failure(format!("the result cannot be read: {error}; use -o json")))?;
    Ok(parts)
}

/// Prints the contents of a resource: texts safely on a terminal, and everything byte for byte elsewhere.
fn print(result: &str, printer: &MediaPrinter<'_>) -> Result {
    for part in parts(result)? {
        match Medium::of_resource(&part) {
            Some(medium) if printer.saves() || std::io::stdout().is_terminal() => printer.print(&medium)?,
            Some(medium) => print_bytes(&medium.bytes()?)?,
            None => {
                let [text] = json::members(&part, ["text"]).unwrap_or_default();
                match text.and_then(signature::readable) {
                    Some(text) => output::print_content(&text)?,
                    // What cannot be read is shown as it came.
                    None => output::print(&printable::line(&part))?,
                }
            }
        }
    }
    Ok(())
}

fn print_bytes(bytes: &[u8]) -> Result {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
