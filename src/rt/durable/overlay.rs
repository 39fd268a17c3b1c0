//! A file as the database sees it, with everything that it writes kept in memory: so that a file can be judged, and mended on trial,
//! without a byte of it being changed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: u64 = 4096;

/// The trial's own pages over the file's.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Its length now.
    len: u64,
    /// How much of the file still counts: what lies behind was cut off at some time.
    file_len: u64,
    pages: HashMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, state: Mutex::new(State { len, file_len: len, pages: HashMap::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file has at this page; zeros behind its end.
    fn page_of_file(&self, state: &State, page: u64) -> io::Result<Box<[u8; PAGE as usize]>> {
        let mut bytes = Box::new([0; PAGE as usize]);
        let from = page * PAGE;
        let count = state.file_len.saturating_sub(from).min(PAGE) as usize;
        self.file.read_exact_at(&mut bytes[..count], from)?;
        Ok(bytes)
    }

    /// Calls `touch` for each page of a range, with the page's part and the range's.
    fn each(
        offset: u64,
        len: usize,
        mut touch: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let count = (PAGE as usize - within).min(len - done);
            touch(at / PAGE, within..within + count, done..done + count)?;
            done += count;
        }
        Ok(())
    }
}

impl redb::StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::each(offset, out.len(), |page, within, range| {
            match state.pages.get(&page) {
                Some(bytes) => out[range].copy_from_slice(&bytes[within]),
                None => out[range].copy_from_slice(&self.page_of_file(&state, page)?[within]),
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        if len < state.len {
            let last = len / PAGE;
            state.pages.retain(|page, _| *page <= last);
            if !len.is_multiple_of(PAGE) {
                let mut bytes = match state.pages.remove(&last) {
                    Some(bytes) => bytes,
                    None => self.page_of_file(&state, last)?,
                };
                bytes[(len % PAGE) as usize..].fill(0);
                state.pages.insert(last, bytes);
            }
            state.file_len = state.file_len.min(len);
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.len = state.len.max(offset + data.len() as u64);
        Self::each(offset, data.len(), |page, within, range| {
            let mut bytes = match state.pages.remove(&page) {
                Some(bytes) => bytes,
                None => self.page_of_file(&state, page)?,
            };
            bytes[within].copy_from_slice(&data[range]);
            state.pages.insert(page, bytes);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use redb::StorageBackend;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_the_file_stays() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&[7; 10_000]).expect("written");
        let overlay = Overlay::new(file.reopen().expect("opened")).expect("a length");
        overlay.write(4090, &[1; 12]).expect("written");
        let mut seen = [0; 16];
        overlay.read(4088, &mut seen).expect("read");
        assert_eq!(seen, [7, 7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7]);
        overlay.set_len(4092).expect("cut");
        overlay.set_len(20_000).expect("grown");
        overlay.read(4088, &mut seen).expect("read");
        assert_eq!(seen, [7, 7, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "what was cut off is zero");
        overlay.read(9000, &mut seen).expect("read");
        assert_eq!(seen, [0; 16]);
        assert!(overlay.read(19_990, &mut seen).is_err());
        assert_eq!(std::fs::read(file.path()).expect("read"), [7; 10_000]);
    }
}
