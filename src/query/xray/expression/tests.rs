use proptest::prelude::*;

use super::*;

#[test]
fn faults_say_where_they_are() {
    for (text, at, message) in [
        ("speed > 2", 1, "speed is no keyword"),
        ("fault AND speed", 11, "speed is no keyword"),
        ("responsetime", 13, "an operator is expected after responsetime"),
        ("responsetime > \"2\"", 16, "responsetime is a number"),
        ("fault = 1", 9, "fault is true or false"),
        ("user = alice", 8, "a value is expected, not alice"),
        ("user > \"a\"", 6, "> does not go with user and this value"),
        ("http.status CONTAINS 2", 13, "CONTAINS does not go with http.status and this value"),
        ("(fault", 7, ") is expected, not the end"),
        ("service(\"api\"", 14, ") is expected, not the end"),
        ("service(api)", 9, "a service's name in double quotes or id(…) is expected, not api"),
        ("service(id(colour: \"x\"))", 12, "id has name, type and account.id, not colour"),
        ("service(\"api\") { fault", 23, "} is expected, not the end"),
        ("user = \"a", 8, "a text has no closing quote"),
        ("annotation[x = 1", 11, "the bracket is not closed"),
        ("fault ; error", 7, "';' is not understood here"),
        ("fault )", 7, ") is not expected here"),
        ("rootcause.speed.service { ok }", 1, "rootcause.speed.service is no keyword"),
        ("rootcause.fault { ok }", 1, "rootcause.fault is no keyword"),
        ("rootcause.fault.entity = 1", 24, "= is not expected here"),
        ("rootcause.fault.entity { speed }", 26, "speed is no keyword"),
        ("rootcause.json > #[]", 16, "= or != is expected after rootcause.json, not >"),
        ("rootcause.json = \"x\"", 18, "#[…] is expected, not \"x\""),
        ("ok AND #", 8, "JSON is expected behind #"),
        ("rootcause.json = #[] speed", 22, "speed is no keyword"),
        ("coverage", 9, "an operator is expected after coverage"),
        ("index = \"1\"", 9, "index is a number"),
        ("group.name = 1", 14, "group.name is a text in double quotes"),
        ("group.colour = \"x\"", 1, "group.colour is no keyword"),
        ("AND fault", 1, "AND is no keyword"),
        ("fault AND", 10, "a keyword is expected, not the end"),
        ("duration > 1s", 12, "1s is no number"),
    ] {
        assert_eq!(Expression::parse(text), Err(ExpressionError { at, message: message.into() }), "{text}");
    }
    assert!(Expression::parse(&"(".repeat(1_500)).is_err());
    assert!(Expression::parse(&"!".repeat(1_500)).is_err());
    assert!(Expression::parse(&"x".repeat(MAX_CHARS + 1)).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z(){}#!=<>\",:. 0-9\\[\\]]{0,60}|.{0,40}") {
        let _ = Expression::parse(&text);
    }
}
