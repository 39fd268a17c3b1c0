//! Waiting for several futures at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for all futures of a tuple (two to six), or of a `Vec`, at once, and gives their results in order.
///
/// Questions to the client that wait together are put to it together: see the questions section of [`Context`](super::Context).
///
/// ```
/// use ringhub::native::join;
/// let both = join((async { 1 }, async { "two" }));
/// let mut both = std::pin::pin!(both);
/// let mut task = std::task::Context::from_waker(std::task::Waker::noop());
/// assert_eq!(both.as_mut().poll(&mut task), std::task::Poll::Ready((1, "two")));
/// ```
pub fn join<J: Join>(futures: J) -> impl Future<Output = J::Output> {
    futures.join()
}

/// What [`join`] takes; see there for an example.
pub trait Join {
    /// The results, in order.
    type Output;
    /// See [`join`].
    fn join(self) -> impl Future<Output = Self::Output>;
}

/// A future, and its result once it has ended.
enum Slot<F: Future> {
    Running(Pin<Box<F>>),
    Ended(Option<F::Output>),
}

impl<F: Future> Slot<F> {
    fn new(future: F) -> Self {
        Self::Running(Box::pin(future))
    }

    fn has_ended(&mut self, task: &mut Context<'_>) -> bool {
        if let Self::Running(future) = self {
            match future.as_mut().poll(task) {
                Poll::Ready(output) => *self = Self::Ended(Some(output)),
                Poll::Pending => return false,
            }
        }
        true
    }

    fn take(&mut self) -> F::Output {
        match self {
            Self::Ended(output) => output.take().expect("a join is polled to its end once"),
            Self::Running(_) => unreachable!("all have ended"),
        }
    }
}

impl<F: Future> Join for Vec<F> {
    type Output = Vec<F::Output>;

    async fn join(self) -> Self::Output {
        let mut slots: Vec<Slot<F>> = self.into_iter().map(Slot::new).collect();
        std::future::poll_fn(|task| {
            let running = slots.iter_mut().filter_map(|slot| (!slot.has_ended(task)).then_some(())).count();
            if running == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        slots.iter_mut().map(Slot::take).collect()
    }
}

macro_rules! join_tuple {
    ($($future:ident $slot:ident),*) => {
        impl<$($future: Future),*> Join for ($($future,)*) {
            type Output = ($($future::Output,)*);

            async fn join(self) -> Self::Output {
                let ($($slot,)*) = self;
                $(let mut $slot = Slot::new($slot);)*
                std::future::poll_fn(|task| {
                    // Every one is polled, so that all their questions are known after one turn.
                    let mut all = true;
                    $(all &= $slot.has_ended(task);)*
                    if all { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                ($($slot.take(),)*)
            }
        }
    };
}

join_tuple!(A a, B b);
join_tuple!(A a, B b, C c);
join_tuple!(A a, B b, C c, D d);
join_tuple!(A a, B b, C c, D d, E e);
join_tuple!(A a, B b, C c, D d, E e, F f);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::Waker;

    use super::*;

    /// Ends at the given poll.
    fn after(polls: u32, counted: &Cell<u32>) -> impl Future<Output = u32> {
        let mut left = polls;
        std::future::poll_fn(move |_| {
            counted.set(counted.get() + 1);
            left -= 1;
            if left == 0 { Poll::Ready(polls) } else { Poll::Pending }
        })
    }

    #[test]
    fn all_are_polled_each_turn_until_they_end() {
        let counted = Cell::new(0);
        let mut joined = std::pin::pin!(join((after(1, &counted), after(3, &counted))));
        let mut task = Context::from_waker(Waker::noop());
        assert_eq!(joined.as_mut().poll(&mut task), Poll::Pending);
        assert_eq!(counted.get(), 2);
        assert_eq!(joined.as_mut().poll(&mut task), Poll::Pending);
        assert_eq!(joined.as_mut().poll(&mut task), Poll::Ready((1, 3)));
        assert_eq!(counted.get(), 4, "one that ended is not polled again");
        let mut list = std::pin::pin!(join(vec![after(1, &counted), after(2, &counted)]));
        assert_eq!(list.as_mut().poll(&mut task), Poll::Pending);
        assert_eq!(list.as_mut().poll(&mut task), Poll::Ready(vec![1, 2]));
    }
}
