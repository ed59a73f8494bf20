//! Builds the parts from the configuration, starts them, and drains them in the order of the data.
//!
//! Start: open the store, catalog and log; replay; bind every socket; only then serve. Stop: sockets first (no new
//! requests), then alerts, then the write path flushes and closes its log. What the deadline cuts short is in the log
//! and comes back at the next start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::alert::{self, Alerting};
use crate::catalog::{Catalog, NodeId};
use crate::config::Config;
use crate::ingest::{self, Ingest, LakeVisible, MaintainParts, Maintainer};
use crate::model::{Clock, SystemClock};
use crate::net::listen::{self, Listener};
use crate::query::Engine;
use crate::receive::{self, Intake};
use crate::serve::{self, Server};
use crate::storage::{self, Cache};

/// How long requests under way may take to end after a stop.
const REQUESTS_DEADLINE: Duration = Duration::from_secs(10);

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

        // sockets first: a taken port is told before anything is opened
        let http = listen::bind("HTTP", &config.server.http).await?;
        let otlp_grpc = bind_optional("OTLP/gRPC", &config.server.otlp_grpc).await?;
        let otlp_http = bind_optional("OTLP/HTTP", &config.server.otlp_http).await?;
        let (xray_tcp, xray_udp) = bind_xray(&config).await?;

        let store = storage::open(&config.store, &data_dir).await.context("cannot open the store")?;
        storage::probe(store.as_ref())
            .await
            .with_context(|| format!("the store {} cannot be used", store.url()))?;
        let node = NodeId::load_or_create(&data_dir)?;
        let mut wal_config = config.wal.clone();
        wal_config.node = xxhash_rust::xxh3::xxh3_64(node.as_str().as_bytes());
        let cache = Cache::open(store.clone(), &data_dir.join("cache"), config.store.cache_bytes)?;
        let catalog = Arc::new(Catalog::open(store.clone(), node).await?);
        let ingest = Ingest::open(ingest::Parts {
            config: config.ingest.clone(),
            wal: wal_config,
            block: config.block.clone(),
            data_dir,
            store: store.clone(),
            cache: cache.clone(),
            catalog: catalog.clone(),
            clock: clock.clone(),
        })
        .await?;
        let engine = Engine::new(Arc::new(ingest.clone()), cache.clone(), config.query.clone(), clock.clone());

        let addresses = Addresses {
            http: http.local_addr()?,
            otlp_grpc: address_of(&otlp_grpc)?,
            otlp_http: address_of(&otlp_http)?,
            xray: address_of(&xray_tcp)?,
        };
        let mut alert_options = config.alert.clone();
        alert_options.public_url = config.public_url(&addresses.http);
        let alerting = alerting(alert_options, &engine, &ingest, &clock)?;
        let stop_receiving = CancellationToken::new();
        let server = Arc::new(Server {
            engine,
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
        let maintainer = Maintainer::new(MaintainParts {
            config: config.lake.clone(),
            lake_visible_at_once: config.ingest.lake_visible == LakeVisible::All,
            block: config.block.clone(),
            catalog,
            store,
            cache,
            clock: clock.clone(),
        });
        app.work(move |stop| async move { ingest.run(stop.cancelled_owned()).await });
        app.work(move |stop| async move { maintainer.run(stop.cancelled_owned()).await });
        app.work(move |stop| alerting.run(stop));

        let faces = Faces::new(&config, &app.server, &clock);
        let tls = config.tls.acceptor()?;
        app.serve(Listener::new(http, tls.clone())?, faces.all.clone());
        if let Some(socket) = otlp_grpc {
            app.serve(Listener::new(socket, tls.clone())?, faces.otlp_grpc);
        }
        if let Some(socket) = otlp_http {
            app.serve(Listener::new(socket, tls)?, faces.otlp_http);
        }
        if let Some(socket) = xray_tcp {
            // the daemon protocol knows no TLS
            app.serve(Listener::new(socket, None)?, faces.xray);
        }
        if let Some(udp) = xray_udp {
            let (intake, stop): (Arc<dyn Intake>, _) = (Arc::new(app.server.ingest.clone()), app.stop_receiving.clone());
            app.receiving.push(tokio::spawn(udp.run(intake, clock, stop.cancelled_owned())));
        }
        Ok(app)
    }

    /// Where everything listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What the handlers work with.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn serve(&mut self, listener: Listener, router: Router) {
        let stop = self.stop_receiving.clone();
        self.receiving.push(tokio::spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = serving.await {
                tracing::error!(%error, "a listener ended");
            }
        }));
    }

    fn work<F: Future<Output = ()> + Send + 'static>(&mut self, work: impl FnOnce(CancellationToken) -> F) {
        self.working.push(tokio::spawn(work(self.stop_working.clone())));
    }

    /// Stops in the order of the data.
    pub async fn drain(self) {
        tracing::info!("draining");
        self.stop_receiving.cancel();
        // live tails and idle connections would hold it up for ever
        if tokio::time::timeout(REQUESTS_DEADLINE.min(self.drain), futures::future::join_all(self.receiving))
            .await
            .is_err()
        {
            tracing::info!("connections that are still open are cut");
        }
        self.stop_working.cancel();
        if tokio::time::timeout(self.drain, futures::future::join_all(self.working)).await.is_err() {
            tracing::warn!("background work did not end in time");
        }
        self.server.ingest.drain(self.drain).await;
        tracing::info!("drained");
    }
}

/// The routers of each socket.
struct Faces {
    all: Router,
    otlp_grpc: Router,
    otlp_http: Router,
    xray: Router,
}

impl Faces {
    fn new(config: &Config, server: &Arc<Server>, clock: &Arc<dyn Clock>) -> Faces {
        let intake: Arc<dyn Intake> = Arc::new(server.ingest.clone());
        let otlp = receive::otlp::Receiver::new(config.otlp.clone(), intake.clone(), clock.clone());
        let awslogs = receive::awslogs::Receiver::new(config.awslogs.clone(), intake.clone(), clock.clone());
        let xray = receive::xray::Receiver::new(config.xray.clone(), &config.awslogs.region, &config.awslogs.account_id, intake, clock.clone());
        let auth = Arc::new(config.auth.clone());
        let bearer = |router: Router| router.layer(from_fn_with_state(auth.clone(), serve::require_bearer));
        let aws = |router: Router| router.layer(from_fn_with_state(auth.clone(), serve::require_no_aws_credentials));
        let otlp_http = bearer(receive::otlp::http_router(otlp.clone()));
        let xray = aws(receive::xray::router(xray));
        let all = bearer(serve::router(server.clone()))
            .merge(otlp_http.clone())
            .merge(aws(receive::awslogs::router(awslogs)))
            .merge(xray.clone());
        Faces {
            all,
            otlp_grpc: bearer(receive::otlp::grpc_router(otlp)),
            otlp_http,
            xray,
        }
    }
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
        self.0.states(prefix)
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
