#!/usr/bin/python3
"""
objectstore.py FOLDER [PORT]

A real object store that speaks S3, for tests: OpenStack Swift with its s3api, of Debian's packages swift-proxy,
swift-account, swift-container, swift-object and memcached. It has one bucket, pictures. Everything it has is in FOLDER, and all of it ends with
who started it. FOLDER/port has the port when it answers. Keys: test:tester / testing, and test:other / other.
Exits with 77 where the packages are not installed.
"""
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

try:
    import swift.common.middleware.s3api  # noqa: F401
    import swift.account.server  # noqa: F401
    import swift.container.server  # noqa: F401
    import swift.obj.server
    import swift.proxy.server  # noqa: F401
    from swift.common import utils, wsgi
    from swift.common.ring import RingBuilder
except ImportError as missing:
    print('skipped:', missing)
    sys.exit(77)
MEMCACHED = '/usr/bin/memcached'
if not os.path.exists(MEMCACHED):
    print('skipped: there is no memcached')
    sys.exit(77)

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(n):
    """Not of those that the system hands out: another program would have one before it is used here."""
    sockets = []
    while len(sockets) < n:
        one = socket.socket()
        try:
            one.bind(('127.0.0.1', random.randrange(20000, 32000)))
            sockets.append(one)
        except OSError:
            one.close()
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def write(name, text):
    path = os.path.join(folder, name)
    with open(path, 'w') as file:
        file.write(text)
    return path


def make_rings(ports):
    for name in ('account', 'container', 'object'):
        builder = RingBuilder(4, 1, 0)
        builder.add_dev({'id': 0, 'region': 1, 'zone': 1, 'weight': 1.0, 'ip': '127.0.0.1', 'port': ports[name],
                         'device': 'd1', 'meta': ''})
        builder.rebalance()
        builder.get_ring().save(os.path.join(folder, name + '.ring.gz'))


def backend_conf(name, port):
    return write(name + '-server.conf', f'''
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
log_name = {name}
log_address = {folder}/no-syslog
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
''')


def proxy_conf(port, cache_port):
    return write('proxy-server.conf', f'''
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_name = proxy
log_address = {folder}/no-syslog
[pipeline:main]
pipeline = catch_errors gatekeeper cache s3api tempauth bulk slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
node_timeout = 60
recoverable_node_timeout = 60
conn_timeout = 10
error_suppression_limit = 1000000
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{cache_port}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
min_segment_size = 1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin .reseller_admin
user_test_other = other
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
''')


def skew_clock():
    """This process's clock is ahead by what FOLDER/skew says, in seconds."""
    real = time.time
    path = os.path.join(folder, 'skew')

    def skewed():
        try:
            with open(path) as file:
                return real() + int(file.read() or 0)
        except OSError:
            return real()
    time.time = skewed


def start(conf, name):
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        if name == 'proxy-server':
            skew_clock()
        extra = {}
        if name == 'object-server':
            extra['global_conf_callback'] = swift.obj.server.global_conf_callback
        sys.exit(wsgi.run_wsgi(conf, name, **extra))


def await_answer(port):
    for _ in range(300):
        try:
            urllib.request.urlopen('http://127.0.0.1:%d/info' % port, timeout=5).read()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    sys.exit('Swift does not answer')


def make_bucket(port, name):
    address = 'http://127.0.0.1:%d' % port
    request = urllib.request.Request(address + '/auth/v1.0', headers={'X-Auth-User': 'test:tester', 'X-Auth-Key': 'testing'})
    reply = urllib.request.urlopen(request, timeout=30)
    request = urllib.request.Request(reply.headers['X-Storage-Url'] + '/' + name, method='PUT',
                                     headers={'X-Auth-Token': reply.headers['X-Auth-Token']})
    urllib.request.urlopen(request, timeout=30).read()


die_with_parent()
folder = os.path.abspath(sys.argv[1])
os.makedirs(os.path.join(folder, 'devices', 'd1'), exist_ok=True)
user = subprocess.run(['id', '-un'], stdout=subprocess.PIPE, text=True).stdout.strip() or str(os.getuid())
names = ('account', 'container', 'object', 'proxy', 'cache')
port_of = dict(zip(names, free_ports(len(names))))
if len(sys.argv) > 2:
    port_of['proxy'] = int(sys.argv[2])
utils.SWIFT_CONF_FILE = write('swift.conf', '''
[swift-hash]
swift_hash_path_suffix = genjob
swift_hash_path_prefix = genjob
[storage-policy:0]
name = policy
default = yes
''')
make_rings(port_of)
subprocess.Popen([MEMCACHED, '-l', '127.0.0.1', '-p', str(port_of['cache']), '-U', '0', '-u', user],
                 preexec_fn=die_with_parent)
for name in ('account', 'container', 'object'):
    start(backend_conf(name, port_of[name]), name + '-server')
for name in ('account', 'container', 'object'):
    await_answer(port_of[name])
start(proxy_conf(port_of['proxy'], port_of['cache']), 'proxy-server')
await_answer(port_of['proxy'])
make_bucket(port_of['proxy'], 'pictures')
with open(os.path.join(folder, 'port.new'), 'w') as ready:
    ready.write(str(port_of['proxy']))
os.rename(os.path.join(folder, 'port.new'), os.path.join(folder, 'port'))
while True:
    os.wait()
