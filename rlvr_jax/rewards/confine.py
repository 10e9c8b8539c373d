"""A process gives up what a check does not need: the second wall.

Nothing that a model wrote is evaluated (the first wall). Should a checker be
talked into it all the same, it is in a process without network, without
writing, without new processes: on Linux (x86-64, arm64) by a filter of system
calls (seccomp), everywhere by resource limits. What is refused is named, the
rest is allowed, so reading files and importing modules go on as before.

Sources: the kernel's Documentation/userspace-api/seccomp_filter.rst; numbers
of system calls from arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h.
"""

import contextlib
import ctypes
import errno
import os
import platform
import socket
import struct
import sys

WALLS = ('network', 'writing', 'processes')

# Name, number on x86-64, number on arm64; None: it is not there.
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
    memfd_create 319 279, fchmodat2 452 452
  """,
  'processes': """
    fork 57 -, vfork 58 -, execve 59 221, kill 62 129, ptrace 101 117,
    rt_sigqueueinfo 129 138, tkill 200 130, tgkill 234 131,
    rt_tgsigqueueinfo 297 240, process_vm_readv 310 270,
    process_vm_writev 311 271, execveat 322 281, pidfd_send_signal 424 424,
    pidfd_open 434 434, pidfd_getfd 438 438
  """,
  # What a process of root could do to the machine; other ways to the above.
  'system': """
    shmget 29 194, msgget 68 186, semget 64 190, pivot_root 155 41,
    setrlimit 160 164, chroot 161 51, acct 163 89, settimeofday 164 170,
    mount 165 40, umount2 166 39, swapon 167 224, swapoff 168 225,
    reboot 169 142, sethostname 170 161, setdomainname 171 162,
    init_module 175 105, delete_module 176 106, clock_settime 227 112,
    kexec_load 246 104, add_key 248 217, request_key 249 218,
    keyctl 250 219, unshare 272 97, perf_event_open 298 241, setns 308 268,
    finit_module 313 273, bpf 321 280, userfaultfd 323 282,
    io_uring_setup 425 425, io_uring_enter 426 426,
    io_uring_register 427 427, open_tree 428 428, move_mount 429 429,
    fsopen 430 430, fsmount 432 432
  """,
}
_ARCHES = {  # column above, audit number; open, openat, clone
  'x86_64': (1, 0xC000003E, (2, 257, 56)),
  'aarch64': (2, 0xC00000B7, (None, 56, 220)),
  'arm64': (2, 0xC00000B7, (None, 56, 220)),
}
_CLONE3, _OPENAT2 = 435, 437  # their flags stand in memory: not there at all
_SECCOMP = {1: 317, 2: 277}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000

_LOAD, _EQUAL, _AT_LEAST, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def confine() -> list[str]:
  """Gives up network, writing and new processes, for good.

  Files that are open stay open; threads can be started where seccomp holds.

  Returns:
    Those of `WALLS` that stand, tried out. [] where the system has none of
    this or does not allow it: the resource limits alone then hold (no file
    can grow, 64 open files; no new process unless the user is root).
  """
  filtered = False
  with contextlib.suppress(OSError, AttributeError, ValueError):
    filtered = _filter()
  _limit(filtered)
  return [name for name in WALLS if filtered and _stands(name)]


def _limit(filtered: bool) -> None:
  try:
    import resource
  except ImportError:  # Windows
    return
  limits = {'RLIMIT_FSIZE': 0, 'RLIMIT_NOFILE': 64, 'RLIMIT_CORE': 0}
  if not filtered:  # counts threads too
    limits['RLIMIT_NPROC'] = 0
  for name, limit in limits.items():
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
  if sys.platform != 'linux' or arch is None or sys.maxsize < 2**32:
    return False
  program = b''.join(struct.pack('=HBBI', *x) for x in _program(*arch))
  libc = ctypes.CDLL(None, use_errno=True)
  buffer = ctypes.create_string_buffer(program, len(program))

  class Filter(ctypes.Structure):
    _fields_ = [('size', ctypes.c_ushort), ('program', ctypes.c_void_p)]

  code = Filter(len(program) // 8, ctypes.addressof(buffer))
  no_new_privs, set_filter, all_threads = 38, 1, 1
  zero = ctypes.c_ulong(0)
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


def _program(column: int, audit: int, special: tuple) -> list[tuple]:
  """Instructions (code, jump if true, if false, value) of classic BPF."""
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
  opens, openat, clone = special
  for nr, arg in ((opens, 1), (openat, 2)):
    if nr is not None:
      out += [
        (_EQUAL, 0, 4, nr),
        (_LOAD, 0, 0, args + 8 * arg),
        (_BITS, 0, 1, _WRITES),
        deny,
        allow,
      ]
  return out + [
    (_EQUAL, 0, 4, clone),
    (_LOAD, 0, 0, args),
    (_BITS, 1, 0, _CLONE_THREAD),
    deny,
    allow,
    allow,
  ]
