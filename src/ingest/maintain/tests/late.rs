//! Writes that a bucket carries out after they were given up.

use super::*;

#[tokio::test]
async fn a_late_put_of_a_block_that_was_given_up_is_deleted_before_another_takes_its_place() {
    let mut world = World::new(Config::default());
    let maintainer = world.maintainer(1).await;
    world.faulty.writes_may_be_late(Duration::from_secs(20));
    world.flush(&maintainer, Table::Logs, START, 10).await;
    world.clock.set(START + 80 * MINUTE);
    let is_in_lake = |key: &Key| BlockPath::parse(key).is_some_and(|(path, part)| (path.tier, part) == (Tier::Lake, Part::Data));
    world.faulty.choose(move |key| is_in_lake(key).then_some(Fault::Before));
    assert_eq!(maintainer.run_once().await.problems.len(), 1);
    world.faulty.heal();
    let outputs: Vec<Vec<Key>> = maintainer
        .catalog
        .snapshot()
        .intents()
        .values()
        .map(|open| open.intent.outputs.clone())
        .collect();
    assert_eq!(outputs.len(), 1);
    let (output, rows) = (&outputs[0][0], world.rows.clone());
    for _ in 0..2 {
        world.clock.advance(9 * SECOND_NANOS);
        maintainer.run_once().await;
        // deleted, and then it comes after all; its inputs wait until it is deleted for the last time
        let late = built(Table::Logs, Level::Sealed, START, &rows, world.clock.now_nanos()).parquet;
        world.inner.put(output, late).await.expect("put");
        assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Logs), (1, 0));
        world.check(&maintainer).await;
    }
    world.clock.advance(20 * SECOND_NANOS);
    maintainer.run_once().await;
    assert!(world.inner.get(output).await.is_err(), "it stays in the lake");
    assert_eq!(levels(&maintainer.catalog.snapshot(), Table::Logs), (0, 1));
    world.check(&maintainer).await;
    world.clock.advance(2 * HOUR);
    maintainer.run_once().await;
    world.check_nothing_is_left_behind(&maintainer).await;
}
