//! The table of queries in `tests/fixtures/query/semantics.txt`, three ways.
//!
//! A line is `query => ids`, IDs oldest first; `# logs` and `# spans` say which table follows. With
//! `TRACELAKE_ACCEPT=1` the answers of the head are written into the file: read them before you commit them.

use super::*;

const FILE: &str = "semantics.txt";

struct Case {
    table: Table,
    query: String,
    expected: String,
}

fn cases(text: &str) -> Vec<Case> {
    let mut table = Table::Logs;
    let mut out = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(name) if Table::from_name(name).is_some() => table = Table::from_name(name).expect("just seen"),
            Some(_) => {}
            None if line.is_empty() => {}
            None => {
                let (query, expected) = line
                    .split_once(" => ")
                    .or_else(|| line.strip_suffix(" =>").map(|query| (query, "")))
                    .expect("query => ids");
                out.push(Case {
                    table,
                    query: query.to_string(),
                    expected: expected.to_string(),
                });
            }
        }
    }
    out
}

async fn answers(lake: &Lake, cases: &[Case]) -> Vec<String> {
    let mut out = Vec::new();
    for case in cases {
        let mut found = lake.find(case.table, &case.query).await;
        found.reverse();
        out.push(found.join(" "));
        // counting goes other ways through an index than searching
        let query = parse(&case.query, case.table).expect("parsed before");
        let counted = lake.engine.count(case.table, &query, TimeRange::ALL).await.expect("a count");
        assert_eq!(counted.count as usize, found.len(), "count of {}", case.query);
    }
    out
}

fn compare(way: &str, cases: &[Case], answers: &[String]) {
    let wrong: Vec<String> = cases
        .iter()
        .zip(answers)
        .filter(|(case, answer)| case.expected != **answer)
        .map(|(case, answer)| format!("{}: {}\n  expected {}\n  found    {}", case.table.name(), case.query, case.expected, answer))
        .collect();
    assert!(wrong.is_empty(), "{way}:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn unflushed_rows_match_as_documented() {
    let lake = Lake::new().await;
    lake.head(vec![fixture_logs(), fixture_spans()]);
    let text = fixture(FILE);
    let cases = cases(&text);
    assert!(cases.len() >= 80);
    let answers = answers(&lake, &cases).await;
    if std::env::var_os("TRACELAKE_ACCEPT").is_some() {
        let mut answers = answers.iter();
        let lines: Vec<String> = text
            .lines()
            .map(|line| match line.is_empty() || line.starts_with("# ") {
                true => line.to_string(),
                false => {
                    let query = line.split_once(" =>").map_or(line, |(query, _)| query);
                    format!("{query} => {}", answers.next().expect("one a line")).trim_end().to_string()
                }
            })
            .collect();
        let path = format!("{}/tests/fixtures/query/{FILE}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, lines.join("\n") + "\n").expect("written");
        return;
    }
    compare("head", &cases, &answers);
}

/// Code in the first column of the tables behind a heading, up to the next section.
fn examples(text: &str, from: &str, to: &str) -> Vec<String> {
    let text = text.split_once(from).expect(from).1;
    let text = text.split_once(to).expect(to).0;
    let cells = text.lines().filter_map(|line| line.trim_start_matches("//! ").strip_prefix("| `"));
    cells
        .flat_map(|cell| cell.split_once("` | ").expect("a second column").0.split("`, `").map(str::to_string))
        .collect()
}

#[test]
fn documented_examples_are_rows_of_the_table() {
    let cases = cases(&fixture(FILE));
    let page = examples(include_str!("../parse.rs"), "# Conditions on text", "# Grammar");
    let readme = examples(include_str!("../../../README.md"), "## The search language", "\n## ");
    assert!(page.len() > 40 && readme.len() > 20);
    for example in page.iter().chain(&readme) {
        assert!(cases.iter().any(|case| case.query == *example), "{example} is not in {FILE}");
    }
}

#[tokio::test]
async fn blocks_with_an_index_match_alike() {
    let lake = Lake::new().await;
    lake.block(&fixture_logs(), true).await;
    lake.block(&fixture_spans(), true).await;
    let cases = cases(&fixture(FILE));
    compare("block with index", &cases, &answers(&lake, &cases).await);
}

#[tokio::test]
async fn blocks_that_are_not_here_match_alike() {
    let lake = Lake::far().await;
    lake.block(&fixture_logs(), true).await;
    lake.block(&fixture_spans(), true).await;
    let cases = cases(&fixture(FILE));
    compare("block that is not here", &cases, &answers(&lake, &cases).await);
}

#[tokio::test]
async fn blocks_without_an_index_match_alike() {
    let lake = Lake::new().await;
    lake.block(&fixture_logs(), false).await;
    lake.block(&fixture_spans(), false).await;
    let cases = cases(&fixture(FILE));
    compare("block without index", &cases, &answers(&lake, &cases).await);
}
