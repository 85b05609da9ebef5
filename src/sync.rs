//! The locks and atomics of the store: those of the standard library, or those of the model
//! checker, which runs the same code through chosen interleavings (`make model`).

#[cfg(not(shuttle))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use std::sync::TryLockError;

/// What keys the hash: the operating system's randomness, so that nobody outside can aim keys at
/// one shard. Under the model checker it is fixed, so that a schedule can be repeated.
pub(crate) fn random_state() -> ahash::RandomState {
    #[cfg(not(shuttle))]
    return ahash::RandomState::new();
    #[cfg(shuttle)]
    return ahash::RandomState::with_seeds(1, 2, 3, 4);
}

/// Locks a mutex whose holders never leave their data half changed: a panic elsewhere does not make
/// it unusable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Locks a mutex as [`lock`] does, unless somebody else holds it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Gives the processor to whoever this thread is waiting for.
pub(crate) fn yield_now() {
    #[cfg(not(shuttle))]
    std::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
}
