//! Listening, with TLS where it is set, and ending well.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Control, Handle};
use thiserror::Error;
use tokio::net::TcpListener;

/// The service cannot listen.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; choose another with `--listen` (port 0 takes any free one)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Accept(#[from] io::Error),
    /// The certificates or their key.
    #[error("`server.tls_certificate` {certificate} with `server.tls_key` {key}: {source}")]
    Tls {
        /// The certificates.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

/// An address and what is served there.
pub struct Listening {
    /// The address; port 0 takes any free one.
    pub address: SocketAddr,
    /// What is served.
    pub router: Router,
}

/// How connections are taken.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Certificates and key, PEM; plain HTTP where absent.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How often certificates are looked at for a change.
    pub reload: Duration,
    /// How long the headers of a request may take, and a kept connection may rest.
    pub header_timeout: Duration,
    /// How long requests in flight may take to end.
    pub drain: Duration,
}

/// Serves at all addresses until `stop` resolves, then takes no new connection and lets the requests in flight end, for at
/// most the drain. `ready` is told the address of each, in their order, once all can be had.
///
/// # Errors
/// An address that cannot be had, certificates that cannot be used, or a listener that fails.
pub async fn serve(
    listening: Vec<Listening>,
    connections: &Connections,
    stop: impl Future<Output = ()> + Send + 'static,
    ready: impl FnOnce(&[SocketAddr]),
) -> Result<(), ServeError> {
    let tls = match &connections.tls {
        Some((certificate, key)) => Some(certificates(certificate, key, connections.reload).await?),
        None => None,
    };
    let mut bound = Vec::with_capacity(listening.len());
    for Listening { address, router } in listening {
        let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
        bound.push((listener.local_addr()?, listener.into_std()?, router));
    }
    ready(&bound.iter().map(|(address, ..)| *address).collect::<Vec<_>>());
    let control = Control::new();
    let (stopping, drain) = (control.clone(), connections.drain);
    tokio::spawn(async move {
        stop.await;
        tracing::info!("stopping: requests in flight are answered, new ones are not taken");
        stopping.graceful_shutdown(Some(drain));
    });
    let servers = bound.into_iter().map(|(_, listener, router)| {
        let (handle, tls) = (Handle::with_control(control.clone()), tls.clone());
        let patience = connections.header_timeout;
        async move {
            let server = axum_server::from_tcp(listener)?.acceptor(NoDelayAcceptor::new()).handle(handle);
            let mut server = server.first_request_timeout(patience);
            // Covers the rest between two requests as well.
            server.http_builder().http1().header_read_timeout(patience);
            server.http_builder().http2().keep_alive_interval(patience);
            let service = router.into_make_service();
            match tls {
                Some(tls) => server.map(|tcp| RustlsAcceptor::new(tls).acceptor(tcp)).serve(service).await,
                None => server.serve(service).await,
            }
        }
    });
    futures::future::try_join_all(servers).await?;
    Ok(())
}

/// The certificates, which are read again when their file changes.
async fn certificates(certificate: &Path, key: &Path, every: Duration) -> Result<RustlsConfig, ServeError> {
    // An error means that another part of the process has chosen one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (certificate, key) = (certificate.to_owned(), key.to_owned());
    let config = RustlsConfig::from_pem_file(&certificate, &key).await.map_err(|source| ServeError::Tls {
        certificate: certificate.clone(),
        key: key.clone(),
        source,
    })?;
    let reloaded = config.clone();
    tokio::spawn(async move {
        let mut seen = (changed(&certificate), changed(&key));
        loop {
            tokio::time::sleep(every).await;
            let now = (changed(&certificate), changed(&key));
            if now == seen {
                continue;
            }
            match reloaded.reload_from_pem_file(&certificate, &key).await {
                Ok(()) => {
                    seen = now;
                    tracing::info!(certificate = %certificate.display(), "new certificates are in use");
                }
                // One of the two may not be there yet; it is tried again.
                Err(error) => tracing::warn!(%error, "the new certificates cannot be used; the old ones stay"),
            }
        }
    });
    Ok(config)
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
