//! What variables say of a gateway and of who asks: enough without any file, as in the container of a build.

use std::path::PathBuf;

use super::{Context, Secret};

/// The variable that holds an API key for the control plane.
pub const API_KEY: &str = "TRUNKLINE_API_KEY";
/// The URL of the control plane; several are separated by commas, the next one for when the first is away.
pub const CONTROL: &str = "MCPCTL_CONTROL";
/// The URL of the edge.
pub const EDGE: &str = "MCPCTL_EDGE";
/// The file of authorities to trust besides those of the system.
pub const CA_FILE: &str = "MCPCTL_CA_FILE";
/// The file of the certificate that edges are shown which ask for one.
pub const CLIENT_CERT: &str = "MCPCTL_CLIENT_CERT";
/// The file of its key.
pub const CLIENT_KEY: &str = "MCPCTL_CLIENT_KEY";

/// Returns the API key.
pub fn api_key() -> Option<Secret> {
    set(API_KEY).map(Secret::new)
}

/// Returns the gateway. Nothing of a file is used with it: a credential that is saved for one gateway is not sent to another.
pub(super) fn gateway() -> Option<Context> {
    let file = |name| set(name).map(PathBuf::from);
    let (ca_file, client_cert, client_key) = (file(CA_FILE), file(CLIENT_CERT), file(CLIENT_KEY));
    let context = of(set(CONTROL).as_deref(), set(EDGE))?;
    Some(Context { ca_file, client_cert, client_key, ..context })
}

fn of(controls: Option<&str>, edge: Option<String>) -> Option<Context> {
    let controls = controls.unwrap_or_default().split(',').map(str::trim);
    let mut controls = controls.filter(|url| !url.is_empty()).map(str::to_owned);
    let (control, other_controls) = (controls.next(), controls.collect());
    let is_said = control.is_some() || edge.is_some();
    is_said.then(|| Context { control, other_controls, edge, ..Context::default() })
}

fn set(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_what_is_said_of_it() {
        let shown = |controls: Option<&str>, edge: Option<&str>| {
            let context = of(controls, edge.map(str::to_owned))?;
            Some((context.control, context.other_controls.join(" "), context.edge))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(shown(None, None), None);
        assert_eq!(shown(Some(" , "), None), None);
        assert_eq!(shown(None, Some("http://e")), Some((None, String::new(), some("http://e"))));
        assert_eq!(
            shown(Some("http://a, http://b"), None),
            Some((some("http://a"), "http://b".into(), None))
        );
    }
}
