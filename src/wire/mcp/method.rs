//! Methods and notifications, and which revisions have them.

use super::{Era, Version};

/// The parameter that the `Mcp-Name` header mirrors (2026-07-28, transports).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum NameParam {
    /// `name`
    Name,
    /// `uri`
    Uri,
    /// `taskId`
    TaskId,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident = $name:literal;)*) => {
        /// A request that a client sends to a server, in either era.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum Method {
            $($(#[$doc])* $method,)*
            /// None that MCP defines.
            Unknown,
        }

        impl Method {
            /// Every method that MCP defines.
            pub const ALL: &'static [Self] = &[$(Self::$method,)*];

            /// The method of this name.
            #[must_use]
            pub fn parse(text: &str) -> Self { match text { $($name => Self::$method,)* _ => Self::Unknown } }

            /// Its name on the wire; empty for the unknown.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$method => $name,)* Self::Unknown => "" } }
        }
    };
}

methods! {
    /// Calls a tool.
    ToolsCall = "tools/call";
    /// Lists tools.
    ToolsList = "tools/list";
    /// Opens a legacy session.
    Initialize = "initialize";
    /// Legacy: is the peer there?
    Ping = "ping";
    /// Modern: what does the server speak and have?
    ServerDiscover = "server/discover";
    /// Reads a resource.
    ResourcesRead = "resources/read";
    /// Lists resources.
    ResourcesList = "resources/list";
    /// Lists templates of resources.
    ResourcesTemplatesList = "resources/templates/list";
    /// Legacy: be told when a resource changes.
    ResourcesSubscribe = "resources/subscribe";
    /// Legacy: no longer be told.
    ResourcesUnsubscribe = "resources/unsubscribe";
    /// Fills in a prompt.
    PromptsGet = "prompts/get";
    /// Lists prompts.
    PromptsList = "prompts/list";
    /// Completes an argument.
    CompletionComplete = "completion/complete";
    /// Legacy: sets the session's log level.
    LoggingSetLevel = "logging/setLevel";
    /// Modern: a stream of changes.
    SubscriptionsListen = "subscriptions/listen";
    /// 2025-11-25 (experimental) and the tasks extension: state of a task.
    TasksGet = "tasks/get";
    /// 2025-11-25 (experimental): waits for a task's result.
    TasksResult = "tasks/result";
    /// 2025-11-25 (experimental): lists tasks.
    TasksList = "tasks/list";
    /// 2025-11-25 (experimental) and the tasks extension: ends a task.
    TasksCancel = "tasks/cancel";
    /// The tasks extension: gives a task its input.
    TasksUpdate = "tasks/update";
}

impl Method {
    /// Whether `version` defines this method (for 2026-07-28 with its tasks extension).
    #[must_use]
    pub const fn exists_in(self, version: Version) -> bool {
        match self {
            Self::Initialize | Self::Ping | Self::ResourcesSubscribe | Self::ResourcesUnsubscribe | Self::LoggingSetLevel => {
                matches!(version.era(), Era::Legacy)
            }
            Self::ServerDiscover | Self::SubscriptionsListen | Self::TasksUpdate => matches!(version.era(), Era::Modern),
            Self::TasksResult | Self::TasksList => matches!(version, Version::V2025_11_25),
            Self::TasksGet | Self::TasksCancel => matches!(version, Version::V2025_11_25 | Version::V2026_07_28),
            Self::Unknown => false,
            _ => true,
        }
    }

    /// What `Mcp-Name` mirrors, for the methods that need that header.
    #[must_use]
    pub const fn name_param(self) -> Option<NameParam> {
        match self {
            Self::ToolsCall | Self::PromptsGet => Some(NameParam::Name),
            Self::ResourcesRead => Some(NameParam::Uri),
            Self::TasksGet | Self::TasksUpdate | Self::TasksCancel => Some(NameParam::TaskId),
            _ => None,
        }
    }

    /// Whether it may be answered with questions (2026-07-28, multi round-trip requests).
    #[must_use]
    pub const fn may_ask(self) -> bool {
        matches!(self, Self::ToolsCall | Self::PromptsGet | Self::ResourcesRead)
    }

    /// Whether its complete results say how long they may be kept (2026-07-28, caching).
    #[must_use]
    pub const fn cacheable(self) -> bool {
        matches!(
            self,
            Self::ServerDiscover
                | Self::ToolsList
                | Self::PromptsList
                | Self::ResourcesList
                | Self::ResourcesTemplatesList
                | Self::ResourcesRead
        )
    }
}

macro_rules! names {
    ($(#[$about:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum $type {
            $($(#[$doc])* $variant,)*
            /// None that MCP defines.
            Unknown,
        }

        impl $type {
            /// Every one that MCP defines.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The one of this name.
            #[must_use]
            pub fn parse(text: &str) -> Self { match text { $($name => Self::$variant,)* _ => Self::Unknown } }

            /// Its name on the wire; empty for the unknown.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* Self::Unknown => "" } }
        }
    };
}

names! {
    /// A notification, from either side, in either era.
    Notification {
        /// Client: the handshake is done.
        Initialized = "notifications/initialized";
        /// Either: a request is no longer wanted.
        Cancelled = "notifications/cancelled";
        /// Either: how far a request is.
        Progress = "notifications/progress";
        /// Client: its roots changed.
        RootsListChanged = "notifications/roots/list_changed";
        /// Server: a log message.
        Message = "notifications/message";
        /// Server: a resource changed.
        ResourcesUpdated = "notifications/resources/updated";
        /// Server: its list of resources changed.
        ResourcesListChanged = "notifications/resources/list_changed";
        /// Server: its list of tools changed.
        ToolsListChanged = "notifications/tools/list_changed";
        /// Server: its list of prompts changed.
        PromptsListChanged = "notifications/prompts/list_changed";
        /// Server (2025-11-25): what was asked by URL is done.
        ElicitationComplete = "notifications/elicitation/complete";
        /// Server (2025-11-25, experimental): state of a task.
        TasksStatus = "notifications/tasks/status";
        /// Server (tasks extension): state of a task.
        Tasks = "notifications/tasks";
        /// Server (2026-07-28): what a listen stream will tell.
        SubscriptionsAcknowledged = "notifications/subscriptions/acknowledged";
    }
}

names! {
    /// A request that a server has for a client: sent in the legacy era, asked within a result in the modern one.
    ClientMethod {
        /// Asks the user.
        ElicitationCreate = "elicitation/create";
        /// Asks the model.
        SamplingCreateMessage = "sampling/createMessage";
        /// Asks for the roots.
        RootsList = "roots/list";
        /// Legacy: is the peer there?
        Ping = "ping";
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for &method in Method::ALL {
            assert_eq!(Method::parse(method.name()), method);
        }
        for &notification in Notification::ALL {
            assert_eq!(Notification::parse(notification.name()), notification);
        }
        for &method in ClientMethod::ALL {
            assert_eq!(ClientMethod::parse(method.name()), method);
        }
        assert_eq!(Method::parse("Tools/call"), Method::Unknown);
        assert_eq!(Method::parse(""), Method::Unknown);
        assert_eq!(Notification::parse("notifications/"), Notification::Unknown);
    }

    #[test]
    fn each_era_has_its_methods() {
        let of = |version: Version| Method::ALL.iter().filter(|method| method.exists_in(version)).count();
        assert_eq!([Version::V2024_11_05, Version::V2025_03_26, Version::V2025_06_18].map(of), [13, 13, 13]);
        assert_eq!(of(Version::V2025_11_25), 17);
        assert_eq!(of(Version::V2026_07_28), 13);
        for removed in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/list"] {
            assert!(!Method::parse(removed).exists_in(Version::V2026_07_28), "{removed}");
        }
    }
}
