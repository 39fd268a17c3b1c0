//! The client's side of the conversation: it answers what the server asks and notes what the server tells.

use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
        ElicitationAction, ElicitationCapability, Implementation, LoggingMessageNotificationParam, ProgressNotificationParam,
        SamplingCapability, SamplingMessage, SamplingMessageContentBlock,
    },
    service::{NotificationContext, RequestContext},
};
use serde_json::{Map, Value, json};

use crate::Seen;

/// Accepts every form, completes every sentence with `Paris`.
pub struct Client {
    seen: Seen,
}

impl Client {
    /// A client that notes what it is asked and told in `seen`.
    pub fn new(seen: Seen) -> Self {
        Self { seen }
    }
}

impl ClientHandler for Client {
    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } = params else {
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        self.seen.push("asked", message);
        let fields = requested_schema.properties.keys();
        let content: Map<String, Value> = fields.map(|field| (field.clone(), answer(field))).collect();
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(Value::Object(content)))
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let turns = params.messages.into_iter();
        for block in turns.flat_map(|message| message.content.into_vec()) {
            if let SamplingMessageContentBlock::Text(text) = block {
                self.seen.push("asked", text.text);
            }
        }
        let answer = SamplingMessage::assistant_text("Paris");
        Ok(CreateMessageResult::new(answer, "none".to_owned()))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.seen.push("progress", json!([params.progress, params.total]));
    }

    async fn on_logging_message(&self, params: LoggingMessageNotificationParam, _context: NotificationContext<RoleClient>) {
        let data = params.data.as_str().unwrap_or("not a string");
        let level = format!("{:?}", params.level).to_lowercase();
        self.seen.push("logs", format!("{level}: {data}"));
    }

    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(ElicitationCapability::default());
        capabilities.sampling = Some(SamplingCapability::default());
        ClientConfig::new(capabilities, Implementation::new("ringhub-test-rmcp", "1"))
    }
}

fn answer(field: &str) -> Value {
    match field {
        "email" => json!("ada@example.com"),
        _ => json!("ada"),
    }
}
