//! JSON over HTTP for every unary rpc: `POST /{package}.{Service}/{Method}` with `content-type:
//! application/json`, transcoded by the contract's descriptors. It knows no service.
//!
//! Requests and answers are canonical proto-JSON; unknown fields are errors, and enum values may be short words, such as
//! `legacy`, in requests. An error is
//! `{"code": "NOT_FOUND", "message": …, "details": […]}` with the HTTP status that goes with the code.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use mcp::border::{self, Coding};
use prost::Message as _;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use schema::words::{self, UnknownWord};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trunkline::policy::v1::ApprovalState;

use super::{MAX_REQUEST_BYTES, bodies};
use crate::domain::reflect;
use crate::error::Error;

/// What the parser says of a value that no enum has by its full name.
const UNKNOWN_VALUE: &str = "unrecognized enum value";

/// Compression flag and length before each message (gRPC over HTTP/2).
const FRAME_HEAD: usize = 5;

/// A layer for `axum::middleware::from_fn`: turns a JSON call into a gRPC call, and its answer back. What is neither is refused.
pub async fn transcode(request: Request, next: Next) -> Response {
    if is_grpc(request.headers()) {
        return next.run(request).await;
    }
    if request.method() != Method::POST {
        let text = "rpcs are called with POST, with a body of JSON or gRPC";
        let refused = refused(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", text);
        return ([(ALLOW, "POST")], refused).into_response();
    }
    if !is_json(request.headers()) {
        let text = "the header `content-type` must be `application/json`, or `application/grpc` over HTTP/2";
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "CONTENT_TYPE", text);
    }
    if let Some(sent) = coding(request.headers()) {
        let text = format!("a body with `content-encoding: {sent}` is not read; send it without");
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "CONTENT_CODING", &text);
    }
    match call(request, next).await {
        Ok(body) => (StatusCode::OK, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(status) => failed(&status),
    }
}

/// An error in the language of the request.
pub fn refuse(request: &HeaderMap, status: &Status) -> Response {
    if is_grpc(request) { status.clone().into_http() } else { failed(status) }
}

/// An error that only HTTP knows.
fn refused(status: StatusCode, reason: &'static str, text: &str) -> Response {
    let error = Error::new(Code::InvalidArgument, reason, text);
    (status, failed(&error.into())).into_response()
}

async fn call(request: Request, next: Next) -> Result<String, Status> {
    let method = find(request.uri().path())?;
    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST_BYTES).await.map_err(|error| {
        bodies::failure(&error).unwrap_or_else(|| {
            let text = format!("cannot read the body, or it exceeds {MAX_REQUEST_BYTES} bytes: {error}");
            Error::new(Code::ResourceExhausted, "BODY_TOO_LARGE", text).into()
        })
    })?;
    let message = read(method.input(), &body)?;
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    let response = next.run(Request::from_parts(head, Body::from(frame(&message)))).await;
    transcode_response(method.output(), response).await
}

fn find(path: &str) -> Result<MethodDescriptor, Status> {
    let method = path.trim_start_matches('/').split_once('/').and_then(|(service, method)| {
        reflect::pool().get_service_by_name(service)?.methods().find(|known| known.name() == method)
    });
    let method = method.ok_or_else(|| {
        Status::from(
            Error::new(Code::Unimplemented, "UNKNOWN_METHOD", format!("unknown rpc {path}"))
                .with("path", path),
        )
    })?;
    if method.is_client_streaming() || method.is_server_streaming() {
        let text = format!("{path} is a streaming rpc; call it over gRPC");
        return Err(Error::new(Code::Unimplemented, "STREAMING_METHOD", text).with("path", path).into());
    }
    Ok(method)
}

fn read(descriptor: MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, Status> {
    let bad = |text: String| Status::from(Error::new(Code::InvalidArgument, "MALFORMED_JSON", text));
    let body = if body.is_empty() { b"{}".as_slice() } else { body };
    match read_names(descriptor.clone(), body) {
        Err(error) if error.to_string().contains(UNKNOWN_VALUE) => read_words(descriptor, body).map_err(bad),
        read => read.map_err(|error| bad(error.to_string())),
    }
}

fn read_names(descriptor: MessageDescriptor, body: &[u8]) -> serde_json::Result<DynamicMessage> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor, &mut json, &options)?;
    json.end()?;
    Ok(message)
}

/// Reads a message whose enum values are short words. It costs a tree of the whole body, and so is done only where one is met.
fn read_words(descriptor: MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, String> {
    let mut json: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    words::to_names(&descriptor, &mut json).map_err(|error| taken_words(&descriptor, error).to_string())?;
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor, json, &options).map_err(|error| error.to_string())
}

/// The error with what the field takes, where that is not all that its enum has.
fn taken_words(of: &MessageDescriptor, error: UnknownWord) -> UnknownWord {
    if of.full_name() != "trunkline.policy.v1.DecideApprovalRequest" {
        return error;
    }
    let taken = [ApprovalState::Approved, ApprovalState::Denied].map(|state| state.as_str_name().to_owned());
    UnknownWord { choices: taken.to_vec(), ..error }
}

fn frame(message: &DynamicMessage) -> Bytes {
    let mut framed = BytesMut::with_capacity(FRAME_HEAD + message.encoded_len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}

async fn transcode_response(descriptor: MessageDescriptor, response: Response) -> Result<String, Status> {
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers).filter(|status| status.code() != Code::Ok) {
        return Err(status);
    }
    let broken =
        |error: &dyn std::fmt::Display| Status::internal(format!("cannot transcode the response: {error}"));
    let collected = body.collect().await.map_err(|error| broken(&error))?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    if let Some(status) = Status::from_header_map(&trailers).filter(|status| status.code() != Code::Ok) {
        return Err(status);
    }
    let bytes = collected.to_bytes();
    let message = bytes.get(FRAME_HEAD..).ok_or_else(|| broken(&"it is empty"))?;
    let message = DynamicMessage::decode(descriptor, message).map_err(|error| broken(&error))?;
    let mut text = Vec::new();
    let options = SerializeOptions::new().skip_default_fields(true);
    let mut json = serde_json::Serializer::new(&mut text);
    message.serialize_with_options(&mut json, &options).map_err(|error| broken(&error))?;
    String::from_utf8(text).map_err(|error| broken(&error))
}

/// Tells whether a request is a call over gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// How a body is compressed, where it cannot be read because it is.
fn coding(headers: &HeaderMap) -> Option<String> {
    let sent = headers.get(CONTENT_ENCODING)?.as_bytes();
    let is_plain = matches!(border::body::coding(Some(sent)), Coding::Identity | Coding::Mislabelled);
    (!is_plain).then(|| printable::line(&String::from_utf8_lossy(sent)).to_string())
}

fn failed(status: &Status) -> Response {
    let body = json!({
        "code": word(status.code()),
        "message": status.message(),
        "details": details(status),
    });
    let mut response =
        (http_status(status.code()), [(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
    if let Some(time) = retry_after(status) {
        // It is not the caller who has too much, so 429 would be wrong.
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, time.as_secs().max(1).into());
    }
    response
}

fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

fn details(status: &Status) -> Vec<Value> {
    let mut details = Vec::new();
    if let Some(info) = status.get_details_error_info() {
        let metadata: std::collections::BTreeMap<_, _> = info.metadata.into_iter().collect();
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": info.reason, "domain": info.domain, "metadata": metadata,
        }));
    }
    if let Some(bad) = status.get_details_bad_request() {
        let violations: Vec<Value> = bad
            .field_violations
            .into_iter()
            .map(|violation| json!({ "field": violation.field, "description": violation.description }))
            .collect();
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": violations,
        }));
    }
    if let Some(time) = retry_after(status) {
        let delay = format!("{}s", time.as_secs_f64());
        details.push(json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay }));
    }
    details
}

/// Each code's name, and the HTTP status that google.rpc.Code gives it.
fn table(code: Code) -> (&'static str, u16) {
    match code {
        Code::Ok => ("OK", 200),
        Code::Cancelled => ("CANCELLED", 499),
        Code::Unknown => ("UNKNOWN", 500),
        Code::InvalidArgument => ("INVALID_ARGUMENT", 400),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", 504),
        Code::NotFound => ("NOT_FOUND", 404),
        Code::AlreadyExists => ("ALREADY_EXISTS", 409),
        Code::PermissionDenied => ("PERMISSION_DENIED", 403),
        Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", 429),
        Code::FailedPrecondition => ("FAILED_PRECONDITION", 400),
        Code::Aborted => ("ABORTED", 409),
        Code::OutOfRange => ("OUT_OF_RANGE", 400),
        Code::Unimplemented => ("UNIMPLEMENTED", 501),
        Code::Internal => ("INTERNAL", 500),
        Code::Unavailable => ("UNAVAILABLE", 503),
        Code::DataLoss => ("DATA_LOSS", 500),
        Code::Unauthenticated => ("UNAUTHENTICATED", 401),
    }
}

fn word(code: Code) -> &'static str {
    table(code).0
}

fn http_status(code: Code) -> StatusCode {
    StatusCode::from_u16(table(code).1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_upstream(body: &str) -> Result<Value, String> {
        let upstream = reflect::pool().get_message_by_name("trunkline.registry.v1.Upstream").unwrap();
        let message = read(upstream, body.as_bytes()).map_err(|status| status.message().to_owned())?;
        Ok(serde_json::to_value(message).unwrap())
    }

    #[test]
    fn enum_values_may_be_short_words() {
        for word in ["legacy", "Legacy", "ERA_POLICY_LEGACY"] {
            let read = read_upstream(&format!(r#"{{"mcp":{{"eraPolicy":"{word}"}}}}"#)).unwrap();
            assert_eq!(read, json!({ "mcp": { "eraPolicy": "ERA_POLICY_LEGACY" } }), "{word}");
        }
        let error = read_upstream(r#"{"mcp":{"eraPolicy":"old"}}"#).unwrap_err();
        assert_eq!(error, "mcp.eraPolicy: must be `auto`, `modern` or `legacy`, not `old`");
        let error = read_upstream(r#"{"mcp":{"eraPolicy":"legacy"},"titel":"x"}"#).unwrap_err();
        assert!(error.contains("titel"), "{error}");
        assert!(read_upstream(r#"{"mcp":{"eraPolicy":"legacy"}} x"#).is_err());
    }
}
