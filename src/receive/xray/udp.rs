//! The daemon's datagrams: a header line, a line feed, one segment document.
//!
//! Clients fire and forget; there is no answer. So nothing is waited for where datagrams are taken from the socket:
//! a document that finds the queue full is dropped and counted. Documents are gathered, up to [`BATCH_DOCUMENTS`] or
//! [`BATCH_WAIT`], into one hand-over to the write path, which makes them durable together. While the write path is
//! overloaded the batch is held and tried again, up to [`MAX_ATTEMPTS`] times.
//!
//! | lost here | counted in the ledger as |
//! |---|---|
//! | not a header and a document | dropped, `bad_datagram` |
//! | our queue is full | dropped, `queue_full` |
//! | the kernel's buffer is full | dropped, `kernel_buffer_full` (from `/proc/net/udp`, a few seconds late; Linux only) |
//! | the write path is overloaded for too long, or draining | dropped, `refused` |
//! | a document that breaks a rule | rejected, with its reason |
//! | a defect of ours: a panic | dropped, `internal_error` |
//!
//! When `stop` resolves, what has arrived is still handed over; then [`UdpListener::run`] returns.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::{Intake, decode_aside, metrics};
use super::{Config, RECEIVER};
use crate::decode::{Context, Decoded, Kind, xray};
use crate::ingest::{Received, Refused};
use crate::model::{Clock, Signal};
use crate::supervise::caught;

/// A datagram has at most 65,507 bytes of payload.
const MAX_DATAGRAM: usize = 64 * 1024;
/// Documents of one hand-over.
const BATCH_DOCUMENTS: usize = 500;
/// Bytes of one hand-over.
const BATCH_BYTES: usize = 4 << 20;
/// How long the first document of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(20);
/// Documents that may wait; their bytes are bounded by `udp_queue_bytes`.
const QUEUE_DOCUMENTS: usize = 16 * 1024;
/// How often an overloaded write path is tried with the same batch.
const MAX_ATTEMPTS: usize = 10;
/// After the stop, a silence of so long means that the kernel holds nothing more.
const LAST_WAIT: Duration = Duration::from_millis(10);
/// How often the kernel is asked for what it dropped.
const KERNEL_INTERVAL: Duration = Duration::from_secs(5);

/// A bound socket.
#[derive(Debug)]
pub struct UdpListener {
    socket: UdpSocket,
    config: Config,
}

impl UdpListener {
    /// Binds `address` (port 0 picks one) and asks the kernel for a large buffer.
    pub async fn bind(address: &str, config: &Config) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let buffer = socket2::SockRef::from(&socket);
        // Linux caps the value silently at net.core.rmem_max; elsewhere too much is an error, and the default will do
        if let Err(error) = buffer.set_recv_buffer_size(config.udp_kernel_buffer_bytes) {
            tracing::warn!(%error, "the X-Ray socket keeps the kernel's default buffer");
        }
        // Linux doubles what was asked for, for its own bookkeeping
        if let Ok(bytes) = buffer.recv_buffer_size()
            && bytes < config.udp_kernel_buffer_bytes
        {
            tracing::info!(
                bytes,
                wanted = config.udp_kernel_buffer_bytes,
                "the X-Ray socket's buffer is smaller than wanted: raise net.core.rmem_max to hold larger bursts"
            );
        }
        Ok(Self {
            socket,
            config: config.clone(),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes datagrams until `stop` resolves, then hands over what has arrived.
    pub async fn run(&self, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, stop: impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(QUEUE_DOCUMENTS);
        let queue = Queue {
            sender,
            bytes: Arc::new(AtomicUsize::new(0)),
            max_bytes: self.config.udp_queue_bytes,
        };
        let handing_over = tokio::spawn(hand_over(receiver, queue.bytes.clone(), intake.clone(), clock));
        let mut kernel = KernelDrops::of(&self.socket);
        let mut buffer = vec![0u8; MAX_DATAGRAM];
        let mut ask_kernel = tokio::time::interval(KERNEL_INTERVAL);
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                taken = self.socket.recv_from(&mut buffer) => match taken {
                    Ok((length, _)) => queue.take(&buffer[..length], &*intake),
                    // an ICMP error that an earlier peer caused; the socket is fine
                    Err(error) => tracing::debug!(%error, "the X-Ray socket reported an error"),
                },
                _ = ask_kernel.tick() => kernel.count(&*intake),
            }
        }
        // what the kernel holds already, but not what a flood goes on to bring
        for _ in 0..QUEUE_DOCUMENTS {
            let Ok(Ok((length, _))) = timeout(LAST_WAIT, self.socket.recv_from(&mut buffer)).await else {
                break;
            };
            queue.take(&buffer[..length], &*intake);
        }
        kernel.count(&*intake);
        drop(queue);
        if let Err(error) = handing_over.await {
            tracing::error!(%error, "the X-Ray hand-over ended early");
        }
    }
}

/// Documents on their way to the write path.
#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<String>,
    bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

impl Queue {
    /// Takes a datagram or counts why not; never waits.
    fn take(&self, datagram: &[u8], intake: &dyn Intake) {
        metrics::UDP_DATAGRAMS.inc();
        let document = match xray::udp_document(datagram) {
            Ok(document) => document,
            Err(error) => {
                tracing::debug!(%error, "an X-Ray datagram was dropped");
                return dropped(intake, "bad_datagram", 1);
            }
        };
        // only this task adds, so the bound cannot be overrun between the check and the addition
        let is_full = self.bytes.load(Ordering::Relaxed) + document.len() > self.max_bytes;
        if is_full || self.sender.try_send(document.to_string()).is_err() {
            return dropped(intake, "queue_full", 1);
        }
        let bytes = self.bytes.fetch_add(document.len(), Ordering::Relaxed) + document.len();
        metrics::UDP_QUEUE_BYTES.set(bytes as i64);
    }
}

/// Gathers documents and hands them over, until the queue is closed and empty.
async fn hand_over(mut documents: mpsc::Receiver<String>, queue_bytes: Arc<AtomicUsize>, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>) {
    while let Some(first) = documents.recv().await {
        let deadline = Instant::now() + BATCH_WAIT;
        let mut bytes = first.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_DOCUMENTS && bytes < BATCH_BYTES {
            let Ok(Some(document)) = timeout_at(deadline, documents.recv()).await else {
                break;
            };
            bytes += document.len();
            batch.push(document);
        }
        // the sender may not have added the last one's bytes yet: wrapping sums meet again
        let before = queue_bytes.fetch_sub(bytes, Ordering::Relaxed);
        metrics::UDP_QUEUE_BYTES.set(before.wrapping_sub(bytes).cast_signed() as i64);
        let context = Context {
            received_at_nanos: clock.now_nanos(),
            retention_days: intake.max_age_days(),
        };
        let n_documents = batch.len() as u64;
        if caught("xray_batch", accept(batch, bytes, context, &*intake)).await.is_err() {
            dropped(&*intake, "internal_error", n_documents);
        }
    }
}

async fn accept(batch: Vec<String>, bytes: usize, context: Context, intake: &dyn Intake) {
    let n_documents = batch.len() as u64;
    let (body, decoded) = decode_aside(bytes, move || {
        let body = xray::body_of_documents(batch.iter().map(String::as_str));
        let decoded = xray::segments(&body, &context);
        (bytes::Bytes::from(body), decoded)
    })
    .await;
    let decoded = match decoded {
        Ok(decoded) => decoded,
        Err(error) => {
            tracing::error!(%error, documents = n_documents, "X-Ray documents could not be decoded together");
            return intake.ledger().rejected(RECEIVER, Signal::Traces, error.reason(), n_documents);
        }
    };
    let n_spans = decoded.batch.n_rows() as u64;
    for attempt in 1..=MAX_ATTEMPTS {
        let received = Received::plain(Kind::XraySegments, context, body.clone());
        let again = Decoded {
            batch: decoded.batch.clone(),
            rejected: decoded.rejected.clone(),
            ..Decoded::default()
        };
        // a refusal is not the end: the spans are counted once, when they are taken or dropped
        match intake.offer(received, again).await {
            Ok(_) => return,
            Err(Refused::Overloaded { retry_after, .. }) if attempt < MAX_ATTEMPTS => tokio::time::sleep(retry_after).await,
            Err(refused) => {
                tracing::warn!(%refused, spans = n_spans, "X-Ray documents were dropped: the write path did not take them");
                break;
            }
        }
    }
    dropped(intake, "refused", n_spans);
    for rejected in &decoded.rejected {
        intake.ledger().rejected(RECEIVER, Signal::Traces, rejected.reason, rejected.count);
    }
}

fn dropped(intake: &dyn Intake, reason: &'static str, n: u64) {
    intake.ledger().dropped(RECEIVER, Signal::Traces, reason, n);
}

/// What the kernel dropped for want of room in the socket's buffer.
#[derive(Debug)]
struct KernelDrops {
    /// The socket's number in `/proc/net/udp`; `None` where there is no such file.
    inode: Option<String>,
    counted: u64,
}

impl KernelDrops {
    fn of(socket: &UdpSocket) -> Self {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok();
        let inode = link.and_then(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_string()));
        Self { inode, counted: 0 }
    }

    /// Counts what was dropped since the last time. The files are in memory and short; reading them does not block.
    fn count(&mut self, intake: &dyn Intake) {
        let Some(inode) = &self.inode else { return };
        let drops = ["/proc/net/udp", "/proc/net/udp6"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .find_map(|table| drops_of(&table, inode));
        if let Some(drops) = drops {
            dropped(intake, "kernel_buffer_full", drops.saturating_sub(self.counted));
            self.counted = drops;
        }
    }
}

/// The last column of the socket's line; its tenth is the inode.
fn drops_of(table: &str, inode: &str) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        (columns.get(9) == Some(&inode)).then(|| columns.last()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Memory;
    use super::*;
    use crate::model::ManualClock;

    fn datagram(id: u64) -> Vec<u8> {
        format!(
            "{{\"format\": \"json\", \"version\": 1}}\n{{\"name\":\"n\",\"id\":\"{id:016x}\",\"trace_id\":\"1-6955b900-5759e988bd862e3fe1be46a9\",\"start_time\":1.5,\"end_time\":2}}"
        )
        .into_bytes()
    }

    /// Runs a listener over what `send` sends, then stops it; everything sent before the stop must be accounted for.
    async fn run(config: Config, memory: Arc<Memory>, datagrams: &[Vec<u8>]) {
        let listener = UdpListener::bind("127.0.0.1:0", &config).await.expect("a free port");
        let to = listener.local_addr().expect("bound");
        let client = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        for datagram in datagrams {
            client.send_to(datagram, to).await.expect("loopback");
        }
        // loopback delivers within the send, so all of it waits in the socket's buffer
        listener.run(memory, Arc::new(ManualClock::new(5)), std::future::ready(())).await;
    }

    #[tokio::test]
    async fn datagrams_become_one_batch_and_bad_ones_are_counted() {
        let memory = Arc::new(Memory::default());
        let mut sent: Vec<_> = (1..=20).map(datagram).collect();
        sent.push(b"no header".to_vec());
        sent.push(b"{\"format\": \"json\", \"version\": 1}\n{\"name\":\"n\"}".to_vec());
        run(Config::default(), memory.clone(), &sent).await;
        assert_eq!((memory.n_rows(), memory.accepted.lock().len()), (20, 1));
        let outcomes = memory.outcomes();
        assert_eq!((outcomes.accepted, outcomes.dropped, outcomes.rejected), (20, 1, 1));
        assert_eq!((outcomes.reasons["bad_datagram"], outcomes.reasons["invalid_trace_id"]), (1, 1));
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let memory = Arc::new(Memory::default());
        let config = Config {
            udp_queue_bytes: 3 * datagram(1).len(),
            ..Config::default()
        };
        run(config, memory.clone(), &(1..=50).map(datagram).collect::<Vec<_>>()).await;
        let outcomes = memory.outcomes();
        assert!(outcomes.dropped > 0 && outcomes.reasons["queue_full"] == outcomes.dropped);
        assert_eq!(outcomes.accepted + outcomes.dropped, 50);
    }

    #[tokio::test]
    async fn an_overloaded_write_path_is_tried_again_and_at_last_given_up() {
        let memory = Arc::new(Memory::default());
        let context = Context {
            received_at_nanos: 0,
            retention_days: 0,
        };
        // one good document and one bad
        let documents = || {
            let good = String::from_utf8(datagram(1)).expect("text").split_once('\n').expect("a header").1.to_string();
            vec![good, "no document".to_string()]
        };
        memory.refuse(MAX_ATTEMPTS - 1);
        accept(documents(), 1, context, &*memory).await;
        assert_eq!((memory.n_rows(), memory.outcomes().dropped), (1, 0));
        memory.refuse(MAX_ATTEMPTS);
        accept(documents(), 1, context, &*memory).await;
        assert_eq!((memory.n_rows(), memory.outcomes().dropped), (1, 1));
        let outcomes = memory.outcomes();
        assert_eq!(
            (outcomes.accepted, outcomes.refused, outcomes.rejected),
            (1, 0, 2),
            "each of four documents ends once"
        );
    }

    #[tokio::test]
    async fn batches_end_at_their_bound() {
        let memory = Arc::new(Memory::default());
        let (sender, receiver) = mpsc::channel(2_000);
        for id in 1..=1_200u64 {
            let text = String::from_utf8(datagram(id)).expect("text");
            sender.try_send(text.split_once('\n').expect("a header").1.to_string()).expect("room");
        }
        drop(sender);
        hand_over(receiver, Arc::new(AtomicUsize::new(1 << 30)), memory.clone(), Arc::new(ManualClock::new(5))).await;
        let sizes: Vec<usize> = memory.accepted.lock().iter().map(|(_, decoded)| decoded.batch.n_rows()).collect();
        assert_eq!(sizes, [500, 500, 200]);
    }

    #[test]
    fn the_kernels_table_is_read_by_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             97: 0100007F:07D0 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4242 2 0000000000000000 17\n";
        assert_eq!(drops_of(table, "4242"), Some(17));
        assert_eq!(drops_of(table, "17"), None);
        assert_eq!(drops_of("", "1"), None);
    }
}
