//! Channels: how a notification reaches its target. SNS is one; `local` keeps and shows.
//!
//! A channel tries once and says how that went. Trying again, for how long and how often, is the outbox's matter
//! ([`super::outbox`]); a channel has no queue and no memory.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use tokio::sync::Mutex;

use super::state::Notification;
use crate::aws::{self, Connection};

/// Name of the attribute that carries [`Notification::id`].
pub const ID_ATTRIBUTE: &str = "tracelake.notification_id";

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
    connection: Connection,
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
            connection: Connection::new(config.endpoint_url.as_deref(), config.region.as_deref()),
            config,
            clients: Mutex::default(),
        }
    }

    async fn client(&self, topic_arn: &str) -> Client {
        let region = self.connection.region(topic_arn.split(':').nth(3)).await;
        let config = self.connection.config(&region).await;
        let mut clients = self.clients.lock().await;
        clients.entry(region).or_insert_with(|| Client::new(&config)).clone()
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
                message: aws::describe(&error),
                retry_may_help: aws::retry_may_help(&error),
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

#[cfg(test)]
mod tests;
