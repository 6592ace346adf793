//! The contract's messages seen through their descriptors: for masks, filters and proto-JSON.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::KindRules;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(trunkline::DESCRIPTORS).expect("the build wrote a descriptor set that can be read")
});

/// The descriptors of the whole contract.
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// The descriptor of a kind's message.
pub fn descriptor<K: KindRules>() -> MessageDescriptor {
    POOL.get_message_by_name(K::MESSAGE).expect("every kind is a message of the contract")
}

/// A message, by its fields.
pub fn dynamic<K: KindRules>(message: &K) -> DynamicMessage {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor::<K>(), bytes.as_slice())
        .expect("encoded and decoded by the same contract")
}

/// The reverse of `dynamic`.
pub fn typed<K: KindRules>(message: &DynamicMessage) -> K {
    K::decode(message.encode_to_vec().as_slice()).expect("encoded and decoded by the same contract")
}
