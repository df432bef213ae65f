//! Records in Redis or Valkey, shared by every engine that uses the same database.
//!
//! Keys are `kvick:1:<fingerprint><key><group><half>` in binary, values whole records, so nothing in the database is trusted. Reads
//! are batched (MGET), writes pipelined. Every call has a timeout and at most one retry on a new connection: waiting longer
//! is dearer than computing the page. Eviction is the server's (`maxmemory-policy`); without one it answers "out of memory",
//! which is [`StoreError::Full`]. No error shows the URL, which may hold a password.
use super::{RecordKey, Store, StoreError, Usage};
use crate::kv::key::Fingerprint;
use redis::{Connection, ErrorKind, RedisError, ServerErrorKind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Records of one MGET: an answer of about 16 MB at half pages of 256 KiB.
const BATCH: usize = 64;

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For an answer to a read or write of one batch.
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Duration::from_millis(500), answer: Duration::from_secs(2) }
    }
}

/// A database.
pub struct RedisStore {
    client: redis::Client,
    /// `host:port`, for messages.
    place: String,
    prefix: Vec<u8>,
    timeouts: Timeouts,
    idle: Mutex<Vec<Connection>>,
}

impl RedisStore {
    /// Connects to `redis://[user:password@]host[:port][/database]` and asks whether it answers.
    ///
    /// # Errors
    /// [`StoreError::Setup`] if the URL is not one, nobody answers, or the password is refused.
    pub fn open(url: &str, fingerprint: &Fingerprint, timeouts: Timeouts) -> Result<Self, StoreError> {
        let client = redis::Client::open(url).map_err(|_| {
            StoreError::Setup(
                "--kv-tier redis= takes redis://[user:password@]host[:port][/database], which was not given".into(),
            )
        })?;
        let place = client.get_connection_info().addr().to_string();
        let mut prefix = b"kvick:1:".to_vec();
        prefix.extend_from_slice(fingerprint.bytes());
        let store = RedisStore { client, place, prefix, timeouts, idle: Mutex::default() };
        let pong: Result<String, StoreError> = store.call(|c| redis::cmd("PING").query(c));
        match pong {
            Ok(_) => Ok(store),
            Err(e) => Err(StoreError::Setup(format!(
                "{e}; check that Redis or Valkey runs there and what --kv-tier redis= says"
            ))),
        }
    }

    /// The same store with other timeouts, on connections made from now on.
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.idle().clear();
        self.timeouts = timeouts;
        self
    }

    fn name_of(&self, name: &RecordKey) -> Vec<u8> {
        let mut out = self.prefix.clone();
        out.extend_from_slice(&name.key.0);
        out.extend_from_slice(&name.group.to_le_bytes());
        out.push(b"kv"[name.half as usize]);
        out
    }

    fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self.client.get_connection_with_timeout(self.timeouts.connect)?;
        connection.set_read_timeout(Some(self.timeouts.answer))?;
        connection.set_write_timeout(Some(self.timeouts.answer))?;
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call on an idle connection, and once more on a new one if that one was dropped by the server.
    fn call<T>(&self, f: impl Fn(&mut Connection) -> Result<T, RedisError>) -> Result<T, StoreError> {
        let kept = self.idle().pop();
        if let Some(mut connection) = kept {
            match f(&mut connection) {
                Ok(value) => {
                    self.idle().push(connection);
                    return Ok(value);
                }
                Err(e) if e.is_connection_dropped() => self.idle().clear(),
                Err(e) => return Err(self.failed(&e)),
            }
        }
        let mut connection = self.connect().map_err(|e| self.failed(&e))?;
        let value = f(&mut connection).map_err(|e| self.failed(&e))?;
        self.idle().push(connection);
        Ok(value)
    }

    /// In words, without what the URL said.
    fn failed(&self, e: &RedisError) -> StoreError {
        let at = &self.place;
        if e.code() == Some("OOM") {
            return StoreError::Full(format!("Redis at {at} (its maxmemory)"));
        }
        StoreError::Unavailable(match e.kind() {
            ErrorKind::AuthenticationFailed => format!("Redis at {at} refuses the user or password"),
            ErrorKind::Io if e.is_timeout() => format!("Redis at {at} did not answer in time"),
            ErrorKind::Io => format!("Redis at {at} cannot be reached"),
            ErrorKind::Server(ServerErrorKind::BusyLoading) => format!("Redis at {at} is still loading"),
            _ if e.code() == Some("NOAUTH") => format!("Redis at {at} wants a password: redis://:password@host"),
            _ => format!("Redis at {at} answers {}", e.code().unwrap_or("nonsense")),
        })
    }
}

impl Store for RedisStore {
    fn name(&self) -> &str {
        "redis"
    }

    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>> {
        // One by one in effect, so that a full server refuses some and keeps others.
        let put = |(name, record): &(RecordKey, &[u8])| {
            let name = self.name_of(name);
            self.call(|c| redis::cmd("SET").arg(&name).arg(*record).query::<()>(c))
        };
        items.iter().map(put).collect()
    }

    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
        let mut out = Vec::with_capacity(names.len());
        for batch in names.chunks(BATCH) {
            let keys: Vec<Vec<u8>> = batch.iter().map(|n| self.name_of(n)).collect();
            match self.call(|c| redis::cmd("MGET").arg(&keys).query::<Vec<Option<Vec<u8>>>>(c)) {
                Ok(values) if values.len() == batch.len() => out.extend(values.into_iter().map(Ok)),
                Ok(_) => {
                    let odd = StoreError::Unavailable(format!("Redis at {} answers with too few values", self.place));
                    out.extend(batch.iter().map(|_| Err(odd.clone())));
                }
                Err(e) => {
                    // The rest would wait for the same timeout.
                    out.extend((out.len()..names.len()).map(|_| Err(e.clone())).collect::<Vec<_>>());
                    break;
                }
            }
        }
        out
    }

    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>> {
        let asked = self.call(|c| {
            let mut pipe = redis::pipe();
            for name in names {
                pipe.cmd("EXISTS").arg(self.name_of(name));
            }
            pipe.query::<Vec<bool>>(c)
        });
        match asked {
            Ok(found) if found.len() == names.len() => found.into_iter().map(Ok).collect(),
            Ok(_) => names.iter().map(|_| Ok(false)).collect(),
            Err(e) => names.iter().map(|_| Err(e.clone())).collect(),
        }
    }

    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>> {
        if names.is_empty() {
            return Vec::new();
        }
        let keys: Vec<Vec<u8>> = names.iter().map(|n| self.name_of(n)).collect();
        let done = self.call(|c| redis::cmd("DEL").arg(&keys).query::<()>(c));
        names.iter().map(|_| done.clone()).collect()
    }

    fn usage(&self) -> Usage {
        Usage { records: 0, bytes: 0, budget: u64::MAX }
    }
}
