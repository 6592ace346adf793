//! `resources/read`.

use rmcp::ErrorData;
use rmcp::model::ReadResourceResult;
use serde_json::{Value, json};

use crate::catalog::complete;
use crate::content;

pub(crate) fn read(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        "test://static-text" => text(uri, "text/plain", "This is the content of the static text resource."),
        "test://watched-resource" => text(uri, "text/plain", "Watched resource content."),
        "test://static-binary" => json!({"uri": uri, "mimeType": "image/png", "blob": content::png_blob()}),
        _ => match template_id(uri) {
            Some(id) => text(uri, "application/json", &template_data(id)),
            None => {
                return Err(ErrorData::resource_not_found("Resource not found", Some(json!({"uri": uri}))));
            }
        },
    };
    Ok(complete(json!({"contents": [contents]})))
}

fn text(uri: &str, mime_type: &str, text: &str) -> Value {
    json!({"uri": uri, "mimeType": mime_type, "text": text})
}

fn template_id(uri: &str) -> Option<&str> {
    uri.strip_prefix("test://template/")?
        .strip_suffix("/data")
        .filter(|id| !id.is_empty() && !id.contains('/'))
}

fn template_data(id: &str) -> String {
    json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")}).to_string()
}
