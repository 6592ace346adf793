//! The operating system as the edge uses it: the wall clock and files. It must not know the content of files.

pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod sockets;
