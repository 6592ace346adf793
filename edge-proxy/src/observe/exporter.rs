//! The metrics in the text format of Prometheus, through OpenTelemetry.

use std::sync::Arc;

use egress::Class;
use inbound::{BodyBudget, CloseReason, Connections};
use mcp::quirk::Quirk;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use prometheus::{Encoder as _, Registry, TextEncoder};

use super::Metrics;
use super::metrics::{
    ApprovalOutcome, Bound, CloseReason as SessionCloseReason, ConnectionTransport, DeliveryOutcome,
    LimitRefusal, Rejection, UpstreamFault,
};
use trunkline::telemetry::v1::UsageOutcome as Outcome;

use crate::os::clock;

/// An exporter that reads the metrics whenever they are requested.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
    _provider: SdkMeterProvider,
}

/// Readers of values that `Metrics` does not hold.
pub struct SnapshotReaders {
    /// Reads the time of the last contact with a control plane, in seconds since the Unix epoch; 0 for never.
    pub last_contact: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Reads the seconds until bearers are refused, from a time in seconds since the Unix epoch.
    pub trust_remaining: Box<dyn Fn(u64) -> i64 + Send + Sync>,
}

/// The listeners of the edge, and what their bodies take.
pub struct Inbound {
    /// The connections of each listener, by its name in metrics.
    pub listeners: Vec<(&'static str, Connections)>,
    /// The memory for bodies.
    pub bodies: Arc<BodyBudget>,
}

/// The reason that there is no exporter.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up metrics: {0}")]
pub struct ExportError(String);

impl Exporter {
    /// Creates an exporter of `metrics`, of what `readers` read, and of the listeners.
    pub fn new(
        metrics: &Arc<Metrics>,
        readers: SnapshotReaders,
        inbound: Inbound,
    ) -> Result<Exporter, ExportError> {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .with_namespace("trunkline_edge")
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| ExportError(error.to_string()))?;
        let provider = MeterProviderBuilder::default().with_reader(reader).build();
        let meter = provider.meter("trunkline-edge-proxy");
        traffic(&meter, metrics);
        client_sessions(&meter, metrics);
        counts(&meter, metrics);
        fleet(&meter, metrics);
        snapshot(&meter, metrics, readers);
        listeners(&meter, inbound);
        Ok(Exporter { registry, _provider: provider })
    }

    /// Renders all metrics as text.
    pub fn text(&self) -> Result<String, ExportError> {
        let mut text = Vec::new();
        let families = self.registry.gather();
        TextEncoder::new().encode(&families, &mut text).map_err(|error| ExportError(error.to_string()))?;
        String::from_utf8(text).map_err(|error| ExportError(error.to_string()))
    }
}

fn gauge(
    meter: &Meter,
    name: &'static str,
    description: &'static str,
    read: impl Fn() -> i64 + Send + Sync + 'static,
) {
    let observe = move |observer: &dyn AsyncInstrument<i64>| observer.observe(read(), &[]);
    meter.i64_observable_gauge(name).with_description(description).with_callback(observe).build();
}

fn counter(
    meter: &Meter,
    name: &'static str,
    description: &'static str,
    observe: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static,
) {
    meter.u64_observable_counter(name).with_description(description).with_callback(observe).build();
}

fn traffic(meter: &Meter, metrics: &Arc<Metrics>) {
    let gauges = [
        ("connections", "Client connections that are open", metrics.connections.clone()),
        ("streams", "Streams to clients that are open", metrics.streams.clone()),
        ("in_flight", "Calls in flight", metrics.in_flight.clone()),
        ("upstream_sessions", "Upstream sessions that are held open", metrics.upstream_sessions.clone()),
        (
            "calls_without_client",
            "Calls that go on after their client has hung up",
            metrics.calls_without_client.clone(),
        ),
        ("parked_calls", "Calls that wait for client input", metrics.parked_calls.clone()),
        ("limit_buckets", "Limits of tokens that calls are counted in", metrics.limit_buckets.clone()),
        (
            "limit_leases_connected",
            "1 while shares of limits can be had from a control plane",
            metrics.limit_leases_connected.clone(),
        ),
        ("usage_backlog_records", "Usage records not yet acknowledged", metrics.usage_backlog.clone()),
    ];
    for (name, description, value) in gauges {
        gauge(meter, name, description, move || value.get());
    }
}

fn client_sessions(meter: &Meter, metrics: &Arc<Metrics>) {
    let read = Arc::clone(metrics);
    let open = move |observer: &dyn AsyncInstrument<i64>| {
        for transport in ConnectionTransport::ALL {
            let label = KeyValue::new("transport", transport.as_str());
            observer.observe(read.client_sessions(*transport).get(), &[label]);
        }
    };
    let gauge = meter.i64_observable_gauge("client_sessions");
    gauge.with_description("Sessions over HTTP+SSE and WebSocket that are open").with_callback(open).build();
    let read = Arc::clone(metrics);
    let description = "Sessions over HTTP+SSE and WebSocket that ended, by reason";
    counter(meter, "client_sessions_ended", description, move |observer| {
        for (transport, ending) in ConnectionTransport::ALL
            .iter()
            .flat_map(|one| SessionCloseReason::ALL.iter().map(move |ending| (*one, *ending)))
        {
            let labels =
                [KeyValue::new("transport", transport.as_str()), KeyValue::new("reason", ending.as_str())];
            observer.observe(read.client_sessions_ended(transport, ending).get(), &labels);
        }
    });
}

fn counts(meter: &Meter, metrics: &Arc<Metrics>) {
    let read = Arc::clone(metrics);
    counter(meter, "calls", "Calls that ended, by method and outcome", move |observer| {
        for (method, outcome, calls) in read.calls() {
            observer.observe(calls.calls, &labels(&method, outcome));
        }
    });
    let read = Arc::clone(metrics);
    let durations = move |observer: &dyn AsyncInstrument<f64>| {
        for (method, outcome, calls) in read.calls() {
            observer.observe(calls.duration_us as f64 / 1e6, &labels(&method, outcome));
        }
    };
    let duration = meter.f64_observable_counter("calls_duration").with_unit("s");
    duration.with_description("Sum of the durations of calls").with_callback(durations).build();
    let read = Arc::clone(metrics);
    counter(meter, "rejected", "Requests rejected, by reason", move |observer| {
        for reason in Rejection::ALL {
            observer.observe(read.rejected(*reason).get(), &[KeyValue::new("reason", reason.as_str())]);
        }
    });
    let read = Arc::clone(metrics);
    let shares = "What was refused to tokens that have their share of a bound, by bound";
    counter(meter, "shares_refused", shares, move |observer| {
        for bound in Bound::ALL {
            observer.observe(read.shares_refused(*bound).get(), &[KeyValue::new("bound", bound.as_str())]);
        }
    });
    let read = Arc::clone(metrics);
    let limited = "Calls refused by a limit of their token, by reason";
    counter(meter, "limits_refused", limited, move |observer| {
        for reason in LimitRefusal::ALL {
            observer.observe(read.limits_refused(*reason).get(), &[KeyValue::new("reason", reason.as_str())]);
        }
    });
    let read = Arc::clone(metrics);
    let held = "Calls that rules held back until somebody approves them, by what came of it";
    counter(meter, "approvals", held, move |observer| {
        for outcome in ApprovalOutcome::ALL {
            observer.observe(read.approvals(*outcome).get(), &[KeyValue::new("outcome", outcome.as_str())]);
        }
    });
    let read = Arc::clone(metrics);
    counter(meter, "upstream_errors", "Calls that an upstream failed, by fault", move |observer| {
        for fault in UpstreamFault::ALL {
            observer.observe(read.upstream_fault(*fault).get(), &[KeyValue::new("fault", fault.as_str())]);
        }
    });
    let read = Arc::clone(metrics);
    let proxied = "Connections of balancers closed because they did not begin with a PROXY protocol header";
    counter(meter, "proxy_headers_refused", proxied, move |observer| {
        observer.observe(read.proxy_headers_refused.get(), &[])
    });
    let read = Arc::clone(metrics);
    let handshakes = "TLS handshakes of clients that failed";
    counter(meter, "tls_handshakes_failed", handshakes, move |observer| {
        observer.observe(read.tls_handshakes_failed.get(), &[])
    });
    let read = Arc::clone(metrics);
    let replaced = "Upstream sessions ended to make room for others of the same token";
    counter(meter, "upstream_sessions_replaced", replaced, move |observer| {
        observer.observe(read.upstream_sessions_replaced.get(), &[])
    });
    let read = Arc::clone(metrics);
    let shared = "Calls that shared an upstream session because their token held too many of its own";
    counter(meter, "upstream_sessions_shared", shared, move |observer| {
        observer.observe(read.upstream_sessions_shared.get(), &[])
    });
    let read = Arc::clone(metrics);
    let dropped = "Progress notifications dropped because their client does not keep up";
    counter(meter, "progress_dropped", dropped, move |observer| {
        observer.observe(read.progress_dropped.get(), &[])
    });
    let read = Arc::clone(metrics);
    let refused = "Connections to upstreams that the egress rule refused, by class of address";
    counter(meter, "egress_refused", refused, move |observer| {
        for class in Class::ALL {
            observer.observe(read.egress_refused(class).get(), &[KeyValue::new("class", class.as_str())]);
        }
    });
    let read = Arc::clone(metrics);
    let quirks = "Times that upstreams deviated from the specification in a way that is tolerated, by quirk";
    counter(meter, "upstream_quirks", quirks, move |observer| {
        for quirk in Quirk::ALL {
            let label = KeyValue::new("quirk", quirk.as_str());
            observer.observe(read.upstream_quirk(*quirk).get(), &[label]);
        }
    });
    let read = Arc::clone(metrics);
    let overflow = "Calls counted under a folded key, because there were too many keys";
    counter(meter, "usage_overflow", overflow, move |observer| {
        observer.observe(read.usage_overflow.get(), &[])
    });
    let read = Arc::clone(metrics);
    let lost = "Usage records that the control plane does not take; they are not sent again";
    counter(meter, "usage_records_lost", lost, move |observer| observer.observe(read.usage_lost.get(), &[]));
    let read = Arc::clone(metrics);
    let dropped = "Audit records that could not be kept until a control plane took them";
    counter(meter, "audit_dropped", dropped, move |observer| observer.observe(read.audit_dropped.get(), &[]));
}

fn fleet(meter: &Meter, metrics: &Arc<Metrics>) {
    let gauges = [
        ("sibling_known", "Siblings that the control plane announces", metrics.siblings_known.clone()),
        (
            "sibling_unreachable",
            "Siblings that did not acknowledge the last event",
            metrics.siblings_unreachable.clone(),
        ),
        ("sibling_connections", "Open connections of siblings", metrics.sibling_connections.clone()),
        ("tunnels", "Tunnels that upstreams opened to this edge", metrics.tunnels.clone()),
    ];
    for (name, description, value) in gauges {
        gauge(meter, name, description, move || value.get());
    }
    let read = Arc::clone(metrics);
    let floods = "Tunnels closed because the upstream sent too many frames without data";
    counter(meter, "tunnel_floods", floods, move |observer| observer.observe(read.tunnel_floods.get(), &[]));
    let read = Arc::clone(metrics);
    let deliveries = "Messages delivered to siblings, by outcome";
    counter(meter, "sibling_deliveries", deliveries, move |observer| {
        for outcome in DeliveryOutcome::ALL {
            observer.observe(
                read.sibling_deliveries(*outcome).get(),
                &[KeyValue::new("outcome", outcome.as_str())],
            );
        }
    });
}

fn snapshot(meter: &Meter, metrics: &Arc<Metrics>, readers: SnapshotReaders) {
    let gauges = [
        ("snapshot_revision", "Registry revision in force", metrics.revision.clone()),
        (
            "stream_connected",
            "1 while the stream from a control plane is open",
            metrics.stream_connected.clone(),
        ),
        (
            "policy_unusable",
            "Tokens and grants of which a part cannot be evaluated, and denies",
            metrics.policy_unusable.clone(),
        ),
        (
            "disk_snapshot_revision",
            "Registry revision of the copy on disk; 0 if not written by this process",
            metrics.disk_revision.clone(),
        ),
        (
            "disk_snapshot_behind",
            "1 while the snapshot in force is not on disk yet",
            metrics.disk_behind.clone(),
        ),
        ("refused_resources", "Resources whose newest version is refused", metrics.refused.clone()),
    ];
    for (name, description, value) in gauges {
        gauge(meter, name, description, move || value.get());
    }
    let saved_at = metrics.disk_saved_at.clone();
    let disk = "Seconds since the copy on disk was written; -1 if not by this process";
    gauge(meter, "disk_snapshot_age_seconds", disk, move || age(saved_at.get()));
    let SnapshotReaders { last_contact, trust_remaining } = readers;
    let contact = "Seconds since the last contact with a control plane; -1 if never";
    gauge(meter, "control_plane_contact_age_seconds", contact, move || age(seconds(last_contact())));
    let trust =
        "Seconds until bearers are refused without contact with a control plane; negative once they are";
    gauge(meter, "trust_remaining_seconds", trust, move || trust_remaining(clock::now()));
}

fn listeners(meter: &Meter, Inbound { listeners, bodies }: Inbound) {
    let read = listeners.clone();
    let strangers = move |observer: &dyn AsyncInstrument<i64>| {
        for (listener, connections) in &read {
            let open = i64::try_from(connections.unauthenticated()).unwrap_or(i64::MAX);
            observer.observe(open, &[KeyValue::new("listener", *listener)]);
        }
    };
    let gauge_of_strangers = meter.i64_observable_gauge("connections_unauthenticated");
    let description = "Connections that are open and have not authenticated, by listener";
    gauge_of_strangers.with_description(description).with_callback(strangers).build();
    let closed = "Connections closed by this side before their time, by listener and reason";
    counter(meter, "connections_closed", closed, move |observer| {
        for ((listener, connections), reason) in
            listeners.iter().flat_map(|one| CloseReason::ALL.map(|reason| (one, reason)))
        {
            let labels = [KeyValue::new("listener", *listener), KeyValue::new("reason", reason.as_str())];
            observer.observe(connections.closed(reason), &labels);
        }
    });
    let read = Arc::clone(&bodies);
    let used = "Bytes of request bodies and of JSON responses of upstreams, without small ones";
    gauge(meter, "body_memory_bytes", used, move || i64::try_from(read.used()).unwrap_or(i64::MAX));
    let refused = "Bodies refused because too much memory was in use for bodies";
    counter(meter, "body_memory_refused", refused, move |observer| observer.observe(bodies.refused(), &[]));
}

fn labels(method: &str, outcome: Outcome) -> [KeyValue; 2] {
    let outcome = match outcome {
        Outcome::Unspecified => "unspecified",
        Outcome::Ok => "ok",
        Outcome::ToolError => "tool_error",
        Outcome::ClientError => "client_error",
        Outcome::UpstreamError => "upstream_error",
        Outcome::Cancelled => "cancelled",
    };
    [KeyValue::new("method", method.to_owned()), KeyValue::new("outcome", outcome)]
}

fn seconds(unix_s: u64) -> i64 {
    i64::try_from(unix_s).unwrap_or(i64::MAX)
}

fn age(unix_s: i64) -> i64 {
    if unix_s == 0 { -1 } else { (seconds(clock::now()) - unix_s).max(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_shown_under_its_name() {
        let metrics = Arc::new(Metrics::new());
        let readers = SnapshotReaders { last_contact: Box::new(|| 0), trust_remaining: Box::new(|_| 0) };
        let connections = Connections::new(inbound::ConnectionLimits::open(1), None);
        let inbound =
            Inbound { listeners: vec![("clients", connections)], bodies: Arc::new(BodyBudget::new(1)) };
        let exporter = Exporter::new(&metrics, readers, inbound).unwrap();
        let _open = metrics.connections.enter();
        metrics.count_calls("tools/call", Outcome::Ok, 3, 1_500_000);
        metrics.rejected(Rejection::Origin).inc();
        metrics.shares_refused(Bound::Tickets).inc();
        metrics.approvals(ApprovalOutcome::Pending).inc();
        metrics.upstream_fault(UpstreamFault::Timeout).add(2);
        metrics.egress_refused(Class::LinkLocal).inc();
        metrics.upstream_quirk(Quirk::ClosesConnections).add(3);
        metrics.revision.set(7);
        let _session = metrics.client_sessions(ConnectionTransport::Sse).enter();
        metrics.client_sessions_ended(ConnectionTransport::WebSocket, SessionCloseReason::TooLarge).inc();
        let text = exporter.text().unwrap();
        for line in [
            "trunkline_edge_connections 1",
            "trunkline_edge_calls_total{method=\"tools/call\",outcome=\"ok\"} 3",
            "trunkline_edge_calls_duration_seconds_total{method=\"tools/call\",outcome=\"ok\"} 1.5",
            "trunkline_edge_rejected_total{reason=\"origin\"} 1",
            "trunkline_edge_shares_refused_total{bound=\"tickets\"} 1",
            "trunkline_edge_approvals_total{outcome=\"pending\"} 1",
            "trunkline_edge_approvals_total{outcome=\"used\"} 0",
            "trunkline_edge_upstream_errors_total{fault=\"timeout\"} 2",
            "trunkline_edge_egress_refused_total{class=\"link-local\"} 1",
            "trunkline_edge_upstream_quirks_total{quirk=\"closes-connections\"} 3",
            "trunkline_edge_upstream_quirks_total{quirk=\"no-delete\"} 0",
            "trunkline_edge_snapshot_revision 7",
            "trunkline_edge_client_sessions{transport=\"sse\"} 1",
            "trunkline_edge_client_sessions_ended_total{reason=\"too_large\",transport=\"websocket\"} 1",
            "trunkline_edge_stream_connected 0",
            "trunkline_edge_disk_snapshot_age_seconds -1",
            "trunkline_edge_disk_snapshot_behind 0",
            "trunkline_edge_disk_snapshot_revision 0",
            "trunkline_edge_control_plane_contact_age_seconds -1",
            "trunkline_edge_usage_backlog_records 0",
            "trunkline_edge_usage_overflow_total 0",
            "trunkline_edge_usage_records_lost_total 0",
            "trunkline_edge_audit_dropped_total 0",
            "trunkline_edge_upstream_sessions_replaced_total 0",
            "trunkline_edge_upstream_sessions_shared_total 0",
            "trunkline_edge_refused_resources 0",
            "trunkline_edge_sibling_known 0",
            "trunkline_edge_sibling_unreachable 0",
            "trunkline_edge_sibling_connections 0",
            "trunkline_edge_tunnels 0",
            "trunkline_edge_tunnel_floods_total 0",
            "trunkline_edge_sibling_deliveries_total{outcome=\"gone\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn methods_past_the_bound_are_counted_under_other() {
        let metrics = Metrics::new();
        for n in 0..1_000 {
            metrics.count_calls(&format!("m{n}"), Outcome::Ok, 1, 1);
        }
        let calls = metrics.calls();
        assert!(calls.len() <= 385);
        assert_eq!(calls.iter().map(|(_, _, calls)| calls.calls).sum::<u64>(), 1_000);
    }
}
