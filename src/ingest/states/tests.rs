use proptest::prelude::*;

use super::*;
use crate::storage::paths::CatalogPath;

/// What lies in a store: parts by key, and which of them the catalog names.
#[derive(Debug, Default)]
struct Stored {
    objects: BTreeMap<Key, Bytes>,
    written: usize,
}

impl Stored {
    /// Writes as a commit does, and gives what the catalog names from then on.
    fn commit(&mut self, documents: &Mutex<Documents>, parts: &[Part]) -> Vec<Part> {
        let draft = draft(documents, parts.to_vec()).expect("written");
        self.written = draft.bytes.len();
        let key = CatalogPath::State(format!("{:026}", self.objects.len())).key();
        self.objects.insert(key.clone(), draft.bytes.clone());
        committed(documents, draft, key)
    }

    /// What a start reads.
    fn open(&self, parts: &[Part]) -> (Mutex<Documents>, Vec<Part>) {
        let mut documents = Documents::default();
        let load = |part: &Part| Part {
            up_to: documents.load(read(&self.objects[&part.key]).expect("our own")),
            ..part.clone()
        };
        let parts = parts.iter().map(load).collect();
        (Mutex::new(documents), parts)
    }
}

fn all(documents: &Mutex<Documents>) -> BTreeMap<String, Bytes> {
    let documents = documents.lock();
    documents.under("").map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u16),
    Remove(u8),
    Commit,
    /// The store or the catalog did not take it.
    Fail,
    /// Another node has forgotten it.
    Forgotten,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), 0..400u16).prop_map(|(key, size)| Step::Set(key, size)),
        3 => any::<u8>().prop_map(Step::Remove),
        4 => Just(Step::Commit),
        1 => Just(Step::Fail),
        1 => Just(Step::Forgotten),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever happens, the parts that the catalog names say together what was there at the last commit.
    #[test]
    fn the_parts_say_what_was_there(steps in proptest::collection::vec(step(), 1..200)) {
        let (mut documents, mut parts, mut stored) = (Mutex::new(Documents::default()), Vec::new(), Stored::default());
        let mut expected = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set(key, size) => documents.lock().set(format!("key/{key}"), Some(vec![key; usize::from(size)].into())),
                Step::Remove(key) => documents.lock().set(format!("key/{key}"), None),
                Step::Commit => {
                    let had_changed = has_changed(&documents, &parts);
                    let before = parts.last().map(|part: &Part| part.bytes);
                    parts = stored.commit(&documents, &parts);
                    expected = all(&documents);
                    prop_assert!(!has_changed(&documents, &parts) && parts.len() <= MAX_PARTS);
                    prop_assert!(had_changed || before.is_none_or(|before| stored.written as u64 <= before.max(WHOLE_BYTES)));
                }
                Step::Fail => drop(draft(&documents, parts.clone()).expect("written")),
                Step::Forgotten => parts.clear(),
                Step::Restart => {
                    if parts.is_empty() {
                        expected.clear();
                    }
                    (documents, parts) = stored.open(&parts);
                    prop_assert_eq!(&all(&documents), &expected);
                }
            }
            if !parts.is_empty() {
                prop_assert_eq!(all(&stored.open(&parts).0), expected.clone());
            }
        }
    }
}

#[test]
fn a_change_costs_what_it_is_and_not_what_there_is() {
    let documents = Mutex::new(Documents::default());
    let key = |n: usize| format!("logstream/group\u{0}{n:06}");
    let value = |n: usize, at: usize| Some(Bytes::from(format!("{{\"last\":{at},\"of\":{n},\"more\":\"{}\"}}", "x".repeat(100))));
    for n in 0..20_000 {
        documents.lock().set(key(n), value(n, 0));
    }
    let mut stored = Stored::default();
    let mut parts = stored.commit(&documents, &[]);
    let whole = stored.written;
    let (mut most, mut sum) = (0, 0);
    for at in 1..=200 {
        for n in 0..20 {
            documents.lock().set(key(at * 97 + n), value(n, at));
        }
        parts = stored.commit(&documents, &parts);
        sum += stored.written;
        most = most.max(stored.written);
    }
    assert!(has_changed(&documents, &[]) && !has_changed(&documents, &parts));
    // 4,000 of them changed, and were written about eight times each; all of them would have been 200 times the whole
    assert!(sum < 2 * whole && most < whole / 2, "{sum} in all and {most} at once, of {whole}");
    assert_eq!(all(&stored.open(&parts).0), all(&documents));
}

#[test]
fn what_is_removed_stays_removed_and_is_forgotten_once_one_part_says_all() {
    let documents = Mutex::new(Documents::default());
    for n in 0..100 {
        documents.lock().set(format!("key/{n:03}"), Some(vec![b'x'; 90].into()));
    }
    let mut stored = Stored::default();
    let mut parts = stored.commit(&documents, &[]);
    documents.lock().set("key/007", None);
    parts = stored.commit(&documents, &parts);
    assert_eq!(parts.len(), 2);
    assert_eq!(&*stored.objects[&parts[1].key], br#"{"key/007":null}"#);
    let (documents, mut parts) = stored.open(&parts);
    assert!(!all(&documents).contains_key("key/007"));
    assert_eq!(documents.lock().under("key/00").count(), 9);
    // half of it is written anew, and with it the removal
    for n in 8..80 {
        documents.lock().set(format!("key/{n:03}"), Some(vec![b'y'; 90].into()));
    }
    parts = stored.commit(&documents, &parts);
    assert_eq!((parts.len(), all(&stored.open(&parts).0).len()), (1, 99));
    assert!(!documents.lock().all.contains_key("key/007"), "nobody need be told");
}

#[test]
fn what_is_small_is_one_object_as_it_always_was() {
    let documents = Mutex::new(Documents::default());
    let mut stored = Stored::default();
    let mut parts = Vec::new();
    for n in 0..9 {
        documents.lock().set(format!("key/{}", n % 3), Some(format!("{n}").into()));
        parts = stored.commit(&documents, &parts);
        assert_eq!(parts.len(), 1);
    }
    assert_eq!(&*stored.objects[&parts[0].key], br#"{"key/0":"Ng==","key/1":"Nw==","key/2":"OA=="}"#);
    assert!(read(b"[]").is_err() && read(br#"{"a":"?"}"#).is_err() && read(br#"{"a":1}"#).is_err());
}
