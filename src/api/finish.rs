//! Work that goes on where whoever waits for it gives up.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// The future of `work`, which ends even where the future is dropped half way: at a deadline, or because the caller has
/// gone. What is journalled must be told to the sessions, whether or not anybody still waits for the answer.
pub fn finish<F: Future + Send + 'static>(work: F) -> Finish<F>
where
    F::Output: Send,
{
    Finish { work: Some(Box::pin(work)), begun: false }
}

/// See [`finish`].
pub struct Finish<F: Future + Send + 'static>
where
    F::Output: Send,
{
    work: Option<Pin<Box<F>>>,
    begun: bool,
}

impl<F: Future + Send + 'static> Future for Finish<F>
where
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.begun = true;
        let Some(work) = &mut self.work else { return Poll::Pending };
        let answer = work.as_mut().poll(context);
        if answer.is_ready() {
            self.work = None;
        }
        answer
    }
}

impl<F: Future + Send + 'static> Drop for Finish<F>
where
    F::Output: Send,
{
    fn drop(&mut self) {
        if let (true, Some(work), Ok(runtime)) = (self.begun, self.work.take(), Handle::try_current()) {
            runtime.spawn(async move { drop(work.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_has_begun_ends() {
        let (begin, begun) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let work = finish(async move {
            begun.await.unwrap();
            tell.send(7).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err(), "it waits");
        begin.send(()).unwrap();
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn what_has_not_begun_never_does() {
        let (tell, told) = oneshot::channel::<()>();
        drop(finish(async move { tell.send(()).unwrap() }));
        assert!(told.await.is_err());
    }
}
