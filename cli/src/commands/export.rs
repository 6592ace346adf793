//! `mcpctl export [NOUN…]`: resources as files that `apply` reads, without secrets.

use crate::commands::Session;
use crate::contract;
use crate::error::Result;
use crate::manifest;
use crate::nouns::{NOUNS, Noun};
use crate::output::{self, Format};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What; all but the catalogue where none is named
    #[arg(value_parser = Noun::parser(), hide_possible_values = true)]
    nouns: Vec<&'static Noun>,
}

/// Runs `export`.
pub async fn run(session: &Session, args: Args) -> Result {
    let client = session.client().await?;
    let kinds: Vec<_> = args.nouns.iter().map(|noun| noun.kind).collect();
    let request = serde_json::json!({ "kinds": kinds });
    let mut stream = client.stream("trunkline.admin.v1.BulkService/ExportResources", request).await?;
    let mut documents = Vec::new();
    let mut revision = 0;
    while let Some(answer) = stream.message().await.map_err(|status| client.explain(&status))? {
        revision = contract::number(&answer, "revision");
        let Some(manifest) = contract::part(&answer, "manifest") else { continue };
        let found = NOUNS.iter().find_map(|noun| Some((noun, contract::part(&manifest, noun.manifest?)?)));
        if let Some((noun, resource)) = found {
            documents.push(manifest::wanted(noun, &resource));
        }
    }
    let count = documents.len();
    let format = if session.format() == Format::Json { Format::Json } else { Format::Yaml };
    output::out(&output::documents(documents, false, format)?)?;
    output::say(format!("{count} resources at revision {revision}; secrets are not among them"));
    Ok(())
}
