//! Memory that was freed, back to the operating system.

/// Gives back what this thread freed and the allocator keeps for it. Worth it after work that took much and is over, on a thread
/// that then takes little; without the feature `mimalloc` nothing is done.
pub fn give_back() {
    #[cfg(feature = "mimalloc")]
    // SAFETY: it takes nothing and returns nothing, and any thread may call it at any time. The `mimalloc` crate has no safe
    // function for it.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}
