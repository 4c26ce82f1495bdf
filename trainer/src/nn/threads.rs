//! Work shared by threads in fixed parts, so that the numbers do not depend on how many there are.

/// Fewer multiply-adds than this are done before a thread has started and the memory of its matrix products is there.
const WORTH_A_THREAD: usize = 1 << 24;

/// Calls `work` on every part, each of which takes about `cost` multiply-adds, by at most `threads` threads; each gets
/// neighbouring parts.
pub(super) fn for_each<T: Send>(threads: usize, cost: usize, parts: &mut [T], work: impl Fn(&mut T) + Sync) {
    let useful = (parts.len().saturating_mul(cost) / WORTH_A_THREAD).clamp(1, threads);
    let mut shares = parts.chunks_mut(parts.len().div_ceil(useful).max(1));
    let own = shares.next();
    std::thread::scope(|scope| {
        for share in shares {
            let work = &work;
            scope.spawn(move || share.iter_mut().for_each(work));
        }
        own.into_iter().flatten().for_each(&work);
    });
}

/// Calls both, each of which takes about `cost` multiply-adds; side by side where that is allowed and pays.
pub(super) fn both(threads: usize, cost: usize, one: impl FnOnce() + Send, other: impl FnOnce()) {
    std::thread::scope(|scope| {
        if threads > 1 && cost >= WORTH_A_THREAD {
            scope.spawn(one);
        } else {
            one();
        }
        other();
    });
}
