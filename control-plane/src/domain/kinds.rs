//! The table of kinds. A kind of resource is a row here, and its rules in the file of its name.

/// Calls a macro with the rows of the table. A kind that others refer to stands before them.
///
/// `package` and the kind's name lead to its message. `collection` is the segment in resource names, `under_upstream`
/// says whether the name begins with that of an upstream. `manifest` is the field of `admin.v1.Manifest`, as variant and
/// as text. `read` and `write` are the permissions that its standard rpcs declare. `output_only` are the fields that nobody
/// writes, beside those of `meta`.
macro_rules! each_kind {
    ($macro:ident) => {
        $macro! {
            /// A backend.
            Upstream {
                package: registry, collection: "upstreams", under_upstream: false,
                manifest: Upstream "upstream", read: RegistryRead, write: UpstreamsWrite,
                output_only: [status],
            }
            /// A tool of an upstream.
            Tool {
                package: registry, collection: "tools", under_upstream: true,
                manifest: Tool "tool", read: RegistryRead, write: UpstreamsWrite,
                output_only: [tool_name, title, description, hints, stale_time, position, state, reason],
            }
            /// A resource, or resource template, of an upstream.
            Resource {
                package: registry, collection: "resources", under_upstream: true,
                manifest: ResourceEntry "resource_entry", read: RegistryRead, write: UpstreamsWrite,
                output_only: [uri, uri_template, title, description, stale_time, position, state, reason],
            }
            /// A prompt of an upstream.
            Prompt {
                package: registry, collection: "prompts", under_upstream: true,
                manifest: Prompt "prompt", read: RegistryRead, write: UpstreamsWrite,
                output_only: [prompt_name, title, description, stale_time, position, state, reason],
            }
            /// A virtual server.
            Server {
                package: registry, collection: "servers", under_upstream: false,
                manifest: Server "server", read: RegistryRead, write: ServersWrite,
                output_only: [status],
            }
            /// A client's right to call.
            Token {
                package: identity, collection: "tokens", under_upstream: false,
                manifest: Token "token", read: TokensRead, write: TokensIssue,
                output_only: [revoke_time, key_id, state, reason, unmatched, last_use_time, last_use_address, suspend_time],
            }
            /// A group of people.
            Team {
                package: identity, collection: "teams", under_upstream: false,
                manifest: Team "team", read: RegistryRead, write: TeamsWrite,
                output_only: [status],
            }
            /// A set of permissions.
            Role {
                package: identity, collection: "roles", under_upstream: false,
                manifest: Role "role", read: RegistryRead, write: RolesWrite,
                output_only: [built_in],
            }
        }
    };
}
pub(crate) use each_kind;
