//! `mcpctl expose --connect`: registers an upstream that dials in, and renews its tunnel credential.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use url::Url;

use crate::answers::Answers;
use crate::bridge::expose::Running;
use crate::bridge::expose::tunnel_client::TunnelClient;
use crate::commands::Invocation;
use crate::commands::register::{Consent, check, claim, patiently};
use crate::context::{Context, Secret};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result, tls};
use crate::kinds::Kind;
use crate::output::eprint;
use crate::reflection;

/// Number of tunnels to each edge URL. Behind a load balancer they usually end at different edges, and while one reconnects,
/// calls go through the other.
const TUNNELS_PER_EDGE: usize = 2;
/// Interval between attempts to renew a credential.
const RETRY: Duration = Duration::from_secs(5);

const CREATE_CREDENTIAL: &str = "trunkline.registry.v1.UpstreamService/CreateTunnelCredential";

/// The gateways to dial, and the upstream to dial for.
pub struct Tunnels {
    kind: &'static Kind,
    /// `upstreams/{upstream}`.
    name: String,
    context: Context,
    timeout: Duration,
    /// Whether the control plane was named with the command.
    is_named: bool,
    control: Url,
    edges: Vec<Url>,
}

/// A tunnel credential and its lifetime.
struct Credential {
    bearer: Secret,
    lasts: Duration,
}

impl Tunnels {
    /// Prepares tunnels to the control plane at `control` and to the edges at `edges`; both default to the context's URLs.
    pub fn new(
        invocation: &Invocation,
        register: &str,
        control: Option<String>,
        edges: &[String],
    ) -> Result<Self> {
        let kind = Kind::from_word("upstream");
        let name = kind.full_name(register)?;
        let mut context = invocation.context()?;
        let is_named = control.is_some();
        if let Some(control) = control {
            (context.control, context.other_controls) = (Some(control), Vec::new());
        }
        let path = |url: &str| tunnel_url(url, &name);
        let edges = match edges {
            [] => vec![path(context.edge_url()?)?],
            named => named.iter().map(|url| path(url)).collect::<Result<_>>()?,
        };
        let control = path(context.control_url()?)?;
        Ok(Self { kind, name, context, timeout: invocation.timeout(), is_named, control, edges })
    }

    /// Refuses before a command runs what would end it afterwards. What is wrong with a URL is said of the option that it was given
    /// with.
    pub async fn check(&self, consent: Consent) -> Result {
        let url = self.context.control_url()?;
        if self.is_named
            && let Some(what) = instead_of_a_control_plane(&Answers::at(url).await)
        {
            return Err(Error::new(
                Exit::Unavailable,
                format!("--connect {url}: no control plane is there: {what}"),
            ));
        }
        check(&self.context, &self.name, None, consent).await
    }

    /// Registers the upstream, opens the tunnels, reports the outcome and keeps the tunnels open.
    pub async fn run(self, running: &Running, label: &str, consent: Consent) -> Result {
        let (client, first) = patiently(label, async || {
            let client = self.client().await?;
            claim(&client, &self.name, None, consent).await?;
            let first = self.credential(&client).await?;
            Ok((client, first))
        })
        .await?;
        let (sender, credential) = watch::channel(first.bearer.clone());
        let refused = Arc::new(Notify::new());
        let (shared, material) = (running.shared.clone(), tls::material_of(&self.context)?);
        let tunnel_client =
            TunnelClient::new(shared, label.to_owned(), &material, credential, refused.clone())?;

        // The tunnels end with this future.
        let mut tunnels = JoinSet::new();
        let (opened, mut is_open) = watch::channel(false);
        tunnels.spawn(tunnel_client.clone().keep_open(self.control.clone(), opened));
        if tokio::time::timeout(self.timeout, is_open.wait_for(|open| *open)).await.is_ok() {
            self.refresh(&client).await;
        }
        drop(client);
        // By now the edges know the upstream. Those that do not yet are dialled again.
        for edge in self.edges.iter().flat_map(|edge| std::iter::repeat_n(edge, TUNNELS_PER_EDGE)) {
            tunnels.spawn(tunnel_client.clone().keep_open(edge.clone(), watch::Sender::new(false)));
        }
        self.renew(first.lasts, &sender, &refused).await;
        Ok(())
    }

    async fn client(&self) -> Result<ControlClient> {
        ControlClient::connect(&self.context, self.timeout).await
    }

    async fn credential(&self, client: &ControlClient) -> Result<Credential> {
        let answer = client.call(CREATE_CREDENTIAL, json!({ "name": self.name })).await?;
        let answer = reflection::to_json(&answer);
        let text = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
        let ends = OffsetDateTime::parse(&text("expireTime"), &Rfc3339)
            .map_err(|error| Error::failure(format!("the response contains no valid expiry: {error}")))?;
        let lasts = (ends - OffsetDateTime::now_utc()).try_into().unwrap_or_default();
        Ok(Credential { bearer: Secret::new(text("credential")), lasts })
    }

    /// Refreshes the catalogue. A control plane that does not hold the tunnel refreshes by itself.
    async fn refresh(&self, client: &ControlClient) {
        let refreshed = client.call(&self.kind.method("Refresh"), json!({ "name": self.name })).await;
        eprint(format!("registered as upstream {}; it stays registered when this process ends", self.id()));
        match refreshed {
            Ok(answer) => {
                if let Some(upstream) = reflection::submessage(&answer, self.kind.singular) {
                    super::upstream::report_state(&upstream);
                }
            }
            // The tunnels are open all the same.
            Err(error) => {
                eprint(format!("cannot fetch the catalogue yet: {error}. Retrying in the background"))
            }
        }
    }

    /// Renews the credential at half of its lifetime, or when it was refused, for ever.
    async fn renew(&self, lasts: Duration, credential: &watch::Sender<Secret>, refused: &Notify) {
        let mut wait = lasts / 2;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = refused.notified() => {}
            }
            let renewed = async { self.credential(&self.client().await?).await };
            wait = match renewed.await {
                Ok(renewed) => {
                    credential.send_replace(renewed.bearer);
                    renewed.lasts / 2
                }
                // The present credential may be valid for days.
                Err(error) => {
                    eprint(format!(
                        "cannot renew the tunnel credential: {error}. Retrying in the background"
                    ));
                    RETRY
                }
            };
            tokio::time::sleep(RETRY).await;
        }
    }

    fn id(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// Says what is at the URL of `--connect`, where that is certainly no control plane, nor what is before one.
fn instead_of_a_control_plane(found: &Answers) -> Option<String> {
    match found {
        Answers::Edge => Some(
            "that is the port of an edge for clients; use --connect with the URL of the control plane, and --edge with that one"
                .to_owned(),
        ),
        Answers::EdgeOperations | Answers::Tls => found.instead_of_a_control_plane(),
        _ => None,
    }
}

/// Returns the URL that tunnels of an upstream are opened at.
fn tunnel_url(url: &str, name: &str) -> Result<Url> {
    let wrong = |why: String| Error::usage(format!("invalid URL {url}: {why}"));
    let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong("the scheme must be http or https".to_owned()));
    }
    let id = name.rsplit('/').next().unwrap_or_default();
    Url::parse(&format!("{}/tunnels/{id}", url.trim_end_matches('/'))).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_opened_below_the_url_of_the_gateway() {
        let at = |url: &str| tunnel_url(url, "upstreams/notes").map(|url| url.to_string());
        assert_eq!(at("http://127.0.0.1:4445").unwrap(), "http://127.0.0.1:4445/tunnels/notes");
        assert_eq!(at("https://gw.example.com/mcp/").unwrap(), "https://gw.example.com/mcp/tunnels/notes");
        for wrong in ["ws://a", "a", "ftp://a"] {
            assert_eq!(at(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
