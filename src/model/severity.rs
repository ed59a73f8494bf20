//! Severity as OpenTelemetry numbers it: 1–4 TRACE, 5–8 DEBUG, 9–12 INFO, 13–16 WARN, 17–20 ERROR, 21–24 FATAL, 0 unknown.

/// The six classes, in order of number, each with the first of its four numbers.
pub const CLASSES: [(&str, i32); 6] = [("TRACE", 1), ("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("FATAL", 21)];

/// The class name of a severity number; `UNSET` outside 1–24.
pub fn class(number: i32) -> &'static str {
    match class_index(number) {
        Some(index) => CLASSES[index].0,
        None => "UNSET",
    }
}

/// The position of a number's class in [`CLASSES`]; `None` outside 1–24.
pub fn class_index(number: i32) -> Option<usize> {
    (1..=24).contains(&number).then(|| (number as usize - 1) / 4)
}

/// The number for a level word of any logging framework (`warning`, `Err`, `I`, `NOTICE`, `INFO2`, …), case ignored.
pub fn number(word: &str) -> Option<i32> {
    let mut upper = [0u8; 16];
    let word = word.trim_ascii().as_bytes();
    if word.is_empty() || word.len() > upper.len() {
        return None;
    }
    upper[..word.len()].copy_from_slice(word);
    upper.make_ascii_uppercase();
    Some(match &upper[..word.len()] {
        b"TRACE" | b"T" | b"FINEST" | b"FINER" | b"VERBOSE" | b"SILLY" | b"TRC" => 1,
        b"TRACE2" => 2,
        b"TRACE3" => 3,
        b"TRACE4" => 4,
        b"DEBUG" | b"D" | b"FINE" | b"DBG" | b"CONFIG" => 5,
        b"DEBUG2" => 6,
        b"DEBUG3" => 7,
        b"DEBUG4" => 8,
        b"INFO" | b"I" | b"INFORMATION" | b"INFORMATIONAL" | b"INF" => 9,
        b"INFO2" | b"NOTICE" => 10,
        b"INFO3" => 11,
        b"INFO4" => 12,
        b"WARN" | b"WARNING" | b"W" | b"WRN" => 13,
        b"WARN2" => 14,
        b"WARN3" => 15,
        b"WARN4" => 16,
        b"ERROR" | b"ERR" | b"E" | b"SEVERE" => 17,
        b"ERROR2" | b"CRITICAL" | b"CRIT" => 18,
        b"ERROR3" | b"ALERT" => 19,
        b"ERROR4" => 20,
        b"FATAL" | b"F" | b"EMERG" | b"EMERGENCY" | b"PANIC" => 21,
        b"FATAL2" => 22,
        b"FATAL3" => 23,
        b"FATAL4" => 24,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_classes_agree() {
        for (word, expected) in [
            ("warning", "WARN"),
            ("Err", "ERROR"),
            ("critical", "ERROR"),
            ("I", "INFO"),
            ("panic", "FATAL"),
            (" debug ", "DEBUG"),
        ] {
            assert_eq!(number(word).map(class), Some(expected), "{word}");
        }
        assert_eq!(number("hello"), None);
        assert_eq!(class(0), "UNSET");
        assert_eq!(class(25), "UNSET");
        for (index, (name, first)) in CLASSES.into_iter().enumerate() {
            assert_eq!((class(first), class(first + 3), class_index(first)), (name, name, Some(index)));
            assert_eq!(number(name), Some(first));
        }
    }
}
