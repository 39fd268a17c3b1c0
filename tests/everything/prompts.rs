//! Prompts and their completion.

use ringhub::native::{Builder, Completing, Content, Context, Empty, Prompt, PromptMessage, ResourceContents, ToolError};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::media;

#[derive(Deserialize, JsonSchema)]
struct Two {
    /// First test argument
    arg1: String,
    /// Second test argument
    arg2: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Embedded {
    /// URI of the resource to embed
    resource_uri: String,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Wanted {
    context: String,
}

pub fn add(server: Builder) -> Builder {
    server
        .prompt(
            Prompt::new("test_simple_prompt").description("A prompt without arguments"),
            |_: Empty, _: &Context| "This is a simple prompt for testing.",
        )
        .prompt(Prompt::new("test_prompt_with_arguments").description("A prompt with two arguments"), |args: Two, _: &Context| {
            format!("Prompt with arguments: arg1='{}', arg2='{}'", args.arg1, args.arg2)
        })
        .complete_prompt("test_prompt_with_arguments", "arg1", |typed: &Completing, _: &Context| {
            ["paris", "park", "party"].into_iter().filter(|word| word.starts_with(&typed.value)).map(str::to_owned).collect()
        })
        .prompt(
            Prompt::new("test_prompt_with_embedded_resource").description("A prompt with a resource in it"),
            |args: Embedded, _: &Context| {
                let contents = ResourceContents::text(args.resource_uri, "Embedded resource content for testing.");
                vec![
                    PromptMessage::user(Content::resource(contents.mime_type("text/plain"))),
                    PromptMessage::user("Please process the embedded resource above."),
                ]
            },
        )
        .prompt(Prompt::new("test_prompt_with_image").description("A prompt with an image in it"), |_: Empty, _: &Context| {
            vec![PromptMessage::user(Content::image(media::PNG, "image/png")), PromptMessage::user("Please analyze the image above.")]
        })
        .prompt_async(
            Prompt::new("test_input_required_result_prompt").description("A prompt that asks the user first"),
            |_: Empty, cx: Context| async move {
                let wanted = cx.elicit::<Wanted>("user_context", "What context should the prompt use?").await?;
                let context = wanted.accepted().map_or_else(|| "none".to_owned(), |wanted| wanted.context);
                Ok::<_, ToolError>(format!("Use this context: {context}"))
            },
        )
}
