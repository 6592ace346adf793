//! The descriptors of the contract, and the kinds of resource that files hold.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(trunkline::DESCRIPTORS)
        .expect("the descriptors are compiled in, and were just built")
});

/// Returns the descriptors of the whole contract.
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// Returns the kinds that files may hold, in the order of the contract.
pub fn kinds() -> Vec<MessageDescriptor> {
    let manifest = POOL.get_message_by_name("trunkline.admin.v1.Manifest");
    let manifest = manifest.expect("the contract declares it");
    manifest.fields().filter_map(|field| field.kind().as_message().cloned()).collect()
}

/// Returns whether a message is part of our contract. Google's messages have a JSON form of their own.
pub fn is_ours(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("trunkline.")
}

/// Returns the message whose fields are the fields below this one, in whatever number it is there.
pub fn below(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    kind.as_message().filter(|message| is_ours(message)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_files_are_known() {
        let names: Vec<_> = kinds().iter().map(|kind| kind.name().to_owned()).collect();
        assert_eq!(names, ["Upstream", "Server", "Tool", "Resource", "Prompt", "Token", "Team", "Role"]);
    }
}
