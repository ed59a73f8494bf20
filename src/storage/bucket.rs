//! A bucket as a store: S3, or whatever speaks like it and honours conditional writes.

use std::error::Error as StdError;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::client::{HttpError, StaticCredentialProvider};
use object_store::path::Path as ObjectPath;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};

use super::credentials::{self, ChainCredentials};
use super::{Config, Error, ErrorKind, Key, Listed, Result, Store};

/// Longest time to a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Tries after the first, for what the client may safely repeat; they end with the request's own timeout at the latest.
const MAX_RETRIES: usize = 3;
/// Bytes of one request of a large object: even at 4 Mbit/s a part ends within the default timeout. S3 wants at least 5 MiB.
const PART_BYTES: u64 = 8 << 20;
/// Above this an object travels in parts.
const SINGLE_REQUEST_BYTES: u64 = 2 * PART_BYTES;
/// Parts of one object under way at a time; bounds memory beside the object itself.
const PARALLEL_PARTS: usize = 4;

/// A bucket, or a prefix in it.
#[derive(Clone, Debug)]
pub struct BucketStore {
    objects: Arc<dyn ObjectStore>,
    /// Empty, or ends in `/`.
    prefix: String,
    url: String,
    timeout: Duration,
    late_writes: Duration,
}

impl BucketStore {
    /// Sets up the client of an S3 bucket. Asks the AWS chain for region and credentials, the bucket for nothing.
    pub async fn open(config: &Config, bucket: &str, prefix: &str) -> Result<Self> {
        let shown = format!("s3://{bucket}/{prefix}");
        let invalid = |why: String| Error::new(ErrorKind::Invalid, "open", shown.as_str(), why);
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() || (!prefix.is_empty() && Key::parse(prefix).is_none()) {
            return Err(invalid(
                "a store is s3://bucket or s3://bucket/prefix, the prefix of letters, digits, '_', '-', '.', '=' and '/'".into(),
            ));
        }
        if config.access_key_id.is_empty() != config.secret_access_key.is_empty() {
            return Err(invalid("set both access_key_id and secret_access_key, or neither".into()));
        }
        let timeout = Duration::from_secs(config.request_timeout_seconds.max(1));
        let client = ClientOptions::new()
            .with_allow_http(config.allow_http)
            .with_connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .with_timeout(timeout);
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: MAX_RETRIES,
            retry_timeout: timeout,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            .with_virtual_hosted_style_request(!config.path_style);
        if !config.endpoint.is_empty() {
            if config.endpoint.starts_with("http://") && !config.allow_http {
                return Err(invalid(format!("{} is plain HTTP: set allow_http, or use https", config.endpoint)));
            }
            builder = builder.with_endpoint(&config.endpoint);
        }
        let mut region = config.region.clone();
        if config.access_key_id.is_empty() {
            let chain = credentials::load_chain(&region).await;
            if region.is_empty() {
                region = chain.region().map(ToString::to_string).unwrap_or_default();
            }
            builder = builder.with_credentials(Arc::new(ChainCredentials::new(chain.credentials_provider())));
        } else {
            let token = config.session_token.expose();
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(AwsCredential {
                key_id: config.access_key_id.clone(),
                secret_key: config.secret_access_key.expose().to_string(),
                token: (!token.is_empty()).then(|| token.to_string()),
            })));
        }
        builder = builder.with_region(if region.is_empty() { "us-east-1" } else { &region });
        let objects = builder.build().map_err(|source| classify("open", &shown, source))?;
        Ok(Self {
            // what a bucket was asked it may still do after the client has hung up; it is not told how long. As long again is a guess.
            late_writes: timeout,
            ..Self::over(Arc::new(objects), prefix, shown.trim_end_matches('/').to_string(), timeout)
        })
    }

    fn over(objects: Arc<dyn ObjectStore>, prefix: &str, url: String, timeout: Duration) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self {
            objects,
            prefix,
            url,
            timeout,
            late_writes: Duration::ZERO,
        }
    }

    /// A store that lives as long as this value, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory(prefix: &str) -> Self {
        let objects = Arc::new(object_store::memory::InMemory::new());
        Self::over(objects, prefix, "memory:".into(), Duration::from_secs(20))
    }

    fn path(&self, key: &str) -> ObjectPath {
        // a key is plain ASCII of harmless characters: nothing is escaped or dropped on the way
        ObjectPath::from(format!("{}{key}", self.prefix))
    }

    /// Waits for one request, as long as the settings allow.
    async fn within<T>(&self, action: &'static str, key: &str, request: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(result) => result.map_err(|source| classify(action, &self.shown(key), source)),
            Err(_) => {
                let why = format!("no answer within {} s", self.timeout.as_secs());
                Err(Error::new(ErrorKind::Unreachable, action, self.shown(key), why))
            }
        }
    }

    fn shown(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    async fn put_in_parts(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let name = key.as_str();
        let mut upload = self.within("put", name, self.objects.put_multipart(&self.path(name))).await?;
        let part_bytes = PART_BYTES as usize;
        let mut parts = Vec::new();
        for start in (0..bytes.len()).step_by(part_bytes) {
            let part = upload.put_part(bytes.slice(start..bytes.len().min(start + part_bytes)).into());
            parts.push(self.within("put", name, part).boxed());
        }
        let sent = futures::stream::iter(parts).buffer_unordered(PARALLEL_PARTS).try_collect::<()>().await;
        let done = match sent {
            Ok(()) => self.within("put", name, upload.complete()).await.map(drop),
            Err(error) => Err(error),
        };
        if done.is_err()
            && let Err(error) = self.within("abort", name, upload.abort()).await
        {
            tracing::warn!(%key, %error, "parts of an upload stay behind; a lifecycle rule for incomplete uploads removes them");
        }
        done
    }
}

#[async_trait::async_trait]
impl Store for BucketStore {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let result = if bytes.len() as u64 > SINGLE_REQUEST_BYTES {
            self.put_in_parts(key, bytes).await
        } else {
            let path = self.path(key.as_str());
            self.within("put", key.as_str(), self.objects.put(&path, bytes.into())).await.map(drop)
        };
        result.map_err(no_such_bucket)
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        let path = self.path(key.as_str());
        let request = async {
            match self.objects.put_opts(&path, PutPayload::from(bytes), PutMode::Create.into()).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.within("put", key.as_str(), request).await.map_err(no_such_bucket)
    }

    async fn get(&self, key: &Key) -> Result<Bytes> {
        let name = key.as_str();
        let path = self.path(name);
        let request = async {
            let found = self.objects.get(&path).await?;
            let n_bytes = found.meta.size;
            Ok((n_bytes, if n_bytes > SINGLE_REQUEST_BYTES { None } else { Some(found.bytes().await?) }))
        };
        match self.within("read", name, request).await? {
            (_, Some(bytes)) => Ok(bytes),
            (n_bytes, None) => self.get_range(key, 0..n_bytes).await,
        }
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let name = key.as_str();
        let n_bytes = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let starts = (range.start..range.end).step_by(PART_BYTES as usize);
        let part = |start: u64| {
            let path = self.path(name);
            async move {
                let end = range.end.min(start + PART_BYTES);
                let bytes = self.within("read", name, self.objects.get_range(&path, start..end)).await?;
                if bytes.len() as u64 != end - start {
                    let why = format!("bytes {start} to {end} were asked for, {} came", bytes.len());
                    return Err(Error::new(ErrorKind::Corrupt, "read", self.shown(name), why));
                }
                Ok(bytes)
            }
        };
        let mut parts = futures::stream::iter(starts.map(part)).buffered(PARALLEL_PARTS);
        let Some(first) = parts.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        if first.len() == n_bytes {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(n_bytes);
        whole.extend_from_slice(&first);
        while let Some(part) = parts.next().await.transpose()? {
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }

    fn gets_of(&self, n_bytes: u64) -> u64 {
        n_bytes.div_ceil(PART_BYTES).max(1)
    }

    fn late_writes(&self) -> Duration {
        self.late_writes
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
        let folder = self.path(prefix.trim_end_matches('/'));
        let folder = (!folder.as_ref().is_empty()).then_some(folder);
        let mut pages = match after {
            Some(after) => self.objects.list_with_offset(folder.as_ref(), &self.path(after.as_str())),
            None => self.objects.list(folder.as_ref()),
        };
        let mut found = Vec::new();
        while let Some(object) = self.within("list", prefix, async { pages.next().await.transpose() }).await? {
            let name = object.location.as_ref().strip_prefix(self.prefix.as_str());
            if let Some(key) = name.and_then(Key::parse) {
                found.push(Listed {
                    key,
                    n_bytes: object.size,
                    modified_nanos: object.last_modified.timestamp_nanos_opt().unwrap_or_default(),
                });
            }
        }
        // S3 lists in order; not everything that speaks like it does
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let path = self.path(key.as_str());
        match self.within("delete", key.as_str(), self.objects.delete(&path)).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    fn local_path(&self, _key: &Key) -> Option<PathBuf> {
        None
    }

    fn url(&self) -> &str {
        &self.url
    }
}

/// A write cannot miss its object: the answer 404 speaks of the bucket.
fn no_such_bucket(error: Error) -> Error {
    if error.is_not_found() {
        return Error::new(ErrorKind::Invalid, "put", "the bucket", error);
    }
    error
}

/// Sorts what the client says into our kinds. The status of an answer is only in the text of its (private) errors.
fn classify(action: &'static str, what: &str, source: object_store::Error) -> Error {
    use object_store::Error as Found;
    let mut kind = match &source {
        Found::NotFound { .. } => ErrorKind::NotFound,
        Found::PermissionDenied { .. } | Found::Unauthenticated { .. } => ErrorKind::Denied,
        Found::InvalidPath { .. } | Found::UnknownConfigurationKey { .. } => ErrorKind::Invalid,
        Found::NotSupported { .. } | Found::NotImplemented { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    };
    let mut link: Option<&(dyn StdError + 'static)> = Some(&source);
    while let Some(error) = link {
        if let Some(credentials) = error.downcast_ref::<credentials::Failed>() {
            kind = credentials.kind();
        } else if error.is::<HttpError>() || error.is::<tokio::time::error::Elapsed>() {
            kind = ErrorKind::Unreachable;
        } else if kind == ErrorKind::Other || kind == ErrorKind::NotFound {
            kind = by_words(&error.to_string()).unwrap_or(kind);
        }
        link = error.source();
    }
    Error::new(kind, action, what, source)
}

fn by_words(text: &str) -> Option<ErrorKind> {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["NoSuchBucket", "without LOCATION"]) {
        Some(ErrorKind::Invalid)
    } else if has(&["ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"]) {
        Some(ErrorKind::Denied)
    } else if has(&["status code: 5", "status code: 429", "status code: 408", "SlowDown"]) {
        Some(ErrorKind::Unreachable)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance;

    fn config(endpoint: &str) -> Config {
        Config {
            endpoint: endpoint.into(),
            allow_http: true,
            path_style: true,
            access_key_id: "k".into(),
            secret_access_key: super::super::Secret::new("s"),
            request_timeout_seconds: 2,
            ..Config::default()
        }
    }

    #[tokio::test]
    async fn a_bucket_keeps_the_contract() {
        conformance::check(Arc::new(BucketStore::in_memory(""))).await;
        conformance::check(Arc::new(BucketStore::in_memory("a/prefix=x"))).await;
    }

    #[tokio::test]
    async fn a_prefix_hides_what_lies_beside_it() {
        let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let at = |prefix: &str| BucketStore::over(Arc::clone(&objects), prefix, "memory:".into(), Duration::from_secs(1));
        let key = Key::parse("logs/a").expect("legal");
        at("one").put(&key, Bytes::from_static(b"1")).await.expect("put");
        at("one2").put(&key, Bytes::from_static(b"2")).await.expect("put");
        assert_eq!(at("one").list("", None).await.expect("lists").len(), 1);
        assert_eq!(at("one").get(&key).await.expect("reads"), "1");
        assert_eq!(at("").list("logs/", None).await.expect("lists"), []);
    }

    #[tokio::test]
    async fn an_unreachable_bucket_says_so_and_a_retry_may_help() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", socket.local_addr().expect("bound"));
        let key = Key::parse("a").expect("legal");
        // accepts (in the backlog) and never answers
        let silent = BucketStore::open(&config(&endpoint), "b", "").await.expect("opens");
        let error = silent.get(&key).await.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        let error = silent.put_if_absent(&key, Bytes::new()).await.expect_err("no answer");
        assert!(error.retry_helps(), "{error}");
        drop(socket);
        let refused = BucketStore::open(&config(&endpoint), "b", "").await.expect("opens");
        let error = refused.list("", None).await.expect_err("no server");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    }

    #[tokio::test]
    async fn answers_are_sorted_into_kinds() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for (status, body, expected) in [
            ("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>", ErrorKind::NotFound),
            ("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>", ErrorKind::Invalid),
            ("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>", ErrorKind::Denied),
            ("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>", ErrorKind::Denied),
            ("503 Slow Down", "", ErrorKind::Unreachable),
            ("418 I'm a teapot", "", ErrorKind::Other),
        ] {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let endpoint = format!("http://{}", server.local_addr().expect("bound"));
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let serving = tokio::spawn(async move {
                while let Ok((mut socket, _)) = server.accept().await {
                    let _ = socket.read(&mut [0; 4096]).await;
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
            let store = BucketStore::open(&config(&endpoint), "b", "").await.expect("opens");
            let error = store.get(&Key::parse("a").expect("legal")).await.expect_err("an error");
            assert_eq!(error.kind(), expected, "{status} {body}: {error}");
            serving.abort();
        }
    }

    #[tokio::test]
    async fn settings_that_cannot_work_are_refused() {
        let good = config("http://127.0.0.1:1");
        let plain = Config {
            allow_http: false,
            ..good.clone()
        };
        let half = Config {
            secret_access_key: super::super::Secret::default(),
            ..good.clone()
        };
        for (config, bucket, prefix) in [(&good, "", ""), (&good, "b", "../x"), (&plain, "b", ""), (&half, "b", "")] {
            let error = BucketStore::open(config, bucket, prefix).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }
}
