//! What every store has to do: run by the tests of each backend.

use std::sync::Arc;

use bytes::Bytes;

use super::{ErrorKind, Key, Store, paths, probe};

fn key(text: &str) -> Key {
    Key::parse(text).expect("a legal key")
}

/// Runs the whole contract against an empty store.
pub(crate) async fn check(store: Arc<dyn Store>) {
    probe(&*store).await.expect("keeps its promises");
    assert_eq!(store.list("", None).await.expect("lists"), [], "a probe leaves nothing behind");
    objects_come_back_whole(&*store).await;
    what_is_not_there_is_not_found(&*store).await;
    only_one_creates(&store).await;
    listings_are_ordered_and_bounded(&*store).await;
}

async fn objects_come_back_whole(store: &dyn Store) {
    let large: Bytes = (0..20 * 1024 * 1024u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect::<Vec<_>>()
        .into();
    for (name, bytes) in [("a/empty", Bytes::new()), ("a/small", Bytes::from_static(b"hello")), ("a/large", large)] {
        let key = key(name);
        store.put(&key, bytes.clone()).await.expect("put");
        assert!(store.get(&key).await.expect("reads") == bytes, "{name}");
        if !bytes.is_empty() {
            let n_bytes = bytes.len() as u64;
            assert!(store.get_range(&key, 1..n_bytes).await.expect("reads") == bytes.slice(1..), "{name}");
            assert_eq!(store.get_range(&key, 3..3).await.expect("an empty range"), "");
            store.get_range(&key, 0..n_bytes + 1).await.expect_err("a range behind the end");
            store.get_range(&key, n_bytes + 1..n_bytes + 2).await.expect_err("a range far behind the end");
        }
    }
    store.put(&key("a/small"), Bytes::from_static(b"replaced")).await.expect("put");
    assert_eq!(store.get(&key("a/small")).await.expect("reads"), "replaced");
    for name in ["a/empty", "a/small", "a/large"] {
        store.delete(&key(name)).await.expect("deleted");
    }
}

async fn what_is_not_there_is_not_found(store: &dyn Store) {
    for name in ["absent", "no/such/folder/absent"] {
        let error = store.get(&key(name)).await.expect_err("absent");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(!error.retry_helps());
        assert!(store.get_range(&key(name), 0..1).await.expect_err("absent").is_not_found());
        store.delete(&key(name)).await.expect("absent is a success");
    }
    assert_eq!(store.list("no/such/folder/", None).await.expect("lists"), []);
}

async fn only_one_creates(store: &Arc<dyn Store>) {
    let key = paths::CatalogPath::Log(1).key();
    let tries: Vec<_> = (0..16u8)
        .map(|n| {
            let (store, key) = (Arc::clone(store), key.clone());
            tokio::spawn(async move { (n, store.put_if_absent(&key, vec![n; 1000].into()).await.expect("answers")) })
        })
        .collect();
    let mut winners = Vec::new();
    for one in tries {
        let (n, created) = one.await.expect("ends");
        if created {
            winners.push(n);
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(store.get(&key).await.expect("reads"), vec![winners[0]; 1000]);
    store.delete(&key).await.expect("deleted");
    assert!(store.put_if_absent(&key, Bytes::from_static(b"x")).await.expect("free again"));
    store.delete(&key).await.expect("deleted");
}

async fn listings_are_ordered_and_bounded(store: &dyn Store) {
    let names = ["b/1", "b/10", "b/2", "b/deeper/3", "b2/4", "c"];
    for name in names {
        store.put(&key(name), Bytes::from_static(b"four")).await.expect("put");
    }
    let list = async |prefix: &str, after: Option<&str>| {
        let after = after.map(key);
        let listed = store.list(prefix, after.as_ref()).await.expect("lists");
        assert!(listed.iter().all(|object| object.n_bytes == 4 && object.modified_nanos > 0), "{listed:?}");
        listed.into_iter().map(|object| object.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list("", None).await, ["b/1", "b/10", "b/2", "b/deeper/3", "b2/4", "c"]);
    assert_eq!(list("b/", None).await, ["b/1", "b/10", "b/2", "b/deeper/3"]);
    assert_eq!(list("b/", Some("b/10")).await, ["b/2", "b/deeper/3"]);
    assert_eq!(list("b/", Some("b/11")).await, ["b/2", "b/deeper/3"]);
    assert_eq!(list("", Some("b2/4")).await, ["c"]);
    for name in names {
        store.delete(&key(name)).await.expect("deleted");
    }
    assert_eq!(list("", None).await, Vec::<String>::new());
}
