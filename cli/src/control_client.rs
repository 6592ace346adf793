//! The gRPC client of the control plane: one generic call, driven by the descriptors of the API.
//!
//! It knows no kinds: requests are proto-JSON, responses are dynamic messages.

use std::time::Duration;

use http::uri::PathAndQuery;
use mcp::border::without_mark;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::context::Context;
use crate::error::{Error, Exit, Result};
use crate::reflection;

/// Maximum size of a response. A list of a thousand tools with their schemas is large, but not larger than this.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connection to the control plane of a context.
#[derive(Clone)]
pub struct ControlClient {
    grpc: tonic::client::Grpc<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    target: String,
}

impl ControlClient {
    /// Connects, or reports that the control plane is unreachable.
    pub async fn connect(context: &Context, timeout: Duration) -> Result<Self> {
        let target = context.control_url()?.to_owned();
        let endpoint = endpoint(&target, context)?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Error::from_status(&Status::unavailable(cause(&error)), &target))?;
        let authorization = context
            .admin_bearer()?
            .map(|bearer| format!("Bearer {}", bearer.expose()).parse())
            .transpose()
            .map_err(|_| {
                Error::usage("the admin token contains characters that are not allowed in an HTTP header")
            })?;
        let grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Self { grpc, authorization, timeout, target })
    }

    /// Calls `package.Service/Method` with a request in proto-JSON.
    pub async fn call(&self, method: &str, request: Value) -> Result<DynamicMessage> {
        let (request, path, codec) = self.prepare(method, request)?;
        let mut grpc = self.grpc.clone();
        let answer = async {
            grpc.ready().await.map_err(|error| Status::unavailable(cause(&error)))?;
            grpc.unary(request, path, codec).await
        };
        let answer = tokio::time::timeout(self.timeout, answer)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("")));
        answer.map(tonic::Response::into_inner).map_err(|status| self.explain(&status))
    }

    /// Calls a streaming method. The timeout covers only the start of the stream.
    pub async fn stream(&self, method: &str, request: Value) -> Result<Streaming<DynamicMessage>> {
        let (request, path, codec) = self.prepare(method, request)?;
        let mut grpc = self.grpc.clone();
        let answer = async {
            grpc.ready().await.map_err(|error| Status::unavailable(cause(&error)))?;
            grpc.server_streaming(request, path, codec).await
        };
        let answer = tokio::time::timeout(self.timeout, answer)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("")));
        answer.map(tonic::Response::into_inner).map_err(|status| self.explain(&status))
    }

    /// Turns a status of this control plane into an error for people.
    pub fn explain(&self, status: &Status) -> Error {
        Error::from_status(status, &self.target)
    }

    fn prepare(
        &self,
        method: &str,
        request: Value,
    ) -> Result<(Request<DynamicMessage>, PathAndQuery, DynamicCodec)> {
        let descriptor = reflection::method(method)
            .ok_or_else(|| Error::usage(format!("the API has no method {method}")))?;
        let mut request = Request::new(reflection::from_json(descriptor.input(), request)?);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        let path = PathAndQuery::try_from(format!("/{method}"))
            .map_err(|_| Error::usage(format!("{method} is not a valid method name")))?;
        Ok((request, path, DynamicCodec(descriptor.output())))
    }
}

fn endpoint(target: &str, context: &Context) -> Result<Endpoint> {
    let wrong = |why: String| Error::usage(format!("invalid control plane URL {target}: {why}"));
    let endpoint = Endpoint::from_shared(target.to_owned())
        .map_err(|error| wrong(error.to_string()))?
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(20));
    if !target.starts_with("https://") {
        return Ok(endpoint);
    }
    let mut tls = ClientTlsConfig::new().with_native_roots();
    if let Some(path) = &context.ca_file {
        let pem = std::fs::read(path)
            .map_err(|error| Error::new(Exit::Usage, format!("cannot read {}: {error}", path.display())))?;
        tls = tls.ca_certificate(Certificate::from_pem(without_mark(&pem)));
    }
    endpoint.tls_config(tls).map_err(|error| wrong(cause(&error)))
}

/// Returns the innermost cause: the outer ones only say "transport error".
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A codec for messages that are known only by their descriptor.
#[derive(Clone)]
struct DynamicCodec(MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(
        &mut self,
        item: DynamicMessage,
        buffer: &mut EncodeBuf<'_>,
    ) -> std::result::Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> std::result::Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), buffer)
            .map(Some)
            .map_err(|error| Status::internal(format!("cannot decode the response: {error}")))
    }
}
