//! Resources and templates.

use ringhub::native::{Builder, Completing, Context, Json, Resource, Template, Variables};
use serde_json::json;

use crate::media;

pub fn add(server: Builder) -> Builder {
    server
        .resource(
            Resource::new("test://static-text", "static-text").description("A text that never changes").mime_type("text/plain"),
            |_: &Context| "This is the content of the static text resource.",
        )
        .resource(
            Resource::new("test://static-binary", "static-binary").description("An image that never changes").mime_type("image/png"),
            |_: &Context| media::PNG.to_vec(),
        )
        .resource(
            Resource::new("test://watched-resource", "watched-resource")
                .description("A text that clients can subscribe to")
                .mime_type("text/plain"),
            |_: &Context| "Watched resource content",
        )
        .template(
            Template::new("test://template/{id}/data", "template").description("Data for any id").mime_type("application/json"),
            |at: &Variables, _: &Context| {
                let id = at.get("id");
                Json(json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")}))
            },
        )
        .complete_template("test://template/{id}/data", "id", |typed: &Completing, _: &Context| {
            ["123", "456"].into_iter().filter(|id| id.starts_with(&typed.value)).map(str::to_owned).collect()
        })
}
