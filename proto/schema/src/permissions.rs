//! The table of permissions in `docs/API.md`: what each is for, and the rpcs that need it.

use std::fmt::Write as _;

use prost_reflect::{EnumValueDescriptor, MethodDescriptor};

use crate::contract::pool;
use crate::prose;

const PERMISSIONS: &str = "trunkline.common.v1.Permission";
/// The option that names a permission.
const NAME: &str = "trunkline.common.v1.permission_name";
/// The option by which an rpc declares the permission that it needs.
const NEEDED: &str = "trunkline.common.v1.permission";

/// The names of the permissions, in the order of the contract.
pub fn names() -> Vec<String> {
    named().into_iter().map(|(_, name)| name).collect()
}

/// The permissions, by their names.
fn named() -> Vec<(EnumValueDescriptor, String)> {
    let Some(option) = pool().get_extension_by_name(NAME) else { return Vec::new() };
    let values = pool().get_enum_by_name(PERMISSIONS);
    let values = values.iter().flat_map(|values| values.values().collect::<Vec<_>>());
    let named = values.filter(|value| value.options().has_extension(&option)).map(|value| {
        let name = value.options().get_extension(&option).as_str().unwrap_or_default().to_owned();
        (value, name)
    });
    named.collect()
}

/// Renders the table. Rpcs are named by their services, without packages.
pub fn render() -> String {
    let mut table =
        "| permission | what who holds it may do | rpcs that need it |\n|---|---|---|\n".to_owned();
    for (value, name) in named() {
        let rpcs = services_of(value.number());
        let rpcs = if rpcs.is_empty() { "none by itself".to_owned() } else { rpcs.join("; ") };
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{name}` | {} | {rpcs} |", prose::of_value(&value).replace('|', "\\|"));
    }
    table
}

/// The rpcs that need a permission, as `ServerService: CreateServer, UpdateServer`.
fn services_of(permission: i32) -> Vec<String> {
    let Some(option) = pool().get_extension_by_name(NEEDED) else { return Vec::new() };
    let needs = |method: &MethodDescriptor| {
        method.options().get_extension(&option).as_enum_number() == Some(permission)
    };
    let services = pool().services().filter_map(|service| {
        let rpcs: Vec<_> = service.methods().filter(needs).map(|method| method.name().to_owned()).collect();
        (!rpcs.is_empty()).then(|| format!("{}: {}", service.name(), rpcs.join(", ")))
    });
    services.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- permissions: made from the contract -->\n";
    const END: &str = "<!-- end of permissions -->\n";

    #[test]
    fn the_table_is_what_the_contract_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/API.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (known, after) = rest.split_once(END).unwrap();
        let table = render();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
            return;
        }
        assert!(
            known == table,
            "docs/API.md differs; run `UPDATE_DOCS=1 cargo test -p schema`; it must be:\n{table}"
        );
    }

    #[test]
    fn an_rpc_is_under_the_permission_that_it_declares() {
        let table = render();
        let row = |name: &str| {
            table.lines().find(|line| line.starts_with(&format!("| `{name}` "))).unwrap().to_owned()
        };
        assert!(row("access.explain").contains("PolicyService: WhoCan"));
        assert!(row("servers.call").contains("none by itself"));
        assert!(row("registry.read").contains("PolicyService: ExplainAccess"));
    }
}
