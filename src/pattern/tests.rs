use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TEMPLATES: &str = include_str!("../../tests/fixtures/patterns/templates.txt");
const IDS: &str = include_str!("../../tests/fixtures/patterns/ids.txt");

/// Reads the escapes of a fixture.
fn unescaped(line: &str) -> String {
    let mut out = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('e') => '\x1b',
                other => other.unwrap_or('\\'),
            },
            other => other,
        });
    }
    out
}

/// Texts and their templates.
fn table() -> Vec<(String, String)> {
    let lines: Vec<&str> = TEMPLATES.lines().filter(|line| !line.starts_with("# ")).collect();
    let pairs = lines
        .chunks(2)
        .map(|pair| (unescaped(pair[0]), unescaped(pair[1].strip_prefix("= ").expect("a template"))));
    pairs.collect()
}

fn of(text: &str) -> String {
    template_of(text).unwrap_or_default()
}

#[test]
fn every_text_of_the_table_has_its_template() {
    let table = table();
    assert!(table.len() >= 80, "{}", table.len());
    for (text, template) in table {
        assert_eq!(of(&text), template, "{text}");
    }
}

#[test]
fn ids_of_this_format_never_change() {
    let mut miner = Miner::default();
    let mut n_checked = 0;
    for line in IDS.lines().filter(|line| !line.starts_with("# ")) {
        let (id, text) = line.split_once(' ').expect("an ID and a text");
        assert_eq!(miner.id(&unescaped(text)).map(PatternId::get), id.parse().ok(), "{text}");
        n_checked += 1;
    }
    assert!(n_checked >= 20, "{n_checked}");
    assert_eq!(FORMAT_VERSION, 1, "a new format has golden IDs of its own");
}

#[test]
fn a_template_is_its_own_template_and_has_its_texts_id() {
    let mut miner = Miner::default();
    for (text, template) in table() {
        assert_eq!(of(&template), template);
        assert_eq!(miner.id(&text), miner.id(&template));
    }
}

#[test]
fn ids_are_positive_and_exact_in_json() {
    for (text, _) in table() {
        let id = Miner::default().id(&text).expect("a text").get();
        assert!((1..1 << 53).contains(&id));
        assert_eq!(id as f64 as i64, id);
    }
}

#[test]
fn nothing_has_no_pattern() {
    for text in ["", " ", "\n\t \r\n", "\x1b[0m"] {
        assert_eq!(template_of(text), None, "{text:?}");
    }
}

#[test]
fn values_do_not_tell_texts_apart_and_words_do() {
    let mut miner = Miner::default();
    let mut ids = |texts: &[&str]| texts.iter().map(|text| miner.id(text)).collect::<BTreeSet<_>>().len();
    assert_eq!(ids(&["took 1ms", "took 2.5s", "took  1m30s", " took 17µs\n"]), 1);
    assert_eq!(ids(&["ids 1,2,3", "ids 4", "ids 5, 6"]), 1);
    assert_eq!(ids(&["user=alice n=1", "user=\"bob smith\" n=x7"]), 1);
    assert_eq!(ids(&[r#"{"msg":"a 1","b":[1]}"#, r#"{ "msg": "a 2", "b": {"c": 1} }"#]), 2);
    assert_eq!(ids(&["cache hit", "cache miss", "Cache hit"]), 3);
    assert_eq!(ids(&[r#"{"level":"info","x":1}"#, r#"{"level":"error","x":1}"#]), 2);
}

#[test]
fn long_texts_are_looked_at_to_the_bound() {
    let words = "word ".repeat(10_000);
    let template = of(&words);
    assert!(template.len() <= MAX_BYTES && template.ends_with("word <...>"), "{}", template.len());
    assert_eq!(of(&template), template);
    assert_eq!(of(&words), of(&format!("{words}and something else")));
    let lines: String = (0..50).map(|number| format!("line {}\n", "x".repeat(number))).collect();
    assert_eq!(of(&lines).lines().count(), MAX_LINES);
    let json = format!("{{\"msg\":\"many keys\",{}}}", (0..999).map(|_| "\"a\":1").collect::<Vec<_>>().join(","));
    let template = of(&json);
    assert!(template.ends_with(",<...>}"), "{template}");
    assert_eq!(of(&template), template);
    let long = format!("{{\"msg\":\"long\",\"text\":\"{}\"}}", "y ".repeat(5_000));
    assert_eq!(of(&long), "{\"msg\":\"long\",<...>}");
    let deep = "{\"a\":".repeat(100) + "1" + &"}".repeat(100);
    assert_eq!(of(&deep), format!("{}<*>{}", "{\"a\":".repeat(MAX_JSON_DEPTH), "}".repeat(MAX_JSON_DEPTH)));
}

fn clusters(templates: &[&str]) -> Vec<(String, Vec<usize>)> {
    let shapes: Vec<Shape<'_>> = templates.iter().map(|template| Shape { template, group: 0 }).collect();
    cluster(&shapes).into_iter().map(|cluster| (cluster.template, cluster.members)).collect()
}

#[test]
fn names_become_one_pattern_and_choices_stay_apart() {
    assert_eq!(
        clusters(&["user alice logged in", "user bob logged in", "user carol logged in"]),
        [("user <*> logged in".to_string(), vec![0, 1, 2])]
    );
    assert_eq!(clusters(&["connection opened to db", "connection closed to db"]).len(), 2);
    assert_eq!(clusters(&["cache hit", "cache miss", "cache evicted"]).len(), 3);
    assert_eq!(clusters(&["user alice logged in", "user bob logged in", "user carol logged"]).len(), 3);
    let logins: Vec<String> = (b'a'..=b'j')
        .map(|letter| format!("login {}", char::from(letter).to_string().repeat(3)))
        .collect();
    let logins: Vec<&str> = logins.iter().map(String::as_str).collect();
    assert_eq!(clusters(&logins), [("login <*>".to_string(), (0..10).collect::<Vec<_>>())]);
    // each with its own keys and level
    assert_eq!(clusters(&["INFO a b c=<*>", "WARN a b c=<*>", "ERROR a b c=<*>", "INFO a b d=<*>"]).len(), 4);
}

#[test]
fn two_names_in_one_text_become_two_places() {
    let mut texts = Vec::new();
    for user in ["ann", "bob", "cid", "dee", "eve"] {
        for item in ["pen", "cup", "hat", "map"] {
            if !(user.len() + item.as_bytes()[0] as usize + user.as_bytes()[0] as usize).is_multiple_of(3) {
                texts.push(format!("user {user} bought {item} today"));
            }
        }
    }
    texts.push("cache warm after start up".into());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found: Vec<String> = clusters(&texts).into_iter().map(|(template, _)| template).collect();
    assert_eq!(found, ["cache warm after start up", "user <*> bought <*> today"]);
}

#[test]
fn an_id_that_happens_to_be_a_number_makes_no_pattern() {
    assert_eq!(clusters(&["charged <num>", "charged <hex>"]), [("charged <*>".to_string(), vec![0, 1])]);
    assert_eq!(
        clusters(&["order <num> for user <id> sent", "order <num> for user alice sent"]),
        [("order <num> for user <*> sent".to_string(), vec![0, 1])]
    );
}

#[test]
fn groups_stay_apart() {
    let shapes: Vec<Shape<'_>> = ["job a is over", "job b is over", "job c is over"]
        .iter()
        .zip([0, 0, 1])
        .map(|(template, group)| Shape { template, group })
        .collect();
    assert_eq!(cluster(&shapes).len(), 3);
}

/// Pieces that log lines are made of.
fn log_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,9}",
        "[A-Za-z0-9]{1,12}",
        "-?[0-9]{1,6}(\\.[0-9]{1,3}){0,4}",
        "[0-9]{1,3}(ms|s|MB|h|x)",
        "[a-f0-9]{6,16}",
        "(/[a-z0-9]{1,5}){1,4}(\\?[a-z]=[0-9])?",
        "[a-z]{1,5}=[a-z0-9,]{1,8}",
        "[\"'`(\\[{<][a-z 0-9]{0,8}[\"'`)\\]}>]",
        "[:;,.=\\-_/@+#%&|!?<>\\\\]{1,3}",
        "(20[0-9]{2}-[01][0-9]-[0-3][0-9])[T ]?([0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?Z?)?",
        "[a-z]{1,5}[-_.:@][a-z0-9]{1,6}[-_.:][a-z0-9]{1,6}",
        Just("<num>".to_string()),
        Just("\u{e4}\u{4f60}".to_string()),
    ];
    proptest::collection::vec((piece, prop_oneof![3 => Just(" "), 1 => Just("")]), 1..12)
        .prop_map(|pieces| pieces.into_iter().map(|(piece, space)| piece + space).collect())
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", json in "[{}\\[\\]\":,a-z0-9\\\\ <*>.]*") {
        let _ = template_of(&text);
        let _ = template_of(&format!("{{{text}}}"));
        let _ = template_of(&format!("{{\"msg\":\"{json}\"}}"));
        let _ = template_of(&json);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = template_of(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn equal_templates_and_only_they_have_equal_ids(one in log_text(), other in log_text()) {
        let (a, b) = (of(&one), of(&other));
        prop_assert_eq!(a == b, PatternId::of_template(&a) == PatternId::of_template(&b));
        prop_assert_eq!(Miner::default().id(&one), (!a.is_empty()).then(|| PatternId::of_template(&a)));
    }

    #[test]
    fn a_used_miner_finds_what_a_new_one_finds(texts in proptest::collection::vec(log_text(), 1..6)) {
        let mut miner = Miner::default();
        for text in &texts {
            let found = miner.template(text).map(str::to_string);
            prop_assert_eq!(found, template_of(text));
        }
    }

    #[test]
    fn numbers_in_their_place_change_nothing(a in 0u32..1_000_000, b in 0u32..1_000_000) {
        prop_assert_eq!(of(&format!("order {a} of user-{b} in {a}ms [{b}]")), of("order 1 of user-2 in 3ms [4]"));
    }

    #[test]
    fn clusters_do_not_depend_on_the_order(
        mut texts in proptest::collection::hash_set("(user|job|cache) [a-d]{1,2} (in|out|is) [a-c] <num>", 1..40).prop_map(|set| set.into_iter().collect::<Vec<_>>()),
        shift in 0usize..40,
    ) {
        texts.sort();
        let named = |texts: &[String]| -> BTreeSet<(String, BTreeSet<String>)> {
            let shapes: Vec<Shape<'_>> = texts.iter().map(|template| Shape { template, group: 0 }).collect();
            let members = |cluster: Cluster| (cluster.template, cluster.members.iter().map(|member| texts[*member].clone()).collect());
            cluster(&shapes).into_iter().map(members).collect()
        };
        let sorted = named(&texts);
        let shift = shift % texts.len();
        texts.rotate_left(shift);
        prop_assert_eq!(&sorted, &named(&texts));
        texts.reverse();
        prop_assert_eq!(&sorted, &named(&texts));
        prop_assert_eq!(sorted.iter().map(|(_, members)| members.len()).sum::<usize>(), texts.len());
    }
}
