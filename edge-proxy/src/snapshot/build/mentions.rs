//! The URIs that definitions mention in `_meta`, under the names by which the server exposes them.
//!
//! It must not know where definitions come from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use mcp::json;
use mcp::message::span;
use mcp::meta;
use mcp::splice::Splice;
use mcp::uri::naming;

use super::super::{Entry, Fingerprint, Table, Upstream};

/// Members of `_meta` that name a resource: of MCP Apps before they were standard, and of the OpenAI Apps SDK. MCP Apps
/// have `resourceUri` in `ui`.
const FLAT: [&str; 2] = ["ui/resourceUri", "openai/outputTemplate"];

/// The URIs of a server's upstreams that it exposes under other names than their own.
#[derive(Debug, Default)]
pub(super) struct ExposedUris(HashMap<*const Upstream, UpstreamUris>);

/// Those of one upstream.
#[derive(Debug, Default)]
struct UpstreamUris {
    /// The exposed names of resources, by their own.
    resources: BTreeMap<Box<str>, Box<str>>,
    templates: Vec<Arc<Entry>>,
}

/// Returns whether an encoded definition may mention a URI.
pub(super) fn may_mention(encoded: &[u8]) -> bool {
    ["esourceUri", "outputTemplate"]
        .iter()
        .any(|member| memchr::memmem::find(encoded, member.as_bytes()).is_some())
}

impl ExposedUris {
    /// Collects the URIs of a server.
    pub(super) fn new(resources: &Table, templates: &Table) -> ExposedUris {
        let mut all = ExposedUris::default();
        let renamed = |entry: &&Arc<Entry>| entry.exposed != entry.original;
        for entry in resources.entries.iter().filter(renamed) {
            let uris = all.0.entry(Arc::as_ptr(&entry.upstream)).or_default();
            uris.resources.entry(entry.original.clone()).or_insert_with(|| entry.exposed.clone());
        }
        for entry in templates.entries.iter().filter(renamed) {
            all.0.entry(Arc::as_ptr(&entry.upstream)).or_default().templates.push(Arc::clone(entry));
        }
        all
    }

    /// Hashes what the definitions of an upstream are translated with; 0 if with nothing.
    pub(super) fn fingerprint(&self, upstream: &Arc<Upstream>) -> u128 {
        let Some(uris) = self.0.get(&Arc::as_ptr(upstream)) else { return 0 };
        let resources = uris.resources.iter().fold(Fingerprint::new(), |hash, (original, exposed)| {
            hash.part(original.as_bytes()).part(exposed.as_bytes())
        });
        let templates = uris.templates.iter();
        templates.fold(resources, |hash, entry| hash.part(entry.exposed.as_bytes())).finish()
    }

    /// Translates the URIs that a definition of `upstream` mentions. Those that the server does not expose stay.
    pub(super) fn translate(&self, upstream: &Arc<Upstream>, definition: Bytes) -> Bytes {
        let Some(uris) = self.0.get(&Arc::as_ptr(upstream)) else { return definition };
        let mut splice = Splice::new();
        for raw in std::str::from_utf8(&definition).ok().map(mentioned).unwrap_or_default() {
            let own = json::string(raw).ok();
            if let Some(exposed) = own.and_then(|own| uris.exposed(&own)) {
                splice = splice.replace(span(&definition, raw), json::quote(&exposed));
            }
        }
        if splice.is_empty() { definition } else { splice.apply(&definition) }
    }
}

impl UpstreamUris {
    fn exposed(&self, own: &str) -> Option<String> {
        if let Some(exposed) = self.resources.get(own) {
            return Some(exposed.to_string());
        }
        self.templates.iter().find_map(|entry| {
            let exposed = naming::expose(&entry.uri_prefix, own);
            let produced = entry.template.as_ref()?.uri(&exposed)?;
            produced.is_ok().then_some(exposed)
        })
    }
}

/// The raw URIs that a definition mentions, in their order.
fn mentioned(definition: &str) -> Vec<&str> {
    let Ok([Some(meta)]) = json::members(definition, [meta::META]) else { return Vec::new() };
    let [ui, flat, template] = json::members(meta, ["ui", FLAT[0], FLAT[1]]).unwrap_or_default();
    let [nested] = ui.and_then(|ui| json::members(ui, ["resourceUri"]).ok()).unwrap_or_default();
    let mut found: Vec<_> = [nested, flat, template].into_iter().flatten().collect();
    found.sort_unstable_by_key(|raw| raw.as_ptr());
    found
}
