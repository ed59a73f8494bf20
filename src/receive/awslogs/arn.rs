//! Names of log groups and streams as ARNs, under the configured region and account.

use std::collections::BTreeMap;

/// Writes ARNs; reads those of any partition, region and account, since clients build them from their own settings.
#[derive(Clone, Debug, Default)]
pub struct Arns {
    prefix: String,
    region: String,
    account_id: String,
}

impl Arns {
    /// ARNs of one region and account.
    pub fn new(region: &str, account_id: &str) -> Self {
        let partition = match region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        Self {
            prefix: format!("arn:{partition}:logs:{region}:{account_id}:log-group:"),
            region: region.to_string(),
            account_id: account_id.to_string(),
        }
    }

    /// What a system field of events is here: `@aws.account` or `@aws.region`.
    pub(super) fn system_field(&self, name: &str) -> Option<&str> {
        match name {
            "@aws.account" => Some(&self.account_id),
            "@aws.region" => Some(&self.region),
            _ => None,
        }
    }

    /// Some of them by name; names of others are left out.
    pub(super) fn system_fields(&self, names: &[String]) -> BTreeMap<String, String> {
        let field = |name: &String| Some((name.clone(), self.system_field(name)?.to_string()));
        names.iter().filter_map(field).collect()
    }

    /// The account.
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// `arn:aws:logs:…:log-group:NAME`, which `TagResource` and its like take, and `logGroupArn` shows.
    pub fn group(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The same with `:*`, which policies want, and `arn` shows.
    pub fn group_and_streams(&self, name: &str) -> String {
        format!("{}{name}:*", self.prefix)
    }

    /// A stream's.
    pub fn stream(&self, group: &str, stream: &str) -> String {
        format!("{}{group}:log-stream:{stream}", self.prefix)
    }
}

/// The log group that an ARN names, with or without `:*` at its end; `None` for what is no log group's ARN.
pub(super) fn group_of_arn(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let (arn, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (_region, _account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    if arn != "arn" || service != "logs" {
        return None;
    }
    let name = resource.strip_prefix("log-group:")?;
    let name = name.strip_suffix(":*").unwrap_or(name);
    (!name.is_empty() && !name.contains(':')).then_some(name)
}

/// The log group that an identifier names: an ARN or a bare name.
pub(super) fn group_of_identifier(identifier: &str) -> Option<&str> {
    if identifier.starts_with("arn:") {
        group_of_arn(identifier)
    } else {
        Some(identifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_written_with_and_without_the_star_and_both_are_read() {
        let arns = Arns::new("us-east-1", "000000000000");
        assert_eq!(arns.group("/a"), "arn:aws:logs:us-east-1:000000000000:log-group:/a");
        assert_eq!(arns.group_and_streams("/a"), "arn:aws:logs:us-east-1:000000000000:log-group:/a:*");
        assert_eq!(arns.stream("/a", "s"), "arn:aws:logs:us-east-1:000000000000:log-group:/a:log-stream:s");
        assert_eq!(Arns::new("cn-north-1", "1").group("g"), "arn:aws-cn:logs:cn-north-1:1:log-group:g");
        assert_eq!(group_of_arn(&arns.group("/a")), Some("/a"));
        assert_eq!(group_of_arn(&arns.group_and_streams("/a")), Some("/a"));
        assert_eq!(group_of_identifier("arn:aws-cn:logs:x:y:log-group:g"), Some("g"));
        assert_eq!(group_of_identifier("/plain"), Some("/plain"));
        for bad in [
            "",
            "arn",
            "arn:aws:logs:r:a:log-group:",
            "arn:aws:sns:r:a:log-group:g",
            "arn:aws:logs:r:a:destination:d",
            "arn:aws:logs:r:a:log-group:g:log-stream:s",
        ] {
            assert_eq!(group_of_arn(bad), None, "{bad}");
        }
    }
}
