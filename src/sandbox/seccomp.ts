/**
 * The system calls of a sandbox, in the JSON form of Docker 20.10 and later (and Podman). Promises:
 *  - what is not listed fails with EPERM; there is no 32-bit and no x32 entry into the kernel;
 *  - no new namespace by clone, unshare or setns; clone3, whose flags a filter cannot see, does not exist (ENOSYS, so
 *    that C libraries fall back to clone);
 *  - no io_uring, bpf, perf, userfaultfd, keys, modules, kexec, mounts, file handles, quotas, fanotify, swap, ptrace,
 *    process_vm_*, pidfd_getfd, kcmp, modify_ldt, memfd_secret, vmsplice, clock setting, port or log access;
 *  - sockets are UNIX, TCP, UDP (IPv4 and IPv6) and routing netlink;
 *  - no typing into a terminal (TIOCSTI, TIOCLINUX) and no change of its line discipline (TIOCSETD), whatever stands in
 *    the upper half of the argument, which the kernel does not look at.
 */
export interface SeccompProfile {
  readonly defaultAction: 'SCMP_ACT_ERRNO';
  readonly archMap: readonly { readonly architecture: string; readonly subArchitectures: readonly string[] }[];
  readonly syscalls: readonly SeccompRule[];
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO';
  readonly errnoRet?: number;
  readonly args: readonly SeccompArg[];
}

export interface SeccompArg {
  readonly index: number;
  readonly op: 'SCMP_CMP_EQ' | 'SCMP_CMP_MASKED_EQ';
  readonly value: number;
  readonly valueTwo: number;
}

export function seccompProfile(): SeccompProfile {
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    archMap: [
      { architecture: 'SCMP_ARCH_X86_64', subArchitectures: [] },
      { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: [] },
    ],
    syscalls: [
      allow(groups.flatMap((names) => names.trim().split(/\s+/))),
      allow(['clone'], masked(0, namespaceFlags, 0)),
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS, args: [] },
      ...personalities.map((value) => allow(['personality'], equal(0, value))),
      ...sockets.map(([family, protocol]) => allow(['socket'], equal(0, family), equal(2, protocol))),
      allow(['socket'], equal(0, AF_UNIX)),
      allow(['socketpair'], equal(0, AF_UNIX)),
      ...blocksWithout(terminalInjection).map(([mask, value]) => allow(['ioctl'], masked(1, mask, value))),
    ],
  };
}

const ENOSYS = 38;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const namespaceFlags = 0x7e020000;

/** PER_LINUX, PER_LINUX32, each with and without UNAME26, and "what is it now?". None turns address randomisation off. */
const personalities = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff];

const sockets = [
  [AF_INET, 0],
  [AF_INET, 6],
  [AF_INET, 17],
  [AF_INET6, 0],
  [AF_INET6, 6],
  [AF_INET6, 17],
  [AF_NETLINK, 0],
] as const;

/** TIOCSTI, TIOCLINUX, TIOCSETD. */
const terminalInjection = [0x5412, 0x541c, 0x5423];

/**
 * Everything that a 32-bit argument can be but these values, as `[mask, value]` blocks. Comparing "not equal" would look
 * at 64 bits and let 0x1_0000_5412 pass; masks do not.
 */
export function blocksWithout(values: readonly number[], bit = 31, prefix = 0): [number, number][] {
  const mask = bit === 31 ? 0 : (0xffffffff << (bit + 1)) >>> 0;
  if (!values.some((value) => (value & mask) >>> 0 === prefix)) return [[mask, prefix]];
  if (bit < 0) return [];
  const one = (prefix | (1 << bit)) >>> 0;
  return [...blocksWithout(values, bit - 1, prefix), ...blocksWithout(values, bit - 1, one)];
}

function allow(names: readonly string[], ...args: SeccompArg[]): SeccompRule {
  return { names, action: 'SCMP_ACT_ALLOW', args };
}

function equal(index: number, value: number): SeccompArg {
  return { index, op: 'SCMP_CMP_EQ', value, valueTwo: 0 };
}

function masked(index: number, mask: number, value: number): SeccompArg {
  return { index, op: 'SCMP_CMP_MASKED_EQ', value: mask, valueTwo: value };
}

const files = `
  access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
  fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr
  fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr lchown lgetxattr link linkat
  listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2
  pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat
  renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate
  umask unlink unlinkat utime utimensat utimes write writev cachestat`;

const waiting = `
  epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 inotify_add_watch
  inotify_init inotify_init1 inotify_rm_watch pause pipe pipe2 poll ppoll pselect6 select signalfd signalfd4
  timerfd_create timerfd_gettime timerfd_settime io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit`;

const memory = `
  brk madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap mseal msync
  munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect`;

const processes = `
  arch_prctl capget capset execve execveat exit exit_group fork vfork getegid geteuid getgid getgroups getpgid getpgrp
  getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid kill pidfd_open
  pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
  rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo seccomp landlock_create_ruleset landlock_add_rule
  landlock_restrict_self setfsgid setfsuid setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid
  setrlimit setsid setuid sigaltstack tgkill tkill wait4 waitid set_robust_list get_robust_list set_tid_address futex
  futex_requeue futex_wait futex_waitv futex_wake ioprio_get ioprio_set`;

const scheduling = `
  getcpu sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
  sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
  sched_yield`;

const time = `
  alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create
  timer_delete timer_getoverrun timer_gettime timer_settime times`;

const connections = `
  accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
  sendto setsockopt shutdown`;

const exchange = `
  mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget
  semop semtimedop shmat shmctl shmdt shmget`;

const facts = `getrandom sysinfo uname`;

const groups = [files, waiting, memory, processes, scheduling, time, connections, exchange, facts];
