//! Constraint violations in the words of AWS.
//!
//! The service's front door checks every member against its model before the service sees the call, gathers all
//! violations and answers with one sentence. Clients show that sentence to people, so ours reads the same.

use std::fmt::Display;

/// Longest log group name, characters.
pub const MAX_LOG_GROUP_NAME: usize = 512;
/// Longest log stream name, characters.
pub const MAX_LOG_STREAM_NAME: usize = 512;
/// Longest log group identifier, characters.
const MAX_LOG_GROUP_IDENTIFIER: usize = 2_048;
/// Violations that are spelled out; more are only counted.
const MAX_SPELLED_OUT: usize = 10;
/// Characters of an offending value that are repeated to the client.
const MAX_VALUE_CHARS: usize = 256;

/// Gathers the violations of one request.
#[derive(Debug, Default)]
pub struct Validation {
    problems: Vec<String>,
    n_problems: usize,
}

impl Validation {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `value` at `member` breaks `constraint` (a sentence such as `Member must not be null`).
    pub fn violation(&mut self, value: impl Display, member: impl Display, constraint: impl Display) {
        self.n_problems += 1;
        if self.problems.len() < MAX_SPELLED_OUT {
            let value: String = value.to_string().chars().take(MAX_VALUE_CHARS).collect();
            self.problems
                .push(format!("Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"));
        }
    }

    /// Notes a required member that is missing.
    pub fn missing(&mut self, member: impl Display) {
        self.n_problems += 1;
        if self.problems.len() < MAX_SPELLED_OUT {
            self.problems
                .push(format!("Value null at '{member}' failed to satisfy constraint: Member must not be null"));
        }
    }

    /// A required member: gives its value, or notes that it is missing.
    pub fn required<'v, T>(&mut self, value: &'v Option<T>, member: &str) -> Option<&'v T> {
        if value.is_none() {
            self.missing(member);
        }
        value.as_ref()
    }

    /// Characters of a text.
    pub fn length(&mut self, value: &str, member: impl Display, min: usize, max: usize) {
        let n_chars = value.chars().count();
        if n_chars < min {
            self.violation(value, member, format_args!("Member must have length greater than or equal to {min}"));
        } else if n_chars > max {
            self.violation(value, member, format_args!("Member must have length less than or equal to {max}"));
        }
    }

    /// A number between two bounds, both allowed.
    pub fn range(&mut self, value: i64, member: impl Display, min: i64, max: i64) {
        if value < min {
            self.violation(value, member, format_args!("Member must have value greater than or equal to {min}"));
        } else if value > max {
            self.violation(value, member, format_args!("Member must have value less than or equal to {max}"));
        }
    }

    /// A log group name: 1 to 512 of `[.-_/#A-Za-z0-9]`.
    pub fn log_group_name(&mut self, value: &str, member: &str) {
        self.length(value, member, 1, MAX_LOG_GROUP_NAME);
        if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b)) {
            self.violation(value, member, r"Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+");
        }
    }

    /// A log group's name or ARN: 1 to 2,048 of `[\w#+=/:,.@-]`.
    pub fn log_group_identifier(&mut self, value: &str, member: &str) {
        self.length(value, member, 1, MAX_LOG_GROUP_IDENTIFIER);
        if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_#+=/:,.@-".contains(&b)) {
            self.violation(value, member, r"Member must satisfy regular expression pattern: [\w#+=/:,.@-]*");
        }
    }

    /// A log stream name: 1 to 512 characters other than `:` and `*`.
    pub fn log_stream_name(&mut self, value: &str, member: &str) {
        self.length(value, member, 1, MAX_LOG_STREAM_NAME);
        if value.contains([':', '*']) {
            self.violation(value, member, "Member must satisfy regular expression pattern: [^:*]*");
        }
    }

    /// Whether nothing was wrong so far.
    pub fn is_ok(&self) -> bool {
        self.n_problems == 0
    }

    /// All violations as one sentence, if there were any.
    pub fn finish(self) -> Result<(), String> {
        match self.n_problems {
            0 => Ok(()),
            1 => Err(format!("1 validation error detected: {}", self.problems.join("; "))),
            n => Err(format!("{n} validation errors detected: {}", self.problems.join("; "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_read_as_from_aws() {
        let mut validation = Validation::new();
        validation.missing("logGroupName");
        assert_eq!(
            validation.finish(),
            Err("1 validation error detected: Value null at 'logGroupName' failed to satisfy constraint: Member must not be null".into())
        );
        let mut validation = Validation::new();
        validation.log_group_name("a b", "logGroupName");
        validation.log_stream_name("", "logStreamName");
        let said = validation.finish().expect_err("two");
        assert!(said.starts_with("2 validation errors detected: Value 'a b' at 'logGroupName'"), "{said}");
        assert!(said.ends_with("Value '' at 'logStreamName' failed to satisfy constraint: Member must have length greater than or equal to 1"));
    }

    #[test]
    fn many_violations_of_long_values_stay_short() {
        let mut validation = Validation::new();
        for _ in 0..1_000 {
            validation.log_stream_name(&"*".repeat(10_000), "logStreamName");
        }
        let said = validation.finish().expect_err("many");
        assert!(said.starts_with("2000 validation errors detected") && said.len() < 10_000);
    }

    #[test]
    fn names_are_taken_up_to_their_limits() {
        for (name, ok) in [("a", true), ("/aws/x.y-z_#1", true), ("", false), ("a:b", false), ("é", false)] {
            let mut validation = Validation::new();
            validation.log_group_name(name, "n");
            assert_eq!(validation.is_ok(), ok, "{name}");
        }
        for (n, ok) in [(512, true), (513, false)] {
            let mut validation = Validation::new();
            validation.log_group_name(&"a".repeat(n), "n");
            validation.log_stream_name(&"é".repeat(n), "n");
            assert_eq!(validation.is_ok(), ok, "{n}");
        }
    }
}
