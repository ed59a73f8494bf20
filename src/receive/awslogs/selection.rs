//! `fieldSelectionCriteria` of metric and subscription filters: of which accounts and regions events are to be.
//!
//! ```text
//! either = both *( "OR" both )
//! both   = one *( "AND" one )
//! one    = "(" either ")" / field ( "=" / "!=" ) text / field [ "NOT" ] "IN" "[" text *( "," text ) "]"
//! field  = "@aws.account" / "@aws.region"
//! ```
//!
//! Texts stand in quotes of either kind. As the service's model tells it for `PutSubscriptionFilter` and `PutMetricFilter`. Both fields
//! are the same for all events here, those of the settings, so a filter takes all events or none.

use super::Arns;

/// Parentheses in one another.
const MAX_DEPTH: usize = 32;

/// Whether events of this server are selected; why the criteria cannot be read.
pub(super) fn selects(criteria: &str, arns: &Arns) -> Result<bool, String> {
    let mut reader = Reader {
        rest: criteria.trim_start(),
        arns,
        depth: 0,
    };
    if reader.rest.is_empty() {
        return Ok(true);
    }
    let is_selected = reader.either()?;
    match reader.rest {
        "" => Ok(is_selected),
        _ => Err(reader.expected("AND, OR or the end")),
    }
}

struct Reader<'a> {
    /// Without spaces before it.
    rest: &'a str,
    arns: &'a Arns,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn expected(&self, what: &str) -> String {
        let found: String = self.rest.chars().take(20).collect();
        match found.as_str() {
            "" => format!("expected {what} at the end"),
            found => format!("expected {what} at {found:?}"),
        }
    }

    fn go_to(&mut self, rest: &'a str) {
        self.rest = rest.trim_start();
    }

    fn sign(&mut self, sign: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(sign) else { return false };
        self.go_to(rest);
        true
    }

    fn word(&mut self, word: &str) -> bool {
        let rest = self.rest;
        let is_word = rest.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|c: char| c.is_alphanumeric() || "@._".contains(c));
        if is_word {
            self.go_to(&rest[word.len()..]);
        }
        is_word
    }

    fn either(&mut self) -> Result<bool, String> {
        let mut holds = self.both()?;
        while self.word("OR") {
            holds |= self.both()?;
        }
        Ok(holds)
    }

    fn both(&mut self) -> Result<bool, String> {
        let mut holds = self.one()?;
        while self.word("AND") {
            holds &= self.one()?;
        }
        Ok(holds)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.sign("(") {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(format!("more than {MAX_DEPTH} parentheses stand in one another"));
            }
            let holds = self.either()?;
            if !self.sign(")") {
                return Err(self.expected("a closing parenthesis"));
            }
            self.depth -= 1;
            return Ok(holds);
        }
        let name_end = self.rest.find(|c: char| !c.is_alphanumeric() && !"@._".contains(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(name_end);
        let Some(value) = self.arns.system_field(name) else {
            return Err(self.expected("@aws.account or @aws.region"));
        };
        self.go_to(rest);
        if self.sign("!=") {
            return Ok(self.text()? != value);
        }
        if self.sign("=") {
            return Ok(self.text()? == value);
        }
        let is_negated = self.word("NOT");
        if !self.word("IN") {
            return Err(self.expected(if is_negated { "IN" } else { "=, !=, IN or NOT IN" }));
        }
        if !self.sign("[") {
            return Err(self.expected("a list in brackets"));
        }
        let mut is_in = false;
        loop {
            is_in |= self.text()? == value;
            if self.sign("]") {
                return Ok(is_in != is_negated);
            }
            if !self.sign(",") {
                return Err(self.expected("a comma or a closing bracket"));
            }
        }
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let rest = self.rest;
        let quote = rest.chars().next().filter(|c| "\"'".contains(*c));
        let Some((text, rest)) = quote.and_then(|quote| rest[1..].split_once(quote)) else {
            return Err(self.expected("a text in quotes"));
        };
        self.go_to(rest);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criteria_hold_for_the_account_and_region_of_the_settings() {
        let arns = Arns::new("us-east-1", "123456789012");
        for (criteria, expected) in [
            ("", true),
            ("  ", true),
            // the model's own examples
            (r#"@aws.region NOT IN ["cn-north-1"]"#, true),
            (r#"@aws.account = "123456789012" AND @aws.region = "us-east-1""#, true),
            (r#"@aws.account IN ["123456789012", "987654321098"]"#, true),
            (r#"@aws.region="eu-west-1""#, false),
            ("@aws.region != 'us-east-1'", false),
            (r#"@aws.account IN ["987654321098"]"#, false),
            (r#"@aws.account not in ["987654321098" , '123456789012']"#, false),
            // AND binds more tightly
            (r#"@aws.region = "us-east-1" OR @aws.region = "x" AND @aws.account = "x""#, true),
            (r#"(@aws.region = "us-east-1" OR @aws.region = "x") AND @aws.account = "x""#, false),
        ] {
            assert_eq!(selects(criteria, &arns), Ok(expected), "{criteria}");
        }
        let deep = format!("{}@aws.region = \"x\"{}", "(".repeat(33), ")".repeat(33));
        for (criteria, word) in [
            ("@aws.zone = \"x\"", "expected @aws.account or @aws.region at \"@aws.zone"),
            ("@aws.region = us-east-1", "expected a text in quotes"),
            ("@aws.region = \"x", "expected a text in quotes"),
            ("@aws.region ~ \"x\"", "expected =, !=, IN or NOT IN"),
            ("@aws.region NOT \"x\"", "expected IN"),
            ("@aws.region IN \"x\"", "expected a list in brackets"),
            ("@aws.region IN [\"x\"", "expected a comma or a closing bracket at the end"),
            ("@aws.region IN []", "expected a text in quotes"),
            ("(@aws.region = \"x\"", "expected a closing parenthesis at the end"),
            ("@aws.region = \"x\" @aws.region = \"x\"", "expected AND, OR or the end"),
            ("@aws.region = \"x\" AND", "expected @aws.account or @aws.region at the end"),
            ("é", "expected @aws.account"),
            (deep.as_str(), "more than 32 parentheses"),
        ] {
            let said = selects(criteria, &arns).expect_err(criteria);
            assert!(said.contains(word), "{criteria}: {said}");
        }
    }
}
