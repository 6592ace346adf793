//! Who may do what: conditions, grants and the decision about a request. It is pure: the control plane checks with it what people write
//! and explains with it, edges enforce by it. It must not know messages of the contract, MCP, clocks or sockets.
