//! The contract's messages seen through their descriptors: for masks, filters and proto-JSON.

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};

/// The descriptors of the whole contract.
pub use schema::contract::pool;
use schema::words;

use super::KindRules;

/// The descriptor of a kind's message.
pub fn descriptor<K: KindRules>() -> MessageDescriptor {
    pool().get_message_by_name(K::MESSAGE).expect("every kind is a message of the contract")
}

/// The words of an enum of the contract, for an error: `auto`, `modern` or `legacy`.
pub fn choices(of: &str) -> String {
    let known = pool().get_enum_by_name(of).map(|of| words::choices(&of));
    words::one_of(&known.unwrap_or_default())
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
