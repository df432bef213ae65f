//! Records in an S3 bucket, shared by every engine that uses the same prefix.
//!
//! Objects are `PREFIX/kvick-1/<fingerprint>/<key>.<group><half>` in hexadecimal. Region, credentials and endpoint come from the
//! usual AWS_* variables. Path-style addresses, since that is what every S3-like server speaks. Calls of a batch run
//! concurrently, each with a timeout and few retries: waiting longer is dearer than computing the page. No error shows a
//! credential.
use super::{RecordKey, Store, StoreError, Usage};
use crate::kv::key::Fingerprint;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, RetryConfig};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Calls in flight at once.
const CONCURRENT: usize = 16;

/// A bucket and a prefix in it.
pub struct S3Store {
    store: Arc<AmazonS3>,
    /// `bucket/prefix`, for messages.
    place: String,
    prefix: String,
    runtime: Runtime,
}

/// How a call ended.
type Done<T> = Result<T, StoreError>;

impl S3Store {
    /// Opens `s3://bucket[/prefix]` and asks for an object that is not there, to see that the bucket is.
    ///
    /// # Errors
    /// [`StoreError::Setup`] if the address is not one, nobody answers, the bucket is missing or access is refused.
    pub fn open(address: &str, fingerprint: &Fingerprint, timeout: Duration) -> Done<Self> {
        let usage = "--kv-tier s3= takes s3://bucket[/prefix]; endpoint, region and credentials come from AWS_ENDPOINT, \
                     AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        let rest = address.strip_prefix("s3://").filter(|r| !r.is_empty() && !r.starts_with('/'));
        let rest = rest.ok_or_else(|| StoreError::Setup(usage.into()))?;
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_millis(400),
                base: 2.0,
            },
            max_retries: 1,
            retry_timeout: timeout,
        };
        let options =
            ClientOptions::new().with_timeout(timeout).with_connect_timeout(timeout / 2).with_allow_http(true);
        let built = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(false)
            .with_retry(retry)
            .with_client_options(options)
            .build();
        let store = Arc::new(built.map_err(|_| StoreError::Setup(usage.into()))?);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).thread_name("kvick-s3").enable_all().build();
        let runtime = runtime.map_err(|e| StoreError::Setup(format!("cannot start threads: {e}")))?;
        let fingerprint: String = fingerprint.bytes().iter().map(|b| format!("{b:02x}")).collect();
        let folder = folder.trim_end_matches('/');
        let prefix =
            [folder, "kvick-1", &fingerprint].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/");
        let s3 = S3Store { store, place: format!("s3://{bucket}/{folder}"), prefix, runtime };
        s3.probe()?;
        Ok(s3)
    }

    /// Distinguishes a missing bucket from a missing object, which a read by name cannot.
    fn probe(&self) -> Done<()> {
        let prefix = Path::from(format!("{}/probe", self.prefix));
        let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&prefix)));
        listed.map(drop).map_err(|e| {
            let why = match failed(&self.place, &e) {
                StoreError::Unavailable(why) | StoreError::Full(why) | StoreError::Setup(why) => why,
                other => other.to_string(),
            };
            let missing = matches!(e, Error::NotFound { .. }) || format!("{e:?}").contains("NoSuchBucket");
            let cure =
                if missing { "create the bucket first" } else { "check AWS_ENDPOINT, the credentials and the network" };
            StoreError::Setup(if missing {
                format!("{}: there is no such bucket; {cure}", self.place)
            } else {
                format!("{why}; {cure}")
            })
        })
    }

    fn path(&self, name: &RecordKey) -> Path {
        let RecordKey { key, group, half } = name;
        Path::from(format!("{}/{key}.{group}{}", self.prefix, ["k", "v"][*half as usize]))
    }

    /// Runs a call per path, some at a time; answers in order.
    fn each<T, F>(&self, paths: Vec<Path>, call: impl Fn(Arc<AmazonS3>, Path, usize) -> F) -> Vec<Done<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut out: Vec<Option<Done<T>>> = paths.iter().map(|_| None).collect();
        let mut waiting = paths.into_iter().enumerate();
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            loop {
                while running.len() < CONCURRENT
                    && let Some((i, path)) = waiting.next()
                {
                    let future = call(self.store.clone(), path, i);
                    let place = self.place.clone();
                    running.spawn_on(
                        async move { (i, future.await.map_err(|e| failed(&place, &e))) },
                        self.runtime.handle(),
                    );
                }
                match running.join_next().await {
                    Some(Ok((i, done))) => out[i] = Some(done),
                    Some(Err(_)) => {}
                    None => break,
                }
            }
        });
        let lost = || Err(StoreError::Unavailable(format!("{}: a call was lost", self.place)));
        out.into_iter().map(|done| done.unwrap_or_else(lost)).collect()
    }
}

/// In words, without what the address or the environment said.
fn failed(place: &str, e: &Error) -> StoreError {
    let text = format!("{e:?}");
    StoreError::Unavailable(match e {
        Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => format!("{place} refuses the credentials"),
        Error::NotFound { .. } => format!("{place}: not there"),
        _ if text.contains("NoSuchBucket") => format!("{place}: there is no such bucket"),
        _ if text.contains("imeout") || text.contains("TimedOut") => format!("{place} did not answer in time"),
        _ if text.contains("InsufficientStorage") || text.contains("507") => return StoreError::Full(place.into()),
        _ => format!("{place} cannot be reached or answers with an error"),
    })
}

fn not_found_is_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Store for S3Store {
    fn name(&self) -> &str {
        "s3"
    }

    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Done<()>> {
        let paths = items.iter().map(|(name, _)| self.path(name)).collect();
        self.each(paths, |store, path, i| {
            let body = items[i].1.to_vec();
            async move { store.put(&path, body.into()).await.map(drop) }
        })
    }

    fn get(&self, names: &[RecordKey]) -> Vec<Done<Option<Vec<u8>>>> {
        self.each(names.iter().map(|n| self.path(n)).collect(), |store, path, _| async move {
            match not_found_is_none(store.get(&path).await)? {
                Some(found) => Ok(Some(found.bytes().await?.to_vec())),
                None => Ok(None),
            }
        })
    }

    fn has(&self, names: &[RecordKey]) -> Vec<Done<bool>> {
        self.each(names.iter().map(|n| self.path(n)).collect(), |store, path, _| async move {
            Ok(not_found_is_none(store.head(&path).await)?.is_some())
        })
    }

    fn remove(&self, names: &[RecordKey]) -> Vec<Done<()>> {
        self.each(names.iter().map(|n| self.path(n)).collect(), |store, path, _| async move {
            not_found_is_none(store.delete(&path).await).map(drop)
        })
    }

    fn usage(&self) -> Usage {
        Usage { records: 0, bytes: 0, budget: u64::MAX }
    }
}
