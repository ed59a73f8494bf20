//! Listening sockets, with or without TLS, for `axum::serve`; and the check that keeps us on loopback.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections one listener serves at once; more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 4_096;
/// Handshakes done but not yet served.
const TLS_BACKLOG: usize = 64;
/// A client that has not finished its handshake by then is cut off.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// TLS settings.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the certificate chain; empty = no TLS.
    pub cert_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, not ours, or malformed.
    #[error("cannot listen on {address} for {what}: {source}")]
    Bind {
        /// The face.
        what: &'static str,
        /// As configured.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Certificate or key.
    #[error("tls: {path}: {message}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl TlsConfig {
    /// The acceptor, or `None` where TLS is not configured.
    pub fn acceptor(&self) -> Result<Option<TlsAcceptor>, Error> {
        if self.cert_file.as_os_str().is_empty() && self.key_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let fail = |path: &Path, message: String| Error::Tls {
            path: path.to_path_buf(),
            message,
        };
        let open = |path: &Path| std::fs::File::open(path).map(io::BufReader::new).map_err(|e| fail(path, e.to_string()));
        let chain = rustls_pemfile::certs(&mut open(&self.cert_file)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| fail(&self.cert_file, e.to_string()))?;
        let key = rustls_pemfile::private_key(&mut open(&self.key_file)?).map_err(|e| fail(&self.key_file, e.to_string()))?;
        let key = key.ok_or_else(|| fail(&self.key_file, "holds no private key".into()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|e| fail(&self.cert_file, e.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Opens a TCP socket.
pub async fn bind(what: &'static str, address: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind {
        what,
        address: address.to_string(),
        source,
    })
}

/// Whether an address, as configured, is reachable from this machine alone. A name is loopback only if it is `localhost`.
pub fn is_loopback(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}

/// A listener for `axum::serve` that bounds its connections and does TLS handshakes aside.
#[derive(Debug)]
pub struct Listener {
    local: SocketAddr,
    source: Source,
    slots: Arc<Semaphore>,
}

#[derive(Debug)]
enum Source {
    Plain(TcpListener),
    Tls(mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>),
}

impl Listener {
    /// Wraps a bound socket.
    pub fn new(socket: TcpListener, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let source = match tls {
            None => Source::Plain(socket),
            Some(acceptor) => {
                let (sender, receiver) = mpsc::channel(TLS_BACKLOG);
                tokio::spawn(handshakes(socket, acceptor, sender));
                Source::Tls(receiver)
            }
        };
        Ok(Self {
            local,
            source,
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }
}

async fn handshakes(socket: TcpListener, acceptor: TlsAcceptor, sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    loop {
        tokio::select! {
            () = sender.closed() => return,
            (stream, peer) = accept(&socket) => {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                        // the receiver is gone only when we are draining
                        Ok(Ok(stream)) => drop(sender.send((stream, peer)).await),
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
                    }
                });
            }
        }
    }
}

/// Accepts, riding out errors that pass (too many open files, a peer that left).
async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                // small answers go out at once; failing to set it only costs latency
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // the semaphore is never closed
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stream, peer) = match &mut self.source {
            Source::Plain(socket) => {
                let (stream, peer) = accept(socket).await;
                (Stream::Plain(stream), peer)
            }
            Source::Tls(receiver) => match receiver.recv().await {
                Some((stream, peer)) => (Stream::Tls(Box::new(stream)), peer),
                // the handshake task has ended: nothing will ever come
                None => std::future::pending().await,
            },
        };
        (Connection { stream, _slot: slot }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// One accepted connection; gives its slot back when dropped.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    _slot: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_loopback() {
        for address in ["127.0.0.1:7070", "[::1]:4317", "localhost:0", "127.3.2.1:1"] {
            assert!(is_loopback(address), "{address}");
        }
        for address in ["0.0.0.0:7070", "[::]:1", "10.0.0.1:2", "example.org:80", "localhost.example.org:80", "nonsense"] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
