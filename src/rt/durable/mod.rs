//! The durable store: dynamic registrations and bindings in a file that survives the process.
//!
//! One thread writes, outside the cores. What waits when it comes round goes into one transaction (group commit), which is on the disk
//! before any of it is acknowledged. At start the file is judged on a copy in memory first: a file that is not sound, or not ringhub's, is
//! refused and left as it is.

mod overlay;

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::config::StartError;
use crate::base::ids::NodeId;
use crate::base::limits::STORE_BATCH_MAX;
use crate::base::stored::Stored;
use crate::engine::admin::{keep_endpoint, keep_server, kept_endpoint, kept_server};
use crate::native::Inbox;
use crate::registry::{Kind, Record, ServerId};
use overlay::Overlay;

/// The file, below the directory that `--state` names.
const FILE: &str = "registry.redb";
/// The file before it is whole.
const NEW_FILE: &str = "registry.redb.new";
/// Held locked by the process that uses the directory.
const LOCK: &str = "lock";
/// First bytes of every file of the database's kind.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// What says that a file is ringhub's, and how its entries are written.
const FORMAT: u64 = 1;
/// Memory that the database may use for its pages, bytes.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("ringhub");
const SERVERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("servers");
const ENDPOINTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("endpoints");
/// Highest version that was ever given, so that none is given twice for one name.
const VERSION_MAX: &str = "version_max";
/// Highest number of an id that was ever given.
const NUMBER_MAX: &str = "number_max";

/// One thing to write, and who is to be told.
struct Task {
    inbox: Arc<Inbox>,
    ticket: u64,
    record: Record,
}

/// Where cores leave what is to be written.
#[derive(Clone)]
pub(crate) struct Keeper(mpsc::Sender<Task>);

impl Keeper {
    /// Queues a record. The core that owns `inbox` is told when it is on the disk, or that it could not be written. The registry bounds how
    /// many there are.
    pub(crate) fn push(&self, inbox: &Arc<Inbox>, ticket: u64, record: Record) {
        if let Err(mpsc::SendError(task)) = self.0.send(Task { inbox: Arc::clone(inbox), ticket, record }) {
            task.inbox.persisted(task.ticket, Stored::NotWritten);
        }
    }
}

/// The thread that writes. It ends once every [`Keeper`] is gone, after it has written what they left.
pub(crate) struct Store {
    thread: Option<JoinHandle<()>>,
    _lock: File,
}

impl Store {
    /// Opens the store in `directory`, makes it if there is none, and reads what it holds.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Keeper, Vec<Record>), StartError> {
        let refused = |why: String| StartError::State(directory.to_owned(), why);
        let system = |what: &'static str| move |error: io::Error| StartError::State(directory.to_owned(), format!("{what}: {error}"));
        // What is registered can hold secrets.
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(system("the directory cannot be made"))?;
        let lock = File::create(directory.join(LOCK)).map_err(system("no lock file can be made in it"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refused("another process uses it: end that one, or give this one a directory of its own".into()));
            }
            Err(TryLockError::Error(error)) => return Err(system("it cannot be locked")(error)),
        }
        let path = directory.join(FILE);
        if !path.try_exists().map_err(system("its file cannot be looked for"))? {
            create(directory).map_err(|why| refused(format!("its file cannot be made: {why}")))?;
        }
        let kept = judge(&path).map_err(|why| {
            refused(format!("{} {why}; it was left as it is: move it away to begin anew, or put back a sound copy", path.display()))
        })?;
        // What was registered to be fronted can have secrets in it, wherever the directory came from.
        if let Err(error) = std::fs::set_permissions(&path, Permissions::from_mode(0o600)) {
            tracing::warn!(path = %path.display(), %error, "others may be able to read the state file");
        }
        let database = builder().open(&path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
        let (sender, tasks) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ringhub-store".into())
            .spawn(move || write_all(&database, &tasks))
            .map_err(|error| StartError::System("no thread for the state file", error))?;
        Ok((Self { thread: Some(thread), _lock: lock }, Keeper(sender), kept))
    }

    /// Waits until everything is written. No [`Keeper`] may be left.
    pub(crate) fn close(&mut self) {
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the state file panicked");
        }
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes an empty file: aside, and then in one step, so that there is never half of one.
fn create(directory: &Path) -> Result<(), String> {
    let aside = directory.join(NEW_FILE);
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let made = || -> Result<(), redb::Error> {
        let database = builder().create(&aside)?;
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert("format", FORMAT)?;
        transaction.open_table(SERVERS)?;
        transaction.open_table(ENDPOINTS)?;
        transaction.commit()?;
        Ok(())
    };
    made().map_err(|error| error.to_string())?;
    let named = || {
        std::fs::rename(&aside, directory.join(FILE))?;
        // The name is in the directory, which must be on the disk as well.
        File::open(directory)?.sync_all()
    };
    named().map_err(|error: io::Error| error.to_string())
}

/// Reads what the file holds, and changes nothing of it. Tells what is wrong with it.
fn judge(path: &Path) -> Result<Vec<Record>, String> {
    let mut file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut magic = [0; MAGIC.len()];
    if file.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Err("is no state file of ringhub".into());
    }
    let overlay = Overlay::new(file).map_err(|error| format!("cannot be read: {error}"))?;
    // The database trusts what it reads: what it cannot make sense of may end in a panic of its own.
    let read = catch_unwind(AssertUnwindSafe(|| {
        let database =
            builder().set_check_integrity_on_open(true).create_with_backend(overlay).map_err(|error| format!("is damaged: {error}"))?;
        read(&database)
    }));
    read.unwrap_or_else(|_| Err("is damaged".into()))
}

fn read(database: &Database) -> Result<Vec<Record>, String> {
    let damaged = |error: redb::Error| format!("is damaged: {error}");
    let transaction = database.begin_read().map_err(|error| damaged(error.into()))?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::Storage(error)) => return Err(damaged(error.into())),
        Err(_) => return Err("is a database of another program".into()),
    };
    let number = |name: &str| Ok::<_, String>(meta.get(name).map_err(|error| damaged(error.into()))?.map(|value| value.value()));
    match number("format")? {
        Some(FORMAT) => {}
        Some(other) => return Err(format!("has the format {other}, and this ringhub reads {FORMAT}")),
        None => return Err("is a database of another program".into()),
    }
    let id = ServerId { node: NodeId(0), number: number(NUMBER_MAX)?.unwrap_or(0) };
    let version = number(VERSION_MAX)?.unwrap_or(0);
    let mut kept = vec![Record::Removed { kind: Kind::Server, name: "".into(), id, version }];
    let table = transaction.open_table(SERVERS).map_err(|error| damaged(error.into()))?;
    for entry in table.iter().map_err(|error| damaged(error.into()))? {
        let (name, raw) = entry.map_err(|error| damaged(error.into()))?;
        let server = kept_server(raw.value()).map_err(|why| format!("is damaged: server {}: {why}", name.value()))?;
        kept.push(Record::Server(Arc::new(server)));
    }
    let table = transaction.open_table(ENDPOINTS).map_err(|error| damaged(error.into()))?;
    for entry in table.iter().map_err(|error| damaged(error.into()))? {
        let (path, raw) = entry.map_err(|error| damaged(error.into()))?;
        let endpoint = kept_endpoint(raw.value()).map_err(|why| format!("is damaged: endpoint {}: {why}", path.value()))?;
        kept.push(Record::Endpoint(Arc::new(endpoint)));
    }
    Ok(kept)
}

/// Writes until nobody can leave more.
///
/// Once it is not known what is in the file, nothing more is written: what was made in memory and what is in the file must not part.
fn write_all(database: &Database, tasks: &mpsc::Receiver<Task>) {
    let (mut batch, mut is_failed) = (Vec::new(), false);
    while let Ok(first) = tasks.recv() {
        batch.push(first);
        batch.extend(tasks.try_iter().take(STORE_BATCH_MAX - 1));
        let stored = if is_failed { Stored::NotWritten } else { try_write(database, &batch) };
        is_failed |= stored == Stored::Unknown;
        for task in batch.drain(..) {
            task.inbox.persisted(task.ticket, stored);
        }
    }
}

/// Writes a batch in one transaction, which is on the disk when this says so.
fn try_write(database: &Database, batch: &[Task]) -> Stored {
    let changes = batch.len();
    let prepared = match catch_unwind(AssertUnwindSafe(|| prepare(database, batch))) {
        Ok(Ok(transaction)) => transaction,
        Ok(Err(error)) => {
            tracing::error!(%error, changes, "the state file cannot be written: these changes are refused");
            return Stored::NotWritten;
        }
        Err(_) => {
            tracing::error!(changes, "writing the state file panicked: these changes are refused");
            return Stored::NotWritten;
        }
    };
    // What fails from here on may have reached the disk nevertheless.
    let error = match catch_unwind(AssertUnwindSafe(|| prepared.commit())) {
        Ok(Ok(())) => return Stored::Written,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".to_owned(),
    };
    tracing::error!(
        error,
        changes,
        "the state file failed while it was written: whether these changes are in it is not known before a restart, and further ones are refused until then"
    );
    Stored::Unknown
}

/// A transaction with a batch in it, not committed. When it is dropped, nothing is written.
fn prepare(database: &Database, batch: &[Task]) -> Result<WriteTransaction, redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut servers = transaction.open_table(SERVERS)?;
        let mut endpoints = transaction.open_table(ENDPOINTS)?;
        let mut meta = transaction.open_table(META)?;
        let (mut number_max, mut version_max) = (0, 0);
        for task in batch {
            let (id, version) = match &task.record {
                Record::Server(server) => {
                    servers.insert(&*server.spec.name, keep_server(server).as_slice())?;
                    (server.id, server.version)
                }
                Record::Endpoint(endpoint) => {
                    endpoints.insert(&*endpoint.path, keep_endpoint(endpoint).as_slice())?;
                    (endpoint.id, endpoint.version)
                }
                Record::Removed { kind, name, id, version } => {
                    match kind {
                        Kind::Server => servers.remove(&**name)?,
                        Kind::Endpoint => endpoints.remove(&**name)?,
                    };
                    (*id, *version)
                }
            };
            number_max = number_max.max(id.number);
            version_max = version_max.max(version);
        }
        for (name, value) in [(NUMBER_MAX, number_max), (VERSION_MAX, version_max)] {
            let known = meta.get(name)?.map_or(0, |known| known.value());
            if value > known {
                meta.insert(name, value)?;
            }
        }
    }
    Ok(transaction)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::native::inbox::Event;

    const SOUND: u8 = 0;
    const NO_ROOM: u8 = 1;
    const NO_SYNC: u8 = 2;

    /// A disk that fails when told to.
    #[derive(Debug)]
    struct Disk(InMemoryBackend, Arc<AtomicU8>);

    impl Disk {
        fn fails(&self, how: u8) -> io::Result<()> {
            if self.1.load(Relaxed) == how { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl redb::StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.fails(NO_ROOM)?;
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.fails(NO_SYNC)?;
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.fails(NO_ROOM)?;
            self.0.write(offset, data)
        }
    }

    fn removal() -> Record {
        Record::Removed { kind: Kind::Server, name: "a".into(), id: ServerId { node: NodeId(0), number: 1 }, version: 1 }
    }

    /// What is answered to one change on a disk that is sound, and to two more once it fails like this.
    fn answers(how: u8) -> Vec<Stored> {
        let health = Arc::new(AtomicU8::new(SOUND));
        let database = builder().create_with_backend(Disk(InMemoryBackend::new(), Arc::clone(&health))).expect("a database");
        let inbox = Arc::new(Inbox::new(Box::new(|| {})));
        let (sender, tasks) = mpsc::channel();
        let keeper = Keeper(sender);
        let writer = std::thread::spawn(move || write_all(&database, &tasks));
        let (mut answers, mut events) = (Vec::new(), Vec::new());
        for ticket in 0..3 {
            keeper.push(&inbox, ticket, removal());
            while inbox.is_empty() {
                std::thread::yield_now();
            }
            inbox.drain(&mut events);
            let [Event::Persisted { ticket: answered, stored }] = events[..] else { panic!("one answer to each") };
            assert_eq!(answered, ticket);
            answers.push(stored);
            events.clear();
            health.store(how, Relaxed);
        }
        drop(keeper);
        writer.join().expect("it ends");
        answers
    }

    #[test]
    fn what_fails_while_it_is_written_is_said_to_be_unknown_and_nothing_follows_it() {
        assert_eq!(answers(SOUND), [Stored::Written; 3]);
        assert_eq!(answers(NO_SYNC), [Stored::Written, Stored::Unknown, Stored::NotWritten]);
        let full = answers(NO_ROOM);
        assert!(full[0] == Stored::Written && full[1] != Stored::Written && full[2] == Stored::NotWritten, "{full:?}");
    }

    #[test]
    fn nobody_who_could_write_means_not_written() {
        let inbox = Arc::new(Inbox::new(Box::new(|| {})));
        let (sender, tasks) = mpsc::channel();
        drop(tasks);
        Keeper(sender).push(&inbox, 7, removal());
        let mut events = Vec::new();
        inbox.drain(&mut events);
        assert!(matches!(events[..], [Event::Persisted { ticket: 7, stored: Stored::NotWritten }]));
    }
}
