//! Probes an MCP server: the transports, eras and revisions that it speaks.

use mcp::client::{Attempt, Endpoint, Findings, Probe, QuirkNote, probe, probe_modern};
use trunkline::registry::v1::{EraPolicy, LegacyEra, ModernEra, ProbeAttempt, ProbeReport};

use super::{Failure, Probed, failed, incompatible, info};
use crate::clock;
use crate::importers::described;

/// Finds out what a server is.
pub(super) async fn probe_server(endpoint: &Endpoint, policy: EraPolicy) -> Result<(Probed, Probe), Failure> {
    let Findings { attempts, verdict, quirks } = match policy {
        EraPolicy::Modern => probe_modern(endpoint, &info()).await,
        _ => probe(endpoint, &info()).await,
    };
    let attempts: Vec<ProbeAttempt> = attempts.iter().map(attempt).collect();
    let found = verdict.map_err(|error| failed(&error));
    match found.and_then(|found| check_era(&found, policy).map(|()| found)) {
        Ok(found) => Ok((Probed { report: report(&found, quirks), attempts }, found)),
        Err(failure) => Err(Failure { attempts, ..failure }),
    }
}

fn check_era(found: &Probe, policy: EraPolicy) -> Result<(), Failure> {
    match policy {
        EraPolicy::Modern if found.modern.is_none() => {
            Err(incompatible("it does not speak the modern era, which the era policy requires"))
        }
        EraPolicy::Legacy if found.legacy.is_none() => {
            Err(incompatible("it does not speak the legacy era, which the era policy requires"))
        }
        _ => Ok(()),
    }
}

fn report(found: &Probe, quirks: Vec<QuirkNote>) -> ProbeReport {
    let (quirks, quirk_details) = quirks.iter().map(|note| described(note.quirk, &note.first)).unzip();
    ProbeReport {
        transport: found.transport.as_str().to_owned(),
        quirks,
        quirk_details,
        modern: found.modern.as_ref().map(|side| ModernEra {
            versions: side.versions.iter().map(|version| version.as_str().to_owned()).collect(),
            capabilities_json: side.capabilities.clone(),
        }),
        legacy: found.legacy.as_ref().map(|side| LegacyEra {
            version: side.version.as_str().to_owned(),
            capabilities_json: side.capabilities.clone(),
            sessionful: side.sessionful,
        }),
        server_name: found.server_name.clone(),
        server_version: found.server_version.clone(),
        instructions: found.instructions.clone().unwrap_or_default(),
        probe_time: Some(clock::timestamp(clock::now_us())),
    }
}

fn attempt(tried: &Attempt) -> ProbeAttempt {
    let (quirks, quirk_details) = tried.quirks.iter().map(|note| described(note.quirk, &note.first)).unzip();
    ProbeAttempt {
        quirks,
        quirk_details,
        transport: tried.transport.as_str().to_owned(),
        handshake: tried.handshake.as_str().to_owned(),
        error: tried.error.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
