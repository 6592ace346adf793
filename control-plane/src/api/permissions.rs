//! The credential that each rpc takes, as the contract declares it: exact paths, never prefixes.

use std::collections::{HashMap, HashSet};

use prost_reflect::{DescriptorPool, MethodDescriptor};
use trunkline::common::v1::{Access, Permission};

use crate::domain::reflect;

/// The option by which an rpc declares who may call it.
const OPTION: &str = "trunkline.common.v1.access";
/// The option by which it declares the permission that they need.
const PERMISSION: &str = "trunkline.common.v1.permission";
/// Rpcs of other contracts, which declare nothing. Anyone may call them.
const OPEN: [&str; 5] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    REFLECTION[0],
    REFLECTION[1],
];
/// Those of them whose requests are streams.
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The credential that a caller must present before an rpc runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the rpc is open, or reads a secret from its request.
    Nothing,
    /// The credential of an edge that is enrolled.
    Edge,
    /// The credential of a principal: a person, a service account or the administrator.
    Principal,
    /// That of a principal who holds a permission.
    Permission(Permission),
}

/// An rpc that does not declare who may call it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undeclared {
    /// It declares no access.
    #[error("{0} declares no access; add `option ({OPTION})`")]
    Access(String),
    /// It takes principals, and declares no permission.
    #[error("{0} declares ACCESS_CALLER and no permission; add `option ({PERMISSION})`")]
    Permission(String),
    /// It declares a permission that is looked at by nobody.
    #[error("{0} declares a permission without ACCESS_CALLER or ACCESS_SELF; remove `option ({PERMISSION})`")]
    Unused(String),
}

/// The credential that each rpc takes, by its path.
#[derive(Debug)]
pub struct Permissions {
    needs: HashMap<String, Needs>,
    /// The rpcs whose requests are streams of messages.
    streaming: HashSet<String>,
}

impl Permissions {
    /// Reads what the rpcs of a contract declare. Fails where one declares nothing.
    pub fn read(contract: &DescriptorPool) -> Result<Self, Undeclared> {
        let mut table: HashMap<_, _> = OPEN.iter().map(|path| ((*path).to_owned(), Needs::Nothing)).collect();
        let mut streaming: HashSet<_> = REFLECTION.iter().map(|path| (*path).to_owned()).collect();
        for method in contract.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let needs = match (access(contract, &method), permission(contract, &method)) {
                (Access::Unspecified, _) => return Err(Undeclared::Access(path)),
                (Access::Caller, Permission::Unspecified) => return Err(Undeclared::Permission(path)),
                (Access::Caller, permission) => Needs::Permission(permission),
                // The rpc itself looks at the permission: something of it everybody may, about themselves.
                (Access::Self_, _) => Needs::Principal,
                (_, permission) if permission != Permission::Unspecified => {
                    return Err(Undeclared::Unused(path));
                }
                // Edges serve it to each other, the control plane does not.
                (Access::Sibling, _) => continue,
                (Access::Edge, _) => Needs::Edge,
                (Access::Join | Access::Anyone, _) => Needs::Nothing,
            };
            if method.is_client_streaming() {
                streaming.insert(path.clone());
            }
            table.insert(path, needs);
        }
        Ok(Self { needs: table, streaming })
    }

    /// Finds what a path needs. Unknown paths need a principal, so that a stranger cannot learn what exists.
    pub fn needs(&self, path: &str) -> Needs {
        self.needs.get(path).copied().unwrap_or(Needs::Principal)
    }

    /// Returns whether the requests of an rpc are streams of messages.
    pub fn is_client_streaming(&self, path: &str) -> bool {
        self.streaming.contains(path)
    }
}

/// Lists the services of the contract that the control plane serves: all but those that edges serve to each other.
pub fn served() -> impl Iterator<Item = String> {
    let is_served = |method: MethodDescriptor| access(reflect::pool(), &method) != Access::Sibling;
    let services = reflect::pool().services().filter(move |service| service.methods().any(is_served));
    services.map(|service| service.full_name().to_owned())
}

fn access(contract: &DescriptorPool, method: &MethodDescriptor) -> Access {
    let declared = option(contract, OPTION, method).and_then(|number| Access::try_from(number).ok());
    declared.unwrap_or(Access::Unspecified)
}

/// The permission that an rpc declares.
pub(super) fn permission(contract: &DescriptorPool, method: &MethodDescriptor) -> Permission {
    let declared = option(contract, PERMISSION, method).and_then(|number| Permission::try_from(number).ok());
    declared.unwrap_or(Permission::Unspecified)
}

fn option(contract: &DescriptorPool, name: &str, method: &MethodDescriptor) -> Option<i32> {
    method.options().get_extension(&contract.get_extension_by_name(name)?).as_enum_number()
}

#[cfg(test)]
mod tests {
    use prost_types::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};

    use super::*;
    use crate::domain::reflect::pool;

    #[test]
    fn every_rpc_declares_its_access() {
        let permissions = Permissions::read(pool()).unwrap();
        let count = |wanted| permissions.needs.values().filter(|needs| **needs == wanted).count();
        assert_eq!(
            (count(Needs::Edge), count(Needs::Nothing), count(Needs::Principal)),
            (8, OPEN.len() + 3, 10)
        );
    }

    #[test]
    fn refuses_a_contract_with_an_undeclared_rpc() {
        let mut contract = pool().clone();
        let empty = ".trunkline.identity.v1.ListSigningKeysRequest".to_owned();
        let method = MethodDescriptorProto {
            name: Some("Open".to_owned()),
            input_type: Some(empty.clone()),
            output_type: Some(empty),
            ..Default::default()
        };
        let service = ServiceDescriptorProto {
            name: Some("New".to_owned()),
            method: vec![method],
            ..Default::default()
        };
        let file = FileDescriptorProto {
            name: Some("new.proto".to_owned()),
            package: Some("new".to_owned()),
            dependency: vec!["trunkline/identity/v1/signing_key_service.proto".to_owned()],
            service: vec![service],
            syntax: Some("proto3".to_owned()),
            ..Default::default()
        };
        contract.add_file_descriptor_proto(file).unwrap();
        assert_eq!(Permissions::read(&contract).unwrap_err(), Undeclared::Access("/new.New/Open".to_owned()));
    }

    #[test]
    fn requests_that_are_streams_are_known() {
        let permissions = Permissions::read(pool()).unwrap();
        let mut streaming: Vec<_> = permissions.streaming.iter().map(String::as_str).collect();
        streaming.sort_unstable();
        let resources = "/trunkline.discovery.v1.DiscoveryService/StreamResources";
        let usage = "/trunkline.telemetry.v1.UsageService/ReportUsage";
        let limits = "/trunkline.policy.v1.LimitService/LeaseLimits";
        let audit = "/trunkline.admin.v1.AuditService/ReportAudit";
        assert_eq!(streaming, [REFLECTION[0], REFLECTION[1], audit, resources, limits, usage]);
    }

    #[test]
    fn takes_paths_whole() {
        let permissions = Permissions::read(pool()).unwrap();
        let enroll = "/trunkline.discovery.v1.EnrollmentService/EnrollEdge";
        assert_eq!(permissions.needs(enroll), Needs::Nothing);
        for path in
            [&format!("{enroll}Again"), &format!("{enroll}/"), &format!("/{enroll}"), "/grpc.reflection."]
        {
            assert_eq!(permissions.needs(path), Needs::Principal, "{path}");
        }
    }
}
