//! Builds the parts from the configuration, starts them, and drains them in the order of the data.
//!
//! Start: bind every socket; open the store, catalog and log; replay; only then serve. While the store is away the start
//! waits for it, and whoever asks the HTTP port hears so. Stop: sockets first (no new requests), then alerts, then the
//! write path flushes and closes its log. Background work is begun again should it panic ([`crate::supervise`]). What the deadline cuts short is in the log and comes back at the next start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::AccessKey;
use crate::access::sigv4::Verifier;
use crate::alert::{self, Alerting};
use crate::assemble::{Assembler, Graphs};
use crate::catalog::{self, Catalog, Life, NodeId};
use crate::collect::{self, Collector};
use crate::config::Config;
use crate::deliver::{self, Deliveries, EngineLake};
use crate::ingest::{self, Facts, Ingest, LakeVisible, MaintainParts, Maintainer, Peers};
use crate::metric_filter::Filters;
use crate::model::{Clock, SystemClock};
use crate::net::listen::{self, Listener};
use crate::net::traced;
use crate::query::{Engine, SearchLanguage};
use crate::receive::signed::Gate;
use crate::receive::{self, Intake};
use crate::serve::{self, Server};
use crate::storage::{self, Cache};
use crate::telemetry;

/// How long requests under way may take to end after a stop.
const REQUESTS_DEADLINE: Duration = Duration::from_secs(10);

/// First and longest wait for a store that is away at the start.
const STORE_WAIT_MIN: Duration = Duration::from_secs(1);
const STORE_WAIT_MAX: Duration = Duration::from_secs(15);
/// How long the start waits to learn what other nodes know.
const FIRST_LOOK_DEADLINE: Duration = Duration::from_secs(30);
/// Connections that hear "starting" at once.
const WAITING_ROOM_CONNECTIONS: usize = 256;
/// How long the port says "starting" to requests under way, once it is not.
const WAITING_ROOM_DEADLINE: Duration = Duration::from_millis(500);

/// Where everything listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Pages, API, AWS faces, OTLP/HTTP.
    pub http: SocketAddr,
    /// OTLP/gRPC.
    pub otlp_grpc: Option<SocketAddr>,
    /// OTLP/HTTP.
    pub otlp_http: Option<SocketAddr>,
    /// X-Ray daemon protocol, UDP and TCP.
    pub xray: Option<SocketAddr>,
}

/// A running server.
#[derive(Debug)]
pub struct App {
    addresses: Addresses,
    server: Arc<Server>,
    stop_receiving: CancellationToken,
    stop_working: CancellationToken,
    receiving: Vec<JoinHandle<()>>,
    working: Vec<JoinHandle<()>>,
    drain: Duration,
}

impl App {
    /// Starts everything; when it returns, every socket is served.
    pub async fn start(config: Config) -> anyhow::Result<App> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let started_nanos = clock.now_nanos();
        let data_dir = config.server.data_dir.clone();
        std::fs::create_dir_all(&data_dir).with_context(|| format!("cannot create the data folder {}", data_dir.display()))?;

        let keys = config.access_keys()?;

        // sockets first: a taken port is told before anything is opened
        let http = listen::bind("HTTP", &config.server.http).await?;
        let otlp_grpc = bind_optional("OTLP/gRPC", &config.server.otlp_grpc).await?;
        let otlp_http = bind_optional("OTLP/HTTP", &config.server.otlp_http).await?;
        let (xray_tcp, xray_udp) = bind_xray(&config).await?;

        let tls = config.tls.acceptor()?;
        let (http, waiting_room) = WaitingRoom::open(http, tls.clone())?;
        let store = storage::open(&config.store, &data_dir).await.context("cannot open the store")?;
        let node = NodeId::load_or_create(&data_dir)?;
        let life = Life::new(&data_dir, config.node.beat_every())?;
        let mut wal_config = config.wal.clone();
        wal_config.node = xxhash_rust::xxh3::xxh3_64(node.as_str().as_bytes());
        let cache = Cache::open(store.clone(), &data_dir.join("cache"), config.store.cache_bytes)?;
        let filters = Arc::<Filters>::default();
        let (catalog, ingest) = when_the_store_answers(async || {
            storage::probe(store.as_ref())
                .await
                .with_context(|| format!("the store {} cannot be used", store.url()))?;
            let catalog = Arc::new(Catalog::open(store.clone(), node.clone()).await?.living(life.clone()));
            let ingest = Ingest::open(ingest::Parts {
                config: config.ingest.clone(),
                wal: wal_config.clone(),
                block: config.block.clone(),
                data_dir: data_dir.clone(),
                store: store.clone(),
                cache: cache.clone(),
                catalog: catalog.clone(),
                finder: Arc::new(SearchLanguage),
                rules: filters.clone(),
                clock: clock.clone(),
            })
            .await?;
            Ok((catalog, ingest))
        })
        .await?;
        waiting_room.close().await;
        let engine = Engine::new(Arc::new(ingest.clone()), cache.clone(), config.query.clone(), clock.clone());
        let spill = data_dir.join("tmp");
        engine
            .spill_to(&spill)
            .with_context(|| format!("cannot empty the folder {}", spill.display()))?;

        let addresses = Addresses {
            http: http.local_addr()?,
            otlp_grpc: address_of(&otlp_grpc)?,
            otlp_http: address_of(&otlp_http)?,
            xray: address_of(&xray_tcp)?,
        };
        let mut alert_options = config.alert.clone();
        alert_options.public_url = config.public_url(&addresses.http);
        let alerting = alerting(alert_options, &engine, &ingest, &clock)?;
        let deliveries = deliver::Parts {
            config: config.deliver.clone(),
            lake: EngineLake {
                engine: engine.clone(),
                ingest: ingest.clone(),
            },
            data_dir: data_dir.clone(),
            clock: clock.clone(),
        };
        let deliveries = Arc::new(Deliveries::open(deliveries).await);
        let assembler = || Assembler::over(config.assemble.clone(), engine.clone(), ingest.clone(), clock.clone());
        let assembler = config.assemble.enabled.then(|| Arc::new(assembler()));
        let stop_receiving = CancellationToken::new();
        let server = Arc::new(Server {
            graphs: Graphs::new(engine.clone(), assembler.clone()),
            engine,
            deliveries: deliveries.clone(),
            ingest: ingest.clone(),
            alerting: alerting.handle(),
            store: store.clone(),
            clock: clock.clone(),
            started_nanos,
            bounds: serve::Bounds {
                log_bytes: config.wal.max_bytes,
                head_bytes: config.ingest.max_head_bytes,
            },
            stopping: stop_receiving.clone(),
            collecting: Arc::default(),
            supervisor: Arc::default(),
        });

        let mut app = App {
            addresses,
            server,
            stop_receiving,
            stop_working: CancellationToken::new(),
            receiving: Vec::new(),
            working: Vec::new(),
            drain: Duration::from_secs(config.server.drain_seconds),
        };
        let faces = Faces::new(&config, keys, &app.server, &clock, filters);
        let maintainer = Maintainer::new(MaintainParts {
            config: config.lake.clone(),
            retention: config.retention.clone(),
            log_groups: faces.log_groups.clone(),
            lake_visible_at_once: config.ingest.lake_visible == LakeVisible::All,
            query_timeout: Duration::from_secs(config.query.timeout_seconds),
            report_timeout: Duration::from_secs(config.insights.timeout_seconds),
            block: config.block.clone(),
            catalog,
            store,
            cache: cache.clone(),
            quarantine: ingest.quarantine().clone(),
            finder: Arc::new(SearchLanguage),
            losses: Arc::new(ingest.clone()),
            clock: clock.clone(),
        });
        let collectors = collectors(&config.collect, &app.server, &faces.log_groups, &clock);
        let peers = Peers::new(config.node.clone(), ingest.clone(), faces.facts, alert::state::KEY_PREFIX);
        // what other nodes know is known before the first request
        if tokio::time::timeout(FIRST_LOOK_DEADLINE, peers.look()).await.is_err() {
            tracing::warn!("what other nodes know could not be read in time; it will be");
        }
        app.work(serve::FLUSH, ingest, |ingest, stop| async move { ingest.run(stop.cancelled_owned()).await });
        app.work("maintenance", maintainer, |maintainer, stop| async move {
            maintainer.run(stop.cancelled_owned()).await
        });
        app.work("nodes", peers, |peers, stop| async move { peers.run(stop.cancelled_owned()).await });
        app.work("deliveries", deliveries, |deliveries, stop| async move { deliveries.run(stop).await });
        if let Some(assembler) = assembler {
            app.work("assemble", assembler, |assembler, stop| async move { assembler.run(stop).await });
        }
        if !collectors.is_empty() {
            app.work("collect", collectors, |collectors, stop| async move {
                futures::future::join_all(collectors.iter().map(|collector| collector.run(stop.clone()))).await;
            });
        }
        app.work("alerts", alerting, |alerting, stop| async move { alerting.run(stop).await });
        let max_mapped_bytes = config.store.max_mapped_bytes;
        app.work("mapped_memory", cache, move |cache, stop| async move {
            cache.keep_mapped_within(max_mapped_bytes, stop.cancelled_owned()).await
        });
        if let Some(captured) = config.telemetry.self_ingest.then(telemetry::captured).flatten() {
            let keeper = receive::itself::Keeper {
                captured,
                intake: Arc::new(app.server.ingest.clone()),
                clock: clock.clone(),
                node: app.server.ingest.catalog().node().to_string(),
                started_nanos,
                config: config.telemetry.clone(),
            };
            let keeper = tokio::sync::Mutex::new(keeper);
            app.work("self_telemetry", keeper, |keeper, stop| async move {
                keeper.lock().await.run(stop.cancelled_owned()).await
            });
        }

        let max_connections = config.server.max_connections;
        app.serve(Listener::new(http, tls.clone(), max_connections)?, faces.all.clone());
        if let Some(socket) = otlp_grpc {
            app.serve(Listener::new(socket, tls.clone(), max_connections)?, faces.otlp_grpc);
        }
        if let Some(socket) = otlp_http {
            app.serve(Listener::new(socket, tls, max_connections)?, faces.otlp_http);
        }
        if let Some(socket) = xray_tcp {
            // the daemon protocol knows no TLS
            app.serve(Listener::new(socket, None, max_connections)?, faces.xray);
        }
        if let Some(udp) = xray_udp {
            let intake: Arc<dyn Intake> = Arc::new(app.server.ingest.clone());
            let receiving = app.supervised("xray_udp", app.stop_receiving.clone(), udp, move |udp, stop| {
                let (intake, clock) = (intake.clone(), clock.clone());
                async move { udp.run(intake, clock, stop.cancelled_owned()).await }
            });
            app.receiving.push(receiving);
        }
        Ok(app)
    }

    /// Where everything listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Resolves once another process writes as this node, and says what to do: drain, and end with that as an error.
    pub async fn superseded(&self) -> String {
        self.server.ingest.superseded().await
    }

    /// What the handlers work with.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn serve(&mut self, listener: Listener, router: Router) {
        let stop = self.stop_receiving.clone();
        self.receiving.push(tokio::spawn(async move {
            crate::net::serve(listener, router, stop).await;
        }));
    }

    /// Begins background work.
    fn work<T, F>(&mut self, name: &'static str, worker: T, work: impl Fn(Arc<T>, CancellationToken) -> F + Send + Sync + 'static)
    where
        T: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let working = self.supervised(name, self.stop_working.clone(), worker, work);
        self.working.push(working);
    }

    /// Begins work in a task of its own, and begins it again should it panic.
    fn supervised<T, F>(
        &self,
        name: &'static str,
        stop: CancellationToken,
        worker: T,
        work: impl Fn(Arc<T>, CancellationToken) -> F + Send + Sync + 'static,
    ) -> JoinHandle<()>
    where
        T: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (worker, supervisor) = (Arc::new(worker), self.server.supervisor.clone());
        tokio::spawn(async move { supervisor.run(name, stop.clone(), || work(worker.clone(), stop.clone())).await })
    }

    /// Stops in the order of the data; takes `server.drain_seconds` at most.
    pub async fn drain(self) {
        tracing::info!("draining");
        let deadline = Instant::now() + self.drain;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.stop_receiving.cancel();
        // live tails and idle connections would hold it up for ever
        if tokio::time::timeout(REQUESTS_DEADLINE.min(left() / 3), futures::future::join_all(self.receiving))
            .await
            .is_err()
        {
            tracing::info!("connections that are still open are cut");
        }
        self.stop_working.cancel();
        // a flush may be under way and the store away: that must not take the write path's own time
        if tokio::time::timeout(left() / 2, futures::future::join_all(self.working)).await.is_err() {
            tracing::warn!("background work did not end in time");
        }
        self.server.ingest.drain(left()).await;
        tracing::info!("drained");
    }
}

/// Answers the HTTP port while the server cannot serve yet.
struct WaitingRoom {
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl WaitingRoom {
    /// Serves from a second handle of the socket; gives the first back.
    fn open(http: tokio::net::TcpListener, tls: Option<tokio_rustls::TlsAcceptor>) -> anyhow::Result<(tokio::net::TcpListener, WaitingRoom)> {
        let http = http.into_std()?;
        let listener = Listener::new(tokio::net::TcpListener::from_std(http.try_clone()?)?, tls, WAITING_ROOM_CONNECTIONS)?;
        let stop = CancellationToken::new();
        let serving = tokio::spawn(crate::net::serve(listener, starting_router(), stop.clone()));
        let room = WaitingRoom { stop, serving };
        Ok((tokio::net::TcpListener::from_std(http)?, room))
    }

    async fn close(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(WAITING_ROOM_DEADLINE, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

impl Drop for WaitingRoom {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Alive, and not ready: every client is asked to come again.
fn starting_router() -> Router {
    let starting = async || {
        let body = serde_json::json!({ "ready": false, "problems": ["the server is starting: it waits for the store, or replays its log"] });
        (http::StatusCode::SERVICE_UNAVAILABLE, [(http::header::RETRY_AFTER, "2")], Json(body)).into_response()
    };
    Router::new().route("/healthz", axum::routing::get(async || "ok")).fallback(starting)
}

/// Tries `open` for as long as it fails because the store is away, and says so each time. Any other failure is final.
async fn when_the_store_answers<T>(mut open: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut wait = STORE_WAIT_MIN;
    loop {
        match open().await {
            Err(error) if is_store_away(&error) => {
                let retry_in_seconds = wait.as_secs();
                tracing::warn!(error = format!("{error:#}"), retry_in_seconds, "the store is away: the start waits for it");
            }
            result => return result,
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(STORE_WAIT_MAX);
    }
}

/// Whether the store did not answer; a denial or a wrong setting is something else.
fn is_store_away(error: &anyhow::Error) -> bool {
    let is_away = |error: &storage::Error| error.kind() == storage::ErrorKind::Unreachable;
    error.chain().any(|cause| match cause.downcast_ref::<storage::Error>() {
        Some(error) => is_away(error),
        None => matches!(cause.downcast_ref::<catalog::Error>(), Some(catalog::Error::Store(error)) if is_away(error)),
    })
}

/// The routers of each socket.
struct Faces {
    all: Router,
    otlp_grpc: Router,
    otlp_http: Router,
    xray: Router,
    log_groups: Arc<receive::awslogs::Registry>,
    /// What other nodes may know too.
    facts: Arc<dyn Facts>,
}

impl Faces {
    fn new(config: &Config, keys: Vec<Arc<AccessKey>>, server: &Arc<Server>, clock: &Arc<dyn Clock>, filters: Arc<Filters>) -> Faces {
        let intake: Arc<dyn Intake> = Arc::new(server.ingest.clone());
        let budget = config.receive.budget();
        let awslogs = receive::awslogs::Receiver::with_filters(config.awslogs.clone(), intake.clone(), clock.clone(), budget.clone(), filters);
        awslogs.answer_from(server.engine.clone(), config.insights.clone());
        awslogs.deliver_through(server.deliveries.sinks());
        server.deliveries.follow(awslogs.registry().clone());
        let arns = (config.awslogs.region.as_str(), config.awslogs.account_id.as_str());
        let log_groups = awslogs.registry().clone();
        let shared = (intake.clone(), clock.clone(), budget.clone());
        let otlp = receive::otlp::Receiver::with_log_groups(config.otlp.clone(), shared.0, shared.1, shared.2, log_groups.clone());
        let xray = receive::xray::Receiver::new(config.xray.clone(), arns, intake.clone(), clock.clone(), budget.clone());
        xray.answer_from(server.engine.clone());
        xray.draw_from(server.graphs.clone());
        let keepers: Vec<Arc<dyn Facts>> = vec![log_groups.clone(), xray.clone()];
        let auth = Arc::new(config.auth.clone());
        let bearer = |router: Router| router.layer(from_fn_with_state(auth.clone(), serve::require_bearer));
        let gate = Arc::new(Gate {
            verifier: Verifier::new(&config.aws, keys),
            tokens: auth.clone(),
            clock: clock.clone(),
            budget: budget.clone(),
            intake: intake.clone(),
            account_id: config.awslogs.account_id.clone(),
        });
        let awsmetrics = receive::awsmetrics::Receiver::new(intake.clone(), clock.clone(), budget.clone());
        let http_events = receive::awslogs::http_router(awslogs.clone(), gate.clone());
        let awslogs = receive::awslogs::router(awslogs, gate.clone());
        let shared = (intake.clone(), clock.clone(), budget.clone());
        let firehose = receive::firehose::Receiver::new(config.firehose.clone(), shared.0, shared.1, shared.2, gate.clone(), log_groups.clone());
        let otlp_http = receive::otlp::or_signed(bearer(receive::otlp::http_router(otlp.clone())), &otlp, gate.clone());
        let all = bearer(serve::router(server.clone()))
            .merge(otlp_http.clone())
            .merge(receive::awsmetrics::router(awsmetrics, awslogs, gate.clone()))
            .merge(http_events)
            .merge(receive::firehose::router(firehose))
            .merge(receive::xray::router(xray.clone(), gate.clone(), false));
        let xray = receive::xray::router(xray, gate, listen::is_loopback(&config.server.xray));
        let told = |router: Router| match config.telemetry.self_ingest {
            true => router.layer(from_fn(traced)),
            false => router,
        };
        Faces {
            all: told(all),
            otlp_grpc: told(bearer(receive::otlp::grpc_router(otlp).merge(serve::grpc_router(server.clone())))),
            otlp_http: told(otlp_http),
            xray: told(xray),
            log_groups,
            facts: Arc::new(keepers),
        }
    }
}

/// One for each source.
fn collectors(config: &collect::Config, server: &Arc<Server>, log_groups: &Arc<receive::awslogs::Registry>, clock: &Arc<dyn Clock>) -> Vec<Collector> {
    let lake = Arc::new(collect::Lake {
        intake: Arc::new(server.ingest.clone()),
        registry: log_groups.clone(),
        engine: server.engine.clone(),
        duty: server.ingest.duty(),
        clock: clock.clone(),
    });
    let collector = |source: &collect::SourceConfig| {
        let remote = Arc::new(collect::Aws::new(source));
        Collector::new(config, source.clone(), remote, lake.clone(), server.collecting.clone())
    };
    config.sources.iter().map(collector).collect()
}

fn alerting(options: alert::Options, engine: &Engine, ingest: &Ingest, clock: &Arc<dyn Clock>) -> anyhow::Result<Alerting> {
    let rules = match &options.rules {
        None => vec![],
        Some(folder) => {
            let (rules, mistakes) = alert::rule::load(folder, &alert::engine::check_query);
            if !mistakes.is_empty() {
                anyhow::bail!("alert rules have mistakes:\n{}", alert::rule::Mistakes(mistakes));
            }
            rules
        }
    };
    let keeper = Arc::new(Keeper(ingest.clone()));
    let parts = alert::Parts {
        questions: Arc::new(engine.clone()),
        store: keeper.clone(),
        sink: keeper,
        channels: options.channels(),
        clock: clock.clone(),
        duty: ingest.duty(),
    };
    Ok(Alerting::new(options, rules, parts))
}

/// The write path as alerting sees it.
#[derive(Debug)]
struct Keeper(Ingest);

impl alert::state::StateStore for Keeper {
    fn put(&self, key: String, value: Option<bytes::Bytes>) -> alert::state::StoreFuture<'_> {
        Box::pin(async move {
            self.0
                .put_state(&key, value)
                .await
                .map_err(|refused| alert::state::StoreError(refused.to_string()))
        })
    }
    fn list(&self, prefix: &str) -> Vec<(String, bytes::Bytes)> {
        self.0.leader_states(prefix)
    }
    fn may_tell(&self) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(self.0.may_tell())
    }
}

impl alert::rows::EvaluationSink for Keeper {
    fn write(&self, rows: crate::model::Rows) -> alert::rows::SinkFuture<'_> {
        Box::pin(async move { self.0.accept_own(rows).await.map(|_| ()).map_err(|refused| refused.to_string()) })
    }
}

async fn bind_optional(what: &'static str, address: &str) -> Result<Option<tokio::net::TcpListener>, listen::Error> {
    if address.is_empty() {
        return Ok(None);
    }
    listen::bind(what, address).await.map(Some)
}

/// UDP and TCP share one address; with port 0, UDP takes the port that TCP was given.
async fn bind_xray(config: &Config) -> anyhow::Result<(Option<tokio::net::TcpListener>, Option<receive::xray::udp::UdpListener>)> {
    let Some(tcp) = bind_optional("X-Ray", &config.server.xray).await? else {
        return Ok((None, None));
    };
    let address = tcp.local_addr()?;
    let udp = receive::xray::udp::UdpListener::bind(&address.to_string(), &config.xray)
        .await
        .with_context(|| format!("cannot listen on UDP {address} for X-Ray"))?;
    Ok((Some(tcp), Some(udp)))
}

fn address_of(socket: &Option<tokio::net::TcpListener>) -> std::io::Result<Option<SocketAddr>> {
    socket.as_ref().map(tokio::net::TcpListener::local_addr).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::faulty::FaultyStore;
    use crate::storage::{BucketStore, Store};

    #[tokio::test]
    async fn the_start_waits_for_a_store_that_is_away_and_for_nothing_else() {
        let faulty = FaultyStore::new(Arc::new(BucketStore::in_memory("")));
        faulty.stop_after(-1);
        let node = NodeId::parse(&"1".repeat(26)).expect("legal");
        let mut tries = 0;
        let opened = when_the_store_answers(async || {
            tries += 1;
            if tries == 2 {
                faulty.heal();
            }
            let store: Arc<dyn Store> = faulty.clone();
            Ok(Catalog::open(store, node.clone()).await?)
        });
        opened.await.expect("opens in the end");
        assert_eq!(tries, 2);
        let denied = || storage::Error::new(storage::ErrorKind::Denied, "read", "s3://b", "no");
        for error in [catalog::Error::Store(denied()).into(), anyhow::Error::from(denied()), anyhow::anyhow!("else")] {
            assert!(!is_store_away(&error), "{error}");
        }
        let away = storage::Error::new(storage::ErrorKind::Unreachable, "read", "s3://b", "no");
        assert!(is_store_away(&anyhow::Error::from(ingest::Error::Catalog(away.into())).context("more")));
    }

    #[tokio::test]
    async fn the_port_says_that_the_server_is_starting_and_is_free_afterwards() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let http = listen::bind("HTTP", "127.0.0.1:0").await.expect("bound");
        let address = http.local_addr().expect("an address");
        let (http, room) = WaitingRoom::open(http, None).expect("open");
        let ask = async |path: &str| {
            let mut connection = tokio::net::TcpStream::connect(address).await.expect("connects");
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            connection.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.expect("answered");
            answer
        };
        assert!(ask("/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = ask("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"ready\":false"), "{answer}");
        room.close().await;
        let (connected, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), http.accept());
        assert!(connected.is_ok() && accepted.is_ok(), "the next one is the server's");
    }
}
