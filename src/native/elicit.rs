//! Elicitation: forms and pages for the client's user.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::ask::{AskError, Asking, Capability};
use super::context::Context;
use super::form;
use super::host::AskMethod;
use super::schema;
use crate::wire::mcp::Version;

/// What a user made of an elicitation.
///
/// ```
/// use ringhub::native::Elicited;
/// assert_eq!(Elicited::Accepted(5).accepted(), Some(5));
/// assert_eq!(Elicited::<i32>::Declined.accepted(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Elicited<T> {
    /// The user submitted the form, or agreed to visit the page.
    Accepted(T),
    /// The user said no.
    Declined,
    /// The user closed it without choosing.
    Cancelled,
}

impl<T> Elicited<T> {
    /// What was entered, if anything was.
    #[must_use]
    pub fn accepted(self) -> Option<T> {
        match self {
            Self::Accepted(entered) => Some(entered),
            Self::Declined | Self::Cancelled => None,
        }
    }
}

/// A form with a schema written by hand: see [`Context::elicit_form`].
///
/// ```
/// use ringhub::native::{testing::Client, Context, Elicitation, Empty, Server, Tool, ToolError};
///
/// let server = Server::builder("demo", "1.0")
///     .tool_async(Tool::new("ask"), |_: Empty, cx: Context| async move {
///         let form = Elicitation::new("How old are you?", serde_json::json!({
///             "type": "object",
///             "properties": {"age": {"type": "integer", "minimum": 0, "default": 30}},
///             "required": ["age"],
///         }));
///         let entered = cx.elicit_form("age", form).await?.accepted();
///         Ok::<_, ToolError>(entered.map_or("no answer".to_owned(), |entered| entered["age"].to_string()))
///     })
///     .build()?;
/// let mut client = Client::new(server).answer("age", serde_json::json!({"action": "accept", "content": {"age": 7}}));
/// assert_eq!(client.call("ask", serde_json::json!({}))?.text(), "7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Elicitation {
    message: String,
    schema: Value,
}

impl Elicitation {
    /// A form that says `message` and has the fields of `schema`: an object of strings, numbers, booleans, enumerations and lists of
    /// enumerated values, nothing nested (client/elicitation, "requested schema").
    #[must_use]
    pub fn new(message: impl Into<String>, schema: Value) -> Self {
        Self { message: message.into(), schema }
    }
}

/// A page for the user to visit, for what must not pass through the client (2025-11-25 and later): see [`Context::elicit_url`].
///
/// ```
/// use ringhub::native::{testing::Client, Context, Elicited, Empty, Server, Tool, ToolError, UrlElicitation};
///
/// let server = Server::builder("demo", "1.0")
///     .tool_async(Tool::new("pay"), |_: Empty, cx: Context| async move {
///         let page = UrlElicitation::new("Please pay", "https://pay.example.com/17", "payment-17");
///         Ok::<_, ToolError>(match cx.elicit_url("pay", page).await? {
///             Elicited::Accepted(()) => "on the way",
///             _ => "not now",
///         })
///     })
///     .build()?;
/// let mut client = Client::new(server).answer("pay", serde_json::json!({"action": "decline"}));
/// assert_eq!(client.call("pay", serde_json::json!({}))?.text(), "not now");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlElicitation {
    message: String,
    url: String,
    id: String,
}

impl UrlElicitation {
    /// Asks the user to visit `url`; `message` says why. `id` names this elicitation (2025-11-25 sends it along).
    #[must_use]
    pub fn new(message: impl Into<String>, url: impl Into<String>, id: impl Into<String>) -> Self {
        Self { message: message.into(), url: url.into(), id: id.into() }
    }
}

/// What a client answers to `elicitation/create`.
#[derive(Deserialize)]
struct ElicitResult {
    action: Action,
    content: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Accept,
    Decline,
    Cancel,
}

impl Context {
    /// Shows the user a form with the fields of `T`, and gives what was entered.
    ///
    /// `T` must be flat: strings (with `length`, `email`, `url`), numbers (with `range`), booleans, enumerations without data, lists of
    /// such, and `Option`s of these. Doc comments become descriptions, `#[serde(default)]` values are filled in, and
    /// `#[schemars(title = "…")]` on a variant is what the user sees for it.
    ///
    /// # Errors
    /// See [`AskError`]; [`AskError::Invalid`] when `T` is not flat.
    ///
    /// ```
    /// use ringhub::native::{testing::Client, Context, Empty, Server, Tool, ToolError};
    ///
    /// #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
    /// struct Booking {
    ///     /// How many of you
    ///     #[schemars(range(min = 1, max = 8))]
    ///     guests: u8,
    ///     seats: Option<Seats>,
    /// }
    /// #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
    /// enum Seats { Window, Aisle }
    ///
    /// let server = Server::builder("demo", "1.0")
    ///     .tool_async(Tool::new("book"), |_: Empty, cx: Context| async move {
    ///         let booking = cx.elicit::<Booking>("booking", "Your table").await?;
    ///         Ok::<_, ToolError>(format!("{:?}", booking.accepted()))
    ///     })
    ///     .build()?;
    /// let mut client = Client::new(server).answer("booking", serde_json::json!({"action": "accept", "content": {"guests": 2}}));
    /// assert_eq!(client.call("book", serde_json::json!({}))?.text(), "Some(Booking { guests: 2, seats: None })");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn elicit<T: DeserializeOwned + JsonSchema>(&self, key: &str, message: &str) -> Result<Elicited<T>, AskError> {
        let form = form::of::<T>(self.version()).map_err(AskError::Invalid)?;
        let enforced = schema::of_input::<T>().map_err(AskError::Invalid)?;
        let read = |content| serde_json::from_value(content).map_err(|error| error.to_string());
        self.elicit_as(key, message, form, &enforced, read).await
    }

    /// Shows the user a form with a schema written by hand, and gives what was entered. See [`Elicitation`].
    ///
    /// # Errors
    /// See [`AskError`]; [`AskError::Invalid`] when the schema is not valid, or not flat.
    pub async fn elicit_form(&self, key: &str, form: Elicitation) -> Result<Elicited<Value>, AskError> {
        form::demand_flat(&form.schema).map_err(AskError::Invalid)?;
        let enforced = form.schema.clone();
        self.elicit_as(key, &form.message, form.schema, &enforced, Ok).await
    }

    async fn elicit_as<T>(
        &self,
        key: &str,
        message: &str,
        form: Value,
        enforced: &Value,
        read: impl Fn(Value) -> Result<T, String> + 'static,
    ) -> Result<Elicited<T>, AskError> {
        let validator = schema::compile(enforced).map_err(AskError::Invalid)?;
        let mut params = Map::new();
        if matches!(self.version(), Version::V2025_11_25 | Version::V2026_07_28) {
            params.insert("mode".to_owned(), json!("form"));
        }
        params.insert("message".to_owned(), json!(message));
        params.insert("requestedSchema".to_owned(), form);
        let params = Value::Object(params).to_string().into_bytes();
        let read = move |raw: &[u8]| {
            elicited(raw, |content| {
                schema::violations(&validator, &content)?;
                read(content)
            })
        };
        Asking::new(self, key, Capability::Elicitation, AskMethod::Elicit, params, read).await
    }

    /// Sends the user to a page. See [`UrlElicitation`]. That the user agreed does not mean that what the page is for has been done.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn elicit_url(&self, key: &str, page: UrlElicitation) -> Result<Elicited<()>, AskError> {
        let mut params = json!({"mode": "url", "message": page.message, "url": page.url});
        if self.version() == Version::V2025_11_25 {
            params["elicitationId"] = json!(page.id);
        }
        let params = params.to_string().into_bytes();
        let read = |raw: &[u8]| Ok(elicited_action(raw)?.0);
        Asking::new(self, key, Capability::ElicitationUrl, AskMethod::Elicit, params, read).await
    }
}

fn elicited<T>(raw: &[u8], read: impl Fn(Value) -> Result<T, String>) -> Result<Elicited<T>, String> {
    let (action, content) = elicited_action(raw)?;
    match action {
        Elicited::Accepted(()) => Ok(Elicited::Accepted(read(content.unwrap_or_else(|| json!({})))?)),
        Elicited::Declined => Ok(Elicited::Declined),
        Elicited::Cancelled => Ok(Elicited::Cancelled),
    }
}

fn elicited_action(raw: &[u8]) -> Result<(Elicited<()>, Option<Value>), String> {
    let ElicitResult { action, content } = serde_json::from_slice(raw).map_err(|error| error.to_string())?;
    let action = match action {
        Action::Accept => Elicited::Accepted(()),
        Action::Decline => Elicited::Declined,
        Action::Cancel => Elicited::Cancelled,
    };
    Ok((action, content))
}
