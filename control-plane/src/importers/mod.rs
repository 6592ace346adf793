//! Importers: a folder for each kind of upstream, which probes it, fetches its catalogue and watches it for changes.
//!
//! It must not know what is stored, or when an upstream is due.

mod liveness;
mod mcp;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::mcp::quirk::Quirk;
use ::mcp::secrets::Secrets;
use egress::CheckedResolver;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use trunkline::registry::v1::upstream::Kind as UpstreamKind;
use trunkline::registry::v1::{Credential, ProbeAttempt, ProbeReport, Upstream, UpstreamState};
use tunnel::Tunnels;

use crate::domain::upstream;

pub(crate) use liveness::is_listening;

/// The names of lists, as `ListStatus.list` has them.
pub(crate) const TOOLS: &str = "tools/list";
pub(crate) const RESOURCES: &str = "resources/list";
pub(crate) const TEMPLATES: &str = "resources/templates/list";
pub(crate) const PROMPTS: &str = "prompts/list";

/// The reason why an upstream that dials in cannot be reached.
pub(crate) const NO_TUNNEL: &str =
    "no tunnel is open; check that `mcpctl expose --connect` is running at the upstream";

/// The reason why an upstream cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) state: UpstreamState,
    pub(crate) reason: String,
    /// The attempts, where any were made.
    pub(crate) attempts: Vec<ProbeAttempt>,
}

impl Failure {
    /// Before anything was tried.
    pub(crate) fn new(state: UpstreamState, reason: impl Into<String>) -> Self {
        Self { state, reason: reason.into(), attempts: Vec::new() }
    }
}

/// The result of a probe.
#[derive(Debug, Clone)]
pub(crate) struct Probed {
    pub(crate) report: ProbeReport,
    pub(crate) attempts: Vec<ProbeAttempt>,
}

/// The lists that are to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListSelection {
    /// Every list that the upstream has.
    All,
    /// Those of these names, and nothing is said of the others.
    Only(BTreeSet<String>),
}

impl ListSelection {
    /// Tells whether a list is to be fetched.
    pub(crate) fn has(&self, list: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(list),
        }
    }
}

/// The lists of an upstream, and the quirks that were met while they were read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lists {
    pub(crate) tools: FetchedList,
    pub(crate) resources: FetchedList,
    pub(crate) templates: FetchedList,
    pub(crate) prompts: FetchedList,
    /// As [`described`] has them.
    pub(crate) quirks: BTreeMap<String, String>,
    /// What the upstream was sent, and what quotes of its entries must not hold.
    pub(crate) secrets: Arc<Secrets>,
}

/// A list, as far as it was read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct FetchedList {
    /// Whether it was asked for. Otherwise the upstream has none, or it was not selected.
    pub(crate) asked: bool,
    /// Its entries, each as MCP describes it.
    pub(crate) entries: Vec<String>,
    /// Why there are no more entries than those. `None`: the list was read to its end.
    pub(crate) trouble: Option<String>,
}

impl Lists {
    /// Each list with its name.
    pub(crate) fn each(&self) -> [(&'static str, &FetchedList); 4] {
        [
            (TOOLS, &self.tools),
            (RESOURCES, &self.resources),
            (TEMPLATES, &self.templates),
            (PROMPTS, &self.prompts),
        ]
    }
}

/// The lists that an upstream announced changes of since the last import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) tools: bool,
    pub(crate) resources: bool,
    pub(crate) prompts: bool,
}

impl Announced {
    /// Adds what was announced later.
    pub(crate) fn merge(&mut self, later: Self) {
        self.tools |= later.tools;
        self.resources |= later.resources;
        self.prompts |= later.prompts;
    }
}

/// Announcements of changed lists. The stream ends where no more can be heard.
pub(crate) type Announcements = BoxStream<'static, Announced>;

/// Imports from one upstream.
pub(crate) trait Importer: Send + Sync {
    /// Finds out what the upstream is, and begins a session.
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn ImportSession>, Failure>>;
}

/// A session with an upstream that was found to be usable.
pub(crate) trait ImportSession: Send + Sync {
    /// Returns the result of the probe that the session began with.
    fn probed(&self) -> &Probed;
    /// Fetches what is selected of what it offers. A list that fails takes nothing from the others; it is an error where all
    /// fail, or where one of a few that are selected cannot be asked for at all.
    fn fetch<'a>(&'a self, selection: &'a ListSelection) -> BoxFuture<'a, Result<Lists, Failure>>;
    /// Listens for announced changes. `None` where the upstream announces none.
    fn watch(&self) -> BoxFuture<'_, Option<Announcements>>;
    /// Ends it, as well as that goes.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A quirk's name, and what it is: as `ProbeReport` has them. `first` is what was met first, safe to print; empty where
/// nothing is to be said.
pub(crate) fn described(quirk: Quirk, first: &str) -> (String, String) {
    let detail = match first {
        "" => quirk.text().to_owned(),
        first => format!("{}; first: {first}", quirk.text()),
    };
    (quirk.as_str().to_owned(), detail)
}

/// Builds the importer of an upstream, for its kind. `credential` holds its secrets in the clear; `tunnels` lead to those
/// that dial in, and `resolver` finds the addresses of all others.
pub(crate) fn importer(
    upstream: &Upstream,
    credential: Option<&Credential>,
    tunnels: &Arc<Tunnels>,
    resolver: &Arc<CheckedResolver>,
) -> Result<Box<dyn Importer>, Failure> {
    match upstream::kind(upstream) {
        UpstreamKind::Mcp(kind) => {
            let endpoint = mcp::endpoint(upstream, credential, tunnels, resolver)?;
            Ok(Box::new(mcp::McpImporter::new(endpoint, kind.era_policy())))
        }
    }
}
