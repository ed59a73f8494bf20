use std::collections::HashSet;

use tokio::sync::broadcast;

use super::super::super::super::testing::{Memory, ample};
use super::super::super::wire;
use super::super::super::{Config as ReceiverConfig, Receiver};
use super::super::scope::OfGroups;
use super::*;
use crate::catalog::Snapshot;
use crate::ingest::{Source, View};
use crate::model::{Batch, ManualClock};
use crate::query::insights::{Context, Limits, Script};
use crate::storage::{Cache, LocalStore};

const NOW: i64 = 1_795_323_600_000_000_000;
const MILLI: i64 = 1_000_000;

/// No rows.
#[derive(Debug)]
struct Nothing;

impl Source for Nothing {
    fn view(&self) -> View {
        View {
            head: Arc::from([]),
            snapshot: Arc::new(Snapshot::default()),
            lost: Arc::default(),
        }
    }
    fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        broadcast::channel(1).1
    }
}

struct World {
    receiver: Arc<Receiver>,
    clock: Arc<ManualClock>,
    engine: Engine,
    _folder: tempfile::TempDir,
}

fn world(config: Config) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::new(NOW));
    let store = Arc::new(LocalStore::open(&folder.path().join("store")).expect("a store"));
    let cache = Cache::open(store, &folder.path().join("cache"), 1 << 20).expect("a cache");
    let engine = Engine::new(Arc::new(Nothing), cache, crate::query::Config::default(), clock.clone());
    let receiver = Receiver::new(ReceiverConfig::default(), Arc::new(Memory::default()), clock.clone(), ample());
    receiver.answer_from(engine.clone(), config);
    World {
        receiver,
        clock,
        engine,
        _folder: folder,
    }
}

impl World {
    fn queries(&self) -> &Arc<Queries> {
        self.receiver.queries().expect("there with the engine")
    }

    fn start(&self, language: Language) -> Result<String> {
        let asked = Asked {
            text: "fields a".into(),
            language,
            groups: Vec::new(),
            key: None,
        };
        let plan = Plan {
            script: Script::parse("fields a").expect("a script"),
            scope: Arc::new(OfGroups::new(self.receiver.registry.clone(), &[])),
            context: Context::default(),
            limits: Limits::default(),
            first: Vec::new(),
        };
        self.queries().start(asked, Work::Script(plan), self.engine.clone())
    }

    async fn ended(&self, id: &str) -> Status {
        loop {
            let job = self.queries().find(id, &Caller::trusted()).expect("it is there");
            let status = job.state.lock().status;
            if status.has_ended() {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn fifteen_queries_in_sql_are_taken_at_once_and_more_in_the_other_language() {
    let world = world(Config {
        max_queries: 17,
        max_running: 1,
        ..Config::default()
    });
    // nobody runs for now
    let place = world.queries().places.clone().acquire_owned().await.expect("a place");
    let ids: Vec<String> = (0..MAX_SQL_QUERIES).map(|_| world.start(Language::Sql).expect("up to the bound")).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 15);
    let refused = |language: Language, bound: &str| match world.start(language) {
        Err(Error::LimitExceeded(message)) => assert!(message.contains(bound), "{message}"),
        other => panic!("{other:?}"),
    };
    refused(Language::Sql, "[15]");
    world.start(Language::Cwli).expect("of another language");
    world.start(Language::Cwli).expect("up to the bound of all");
    refused(Language::Cwli, "[17]");
    refused(Language::Sql, "[17]");
    // the place of one that is stopped is free
    let job = world.queries().find(&ids[3], &Caller::trusted()).expect("there");
    world.queries().stop(&job).expect("it waits");
    assert_eq!(world.ended(&ids[3]).await, Status::Cancelled);
    let last = world.start(Language::Sql).expect("one has ended");
    refused(Language::Sql, "[17]");
    drop(place);
    assert_eq!(world.ended(&last).await, Status::Complete);
    for id in &ids {
        world.ended(id).await;
    }
    assert_eq!(world.queries().book.lock().n_unended_sql, 0);
}

#[tokio::test]
async fn results_are_kept_for_their_hours_and_no_longer() {
    let world = world(Config {
        keep_hours: 2,
        ..Config::default()
    });
    let id = world.start(Language::Cwli).expect("started");
    world.ended(&id).await;
    let find = || world.queries().find(&id, &Caller::trusted()).map(|_| ());
    world.clock.set(NOW + 2 * 3_600_000 * MILLI);
    assert_eq!(find(), Ok(()), "the last millisecond of two hours");
    assert_eq!(world.queries().list(&Caller::trusted(), None).len(), 1);
    world.clock.advance(MILLI);
    assert_eq!(find(), Err(Error::QueryNotFound));
    assert_eq!(world.queries().list(&Caller::trusted(), None).len(), 0);
    assert_eq!(world.queries().book.lock().ended_bytes, 0, "and its bytes are free");
}

#[tokio::test]
async fn source_finds_ten_thousand_groups_and_no_more() {
    let world = world(Config::default());
    let add = |name: String| {
        let call = wire::CreateLogGroup {
            log_group_name: Some(name),
            ..wire::CreateLogGroup::default()
        };
        let registry = world.receiver.registry.clone();
        async move { registry.create_log_group(&call, NOW / MILLI).await.expect("made") }
    };
    let ask = |prefix: &str| wire::StartQuery {
        query_string: Some(format!("SOURCE logGroups(namePrefix: ['{prefix}']) | stats count(*)")),
        start_time: Some(NOW / MILLI / 1_000 - 60),
        end_time: Some(NOW / MILLI / 1_000),
        ..wire::StartQuery::default()
    };
    for number in 0..10_000 {
        add(format!("n{number:05}")).await;
    }
    let caller = Caller::trusted();
    let started = world.receiver.start_query(&ask("n"), &caller).await.expect("at the bound");
    assert!(started["queryId"].is_string());
    add("n10000".into()).await;
    match world.receiver.start_query(&ask("n"), &caller).await {
        Err(Error::InvalidParameter(message)) => assert!(message.contains("10001") && message.contains("10000"), "{message}"),
        other => panic!("{other:?}"),
    }
    world.receiver.start_query(&ask("n0"), &caller).await.expect("a part of them");
}
