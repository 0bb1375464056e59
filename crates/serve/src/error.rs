//! Why a server cannot be started.

/// Errors of starting and running. Each message is one sentence for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// Somebody else listens there.
    #[error("port {port} on {host} is in use; choose another with --port")]
    PortInUse {
        /// Host as configured.
        host: String,
        /// Port as configured.
        port: u16,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {host}:{port}: {source}")]
    Listen {
        /// Host as configured.
        host: String,
        /// Port as configured.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gave no threads, or the like.
    #[error("cannot start the server: {0}")]
    Start(#[source] std::io::Error),
}
