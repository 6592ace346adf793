//! The rpcs that every kind has, a line for each kind. It must not know what any kind is.

use super::crud::{Create, Delete, Update};
use super::list::List;
use super::rpc::{Call, Rpc};
use crate::error::Error;

/// Implements an rpc: `Rpc package Kind field`, and for those under an upstream `, parent`.
macro_rules! standard {
    (Get $package:ident $kind:ident $one:ident) => { pastey::paste! {
        impl Rpc for trunkline::$package::v1::[<Get $kind Request>] {
            type Response = trunkline::$package::v1::[<Get $kind Response>];

            async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
                Ok(Self::Response { $one: Some(call.get(&self.name).await?) })
            }
        }
    } };
    (List $package:ident $kind:ident $many:ident $(, $parent:ident)?) => { pastey::paste! {
        impl Rpc for trunkline::$package::v1::[<List $kind s Request>] {
            type Response = trunkline::$package::v1::[<List $kind s Response>];

            async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
                let list = List {
                    parent: None$(.or(Some(self.$parent.as_str())))?,
                    page_size: self.page_size,
                    page_token: &self.page_token,
                    filter: &self.filter,
                    order_by: &self.order_by,
                };
                let ($many, next_page_token) = call.list(&list).await?;
                Ok(Self::Response { $many, next_page_token })
            }
        }
    } };
    (Create $package:ident $kind:ident $one:ident $(, $parent:ident)?) => { pastey::paste! {
        impl Rpc for trunkline::$package::v1::[<Create $kind Request>] {
            type Response = trunkline::$package::v1::[<Create $kind Response>];

            async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
                let create = Create {
                    parent: None$(.or(Some(self.$parent.as_str())))?,
                    id: (stringify!([<$one _id>]), &self.[<$one _id>]),
                    message: (stringify!($one), self.$one),
                    validate_only: self.validate_only,
                };
                Ok(Self::Response { $one: Some(call.create(create).await?) })
            }
        }
    } };
    (Update $package:ident $kind:ident $one:ident) => { pastey::paste! {
        impl Rpc for trunkline::$package::v1::[<Update $kind Request>] {
            type Response = trunkline::$package::v1::[<Update $kind Response>];

            async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
                let update = Update {
                    message: (stringify!($one), self.$one),
                    mask: self.update_mask,
                    allow_missing: self.allow_missing,
                    validate_only: self.validate_only,
                };
                Ok(Self::Response { $one: Some(call.update(update).await?) })
            }
        }
    } };
    (Delete $package:ident $kind:ident) => { pastey::paste! {
        impl Rpc for trunkline::$package::v1::[<Delete $kind Request>] {
            type Response = trunkline::$package::v1::[<Delete $kind Response>];

            async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
                let delete = Delete {
                    name: &self.name,
                    etag: &self.etag,
                    force: self.force,
                    validate_only: self.validate_only,
                };
                let revision = call.delete::<trunkline::$package::v1::$kind>(delete).await?;
                Ok(Self::Response { revision })
            }
        }
    } };
}

standard!(Get registry Upstream upstream);
standard!(List registry Upstream upstreams);
standard!(Delete registry Upstream);

standard!(Get registry Server server);
standard!(List registry Server servers);
standard!(Create registry Server server);
standard!(Update registry Server server);
standard!(Delete registry Server);

standard!(Get registry Tool tool);
standard!(List registry Tool tools, parent);
standard!(Create registry Tool tool, parent);
standard!(Update registry Tool tool);
standard!(Delete registry Tool);

standard!(Get registry Resource resource);
standard!(List registry Resource resources, parent);
standard!(Create registry Resource resource, parent);
standard!(Update registry Resource resource);
standard!(Delete registry Resource);

standard!(Get registry Prompt prompt);
standard!(List registry Prompt prompts, parent);
standard!(Create registry Prompt prompt, parent);
standard!(Update registry Prompt prompt);
standard!(Delete registry Prompt);

standard!(Get identity Token token);
standard!(List identity Token tokens);
standard!(Delete identity Token);

standard!(Get identity Team team);
standard!(List identity Team teams);
standard!(Create identity Team team);
standard!(Update identity Team team);
standard!(Delete identity Team);

standard!(Get identity Role role);
standard!(List identity Role roles);
standard!(Create identity Role role);
standard!(Update identity Role role);
standard!(Delete identity Role);
