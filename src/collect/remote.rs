//! CloudWatch Logs through its SDK.

use async_trait::async_trait;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use tokio::sync::OnceCell;

use super::{Fault, FaultKind, Page, Pulled, Remote, SourceConfig};
use crate::aws::{self, Connection};

/// CloudWatch Logs of one account and region.
pub struct Aws {
    connection: Connection,
    /// Made at the first request, with the region.
    client: OnceCell<(Client, String)>,
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aws").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Aws {
    /// Connects at the first request.
    pub fn new(config: &SourceConfig) -> Aws {
        Aws {
            connection: Connection::new(Some(&config.endpoint_url), Some(&config.region)),
            client: OnceCell::new(),
        }
    }

    async fn client(&self) -> &(Client, String) {
        self.client
            .get_or_init(|| async {
                let region = self.connection.region(None).await;
                (Client::new(&self.connection.config(&region).await), region)
            })
            .await
    }
}

#[async_trait]
impl Remote for Aws {
    async fn groups(&self, prefix: &str, token: Option<&str>) -> Result<(Vec<String>, Option<String>), Fault> {
        let (client, _) = self.client().await;
        let mut request = client.describe_log_groups().set_next_token(token.map(str::to_string));
        if !prefix.is_empty() {
            request = request.log_group_name_prefix(prefix);
        }
        let answer = request.send().await.map_err(|error| fault(&error))?;
        let names = answer
            .log_groups()
            .iter()
            .filter_map(|group| group.log_group_name().map(str::to_string))
            .collect();
        Ok((names, answer.next_token().filter(|token| !token.is_empty()).map(str::to_string)))
    }

    async fn page(&self, group: &str, from_millis: i64, to_millis: i64, token: Option<&str>) -> Result<Page, Fault> {
        let (client, _) = self.client().await;
        let request = client
            .filter_log_events()
            .log_group_name(group)
            .start_time(from_millis)
            .end_time(to_millis)
            .set_next_token(token.map(str::to_string));
        let answer = request.send().await.map_err(|error| fault(&error))?;
        let event = |event: &aws_sdk_cloudwatchlogs::types::FilteredLogEvent| {
            Some(Pulled {
                id: event.event_id()?.to_string(),
                stream: event.log_stream_name()?.to_string(),
                millis: event.timestamp()?,
                message: event.message().unwrap_or_default().to_string(),
            })
        };
        Ok(Page {
            events: answer.events().iter().filter_map(event).collect(),
            next: answer.next_token().filter(|token| !token.is_empty()).map(str::to_string),
        })
    }

    async fn region(&self) -> String {
        self.client().await.1.clone()
    }
}

fn fault<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E, HttpResponse>) -> Fault {
    let code = aws::code(error).unwrap_or_default();
    let status = match error {
        SdkError::ServiceError(service) => service.raw().status().as_u16(),
        _ => 0,
    };
    let kind = match code {
        "ResourceNotFoundException" => FaultKind::Gone,
        code if code.contains("Throttl") || code.contains("LimitExceeded") || status == 429 => FaultKind::Throttled,
        _ if aws::retry_may_help(error) => FaultKind::Passing,
        _ => FaultKind::Lasting,
    };
    Fault {
        message: aws::describe(error),
        kind,
    }
}
