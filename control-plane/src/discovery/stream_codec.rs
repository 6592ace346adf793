//! Carries the stream of resources over gRPC: a resource is written as it was encoded, once for all edges.
//!
//! It must not know what is sent when.

use std::convert::Infallible;
use std::task::{Context, Poll};

use delta::server::OutgoingResponse;
use futures_util::future::BoxFuture;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;
use trunkline::discovery::v1::discovery_service_server::SERVICE_NAME;
use trunkline::discovery::v1::{StreamResourcesRequest, StreamResourcesResponse};

use super::service::{Discovery, OutgoingResponses};

/// The path of `DiscoveryService.StreamResources`.
const STREAM_RESOURCES: &str = "/trunkline.discovery.v1.DiscoveryService/StreamResources";

/// The gRPC service of the stream.
#[derive(Debug, Clone)]
pub struct DiscoveryServer {
    discovery: Discovery,
    max_request_bytes: usize,
}

impl DiscoveryServer {
    /// Serves a stream to each edge, and reads messages of at most `max_request_bytes` from it.
    pub fn new(discovery: Discovery, max_request_bytes: usize) -> Self {
        Self { discovery, max_request_bytes }
    }
}

impl NamedService for DiscoveryServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for DiscoveryServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { discovery, max_request_bytes } = self.clone();
        Box::pin(async move {
            if request.uri().path() != STREAM_RESOURCES {
                return Ok(Status::unimplemented("").into_http());
            }
            let grpc = Grpc::new(StreamCodec);
            let mut grpc = grpc.apply_max_message_size_config(Some(max_request_bytes), None);
            Ok(grpc.streaming(StreamResources(discovery), request).await)
        })
    }
}

/// The one method.
struct StreamResources(Discovery);

impl tonic::server::StreamingService<StreamResourcesRequest> for StreamResources {
    type Response = OutgoingResponse;
    type ResponseStream = OutgoingResponses;
    type Future = BoxFuture<'static, Result<Response<OutgoingResponses>, Status>>;

    fn call(&mut self, request: Request<Streaming<StreamResourcesRequest>>) -> Self::Future {
        let discovery = self.0.clone();
        Box::pin(async move { discovery.stream_resources(request).await })
    }
}

type Messages = ProstCodec<StreamResourcesResponse, StreamResourcesRequest>;

/// Reads requests as they are declared, and writes responses that are encoded for the most part.
#[derive(Debug, Clone, Copy)]
struct StreamCodec;

impl Codec for StreamCodec {
    type Encode = OutgoingResponse;
    type Decode = StreamResourcesRequest;
    type Encoder = ResponseEncoder;
    type Decoder = <Messages as Codec>::Decoder;

    fn encoder(&mut self) -> ResponseEncoder {
        ResponseEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        Messages::raw_decoder(BufferSettings::default())
    }
}

#[derive(Debug)]
struct ResponseEncoder;

impl Encoder for ResponseEncoder {
    type Item = OutgoingResponse;
    type Error = Status;

    fn encode(&mut self, response: OutgoingResponse, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(response.encoded_len());
        response.encode(out);
        Ok(())
    }
}
