//! What an edge that is enrolled, or somebody who is not, can make a control plane keep and write, over a socket.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/control.rs"]
mod control;
#[path = "support/edge_end.rs"]
mod edge_end;

use std::io;
use std::sync::{Mutex, PoisonError};

use control::{Control, with_bearer};
use edge_end::{EdgeEnd, Held, PATIENCE};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use trunkline::TypeTable as _;
use trunkline::discovery::v1::discovery_service_client::DiscoveryServiceClient;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::discovery::v1::{Edge, EnrollEdgeRequest, StreamResourcesRequest, StreamResourcesResponse};
use trunkline::edge::v1::StreamType;
use trunkline::telemetry::v1::usage_service_client::UsageServiceClient;
use trunkline::telemetry::v1::{QueryUsageRequest, ReportUsageRequest, ReportUsageResponse, UsageRecord};

/// Streams that one edge opens.
const STREAMS: usize = 30;

/// A stream of an edge, of which nothing is sent by itself.
struct Raw<Q, R> {
    out: mpsc::Sender<Q>,
    inbound: Streaming<R>,
}

impl<Q, R> Raw<Q, R> {
    async fn next(&mut self) -> Result<Option<R>, Status> {
        tokio::time::timeout(PATIENCE, self.inbound.message()).await.unwrap()
    }

    /// Reads on until the stream fails.
    async fn end(&mut self) -> (Code, String) {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a status"),
                Err(status) => return reason(&status),
            }
        }
    }
}

fn reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info();
    (status.code(), info.map_or_else(|| status.message().to_owned(), |info| info.reason))
}

async fn resources(
    control: &Control,
    credential: &str,
) -> Raw<StreamResourcesRequest, StreamResourcesResponse> {
    let (out, requests) = mpsc::channel(4);
    let request = with_bearer(ReceiverStream::new(requests), credential);
    let mut client = DiscoveryServiceClient::new(control.channel.clone());
    Raw { out, inbound: client.stream_resources(request).await.unwrap().into_inner() }
}

async fn reports(control: &Control, credential: &str) -> Raw<ReportUsageRequest, ReportUsageResponse> {
    let (out, batches) = mpsc::channel(4);
    let request = with_bearer(ReceiverStream::new(batches), credential);
    let mut client = UsageServiceClient::new(control.channel.clone());
    Raw { out, inbound: client.report_usage(request).await.unwrap().into_inner() }
}

fn first(id: &str, kind: StreamType) -> StreamResourcesRequest {
    StreamResourcesRequest {
        edge: Some(Edge { id: id.to_owned(), ..Default::default() }),
        type_url: kind.url().to_owned(),
        subscribe: vec!["*".to_owned()],
        ..Default::default()
    }
}

fn record(target: &str) -> UsageRecord {
    UsageRecord {
        server: "servers/dev".to_owned(),
        token: "tokens/t".to_owned(),
        method: "tools/call".to_owned(),
        target: target.to_owned(),
        calls: 1,
        ..Default::default()
    }
}

fn batch(sequence: i64, records: Vec<UsageRecord>) -> ReportUsageRequest {
    ReportUsageRequest { run_id: "run".to_owned(), sequence, records, ..Default::default() }
}

#[tokio::test]
async fn of_all_streams_that_an_edge_opens_the_last_one_goes_on() {
    let control = Control::start().await;
    let (credential, other) = (control.enrol("e1").await, control.enrol("e2").await);
    let mut unrelated = EdgeEnd::connect(&control.channel, "e2", &other, Held::new()).await.unwrap();
    unrelated.until_alive().await;
    let mut unrelated_usage = reports(&control, &other).await;

    let replaced = (Code::Aborted, "EDGE_REPLACED".to_owned());
    let (mut streams, mut usage) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS {
        streams.push(resources(&control, &credential).await);
        usage.push(reports(&control, &credential).await);
    }
    let (mut last, mut last_usage) = (streams.pop().unwrap(), usage.pop().unwrap());
    // Not one of them has said a word, and each but the last has ended.
    for (stream, usage) in streams.iter_mut().zip(&mut usage) {
        assert_eq!(stream.end().await, replaced);
        assert_eq!(usage.end().await, replaced);
    }
    last.out.send(first("e1", StreamType::TrustBundle)).await.unwrap();
    assert_eq!(last.next().await.unwrap().unwrap().resources.len(), 1);
    for usage in [&mut last_usage, &mut unrelated_usage] {
        usage.out.send(batch(1, vec![record("t")])).await.unwrap();
        assert_eq!(usage.next().await.unwrap().unwrap().acked_sequence, 1);
    }
    let mut again = EdgeEnd::connect(&control.channel, "e2", &other, unrelated.held.clone()).await.unwrap();
    assert_eq!(again.until_alive().await, [""; 0], "the other edge was served meanwhile");
}

#[tokio::test]
async fn a_message_of_an_edge_that_is_too_large_is_refused() {
    let control = Control::start().await;
    let credential = control.enrol("e1").await;
    let too_large = (Code::ResourceExhausted, "BODY_TOO_LARGE".to_owned());
    let names = vec!["n".repeat(1 << 10); 1_100];

    let mut stream = resources(&control, &credential).await;
    let request = StreamResourcesRequest { subscribe: names.clone(), ..first("e1", StreamType::Tool) };
    stream.out.send(request).await.unwrap();
    assert_eq!(stream.end().await, too_large);

    let mut usage = reports(&control, &credential).await;
    usage.out.send(batch(1, names.iter().map(|name| record(name)).collect())).await.unwrap();
    assert_eq!(usage.end().await, too_large);
}

#[tokio::test]
async fn an_edge_that_asks_for_more_and_more_names_is_refused() {
    let control = Control::start().await;
    let credential = control.enrol("e1").await;
    let mut stream = resources(&control, &credential).await;
    stream.out.send(first("e1", StreamType::Tool)).await.unwrap();
    // What it has asked for and takes back counts as long as it has not been answered, and it takes no answer.
    let asks = (0..200).map(|number| StreamResourcesRequest {
        type_url: StreamType::Tool.url().to_owned(),
        subscribe: (0..450).map(|name| format!("{number}-{name}-{}", "n".repeat(2_000))).collect(),
        ..Default::default()
    });
    let out = stream.out.clone();
    let asking = async {
        for ask in asks {
            // After the end nobody reads.
            if out.send(ask).await.is_err() {
                return;
            }
        }
    };
    let (end, ()) = tokio::join!(stream.end(), asking);
    assert_eq!(end, (Code::ResourceExhausted, "TOO_MANY_NAMES".to_owned()));
}

#[tokio::test]
async fn a_bad_record_is_set_aside_and_a_batch_that_is_none_is_refused_for_ever() {
    let control = Control::start().await;
    let credential = control.enrol("e1").await;
    let mut usage = reports(&control, &credential).await;
    let bad = UsageRecord { target: "x".repeat(3_000), ..record("t") };
    let hostile = UsageRecord { server: "servers/\u{1b}[2J".to_owned(), ..record("t") };
    usage.out.send(batch(1, vec![record("a"), bad, hostile, record("b")])).await.unwrap();
    let expected = ReportUsageResponse { acked_sequence: 1, set_aside_records: 2 };
    assert_eq!(usage.next().await.unwrap(), Some(expected));

    let old = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    usage.out.send(ReportUsageRequest { end_time: old, ..batch(2, vec![record("c")]) }).await.unwrap();
    let expected = ReportUsageResponse { acked_sequence: 2, set_aside_records: 1 };
    assert_eq!(usage.next().await.unwrap(), Some(expected), "it would be forgotten at once");

    let request = control.admin(QueryUsageRequest::default());
    let mut client = UsageServiceClient::new(control.channel.clone());
    let counted = client.query_usage(request).await.unwrap().into_inner().records;
    assert_eq!(counted, [record("a"), record("b")]);
    let metrics = control.metrics().await;
    assert!(metrics.contains("\ntrunkline_control_usage_records_set_aside_total 3\n"), "{metrics}");

    for batch in [
        batch(0, vec![record("d")]),
        ReportUsageRequest { run_id: "r".repeat(129), ..batch(3, vec![record("d")]) },
        batch(3, vec![record("d"); 2_001]),
    ] {
        let mut usage = reports(&control, &credential).await;
        usage.out.send(batch).await.unwrap();
        assert_eq!(usage.end().await, (Code::InvalidArgument, "INVALID_FIELD".to_owned()));
    }
}

/// What was logged in this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_stranger_who_tries_join_tokens_again_and_again_does_not_fill_the_log() {
    let _ = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).try_init();
    let control = Control::start().await;
    let mut client = EnrollmentServiceClient::new(control.channel.clone());
    let mut enroll = async |number: usize, join_token: &str| {
        let request = EnrollEdgeRequest {
            join_token: join_token.to_owned(),
            edge_id: format!("stranger-{number}"),
            ..Default::default()
        };
        client.enroll_edge(request).await
    };
    let used_up = control.running.create_join_token().await.unwrap();
    enroll(0, &used_up).await.unwrap();
    for number in 1..=100 {
        assert_eq!(enroll(number, "guess").await.unwrap_err().code(), Code::Unauthenticated);
        assert_eq!(enroll(number, &used_up).await.unwrap_err().code(), Code::Unauthenticated);
    }
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("refused an enrolment") && line.contains("stranger-"))
        .collect();
    // A line for each reason, and a second one where this took more than a minute.
    assert!((2..=20).contains(&lines.len()), "{lines:#?}");
    for reason in ["the join token is unknown or was deleted", "the join token is used up"] {
        assert!(lines.iter().any(|line| line.contains(reason) && line.contains("times=1")), "{lines:#?}");
    }
    let metrics = control.metrics().await;
    let refused = "trunkline_control_enrollments_total{outcome=\"token_refused\"} 200";
    assert!(metrics.lines().any(|line| line == refused), "{metrics}");
}
