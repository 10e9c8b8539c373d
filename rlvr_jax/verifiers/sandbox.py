"""How does a checking process give up network, writing and new processes?

Model output is never evaluated: that is the first line of defence. If a checker
is exploited all the same, it runs in a process without network, without write
access, without new processes: on Linux (x86-64, arm64) by a filter of system
calls (seccomp), elsewhere by resource limits alone. The filter is a deny list,
so reading files and importing modules work as before.

Sources: the kernel's Documentation/userspace-api/seccomp_filter.rst; numbers
of system calls from arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h.
"""

import contextlib
import ctypes
import errno
import os
import platform
import signal
import socket
import struct
import sys

WALLS = ('network', 'writing', 'processes')

# Name, number on x86-64, number on arm64; -: the call does not exist there.
_DENIED = {
  'network': """
    socket 41 198, connect 42 203, accept 43 202, sendto 44 206,
    sendmsg 46 211, bind 49 200, listen 50 201, socketpair 53 199,
    accept4 288 242, sendmmsg 307 269
  """,
  'writing': """
    truncate 76 45, ftruncate 77 46, rename 82 -, mkdir 83 -, rmdir 84 -,
    creat 85 -, link 86 -, unlink 87 -, symlink 88 -, chmod 90 -,
    fchmod 91 52, chown 92 -, fchown 93 55, lchown 94 -, utime 132 -,
    mknod 133 -, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7,
    removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16,
    utimes 235 -, mq_open 240 180, mkdirat 258 34, mknodat 259 33,
    fchownat 260 54, futimesat 261 -, unlinkat 263 35, renameat 264 38,
    linkat 265 37, symlinkat 266 36, fchmodat 268 53, utimensat 280 88,
    fallocate 285 47, open_by_handle_at 304 265, renameat2 316 276,
    memfd_create 319 279, memfd_secret 447 447, fchmodat2 452 452,
    setxattrat 463 463, removexattrat 466 466, file_setattr 469 469,
    mq_unlink 241 181
  """,
  'processes': """
    fork 57 -, vfork 58 -, execve 59 221, kill 62 129, ptrace 101 117,
    rt_sigqueueinfo 129 138, tkill 200 130, tgkill 234 131,
    rt_tgsigqueueinfo 297 240, process_vm_readv 310 270,
    process_vm_writev 311 271, execveat 322 281, pidfd_send_signal 424 424,
    pidfd_open 434 434, pidfd_getfd 438 438, kcmp 312 272,
    process_madvise 440 440, process_mrelease 448 448,
    setpriority 141 140, ioprio_set 251 30, sched_setparam 142 118,
    sched_setscheduler 144 119, sched_setaffinity 203 122,
    sched_setattr 314 274, move_pages 279 239, migrate_pages 256 238,
    setpgid 109 154, setsid 112 157
  """,
  # What a root process could do to the machine; other routes to the above.
  'system': """
    shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190,
    semop 65 193, semctl 66 191, msgget 68 186, msgsnd 69 189,
    msgctl 71 187, semtimedop 220 192, pivot_root 155 41,
    syslog 103 116, personality 135 92, vhangup 153 58,
    modify_ldt 154 -, adjtimex 159 171, iopl 172 -, ioperm 173 -,
    quotactl 179 60, fanotify_init 300 262, clock_adjtime 305 266,
    setrlimit 160 164, chroot 161 51, acct 163 89, settimeofday 164 170,
    mount 165 40, umount2 166 39, swapon 167 224, swapoff 168 225,
    reboot 169 142, sethostname 170 161, setdomainname 171 162,
    init_module 175 105, delete_module 176 106, clock_settime 227 112,
    kexec_load 246 104, add_key 248 217, request_key 249 218,
    keyctl 250 219, unshare 272 97, perf_event_open 298 241, setns 308 268,
    finit_module 313 273, bpf 321 280, userfaultfd 323 282,
    io_uring_setup 425 425, io_uring_enter 426 426,
    io_uring_register 427 427, open_tree 428 428, move_mount 429 429,
    fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433,
    mount_setattr 442 442, quotactl_fd 443 443, open_tree_attr 467 467
  """,
}
_ARCHES = {  # column above, audit number
  'x86_64': (1, 0xC000003E),
  'aarch64': (2, 0xC00000B7),
  'arm64': (2, 0xC00000B7),
}
_CLONE3, _OPENAT2 = 435, 437  # flags are in memory, unseen by a filter: ENOSYS
_SECCOMP = {1: 317, 2: 277}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
# F_SETOWN, F_SETSIG, F_SETOWN_EX: the kernel would send any process a signal.
_OWNS = (8, 10, 15)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX; others can type into
# the terminal (TIOCSTI), or freeze or change files that are open for reading.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)

_LOAD, _EQUAL, _AT_LEAST, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# Calls decided by their arguments: the numbers as above; which 32-bit words of
# the arguments to test; the test and its values; whether a call that passes the
# test is allowed (and others denied) or the reverse.
_DECIDED = (
  ('open 2 -', (2,), _BITS, (_WRITES,), False),
  ('openat 257 56', (4,), _BITS, (_WRITES,), False),
  ('clone 56 220', (0,), _BITS, (_CLONE_THREAD,), True),
  # A new limit for this process or another; a CPU limit would end it.
  ('prlimit64 302 261', (4, 5), _BITS, (0xFFFFFFFF,), False),
  ('prctl 157 167', (0,), _EQUAL, (_DEATH_SIGNAL,), False),
  ('fcntl 72 25', (2,), _EQUAL, _OWNS, False),
  ('ioctl 16 29', (2,), _EQUAL, _IOCTLS, True),
)


def confine() -> list[str]:
  """Gives up network, writing and new processes for the life of this process.

  Open files stay open; threads can still be started if seccomp is in force.

  Returns:
    The `WALLS` that hold, each tested. [] if the system lacks seccomp or does
    not allow it; then only the resource limits hold (no file can grow, 64 open
    files; no new process unless the user is root).
  """
  _limit('RLIMIT_FSIZE', 0)
  _limit('RLIMIT_NOFILE', 64)
  _limit('RLIMIT_CORE', 0)
  filtered = False
  with contextlib.suppress(OSError, AttributeError, ValueError):
    filtered = _filter()
  if not filtered:  # counts threads too
    _limit('RLIMIT_NPROC', 0)
  return [name for name in WALLS if filtered and _stands(name)]


def _limit(name: str, limit: int) -> None:
  try:
    import resource
  except ImportError:  # Windows
    return
  with contextlib.suppress(AttributeError, OSError, ValueError):
    resource.setrlimit(getattr(resource, name), (limit, limit))


def _stands(name: str) -> bool:
  try:
    if name == 'network':
      socket.socket().close()
    elif name == 'writing':
      os.close(os.open(os.devnull, os.O_WRONLY))
    else:
      os.execv('/', ['/'])  # EACCES where it is allowed
  except OSError as e:
    return e.errno == errno.EPERM
  return False


def _filter() -> bool:
  arch = _ARCHES.get(platform.machine())
  if sys.platform != 'linux':
    return False
  libc = ctypes.CDLL(None, use_errno=True)
  zero = ctypes.c_ulong(0)
  # A check that hangs must not outlive a worker that is killed.
  kill = ctypes.c_ulong(signal.SIGKILL)
  libc.prctl(_DEATH_SIGNAL, kill, zero, zero, zero)
  if arch is None or sys.maxsize < 2**32:
    return False
  program = b''.join(struct.pack('=HBBI', *x) for x in _program(*arch))
  buffer = ctypes.create_string_buffer(program, len(program))

  class Filter(ctypes.Structure):
    _fields_ = [('size', ctypes.c_ushort), ('program', ctypes.c_void_p)]

  code = Filter(len(program) // 8, ctypes.addressof(buffer))
  no_new_privs, set_filter, all_threads = 38, 1, 1
  if libc.prctl(no_new_privs, ctypes.c_ulong(1), zero, zero, zero):
    return False
  number = ctypes.c_long(_SECCOMP[arch[0]])
  done = libc.syscall(
    number,
    ctypes.c_ulong(set_filter),
    ctypes.c_ulong(all_threads),
    ctypes.byref(code),
  )
  return done == 0


def _program(column: int, audit: int) -> list[tuple]:
  """Returns classic BPF instructions: (code, jump if true, if false, value)."""
  number, arch, args = 0, 4, 16  # offsets in struct seccomp_data
  deny = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
  absent = (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
  allow = (_RETURN, 0, 0, _ALLOW)
  out = [
    (_LOAD, 0, 0, arch),
    (_EQUAL, 1, 0, audit),
    deny,
    (_LOAD, 0, 0, number),
  ]
  if column == 1:  # the x32 calls have numbers of their own
    out += [(_AT_LEAST, 0, 1, 0x40000000), deny]
  for group in _DENIED.values():
    for row in group.split(','):
      nr = row.split()[column]
      if nr != '-':
        out += [(_EQUAL, 0, 1, int(nr)), deny]
  for nr in (_CLONE3, _OPENAT2):
    out += [(_EQUAL, 0, 1, nr), absent]
  for row, words, test, values, allowed in _DECIDED:
    nr = row.split()[column]
    if nr == '-':
      continue
    met, other = (allow, deny) if allowed else (deny, allow)
    body = []
    for word in words:
      body.append((_LOAD, 0, 0, args + 4 * word))
      for value in values:
        body += [(test, 0, 1, value), met]
    body.append(other)
    out += [(_EQUAL, 0, len(body), int(nr)), *body]
  return [*out, allow]
