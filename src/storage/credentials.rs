//! The AWS credential chain (environment, profiles, web identity, container, instance), as the bucket's client wants it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

use super::ErrorKind;
use crate::model::{Clock, SystemClock};

/// Credentials this close to their end are renewed: a request signed now may travel for a while.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Longest time the chain may take to answer; the instance's own service is the slowest of it.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Nothing in the chain has any.
    #[error("no AWS credentials: set access_key_id and secret_access_key, AWS_ACCESS_KEY_ID, AWS_PROFILE, or run with a role")]
    None,
    /// Something in the chain failed.
    #[error("AWS credentials: {0}")]
    Chain(#[source] CredentialsError),
    /// The chain did not answer in time.
    #[error("AWS credentials: no answer within {} s", CHAIN_TIMEOUT.as_secs())]
    Timeout,
}

impl Failed {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Failed::None | Failed::Chain(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => ErrorKind::Denied,
            Failed::Chain(_) | Failed::Timeout => ErrorKind::Unreachable,
        }
    }
}

/// Reads the chain's settings; `region` overrules theirs unless it is empty.
pub(super) async fn load_chain(region: &str) -> SdkConfig {
    use aws_smithy_http_client::{Builder, tls};
    let http = Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if !region.is_empty() {
        loader = loader.region(Region::new(region.to_string()));
    }
    loader.load().await
}

/// The chain, asked once until what it said runs out.
#[derive(Debug)]
pub(super) struct ChainCredentials {
    chain: Option<SharedCredentialsProvider>,
    /// The last answer and its end.
    last: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

impl ChainCredentials {
    pub(super) fn new(chain: Option<SharedCredentialsProvider>) -> Self {
        Self { chain, last: Mutex::new(None) }
    }

    async fn ask(&self) -> Result<(Arc<AwsCredential>, Option<SystemTime>), Failed> {
        let chain = self.chain.as_ref().ok_or(Failed::None)?;
        let asked = tokio::time::timeout(CHAIN_TIMEOUT, chain.provide_credentials())
            .await
            .map_err(|_| Failed::Timeout)?;
        let found = match asked {
            Ok(found) => found,
            Err(CredentialsError::CredentialsNotLoaded(_)) => return Err(Failed::None),
            Err(error) => return Err(Failed::Chain(error)),
        };
        let credential = AwsCredential {
            key_id: found.access_key_id().to_string(),
            secret_key: found.secret_access_key().to_string(),
            token: found.session_token().map(str::to_string),
        };
        Ok((Arc::new(credential), found.expiry()))
    }
}

#[async_trait::async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        // held while asking: the others wait for the one answer
        let mut last = self.last.lock().await;
        let now = UNIX_EPOCH + Duration::from_nanos(u64::try_from(SystemClock.now_nanos()).unwrap_or_default());
        let good = |end: &Option<SystemTime>, margin: Duration| end.is_none_or(|end| end > now + margin);
        if let Some((credential, end)) = &*last
            && good(end, RENEW_BEFORE)
        {
            return Ok(Arc::clone(credential));
        }
        match (self.ask().await, &*last) {
            (Ok(found), _) => {
                let credential = Arc::clone(&found.0);
                *last = Some(found);
                Ok(credential)
            }
            // a chain that does not answer just now does not stop us while the old ones are good
            (Err(error), Some((credential, end))) if good(end, Duration::ZERO) => {
                tracing::warn!(%error, "AWS credentials could not be renewed yet");
                Ok(Arc::clone(credential))
            }
            (Err(error), _) => Err(object_store::Error::Generic {
                store: "S3",
                source: Box::new(error),
            }),
        }
    }
}
