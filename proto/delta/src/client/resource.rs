//! A resource on its way from a response to the sink, or refused.

use bytes::Bytes;
use prost_types::Any;
use trunkline::TypeTable;
use trunkline::discovery::v1::VersionedResource;

/// A resource as it arrives.
#[derive(Debug, Clone)]
pub struct Candidate<T> {
    /// Its type.
    pub kind: T,
    /// Its name.
    pub name: String,
    /// A hash of its content.
    pub version: String,
    /// Its message, encoded.
    pub body: Bytes,
}

/// A resource that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal<T> {
    /// Its type.
    pub kind: T,
    /// Its name.
    pub name: String,
    /// The reason.
    pub reason: String,
}

impl<T: TypeTable> Candidate<T> {
    /// Takes a resource out of a response of type `kind`.
    pub(super) fn parse(kind: T, resource: VersionedResource) -> Result<Self, Refusal<T>> {
        let VersionedResource { name, version, body } = resource;
        match body {
            None => Err(Refusal::new(kind, name, "it has no body")),
            Some(_) if version.is_empty() => Err(Refusal::new(kind, name, "it has no version")),
            Some(Any { type_url, value }) if T::parse(&type_url) == Some(kind) => {
                Ok(Self { kind, name, version, body: value.into() })
            }
            Some(_) => Err(Refusal::new(kind, name, "its body is of another type")),
        }
    }
}

impl<T> Refusal<T> {
    pub(super) fn new(kind: T, name: String, reason: &str) -> Self {
        Self { kind, name, reason: reason.to_owned() }
    }
}
