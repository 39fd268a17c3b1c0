//! The conformance fixture server: every tool, resource and prompt that the official conformance suite wants to find, on the public
//! API alone. It takes the flags of `ringhub serve`.

mod asks;
mod media;
mod prompts;
mod resources;
mod tools;

use std::process::ExitCode;

use clap::Parser;
use ringhub::cli::ServeArgs;
use ringhub::native::{BuildError, Server};

/// The conformance fixture server.
#[derive(Parser)]
#[command(name = "everything", max_term_width = 110)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

fn main() -> ExitCode {
    ringhub::serve(&Flags::parse().serve, server)
}

fn server() -> Result<Server, BuildError> {
    let server = Server::builder("everything", env!("CARGO_PKG_VERSION"))
        .title("Conformance fixtures")
        .instructions("Fixtures for conformance tests: nothing here is of use otherwise.");
    let server = tools::add(server);
    let server = asks::add(server);
    let server = resources::add(server);
    prompts::add(server).build()
}

#[cfg(test)]
mod tests {
    use ringhub::native::testing::{Client, Reply};
    use serde_json::{Value, json};

    /// A client that answers every question the fixtures ask.
    fn client() -> Client {
        let accept = |content: Value| json!({"action": "accept", "content": content});
        let sampled = json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}});
        let roots = json!({"roots": [{"uri": "file:///a"}]});
        let client = Client::new(super::server().expect("all fixtures are valid"));
        let client =
            client.answer("sampling", sampled.clone()).answer("capital_question", sampled.clone()).answer("greeting", sampled.clone());
        let client = client.answer("sample_input", sampled).answer("client_roots", roots).answer("confirm", accept(json!({"ok": true})));
        let client = client.answer("step1", accept(json!({"name": "Ada"}))).answer("step2", accept(json!({"color": "blue"})));
        let client = client.answer("user_name", accept(json!({"name": "Ada"}))).answer("elicit_input", accept(json!({"name": "Ada"})));
        let client = client.answer("contact", accept(json!({"username": "ada", "email": "ada@example.com"})));
        client
            .answer("defaults", accept(json!({})))
            .answer("enums", json!({"action": "decline"}))
            .answer("user_context", accept(json!({"context": "c"})))
    }

    fn call(client: &mut Client, name: &str, arguments: Value) -> Reply {
        client.call(name, arguments).unwrap_or_else(|failure| panic!("{name}: {failure}"))
    }

    #[test]
    fn each_tool_answers_in_both_eras() {
        for legacy in [true, false] {
            let mut client = client().legacy(legacy);
            for tool in client.tools() {
                let name = tool["name"].as_str().expect("a name");
                assert!(tool["description"].is_string() && tool["inputSchema"]["type"] == "object", "{name}");
                let arguments = match name {
                    "json_schema_2020_12_tool" => json!({"email": "a@example.com"}),
                    "test_x_mcp_header" => json!({"region": "eu"}),
                    "test_sampling" => json!({"prompt": "p"}),
                    "test_elicitation" => json!({"message": "m"}),
                    _ => json!({}),
                };
                let reply = call(&mut client, name, arguments);
                assert_eq!(reply.is_error(), name == "test_error_handling", "{name}: {}", reply.text());
            }
        }
    }

    #[test]
    fn questions_are_answered_in_the_rounds_that_they_need() {
        let mut client = client();
        for (name, text, rounds) in [
            ("test_input_required_result_elicitation", "Hello, Ada!", 1),
            ("test_input_required_result_request_state", "state-ok: the request state came back", 1),
            ("test_input_required_result_multiple_inputs", "Ada: Paris (1 roots)", 1),
            ("test_input_required_result_multi_round", "Ada likes blue", 2),
        ] {
            assert_eq!(call(&mut client, name, json!({})).text(), text);
            assert_eq!(client.rounds(), rounds, "{name}");
        }
    }

    #[test]
    fn resources_and_prompts_answer() {
        let mut client = client();
        assert_eq!(
            client.read("test://template/123/data").expect("it matches").text(),
            r#"{"id":"123","templateTest":true,"data":"Data for ID: 123"}"#
        );
        assert!(client.read("test://nonexistent").is_err_and(|failure| failure.code == -32602));
        let prompt = client.prompt("test_prompt_with_arguments", json!({"arg1": "hello", "arg2": "world"})).expect("it is there");
        assert_eq!(prompt.text(), "Prompt with arguments: arg1='hello', arg2='world'");
        assert_eq!(client.prompt("test_input_required_result_prompt", json!({})).expect("it is there").text(), "Use this context: c");
        assert_eq!(
            client.complete_prompt("test_prompt_with_arguments", "arg1", "par"),
            Ok(vec!["paris".to_owned(), "park".to_owned(), "party".to_owned()])
        );
    }
}
