//! Work shared by threads in fixed parts, so that the numbers do not depend on how many there are.

/// Calls `work` on every part, by at most `threads` threads; each gets neighbouring parts.
pub(super) fn in_threads<T: Send>(threads: usize, parts: &mut [T], work: impl Fn(&mut T) + Sync) {
    let mut shares = parts.chunks_mut(parts.len().div_ceil(threads.max(1)).max(1));
    let own = shares.next();
    std::thread::scope(|scope| {
        for share in shares {
            let work = &work;
            scope.spawn(move || share.iter_mut().for_each(work));
        }
        own.into_iter().flatten().for_each(&work);
    });
}

/// Calls both, side by side where there is a thread for each.
pub(super) fn join(threads: usize, one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        if threads > 1 {
            scope.spawn(one);
        } else {
            one();
        }
        other();
    });
}
