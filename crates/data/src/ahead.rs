//! Work done ahead by a thread of its own, and taken in order by whoever needs it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::Error;

/// Whether anybody still takes what is made.
pub(crate) type Listening = bool;

/// What a thread makes, in order. When this is dropped, the thread ends at the next thing it hands out.
#[derive(Debug)]
pub(crate) struct Ahead<T> {
    receiver: Option<Receiver<Message<T>>>,
    thread: Option<JoinHandle<()>>,
}

/// Where the thread hands out what it made.
pub(crate) struct Outlet<T>(SyncSender<Message<T>>);

#[derive(Debug)]
enum Message<T> {
    Made(T),
    End,
    Failed(Error),
}

impl<T> Outlet<T> {
    /// Hands out one thing; waits while as many as allowed lie about.
    pub(crate) fn give(&self, made: T) -> Listening {
        self.0.send(Message::Made(made)).is_ok()
    }
}

impl<T: Send + 'static> Ahead<T> {
    /// Runs `work` on a thread of this name; at most `most` things lie ready.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn start(
        name: &str,
        most: usize,
        work: impl FnOnce(&Outlet<T>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(most);
        let outlet = Outlet(sender);
        let all = move || {
            let last = work(&outlet).map_or_else(Message::Failed, |()| Message::End);
            // Nobody listens any more when the receiver was dropped.
            let _ = outlet.0.send(last);
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(all);
        let thread = thread.map_err(|source| Error::Io { path: "a reading thread".into(), source })?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread) })
    }
}

impl<T> Ahead<T> {
    /// The next thing; `None` at the end, and ever after that or an error.
    ///
    /// # Errors
    /// The one that the thread ended with, once.
    pub(crate) fn next(&mut self) -> Result<Option<T>, millstream_schema::Error> {
        let Some(receiver) = &self.receiver else { return Ok(None) };
        let last = match receiver.recv() {
            Ok(Message::Made(made)) => return Ok(Some(made)),
            Ok(Message::End) => Ok(None),
            Ok(Message::Failed(e)) => Err(schema_error(e)),
            Err(_) => Err(millstream_schema::Error::Corrupt("the reading thread ended early".into())),
        };
        self.receiver = None;
        last
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        // The thread ends at its next send once nobody listens.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The same error as the schema's trait tells it.
fn schema_error(e: Error) -> millstream_schema::Error {
    use millstream_schema::Error as Schema;
    match e {
        Error::Schema(e) => e,
        Error::Config(message) => Schema::Config(message),
        Error::Input { place, reason } => Schema::Input { place, reason },
        Error::Io { path, source } => Schema::Io { path: path.display().to_string(), source },
        corrupt @ Error::Corrupt { .. } => Schema::Corrupt(corrupt.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_order_then_the_end_or_the_error_once() {
        let numbers = |fail: bool| {
            Ahead::start("numbers", 2, move |outlet| {
                for n in 0..5 {
                    assert!(outlet.give(n));
                }
                if fail { Err(Error::config("no more")) } else { Ok(()) }
            })
        };
        for fail in [false, true] {
            let mut ahead = numbers(fail).unwrap();
            let got: Vec<i32> = (0..5).map(|_| ahead.next().unwrap().unwrap()).collect();
            assert_eq!(got, [0, 1, 2, 3, 4]);
            assert_eq!(ahead.next().is_err(), fail);
            assert!(ahead.next().unwrap().is_none());
        }
    }

    #[test]
    fn a_thread_whose_work_nobody_wants_ends() {
        let ahead = Ahead::start("endless", 1, |outlet| {
            while outlet.give(()) {}
            Ok(())
        });
        drop(ahead.unwrap());
    }
}
