//! Fault injection for tests. In other builds, these functions compile to nothing.

/// The kinds of file operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Create,
    MakeFolder,
    Stat,
    SetMode,
    SetTimes,
    Read,
    Write,
    Sync,
    Rename,
    #[cfg_attr(not(all(target_os = "linux", not(session_file_portable))), allow(dead_code))]
    Exchange,
    Unlink,
    RemoveFolder,
    List,
    Lock,
}

#[cfg(not(test))]
pub(crate) use disabled::{before, portion};

#[cfg(not(test))]
mod disabled {
    use rustix::io::Errno;

    use super::Operation;

    /// Permits the next operation.
    pub(crate) fn before(_operation: Operation) -> Result<(), Errno> {
        Ok(())
    }

    /// Returns how many of `length` bytes the next read or write transfers.
    pub(crate) fn portion(length: usize) -> usize {
        length
    }
}

#[cfg(test)]
pub(crate) use injector::{Fault, FaultInjector, before, portion};

#[cfg(test)]
mod injector {
    use std::cell::RefCell;

    use rustix::io::Errno;

    use super::Operation;

    /// Which operation fails; with `lasts`, all later ones fail as well.
    #[derive(Clone, Copy)]
    pub(crate) struct Fault {
        pub(crate) at: usize,
        pub(crate) errno: Errno,
        pub(crate) lasts: bool,
    }

    struct State {
        /// The operations since the last call of `set`.
        seen: Vec<Operation>,
        fault: Option<Fault>,
        /// The most bytes that one read or write transfers.
        portion: usize,
    }

    thread_local! {
        static STATE: RefCell<State> = const { RefCell::new(State::NONE) };
    }

    impl State {
        const NONE: Self = Self { seen: Vec::new(), fault: None, portion: usize::MAX };
    }

    /// Controls the faults of the current thread. Tests call the store on their own thread, so they
    /// don't disturb each other.
    pub(crate) struct FaultInjector(());

    impl FaultInjector {
        pub(crate) fn new() -> Self {
            STATE.set(State::NONE);
            Self(())
        }

        /// Clears the recorded operations, and sets the next fault.
        pub(crate) fn set(&self, fault: Option<Fault>) {
            STATE.with_borrow_mut(|state| {
                state.fault = fault;
                state.seen.clear();
            });
        }

        /// Removes the fault. Returns whether it happened.
        pub(crate) fn unset(&self) -> bool {
            STATE.with_borrow_mut(|state| {
                state.fault.take().is_some_and(|fault| state.seen.len() > fault.at)
            })
        }

        pub(crate) fn set_portion(&self, portion: usize) {
            STATE.with_borrow_mut(|state| state.portion = portion);
        }

        /// Returns the operations since the last call of `set`.
        pub(crate) fn kinds(&self) -> Vec<Operation> {
            STATE.with_borrow(|state| state.seen.clone())
        }

        pub(crate) fn seen(&self, kind: Operation) -> usize {
            self.kinds().into_iter().filter(|seen| *seen == kind).count()
        }
    }

    /// Permits the next operation or makes it fail.
    pub(crate) fn before(operation: Operation) -> Result<(), Errno> {
        STATE.with_borrow_mut(|state| {
            let at = state.seen.len();
            state.seen.push(operation);
            match state.fault {
                Some(fault) if at == fault.at => Err(fault.errno),
                // A lasting interruption would be repeated for ever.
                Some(fault) if fault.lasts && at > fault.at && fault.errno != Errno::INTR => {
                    Err(fault.errno)
                }
                _ => Ok(()),
            }
        })
    }

    /// Returns how many of `length` bytes the next read or write transfers, at least one.
    pub(crate) fn portion(length: usize) -> usize {
        STATE.with_borrow(|state| length.min(state.portion))
    }
}
