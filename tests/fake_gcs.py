"""A small Google Cloud Storage, in a thread: objects, generations, faults.

It behaves as the JSON API does, as far as tensorstore and gcsfs use it. An
object is written whole or not at all, has a new generation each time, and can
be neither appended to nor renamed. Preconditions (ifGenerationMatch, ...) are
kept, listings come in pages, and a share of the requests is answered by 503,
half of these after they took effect, as where an answer is lost on its way.
"""

import base64
import contextlib
import email.parser
import email.policy
import http.server
import json
import random
import re
import threading
import time
import urllib.parse

import google_crc32c

PAGE = 7  # objects of a page, whatever the client asks for

# What the clients need to find it.
ENVIRONMENT = {
  'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
  'GOOGLE_CLOUD_PROJECT': 'test',
  'FSSPEC_GCS_TOKEN': 'anon',  # else it looks for credentials, for seconds
}


class Object:
  def __init__(self, name, data, generation):
    self.name, self.data, self.generation = name, data, generation
    crc = google_crc32c.value(data).to_bytes(4, 'big')
    self.crc32c = base64.b64encode(crc).decode()

  def resource(self, bucket):
    return {
      'kind': 'storage#object',
      'id': f'{bucket}/{self.name}/{self.generation}',
      'bucket': bucket,
      'name': self.name,
      'size': str(len(self.data)),
      'crc32c': self.crc32c,
      'generation': str(self.generation),
      'metageneration': '1',
      'contentType': 'application/octet-stream',
      'timeCreated': '2026-01-01T00:00:00.000Z',
      'updated': '2026-01-01T00:00:00.000Z',
    }


class Store:
  """The buckets, what was asked of them, and which faults to inject.

  Attributes:
    objects: {bucket: {name: Object}}.
    fail: share of the requests that are answered by 503.
    refuse: (method, name) -> a status, to answer a request by that.
    seen: (method, name, bytes of the answer or of the upload).
    writes: {(bucket, name): times of its writes}.
  """

  def __init__(self, fail=0.0):
    self.lock = threading.Lock()
    self.objects = {}
    self.generation = 1_700_000_000_000_000
    self.fail, self.random = fail, random.Random(1)
    self.refuse = lambda method, name: None
    self.seen, self.writes, self.uploads = [], {}, {}
    self.failed = 0

  def names(self, bucket='bkt'):
    with self.lock:
      return sorted(self.objects.get(bucket, {}))

  def data(self, name, bucket='bkt'):
    with self.lock:
      return self.objects[bucket][name].data

  def put(self, name, data, bucket='bkt'):
    """As by somebody else: without a precondition."""
    with self.lock:
      return self._put(bucket, name, data)

  def _put(self, bucket, name, data):
    self.generation += 1
    made = Object(name, bytes(data), self.generation)
    self.objects.setdefault(bucket, {})[name] = made
    self.writes.setdefault((bucket, name), []).append(time.monotonic())
    return made


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  disable_nagle_algorithm = True  # else answers wait for 40 ms
  store: Store

  def log_message(self, *_):
    pass

  def do_GET(self):
    self._serve()

  do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

  def _serve(self):
    length = int(self.headers.get('Content-Length') or 0)
    if self.headers.get('Transfer-Encoding') == 'chunked':
      body = b''
      while size := int(self.rfile.readline(), 16):
        body += self.rfile.read(size)
        self.rfile.readline()
      self.rfile.readline()
    else:
      body = self.rfile.read(length)
    url = urllib.parse.urlsplit(self.path)
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    store = self.store
    with store.lock:
      fails = store.random.random() < store.fail
      late = fails and store.random.random() < 0.5
      store.failed += fails
      if fails and not late:
        answer = (503, {}, b'{"error": {"code": 503, "message": "later"}}')
      else:
        answer = self._answer(self.command, url.path, query, body)
      if late:
        answer = (503, {}, b'{"error": {"code": 503, "message": "lost"}}')
    status, headers, data = answer
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    self.send_header('Content-Length', str(len(data)))
    self.end_headers()
    with contextlib.suppress(ConnectionError):
      self.wfile.write(data)

  def _answer(self, method, path, query, body):
    """(status, headers, body) of a request; the store is locked."""
    if path.startswith('/batch'):
      return self._batch(body)
    found = re.fullmatch(
      r'(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.*))?)?', path
    )
    if not found:
      return _error(404, f'no such address: {path}')
    kind, bucket, name = found.groups()
    name = urllib.parse.unquote(name) if name else query.get('name', '')
    if kind == '/upload':
      return self._upload(bucket, query, body)
    if status := self.store.refuse(method, name):
      return _error(status, 'refused')
    objects = self.store.objects.setdefault(bucket, {})
    if '/o' not in path.partition('/b/')[2]:
      return _json({'kind': 'storage#bucket', 'name': bucket, 'id': bucket})
    if not name:
      return self._list(bucket, objects, query)
    if any(w in name for w in ('/rewriteTo/', '/copyTo/', '/moveTo/')):
      return _error(501, 'there is no rename here')
    held = objects.get(name)
    if (status := _unmet(held, query)) is not None:
      return _error(status, 'precondition')
    if held is None:
      return _error(404, f'no such object: {bucket}/{name}')
    if method == 'DELETE':
      self.store.seen.append((method, name, 0))
      del objects[name]
      return 204, {}, b''
    if query.get('alt') == 'media' or kind == '/download':
      return self._download(held)
    self.store.seen.append(('HEAD', name, 0))
    return _json(held.resource(bucket))

  def _download(self, held):
    data, status, extra = held.data, 200, {}
    asked = re.fullmatch(r'bytes=(\d*)-(\d*)', self.headers.get('Range') or '')
    if asked and any(asked.groups()):
      first, last = asked.groups()
      size = len(data)
      start = int(first) if first else max(size - int(last), 0)
      end = min(int(last), size - 1) if first and last else size - 1
      if start >= size:
        return _error(416, 'range')
      extra = {'Content-Range': f'bytes {start}-{end}/{size}'}
      status, data = 206, data[start : end + 1]
    self.store.seen.append(('GET', held.name, len(data)))
    return (
      status,
      extra
      | {
        'x-goog-generation': str(held.generation),
        'x-goog-hash': f'crc32c={held.crc32c}',
        'Content-Type': 'application/octet-stream',
      },
      data,
    )

  def _list(self, bucket, objects, query):
    prefix, delimiter = query.get('prefix', ''), query.get('delimiter', '')
    low, high = query.get('startOffset', ''), query.get('endOffset', '')
    entries = {}
    for name in sorted(objects):
      if not name.startswith(prefix) or name < low or (high and name >= high):
        continue
      rest = name[len(prefix) :]
      if delimiter and delimiter in rest:
        folder = prefix + rest.partition(delimiter)[0] + delimiter
        entries[folder] = None
      else:
        entries[name] = objects[name]
    after = base64.b64decode(query.get('pageToken', '')).decode()
    names = [n for n in sorted(entries) if n > after]
    size = min(PAGE, int(query.get('maxResults') or PAGE))
    page, more = names[:size], names[size:]
    self.store.seen.append(('LIST', prefix, 0))
    made = {'kind': 'storage#objects'}
    if items := [entries[n].resource(bucket) for n in page if entries[n]]:
      made['items'] = items
    if folders := [n for n in page if entries[n] is None]:
      made['prefixes'] = folders
    if more:
      made['nextPageToken'] = base64.b64encode(page[-1].encode()).decode()
    return _json(made)

  def _upload(self, bucket, query, body):
    uploads, name = self.store.uploads, query.get('name', '')
    kind, key = query.get('uploadType'), None
    if kind == 'resumable' and 'upload_id' not in query:
      name = name or json.loads(body)['name']
      key = f'u{len(uploads)}'
      uploads[key] = [name, query, b'']
      host = self.headers['Host']
      where = (
        f'http://{host}/upload/storage/v1/b/{bucket}/o'
        f'?uploadType=resumable&upload_id={key}'
      )
      return 200, {'Location': where}, b''
    if kind == 'resumable':
      upload = uploads[query['upload_id']]
      if isinstance(upload, Object):  # whose answer was lost
        return _json(upload.resource(bucket))
      asked = re.fullmatch(
        r'bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)',
        self.headers.get('Content-Range') or 'bytes */*',
      )
      if asked.group(1) is not None:
        upload[2] = upload[2][: int(asked.group(1))] + body
      if asked.group(3) == '*' or len(upload[2]) < int(asked.group(3)):
        done = len(upload[2])
        return 308, {'Range': f'bytes=0-{done - 1}'} if done else {}, b''
      key, (name, query, body) = query['upload_id'], upload
    elif kind == 'multipart':
      head = f'Content-Type: {self.headers["Content-Type"]}\r\n\r\n'
      parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        head.encode() + body
      )
      meta, _ = parts.iter_parts()
      name = json.loads(meta.get_payload(decode=True))['name']
      body = _second_part(self.headers['Content-Type'], body)
    if status := self.store.refuse('PUT', name):
      return _error(status, 'refused')
    held = self.store.objects.setdefault(bucket, {}).get(name)
    if (status := _unmet(held, query)) is not None:
      return _error(status, 'precondition')
    made = self.store._put(bucket, name, body)
    self.store.seen.append(('PUT', name, len(body)))
    if key is not None:
      uploads[key] = made
    return _json(made.resource(bucket))

  def _batch(self, body):
    """Deletes many: parts with a request each, answered by parts."""
    head = f'Content-Type: {self.headers["Content-Type"]}\r\n\r\n'
    parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
      head.encode() + body
    )
    answers = []
    for part in parts.iter_parts():
      line = part.get_payload(decode=True).decode().lstrip().splitlines()[0]
      method, target, *_ = line.split()
      path, _, query = target.partition('?')
      status, _, _ = self._answer(
        method, path, dict(urllib.parse.parse_qsl(query)), b''
      )
      number = (part['Content-ID'] or '').strip('<>')
      answers.append(
        '--batch_x\r\nContent-Type: application/http\r\n'
        f'Content-ID: <response-{number}>\r\n\r\n'
        f'HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n\r\n'
      )
    text = ''.join(answers) + '--batch_x--\r\n'
    kind = {'Content-Type': 'multipart/mixed; boundary=batch_x'}
    return 200, kind, text.encode()


def _second_part(content_type, body):
  """The bytes of the second part, which the email module would change."""
  boundary = re.search(r'boundary="?([^";]+)', content_type).group(1).encode()
  part = body.split(b'--' + boundary)[2]
  data = re.split(rb'\r?\n\r?\n', part, maxsplit=1)[1]
  return data.removesuffix(b'\n').removesuffix(b'\r')


def _unmet(held, query):
  """Status of a precondition that is not met: 412, or 304 of a read."""
  now = held.generation if held else 0
  match, other = (
    query.get(k) for k in ('ifGenerationMatch', 'ifGenerationNotMatch')
  )
  if match is not None and int(match) != now:
    return 412
  if other is not None and int(other) == now:
    return 304
  return None


def _json(value):
  kind = {'Content-Type': 'application/json; charset=UTF-8'}
  return 200, kind, json.dumps(value).encode()


def _error(status, message):
  _, kind, text = _json({'error': {'code': status, 'message': message}})
  return status, kind, b'' if status in (204, 304) else text


@contextlib.contextmanager
def serve(fail=0.0):
  """(store, environment variables of its clients) while it runs."""
  store = Store(fail)
  handler = type('_Handler', (Handler,), {'store': store})
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  server.daemon_threads = True
  server.handle_error = lambda *_: None  # a client that went away
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  address = f'http://127.0.0.1:{server.server_port}'
  where = {
    'STORAGE_EMULATOR_HOST': address,
    'TENSORSTORE_GCS_HTTP_URL': address,
  }
  try:
    yield store, ENVIRONMENT | where
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
