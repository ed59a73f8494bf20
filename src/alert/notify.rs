//! Channels: how a notification reaches its target. SNS is one; `local` keeps and shows.
//!
//! A channel tries once and says how that went. Trying again, for how long and how often, is the outbox's matter
//! ([`super::outbox`]); a channel has no queue and no memory.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use aws_sdk_sns::Client;
use aws_sdk_sns::config::retry::RetryConfig;
use aws_sdk_sns::config::timeout::TimeoutConfig;
use aws_sdk_sns::config::{BehaviorVersion, Region};
use aws_sdk_sns::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sns::types::MessageAttributeValue;
use aws_smithy_http_client::tls;
use tokio::sync::{Mutex, OnceCell};

use super::state::Notification;

/// Name of the attribute that carries [`Notification::id`].
pub const ID_ATTRIBUTE: &str = "tracelake.notification_id";
/// How long one attempt may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    /// What the target or the network said.
    pub message: String,
    /// Whether the same request may succeed soon. Otherwise somebody must mend something first, and tries are rarer.
    pub retry_may_help: bool,
}

/// The target's ID for what it took, if it gives one.
pub type Sent = Result<Option<String>, SendError>;

/// A boxed future, so that channels can be trait objects.
pub type SendFuture<'a> = Pin<Box<dyn Future<Output = Sent> + Send + 'a>>;

/// A way to reach targets of one kind.
pub trait Channel: Send + Sync + 'static {
    /// Its name in notifications: `sns` or `local`.
    fn name(&self) -> &'static str;
    /// Tries once.
    fn send<'a>(&'a self, notification: &'a Notification) -> SendFuture<'a>;
}

/// Takes everything: notifications are kept with their alerts, shown by the API and handed to subscribers.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalChannel;

impl Channel for LocalChannel {
    fn name(&self) -> &'static str {
        "local"
    }
    fn send<'a>(&'a self, _notification: &'a Notification) -> SendFuture<'a> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// How SNS is reached. Credentials come from the standard AWS chain and never from our settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnsConfig {
    /// Another endpoint than AWS's own, such as a test server's; also `AWS_ENDPOINT_URL_SNS` and `AWS_ENDPOINT_URL`.
    pub endpoint_url: Option<String>,
    /// Region of the requests; unless set, the region in the topic's ARN.
    pub region: Option<String>,
}

/// Amazon SNS through aws-sdk-sns.
pub struct SnsChannel {
    config: SnsConfig,
    /// Read from environment and profiles at the first delivery, so that a server without AWS settings starts at once.
    shared: OnceCell<aws_config::SdkConfig>,
    /// One client a region.
    clients: Mutex<HashMap<String, Client>>,
}

impl std::fmt::Debug for SnsChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnsChannel").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SnsChannel {
    /// A channel with these settings; connects at the first delivery.
    pub fn new(config: SnsConfig) -> Self {
        Self {
            config,
            shared: OnceCell::new(),
            clients: Mutex::default(),
        }
    }

    async fn client(&self, topic_arn: &str) -> Client {
        let region = self.config.region.clone().or_else(|| topic_arn.split(':').nth(3).map(str::to_string));
        let region = region.unwrap_or_else(|| "us-east-1".into());
        let shared = self.shared.get_or_init(|| self.load(region.clone())).await;
        let mut clients = self.clients.lock().await;
        let client = clients.entry(region.clone()).or_insert_with(|| {
            let config = aws_sdk_sns::config::Builder::from(shared)
                .region(Region::new(region))
                // the outbox tries again; the SDK must not hide attempts inside one of ours
                .retry_config(RetryConfig::disabled())
                .timeout_config(
                    TimeoutConfig::builder()
                        .connect_timeout(CONNECT_TIMEOUT)
                        .operation_timeout(ATTEMPT_TIMEOUT)
                        .build(),
                )
                .build();
            Client::from_conf(config)
        });
        client.clone()
    }

    async fn load(&self, region: String) -> aws_config::SdkConfig {
        let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http).region(Region::new(region));
        if let Some(url) = &self.config.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        loader.load().await
    }

    async fn publish(&self, notification: &Notification) -> Sent {
        let client = self.client(&notification.target).await;
        let mut request = client
            .publish()
            .topic_arn(&notification.target)
            .subject(&notification.subject)
            .message(&notification.message);
        for (name, value) in notification.attributes.iter().filter(|(_, value)| !value.is_empty()) {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            let value = value.map_err(|error| SendError {
                message: error.to_string(),
                retry_may_help: false,
            })?;
            request = request.message_attributes(name, value);
        }
        if notification.target.ends_with(".fifo") {
            // one group a rule and group keeps "firing" before "resolved"
            let group = notification.id.rsplit_once('-').map_or(notification.id.as_str(), |(alert, _)| alert);
            request = request.message_deduplication_id(&notification.id).message_group_id(group);
        }
        match request.send().await {
            Ok(output) => Ok(output.message_id),
            Err(error) => Err(SendError {
                message: describe(&error),
                retry_may_help: retry_may_help(&error),
            }),
        }
    }
}

impl Channel for SnsChannel {
    fn name(&self) -> &'static str {
        "sns"
    }
    fn send<'a>(&'a self, notification: &'a Notification) -> SendFuture<'a> {
        Box::pin(self.publish(notification))
    }
}

fn describe<E: ProvideErrorMetadata + std::error::Error + 'static, R: std::fmt::Debug>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(service) => match (service.err().code(), service.err().message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_string(),
            _ => DisplayErrorContext(service.err()).to_string(),
        },
        other => DisplayErrorContext(other).to_string(),
    }
}

/// Throttling, server faults, timeouts and a network that is away pass by themselves; a wrong topic or missing right
/// does not.
fn retry_may_help<E: ProvideErrorMetadata, R: HttpStatus>(error: &SdkError<E, R>) -> bool {
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status();
            status >= 500 || status == 429 || service.err().code().is_some_and(|code| code.contains("Throttl"))
        }
        SdkError::ConstructionFailure(_) => false,
        _ => true,
    }
}

/// The one thing asked of a raw response.
trait HttpStatus {
    fn status(&self) -> u16;
}

impl HttpStatus for aws_sdk_sns::config::http::HttpResponse {
    fn status(&self) -> u16 {
        aws_sdk_sns::config::http::HttpResponse::status(self).as_u16()
    }
}

#[cfg(test)]
mod tests;
