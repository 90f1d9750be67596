import { describe, expect, test } from 'vitest';
import { blocksWithout, seccompProfile, type SeccompArg } from './seccomp.ts';

const profile = seccompProfile();

/** What the kernel would do, as far as this profile's operators go. */
function verdict(name: string, args: readonly bigint[] = []): 'allow' | number {
  for (const rule of profile.syscalls) {
    if (!rule.names.includes(name) || !rule.args.every((arg) => holds(arg, args))) continue;
    return rule.action === 'SCMP_ACT_ALLOW' ? 'allow' : (rule.errnoRet ?? 1);
  }
  return 1;
}

function holds(arg: SeccompArg, args: readonly bigint[]): boolean {
  const actual = args[arg.index] ?? 0n;
  if (arg.op === 'SCMP_CMP_EQ') return actual === BigInt(arg.value);
  return (actual & BigInt(arg.value)) === BigInt(arg.valueTwo);
}

describe('the seccomp profile', () => {
  test.each(
    `
    io_uring_setup io_uring_enter io_uring_register bpf perf_event_open userfaultfd keyctl add_key request_key kexec_load
    kexec_file_load init_module finit_module delete_module open_by_handle_at name_to_handle_at mount umount2 fsopen
    fsconfig fsmount fspick move_mount open_tree mount_setattr statmount pivot_root chroot swapon swapoff quotactl
    quotactl_fd fanotify_init fanotify_mark setns unshare ptrace process_vm_readv process_vm_writev process_madvise
    pidfd_getfd kcmp lookup_dcookie modify_ldt memfd_secret vmsplice acct reboot syslog iopl ioperm vhangup
    settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname uselib ustat sysfs nfsservctl _sysctl
    move_pages migrate_pages mbind set_mempolicy process_mrelease personality socket ioctl2`
      .trim()
      .split(/\s+/),
  )('%s is refused', (name) => {
    expect(verdict(name, [99n, 99n, 99n])).toBe(1);
  });

  test('no name is allowed twice, so that no rule undoes another one', () => {
    const plain = profile.syscalls.filter((rule) => rule.args.length === 0).flatMap((rule) => rule.names);
    expect(new Set(plain).size).toBe(plain.length);
    for (const rule of profile.syscalls)
      if (rule.args.length > 0) for (const name of rule.names) expect(plain).not.toContain(name);
  });

  test('clone makes threads and processes but no namespace', () => {
    expect(verdict('clone', [0x3d0f00n])).toBe('allow'); // pthread_create
    expect(verdict('clone', [17n])).toBe('allow'); // fork
    for (const flag of [0x20000n, 0x2000000n, 0x4000000n, 0x8000000n, 0x10000000n, 0x20000000n, 0x40000000n])
      expect(verdict('clone', [flag | 17n])).toBe(1);
    expect(verdict('clone3')).toBe(38);
  });

  test('sockets are UNIX, TCP, UDP and routing netlink', () => {
    const allowed: string[] = [];
    for (let family = 0n; family < 46n; family++)
      for (const protocol of [0n, 6n, 17n, 132n, 262n])
        if (verdict('socket', [family, 1n, protocol]) === 'allow') allowed.push(`${family}/${protocol}`);
    expect(allowed).toEqual([
      '1/0',
      '1/6',
      '1/17',
      '1/132',
      '1/262',
      '2/0',
      '2/6',
      '2/17',
      '10/0',
      '10/6',
      '10/17',
      '16/0',
    ]);
  });

  test('a terminal cannot be typed into, whatever the upper half of the argument', () => {
    for (const request of [0x5412n, 0x541cn, 0x5423n])
      for (const upper of [0n, 1n, 0xffffffffn]) expect(verdict('ioctl', [0n, (upper << 32n) | request])).toBe(1);
    for (const request of [
      0n,
      0x5401n,
      0x5410n,
      0x5411n,
      0x5413n,
      0x541bn,
      0x541dn,
      0x5422n,
      0x5424n,
      0x80045430n,
      0xffffffffn,
    ])
      expect(verdict('ioctl', [0n, request])).toBe('allow');
  });

  test('blocks cover every value but those left out, once', () => {
    const blocks = blocksWithout([0x5412, 0x541c]);
    const covered = blocks.reduce((sum, [mask]) => sum + (~mask >>> 0) + 1, 0);
    expect(covered).toBe(2 ** 32 - 2);
  });
});
