//! The one place that writes to the terminal.

use std::io::{IsTerminal, Write};

/// Writes a line of the answer. A reader that went away (`| head`) ends the program quietly.
pub(crate) fn line(text: &str) {
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Writes a line for the person, beside the answer.
pub(crate) fn error(text: &str) {
    // nobody is left to tell
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether colours reach a person: a terminal, and no `NO_COLOR`.
pub(crate) fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// `text` in the colour of a severity class.
pub(crate) fn severity(class: &str, text: &str, is_coloured: bool) -> String {
    let code = match class {
        "FATAL" => "35",
        "ERROR" => "31",
        "WARN" => "33",
        "INFO" => "36",
        "DEBUG" | "TRACE" => "90",
        _ => return text.to_string(),
    };
    if is_coloured {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_string()
    }
}

/// A duration with at most three significant digits and its unit.
pub(crate) fn duration(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n if n < 60e9 => (n / 1e9, "s"),
        n => (n / 60e9, "min"),
    };
    let digits = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// `text` without control characters, so that a log line cannot drive the terminal, cut to `max` characters.
pub(crate) fn safe(text: &str, max: usize) -> String {
    let mut out: String = text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_is_taken_out_and_long_lines_are_cut() {
        assert_eq!(safe("a\x1b[31mb\nc", 20), "a [31mb c");
        assert_eq!(safe("abcdef", 3), "abc…");
    }

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        for (nanos, text) in [
            (12.0, "12.0 ns"),
            (1_234.0, "1.23 µs"),
            (56_780_000.0, "56.8 ms"),
            (999e6, "999 ms"),
            (1.5e9, "1.50 s"),
            (90e9, "1.50 min"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }
}
