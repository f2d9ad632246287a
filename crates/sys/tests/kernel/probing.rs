//! N9: the probe under a filter like those of container runtimes.

use std::thread;

use crate::common::roomy;
use libc::{c_ulong, sock_filter, sock_fprog};
use moongate_sys::{EventBell, Feature, Missing, Uring, probe};

/// Makes `syscall` fail with `errno`, for the calling thread and those it starts.
fn forbid(syscall: i64, errno: i32) {
    let code = |class: u32| class as u16;
    let filter = [
        // The number of the system call is the first word of seccomp_data.
        sock_filter { code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), jt: 0, jf: 0, k: 0 },
        sock_filter {
            code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            jt: 0,
            jf: 1,
            k: syscall as u32,
        },
        sock_filter {
            code: code(libc::BPF_RET | libc::BPF_K),
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ERRNO | errno as u32,
        },
        sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: this option takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0, 0, 0) };
    assert_eq!(result, 0);
    // SAFETY: the program and its filter live through the call, which only reads them.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER as c_ulong, &raw const program)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// What the probe finds on a thread where `syscall` fails with `errno`; building a driver there must agree.
fn probe_without(syscall: i64, errno: i32) -> Missing {
    let thread = thread::spawn(move || {
        forbid(syscall, errno);
        let driver = Uring::new(&roomy(), Vec::new(), &EventBell::new().unwrap());
        (probe().unwrap_err(), driver.err().unwrap().to_string())
    });
    let (missing, driver) = thread.join().unwrap();
    assert_eq!(missing.to_string(), driver);
    missing
}

#[test]
fn n9_a_filter_is_recognised() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let missing = probe_without(libc::SYS_io_uring_setup, errno);
        assert_eq!(missing.feature(), Feature::Ring);
        assert!(missing.to_string().contains("seccomp"), "{missing}");
    }
    let missing = probe_without(libc::SYS_io_uring_register, libc::EPERM);
    assert_eq!(missing.feature(), Feature::FileTable);
    assert!(missing.to_string().contains("seccomp"), "{missing}");
    probe().unwrap_or_else(|missing| panic!("only those threads are filtered: {missing}"));
}
