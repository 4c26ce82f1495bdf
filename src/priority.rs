//! Which threads come first where there is work for more than there are processors.

/// How much lower: such a thread gets about a tenth of what the others get, and what they leave.
#[cfg(target_os = "linux")]
const LOWER: libc::c_int = 10;

/// Lowers the priority of this thread and of those that it starts from now on; on systems other than Linux nothing is done.
/// Work that nobody waits for then takes little from requests, and still comes to its end where the processors are never idle.
pub fn lower() {
    #[cfg(target_os = "linux")]
    // SAFETY: it takes a number, changes no memory, and any thread may call it at any time; lowering is always allowed. On
    // Linux it is this thread's priority alone that changes; the standard library has no function for it.
    unsafe {
        libc::nice(LOWER);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::thread;

    use super::lower;

    /// `nice`, the 19th field (proc_pid_stat(5)); the second is in brackets and may hold spaces.
    fn nice() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat[stat.rfind(')').unwrap()..].split(' ').nth(17).unwrap().parse().unwrap()
    }

    #[test]
    fn threads_have_the_priority_of_whoever_starts_them() {
        let before = nice();
        let started = thread::spawn(|| {
            lower();
            (nice(), thread::spawn(nice).join().unwrap())
        });
        let lower = (before + 10).min(19);
        assert_eq!(started.join().unwrap(), (lower, lower));
        assert_eq!(nice(), before, "no other thread's changes");
    }
}
