//! Who may do what: conditions, grants and the decision about a request. It is pure: the control plane checks with it what people write
//! and explains with it, edges enforce by it. It must not know messages of the contract, MCP, clocks or sockets.

pub mod address;
pub mod certificate;
pub mod change;
pub mod decide;
pub mod difference;
pub mod explain;
pub mod limit;
pub mod method;
pub mod rule;
mod ruled;
mod targets;
mod text;
pub mod window;
pub mod world;
