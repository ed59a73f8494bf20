//! Listening sockets, with or without TLS, for [`serve`](super::serve()); and the check that keeps us on loopback.

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
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes done but not yet served.
const TLS_BACKLOG: usize = 64;
/// A client that has not finished its handshake by then is cut off.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that has not begun to speak by then is cut off: until it has, there is no telling HTTP/1.1 from HTTP/2.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// As many bytes as tell them apart: HTTP/2's preface.
const FIRST_BYTES: usize = 24;

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

/// A listener that bounds its connections and does TLS handshakes aside.
#[derive(Debug)]
pub struct Listener {
    local: SocketAddr,
    source: Source,
    slots: Arc<Semaphore>,
}

#[derive(Debug)]
enum Source {
    Plain(TcpListener),
    Tls(mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr, OwnedSemaphorePermit)>),
}

impl Listener {
    /// Wraps a bound socket. At most `max_connections` are served at once; more wait in the system's backlog.
    pub fn new(socket: TcpListener, tls: Option<TlsAcceptor>, max_connections: usize) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let slots = Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        let source = match tls {
            None => Source::Plain(socket),
            Some(acceptor) => {
                let (sender, receiver) = mpsc::channel(TLS_BACKLOG);
                tokio::spawn(handshakes(socket, acceptor, slots.clone(), sender));
                Source::Tls(receiver)
            }
        };
        Ok(Self { local, source, slots })
    }
}

async fn handshakes(
    socket: TcpListener,
    acceptor: TlsAcceptor,
    slots: Arc<Semaphore>,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr, OwnedSemaphorePermit)>,
) {
    // one that shakes hands holds a slot too
    let next = async || {
        let slot = slots.clone().acquire_owned().await;
        (slot, accept(&socket).await)
    };
    loop {
        tokio::select! {
            () = sender.closed() => return,
            (slot, (stream, peer)) = next() => {
                // the semaphore is never closed
                let Ok(slot) = slot else { return };
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                        // the receiver is gone only when we are draining
                        Ok(Ok(stream)) => drop(sender.send((stream, peer, slot)).await),
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
        let (stream, peer, slot) = match &mut self.source {
            Source::Plain(socket) => {
                // the semaphore is never closed
                let slot = self.slots.clone().acquire_owned().await.ok();
                let (stream, peer) = accept(socket).await;
                (Stream::Plain(stream), peer, slot)
            }
            Source::Tls(receiver) => match receiver.recv().await {
                Some((stream, peer, slot)) => (Stream::Tls(Box::new(stream)), peer, Some(slot)),
                // the handshake task has ended: nothing will ever come
                None => std::future::pending().await,
            },
        };
        let connection = Connection {
            stream,
            silent: Some((0, Box::pin(tokio::time::sleep(FIRST_BYTES_TIMEOUT)))),
            _slot: slot,
        };
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// One accepted connection; gives its slot back when dropped.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Until it has spoken: the bytes that came, and when it is cut off.
    silent: Option<(usize, Pin<Box<Sleep>>)>,
    _slot: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        let Some((came, deadline)) = &mut self.silent else { return read };
        *came += buffer.filled().len() - before;
        if *came >= FIRST_BYTES {
            self.silent = None;
        } else if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        // it has been understood
        self.silent = None;
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

    #[tokio::test]
    async fn a_client_that_says_nothing_or_half_a_word_is_cut_off_and_one_that_speaks_is_served() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let socket = bind("a test", "127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let router = axum::Router::new().route("/", axum::routing::get(async || "served"));
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = tokio::spawn(super::super::serve(Listener::new(socket, None, 4_096).expect("listens"), router, stop.clone()));
        for said in [&b""[..], b"PRI * HT"] {
            let mut client = TcpStream::connect(address).await.expect("connects");
            client.write_all(said).await.expect("is sent");
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut answer)).await;
            assert!(ended.is_ok() && answer.is_empty(), "{ended:?} {answer:?}");
        }
        let mut client = TcpStream::connect(address).await.expect("connects");
        for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] {
            client.write_all(request.as_bytes()).await.expect("is sent");
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 200");
            // longer than a silent client has: one that has spoken may think
            tokio::time::sleep(FIRST_BYTES_TIMEOUT * 3 / 2).await;
            let mut rest = vec![0; 4_096];
            let _ = tokio::time::timeout(Duration::from_millis(50), client.read(&mut rest)).await;
        }
        stop.cancel();
        serving.await.expect("ends");
    }

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
