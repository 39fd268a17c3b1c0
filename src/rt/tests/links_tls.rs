//! Links over TLS.
