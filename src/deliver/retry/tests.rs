use async_trait::async_trait;
use parking_lot::Mutex;

use super::super::sink::{Fault, Sink, Taken};
use super::*;

/// What the next call is answered with.
#[derive(Clone, Copy, Debug)]
enum Answer {
    All,
    /// All but those whose data has an `x`, which are to be tried again.
    Some,
    Fault(Remedy),
    /// The records with an `x` are wrong, and the whole call with them.
    Wrong,
}

#[derive(Debug, Default)]
struct World {
    answers: Mutex<VecDeque<Answer>>,
    /// Destination and data of each call.
    calls: Mutex<Vec<(String, String)>>,
}

#[derive(Debug)]
struct Reached(Arc<World>, String);

#[async_trait]
impl Sinks for Reached {
    async fn open(&self, destination: &Destination) -> Arc<dyn Sink> {
        Arc::new(Reached(self.0.clone(), destination.to_string()))
    }
}

#[async_trait]
impl Sink for Reached {
    async fn put(&self, records: &[Record]) -> Result<Taken, Fault> {
        let data: Vec<String> = records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect();
        self.0.calls.lock().push((self.1.clone(), data.join(" ")));
        let fault = |remedy| Fault {
            message: format!("{remedy:?} it is"),
            remedy,
        };
        let answer = self.0.answers.lock().pop_front().unwrap_or(Answer::All);
        match answer {
            Answer::All => Ok(records.iter().map(|_| Ok(())).collect()),
            Answer::Some => Ok(data
                .iter()
                .map(|data| if data.contains('x') { Err(fault(Remedy::Retry)) } else { Ok(()) })
                .collect()),
            Answer::Wrong if data.iter().any(|data| data.contains('x')) => {
                self.0.answers.lock().push_front(Answer::Wrong);
                Err(fault(Remedy::Nothing))
            }
            Answer::Wrong => {
                self.0.answers.lock().push_front(Answer::Wrong);
                Ok(records.iter().map(|_| Ok(())).collect())
            }
            Answer::Fault(remedy) => Err(fault(remedy)),
        }
    }
}

fn line(destination: &str, data: &str) -> String {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(data);
    serde_json::json!({ "destination": destination, "rows": 2, "data": data }).to_string() + "\n"
}

fn letters(folder: &tempfile::TempDir, lines: &[String]) -> std::path::PathBuf {
    let path = folder.path().join("dead-letters.ndjson");
    std::fs::write(&path, lines.concat()).expect("written");
    path
}

/// One run, in which calls are answered so; what was called.
async fn run(file: &Path, answers: &[Answer]) -> (Retried, Vec<String>) {
    let world = Arc::new(World {
        answers: Mutex::new(answers.iter().copied().collect()),
        ..World::default()
    });
    let retry = Retry::open(file, Arc::new(Reached(world.clone(), String::new())), 0.0).expect("opens");
    let done = retry.run(file).await.expect("read and noted");
    let calls = world.calls.lock().iter().map(|(destination, data)| format!("{destination} {data}")).collect();
    (done, calls)
}

#[tokio::test]
async fn letters_are_sent_once_over_all_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = [("kinesis:k", "a"), ("kinesis:k", "b"), ("firehose:f", "c"), ("kinesis:k", "d")];
    let file = letters(&folder, &lines.map(|(destination, data)| line(destination, data)));
    let (done, calls) = run(&file, &[]).await;
    assert_eq!((done.sent, done.rows, done.failed), (4, 8, 0));
    assert_eq!(calls, ["kinesis:k a b", "firehose:f c", "kinesis:k d"]);
    let (done, calls) = run(&file, &[]).await;
    assert_eq!((done.sent, done.sent_before, calls.len()), (0, 4, 0));
    // the server renames it, and writes the next
    std::fs::rename(&file, folder.path().join("dead-letters.1.ndjson")).expect("renamed");
    let file = letters(&folder, &[line("kinesis:k", "e")]);
    let (done, calls) = run(&file, &[]).await;
    assert_eq!((done.sent, calls), (1, vec!["kinesis:k e".to_string()]));
    let (done, _) = run(&folder.path().join("dead-letters.1.ndjson"), &[]).await;
    assert_eq!((done.sent, done.sent_before), (0, 4));
}

#[tokio::test]
async fn what_was_noted_before_a_crash_is_not_sent_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = letters(&folder, &["a", "b"].map(|data| line("kinesis:k", data)));
    run(&letters(&folder, &[line("kinesis:k", "a")]), &[]).await;
    let notes = folder.path().join("dead-letters.sent");
    let noted = std::fs::read(&notes).expect("notes");
    assert_eq!(noted.len(), NOTE_BYTES);
    // the crash came in the middle of the second note
    std::fs::write(&notes, [&noted[..], &noted[..7]].concat()).expect("written");
    letters(&folder, &["a", "b"].map(|data| line("kinesis:k", data)));
    let (done, calls) = run(&file, &[]).await;
    assert_eq!((done.sent, done.sent_before, calls), (1, 1, vec!["kinesis:k b".to_string()]));
    assert_eq!(run(&file, &[]).await.0.sent_before, 2, "the next note stands on its own");
    // without their letters they are of no use
    letters(&folder, &[]);
    run(&file, &[]).await;
    assert_eq!(std::fs::read(&notes).expect("notes"), b"");
}

#[tokio::test]
async fn letters_of_a_file_of_any_name_are_sent_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let copies = ["to-send.txt", "others"].map(|name| folder.path().join(name));
    for copy in &copies {
        std::fs::write(copy, line("kinesis:k", &copy.display().to_string())).expect("written");
    }
    for (n_before, n_runs) in [(0, 1), (1, 2)] {
        for _ in 0..n_runs {
            for copy in &copies {
                let (done, calls) = run(copy, &[]).await;
                assert_eq!((done.sent_before, calls.len() as u64), (n_before, 1 - n_before), "{}", copy.display());
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_and_stays_for_the_next_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = letters(&folder, &["a", "x1", "b"].map(|data| line("kinesis:k", data)));
    let (done, calls) = run(&file, &[Answer::Some, Answer::Fault(Remedy::Retry)]).await;
    assert_eq!((done.sent, done.failed), (3, 0));
    assert_eq!(calls, ["kinesis:k a x1 b", "kinesis:k x1", "kinesis:k x1"]);

    // a destination that is away is not asked for each letter
    let lines = [line("kinesis:away", "c"), line("firehose:f", "d"), line("kinesis:away", "e")];
    let file = letters(&folder, &lines);
    let (done, calls) = run(&file, &[Answer::Fault(Remedy::Mend)]).await;
    assert_eq!((done.sent, done.failed, calls.len()), (1, 2, 2));
    assert_eq!(done.errors, BTreeMap::from([("kinesis:away".to_string(), "Mend it is".to_string())]));
    let (done, calls) = run(&file, &[Answer::Fault(Remedy::Retry); 20]).await;
    assert_eq!((done.sent, done.failed, calls.len()), (0, 2, TRIES as usize));
    let (done, _) = run(&file, &[]).await;
    assert_eq!((done.sent, done.sent_before), (2, 1));

    // one that is wrong takes no other with it
    let file = letters(&folder, &["f", "g", "x2", "h"].map(|data| line("kinesis:k", data)));
    let (done, _) = run(&file, &[Answer::Wrong]).await;
    assert_eq!((done.sent, done.failed, done.errors.len()), (3, 1, 1));
}

#[tokio::test]
async fn lines_that_are_no_letters_are_told_and_passed_by() {
    let folder = tempfile::tempdir().expect("a folder");
    let torn = line("kinesis:k", "b");
    let file = letters(&folder, &["no letter\n".into(), line("kinesis:k", "a"), torn[..torn.len() - 1].into()]);
    let (done, calls) = run(&file, &[]).await;
    assert_eq!((done.sent, done.unreadable, calls), (1, 2, vec!["kinesis:k a".to_string()]));
    assert_eq!(done.first_unreadable.map(|(number, _)| number), Some(1));
    let damaged = folder.path().join("dead-letters.sent");
    std::fs::write(&damaged, "?".repeat(NOTE_BYTES)).expect("written");
    let opened = Retry::open(&file, Arc::new(Reached(Arc::default(), String::new())), 0.0);
    assert!(opened.expect_err("damaged").to_string().contains("dead-letters.sent is damaged"));
    std::fs::remove_file(&damaged).expect("removed");
    let _first = Retry::open(&file, Arc::new(Reached(Arc::default(), String::new())), 0.0).expect("opens");
    let second = Retry::open(&file, Arc::new(Reached(Arc::default(), String::new())), 0.0);
    assert!(second.expect_err("one at a time").to_string().contains("another run"));
}
