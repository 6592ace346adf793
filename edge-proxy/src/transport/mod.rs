//! Bytes of HTTP and WebSocket to messages and back. It must not know the caller or what is called.

mod body;
mod buffered_body;
mod client_tls;
mod http_connection;
mod message;
mod origin_policy;
pub mod path;
pub mod request_body;
pub mod streamable;
pub mod websocket;

pub use body::{Body, Chunks};
pub use buffered_body::{BufferError, BufferedBody};
pub use client_tls::{ClientPort, ClientTls, HandedOver, TlsStream};
pub use http_connection::{HolderIdentity, HttpConnection};
pub use message::{Message, is_empty_list, mended, unreadable, with_object_arguments};
pub use origin_policy::OriginPolicy;
pub use request_body::RequestBody;
