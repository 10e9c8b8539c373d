"""The filter of system calls, run by a small BPF interpreter."""

import errno

import pytest

from rlvr_jax.verifiers import sandbox

X86, ARM = (sandbox._ARCHES[a] for a in ('x86_64', 'aarch64'))
ALLOW = 'allow'


def decide(program, audit, nr, args=(0,) * 6):
  """Returns the decision on a call: `ALLOW`, or the name of an error."""
  data = {0: nr, 4: audit}
  data |= {16 + 8 * i: a & 0xFFFFFFFF for i, a in enumerate(args)}
  data |= {20 + 8 * i: a >> 32 for i, a in enumerate(args)}
  at, a = 0, 0
  while True:
    code, yes, no, k = program[at]
    at += 1
    if code == 0x20:
      a = data[k]
    elif code == 0x06:
      if k == 0x7FFF0000:
        return ALLOW
      assert k >> 16 == 5
      return errno.errorcode[k & 0xFFFF]
    else:
      true = {0x15: a == k, 0x35: a >= k, 0x45: bool(a & k)}[code]
      at += yes if true else no


READ, WRITE, CREATE, TRUNCATE = 0, 1, 0o102, 0o1000
THREAD = 0x3D0F00  # the flags of pthread_create


@pytest.mark.parametrize(
  ('arch', 'nr', 'args', 'decision'),
  [
    (X86, 0, (), ALLOW),  # read
    (X86, 1, (), ALLOW),  # write, to a pipe
    (X86, 9, (), ALLOW),  # mmap
    (X86, 231, (), ALLOW),  # exit_group
    (X86, 38, (), ALLOW),  # setitimer
    (X86, 41, (), 'EPERM'),  # socket
    (X86, 57, (), 'EPERM'),  # fork
    (X86, 59, (), 'EPERM'),  # execve
    (X86, 62, (), 'EPERM'),  # kill
    (X86, 87, (), 'EPERM'),  # unlink
    (X86, 425, (), 'EPERM'),  # io_uring_setup
    (X86, 435, (), 'ENOSYS'),  # clone3
    (X86, 437, (), 'ENOSYS'),  # openat2
    (X86, 2, (0, READ), ALLOW),  # open
    (X86, 2, (0, CREATE), 'EPERM'),
    (X86, 257, (0, 0, READ), ALLOW),  # openat
    (X86, 257, (0, 0, WRITE), 'EPERM'),
    (X86, 257, (0, 0, TRUNCATE), 'EPERM'),
    (X86, 56, (THREAD,), ALLOW),  # clone
    (X86, 56, (0x1200011,), 'EPERM'),  # as fork does
    (X86, 302, (0, 7), ALLOW),  # prlimit64: reads a limit
    (X86, 302, (0, 9, 1 << 32), 'EPERM'),  # sets one, of this process
    (X86, 302, (123, 0, 4096), 'EPERM'),  # of another
    (X86, 72, (0, 1030), ALLOW),  # fcntl(F_DUPFD_CLOEXEC)
    (X86, 72, (0, 8, 123), 'EPERM'),  # F_SETOWN, whom to send
    (X86, 72, (0, 10, 9), 'EPERM'),  # F_SETSIG, which signal
    (X86, 16, (0, 0x5401), ALLOW),  # ioctl, as isatty does
    (X86, 16, (0, 0x5412), 'EPERM'),  # TIOCSTI: types into the terminal
    (X86, 16, (0, 0x40086602), 'EPERM'),  # flags of a file
    (X86, 157, (15,), ALLOW),  # prctl: name of a thread
    (X86, 157, (1, 0), 'EPERM'),  # to outlive the worker
    (X86, 141, (0, 123, 19), 'EPERM'),  # setpriority
    (X86, 0x40000000 + 41, (), 'EPERM'),  # the x32 calls
    (ARM, 63, (), ALLOW),  # read
    (ARM, 198, (), 'EPERM'),  # socket
    (ARM, 221, (), 'EPERM'),  # execve
    (ARM, 35, (), 'EPERM'),  # unlinkat
    (ARM, 129, (), 'EPERM'),  # kill
    (ARM, 56, (0, 0, READ), ALLOW),  # openat
    (ARM, 56, (0, 0, CREATE), 'EPERM'),
    (ARM, 220, (THREAD,), ALLOW),  # clone
    (ARM, 220, (17,), 'EPERM'),
    (ARM, 261, (0, 9, 4096), 'EPERM'),  # prlimit64
    (ARM, 29, (0, 0x5412), 'EPERM'),  # ioctl
    (ARM, 435, (), 'ENOSYS'),
  ],
)
def test_decisions_of_the_filter(arch, nr, args, decision):
  program = sandbox._program(*arch)
  args = (*args, *(0,) * (6 - len(args)))
  assert decide(program, arch[1], nr, args) == decision
  # The same number as another machine's call is refused, whatever it is.
  assert decide(program, 0x40000003, nr, args) == 'EPERM'


def test_programs_are_short_enough_and_end():
  for arch in (X86, ARM):
    program = sandbox._program(*arch)
    assert len(program) < 4096
    assert program[-1][0] == 0x06
