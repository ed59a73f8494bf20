//! Clients of AWS's own services: how they are reached, what a failed call means, and when to try again.
//!
//! In: an address and a region from the settings, both optional ([`Connection::new`]). Out: the SDK's configuration, from which
//! each service's client is made ([`Connection::config`]). Credentials come from the standard AWS chain (environment, profiles,
//! web identity, container, instance) and never from our settings. `AWS_ENDPOINT_URL` and its forms for single services count
//! where no address is set.
//!
//! A call is tried once, within [`ATTEMPT_TIMEOUT`]: whoever calls has a queue of its own, tries again by [`wait_after`], and
//! must not find attempts of the SDK inside its own. Nothing is read from the environment before the first call, so that a
//! server without AWS settings starts at once.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sns::config::http::HttpResponse;
use aws_sdk_sns::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls;
use tokio::sync::OnceCell;

/// How long one attempt may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Wait after the first failed try.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Where nobody says.
const DEFAULT_REGION: &str = "us-east-1";

/// The wait after try number `attempts`, before jitter: twice as long each time, from [`FIRST_WAIT`] to [`LONGEST_WAIT`].
pub fn wait_after(attempts: u32, retry_may_help: bool) -> Duration {
    if !retry_may_help {
        return LONGEST_WAIT;
    }
    let doubled = FIRST_WAIT.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_WAIT)
}

/// How AWS is reached.
#[derive(Debug)]
pub struct Connection {
    endpoint_url: Option<String>,
    region: Option<String>,
    attempt_timeout: Duration,
    /// What environment and profiles say.
    shared: OnceCell<SdkConfig>,
}

impl Connection {
    /// To AWS itself, or to `endpoint_url`; requests are for `region`, or else for what they concern. Empty is none.
    pub fn new(endpoint_url: Option<&str>, region: Option<&str>) -> Self {
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_string);
        Self {
            endpoint_url: given(endpoint_url),
            region: given(region),
            attempt_timeout: ATTEMPT_TIMEOUT,
            shared: OnceCell::new(),
        }
    }

    /// The region of a request: the configured one, the one of what it concerns, or whatever environment and profiles say.
    pub async fn region(&self, of_resource: Option<&str>) -> String {
        match self.region.as_deref().or(of_resource.filter(|region| !region.is_empty())) {
            Some(region) => region.to_string(),
            None => {
                let shared = self.shared(None).await;
                shared.region().map_or_else(|| DEFAULT_REGION.to_string(), ToString::to_string)
            }
        }
    }

    /// What clients of `region` are made of.
    pub async fn config(&self, region: &str) -> SdkConfig {
        let shared = self.shared(Some(region)).await;
        shared.to_builder().region(Region::new(region.to_string())).build()
    }

    async fn shared(&self, region: Option<&str>) -> &SdkConfig {
        self.shared.get_or_init(|| self.load(region.map(str::to_string))).await
    }

    async fn load(&self, region: Option<String>) -> SdkConfig {
        let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(self.timeouts());
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        if let Some(url) = &self.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        loader.load().await
    }

    fn timeouts(&self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_timeout(self.attempt_timeout)
            .build()
    }

    /// One with fixed keys, without the environment of whoever runs the tests.
    #[cfg(test)]
    pub(crate) async fn for_tests(url: &str) -> Self {
        let connection = Self::new(Some(url), None);
        let loaded = aws_config::defaults(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(RetryConfig::disabled())
            .timeout_config(connection.timeouts())
            .region(Region::new("eu-west-1"))
            .endpoint_url(url)
            .test_credentials()
            .load()
            .await;
        connection.shared.set(loaded).expect("unset before");
        connection
    }
}

/// The service's name of an error, where it gave one.
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    match error {
        SdkError::ServiceError(service) => service.err().code(),
        _ => None,
    }
}

/// What a service or the network said.
pub fn describe<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    match error {
        SdkError::ServiceError(service) => match (service.err().code(), service.err().message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_string(),
            _ => DisplayErrorContext(service.err()).to_string(),
        },
        other => DisplayErrorContext(other).to_string(),
    }
}

/// Throttling, server faults, time-outs and a network that is away pass by themselves; a wrong name or missing right does not.
pub fn retry_may_help<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            status >= 500 || status == 429 || service.err().code().is_some_and(passes_by_itself)
        }
        SdkError::ConstructionFailure(_) => false,
        _ => true,
    }
}

/// Whether an error of this name passes by itself, of a call or of one record.
pub fn passes_by_itself(code: &str) -> bool {
    let passing = [
        "Throttl",
        "ThroughputExceeded",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "InternalFailure",
        "InternalError",
    ];
    passing.iter().any(|part| code.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_region_is_the_configured_one_or_that_of_the_resource() {
        let connection = Connection::for_tests("http://127.0.0.1:1").await;
        assert_eq!(connection.region(Some("us-west-2")).await, "us-west-2");
        assert_eq!(connection.region(Some("")).await, "eu-west-1");
        assert_eq!(Connection::new(None, Some("ap-south-1")).region(Some("us-west-2")).await, "ap-south-1");
        let config = connection.config("us-west-2").await;
        assert_eq!(config.region().map(ToString::to_string).as_deref(), Some("us-west-2"));
        assert_eq!(config.endpoint_url(), Some("http://127.0.0.1:1"));
    }

    #[test]
    fn throttling_passes_by_itself_and_a_wrong_name_does_not() {
        for code in [
            "ThrottlingException",
            "ProvisionedThroughputExceededException",
            "KMSThrottlingException",
            "ServiceUnavailableException",
        ] {
            assert!(passes_by_itself(code), "{code}");
        }
        for code in ["ResourceNotFoundException", "AccessDeniedException", "InvalidArgumentException"] {
            assert!(!passes_by_itself(code), "{code}");
        }
    }
}
