//! No definition makes the fitting fail; what is listed is JSON to others, and fits.

use mcp::entry::{Fit, List, fit};
use mcp::revision::Era;
use mcp::session_loss::{Refusal, suspicious};
use mcp::uri::naming::{expose, original};
use serde_json::value::RawValue;

pub(crate) fn check(definition: &str) {
    for list in [List::Tools, List::Resources, List::Templates, List::Prompts] {
        for era in [Era::Legacy, Era::Modern] {
            if let Fit::Mended { definition: listed, .. } = fit(list, era, definition) {
                assert!(serde_json::from_str::<&RawValue>(&listed).is_ok());
                assert_eq!(fit(list, era, &listed), Fit::Valid, "{listed}");
            }
        }
    }
    let exposed = expose("up+", definition);
    assert_eq!(original("up+", &exposed).as_deref(), Some(definition));
    let refusal = Refusal::read(404, definition.as_bytes());
    assert!(suspicious(&refusal) || refusal.code.is_some());
}
