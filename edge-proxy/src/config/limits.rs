//! Every bound of the edge: what it is, its default and its unit. It must not know what is bounded by it.

use std::time::Duration;

use inbound::{ClientAddressSource, ConnectionOptions, parse_seconds};
use serde_json::{Value, json};

/// What the road of a call may use. Past a bound there is a clear answer, never growth.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Maximum size of a request body, in bytes; a larger one gets 413.
    #[arg(long, env = "TRUNKLINE_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = 4 << 20)]
    pub max_body_bytes: usize,
    /// Maximum size of a request head, in bytes (at least 8192); a larger one gets 431.
    #[arg(long, env = "TRUNKLINE_MAX_HEADER_BYTES", value_name = "BYTES", default_value_t = 64 << 10, value_parser = head_bytes)]
    pub max_header_bytes: usize,
    /// Time allowed for an idle connection, and for sending the head of a request, in seconds.
    #[arg(long, env = "TRUNKLINE_HEADER_TIMEOUT", value_name = "SECONDS", default_value = "75", value_parser = parse_seconds)]
    pub header_timeout: Duration,
    /// Time allowed for sending the body of a request, in seconds; a slower client gets 408.
    #[arg(long, env = "TRUNKLINE_BODY_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub body_timeout: Duration,
    /// Connections of clients.
    #[command(flatten)]
    pub connections: ConnectionOptions,
    /// What says where a client is. All but `socket` are believed of the peers in --balancer-address only, and required of
    /// them; of headers, what such peers wrote.
    #[arg(long, env = "TRUNKLINE_CLIENT_ADDRESS", value_name = "SOURCE", default_value = "socket")]
    pub client_address: ClientAddressSource,
    /// Memory for request bodies and for JSON responses of upstreams, in bytes; those of up to 16 KiB do not count. A
    /// token (of responses: an upstream) gets what is left for others, so half of it when alone. Past it requests get 503.
    #[arg(long, env = "TRUNKLINE_MAX_BODY_MEMORY_BYTES", value_name = "BYTES", default_value_t = 256 << 20)]
    pub max_body_memory_bytes: usize,
    /// Maximum number of requests in flight, without streams; more get 503. A token gets what is left for others, so half
    /// of them when alone; more get 429.
    #[arg(long, env = "TRUNKLINE_MAX_IN_FLIGHT", value_name = "COUNT", default_value_t = 8_192)]
    pub max_in_flight: usize,
    /// Maximum number of open streams and connections per token; more get 429.
    #[arg(long, env = "TRUNKLINE_MAX_STREAMS_PER_TOKEN", value_name = "COUNT", default_value_t = 1_024)]
    pub max_streams_per_token: usize,
    /// Maximum number of sessions with one upstream that the sessions of a token have for themselves; more replace idle ones, or are shared.
    #[arg(
        long,
        env = "TRUNKLINE_MAX_UPSTREAM_SESSIONS_PER_TOKEN",
        value_name = "COUNT",
        default_value_t = 1_024
    )]
    pub max_upstream_sessions_per_token: usize,
    /// Maximum number of requests in flight per connection over HTTP+SSE or WebSocket; more get an error.
    #[arg(long, env = "TRUNKLINE_MAX_IN_FLIGHT_PER_CONNECTION", value_name = "COUNT", default_value_t = 64, value_parser = per_connection)]
    pub max_in_flight_per_connection: usize,
    /// Time allowed for a client to read what is sent to it, in seconds; then the connection ends.
    #[arg(long, env = "TRUNKLINE_SEND_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub send_timeout: Duration,
    /// Interval of pings to clients over WebSocket, in seconds; a client that misses two is disconnected.
    #[arg(long, env = "TRUNKLINE_PING_INTERVAL", value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub ping_interval: Duration,
    /// Maximum size of an event or a WebSocket message from an upstream, in bytes.
    #[arg(long, env = "TRUNKLINE_MAX_EVENT_BYTES", value_name = "BYTES", default_value_t = 8 << 20)]
    pub max_event_bytes: usize,
    /// Maximum size of a JSON response from an upstream, in bytes.
    #[arg(long, env = "TRUNKLINE_MAX_ANSWER_BYTES", value_name = "BYTES", default_value_t = 32 << 20)]
    pub max_answer_bytes: usize,
    /// Maximum number of calls that wait for client input (elicitation and the like, across eras); more fail. A token gets
    /// what is left for others, so half of them when alone.
    #[arg(long, env = "TRUNKLINE_MAX_PARKED_CALLS", value_name = "COUNT", default_value_t = 4_096)]
    pub max_parked_calls: usize,
    /// Time for which a call waits for client input, in seconds; then its upstream is told that there is none.
    #[arg(long, env = "TRUNKLINE_PARKED_CALL_LIFETIME", value_name = "SECONDS", default_value = "600", value_parser = parse_seconds)]
    pub parked_call_lifetime: Duration,
    /// Time allowed for connecting to an upstream, with TLS, in seconds.
    #[arg(long, env = "TRUNKLINE_CONNECT_TIMEOUT", value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    pub connect_timeout: Duration,
    /// Time for which an unused connection to an upstream is kept, in seconds.
    #[arg(long, env = "TRUNKLINE_UPSTREAM_IDLE", value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub upstream_idle: Duration,
    /// Time for which an unused session with an upstream is kept, in seconds.
    #[arg(long, env = "TRUNKLINE_UPSTREAM_SESSION_IDLE", value_name = "SECONDS", default_value = "600", value_parser = parse_seconds)]
    pub upstream_session_idle: Duration,
    /// Interval of keep-alive comments on silent streams, in seconds.
    #[arg(long, env = "TRUNKLINE_KEEP_ALIVE", value_name = "SECONDS", default_value = "15", value_parser = parse_seconds)]
    pub keep_alive: Duration,
    /// Lifetime of a client's session, in seconds; after it the client must initialize again.
    #[arg(long, env = "TRUNKLINE_SESSION_LIFETIME", value_name = "SECONDS", default_value = "604800", value_parser = parse_seconds)]
    pub session_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            max_header_bytes: 64 << 10,
            header_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            connections: ConnectionOptions::default(),
            client_address: ClientAddressSource::default(),
            max_body_memory_bytes: 256 << 20,
            max_in_flight: 8_192,
            max_streams_per_token: 1_024,
            max_upstream_sessions_per_token: 1_024,
            max_in_flight_per_connection: 64,
            send_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(30),
            max_event_bytes: 8 << 20,
            max_answer_bytes: 32 << 20,
            max_parked_calls: 4_096,
            parked_call_lifetime: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(5),
            upstream_idle: Duration::from_secs(60),
            upstream_session_idle: Duration::from_secs(600),
            keep_alive: Duration::from_secs(15),
            session_lifetime: Duration::from_secs(604_800),
        }
    }
}

impl Limits {
    /// Renders the limits as JSON, with durations in seconds.
    pub fn to_json(&self) -> Value {
        // Naming every field makes the compiler report a new one that is missing here.
        let Self {
            max_body_bytes,
            max_header_bytes,
            header_timeout,
            body_timeout,
            connections,
            client_address,
            max_body_memory_bytes,
            max_in_flight,
            max_streams_per_token,
            max_upstream_sessions_per_token,
            max_in_flight_per_connection,
            send_timeout,
            ping_interval,
            max_event_bytes,
            max_answer_bytes,
            max_parked_calls,
            parked_call_lifetime,
            connect_timeout,
            upstream_idle,
            upstream_session_idle,
            keep_alive,
            session_lifetime,
        } = self;
        json!({
            "maxBodyBytes": max_body_bytes,
            "maxHeaderBytes": max_header_bytes,
            "headerTimeoutSeconds": header_timeout.as_secs_f64(),
            "bodyTimeoutSeconds": body_timeout.as_secs_f64(),
            "maxConnections": connections.max_connections,
            "maxUnauthenticatedPerAddress": connections.max_unauthenticated_per_address,
            "balancerAddresses": connections.balancer_addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "authenticationTimeoutSeconds": connections.authentication_timeout.as_secs_f64(),
            "clientAddress": client_address.as_str(),
            "maxBodyMemoryBytes": max_body_memory_bytes,
            "maxInFlight": max_in_flight,
            "maxStreamsPerToken": max_streams_per_token,
            "maxUpstreamSessionsPerToken": max_upstream_sessions_per_token,
            "maxInFlightPerConnection": max_in_flight_per_connection,
            "sendTimeoutSeconds": send_timeout.as_secs_f64(),
            "pingIntervalSeconds": ping_interval.as_secs_f64(),
            "maxEventBytes": max_event_bytes,
            "maxAnswerBytes": max_answer_bytes,
            "maxParkedCalls": max_parked_calls,
            "parkedCallLifetimeSeconds": parked_call_lifetime.as_secs_f64(),
            "connectTimeoutSeconds": connect_timeout.as_secs_f64(),
            "upstreamIdleSeconds": upstream_idle.as_secs_f64(),
            "upstreamSessionIdleSeconds": upstream_session_idle.as_secs_f64(),
            "keepAliveSeconds": keep_alive.as_secs_f64(),
            "sessionLifetimeSeconds": session_lifetime.as_secs_f64(),
        })
    }
}

/// Counted by a semaphore, with as many again for what is no request.
fn per_connection(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if (1..=10_000).contains(&value) => Ok(value),
        _ => Err("must be a number from 1 to 10000".to_owned()),
    }
}

/// hyper refuses a smaller buffer than this.
fn head_bytes(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if value >= 8_192 => Ok(value),
        _ => Err("must be a number of bytes, at least 8192".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        limits: Limits,
    }

    #[test]
    fn the_flags_default_to_what_default_says() {
        let program = <Program as clap::Parser>::parse_from(["edge"]);
        assert_eq!(program.limits, Limits::default());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for bad in [["--body-timeout", "0"], ["--max-header-bytes", "10"], ["--max-connections", "1"]] {
            let read = <Program as clap::Parser>::try_parse_from(["edge"].iter().chain(&bad));
            assert!(read.is_err(), "{bad:?}");
        }
    }
}
