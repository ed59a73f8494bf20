use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::seen::key;
use super::*;

const NOW: i64 = 1_795_323_600_000;
const HOUR: i64 = 3_600_000;

/// Events by log group, in pages of three; what is in `faults` comes before an answer.
#[derive(Debug, Default)]
struct Elsewhere {
    events: Mutex<BTreeMap<String, Vec<Pulled>>>,
    faults: Mutex<VecDeque<FaultKind>>,
    /// Log groups that may not be read.
    denied: Mutex<Vec<String>>,
    /// Whether each page begins with the last event of the one before.
    repeats: bool,
}

impl Elsewhere {
    fn put(&self, group: &str, id: usize, millis: i64) {
        let event = Pulled {
            id: id.to_string(),
            stream: format!("s{}", id % 2),
            millis,
            message: format!("event {id}"),
        };
        let mut events = self.events.lock();
        let events = events.entry(group.to_string()).or_default();
        events.push(event);
        events.sort_by_key(|event| event.millis);
    }

    fn fault(&self) -> Result<(), Fault> {
        match self.faults.lock().pop_front() {
            None => Ok(()),
            Some(kind) => Err(Fault {
                message: format!("{kind:?}"),
                kind,
            }),
        }
    }
}

#[async_trait]
impl Remote for Elsewhere {
    async fn groups(&self, prefix: &str, token: Option<&str>) -> Result<(Vec<String>, Option<String>), Fault> {
        self.fault()?;
        // one a page
        let after = token.unwrap_or_default().to_string();
        let names: Vec<String> = self
            .events
            .lock()
            .keys()
            .filter(|name| name.starts_with(prefix) && **name > after)
            .cloned()
            .collect();
        Ok((names.iter().take(1).cloned().collect(), names.first().filter(|_| names.len() > 1).cloned()))
    }

    async fn page(&self, group: &str, from_millis: i64, to_millis: i64, token: Option<&str>) -> Result<Page, Fault> {
        self.fault()?;
        if self.denied.lock().iter().any(|denied| denied == group) {
            return Err(Fault {
                message: "no".into(),
                kind: FaultKind::Lasting,
            });
        }
        let at: usize = token.map_or(0, |token| token.parse().expect("a number"));
        let inside: Vec<Pulled> = {
            let events = self.events.lock();
            events[group]
                .iter()
                .filter(|event| (from_millis..=to_millis).contains(&event.millis))
                .cloned()
                .collect()
        };
        let from = if self.repeats { at.saturating_sub(1) } else { at };
        // of the window before
        let before = self.events.lock()[group].iter().rfind(|event| event.millis < from_millis).cloned();
        let before = before.filter(|_| self.repeats);
        Ok(Page {
            events: before.into_iter().chain(inside.iter().take(at + 3).skip(from).cloned()).collect(),
            next: (at + 3 < inside.len()).then(|| (at + 3).to_string()),
        })
    }

    async fn region(&self) -> String {
        "eu-west-1".into()
    }
}

/// Keeps in memory.
#[derive(Debug)]
struct Here {
    now: Mutex<i64>,
    kept: Mutex<Vec<(String, Pulled)>>,
    checkpoints: Mutex<BTreeMap<String, Bytes>>,
    /// So many calls are refused first.
    refusals: Mutex<usize>,
    leads: AtomicBool,
}

impl Here {
    fn new() -> Arc<Here> {
        Arc::new(Here {
            now: Mutex::new(NOW),
            kept: Mutex::default(),
            checkpoints: Mutex::default(),
            refusals: Mutex::default(),
            leads: AtomicBool::new(true),
        })
    }

    fn ids(&self, group: &str) -> Vec<usize> {
        let kept = self.kept.lock();
        let mut ids: Vec<usize> = kept
            .iter()
            .filter(|(of, _)| of == group)
            .map(|(_, event)| event.id.parse().expect("a number"))
            .collect();
        ids.sort_unstable();
        ids
    }

    fn refuse(&self) -> Result<(), String> {
        let mut refusals = self.refusals.lock();
        if *refusals == 0 {
            return Ok(());
        }
        *refusals -= 1;
        Err("full".into())
    }

    fn pass(&self, millis: i64) {
        *self.now.lock() += millis;
    }
}

#[async_trait]
impl Home for Here {
    async fn kept(&self, group: &str, from_millis: i64, to_millis: i64) -> Result<Vec<(u128, i64)>, String> {
        self.refuse()?;
        let kept = self.kept.lock();
        let inside = kept
            .iter()
            .filter(|(of, event)| of == group && (from_millis..=to_millis).contains(&event.millis));
        Ok(inside.map(|(_, event)| (key(&event.stream, &event.id), event.millis)).collect())
    }
    async fn keep(&self, group: &str, _region: &str, events: &[&Pulled]) -> Result<(), String> {
        self.refuse()?;
        self.kept.lock().extend(events.iter().map(|event| (group.to_string(), (*event).clone())));
        Ok(())
    }
    fn checkpoint(&self, key: &str) -> Option<Bytes> {
        self.checkpoints.lock().get(key).cloned()
    }
    async fn save(&self, key: &str, value: Bytes) -> Result<(), String> {
        self.refuse()?;
        self.checkpoints.lock().insert(key.to_string(), value);
        Ok(())
    }
    fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }
    fn now_millis(&self) -> i64 {
        *self.now.lock()
    }
}

fn source() -> SourceConfig {
    SourceConfig {
        name: "prod".into(),
        log_groups: vec!["/shop/*".into()],
        since: "3d".into(),
        ..SourceConfig::default()
    }
}

fn at_once() -> Config {
    Config {
        max_requests_per_second: 1_000_000,
        ..Config::default()
    }
}

fn collector(source: SourceConfig, elsewhere: &Arc<Elsewhere>, here: &Arc<Here>) -> Collector {
    Collector::new(&at_once(), source, elsewhere.clone(), here.clone(), Arc::default())
}

async fn catch_up(collector: &Collector) {
    for _ in 0..100 {
        collector.one_round().await;
        if collector.is_caught_up().await {
            return collector.one_round().await;
        }
    }
    panic!("it does not catch up");
}

fn history(elsewhere: &Elsewhere, n: usize) {
    for id in 0..n {
        elsewhere.put("/shop/web", id, NOW - 70 * HOUR + (id as i64) * 69 * HOUR / (n as i64));
    }
    elsewhere.put("/shop/worker", 7, NOW - HOUR);
    elsewhere.put("/other", 8, NOW - HOUR);
}

#[tokio::test]
async fn history_is_kept_once_whatever_goes_wrong_on_the_way() {
    let elsewhere = Arc::new(Elsewhere {
        repeats: true,
        ..Elsewhere::default()
    });
    history(&elsewhere, 100);
    use FaultKind::{Passing, Throttled};
    elsewhere
        .faults
        .lock()
        .extend([Throttled, Passing, Throttled, Throttled, Passing, Passing, Passing, Throttled]);
    let here = Here::new();
    *here.refusals.lock() = 9;
    let collector = collector(source(), &elsewhere, &here);
    catch_up(&collector).await;
    assert_eq!(here.ids("/shop/web"), (0..100).collect::<Vec<_>>());
    assert_eq!((here.ids("/shop/worker"), here.ids("/other")), (vec![7], vec![]));
}

#[tokio::test]
async fn only_the_node_that_leads_collects() {
    let elsewhere = Arc::new(Elsewhere::default());
    history(&elsewhere, 50);
    let here = Here::new();
    here.leads.store(false, Ordering::Relaxed);
    let (collector, stop) = (Arc::new(collector(source(), &elsewhere, &here)), CancellationToken::new());
    let running = tokio::spawn({
        let (collector, stop) = (collector.clone(), stop.clone());
        async move { collector.run(stop).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(here.ids("/shop/web"), [0usize; 0]);
    here.leads.store(true, Ordering::Relaxed);
    for _ in 0..10_000 {
        if here.ids("/shop/web").len() == 50 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    running.await.expect("it ends");
    assert_eq!(here.ids("/shop/web"), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_kept_is_known_in_the_next_life_however_old_its_checkpoint() {
    let elsewhere = Arc::new(Elsewhere::default());
    history(&elsewhere, 60);
    let here = Here::new();
    let first = collector(source(), &elsewhere, &here);
    first.one_round().await;
    first.one_round().await;
    let early = here.checkpoints.lock().clone();
    catch_up(&first).await;
    let all = here.ids("/shop/web");
    assert_eq!(all.len(), 60);
    drop(first);
    let last = here.checkpoints.lock().clone();
    for checkpoints in [last, early, BTreeMap::new()] {
        *here.checkpoints.lock() = checkpoints;
        here.pass(1_000);
        catch_up(&collector(source(), &elsewhere, &here)).await;
        assert_eq!(here.ids("/shop/web"), all);
    }
}

#[tokio::test]
async fn what_comes_late_is_found_while_it_is_not_older_than_the_overlap() {
    let elsewhere = Arc::new(Elsewhere::default());
    elsewhere.put("/shop/web", 0, NOW - 1_000);
    let here = Here::new();
    let collector = collector(source(), &elsewhere, &here);
    catch_up(&collector).await;
    here.pass(60_000);
    collector.one_round().await;
    elsewhere.put("/shop/web", 1, NOW - 200_000);
    elsewhere.put("/shop/web", 2, NOW - 400_000);
    elsewhere.put("/shop/web", 3, NOW + 59_000);
    here.pass(10_000);
    collector.one_round().await;
    assert_eq!(here.ids("/shop/web"), [0, 1, 3]);
    for _ in 0..5 {
        here.pass(10_000);
        collector.one_round().await;
    }
    assert_eq!(here.ids("/shop/web"), [0, 1, 3]);
}

#[tokio::test]
async fn streams_are_chosen_and_a_group_that_may_not_be_read_holds_up_no_other() {
    let elsewhere = Arc::new(Elsewhere::default());
    history(&elsewhere, 10);
    elsewhere.put("/shop/secret", 9, NOW - HOUR);
    elsewhere.denied.lock().push("/shop/secret".into());
    let here = Here::new();
    let source = SourceConfig {
        log_streams: vec!["s1".into()],
        ..source()
    };
    let board = Arc::<Board>::default();
    let collector = Collector::new(&at_once(), source, elsewhere.clone(), here.clone(), board.clone());
    for _ in 0..20 {
        collector.one_round().await;
    }
    assert_eq!((here.ids("/shop/web"), here.ids("/shop/worker")), (vec![1, 3, 5, 7, 9], vec![7]));
    let shown = board.sources();
    assert_eq!((shown[0].n_failing, shown[0].n_follow, shown[0].kept), (1, 2, 6));
    let secret = shown[0].log_groups.iter().find(|group| group.log_group == "/shop/secret").expect("shown");
    assert_eq!((secret.stage, secret.error.as_deref()), (Stage::Failing, Some("no")));
    elsewhere.denied.lock().clear();
    for _ in 0..20 {
        collector.one_round().await;
    }
    assert_eq!((here.ids("/shop/secret"), board.sources()[0].n_failing), (vec![9], 0));
}

#[tokio::test]
async fn without_a_beginning_collecting_begins_now_and_does_so_once() {
    let elsewhere = Arc::new(Elsewhere::default());
    elsewhere.put("/shop/web", 0, NOW - HOUR);
    let here = Here::new();
    let plain = SourceConfig {
        since: String::new(),
        ..source()
    };
    collector(plain.clone(), &elsewhere, &here).one_round().await;
    elsewhere.put("/shop/web", 1, NOW + 30_000);
    here.pass(2 * HOUR);
    // away for two hours: what came meanwhile is backfilled
    catch_up(&collector(plain, &elsewhere, &here)).await;
    assert_eq!(here.ids("/shop/web"), [1]);
}
