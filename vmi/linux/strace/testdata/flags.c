/*
 * Makes harmless system calls with every flag and value of the sets that the
 * decoder names.
 */
#define _GNU_SOURCE
#include <unistd.h>
#include <sys/syscall.h>
#include <stdio.h>
#include <sys/mman.h>
#define S(...) syscall(__VA_ARGS__)
int main()
{
    unsigned long A = ~0UL;
    unsigned i;
    // bits, one at a time and all
    S(SYS_openat, -1, "x", 0x7fffffff, 0777);
    for (i = 0; i < 32; i++)
        S(SYS_openat, -1, "x", 1u << i, 0777);
    S(SYS_openat, -1, "x", 3, 0);
    S(SYS_openat, -1, "x", 0x410000, 0);
    S(SYS_openat, -1, "x", 0x101000, 0);
    S(SYS_mmap, 1, 0, 0xffffffff, 0xfffffff0, -1, 4096);
    for (i = 0; i < 32; i++)
        S(SYS_mmap, 1, 0, 0, 1u << i, -1, 0);
    S(SYS_mmap, 1, 0, 0, 3, -1, 0);
    S(SYS_mmap, 1, 0, 0, 0x6000022, -1, 0);
    S(SYS_mmap, 1, 0, 0, 21 << 26 | 0x40022, -1, 0);
    for (i = 0; i < 32; i++)
        S(SYS_mprotect, 1, 0, 1u << i);
    S(SYS_faccessat2, -1, "x", 15, 0xffff);
    S(SYS_access, NULL, 0);
    S(SYS_access, NULL, 7);
    S(SYS_unlinkat, -1, "x", 0xffffffff);
    S(SYS_newfstatat, -1, "x", 0, 0xffffffff);
    S(SYS_linkat, -1, "x", -1, "y", 0xffffffff);
    S(SYS_fchownat, -1, "x", 0, -1, 0xffffffff);
    S(SYS_utimensat, -1, "x", 0, 0xffffffff);
    S(SYS_execveat, -1, "x", 0, 0, 0xffffffff);
    S(SYS_statx, -1, "x", 0xffffffff, 0xffffffff, 0);
    S(SYS_statx, -1, "x", 0, 0, 0);
    S(SYS_statx, -1, "x", 0, 0x7ff, 0);
    S(SYS_renameat2, -1, "x", -1, "y", 0xffffffff);
    S(SYS_wait4, -2, 0, 0xffffffff, 0);
    S(SYS_waitid, 7, 0, 0, 0xffffffff, 0);
    for (i = 0; i < 5; i++)
        S(SYS_waitid, i, 9999999, 0, 0, 0);
    S(SYS_wait4, -999999, 0, 1, 0);
    S(SYS_socket, 0, 0, 0);
    S(SYS_socket, 99, 0xffffffff, 0xff);
    for (i = 0; i < 3; i++)
        S(SYS_socket, i, 1000, 0);
    S(SYS_socket, 10, 1000, 0);
    S(SYS_socket, 16, 1000, 0);
    for (i = 0; i < 16; i++)
        S(SYS_socket, 1000, i, 0);
    S(SYS_socket, 1000, 1 | 04000 | 02000000, 0);
    for (i = 0; i < 264; i++)
        S(SYS_socket, 2, 1000, i);
    for (i = 0; i < 24; i++)
        S(SYS_socket, 16, 1000, i);
    S(SYS_socket, 17, 1000, 0x0300);
    S(SYS_sendto, -1, 0, 0, 0xffffffff, 0, 0);
    for (i = 0; i < 32; i++)
        S(SYS_sendto, -1, 0, 0, 1u << i, 0, 0);
    S(SYS_getsockopt, -1, 2, 0, 0, 0);
    for (i = 0; i < 90; i++)
        S(SYS_getsockopt, -1, 1, i, 0, 0);
    for (i = 0; i < 60; i++)
        S(SYS_getsockopt, -1, 6, i, 0, 0);
    for (i = 0; i < 36; i++)
        S(SYS_getsockopt, -1, 0, i, 0, 0);
    for (i = 16; i < 20; i++)
        S(SYS_getsockopt, -1, 41, i, 0, 0);
    for (i = 0; i < 6; i++)
        S(SYS_shutdown, -1, i);
    for (i = 0; i < 42; i++)
        S(SYS_fcntl, -1, i, 0);
    for (i = 1024; i < 1035; i++)
        S(SYS_fcntl, -1, i, 0);
    S(SYS_fcntl, -1, 2, ~0u);
    S(SYS_fcntl, -1, 4, 0x802);
    S(SYS_fcntl, -1, 1034, 0xff);
    for (i = 0; i < 20; i++)
        S(SYS_prlimit64, 9999999, i, 0, 0);
    for (i = 0; i < 24; i++)
        S(SYS_clock_getres, i, 0);
    S(SYS_clock_getres, -6, 0);
    S(SYS_clock_nanosleep, 20, 3, 0, 0);
    for (i = 0; i < 120; i++)
        S(SYS_madvise, 1, 1, i);
    S(SYS_msync, 1, 1, 0xff);
    S(SYS_mremap, 1, 1, 1, 0xff, 0);
    S(SYS_mremap, 1, 1, 1, 1);
    S(SYS_mremap, 1, 1, 1, 0);
    S(SYS_mlockall, 0xf8);
    S(SYS_mlock2, 1, 1, 0xff);
    for (i = 0; i < 8; i++)
        S(SYS_fadvise64, -1, 0, 0, i);
    for (i = 0; i < 7; i++)
        S(SYS_lseek, -1, 0, i);
    for (i = 0; i < 16; i++)
        S(SYS_futex, 0, i | 128, 0, 0, 0, 0);
    for (i = 0; i < 16; i++)
        S(SYS_futex, 0, i | 256, 5, 0, 0, 0);
    S(SYS_futex, 0, 9, 0, 0, 0, 1);
    S(SYS_futex, 1, 5, 1, 2, 0, 0x12345678);
    for (i = 0; i < 16; i++)
        S(SYS_futex, 1, i, 1, 2, 3, 4);
    S(SYS_epoll_ctl, -1, 0, -1, 0);
    S(SYS_epoll_ctl, -1, 1, -1, 0);
    S(SYS_epoll_ctl, -1, 2, -1, 0);
    S(SYS_epoll_ctl, -1, 3, -1, 0);
    S(SYS_epoll_create1, 0x80001);
    S(SYS_eventfd2, 0, 0xffffffff);
    S(SYS_inotify_init1, 0xffffffff & ~0x80800);
    S(SYS_signalfd4, -1, 0, 8, 0xffffffff);
    S(SYS_timerfd_create, 99, 0x80800);
    S(SYS_timerfd_settime, -1, 7, 0, 0);
    S(SYS_memfd_create, 0, 0xfc000007);
    S(SYS_getrandom, 0, 0, 0xff);
    S(SYS_pipe2, 0, 0xffffffff);
    S(SYS_dup3, -1, -1, 0xffffffff);
    S(SYS_accept4, -1, 0, 0, 0xffffffff);
    S(SYS_splice, -1, 0, -1, 0, 0, 0xff);
    S(SYS_inotify_add_watch, -1, "x", 0xffffffff);
    S(SYS_umount2, "/nonexist", 0xff);
    S(SYS_mount, "a", "/nonexist", "c", 0xffffffff & ~0xc0ed0000, "d");
    S(SYS_mount, "a", "/nonexist", "c", 0xc0ed0000 | 1, "d");
    for (i = 0; i < 32; i++)
        S(SYS_mount, "a", "/nonexist", "c", 1u << i, 0);
    for (i = 0; i < 32; i++)
        S(SYS_unshare, (1u << i) & 0x100);
    for (i = 0; i < 42; i++)
        S(SYS_prctl, 23, i, 0, 0, 0);
    for (i = 0; i < 7; i++)
        S(SYS_sched_setscheduler, 9999999, i, 0);
    S(SYS_arch_prctl, 0x1004, 0);
    S(SYS_arch_prctl, 0x1011, 0);
    S(SYS_arch_prctl, 0x1012, 9);
    S(SYS_arch_prctl, 0x2003, 0);
    for (i = 0; i < 70; i++)
        S(SYS_kill, -9999999, i);
    for (i = 0; i < 5; i++)
        S(SYS_getitimer, i, 0);
    for (i = 0; i < 4; i++)
        S(SYS_getrusage, i, 0);
    S(SYS_getrusage, -1, 0);
    for (i = 0; i < 4; i++)
        S(SYS_rt_sigprocmask, i, 1, 0, 8);
    S(SYS_flock, -1, 0xff);
    for (i = 1; i < 16; i++)
        S(SYS_flock, -1, i);
    S(SYS_close_range, ~0u, 0, 6);
    S(SYS_pidfd_open, -1, 0xffff);
    S(SYS_openat2, -1, "x", 0, 24);
    S(SYS_fallocate, -1, 0xff, 0, 0);
    S(SYS_sync_file_range, -1, 0, 0, 0xff);
    S(SYS_preadv2, -1, 0, 0, 0, 0, 0xff);
    S(SYS_sendmmsg, -1, 0, 0, 0);
    S(SYS_copy_file_range, -1, 0, -1, 0, 1, 0);
    S(SYS_setpriority, 0, -1, 0);
    S(SYS_getpriority, 0, 0);
    S(SYS_getpriority, 9, 0);
    S(SYS_membarrier, 0, 0, 0);
    S(SYS_membarrier, 8, 0, 0);
    S(SYS_membarrier, 16, 0, 0);
    S(SYS_seccomp, 0, 0xff, 0);
    S(SYS_seccomp, 9, 0xff, 0);
    S(SYS_mknodat, -1, "x", 010666, 0);
    S(SYS_mknodat, -1, "x", 020666, 0x501);
    S(SYS_mknodat, -1, "x", 0666, 0x501);
    S(SYS_mknodat, -1, "x", 047777, 0x501);
    S(SYS_setxattr, "/nonexist", "user.a", "abc", 3, 3);
    S(SYS_chmod, "/nonexist", 07777);
    S(SYS_chmod, "/nonexist", 0);
    S(SYS_chmod, "/nonexist", 0177777);

    S(500, 1, 2, 3, 4, 5, 6);
    S(500, 0, 0, 0, 0, 0, 0);
    S(SYS_write, -1, "\1\0028\0019\0017\377\n\t\"\\\r\v\f", 14);
    S(SYS_write, -1, "0123456789012345678901234567890123", 32);
    S(SYS_write, -1, "0123456789012345678901234567890123", 33);
    S(SYS_write, -1, "abc", 0);
    S(SYS_write, -1, 1, 3);
    S(SYS_write, -1, NULL, 3);
    S(SYS_setxattr, "/nonexist", "0123456789012345678901234567890", "abc", 3, 0);
    S(SYS_setxattr, "/nonexist", "01234567890123456789012345678901", "abc", 3, 0);
    S(SYS_setxattr, "/nonexist", "012345678901234567890123456789012", "abc", 3, 0);
    for (i = 0; i < 32; i++)
        S(SYS_dup3, -1, -1, 1u << i);
    S(SYS_exit_group, 0);
}
