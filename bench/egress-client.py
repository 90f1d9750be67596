# A client that keeps its connection: prints one number. Arguments: url, then "latency ROUNDS" or "rate BYTES", then
# a proxy as host:port or nothing. It reads as fast as it can and trusts whatever it is shown.
import http.client, ssl, sys, time, urllib.parse

url, what, count = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3])
proxy = sys.argv[4].split(':') if len(sys.argv) > 4 else None
context = ssl._create_unverified_context()
host, port = (proxy[0], int(proxy[1])) if proxy else (url.hostname, url.port)
if url.scheme == 'https':
    connection = http.client.HTTPSConnection(host, port, context=context)
    if proxy:
        connection.set_tunnel(url.hostname, url.port)
else:
    connection = http.client.HTTPConnection(host, port)
target = sys.argv[1] if proxy and url.scheme == 'http' else url.path
header = {'Host': '%s:%d' % (url.hostname, url.port)}


def latency(rounds):
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        connection.request('GET', target, headers=header)
        connection.getresponse().read()
        times.append(time.perf_counter() - started)
    times.sort()
    return times[len(times) // 2] * 1000


def rate(size):
    buffer = bytearray(1 << 18)
    started = time.perf_counter()
    connection.request('GET', '%s/%d' % (target, size), headers=header)
    answer = connection.getresponse()
    got = 0
    while got < size:
        n = answer.readinto(buffer)
        if n == 0:
            raise SystemExit('cut off after %d bytes' % got)
        got += n
    return size / (time.perf_counter() - started) / 1e6


latency(20) if what == 'latency' else None
print(latency(count) if what == 'latency' else rate(count))
