//! Listening, and ending well.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

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
}

/// Serves until `stop` resolves, then takes no new connection and lets the requests in flight end, for at most
/// `drain`. `ready` is told the address.
///
/// # Errors
/// An address that cannot be had, or a listener that fails.
pub async fn serve(
    router: Router,
    address: SocketAddr,
    drain: Duration,
    stop: impl Future<Output = ()> + Send + 'static,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    ready(listener.local_addr()?);
    let (stopping, stopped) = oneshot::channel();
    let stop = async move {
        stop.await;
        tracing::info!("stopping: requests in flight are answered, new ones are not taken");
        // The receiver is there as long as this function runs.
        let _ = stopping.send(());
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(stop).into_future();
    let deadline = async move {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        result = server => result?,
        () = deadline => tracing::warn!(seconds = drain.as_secs_f64(), "requests still in flight are cut off"),
    }
    Ok(())
}
