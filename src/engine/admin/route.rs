//! What is served at which path, and which methods it takes.

use crate::wire::http1::Method;

use super::target::Segments;

/// One of the resources of the admin port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Live,
    Ready,
    Metrics,
    OpenApi,
    Servers,
    Server(&'a str),
    Endpoints,
    Endpoint(&'a str),
    Bindings,
    Binding(&'a str, &'a str),
    Shards,
    Shard(&'a str),
    Cores,
    Core(&'a str),
    Sessions,
    Session(&'a str),
    Changes,
    Reload,
    /// The registry API: all servers.
    PublicList,
    /// Its versions of one server.
    PublicVersions(&'a str),
    /// One of those.
    PublicVersion(&'a str, &'a str),
}

impl<'a> Route<'a> {
    pub fn find(segments: &'a Segments<'_>) -> Option<Self> {
        let mut parts = [""; 5];
        for (part, segment) in parts.iter_mut().zip(segments) {
            *part = &**segment;
        }
        Some(match (&parts[..segments.len().min(5)], segments.len()) {
            (["health", "live"], _) => Self::Live,
            (["health", "ready"], _) => Self::Ready,
            (["metrics"], _) => Self::Metrics,
            (["openapi.json"], _) => Self::OpenApi,
            (["v1", "servers"], _) => Self::Servers,
            (["v1", "servers", name], _) if !name.is_empty() => Self::Server(name),
            (["v1", "endpoints"], _) => Self::Endpoints,
            (["v1", "endpoints", path], _) if !path.is_empty() => Self::Endpoint(path),
            (["v1", "bindings"], _) => Self::Bindings,
            (["v1", "bindings", path, name], _) if !path.is_empty() && !name.is_empty() => Self::Binding(path, name),
            (["v1", "shards"], _) => Self::Shards,
            (["v1", "shards", number], _) if !number.is_empty() => Self::Shard(number),
            (["v1", "cores"], _) => Self::Cores,
            (["v1", "cores", number], _) if !number.is_empty() => Self::Core(number),
            (["v1", "sessions"], _) => Self::Sessions,
            (["v1", "sessions", id], _) if !id.is_empty() => Self::Session(id),
            (["v1", "changes"], _) => Self::Changes,
            (["v1", "reload"], _) => Self::Reload,
            (["v0.1" | "v0", "servers"], _) => Self::PublicList,
            (["v0.1" | "v0", "servers", name, "versions"], _) if !name.is_empty() => Self::PublicVersions(name),
            (["v0.1" | "v0", "servers", name, "versions", version], 5) if !name.is_empty() && !version.is_empty() => {
                Self::PublicVersion(name, version)
            }
            _ => return None,
        })
    }

    /// Open to everybody, as probes need it: it says nothing about anybody.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Metrics)
    }

    /// Part of the registry API, which pages of every origin may read.
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::PublicList | Self::PublicVersions(_) | Self::PublicVersion(..))
    }

    /// The methods it takes.
    pub const fn allow(&self) -> &'static str {
        match self {
            Self::Servers | Self::Endpoints | Self::Bindings => "GET, HEAD, POST",
            Self::Reload => "POST",
            Self::Server(_) | Self::Endpoint(_) => "GET, HEAD, PUT, DELETE",
            Self::Binding(..) | Self::Session(_) => "GET, HEAD, DELETE",
            Self::PublicList | Self::PublicVersions(_) | Self::PublicVersion(..) => "GET, HEAD, OPTIONS",
            _ => "GET, HEAD",
        }
    }

    pub fn takes(&self, method: Method) -> bool {
        let name = match method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            _ => return false,
        };
        self.allow().split(", ").any(|allowed| allowed == name)
    }

    /// Whether a request with this method must bring a JSON body.
    pub const fn has_body(&self, method: Method) -> bool {
        matches!(method, Method::Post | Method::Put) && !matches!(self, Self::Reload)
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::segments;
    use super::*;

    #[test]
    fn paths_lead_to_what_they_name() {
        let is = |path: &str, wanted: Option<Route<'_>>| {
            let segments = segments(path).expect("well encoded").expect("short");
            assert_eq!(Route::find(&segments), wanted, "{path}");
        };
        is("/health/live", Some(Route::Live));
        is("/v1/servers/io.example%2Fweather", Some(Route::Server("io.example/weather")));
        is("/v1/bindings/%2Fmcp/a%2Fb", Some(Route::Binding("/mcp", "a/b")));
        is("/v1/reload", Some(Route::Reload));
        is("/v0/servers/a%2Fb/versions/latest", Some(Route::PublicVersion("a/b", "latest")));
        is("/v0.1/servers/a%2Fb/versions", Some(Route::PublicVersions("a/b")));
        for absent in
            ["/", "/v1", "/v1/", "/v1/servers/", "/v1/servers/a/b", "/v0.1/servers/a", "/v0.1/servers/a/versions/1/2", "/v2/servers"]
        {
            is(absent, None);
        }
        assert!(Route::Servers.takes(Method::Post) && !Route::Servers.takes(Method::Delete) && !Route::Live.takes(Method::Other));
    }
}
