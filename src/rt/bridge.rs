//! Glommio's own timers and files, for handlers that want them.
//!
//! A core sleeps in its own ring, where nothing of glommio's can wake it. While a future of [`with_glommio`] lives on the core, that
//! sleep is a millisecond at most, and glommio's reactor is polled after it.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// How many such futures live on this core.
pub(crate) fn live() -> usize {
    LIVE.get()
}

/// Lets `future` use glommio's timers, files and `spawn_local`: it must run on a core, in an async handler.
///
/// The future is boxed. What it awaits is noticed within about a millisecond, and while it lives the core wakes that often; ringhub's own
/// `Context::sleep` and blocking handlers cost nothing of the kind.
pub fn with_glommio<F: Future>(future: F) -> WithGlommio<F> {
    WithGlommio { future: Box::pin(future), counted: false }
}

/// See [`with_glommio`].
pub struct WithGlommio<F> {
    future: Pin<Box<F>>,
    counted: bool,
}

impl<F: Future> Future for WithGlommio<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.counted {
            self.counted = true;
            LIVE.set(LIVE.get() + 1);
        }
        let outcome = self.future.as_mut().poll(cx);
        if outcome.is_ready() {
            self.release();
        }
        outcome
    }
}

impl<F> WithGlommio<F> {
    fn release(&mut self) {
        if std::mem::take(&mut self.counted) {
            LIVE.set(LIVE.get() - 1);
        }
    }
}

impl<F> Drop for WithGlommio<F> {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn counted_from_the_first_poll_to_the_end_or_the_drop() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut ends = Box::pin(with_glommio(async { 5 }));
        assert_eq!(live(), 0);
        assert_eq!(ends.as_mut().poll(&mut cx), Poll::Ready(5));
        assert_eq!(live(), 0);
        let mut waits = Box::pin(with_glommio(std::future::pending::<()>()));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        assert_eq!(live(), 1);
        drop(waits);
        assert_eq!(live(), 0);
    }
}
