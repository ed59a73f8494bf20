//! What a caller may do, once it is known who it is.

use std::sync::Arc;

use http::Extensions;

use super::key::AccessKey;
use super::operation::{Asked, Groups};

/// Who sent a request; among its extensions on AWS faces.
#[derive(Clone, Debug)]
pub struct Caller(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Nobody vouched for it.
    Nobody,
    /// It may do everything: it came over loopback where no keys are configured, or brought a token.
    Trusted,
    /// It signed with this key.
    Key(Arc<AccessKey>),
}

/// A caller may not do what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("User: {user} is not authorized to perform: {action} on resource: {resource} because {reason}")]
pub struct Denied {
    /// The caller, as an ARN.
    pub user: String,
    /// `logs:PutLogEvents`.
    pub action: String,
    /// An ARN, or `*`.
    pub resource: String,
    /// What is missing.
    pub reason: String,
}

impl Caller {
    /// One that may do everything: it came over loopback where no keys are configured, or brought a token.
    pub fn trusted() -> Caller {
        Caller(Kind::Trusted)
    }

    /// One whose signature is right.
    pub(super) fn with_key(key: Arc<AccessKey>) -> Caller {
        Caller(Kind::Key(key))
    }

    /// The caller of a request; one that went through no gate has nobody's rights.
    pub fn of(extensions: &Extensions) -> Caller {
        extensions.get::<Caller>().cloned().unwrap_or(Caller(Kind::Nobody))
    }

    /// The access key it signed with.
    pub fn key(&self) -> Option<&AccessKey> {
        match &self.0 {
            Kind::Key(key) => Some(key),
            Kind::Nobody | Kind::Trusted => None,
        }
    }

    /// Whether it may perform an operation, log groups apart. `account_id` is what ARNs say.
    pub fn may(&self, asked: &Asked, account_id: &str) -> Result<(), Denied> {
        let reason = match &self.0 {
            Kind::Trusted => return Ok(()),
            Kind::Nobody => "nobody vouched for the caller".to_string(),
            Kind::Key(key) => {
                let service = asked.service.unwrap_or("unknown");
                let rights = asked.rights();
                if asked.service.is_some() && !key.is_for_service(service) {
                    format!("its access key is not for the service {service}")
                } else if !rights.iter().any(|right| key.rights.contains(right)) {
                    let names: Vec<&str> = rights.iter().map(|right| right.name()).collect();
                    format!("its access key lacks the right {}", names.join(" or "))
                } else {
                    return Ok(());
                }
            }
        };
        Err(self.denied(asked.action(), "*", reason, account_id))
    }

    /// Whether some log groups are closed to it.
    pub fn is_restricted(&self) -> bool {
        match &self.0 {
            Kind::Nobody => true,
            Kind::Trusted => false,
            Kind::Key(key) => !key.log_groups.is_empty(),
        }
    }

    /// Whether it may touch a log group.
    pub fn is_for_group(&self, group: &str) -> bool {
        match &self.0 {
            Kind::Nobody => false,
            Kind::Trusted => true,
            Kind::Key(key) => key.is_for_group(group),
        }
    }

    /// Whether it may touch the log groups that a call names; `arn_of` writes ARNs for the message.
    pub fn may_touch(&self, asked: &Asked, groups: &[&str], account_id: &str, arn_of: impl Fn(&str) -> String) -> Result<(), Denied> {
        if !self.is_restricted() || asked.groups() == Groups::Untouched {
            return Ok(());
        }
        if let Some(group) = groups.iter().find(|group| !self.is_for_group(group)) {
            let reason = "its access key is not for this log group".to_string();
            return Err(self.denied(asked.action(), &arn_of(group), reason, account_id));
        }
        if groups.is_empty() && asked.groups() == Groups::Named {
            let reason = "its access key is for some log groups only and the request names none".to_string();
            return Err(self.denied(asked.action(), "*", reason, account_id));
        }
        Ok(())
    }

    fn denied(&self, action: String, resource: &str, reason: String, account_id: &str) -> Denied {
        let name = self.key().map_or("nobody", AccessKey::name);
        Denied {
            user: format!("arn:aws:iam::{account_id}:user/{name}"),
            action,
            resource: resource.to_string(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::*;

    const ACCOUNT: &str = "000000000000";

    fn caller(key: &str) -> Caller {
        let config: Config = toml::from_str(&format!("[[keys]]\naccess_key_id = 'AKID'\nsecret_access_key = 'longenough'\n{key}")).expect("valid");
        assert_eq!(config.problems(), Vec::<String>::new());
        let keys = config.open(&|_| None).expect("keys");
        Caller::with_key(keys.into_iter().next().expect("one"))
    }

    fn asked(operation: &str) -> Asked {
        let request = http::Request::post("/").header("x-amz-target", format!("Logs_20140328.{operation}"));
        Asked::of(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn a_denial_names_user_action_resource_and_what_is_missing() {
        let reader = caller("rights = ['read']\nname = 'grafana'\n");
        assert!(reader.may(&asked("FilterLogEvents"), ACCOUNT).is_ok());
        assert!(reader.may(&asked("DescribeLogGroups"), ACCOUNT).is_ok());
        assert_eq!(
            reader.may(&asked("PutLogEvents"), ACCOUNT).expect_err("denied").to_string(),
            "User: arn:aws:iam::000000000000:user/grafana is not authorized to perform: logs:PutLogEvents on resource: * \
             because its access key lacks the right write"
        );
        let writer = caller("rights = ['write']\n");
        assert!(writer.may(&asked("PutLogEvents"), ACCOUNT).is_ok());
        assert!(writer.may(&asked("DescribeLogGroups"), ACCOUNT).is_ok(), "agents ask before they write");
        for operation in ["DeleteLogGroup", "FilterLogEvents", "NoSuchOperation"] {
            assert!(writer.may(&asked(operation), ACCOUNT).is_err(), "{operation}");
        }
        let admin = caller("rights = ['admin']\n");
        assert!(admin.may(&asked("NoSuchOperation"), ACCOUNT).is_ok());
        assert!(admin.may(&asked("PutLogEvents"), ACCOUNT).is_err(), "no right implies another");
    }

    #[test]
    fn a_key_for_some_groups_touches_those_it_names_and_no_other() {
        let shop = caller("rights = ['read', 'write', 'admin']\nlog_groups = ['/shop/*']\n");
        let touch = |operation: &str, groups: &[&str]| shop.may_touch(&asked(operation), groups, ACCOUNT, |group| format!("arn:{group}"));
        assert!(touch("PutLogEvents", &["/shop/api"]).is_ok());
        assert!(touch("StartQuery", &["/shop/api", "/shop/web"]).is_ok());
        let denied = touch("StartQuery", &["/shop/api", "/bank"]).expect_err("one is foreign");
        assert!(denied.to_string().contains("on resource: arn:/bank because"), "{denied}");
        for operation in ["GetLogEvents", "StartLiveTail", "NoSuchOperation"] {
            let denied = touch(operation, &[]).expect_err("names none");
            assert!(denied.reason.contains("names none"), "{denied}");
        }
        for operation in [
            "DescribeLogGroups",
            "GetLogRecord",
            "StartQuery",
            "GetQueryResults",
            "StopQuery",
            "DescribeQueries",
        ] {
            assert!(touch(operation, &[]).is_ok(), "the receiver leaves out the others of {operation}");
        }
        assert!(touch("DescribeLogGroups", &["/bank"]).is_err());
        assert!(touch("TestMetricFilter", &[]).is_ok());
        assert!(shop.is_for_group("/shop/x") && !shop.is_for_group("/bank"));
    }

    #[test]
    fn who_came_through_no_gate_may_nothing_and_who_is_trusted_everything() {
        let nobody = Caller::of(&Extensions::new());
        assert!(nobody.may(&asked("PutLogEvents"), ACCOUNT).is_err());
        assert!(nobody.may_touch(&asked("PutLogEvents"), &["/g"], ACCOUNT, str::to_string).is_err());
        let trusted = Caller::trusted();
        assert!(trusted.may(&asked("NoSuchOperation"), ACCOUNT).is_ok() && !trusted.is_restricted());
        let mut extensions = Extensions::new();
        extensions.insert(trusted);
        assert!(Caller::of(&extensions).is_for_group("/g"));
    }
}
