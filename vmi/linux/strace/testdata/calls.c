/*
 * Makes the system calls whose form the decoder knows, with arguments that are
 * the same in every run at the same addresses. The test compares strace's text
 * for it with the decoder's. Calls that fail are as good as any.
 */
#define _GNU_SOURCE
#include <unistd.h>
#include <sys/syscall.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <poll.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/times.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <time.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/resource.h>
#include <sched.h>
#include <sys/sendfile.h>
#include <sys/timerfd.h>
#include <sys/time.h>
#include <sys/prctl.h>
#include <linux/futex.h>
#include <errno.h>
#define S(...) syscall(__VA_ARGS__)
static void h(int s)
{
}

int main(void)
{
    int p[2], sv[2];
    char b[5000];
    pipe(p);
    write(p[1], "hello", 5);
    struct pollfd pf[2] = { { p[0], POLLIN | POLLPRI, 0 }, { p[1], POLLOUT, 0 } };
    poll(pf, 2, 0);
    poll(pf, 1, 0);
    struct pollfd pe = { p[1], 0x7fff & ~POLLOUT, 0 };
    poll(&pe, 1, 0);
    poll(NULL, 0, 1);
    struct pollfd pn = { -1, 0, 0 };
    poll(&pn, 1, 0);
    poll((void *) 1, 1, 0);
    {
        struct timespec t = { 0, 1000 };
        sigset_t m;
        sigemptyset(&m);
        sigaddset(&m, 2);
        S(SYS_ppoll, pf, 2, &t, &m, 8);
        S(SYS_ppoll, &pn, 1, &t, 0, 8);
    }
    fd_set r, w, x;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&x);
    FD_SET(p[0], &r);
    FD_SET(p[1], &w);
    struct timeval tv = { 1, 0 };
    S(SYS_select, 10, &r, &w, &x, &tv);
    FD_ZERO(&r);
    tv.tv_sec = 0;
    tv.tv_usec = 100;
    S(SYS_select, 10, &r, 0, 0, &tv);
    S(SYS_select, 0, 0, 0, 0, &tv);
    {
        struct timespec t = { 0, 1000 };
        sigset_t m;
        sigemptyset(&m);
        struct {
            void *p;
            long n;
        } sm = { &m, 8 };
        FD_SET(p[1], &w);
        S(SYS_pselect6, 10, 0, &w, 0, &t, &sm);
        FD_ZERO(&r);
        S(SYS_pselect6, 10, &r, 0, 0, &t, 0);
    }
    int ep = epoll_create1(0);
    struct epoll_event e = { EPOLLIN | EPOLLET | EPOLLRDHUP, {.fd = p[0] } };
    epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e);
    e.data.u64 = 0x123456789abcULL;
    e.events = 0xffffffff;
    epoll_ctl(ep, EPOLL_CTL_MOD, 99, &e);
    epoll_ctl(ep, EPOLL_CTL_DEL, 99, &e);
    epoll_wait(ep, &e, 4, 0);
    S(SYS_epoll_pwait, ep, &e, 4, 0, 0, 8);
    read(p[0], b, 100);
    epoll_wait(ep, &e, 4, 0);
    epoll_create(3);
    epoll_wait(99, &e, 4, 0);
    {
        struct timespec t = { 0, 0 };
        S(SYS_epoll_pwait2, ep, &e, 4, &t, 0, 8);
    }
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv);
    struct iovec io[3] = { { "abc", 3 }, { "defg", 4 }, { 0, 0 } };
    writev(sv[0], io, 3);
    struct iovec ir[2] = { { b, 2 }, { b + 10, 100 } };
    readv(sv[1], ir, 2);
    writev(-1, io, 3);
    writev(99, (void *) 8, 3);
    writev(99, io, 0);
    readv(99, ir, 2);
    struct msghdr mh = { 0 };
    mh.msg_iov = io;
    mh.msg_iovlen = 2;
    sendmsg(sv[0], &mh, MSG_NOSIGNAL);
    struct msghdr mr = { 0 };
    char cb[64];
    mr.msg_iov = ir;
    mr.msg_iovlen = 2;
    mr.msg_control = cb;
    mr.msg_controllen = 64;
    recvmsg(sv[1], &mr, MSG_CMSG_CLOEXEC);
    {
        char cbuf[CMSG_SPACE(8)];
        memset(cbuf, 0, sizeof cbuf);
        struct msghdr m = { 0 };
        m.msg_iov = io;
        m.msg_iovlen = 1;
        m.msg_control = cbuf;
        m.msg_controllen = sizeof cbuf;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(8);
        ((int *) CMSG_DATA(c))[0] = 0;
        ((int *) CMSG_DATA(c))[1] = 1;
        sendmsg(sv[0], &m, 0);
        mr.msg_controllen = 64;
        recvmsg(sv[1], &mr, 0);
    }
    recvmsg(99, &mr, 0); {
        struct mmsghdr mm[2];
        memset(mm, 0, sizeof mm);
        mm[0].msg_hdr = mh;
        mm[1].msg_hdr = mh;
        sendmmsg(sv[0], mm, 2, 0);
        mm[0].msg_hdr.msg_iov = ir;
        mm[0].msg_hdr.msg_iovlen = 2;
        recvmmsg(sv[1], mm, 1, MSG_DONTWAIT, 0);
    }
    int s = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, 4);
    struct linger lg = { 1, 5 };
    setsockopt(s, SOL_SOCKET, SO_LINGER, &lg, 8);
    struct timeval to = { 5, 0 };
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &to, 16);
    setsockopt(s, 6, 1, &one, 4);
    struct sockaddr_in a = { AF_INET, htons(0), { htonl(0x7f000001) } };
    bind(s, (void *) &a, sizeof a);
    listen(s, 5);
    socklen_t al = sizeof a;
    getsockname(s, (void *) &a, &al);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(c, (void *) &a, sizeof a);
    struct sockaddr_storage ss;
    al = sizeof ss;
    int d = accept4(s, (void *) &ss, &al, SOCK_CLOEXEC);
    al = 8;
    getpeername(d, (void *) &ss, &al);
    int er;
    al = 4;
    getsockopt(c, SOL_SOCKET, SO_ERROR, &er, &al);
    al = 16;
    getsockopt(c, SOL_SOCKET, SO_ERROR, &er, &al);
    struct ucred uc;
    al = 12;
    getsockopt(sv[0], SOL_SOCKET, SO_PEERCRED, &uc, &al);
    sendto(c, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL, 0, 0);
    recvfrom(d, b, 100, 0, 0, 0);
    al = sizeof ss;
    recvfrom(d, b, 100, MSG_DONTWAIT, (void *) &ss, &al);
    shutdown(c, 1);
    recvfrom(d, b, 100, 0, 0, 0);
    int u = socket(AF_INET6, SOCK_DGRAM, 17);
    struct sockaddr_in6 a6 = { AF_INET6, htons(53), 0, IN6ADDR_LOOPBACK_INIT, 0 };
    connect(u, (void *) &a6, sizeof a6);
    a.sin_port = htons(9);
    int us = socket(AF_INET, SOCK_DGRAM, 0);
    bind(us, (void *) &(struct sockaddr_in) { AF_INET, 0 }, 16);
    al = 16;
    getsockname(us, (void *) &a, &al);
    a.sin_addr.s_addr = htonl(0x7f000001);
    sendto(us, "x", 1, 0, (void *) &a, 16);
    al = sizeof ss;
    recvfrom(us, b, 10, 0, (void *) &ss, &al);
    struct sockaddr_un un = { AF_UNIX, "/nonexist/sock" };
    connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *) &un, sizeof un);
    un.sun_path[0] = 0;
    memcpy(un.sun_path + 1, "abs\0x", 5);
    connect(99, (void *) &un, 8);
    connect(99, (void *) &un, 2);
    connect(99, 0, 0);
    connect(99, (void *) 1, 16);
    un.sun_family = 99;
    memcpy(un.sun_path, "qwertyuiopasdfghjklzxcvbnmqwertyuiop", 36);
    connect(99, (void *) &un, 10);
    connect(99, (void *) &un, 100);
    connect(99, (void *) &un, 500);
    struct {
        short f, p;
        int pid;
        int g;
    } nl = { 16, 0, 0, 1 };
    connect(99, (void *) &nl, 12);
    connect(99, (void *) &a, 8);
    struct winsize ws;
    ioctl(0, TIOCGWINSZ, &ws);
    ioctl(p[0], FIONREAD, &er);
    ioctl(p[0], FIONBIO, &one);
    ioctl(99, 0xdeadbeef, 5);
    ioctl(99, 0x1234, 0);
    ioctl(99, 0x80081234, 1);
    ioctl(99, 0x5401, 0);
    ioctl(99, FIOCLEX);
    ioctl(99, 0x540e, 1);
    ioctl(99, TIOCSPGRP, &one);
    ioctl(99, 0x5413, b);
    int pt = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    ioctl(pt, 0x5401, b);
    ioctl(pt, 0x5402, b);
    ioctl(pt, 0x80045430, &er);
    int z = 0;
    ioctl(pt, 0x40045431, &z);
    ioctl(pt, 0x5413, &ws);
    ioctl(pt, 0x5414, &ws);
    ioctl(pt, 0x540f, &er);
    struct sigaction sa = { 0 };
    sa.sa_handler = h;
    sigaddset(&sa.sa_mask, 2);
    sigaddset(&sa.sa_mask, 40);
    sa.sa_flags = SA_RESTART;
    sigaction(10, &sa, 0);
    sigaction(10, 0, &sa);
    sa.sa_handler = SIG_IGN;
    sigaction(12, &sa, 0);
    sigset_t m;
    sigfillset(&m);
    sigprocmask(SIG_BLOCK, &m, 0);
    sigemptyset(&m);
    S(SYS_rt_sigprocmask, SIG_SETMASK, &m, b, 8);
    S(SYS_rt_sigprocmask, SIG_SETMASK, 0, b, 8);
    sigaddset(&m, 2);
    sigaddset(&m, 10);
    S(SYS_rt_sigprocmask, SIG_BLOCK, &m, b, 8);
    sigdelset(&m, 2);
    sigdelset(&m, 10);
    S(SYS_rt_sigprocmask, SIG_SETMASK, &m, b, 8);
    S(SYS_rt_sigprocmask, 77, &m, b, 9);
    {
        unsigned long q;
        int k;
        for (k = 0; k < 64; k += 1) {
            q = (k == 63) ? ~0UL : ((1UL << (k + 1)) - 1);
            S(SYS_rt_sigpending, 0, q);
            S(SYS_rt_sigprocmask, 99, &q, 0, 8);
        }
    }
    stack_t st = { b, 0, 4096 };
    sigaltstack(&st, 0);
    sigaltstack(0, &st);
    st.ss_flags = SS_DISABLE;
    sigaltstack(&st, &st);
    kill(getpid(), 10);
    raise(10);
    struct stat sb;
    S(SYS_stat, "/dev/null", &sb);
    S(SYS_lstat, "/proc/self", &sb);
    S(SYS_stat, "/tmp", &sb);
    S(SYS_stat, "/usr/bin/passwd", &sb);
    struct statx sx;
    statx(AT_FDCWD, "/tmp", 0, STATX_ALL, &sx);
    statx(AT_FDCWD, "/etc/passwd", AT_SYMLINK_NOFOLLOW, 0x17ff, &sx);
    struct statfs sf;
    statfs("/tmp", &sf);
    statfs("/proc", &sf);
    statfs("/sys", &sf);
    struct tms tm;
    times(&tm);
    struct sysinfo si;
    sysinfo(&si);
    struct rusage ru;
    getrusage(0, &ru);
    fcntl(0, F_GETFL);
    fcntl(0, F_GETFD);
    fcntl(sv[0], F_GETFD);
    fcntl(sv[0], F_SETFD, 0);
    fcntl(sv[0], F_GETFD);
    int dd = fcntl(0, F_DUPFD, 10);
    fcntl(0, F_DUPFD_CLOEXEC, 10);
    struct flock fl = { F_WRLCK, SEEK_SET, 0, 10, 0 };
    fcntl(p[0], F_SETLK, &fl);
    int tf = open("tmpf", O_RDWR | O_CREAT, 0600);
    fcntl(tf, F_SETLK, &fl);
    fcntl(tf, F_GETLK, &fl);
    fcntl(tf, F_SETOWN, 5);
    fcntl(tf, F_GETOWN);
    fcntl(tf, 1025, 0);
    fcntl(tf, 1032);
    fcntl(p[0], 1032);
    fcntl(99, 1033, 3);
    fcntl(99, 0x123, 3);
    write(tf, "abcdefghij", 10);
    off_t off = 0;
    lseek(tf, 0, 0);
    int tf2 = open("tmpg", O_RDWR | O_CREAT | O_TRUNC, 0600);
    sendfile(tf2, tf, &off, 4);
    sendfile(tf2, tf, &off, 400);
    sendfile(tf2, tf, 0, 4);
    S(SYS_sendfile, tf2, tf, &off, 4);
    S(SYS_copy_file_range, tf, &off, tf2, &off, 2, 0);
    S(SYS_splice, tf, &off, p[1], 0, 2, 0);
    futimens(tf, 0);
    struct timespec ts[2] = { { 1700000000, 0 }, { 1700000000, 123 } };
    futimens(tf, ts);
    ts[0].tv_nsec = UTIME_NOW;
    ts[1].tv_nsec = UTIME_OMIT;
    utimensat(AT_FDCWD, "tmpf", ts, 0); {
        struct timeval tz[2] = { { 1, 2 }, { 3, 0 } };
        S(SYS_utimes, "tmpf", tz);
    } {
        long tz[2] = { 5, 6 };
        S(SYS_utime, "tmpf", tz);
    } S(SYS_time, 0);
    S(SYS_time, &off);
    S(SYS_gettimeofday, &tv, 0);
    S(SYS_clock_gettime, 0, ts); {
        int tz[2];
        S(SYS_gettimeofday, &tv, tz);
    }
    struct timespec sl = { 0, 1000 };
    S(SYS_nanosleep, &sl, &sl);
    S(SYS_nanosleep, &sl, 0);
    S(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &sl, &sl);
    struct itimerval iv = { { 0, 0 }, { 100, 0 } }, ov;
    setitimer(ITIMER_REAL, &iv, &ov);
    getitimer(0, &ov);
    int tfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec is = { { 0, 0 }, { 1, 0 } };
    timerfd_settime(tfd, 0, &is, 0);
    timerfd_gettime(tfd, &is);
    alarm(0);
    alarm(0);
    struct sigevent se = {.sigev_notify = SIGEV_SIGNAL,.sigev_signo = 10 };
    int tid;
    S(SYS_timer_create, CLOCK_MONOTONIC, &se, &tid);
    S(SYS_timer_delete, tid);
    cpu_set_t cs;
    S(SYS_sched_getaffinity, 0, 128, &cs);
    S(SYS_sched_setaffinity, 0, 8, &cs);
    S(SYS_sched_getscheduler, 0);
    int pr;
    S(SYS_sched_getparam, 0, &pr);
    S(SYS_getcpu, &pr, 0, 0);
    S(SYS_sched_get_priority_max, 1);
    struct rlimit rl;
    S(SYS_getrlimit, 7, &rl);
    S(SYS_prlimit64, 0, 3, 0, &rl);
    S(SYS_prlimit64, 0, 3, &rl, 0);
    S(SYS_setrlimit, 4, &rl);
    prctl(PR_SET_NAME, "a-very-long-thread-name");
    prctl(PR_GET_NAME, b);
    prctl(PR_SET_PDEATHSIG, 9);
    prctl(PR_GET_PDEATHSIG, &er);
    prctl(PR_GET_DUMPABLE);
    prctl(PR_SET_DUMPABLE, 1);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_GET_CHILD_SUBREAPER, &er);
    prctl(PR_CAPBSET_READ, 21);
    prctl(999, 1, 2, 3, 4);
    prctl(PR_SET_VMA, 0, b, 4096, "nm");
    prctl(PR_SET_KEEPCAPS, 0);
    prctl(PR_GET_TIMERSLACK);
    S(SYS_capget, (int[]) { 0x20080522, 0 }, b);
    S(SYS_getresuid, b, b + 4, b + 8);
    S(SYS_setresuid, -1, -1, -1);
    S(SYS_getgroups, 10, b);
    S(SYS_getgroups, 0, 0);
    getpgid(0);
    S(SYS_getrandom, b, 4, 1);
    S(SYS_getcwd, b, 5000);
    S(SYS_uname, b);
    S(SYS_personality, 0xffffffff);
    S(SYS_umask, 022);
    S(SYS_umask, 022);
    S(SYS_futex, &one, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, &sl);
    S(SYS_futex, &one, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | 256, 1, &sl, 0, -1);
    S(SYS_futex, &one, FUTEX_WAKE, 0x7fffffff);
    S(SYS_getxattr, "/tmp", "user.x", b, 255);
    S(SYS_listxattr, "/tmp", b, 100);
    S(SYS_listxattr, "/tmp", 0, 0);
    S(SYS_setxattr, "tmpf", "user.x", "val\1", 4, 0);
    S(SYS_getxattr, "tmpf", "user.x", b, 0);
    S(SYS_getxattr, "tmpf", "user.x", b, 10);
    S(SYS_listxattr, "tmpf", b, 100);
    S(SYS_readlink, "/proc/self/exe", b, 100);
    S(SYS_readlink, "/proc/self/exe", b, 3);
    int dfd = open(".", O_RDONLY | O_DIRECTORY);
    S(SYS_getdents64, dfd, b, 5000);
    S(SYS_getdents64, dfd, b, 5000);
    S(SYS_openat2, AT_FDCWD, "/etc/passwd", (long[]) { O_CREAT, 0644, 8 }, 24);
    pid_t k = fork();
    if (!k) {
        _exit(3);
    }
    int wst;
    wait4(k, &wst, 0, &ru);
    k = fork();
    if (!k) {
        raise(9);
    }
    waitpid(k, &wst, 0);
    wait4(-1, &wst, WNOHANG, 0);
    k = fork();
    if (!k)
        _exit(0);
    siginfo_t sii;
    S(SYS_waitid, P_PID, k, &sii, WEXITED, 0);
    k = fork();
    if (!k) {
        raise(SIGSTOP);
        _exit(0);
    }
    waitpid(k, &wst, WUNTRACED);
    wait4(-1, &wst, WNOHANG, 0);
    kill(k, 9);
    S(SYS_waitid, P_PID, k, &sii, WEXITED, &ru);
    k = vfork();
    if (!k)
        _exit(1);
    S(SYS_inotify_add_watch, S(SYS_inotify_init1, 0x80800), "/tmp", 2 | 0x100);
    S(SYS_signalfd4, -1, &m, 8, 0x80800);
    S(SYS_eventfd2, 0, 0x80800);
    S(SYS_eventfd2, 0, 1);
    S(SYS_memfd_create, "mf", 3);
    S(SYS_memfd_create, "mf", 4 | (21 << 26));
    S(SYS_mincore, main, 1, b);
    S(SYS_arch_prctl, 0x1003, b);
    S(SYS_rseq, b, 32, 0, 0x53053053);
    S(SYS_membarrier, 0, 0, 0);
    S(SYS_execve, "/nonexist", (char *[]) { "a", "b", 0 }, (char *[]) { "X=1", 0 });
    S(SYS_execve, "/nonexist", 0, 0);
    S(SYS_execve, "/nonexist", 1, 1); {
        char *av[40];
        int i;
        for (i = 0; i < 39; i++)
            av[i] = "arg";
        av[39] = 0;
        S(SYS_execve, "/nonexist", av, av + 39);
    }
    {
        char **q = (void *) (((long) b + 4095) & ~4095);
        q[0] = "x";
    }
    S(SYS_sched_setscheduler, 0, 0, &z);
    if (!S(SYS_clone, 0x7f, 0, 0, 0, 0))
        _exit(0);
    S(SYS_clone, 0x3d0f00 | 0x20000, 0, 0, 0, 0);
    S(SYS_clone3, (long[]) { 0x20000 | 0x3d0f00, 0, 0x10, 0x20, 0, 0, 0, 0x30, 0, 0, 0 }, 88);
    S(SYS_clone3, 1, 88);
    S(SYS_clone3, (long[]) { 0x20000 | 0x3d0f00, 0, 0x10, 0x20, 0, 0, 0, 0x30, 0, 0, 0 }, 8);
    S(SYS_socket, 2, 1, 0);
    S(SYS_preadv, tf, ir, 2, 0);
    S(SYS_pwritev2, tf, io, 2, 0, 0, 0);
    S(SYS_pread64, tf, b, 4, 2);
    S(SYS_pwrite64, tf, "zz", 2, 2);
    S(SYS_fallocate, tf, 0, 0, 100);
    S(SYS_mremap, (void *) (((long) b) & ~4095), 0, 0, 0);
    S(SYS_getpriority, 0, 0);
    S(SYS_sysinfo, 1);
    S(SYS_set_robust_list, b, 24);
    S(SYS_kill, 99999999, 0);
    S(SYS_tgkill, 1, 2, 200);
    S(SYS_access, "/", 4);
    S(SYS_chmod, "/nonexist", 02755);
    S(SYS_rt_sigtimedwait, &m, 0, &sl, 8);
    S(SYS_io_uring_setup, 0, 0);
    S(SYS_seccomp, 0, 1, 0);
    S(SYS_ptrace, 0, 1, 2, 3);
    S(SYS_shmget, 0, 4096, 01600);
    S(SYS_semget, 0, 1, 01600);
    S(SYS_msgget, 0, 01600);
    S(SYS_perf_event_open, 0, 0, 0, 0, 0);
    S(SYS_process_vm_readv, 0, 0, 0, 0, 0, 0);
    S(SYS_getitimer, 0, &ov);
    S(SYS_sched_rr_get_interval, 0, ts);
    S(SYS_get_robust_list, 0, b, b + 8);
    S(SYS_delete_module, "x", 0);
    S(SYS_finit_module, -1, "x", 0);
    S(SYS_pidfd_open, 1, 0);
    S(SYS_swapon, "x", 0);
    return 0;
}
