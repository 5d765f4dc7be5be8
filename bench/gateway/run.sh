#!/bin/sh
# CPU per request and per streamed event of the gateway against nginx as a plain proxy, in one interleaved run. Needs nginx (Debian: nginx-light) and bin/maas.
#   bench/gateway/run.sh [rounds]
set -eu
cd "$(dirname "$0")/../.."
rounds=${1:-3}
dir=$(mktemp -d /tmp/maas-bench.XXXXXX)
trap 'kill $(cat "$dir"/*.pid 2>/dev/null) 2>/dev/null; sleep 0.3; rm -rf "$dir"' EXIT
command -v nginx >/dev/null || { echo "nginx is missing: apt-get install -y --no-install-recommends nginx-light"; exit 1; }
[ -x bin/maas ] || { echo "bin/maas is missing: make build"; exit 1; }
(cd bench/gateway && go build -o "$dir/" ./loadgen ./mockupstream)

"$dir/mockupstream" -addr 127.0.0.1:19100 -key up-key 2>"$dir/mock.log" & echo $! >"$dir/mock.pid"
cat >"$dir/nginx.conf" <<CONF
worker_processes 1; pid $dir/nginx-own.pid; error_log $dir/nginx.log; daemon off; master_process off;
events { worker_connections 8192; }
http {
  access_log off; client_max_body_size 32m; client_body_buffer_size 1m; client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
  keepalive_requests 1000000;
  upstream up { server 127.0.0.1:19100; keepalive 256; keepalive_requests 1000000; }
  server { listen 127.0.0.1:19201; location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "Bearer up-key"; proxy_buffering off; } }
}
CONF
nginx -c "$dir/nginx.conf" 2>>"$dir/nginx.log" & echo $! >"$dir/nginx.pid"

MAAS_ADMIN_EMAIL=bench@example.com MAAS_ADMIN_PASSWORD=bench-password-1 ./bin/maas serve ${PROFILE:+--cpuprofile "$PROFILE"} --data "$dir/data" --listen 127.0.0.1:19300 --set inference.upstream.allow_loopback=true 2>"$dir/maas.log" & echo $! >"$dir/maas.pid"
i=0
until curl -sf http://127.0.0.1:19300/readyz >/dev/null; do i=$((i + 1)); [ $i -lt 100 ] || { cat "$dir/maas.log"; exit 1; }; sleep 0.1; done
export XDG_CONFIG_HOME="$dir"
echo bench-password-1 | ./bin/maas login --url http://127.0.0.1:19300 --email bench@example.com --password-stdin >/dev/null
echo up-key | ./bin/maas provider add --name mock --base-url http://127.0.0.1:19100/v1 --key-stdin >/dev/null
./bin/maas deploy create --provider mock --upstream mock --name mock --wait >/dev/null
key=$(./bin/maas key create --name bench --quiet)

targets="-t name=direct,url=http://127.0.0.1:19100,key=up-key,model=mock -t name=nginx,url=http://127.0.0.1:19201,key=x,model=mock,pid=$(cat "$dir/nginx.pid") -t name=maas,url=http://127.0.0.1:19300,key=$key,model=mock,pid=$(cat "$dir/maas.pid")"
up=$(cat "$dir/mock.pid")
echo "whole answers, 64 connections, 1 KB"
"$dir/loadgen" compare $targets -c 64 -d 2s -warmup 500ms -rounds "$rounds" -base nginx -upstream-pid "$up" >"$dir/requests.json"
echo "streams, 64 connections, 40 events of 5 ms"
curl -sf "http://127.0.0.1:19100/_mock/set?gap=5ms&ttft=5ms&chunks=40" >/dev/null
"$dir/loadgen" compare $targets -stream -include-usage -c 64 -d 3s -warmup 500ms -rounds "$rounds" -base nginx -upstream-pid "$up" >"$dir/streams.json"
echo "memory of idle streams"
curl -sf "http://127.0.0.1:19100/_mock/set?gap=8s&ttft=10ms&chunks=4" >/dev/null
for t in $(echo "$targets" | tr ' ' '\n' | grep -v '^-t$' | grep -v name=direct); do "$dir/loadgen" hold -t "$t" -streams 1000 -settle 2s; done
