#include "filter.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* The kernel's interface (seccomp(2)), whose headers a bare C library does not bring. */
struct filter_step {
  uint16_t code;
  uint8_t ifTrue;
  uint8_t ifFalse;
  uint32_t value;
};

struct filter_program {
  unsigned short length;
  const struct filter_step *steps;
};

struct filter_call {
  uint32_t number;
  uint32_t architecture;
  uint64_t address;
  uint64_t arguments[6];
};

enum { MODE_FILTER = 2 };
enum { LOAD = 0x20, IF_EQUAL = 0x15, IF_AT_LEAST = 0x35, IF_ANY_BIT = 0x45, RETURN = 0x06 };

#define ALLOW 0x7fff0000u
#define END_PROCESS 0x80000000u
#define FAIL(code) (0x00050000u | (code))

#if defined(__x86_64__)
#define ARCHITECTURE 0xc000003eu
#elif defined(__aarch64__)
#define ARCHITECTURE 0xc00000b7u
#else
#error "the filter knows x86_64 and aarch64"
#endif

/* Low halves: both processors are little-endian, and the kernel looks at no more of these arguments. */
#define LOAD_FIELD(field) {LOAD, 0, 0, offsetof(struct filter_call, field)}
#define END_WITH(action) {RETURN, 0, 0, (action)}
#define REFUSE_WITH(number, code) {IF_EQUAL, 0, 1, (number)}, END_WITH(FAIL(code))
#define REFUSE(number) REFUSE_WITH(number, EPERM)

#define X32_CALLS 0x40000000u
/* CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
#define NAMESPACES 0x7e020000u
/* Typing into a terminal, and changing its line discipline. */
enum { TERMINAL_TYPE = 0x5412, TERMINAL_CONSOLE = 0x541c, TERMINAL_DISCIPLINE = 0x5423 };

static const struct filter_step steps[] = {
    LOAD_FIELD(architecture),
    {IF_EQUAL, 1, 0, ARCHITECTURE},
    END_WITH(END_PROCESS),
    LOAD_FIELD(number),
#if defined(__x86_64__)
    {IF_AT_LEAST, 0, 1, X32_CALLS},
    END_WITH(FAIL(ENOSYS)),
#endif
    REFUSE(SYS_unshare),
    REFUSE(SYS_setns),
    REFUSE(SYS_setgroups),
    REFUSE(SYS_mount),
    REFUSE(SYS_umount2),
    REFUSE(SYS_pivot_root),
    REFUSE(SYS_chroot),
    REFUSE(SYS_ptrace),
    REFUSE(SYS_process_vm_readv),
    REFUSE(SYS_process_vm_writev),
    REFUSE(SYS_keyctl),
    REFUSE(SYS_add_key),
    REFUSE(SYS_request_key),
    REFUSE(SYS_bpf),
    REFUSE(SYS_perf_event_open),
    REFUSE(SYS_userfaultfd),
    REFUSE(425 /* io_uring_setup */),
    REFUSE(426 /* io_uring_enter */),
    REFUSE(427 /* io_uring_register */),
    REFUSE_WITH(435 /* clone3, whose flags a filter cannot see: C libraries fall back to clone */, ENOSYS),
    {IF_EQUAL, 0, 4, SYS_clone},
    LOAD_FIELD(arguments[0]),
    {IF_ANY_BIT, 0, 1, NAMESPACES},
    END_WITH(FAIL(EPERM)),
    END_WITH(ALLOW),
    {IF_EQUAL, 0, 6, SYS_ioctl},
    LOAD_FIELD(arguments[1]),
    {IF_EQUAL, 3, 0, TERMINAL_TYPE},
    {IF_EQUAL, 2, 0, TERMINAL_CONSOLE},
    {IF_EQUAL, 1, 0, TERMINAL_DISCIPLINE},
    END_WITH(ALLOW),
    END_WITH(FAIL(EPERM)),
    END_WITH(ALLOW),
};

int filter_ensure(void) {
  const struct filter_program program = {sizeof steps / sizeof *steps, steps};
  if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == MODE_FILTER) {
    return 0;
  }
  return prctl(PR_SET_SECCOMP, MODE_FILTER, &program, 0, 0);
}
