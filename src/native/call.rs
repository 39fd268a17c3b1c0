//! The state of one call that its contexts share. Pooled: a warm call allocates nothing here.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Waker;

use super::host::CallSpec;
use super::questions::Questions;
use crate::base::ids::CallId;
use crate::wire::mcp::{ClientCapabilities, Level, Version};

/// Longest buffer that goes back to the pool with its state, bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What the contexts of one call share. Every borrow inside ends before a handler's code runs.
pub(crate) struct CallState {
    pub call: Cell<CallId>,
    pub server: Cell<u32>,
    pub version: Cell<Version>,
    pub level: Cell<Option<Level>>,
    pub capabilities: Cell<ClientCapabilities>,
    /// The last progress told, so that the next must be more.
    pub progress: Cell<f64>,
    pub cancelled: Cell<bool>,
    texts: RefCell<Texts>,
    cancel_wakers: RefCell<Vec<Waker>>,
    /// The same as `cancelled`, for a handler on the blocking pool.
    cancel_flag: RefCell<Option<Arc<AtomicBool>>>,
    pub questions: RefCell<Questions>,
}

/// The texts of a call, one after another in one buffer.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    /// Where each text that is there stands; of the others it means nothing.
    spans: [(u32, u32); Text::COUNT],
    /// Bit n: text n is there.
    present: u8,
}

/// Names a text of a call.
#[derive(Clone, Copy)]
pub(crate) enum Text {
    ProgressToken,
    ClientInfo,
    Meta,
    Principal,
    InputResponses,
    State,
}

impl Text {
    const COUNT: usize = 6;
}

impl Texts {
    fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.present = 0;
    }

    /// Takes a text that is not there yet. A request's texts are far shorter than what 32 bits can count.
    #[inline]
    fn set(&mut self, text: Text, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.spans[text as usize] = (start, self.bytes.len() as u32);
        self.present |= 1 << text as u8;
    }

    fn has(&self, text: Text) -> bool {
        self.present & 1 << text as u8 != 0
    }

    fn get(&self, text: Text) -> Option<&[u8]> {
        let (start, end) = self.spans[text as usize];
        if self.has(text) { self.bytes.get(start as usize..end as usize) } else { None }
    }
}

impl Default for CallState {
    fn default() -> Self {
        Self {
            call: Cell::new(CallId { index: 0, generation: 0 }),
            server: Cell::new(0),
            version: Cell::new(Version::V2026_07_28),
            level: Cell::new(None),
            capabilities: Cell::default(),
            progress: Cell::new(f64::NEG_INFINITY),
            cancelled: Cell::new(false),
            texts: RefCell::default(),
            cancel_wakers: RefCell::default(),
            cancel_flag: RefCell::default(),
            questions: RefCell::default(),
        }
    }
}

impl CallState {
    /// Takes on a call. The state must be fresh or reset.
    pub fn begin(&self, spec: &CallSpec<'_>) {
        self.call.set(spec.call);
        self.server.set(spec.server);
        self.version.set(spec.version);
        self.level.set(spec.level);
        self.capabilities.set(spec.capabilities);
        let mut texts = self.texts.borrow_mut();
        texts.set(Text::ProgressToken, spec.progress_token);
        texts.set(Text::ClientInfo, spec.client_info);
        texts.set(Text::Meta, spec.meta);
        texts.set(Text::Principal, Some(spec.principal));
        texts.set(Text::InputResponses, spec.input_responses);
        texts.set(Text::State, spec.state);
    }

    /// Forgets the call.
    pub fn reset(&self) {
        self.texts.borrow_mut().clear();
        self.progress.set(f64::NEG_INFINITY);
        self.cancelled.set(false);
        let mut wakers = self.cancel_wakers.borrow_mut();
        if !wakers.is_empty() {
            wakers.clear();
        }
        let mut flag = self.cancel_flag.borrow_mut();
        if flag.is_some() {
            *flag = None;
        }
        self.questions.borrow_mut().reset();
    }

    /// Hands the text to `read`, which must run no code of a handler.
    pub fn with_text<R>(&self, text: Text, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        read(self.texts.borrow().get(text))
    }

    pub fn has_text(&self, text: Text) -> bool {
        self.texts.borrow().has(text)
    }

    /// Marks the call cancelled and wakes who waits for that. Wakers run outside any borrow.
    pub fn cancel(&self) {
        self.cancelled.set(true);
        if let Some(flag) = &*self.cancel_flag.borrow() {
            flag.store(true, Relaxed);
        }
        let wakers = std::mem::take(&mut *self.cancel_wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn wake_when_cancelled(&self, waker: &Waker) {
        let mut wakers = self.cancel_wakers.borrow_mut();
        if !wakers.iter().any(|held| held.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// A flag that another thread can read.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        let mut flag = self.cancel_flag.borrow_mut();
        Arc::clone(flag.get_or_insert_with(|| Arc::new(AtomicBool::new(self.cancelled.get()))))
    }
}
