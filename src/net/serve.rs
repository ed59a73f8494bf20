//! HTTP/1.1 and HTTP/2 on a [`Listener`]: what `axum::serve` does, with limits on how long a silent client is kept.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::Listener as _;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::Listener;

/// A client whose next request does not come, or whose request's head is not whole, by then is cut off. Exporters send
/// each minute or so on a connection that they keep.
const NEXT_REQUEST_TIMEOUT: Duration = Duration::from_secs(180);
/// How often an HTTP/2 client is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How long it has to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves `router` until `stop`; then takes no more requests, and ends when those under way have their answers.
pub async fn serve(mut listener: Listener, router: Router, stop: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let service = router.clone().map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new));
        let (builder, stop) = (builder.clone(), stop.clone());
        connections.spawn(async move {
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}
