//! The gRPC client of the control plane: one generic call, driven by the descriptors of the API.
//!
//! Requests are proto-JSON, responses are dynamic messages. Kinds matter only where a name does not exist, and another was
//! perhaps meant.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use mcp::client::Fault;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::answers::Answers;
use crate::context::environment::CA_FILE;
use crate::context::{Context, Secret};
use crate::error::tls::read_certificates;
use crate::error::{Error, Exit, Result, says_more};
use crate::kinds::{Kind, short_name};
use crate::reflection;
use crate::suggest::did_you_mean;

/// Maximum size of a response. A list of a thousand tools with their schemas is large, but not larger than this.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// How many names are looked at for the one that was meant.
const SUGGESTIONS: u32 = 1_000;

/// An answer that takes longer is doubted. Calls of a control plane may take as long as they like.
const SUSPICION: Duration = Duration::from_millis(300);

/// A connection to the control plane of a context.
#[derive(Clone)]
pub struct ControlClient {
    grpc: tonic::client::Grpc<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    target: String,
    /// Where that is from, so that an error names what to change.
    context: Arc<Context>,
    /// Whether a control plane has answered on this connection.
    proven: Arc<AtomicBool>,
}

impl ControlClient {
    /// Connects, or reports that the control plane is unreachable. Where the first of several is away, the next one is tried.
    pub async fn connect(context: &Context, timeout: Duration) -> Result<Self> {
        Self::connect_as(context, context.control_bearer()?.as_ref(), timeout).await
    }

    /// The same for whoever has this bearer, whatever else is known.
    pub async fn connect_as(context: &Context, bearer: Option<&Secret>, timeout: Duration) -> Result<Self> {
        let error = match Self::connect_to(context.control_url()?, context, bearer, timeout).await {
            Err(error) if error.is_temporary => error,
            connected => return connected,
        };
        for other in &context.other_controls {
            if let Ok(client) = Self::connect_to(other, context, bearer, timeout).await {
                return Ok(client);
            }
        }
        match &context.other_controls[..] {
            [] if context.is_of_dev() => Err(error.or("start one with `mcpctl dev`")),
            [] => Err(error),
            others => Err(error.or(&format!("that another one is: {}", others.join(", ")))),
        }
    }

    async fn connect_to(
        target: &str,
        context: &Context,
        bearer: Option<&Secret>,
        timeout: Duration,
    ) -> Result<Self> {
        let target = target.to_owned();
        let endpoint = endpoint(&target, context)?;
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => {
                return Err(unreached(Reason::of(&error), &target, context).await);
            }
        };
        let authorization =
            bearer.map(|bearer| format!("Bearer {}", bearer.expose()).parse()).transpose().map_err(|_| {
                Error::usage("the credential contains characters that are not allowed in an HTTP header")
            })?;
        let grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let context = Arc::new(context.clone());
        Ok(Self { grpc, authorization, timeout, target, context, proven: Arc::default() })
    }

    /// The URL of the control plane.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Calls `package.Service/Method` with a request in proto-JSON.
    pub async fn call(&self, method: &str, request: Value) -> Result<DynamicMessage> {
        match self.unary(method, request).await {
            Err(error) if error.exit == Exit::NotFound => Err(self.with_suggestion(error).await),
            answer => answer,
        }
    }

    /// Adds the name that was perhaps meant by the one that does not exist.
    async fn with_suggestion(&self, error: Error) -> Error {
        let message = error.to_string();
        // What does not exist may also be something of what does.
        let is_resource = error.refusal.as_ref().is_none_or(|refusal| refusal.reason != "TARGET_NOT_FOUND");
        let mut words = message.split([' ', ';']).filter(|_| is_resource);
        let named = words.find_map(|word| Some((word, Kind::of_resource(word)?)));
        let Some((name, kind)) = named else { return error };
        let mut request = json!({ "pageSize": SUGGESTIONS });
        if kind.catalogued {
            request["parent"] = "upstreams/-".into();
        }
        let listed = self.unary(&kind.method("List"), request).await;
        let items = listed.map(|page| reflection::submessages(&page, &kind.list_field())).unwrap_or_default();
        let names: Vec<_> = items.iter().map(|item| short_name(&reflection::text(item, "name"))).collect();
        let hint = did_you_mean(&short_name(name), names.iter().map(String::as_str));
        let (said, plural) = (message.split("; run ").next().unwrap_or_default(), kind.plural);
        if hint.is_empty() {
            return Error::not_found(format!("{said}; run `mcpctl get {plural}` to list what exists"));
        }
        Error::not_found(format!("{said}{hint}"))
    }

    async fn unary(&self, method: &str, request: Value) -> Result<DynamicMessage> {
        let (request, path, codec) = self.prepare(method, request)?;
        let mut grpc = self.grpc.clone();
        self.answered(async {
            grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            grpc.unary(request, path, codec).await
        })
        .await
    }

    /// Calls a streaming method. The timeout covers only the start of the stream.
    pub async fn stream(&self, method: &str, request: Value) -> Result<Streaming<DynamicMessage>> {
        let (request, path, codec) = self.prepare(method, request)?;
        let mut grpc = self.grpc.clone();
        self.answered(async {
            grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            grpc.server_streaming(request, path, codec).await
        })
        .await
    }

    /// Waits for an answer. Where none comes soon, whoever answers there is asked what it is: tonic would connect again and again
    /// to what is no control plane.
    async fn answered<T>(
        &self,
        answer: impl Future<Output = std::result::Result<tonic::Response<T>, Status>>,
    ) -> Result<T> {
        let answer = tokio::time::timeout(self.timeout, answer);
        let answer = tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(""))),
            error = self.found_out(), if !self.proven.load(Ordering::Relaxed) => return Err(error),
        };
        match answer {
            Ok(answer) => {
                self.proven.store(true, Ordering::Relaxed);
                Ok(answer.into_inner())
            }
            // With a cause, it is of this side: no answer has come.
            Err(status) => match std::error::Error::source(&status).map(Reason::of) {
                Some(reason) => Err(unreached(reason, &self.target, &self.context).await),
                None => Err(self.explain(&status)),
            },
        }
    }

    /// Returns once it is certain that something else than a control plane answers.
    async fn found_out(&self) -> Error {
        tokio::time::sleep(SUSPICION).await;
        match Answers::at(&self.target).await {
            // HTTP/2 was agreed on there, or TLS would have failed: a proxy may serve gRPC beside pages of its own.
            Answers::Web | Answers::Balancer(_) if self.target.starts_with("https://") => {
                std::future::pending().await
            }
            found => match not_a_control_plane(&self.target, &found) {
                Some(error) => error,
                None => std::future::pending().await,
            },
        }
    }

    /// Turns a status of this control plane into an error for people.
    pub fn explain(&self, status: &Status) -> Error {
        if status.code() == Code::Unauthenticated && self.authorization.is_none() && !says_more(status) {
            return Error::new(
                Exit::Refused,
                format!(
                    "nobody is signed in at the control plane at {}, which else wants an admin token, and the context has none; \
                     run `mcpctl login --email EMAIL`, or `mcpctl config set-context NAME --admin-token-file FILE`",
                    self.target
                ),
            );
        }
        Error::from_status(status, &self.target)
    }

    fn prepare(
        &self,
        method: &str,
        request: Value,
    ) -> Result<(Request<DynamicMessage>, PathAndQuery, DynamicCodec)> {
        let descriptor = reflection::method(method)
            .ok_or_else(|| Error::usage(format!("the API has no method {method}")))?;
        let mut request = Request::new(reflection::request_from_json(descriptor.input(), request)?);
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
        tls = tls.ca_certificate(Certificate::from_pem(read_certificates(path)?));
    }
    endpoint.tls_config(tls).map_err(|error| wrong(cause(&error)))
}

/// Why nobody answered.
struct Reason {
    fault: Option<Fault>,
    cause: String,
}

impl Reason {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { fault: Fault::of(error), cause: cause(error) }
    }
}

/// Says why nobody answered, and what to do about it.
async fn unreached(reason: Reason, target: &str, context: &Context) -> Error {
    let place = format!("the control plane at {target}");
    let unavailable = |text: String| Error::new(Exit::Unavailable, text);
    match reason.fault {
        Some(fault @ Fault::UnknownIssuer) => unavailable(match &context.ca_file {
            Some(file) => {
                let whose = if context.name.is_empty() { CA_FILE } else { "--ca-file of the context" };
                format!("cannot trust {place}: {fault}, nor is it in {} ({whose})", file.display())
            }
            None => format!("cannot trust {place}: {fault}; {}", context.advice_on_trust()),
        }),
        Some(fault @ Fault::NotTls) => unavailable(format!("cannot connect to {place}: {fault}")),
        Some(fault) => unavailable(format!("cannot trust {place}: {fault}")),
        None => match not_a_control_plane(target, &Answers::at(target).await) {
            Some(error) => error,
            None => Error::from_status(&Status::unavailable(reason.cause + &proxy_advice(target)), target),
        },
    }
}

/// Says that a proxy is not used, where one is set and would be for other programs.
fn proxy_advice(target: &str) -> String {
    let is_local = url::Url::parse(target).is_ok_and(|url| mcp::endpoint::is_loopback(&url));
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let set = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .find(is_set);
    match set.filter(|_| !is_local) {
        Some(name) => {
            format!(" ({name} is set, and not used for control planes: they must be reached directly)")
        }
        None => String::new(),
    }
}

/// Says what is there, if it is no control plane. What is before one may find it again.
fn not_a_control_plane(target: &str, found: &Answers) -> Option<Error> {
    let what = found.instead_of_a_control_plane()?;
    let advice = "(`mcpctl config set-context NAME --control URL`)";
    let mut error =
        Error::new(Exit::Unavailable, format!("no control plane is at {target}: {what} {advice}"));
    error.is_temporary = matches!(found, Answers::Balancer(_));
    Some(error)
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
